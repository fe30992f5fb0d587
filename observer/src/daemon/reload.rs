//! SIGHUP: what of a new config can be gone by at once, and what cannot.

use tokio::sync::oneshot;

use super::{front::Front, pooling, selection, watching::Order};
use crate::{
    config::{self, Applies, Change, Config, Fleet, Sinks},
    sinks::journal::Life,
};

impl Front {
    /// Reads the config again and goes by it as far as that can be done. A faulty one changes
    /// nothing.
    pub(super) async fn reload(&mut self) {
        let new = match Config::load(&self.path) {
            Ok(new) => new,
            Err(error) => {
                log::error!("the config stays as it was: {error}");
                self.tell(Life::ReloadRefused, format!("the config stays as it was: {error}"));
                return;
            }
        };
        // The fleet first: it is the part that can still be refused, and then all is refused.
        let fleet = match self.reload_fleet(&new).await {
            Ok(done) => done,
            Err(error) => {
                log::error!("the fleet and the config stay as they were: {error}");
                let text = format!("the fleet and the config stay as they were: {error}");
                self.tell(Life::ReloadRefused, text);
                return;
            }
        };
        let changes = config::changes(&self.config, &new);
        let is_now = |change: &&Change| change.applies == Applies::Now;
        let (now, later): (Vec<_>, Vec<_>) = changes.iter().partition(is_now);
        if (&new.budgets, &new.rules) != (&self.config.budgets, &self.config.rules) {
            self.order(Order::Tuning(Box::new(new.budgets.clone()), new.rules.clone()));
        }
        if new.thresholds != self.config.thresholds {
            self.order(Order::Thresholds(new.thresholds.clone()));
        }
        if new.watch != self.config.watch {
            self.order(Order::Watch(selection::named(&new.watch)));
        }
        if new.sinks.update_interval != self.config.sinks.update_interval {
            let interval = new.sinks.update_interval;
            let sinks = Sinks { update_interval: interval, ..self.config.sinks.clone() };
            self.order(Order::Sinks(sinks));
        }
        if let (Some(pooling), Some(pool)) = (&self.pooling, &new.pool)
            && let Err(error) = pooling.pool.set_limits(pool.limits.clone())
        {
            log::error!("the pool keeps its limits: {error}");
        }
        for change in &later {
            log::warn!("{change}: `systemctl restart sockwarden`");
        }
        let text = format!(
            "the config was read again: {} settings apply, {} wait for a restart{fleet}",
            now.len(),
            later.len()
        );
        for change in now.into_iter().chain(later) {
            self.tell(Life::Reloaded, change.to_string());
        }
        self.tell(Life::Reloaded, text);
        self.take(new);
    }

    /// Goes by what a reload can change; the rest stays to be told again next time.
    fn take(&mut self, new: Config) {
        let Config { watch, budgets, thresholds, rules, pool, fleet, sinks, .. } = new;
        let known = &mut self.config.watch;
        extend(&mut known.comm, watch.comm);
        extend(&mut known.unit, watch.unit);
        extend(&mut known.cgroup, watch.cgroup);
        extend(&mut known.port, watch.port);
        self.config.budgets = budgets;
        self.config.thresholds = thresholds;
        self.config.rules = rules;
        if let (Some(known), Some(pool)) = (&mut self.config.pool, pool) {
            (known.limits, known.profile) = (pool.limits, pool.profile);
        }
        self.config.fleet = Fleet { store: self.config.fleet.store.clone(), ..fleet };
        self.config.sinks.update_interval = sinks.update_interval;
    }

    /// What it came to, for the log; empty without a pool.
    async fn reload_fleet(&self, new: &Config) -> Result<String, String> {
        let Some(pooling) = &self.pooling else { return Ok(String::new()) };
        let (reply, answer) = oneshot::channel();
        let order = pooling::Order::Reload(Box::new(new.fleet.clone()), reply);
        let ended = || "the pool has ended".to_owned();
        pooling.orders.send(order).map_err(|_| ended())?;
        let done = answer.await.map_err(|_| ended())?.map_err(|error| error.to_string())?;
        Ok(format!(
            "; fleet: {} added, {} removed, {} replaced, {} kept",
            done.added, done.removed, done.replaced, done.kept
        ))
    }
}

/// What was watched stays watched until a restart.
fn extend<T: PartialEq>(known: &mut Vec<T>, new: Vec<T>) {
    for item in new {
        if !known.contains(&item) {
            known.push(item);
        }
    }
}

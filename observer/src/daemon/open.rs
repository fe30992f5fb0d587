//! What the daemon opens while it may, and how it gives the right away.

use std::path::Path;

use bytes::Bytes;

use super::{DaemonError, selection};
use crate::{
    api::{self, Listeners},
    clock::{self, WallClock},
    config::Config,
    correlate,
    life::{
        instance::Instance,
        notify::Notifier,
        privileges::{self, Remaining, User},
    },
    observer::{Observer, Options},
    probe,
    stacks::Wanted,
};

/// Everything that is open when the privileges are gone.
pub(super) struct Opened {
    pub(super) config: Config,
    pub(super) instance: Instance,
    pub(super) observer: Observer,
    pub(super) listeners: Listeners,
    pub(super) notifier: Notifier,
    /// Of the pool, for devices without their own.
    pub(super) password: Option<Bytes>,
    pub(super) remaining: Remaining,
}

impl Opened {
    /// Opens all of it by the config at `path`, in the order in which a mistake costs least, and
    /// drops the privileges.
    pub(super) fn open(path: &Path) -> Result<Self, DaemonError> {
        let config = Config::load(path)?;
        // Before the first secret is in memory.
        privileges::forbid_core_dumps()?;
        let is_root = rustix::process::geteuid().is_root();
        let user = is_root.then(|| User::find(&config.privileges.user)).transpose()?;
        let instance = Instance::claim(&config.privileges.runtime_directory)?;
        if let Some(user) = &user {
            instance.hand_over(user).map_err(DaemonError::system(
                "giving the runtime directory to the daemon's user",
            ))?;
        }
        let notifier = Notifier::from_environment()?;
        let credentials = config.pool.as_ref().and_then(|pool| pool.credentials.as_ref());
        let password = credentials.map(Config::password).transpose()?.flatten();
        let (observer, degraded) = Observer::start(options(&config))?;
        if let Some(reason) = degraded {
            log::warn!(
                "only layer A is observed: descriptors are known after the next snapshot and not \
                 at once, because {reason}"
            );
        }
        let listeners = Listeners {
            tcp: config.api.listen.map(api::bind_tcp).transpose()?,
            unix: api::bind_unix(
                &config.api.socket,
                config.api.group.as_deref(),
                user.as_ref().map(|user| user.uid),
            )?,
        };
        let remaining = privileges::drop_to(&config.privileges.user)?;
        Ok(Self { config, instance, observer, listeners, notifier, password, remaining })
    }
}

fn options(config: &Config) -> Options {
    let watch = &config.watch;
    let wall = WallClock::read();
    Options {
        selection: selection::of(watch),
        ports: Vec::new(),
        probe: probe::Options {
            layers: watch.layers,
            watch_all: false,
            // A reload may name ports.
            watch_ports: true,
            quiet: false,
            ring_bytes: watch.ring_bytes,
            btf: None,
            stacks: false,
        },
        core: correlate::Config {
            budgets: config.budgets.clone(),
            rules: config.rules.iter().cloned().map(|rule| rule.timed(wall)).collect(),
            thresholds: config.thresholds.clone(),
            socket_capacity: watch.max_sockets as usize,
            snapshot_interval: watch.snapshot_interval,
            boot_offset: clock::boot_offset(),
            ..correlate::Config::default()
        },
        stacks: if watch.stacks { Wanted::Always } else { Wanted::OnDemand },
    }
}

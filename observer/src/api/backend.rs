//! What the API asks, and the streams that it passes on.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::broadcast;

use super::{Counters, Health, Roster};
use crate::{
    config,
    desk::{Desk, Gone},
};

/// Makes the text of `/metrics`.
pub type MetricsText = Arc<dyn Fn() -> BoxFuture<'static, Result<String, Gone>> + Send + Sync>;

/// The handles of everything that the API shows or changes; clone it freely.
#[derive(Clone)]
pub struct Backend {
    /// The observer.
    pub desk: Desk,
    /// The pool; `None` where the daemon runs the observer alone.
    pub pool: Option<pool::Pool>,
    /// Who adds and removes devices; `None` where there is no pool.
    pub roster: Option<Arc<dyn Roster>>,
    /// How the daemon is.
    pub health: Health,
    /// What the API itself counts.
    pub counters: Arc<Counters>,
    /// The text of `/metrics`.
    pub metrics: MetricsText,
    /// What devices received. Whoever reads the pool's inbox sends into it; its capacity should be
    /// `limits.stream_buffer`.
    pub messages: broadcast::Sender<Arc<pool::Message>>,
    /// The section `[api]` of the config.
    pub limits: config::Api,
}

impl std::fmt::Debug for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backend").field("limits", &self.limits).finish_non_exhaustive()
    }
}

//! EDGE: changes that were begun are ended, also when the client that asked for one hangs up.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::{sync::oneshot, task::JoinSet};

use crate::desk::Gone;

/// The changes that are under way; clone it freely.
#[derive(Clone, Debug, Default)]
pub(super) struct Jobs(Arc<Mutex<JoinSet<()>>>);

impl Jobs {
    /// Runs `job` to its end and hands back its outcome.
    ///
    /// # Errors
    ///
    /// [`Gone`] when the daemon ended first.
    ///
    /// # Cancel safety
    ///
    /// From its call on, dropping it takes nothing back: only nobody hears of the outcome.
    pub(super) fn run<T: Send + 'static>(
        &self,
        job: impl Future<Output = T> + Send + 'static,
    ) -> impl Future<Output = Result<T, Gone>> {
        let (done, outcome) = oneshot::channel();
        let mut jobs = self.jobs();
        // Those that are over need no room any more.
        while jobs.try_join_next().is_some() {}
        jobs.spawn(async move {
            let _nobody_waits = done.send(job.await);
        });
        async { outcome.await.map_err(|_| Gone) }
    }

    /// Waits until none is under way.
    pub(super) async fn settled(&self) {
        let mut jobs = std::mem::take(&mut *self.jobs());
        while jobs.join_next().await.is_some() {}
    }

    fn jobs(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

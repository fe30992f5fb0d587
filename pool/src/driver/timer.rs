use crate::clock;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;
use tokio::time::{Instant as TokioInstant, Sleep, sleep_until};

/// A timer whose deadline moves often, mostly to a later time: it is set anew only when it fires
/// too early, so that a busy session does not touch the timer wheel for each packet.
#[derive(Default)]
pub(super) struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    /// Ready when `due` is over.
    pub(super) fn poll(&mut self, context: &mut Context<'_>, due: Option<Instant>) -> Poll<()> {
        let Some(due) = due else {
            self.sleep = None;
            return Poll::Pending;
        };
        let deadline = TokioInstant::from_std(due);
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if deadline < sleep.deadline() {
            sleep.as_mut().reset(deadline);
        }
        loop {
            if sleep.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            if clock::now() >= due {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }
}

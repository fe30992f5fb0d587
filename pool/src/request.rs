//! What the application asks of one device's session, and how it learns what became of it.

use crate::error::{CallerError, Error};
use crate::message::{Publish, Subscription};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::oneshot;

/// One thing to do on a session, in the order in which they were asked for.
#[derive(Debug)]
pub(crate) enum Request {
    Publish(Publish, Ticket),
    Subscribe(Subscription, Ticket),
    Unsubscribe(Arc<str>, Ticket),
}

impl Request {
    /// Says how it ended without having been sent.
    pub(crate) fn settle(self, outcome: Result<(), Error>) {
        match self {
            Self::Publish(_, ticket)
            | Self::Subscribe(_, ticket)
            | Self::Unsubscribe(_, ticket) => {
                ticket.settle(outcome);
            }
        }
    }
}

/// The other end of a [`Delivery`]. Dropping it says that the pool is gone.
#[derive(Debug, Default)]
pub(crate) struct Ticket(Option<oneshot::Sender<Result<(), Error>>>);

impl Ticket {
    /// A ticket and what waits for it.
    pub(crate) fn new() -> (Self, Delivery) {
        let (sender, receiver) = oneshot::channel();
        (Self(Some(sender)), Delivery(receiver))
    }

    /// Says how it ended; nobody may be listening any more.
    pub(crate) fn settle(self, outcome: Result<(), Error>) {
        if let Some(sender) = self.0 {
            let _nobody_listens = sender.send(outcome);
        }
    }
}

/// Ends when the request is done: a publish with QoS 0 when the system took it, with QoS 1 at its
/// PUBACK, with QoS 2 at its PUBCOMP, a subscription at its SUBACK.
///
/// A publish with QoS 1 or 2 and a subscription survive the end of a session: they are sent again
/// on the next one.
///
/// # Cancel safety
///
/// Dropping it takes nothing back: the request stays under way, and only nobody hears of its end.
#[derive(Debug)]
#[must_use = "without awaiting it, nobody learns whether the broker took it"]
pub struct Delivery(oneshot::Receiver<Result<(), Error>>);

impl Future for Delivery {
    type Output = Result<(), Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0)
            .poll(context)
            .map(|outcome| outcome.unwrap_or(Err(Error::Caller(CallerError::Closed))))
    }
}

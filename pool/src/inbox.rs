//! Received messages on their way to the application: one queue, bounded in bytes.

use crate::message::Message;
use crate::policy::Overflow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

/// What one message costs beside its topic and payload, in bytes.
const OVERHEAD: usize = 128;

/// A message, and the part of the bound that it takes up until it is taken.
#[derive(Debug)]
struct Envelope {
    message: Message,
    _space: OwnedSemaphorePermit,
}

/// The end of the drivers.
#[derive(Debug)]
pub(crate) struct Inbox {
    sender: mpsc::UnboundedSender<Envelope>,
    space: Arc<Semaphore>,
    bound: u32,
    overflow: Overflow,
    dropped: AtomicU64,
    /// No more will come.
    closed: watch::Sender<bool>,
    /// The application's end, while it does not have it.
    reader: Mutex<Option<mpsc::UnboundedReceiver<Envelope>>>,
}

/// What came of handing a message over.
#[derive(Debug)]
pub(crate) enum Handed {
    /// The application will find it.
    Queued,
    /// It was dropped by policy, and counted.
    Dropped,
    /// There is no space: wait with [`Inbox::wait`].
    Full(Message),
}

impl Inbox {
    /// `bound` in bytes.
    pub(crate) fn new(bound: usize, overflow: Overflow) -> Self {
        let (sender, reader) = mpsc::unbounded_channel();
        // The policy allows 4 GiB, and a permit counts in u32.
        let bound = u32::try_from(bound).unwrap_or(u32::MAX);
        let space = Arc::new(Semaphore::new(bound as usize));
        let (dropped, reader) = (AtomicU64::new(0), Mutex::new(Some(reader)));
        let closed = watch::Sender::new(false);
        Self { sender, space, bound, overflow, dropped, closed, reader }
    }

    /// Hands a message over if there is space.
    pub(crate) fn hand(&self, message: Message) -> Handed {
        match Arc::clone(&self.space).try_acquire_many_owned(self.cost(&message)) {
            Ok(space) => {
                self.queue(message, space);
                Handed::Queued
            }
            Err(_) if self.overflow == Overflow::Drop => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                Handed::Dropped
            }
            Err(_) => Handed::Full(message),
        }
    }

    /// Hands a message over when there is space.
    ///
    /// # Cancel safety
    ///
    /// The message is lost with the future, and was not acknowledged.
    pub(crate) async fn wait(self: Arc<Self>, message: Message) {
        let space = Arc::clone(&self.space).acquire_many_owned(self.cost(&message)).await;
        self.queue(message, space.expect("invariant: nobody closes the semaphore"));
    }

    /// The application's end; `None` while somebody has it.
    pub(crate) fn take_reader(self: &Arc<Self>) -> Option<Messages> {
        let reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let closed = self.closed.subscribe();
        Some(Messages { reader: Some(reader), closed, inbox: Arc::clone(self) })
    }

    /// No more will come: the reader ends when it has taken what is there.
    pub(crate) fn close(&self) {
        self.closed.send_replace(true);
    }

    /// Messages dropped because the application was too slow.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Bytes that wait for the application.
    pub(crate) fn waiting_bytes(&self) -> usize {
        (self.bound as usize).saturating_sub(self.space.available_permits())
    }

    fn queue(&self, message: Message, space: OwnedSemaphorePermit) {
        let _reader_is_never_dropped = self.sender.send(Envelope { message, _space: space });
    }

    /// One message may be larger than the whole bound; then it waits until all others are taken.
    fn cost(&self, message: &Message) -> u32 {
        let bytes = message.topic.len() + message.payload.len() + OVERHEAD;
        u32::try_from(bytes).unwrap_or(u32::MAX).min(self.bound)
    }
}

/// The received messages of all devices, in the order of their arrival on each session.
///
/// Dropping it gives it back: what waits stays, and the next
/// [`Pool::messages`](crate::Pool::messages) goes on there.
#[derive(Debug)]
pub struct Messages {
    reader: Option<mpsc::UnboundedReceiver<Envelope>>,
    closed: watch::Receiver<bool>,
    inbox: Arc<Inbox>,
}

impl Messages {
    /// The next message; `None` when the pool is shut down and all are taken.
    ///
    /// # Cancel safety
    ///
    /// Safe: a message is either returned or still there.
    pub async fn next(&mut self) -> Option<Message> {
        let reader = self.reader.as_mut().expect("invariant: taken only on drop");
        // The inbox keeps a sender, so the channel's own end never comes.
        let envelope = tokio::select! {
            biased;
            envelope = reader.recv() => envelope,
            _ = self.closed.wait_for(|closed| *closed) => reader.try_recv().ok(),
        };
        envelope.map(|envelope| envelope.message)
    }

    /// The next message if there is one.
    pub fn try_next(&mut self) -> Option<Message> {
        let reader = self.reader.as_mut().expect("invariant: taken only on drop");
        reader.try_recv().ok().map(|envelope| envelope.message)
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        let mut place = self.inbox.reader.lock().unwrap_or_else(PoisonError::into_inner);
        *place = self.reader.take();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::DeviceId;
    use crate::message::QoS;
    use bytes::Bytes;

    fn message(payload: &'static [u8]) -> Message {
        Message {
            device: DeviceId::new("d").expect("invariant: one letter"),
            topic: "t".to_owned(),
            payload: Bytes::from_static(payload),
            qos: QoS::AtMostOnce,
            retain: false,
            duplicate: false,
            properties: None,
        }
    }

    /// Room for two messages of a few bytes.
    fn inbox(overflow: Overflow) -> Arc<Inbox> {
        Arc::new(Inbox::new(2 * OVERHEAD + 10, overflow))
    }

    #[tokio::test]
    async fn a_full_inbox_waits_until_one_is_taken() {
        let inbox = inbox(Overflow::Wait);
        let mut messages = inbox.take_reader().expect("invariant: nobody has it");
        assert!(matches!(inbox.hand(message(b"1")), Handed::Queued));
        assert!(matches!(inbox.hand(message(b"2")), Handed::Queued));
        let Handed::Full(third) = inbox.hand(message(b"3")) else { panic!("there is no room") };
        let (taken, ()) = tokio::join!(messages.next(), Arc::clone(&inbox).wait(third));
        assert_eq!(taken, Some(message(b"1")));
        assert_eq!(messages.next().await, Some(message(b"2")));
        assert_eq!(messages.next().await, Some(message(b"3")));
        assert_eq!((inbox.waiting_bytes(), inbox.dropped()), (0, 0));
    }

    #[tokio::test]
    async fn by_the_other_policy_the_newest_is_dropped_and_counted() {
        let inbox = inbox(Overflow::Drop);
        for payload in [b"1", b"2", b"3"] {
            inbox.hand(message(payload));
        }
        assert_eq!(inbox.dropped(), 1);
        let mut messages = inbox.take_reader().expect("invariant: nobody has it");
        assert_eq!(messages.try_next(), Some(message(b"1")));
        assert_eq!(messages.try_next(), Some(message(b"2")));
        assert_eq!(messages.try_next(), None);
    }

    #[tokio::test]
    async fn a_message_larger_than_the_bound_gets_through_alone() {
        let inbox = inbox(Overflow::Wait);
        assert!(matches!(inbox.hand(message(&[0; 10_000])), Handed::Queued));
        assert!(matches!(inbox.hand(message(b"2")), Handed::Full(_)));
    }

    #[tokio::test]
    async fn there_is_one_reader_at_a_time_and_it_ends_with_what_is_there() {
        let inbox = inbox(Overflow::Wait);
        inbox.hand(message(b"1"));
        let first = inbox.take_reader().expect("invariant: nobody has it");
        assert!(inbox.take_reader().is_none());
        drop(first);
        let mut second = inbox.take_reader().expect("invariant: it was given back");
        inbox.close();
        assert_eq!(second.next().await, Some(message(b"1")));
        assert_eq!(second.next().await, None);
    }
}

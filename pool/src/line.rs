//! What the callers, the loop and a device's present driver share: what is to be sent, and
//! whether to stop. It stays when sessions come and go.

use crate::device::{Device, Generation};
use crate::error::{CallerError, Cause};
use crate::fleet::{SlotKey, State};
use crate::request::Request;
use futures_util::task::AtomicWaker;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) key: SlotKey,
    pub(crate) device: Arc<Device>,
    shared: Mutex<Shared>,
    /// There is something new to look at for the driver, of which there is one at a time.
    changed: AtomicBool,
    driver: AtomicWaker,
}

#[derive(Debug)]
struct Shared {
    outbox: VecDeque<Request>,
    stop: Option<(Generation, Box<Cause>)>,
    status: Status,
    /// A request to reconnect is on its way to the loop: more of them change nothing.
    reconnecting: bool,
}

/// What the loop last said about the slot.
#[derive(Clone, Debug)]
pub(crate) struct Status {
    pub(crate) state: State,
    pub(crate) generation: Generation,
    pub(crate) since: Instant,
    pub(crate) last_end: Option<Arc<Cause>>,
}

impl Line {
    pub(crate) fn new(key: SlotKey, device: Device, now: Instant) -> Self {
        let status = Status {
            state: State::Waiting,
            generation: Generation::default(),
            since: now,
            last_end: None,
        };
        Self {
            key,
            device: Arc::new(device),
            shared: Mutex::new(Shared {
                outbox: VecDeque::new(),
                stop: None,
                status,
                reconnecting: false,
            }),
            changed: AtomicBool::new(false),
            driver: AtomicWaker::new(),
        }
    }

    /// Puts a request behind the others.
    ///
    /// # Errors
    ///
    /// When `limit` of them wait already; the request comes back so that its ticket can say so.
    pub(crate) fn push(&self, request: Request, limit: usize) -> Result<(), CallerError> {
        let mut shared = self.lock();
        let waiting = shared.outbox.len();
        if waiting >= limit {
            return Err(CallerError::OutboxFull { device: self.device.id.clone(), waiting });
        }
        shared.outbox.push_back(request);
        drop(shared);
        self.wake();
        Ok(())
    }

    pub(crate) fn pop(&self) -> Option<Request> {
        let mut shared = self.lock();
        let request = shared.outbox.pop_front();
        if shared.outbox.is_empty() && shared.outbox.capacity() > 0 {
            // An idle device keeps nothing.
            shared.outbox = VecDeque::new();
        }
        request
    }

    pub(crate) fn waiting(&self) -> usize {
        self.lock().outbox.len()
    }

    /// Tells the driver of this generation to end.
    pub(crate) fn stop(&self, generation: Generation, cause: Cause) {
        self.lock().stop = Some((generation, Box::new(cause)));
        self.wake();
    }

    /// Whether the driver of this generation has to end. Says it once.
    pub(crate) fn take_stop(&self, generation: Generation) -> Option<Cause> {
        let mut shared = self.lock();
        match &shared.stop {
            Some((whose, _)) if *whose == generation => shared.stop.take().map(|it| *it.1),
            _ => None,
        }
    }

    /// Ready when there is something new to look at since it was ready last. For the driver only:
    /// the last one to ask is woken.
    pub(crate) fn poll_changed(&self, context: &Context<'_>) -> Poll<()> {
        self.driver.register(context.waker());
        match self.changed.swap(false, Ordering::AcqRel) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    pub(crate) fn status(&self) -> Status {
        self.lock().status.clone()
    }

    pub(crate) fn set_state(&self, state: State, generation: Generation, now: Instant) {
        let status = &mut self.lock().status;
        status.state = state;
        status.generation = generation;
        status.since = now;
    }

    pub(crate) fn set_last_end(&self, cause: Cause) {
        self.lock().status.last_end = Some(Arc::new(cause));
    }

    /// Whether the caller is the first to ask for a reconnect since the loop last heard of one.
    pub(crate) fn begin_reconnect(&self) -> bool {
        !std::mem::replace(&mut self.lock().reconnecting, true)
    }

    pub(crate) fn heard_reconnect(&self) {
        self.lock().reconnecting = false;
    }

    fn wake(&self) {
        self.changed.store(true, Ordering::Release);
        self.driver.wake();
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // Nothing in here can panic half way, so what is there is whole.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::message::{Publish, QoS};
    use crate::request::Ticket;
    use std::task::Waker;

    fn line() -> Line {
        let device = Device::new("d").expect("invariant: one letter");
        Line::new(SlotKey(0), device, clock::now())
    }

    fn request() -> Request {
        let publish = Publish::new("t", QoS::AtMostOnce, "").expect("invariant: a topic");
        Request::Publish(publish, Ticket::default())
    }

    #[test]
    fn an_outbox_refuses_beyond_its_limit_and_keeps_nothing_when_empty() {
        let line = line();
        assert_eq!(line.push(request(), 2), Ok(()));
        assert_eq!(line.push(request(), 2), Ok(()));
        let device = line.device.id.clone();
        let full = CallerError::OutboxFull { device, waiting: 2 };
        assert_eq!(line.push(request(), 2), Err(full));
        assert!(line.pop().is_some() && line.pop().is_some() && line.pop().is_none());
        assert_eq!(line.lock().outbox.capacity(), 0);
    }

    #[test]
    fn a_stop_is_for_one_generation_only() {
        let line = line();
        let first = Generation::default().next();
        line.stop(first, Cause::Replaced);
        assert_eq!(line.take_stop(first.next()), None);
        assert_eq!(line.take_stop(first), Some(Cause::Replaced));
        assert_eq!(line.take_stop(first), None);
    }

    #[test]
    fn what_is_told_while_nobody_waits_is_not_lost() {
        let line = line();
        let context = Context::from_waker(Waker::noop());
        assert_eq!(line.poll_changed(&context), Poll::Pending);
        line.stop(Generation::default(), Cause::Replaced);
        assert_eq!(line.poll_changed(&context), Poll::Ready(()));
        assert_eq!(line.poll_changed(&context), Poll::Pending);
    }

    #[test]
    fn only_the_first_of_many_reconnects_is_told() {
        let line = line();
        assert!(line.begin_reconnect());
        assert!(!line.begin_reconnect());
        line.heard_reconnect();
        assert!(line.begin_reconnect());
    }
}

use crate::budget::DescriptorBudget;
use crate::clock;
use crate::device::{Generation, Priority};
use crate::error::Cause;
use crate::fleet::{Action, AllowList, Fleet, Input, Notice, Rules, SlotKey, State};
use crate::policy::{BackoffPolicy, Limits, TakeoverPolicy};
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

/// The sockets of a fleet as the kernel would see them, and a clock that is told.
pub(super) struct World {
    pub(super) fleet: Fleet,
    pub(super) now: Instant,
    /// Sockets that exist. More than one for a key is what must not be.
    pub(super) live: HashMap<SlotKey, Generation>,
    pub(super) told_to_stop: HashSet<(SlotKey, Generation)>,
    pub(super) awaiting_receipt: HashSet<(SlotKey, Generation)>,
    pub(super) notices: Vec<(SlotKey, Notice)>,
    pub(super) gone: HashSet<SlotKey>,
}

impl World {
    pub(super) fn new(limits: Limits) -> Self {
        let rules = Rules {
            backoff: BackoffPolicy::default(),
            takeover: TakeoverPolicy::default(),
            receipt_timeout: Duration::from_secs(1),
            redirects: AllowList::default(),
        };
        Self::with_rules(rules, limits)
    }

    pub(super) fn with_rules(rules: Rules, limits: Limits) -> Self {
        let now = clock::now();
        let descriptors = DescriptorBudget::new(20_000, 64, 10);
        Self {
            fleet: Fleet::new(rules, limits, descriptors, 1, now),
            now,
            live: HashMap::new(),
            told_to_stop: HashSet::new(),
            awaiting_receipt: HashSet::new(),
            notices: Vec::new(),
            gone: HashSet::new(),
        }
    }

    pub(super) fn add(&mut self, count: u32) {
        for key in (0..count).map(SlotKey) {
            self.tell(Input::Add { key, priority: Priority::Normal });
        }
    }

    pub(super) fn tell(&mut self, input: Input) {
        self.fleet.handle(self.now, input);
        self.look();
    }

    pub(super) fn reconnect(&mut self, key: u32) {
        self.tell(Input::Reconnect { key: SlotKey(key), priority: None, deadline: None });
    }

    pub(super) fn remove(&mut self, key: u32) {
        self.tell(Input::Remove { key: SlotKey(key), cause: Cause::Removed });
    }

    /// The broker says yes to whoever is connecting.
    pub(super) fn come_online(&mut self, key: u32) {
        let key = SlotKey(key);
        if let Some(generation) = self.live.get(&key).copied() {
            self.tell(Input::Online { key, generation, latency: Duration::from_millis(1) });
        }
    }

    /// The driver has closed the socket.
    pub(super) fn end(&mut self, key: u32, cause: Cause) {
        let key = SlotKey(key);
        if let Some(generation) = self.live.remove(&key) {
            self.told_to_stop.remove(&(key, generation));
            self.tell(Input::Ended { key, generation, cause, had_socket: true });
        }
    }

    /// The kernel has let go of everything that is closed.
    pub(super) fn receipts(&mut self) {
        for (key, generation) in std::mem::take(&mut self.awaiting_receipt) {
            self.tell(Input::Receipt { key, generation });
        }
    }

    pub(super) fn advance(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(due) = self.fleet.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.fleet.handle_timeout(self.now);
            self.look();
        }
        self.now = end;
    }

    /// Ends what was told to stop, and connects what is connecting, until nothing moves for `calm`.
    pub(super) fn settle(&mut self, calm: Duration) {
        let mut quiet_since = self.now;
        while self.now.saturating_duration_since(quiet_since) < calm {
            let stopping: Vec<_> = self.told_to_stop.iter().map(|it| it.0.0).collect();
            let connecting: Vec<_> = self
                .live
                .keys()
                .filter(|key| self.fleet.is_in(**key, State::Connecting))
                .map(|key| key.0)
                .collect();
            if !stopping.is_empty() || !connecting.is_empty() || !self.awaiting_receipt.is_empty() {
                quiet_since = self.now;
            }
            stopping.into_iter().for_each(|key| self.end(key, Cause::Replaced));
            self.receipts();
            connecting.into_iter().for_each(|key| self.come_online(key));
            self.advance(Duration::from_millis(100));
        }
    }

    pub(super) fn online(&self) -> usize {
        self.fleet.census()[State::Online as usize]
    }

    fn look(&mut self) {
        while let Some(action) = self.fleet.poll_action() {
            match action {
                Action::Dial { key, generation, .. } => {
                    let before = self.live.insert(key, generation);
                    assert_eq!(before, None, "a second socket for {key:?}");
                    let unproven = self.awaiting_receipt.iter().find(|it| it.0 == key);
                    assert_eq!(unproven, None, "dialled before the receipt");
                }
                Action::Stop { key, generation, .. } => {
                    assert_eq!(self.live.get(&key), Some(&generation), "stops what it has");
                    self.told_to_stop.insert((key, generation));
                }
                Action::AwaitReceipt { key, generation } => {
                    self.awaiting_receipt.insert((key, generation));
                }
                Action::Notice { key, notice, generation } => {
                    if notice == Notice::Unreleased {
                        self.awaiting_receipt.remove(&(key, generation));
                    }
                    self.notices.push((key, notice));
                }
                Action::Entered { .. } => {}
                Action::Gone { key } => {
                    assert_eq!(self.live.get(&key), None, "a socket without a slot");
                    self.gone.insert(key);
                }
            }
        }
    }
}

//! The observer's side, as `Observer::pump` and `Observer::snapshot` do it, and the check of what it
//! says against the truth.

use super::*;

impl World {
    pub(super) fn pump(&mut self) {
        let lost = self.drain();
        self.race();
        self.read_registry();
        self.correlator.handle_loss(self.now, lost);
        self.correlator.handle_timeout(self.now);
        while self.report() {
            let lost = self.drain();
            self.correlator.handle_loss(self.now, lost);
            let began = self.now;
            let rows = self.rows();
            self.race();
            let lost = self.drain();
            self.race();
            self.read_registry();
            self.correlator.handle_loss(self.now, lost);
            let (ended, lists_unheld, unheld_netns) = (self.now, true, NETNS);
            let snapshot =
                Snapshot { began, ended, rows, lists_unheld, unheld_netns, ..Snapshot::default() };
            self.correlator.handle_snapshot(snapshot);
        }
    }

    fn race(&mut self) {
        self.races += 1;
        if self.way.races.rotate_right(self.races) & 1 == 1
            && let Some(op) = self.next.take()
        {
            self.now = MonoTime::from_nanos(self.now.nanos() + 1_000);
            self.act(op);
            self.now = MonoTime::from_nanos(self.now.nanos() + 1_000);
        }
    }

    fn drain(&mut self) -> u64 {
        let mut lost = 0;
        for event in std::mem::take(&mut self.ring) {
            self.records += 1;
            if self.way.loses.rotate_right(self.records) & 1 == 1 {
                lost += 1;
            } else {
                self.correlator.handle_event(event);
            }
        }
        lost
    }

    fn read_registry(&mut self) {
        self.readings += 1;
        let changes = std::mem::take(&mut self.changes);
        if changes.is_empty() {
            return;
        }
        // A claim is told a moment after it was made.
        let now = self.now;
        if self.way.misses.rotate_right(self.readings) & 1 == 1 {
            self.correlator.handle_registry(self.registry.values().cloned().collect(), now);
        } else {
            self.correlator.handle_changes(changes, now);
        }
    }

    fn rows(&self) -> Vec<SnapshotRow> {
        let mut rows = Vec::new();
        for (cookie, sock) in self.sockets.iter().filter(|(_, sock)| !sock.is_gone) {
            let row = |holder| SnapshotRow {
                time: self.now,
                cookie: Cookie(*cookie),
                state: sock.state,
                ends: ends(),
                netns: NETNS,
                holder,
                read: ReadPosition { copied_seq: 1, unread: 0 },
                unacked: 0,
                write_seq: 1,
                last_sent: sock.connected,
                last_received: sock.connected,
            };
            let comm = || Comm::from_bytes(b"pool");
            let held = sock.holders.iter().map(|(pid, fd)| Holder {
                process: key(*pid),
                comm: comm(),
                fd: *fd,
                close_on_exec: None,
            });
            rows.extend(held.map(|holder| row(Some(holder))));
            if sock.holders.is_empty() && sock.state != TcpState::Close {
                rows.push(row(None));
            }
        }
        rows
    }

    /// Takes what is said. `true` if a snapshot is wanted.
    fn report(&mut self) -> bool {
        let mut is_wanted = false;
        while let Some(output) = self.correlator.poll_output() {
            match output {
                Output::SnapshotWanted(_) => is_wanted = true,
                Output::Pool(ToPool::Receipt(Cookie(cookie), receipt)) => {
                    let sock = &self.sockets[&cookie];
                    let is_true = match receipt {
                        pool::Receipt::Destroyed => sock.is_gone,
                        _ => sock.ended.is_some(),
                    };
                    assert!(is_true, "{receipt:?} for {sock:?}");
                }
                Output::Finding(finding) if Kind::OF_REGISTRY.contains(&finding.kind) => {
                    self.finding(finding);
                }
                Output::Pool(ToPool::Congestion) | Output::Finding(_) | Output::Transition(_) => {}
            }
        }
        is_wanted
    }

    fn finding(&mut self, finding: Finding) {
        let cookie = finding.cookie().expect("the ledger speaks of sockets");
        let key = (cookie, finding.kind);
        match finding.event {
            FindingEvent::Opened => {
                self.check(&finding);
                assert!(self.open.insert(key, finding.clone()).is_none(), "twice: {finding:?}");
                self.opened.push(finding);
            }
            FindingEvent::Updated => {
                assert!(self.open.insert(key, finding).is_some(), "{key:?} is not open");
            }
            FindingEvent::Cleared => {
                assert!(self.open.remove(&key).is_some(), "{key:?} is not open");
            }
        }
    }

    /// A finding that opens is true, whatever was lost.
    fn check(&self, finding: &Finding) {
        let cookie = finding.cookie().map_or(0, |cookie| cookie.0);
        let sock = &self.sockets[&cookie];
        assert!(finding.age() >= finding.budget, "too young: {finding:?}");
        match finding.kind {
            Kind::Overlap => {
                let other = finding.device.as_ref().and_then(|device| device.other);
                // Where changes were missed, so was which of the two came first.
                let either = other.filter(|_| self.way.misses != 0).map_or(cookie, |it| it.0);
                let truth = self.true_overlap(cookie).or(self.true_overlap(either));
                let truth = truth.unwrap_or_default();
                let told = finding.device.as_ref().and_then(|device| device.overlap);
                let told = told.expect("an overlap has a length");
                // That there was one is certain. For how long rests on the younger one's end.
                assert!(!told.is_zero() && !truth.is_zero(), "{truth:?}: {finding:?}");
                assert!(told <= truth || self.way.loses != 0, "{truth:?}: {finding:?}");
            }
            Kind::Ghost => {
                let left = sock.left.expect("it has left ESTABLISHED");
                assert!(left <= finding.since, "{sock:?}: {finding:?}");
            }
            Kind::Orphan | Kind::Unreleased => {
                assert!(sock.connected <= finding.since, "{sock:?}: {finding:?}");
                assert!(!finding.holders.is_empty(), "{finding:?}");
            }
            _ => unreachable!("only those of the registry come here"),
        }
    }
}

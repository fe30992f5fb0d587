//! What a session derives from the time: pings, the broker's silence, a packet that does not end.

use std::time::{Duration, Instant};

/// The times of one connection.
#[derive(Debug)]
pub(super) struct Clock {
    /// In seconds; 0 is off, as it is until the session is online.
    keep_alive: u16,
    reading: bool,
    ping_outstanding: bool,
    /// How much of an unfinished packet was there when we last looked, in bytes.
    begun_bytes: u32,
    sent: Instant,
    received: Instant,
    /// When the unfinished packet was begun.
    begun: Option<Instant>,
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    Ping,
    /// The broker was silent for so long.
    Silence(Duration),
    SlowPacket,
}

impl Clock {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            keep_alive: 0,
            reading: true,
            ping_outstanding: false,
            begun_bytes: 0,
            sent: now,
            received: now,
            begun: None,
        }
    }

    /// In seconds; 0 is off (MQTT 3.1.1 §3.1.2.10).
    pub(super) fn keep_alive(&mut self, keep_alive: u16) {
        self.keep_alive = keep_alive;
    }

    pub(super) fn last_sent(&self) -> Instant {
        self.sent
    }

    pub(super) fn sent(&mut self, now: Instant) {
        self.sent = now;
    }

    /// A whole packet came.
    pub(super) fn received(&mut self, now: Instant) {
        self.received = now;
        self.begun = None;
        self.begun_bytes = 0;
    }

    pub(super) fn ponged(&mut self) {
        self.ping_outstanding = false;
    }

    /// What is left in the buffer is no whole packet; 0 bytes are none at all.
    ///
    /// A large packet on a slow line is a sign of life at each of its bytes.
    pub(super) fn unfinished(&mut self, now: Instant, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        if bytes == 0 {
            self.begun = None;
        } else if self.begun.is_none() {
            self.begun = Some(now);
            self.received = now;
        } else if bytes != self.begun_bytes {
            self.received = now;
        }
        self.begun_bytes = bytes;
    }

    /// While we do not read, silence proves nothing; when we do again, it begins anew.
    pub(super) fn set_reading(&mut self, now: Instant, reading: bool) {
        if reading && !self.reading {
            self.received = now;
            // Its answer may lie in the socket, behind all that was not read.
            self.ping_outstanding = false;
            self.begun = self.begun.map(|_| now);
        }
        self.reading = reading;
    }

    pub(super) fn check(&self, now: Instant, packet_timeout: Duration) -> Due {
        if self.packet_deadline(packet_timeout).is_some_and(|deadline| deadline <= now) {
            return Due::SlowPacket;
        }
        if self.silence_deadline().is_some_and(|deadline| deadline <= now) {
            return Due::Silence(self.silence_limit());
        }
        if self.ping_deadline().is_some_and(|deadline| deadline <= now) {
            return Due::Ping;
        }
        Due::Nothing
    }

    /// A ping is due now: whether to send it. Either way the next one has its time.
    ///
    /// One that waits for its answer asks all that a second one could ask; the second is for the
    /// broker's sake, which wants to hear of us, and it hears of us by whatever is `unwritten`.
    pub(super) fn ping(&mut self, now: Instant, unwritten: bool) -> bool {
        self.sent = now;
        let send = !self.ping_outstanding || !unwritten;
        self.ping_outstanding = true;
        send
    }

    pub(super) fn deadline(&self, packet_timeout: Duration) -> Option<Instant> {
        let deadlines =
            [self.packet_deadline(packet_timeout), self.silence_deadline(), self.ping_deadline()];
        deadlines.into_iter().flatten().min()
    }

    fn packet_deadline(&self, packet_timeout: Duration) -> Option<Instant> {
        let begun = self.begun.filter(|_| self.reading)?;
        begun.checked_add(packet_timeout)
    }

    fn silence_deadline(&self) -> Option<Instant> {
        let counts = self.reading && self.keep_alive > 0;
        counts.then(|| self.received.checked_add(self.silence_limit())).flatten()
    }

    /// The client has to send something within the keep-alive (MQTT-3.1.2-23 in 3.1.1). A
    /// broker that takes all and says nothing is asked as well, or 1.5 times the keep-alive would
    /// pass without it having had anything to answer.
    fn ping_deadline(&self) -> Option<Instant> {
        if self.keep_alive == 0 {
            return None;
        }
        let asks = self.reading && !self.ping_outstanding;
        let last = if asks { self.sent.min(self.received) } else { self.sent };
        last.checked_add(Duration::from_secs(u64::from(self.keep_alive)))
    }

    fn silence_limit(&self) -> Duration {
        Duration::from_millis(u64::from(self.keep_alive) * 1_500)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test needs one instant to count from")]
mod tests {
    use super::*;

    const PACKET: Duration = Duration::from_secs(30);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn online() -> (Clock, Instant) {
        let start = Instant::now();
        let mut clock = Clock::new(start);
        clock.keep_alive(60);
        (clock, start)
    }

    #[test]
    fn nothing_is_due_without_a_keep_alive() {
        let start = Instant::now();
        let clock = Clock::new(start);
        assert_eq!(clock.deadline(PACKET), None);
        assert_eq!(clock.check(start + seconds(1_000_000), PACKET), Due::Nothing);
    }

    #[test]
    fn a_ping_goes_out_when_nothing_was_sent() {
        let (mut clock, start) = online();
        clock.received(start + seconds(50));
        assert_eq!(clock.deadline(PACKET), Some(start + seconds(60)));
        assert_eq!(clock.check(start + seconds(59), PACKET), Due::Nothing);
        assert_eq!(clock.check(start + seconds(60), PACKET), Due::Ping);
        assert!(clock.ping(start + seconds(60), false));
        assert_eq!(clock.check(start + seconds(60), PACKET), Due::Nothing);
    }

    #[test]
    fn a_ping_goes_out_when_nothing_was_received() {
        let (mut clock, start) = online();
        clock.sent(start + seconds(59));
        assert_eq!(clock.check(start + seconds(60), PACKET), Due::Ping);
        assert!(clock.ping(start + seconds(60), true));
        assert_eq!(clock.deadline(PACKET), Some(start + seconds(90)));
    }

    #[test]
    fn silence_of_one_and_a_half_keep_alives_is_the_end() {
        let (mut clock, start) = online();
        clock.ping(start + seconds(60), false);
        assert_eq!(clock.check(start + seconds(89), PACKET), Due::Nothing);
        assert_eq!(clock.check(start + seconds(90), PACKET), Due::Silence(seconds(90)));
        clock.received(start + seconds(89));
        assert_eq!(clock.check(start + seconds(90), PACKET), Due::Nothing);
    }

    #[test]
    fn a_broker_that_answers_no_ping_but_talks_is_still_told_of_us() {
        let (mut clock, start) = online();
        assert!(clock.ping(start + seconds(60), false));
        clock.received(start + seconds(100));
        assert_eq!(clock.check(start + seconds(119), PACKET), Due::Nothing);
        assert_eq!(clock.check(start + seconds(120), PACKET), Due::Ping);
        assert!(clock.ping(start + seconds(120), false));
        clock.received(start + seconds(179));
        assert!(!clock.ping(start + seconds(180), true), "what is unwritten tells it");
        assert_eq!(clock.check(start + seconds(181), PACKET), Due::Nothing);
    }

    #[test]
    fn while_we_do_not_read_silence_proves_nothing_and_pings_go_on() {
        let (mut clock, start) = online();
        clock.unfinished(start, 3);
        clock.set_reading(start, false);
        for minute in 1..10 {
            let now = start + seconds(60 * minute);
            assert_eq!(clock.check(now, PACKET), Due::Ping);
            assert!(clock.ping(now, false));
        }
        let resumed = start + seconds(570);
        clock.set_reading(resumed, true);
        assert_eq!(clock.check(resumed + seconds(29), PACKET), Due::Nothing);
        assert_eq!(clock.check(resumed + seconds(30), PACKET), Due::SlowPacket);
        clock.unfinished(resumed, 0);
        assert_eq!(clock.deadline(PACKET), Some(start + seconds(600)));
    }

    #[test]
    fn a_packet_has_to_end_in_time_however_it_trickles() {
        let (mut clock, start) = online();
        clock.unfinished(start, 1);
        for second in 1..30 {
            clock.unfinished(start + seconds(second), 1 + second as usize);
        }
        assert_eq!(clock.check(start + seconds(29), PACKET), Due::Nothing);
        assert_eq!(clock.check(start + seconds(30), PACKET), Due::SlowPacket);
        clock.received(start + seconds(30));
        assert_eq!(clock.check(start + seconds(30), PACKET), Due::Nothing);
    }

    #[test]
    fn each_byte_of_a_large_packet_is_a_sign_of_life() {
        let (mut clock, start) = online();
        let endless = Duration::MAX;
        clock.unfinished(start + seconds(80), 1);
        clock.unfinished(start + seconds(160), 2);
        clock.ping(start + seconds(160), false);
        assert_eq!(clock.check(start + seconds(200), endless), Due::Nothing);
        clock.unfinished(start + seconds(200), 2);
        assert_eq!(clock.check(start + seconds(250), endless), Due::Silence(seconds(90)));
    }
}

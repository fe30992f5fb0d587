//! Local ports per path, where a path is a source address and a destination.
//!
//! A connection needs a local port that no other one of its path has. Ports run out long before
//! descriptors do when a fleet is replaced: whoever closes first keeps the port for a minute in
//! TIME_WAIT. And they become dear before they run out: `__inet_hash_connect` looks at all ports
//! of one parity before it tries the other (Linux 4.2, `net/ipv4/inet_hashtables.c`), so beyond
//! half of the range each connect scans the full half first, and costs 0.75 ms instead of 0.03 ms
//! (measured on 6.18). More source addresses help against both.

use crate::error::OperatorError;
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// How long TIME_WAIT lasts (`TCP_TIMEWAIT_LEN`, `include/net/tcp.h`).
const TIME_WAIT: Duration = Duration::from_secs(60);
/// From this age on a port in TIME_WAIT may be reused, where it may be at all: `tcp_twsk_unique`
/// asks for a later second, and since Linux 6.14 for `tcp_tw_reuse_delay`, 1 s by default.
const REUSE_DELAY: Duration = Duration::from_secs(1);
/// Ports that expire within so long are counted together, so a path remembers at most 62 counts.
/// They count for so much longer than in the kernel.
const GRAIN: Duration = Duration::from_secs(1);
/// This part of the range is left to the rest of the host: a debugger's client, say. Chosen.
const RESERVE_PERCENT: u32 = 1;
/// A path is under pressure from this part of half its range on. Chosen.
const WARN_PERCENT: u64 = 80;
/// And no longer when it falls below this part, so that no fleet at the edge warns all day. Chosen.
const CLEAR_PERCENT: u64 = 70;

/// How many local ports the pool uses on each path. Everything else on this host is not counted.
#[derive(Debug)]
pub(crate) struct PortBudget {
    range: u32,
    reuse: TimeWaitReuse,
    paths: HashMap<Path, Use>,
    unmatched: u64,
}

/// Whether a connect may take a port that is in TIME_WAIT (`net.ipv4.tcp_tw_reuse`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimeWaitReuse {
    /// 0.
    Never,
    /// 1. Needs TCP timestamps on both sides, which are the default.
    Always,
    /// 2, the kernel's default since 4.19: on a path with a loopback address at one end.
    Loopback,
}

/// Who gave up a connection first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Our FIN was the first: the port is ours for a minute more, and in the kernel for up to
    /// another one (`tcp_fin_timeout`) if the peer takes its time to close.
    ByUs,
    /// The peer's FIN was the first: TIME_WAIT is on its side.
    ByPeer,
    /// A reset by either side, or a connect that failed: no TIME_WAIT anywhere.
    Reset,
}

/// The path with the fewest free ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pressure {
    /// `None` is whatever the kernel chooses.
    pub(crate) source: Option<IpAddr>,
    /// The broker.
    pub(crate) destination: SocketAddr,
    /// Live and in TIME_WAIT.
    pub(crate) in_use: u32,
    /// From here on each connect is dear.
    pub(crate) half_range: u32,
    /// From here on there are none.
    pub(crate) range: u32,
}

/// A path came under pressure, or is so no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Warning {
    /// The figures now.
    pub(crate) pressure: Pressure,
    /// False takes back an earlier one.
    pub(crate) is_raised: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Path {
    source: Option<IpAddr>,
    destination: SocketAddr,
}

#[derive(Debug, Default)]
struct Use {
    live: u32,
    /// Until when, and how many; in order of time.
    time_wait: VecDeque<(Instant, u32)>,
    is_warned: bool,
}

impl PortBudget {
    /// `range` is the number of ports in `net.ipv4.ip_local_port_range` that are not in
    /// `ip_local_reserved_ports`: 28,232 by default.
    pub(crate) fn new(range: u32, reuse: TimeWaitReuse) -> Self {
        Self { range, reuse, paths: HashMap::new(), unmatched: 0 }
    }

    /// The source address with the fewest ports in use towards `destination`, the first of equals.
    /// `None` lets the kernel choose; so does an empty list. Sources of the other address family
    /// are passed over. Counts nothing: [`PortBudget::opened`] does.
    ///
    /// # Errors
    ///
    /// [`OperatorError::PortBudget`] when each source has no more than 1 % of the range left, or
    /// none is of the destination's family.
    pub(crate) fn choose(
        &mut self,
        sources: &[Option<IpAddr>],
        destination: SocketAddr,
        now: Instant,
    ) -> Result<Option<IpAddr>, OperatorError> {
        let sources = if sources.is_empty() { &[None] } else { sources };
        let (mut in_use, mut available) = (0_u32, 0_u32);
        let mut best: Option<(u32, Option<IpAddr>)> = None;
        for source in sources.iter().copied().filter(|source| fits(*source, destination)) {
            let used = match self.paths.get_mut(&Path { source, destination }) {
                Some(used) => {
                    used.expire(now);
                    used.in_use(now)
                }
                None => 0,
            };
            in_use = in_use.saturating_add(used);
            available = available.saturating_add(self.range);
            if best.is_none_or(|(least, _)| used < least) {
                best = Some((used, source));
            }
        }
        let usable = self.range - self.range / 100 * RESERVE_PERCENT;
        match best {
            Some((used, source)) if used < usable => Ok(source),
            _ => {
                let destination = destination.to_string();
                Err(OperatorError::PortBudget { destination, in_use, available })
            }
        }
    }

    /// A connect towards `destination` begins; `source` is what [`PortBudget::choose`] said.
    pub(crate) fn opened(&mut self, source: Option<IpAddr>, destination: SocketAddr, now: Instant) {
        let path = Path { source, destination };
        if !self.paths.contains_key(&path) {
            // Brokers move: paths that nobody uses any more leave when a new one comes.
            self.paths.retain(|_, used| used.is_warned || used.in_use(now) > 0);
        }
        let used = self.paths.entry(path).or_default();
        used.live = used.live.saturating_add(1);
    }

    /// The connection is closed. One that was not opened is only counted.
    pub(crate) fn closed(
        &mut self,
        source: Option<IpAddr>,
        destination: SocketAddr,
        ending: Ending,
        now: Instant,
    ) {
        let path = Path { source, destination };
        let wait = self.time_wait(path);
        let Some(used) = self.paths.get_mut(&path).filter(|used| used.live > 0) else {
            self.unmatched += 1;
            return;
        };
        used.live -= 1;
        used.expire(now);
        if ending == Ending::ByUs {
            used.wait(now, wait);
        }
    }

    /// The path with the most ports in use; `None` when there is no path.
    pub(crate) fn pressure(&self, now: Instant) -> Option<Pressure> {
        let pressures = self.paths.iter().map(|(path, used)| self.pressure_of(path, used, now));
        pressures.max_by_key(|pressure| pressure.in_use)
    }

    /// The next path that came under pressure since the last look, or is so no longer. To be
    /// called until `None`, about once a second.
    pub(crate) fn next_warning(&mut self, now: Instant) -> Option<Warning> {
        let (path, pressure) = self.paths.iter().find_map(|(path, used)| {
            let pressure = self.pressure_of(path, used, now);
            (pressure.is_high(used.is_warned) != used.is_warned).then_some((*path, pressure))
        })?;
        let used = self.paths.get_mut(&path)?;
        used.is_warned = !used.is_warned;
        Some(Warning { pressure, is_raised: used.is_warned })
    }

    /// Endings of connections that were not opened: should stay 0.
    #[cfg(test)]
    pub(crate) fn unmatched(&self) -> u64 {
        self.unmatched
    }

    fn pressure_of(&self, path: &Path, used: &Use, now: Instant) -> Pressure {
        Pressure {
            source: path.source,
            destination: path.destination,
            in_use: used.in_use(now),
            half_range: self.range / 2,
            range: self.range,
        }
    }

    /// For how long a port of this path is gone after we closed first.
    fn time_wait(&self, path: Path) -> Duration {
        let is_loopback = |ip: IpAddr| ip.to_canonical().is_loopback();
        let is_reused = match self.reuse {
            TimeWaitReuse::Never => false,
            TimeWaitReuse::Always => true,
            TimeWaitReuse::Loopback => {
                is_loopback(path.destination.ip()) || path.source.is_some_and(is_loopback)
            }
        };
        if is_reused { REUSE_DELAY } else { TIME_WAIT }
    }
}

impl Pressure {
    fn is_high(&self, was_high: bool) -> bool {
        let percent = if was_high { CLEAR_PERCENT } else { WARN_PERCENT };
        let (in_use, half) = (u64::from(self.in_use), u64::from(self.half_range));
        self.in_use > 0 && in_use * 100 >= half * percent
    }
}

impl Use {
    fn wait(&mut self, now: Instant, wait: Duration) {
        let until = now + wait;
        match self.time_wait.back_mut() {
            Some((last, count)) if *last >= until => *count = count.saturating_add(1),
            _ => self.time_wait.push_back((until + GRAIN, 1)),
        }
    }

    fn expire(&mut self, now: Instant) {
        while self.time_wait.front().is_some_and(|(until, _)| *until <= now) {
            self.time_wait.pop_front();
        }
        if self.time_wait.is_empty() {
            self.time_wait = VecDeque::new();
        }
    }

    fn in_use(&self, now: Instant) -> u32 {
        let waiting = self.time_wait.iter().filter(|(until, _)| *until > now);
        waiting.fold(self.live, |sum, (_, count)| sum.saturating_add(*count))
    }
}

/// Whether a socket that is bound to `source` can connect to `destination`.
fn fits(source: Option<IpAddr>, destination: SocketAddr) -> bool {
    let is_v4 = |ip: IpAddr| ip.to_canonical().is_ipv4();
    source.is_none_or(|source| is_v4(source) == is_v4(destination.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    const SECOND: Duration = Duration::from_secs(1);

    fn now() -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn broker() -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], 1883))
    }

    fn source(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from(Ipv4Addr::new(198, 51, 100, last)))
    }

    fn open(budget: &mut PortBudget, source: Option<IpAddr>, count: u32, now: Instant) {
        for _ in 0..count {
            budget.opened(source, broker(), now);
        }
    }

    #[track_caller]
    fn check_in_use(budget: &PortBudget, now: Instant, expected: u32) {
        assert_eq!(budget.pressure(now).map_or(0, |pressure| pressure.in_use), expected);
    }

    #[test]
    fn the_source_with_the_fewest_ports_in_use_is_chosen() {
        let (now, mut budget) = (now(), PortBudget::new(1_000, TimeWaitReuse::Never));
        let sources = [source(1), source(2), source(3)];
        for _ in 0..30 {
            let chosen = budget.choose(&sources, broker(), now).expect("invariant: plenty");
            budget.opened(chosen, broker(), now);
        }
        for source in sources {
            let used = &budget.paths[&Path { source, destination: broker() }];
            assert_eq!(used.live, 10);
        }
        let elsewhere = SocketAddr::from(([192, 0, 2, 2], 1883));
        open(&mut budget, source(1), 5, now);
        assert_eq!(budget.choose(&sources, elsewhere, now), Ok(source(1)), "another path");
        assert_eq!(budget.choose(&sources, broker(), now), Ok(source(2)));
    }

    #[test]
    fn a_full_path_is_refused_before_the_last_port() {
        let (now, mut budget) = (now(), PortBudget::new(1_000, TimeWaitReuse::Never));
        open(&mut budget, source(1), 990, now);
        let refused = |in_use, available| OperatorError::PortBudget {
            destination: "192.0.2.1:1883".to_owned(),
            in_use,
            available,
        };
        assert_eq!(budget.choose(&[source(1)], broker(), now), Err(refused(990, 1_000)));
        assert_eq!(budget.choose(&[source(1), None], broker(), now), Ok(None));
        assert_eq!(budget.choose(&[], broker(), now), Ok(None));
        open(&mut budget, None, 990, now);
        assert_eq!(budget.choose(&[source(1), None], broker(), now), Err(refused(1_980, 2_000)));
        budget.closed(None, broker(), Ending::ByPeer, now);
        assert_eq!(budget.choose(&[source(1), None], broker(), now), Ok(None));
    }

    #[test]
    fn a_source_of_the_other_family_is_no_source() {
        let (now, mut budget) = (now(), PortBudget::new(1_000, TimeWaitReuse::Never));
        let v6: IpAddr = "2001:db8::1".parse().expect("invariant: a literal");
        assert_eq!(budget.choose(&[Some(v6), source(1)], broker(), now), Ok(source(1)));
        let error = budget.choose(&[Some(v6)], broker(), now).expect_err("invariant: no source");
        assert!(error.to_string().starts_with("0 of 0 local ports"), "{error}");
        let mapped = SocketAddr::new("::ffff:192.0.2.1".parse().expect("a literal"), 1883);
        assert_eq!(budget.choose(&[source(1)], mapped, now), Ok(source(1)));
    }

    #[track_caller]
    fn check_ending(reuse: TimeWaitReuse, destination: &str, ending: Ending, held: Duration) {
        let (now, mut budget) = (now(), PortBudget::new(1_000, reuse));
        let destination = destination.parse().expect("invariant: a literal");
        budget.opened(None, destination, now);
        budget.closed(None, destination, ending, now);
        for (after, in_use) in [(held, 0), (held.saturating_sub(SECOND / 2), 1)] {
            let in_use = if held.is_zero() { 0 } else { in_use };
            check_in_use(&budget, now + after, in_use);
        }
    }

    #[test]
    fn who_closes_first_keeps_the_port_for_a_minute() {
        use Ending::{ByPeer, ByUs, Reset};
        use TimeWaitReuse::{Always, Loopback, Never};
        let (near, mapped, far) = ("127.0.0.1:1883", "[::ffff:127.0.0.2]:1883", "192.0.2.1:1883");
        // One second more than in the kernel, for they are counted by the second.
        let (minute, delay) = (TIME_WAIT + GRAIN, REUSE_DELAY + GRAIN);
        check_ending(Never, far, ByUs, minute);
        check_ending(Never, near, ByUs, minute);
        check_ending(Loopback, far, ByUs, minute);
        check_ending(Loopback, near, ByUs, delay);
        check_ending(Loopback, mapped, ByUs, delay);
        check_ending(Loopback, "[::1]:1883", ByUs, delay);
        check_ending(Always, far, ByUs, delay);
        check_ending(Never, far, ByPeer, Duration::ZERO);
        check_ending(Never, far, Reset, Duration::ZERO);
    }

    #[test]
    fn a_second_replacement_of_the_fleet_within_a_minute_finds_no_ports() {
        let (begin, mut budget) = (now(), PortBudget::new(28_232, TimeWaitReuse::Never));
        open(&mut budget, None, 12_000, begin);
        for _ in 0..12_000 {
            budget.closed(None, broker(), Ending::ByUs, begin);
            budget.choose(&[], broker(), begin).expect("24,000 of 28,232");
            budget.opened(None, broker(), begin);
        }
        let mut replaced = 0;
        while budget.choose(&[], broker(), begin + SECOND * 5).is_ok() {
            budget.closed(None, broker(), Ending::ByUs, begin + SECOND * 5);
            budget.opened(None, broker(), begin + SECOND * 5);
            replaced += 1;
        }
        assert_eq!(replaced, 3_950, "28,232 less 24,000 and the reserve of 282");
        assert!(budget.choose(&[], broker(), begin + SECOND * 61).is_ok());
    }

    #[test]
    fn pressure_warns_once_and_clears_once() {
        let (now, mut budget) = (now(), PortBudget::new(1_000, TimeWaitReuse::Never));
        open(&mut budget, None, 399, now);
        assert_eq!(budget.next_warning(now), None);
        open(&mut budget, None, 1, now);
        let warning = budget.next_warning(now).expect("80 % of 500");
        assert!(warning.is_raised);
        let pressure = warning.pressure;
        assert_eq!((pressure.in_use, pressure.half_range, pressure.range), (400, 500, 1_000));
        assert_eq!(budget.next_warning(now), None);
        for _ in 0..50 {
            budget.closed(None, broker(), Ending::ByPeer, now);
        }
        assert_eq!(budget.next_warning(now), None, "350 are at the lower edge");
        budget.closed(None, broker(), Ending::ByUs, now);
        assert_eq!(budget.next_warning(now), None, "in TIME_WAIT it counts still");
        let later = now + TIME_WAIT + GRAIN;
        assert_eq!(budget.next_warning(later).map(|warning| warning.is_raised), Some(false));
        assert_eq!(budget.next_warning(later), None);
    }

    #[test]
    fn paths_that_nobody_uses_leave() {
        let (begin, mut budget) = (now(), PortBudget::new(1_000, TimeWaitReuse::Never));
        for index in 0..10_000_u32 {
            let destination = SocketAddr::from((Ipv4Addr::from(index), 1883));
            let now = begin + SECOND * index;
            budget.opened(None, destination, now);
            budget.closed(None, destination, Ending::ByUs, now);
        }
        assert!(budget.paths.len() <= 62, "{}", budget.paths.len());
    }

    #[test]
    fn what_was_not_opened_is_counted_and_nothing_else() {
        let (now, mut budget) = (now(), PortBudget::new(1_000, TimeWaitReuse::Never));
        budget.closed(None, broker(), Ending::ByUs, now);
        assert_eq!((budget.unmatched(), budget.pressure(now)), (1, None));
        budget.opened(None, broker(), now);
        budget.closed(None, broker(), Ending::Reset, now);
        budget.closed(None, broker(), Ending::ByUs, now);
        assert_eq!(budget.unmatched(), 2);
        check_in_use(&budget, now, 0);
    }

    #[test]
    fn no_range_at_all_gives_no_port() {
        let (now, mut budget) = (now(), PortBudget::new(0, TimeWaitReuse::Never));
        assert!(budget.choose(&[], broker(), now).is_err());
        assert_eq!(budget.next_warning(now), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        /// Never fewer than in the kernel, at most those of one second more, in bounded memory.
        #[test]
        fn it_counts_what_the_kernel_counts(
            steps in prop::collection::vec((0..3_u8, 0..2_500_u64), 1..400),
        ) {
            let mut now = now();
            let mut budget = PortBudget::new(28_232, TimeWaitReuse::Never);
            let (mut live, mut closed) = (0_u32, Vec::new());
            for (what, ms) in steps {
                now += Duration::from_millis(ms);
                match what {
                    0 | 1 => {
                        budget.opened(None, broker(), now);
                        live += 1;
                    }
                    _ if live > 0 => {
                        budget.closed(None, broker(), Ending::ByUs, now);
                        live -= 1;
                        closed.push(now);
                    }
                    _ => {}
                }
                let within = |age| closed.iter().filter(|at| now - **at < age).count() as u32;
                let in_use = budget.pressure(now).map_or(0, |pressure| pressure.in_use);
                prop_assert!(in_use >= live + within(TIME_WAIT));
                prop_assert!(in_use <= live + within(TIME_WAIT + GRAIN));
                for used in budget.paths.values() {
                    prop_assert!(used.time_wait.len() <= 62);
                }
            }
        }
    }
}

//! Processes near their limit.

use std::time::Duration;

use proptest::prelude::*;

use super::super::host::{Host, files, process, row};
use crate::{
    correlate::Config,
    detect::Kind,
    incident::{Detail, Finding, FindingEvent},
    model::{KernelEvent, OpenFiles},
};

/// Shows numbers of one process, one every 10 seconds.
fn shown(limit: u64, numbers: &[u32]) -> Host {
    let mut host = Host::new(Config::default());
    for number in numbers {
        host.processes = vec![row(7, files(*number), limit)];
        host.look();
        host.pass(10.0);
    }
    host
}

#[test]
fn it_opens_at_eighty_percent_and_clears_five_below() {
    let host = shown(1_000, &[700, 799, 800, 760, 750, 749, 700]);
    assert_eq!(
        host.told(Kind::FdPressure).iter().filter(|line| !line.contains("updated")).count(),
        2
    );
    assert_eq!(
        host.told(Kind::FdPressure)[0],
        "20 opened: program-7 (pid 7) uses 800 of 1000 descriptors (80 %); what grows fastest are \
         files, by 298 a minute"
    );
    let last = host.told(Kind::FdPressure).pop();
    assert_eq!(
        last.as_deref(),
        Some("50 cleared: cleared: fd-pressure of program-7 (pid 7) is over, after 30 s")
    );
}

#[test]
fn who_locks_itself_in_or_has_no_limit_is_left_alone() {
    for (limit, open) in [(u64::MAX, 1_000_000), (63, 63), (0, 5), (100, 111), (100, 79)] {
        let host = shown(limit, &[open; 3]);
        assert_eq!(host.counts(Kind::FdPressure), [0, 0, 0], "{open} of {limit}");
    }
    // A few numbers above the limit are from before it was set.
    for (limit, open) in [(64, 52), (100, 100), (100, 80), (100, 101), (100, 110)] {
        assert_eq!(shown(limit, &[open]).counts(Kind::FdPressure)[0], 1, "{open} of {limit}");
    }
}

#[test]
fn a_wave_over_the_bar_is_one_finding_and_not_many() {
    let wave: Vec<u32> = (0..360).map(|look| if look % 2 == 0 { 12_020 } else { 16_500 }).collect();
    let host = shown(20_000, &wave);
    assert_eq!(host.counts(Kind::FdPressure)[0], 2, "{:?}", host.told(Kind::FdPressure));
    assert!(host.counts(Kind::FdPressure)[1] < 20);
}

#[test]
fn a_leak_is_forecast_and_what_grows_is_named() {
    let mut host = Host::new(Config::default());
    let broker = "10.0.0.9:1883".parse().expect("invariant: an address");
    let local = "10.0.0.1".parse().expect("invariant: an address");
    host.connect(7, local, broker, 400);
    for look in 0..40 {
        let leaked = 20 * (look - 20_i32).max(0) as u32;
        host.connect(7, local, broker, if leaked > 0 { 20 } else { 0 });
        let open = OpenFiles { tcp: 400 + leaked, pipes: 60 + leaked / 20, files: 40, ..files(0) };
        host.processes = vec![row(7, open, 1_024)];
        host.look();
        host.pass(10.0);
    }
    let is_forecast =
        |it: &&Finding| it.event == FindingEvent::Opened && it.kind == Kind::FdPressure;
    let opened = host.findings.iter().find(is_forecast);
    let opened = opened.expect("it is forecast");
    let Some(Detail::Pressure { open, exhausted_in, growing, per_minute, by_kind, .. }) =
        opened.detail.clone()
    else {
        panic!("{opened:?}")
    };
    assert_eq!(opened.kind, Kind::FdPressure);
    // 10 % and more before it would be seen by the percentage.
    assert!((600..720).contains(&open), "{open}");
    assert_eq!(by_kind.sum(), open);
    assert!((120..=130).contains(&per_minute), "{per_minute}");
    let left = exhausted_in.expect("it is a forecast").as_secs();
    assert!(left.abs_diff((1_024 - open) / 2) < 20, "{left}");
    let what: Vec<_> = growing.iter().map(|it| it.what.as_str()).collect();
    assert_eq!(what, ["10.0.0.9:1883", "pipes"]);
    assert!(opened.message.contains(", and at this pace none is left in "), "{}", opened.message);
    assert!(
        opened.message.contains("what grows fastest are the connections to 10.0.0.9:1883, by "),
        "{}",
        opened.message
    );
    assert_eq!(host.counts(Kind::FdPressure)[0], 1);
}

#[test]
fn a_forecast_ends_when_the_growth_does() {
    let mut numbers = vec![500; 20];
    numbers.extend((1..=12).map(|look| 500 + 20 * look));
    let forecast = shown(1_024, &numbers);
    assert_eq!(forecast.counts(Kind::FdPressure), [1, forecast.counts(Kind::FdPressure)[1], 0]);
    numbers.extend([740; 15]);
    let over = shown(1_024, &numbers);
    assert_eq!(over.counts(Kind::FdPressure)[2], 1, "{:?}", over.told(Kind::FdPressure));
}

#[test]
fn a_forecast_outlasts_a_pace_that_varies_a_little() {
    let mut numbers = vec![5_000; 20];
    numbers.extend((1..=33).map(|look| 5_000 + 42 * look));
    let opened = shown(10_000, &numbers);
    assert_eq!(opened.counts(Kind::FdPressure)[0], 1);
    // 3.4 a second and not 4.2: none is left in 18 minutes at first.
    numbers.extend((1..=14).map(|look| 5_000 + 42 * 33 + 34 * look));
    let over = shown(10_000, &numbers);
    assert_eq!(over.counts(Kind::FdPressure)[2], 0, "{:?}", over.told(Kind::FdPressure));
}

#[test]
fn other_thresholds_count_at_once() {
    let mut host = shown(1_000, &[900]);
    let mut thresholds = Config::default().thresholds;
    thresholds.percent_in_use = 99;
    host.correlator.set_thresholds(thresholds);
    host.pass(1.0);
    let [opened, _, cleared] = host.counts(Kind::FdPressure);
    assert_eq!((opened, cleared), (1, 1));
}

#[test]
fn a_limit_that_is_raised_ends_it_at_once() {
    let mut host = shown(1_000, &[900]);
    host.processes = vec![row(7, files(900), 100_000)];
    host.look();
    assert_eq!(host.counts(Kind::FdPressure)[2], 1);
}

#[test]
fn an_exit_ends_it_and_says_so() {
    let mut host = shown(1_000, &[900]);
    host.event(KernelEvent::Exited { time: host.now, process: process(7) });
    host.pass(1.0);
    let last = host.told(Kind::FdPressure).pop();
    assert_eq!(
        last.as_deref(),
        Some(
            "10 cleared: cleared: fd-pressure of program-7 (pid 7): the process exited, after 10 s"
        )
    );
    assert!(host.correlator.process_row(process(7)).is_none());
}

#[test]
fn who_is_not_shown_any_more_is_forgotten_after_half_a_minute() {
    let mut host = shown(1_000, &[900]);
    host.processes.clear();
    for (second, is_known) in [(10, true), (20, true), (30, false)] {
        host.look();
        assert_eq!(host.correlator.process_row(process(7)).is_some(), is_known, "{second}");
        host.pass(10.0);
    }
    assert_eq!(host.counts(Kind::FdPressure)[2], 1);
}

#[test]
fn the_next_life_of_a_number_begins_anew() {
    let mut host = shown(1_000, &[900]);
    let mut next = row(7, files(20), 1_000);
    next.process.start_ns += 1;
    host.processes = vec![next.clone()];
    host.look();
    assert!(host.correlator.process_row(process(7)).is_none());
    assert_eq!(host.correlator.process_row(next.process), Some(&next));
    assert_eq!(host.counts(Kind::FdPressure)[2], 1);
}

#[test]
fn a_low_limit_with_many_sockets_is_told() {
    let mut host = Host::new(Config::default());
    let cases = [
        (999, 8_192, 0),
        (1_000, 8_193, 0),
        (1_000, 8_192, 1),
        (900, 8_192, 1),
        (899, 8_192, 0),
        (3_000, 4_096, 1),
        (3_000, 65_536, 0),
    ];
    for (tcp, limit, is_open) in cases {
        let mut row = row(7, OpenFiles { tcp, ..files(9) }, limit);
        row.limit.1 = 524_288;
        host.processes = vec![row];
        host.look();
        host.pass(10.0);
        let open = host.correlator.open_incidents();
        let open = open.filter(|it| it.finding.kind == Kind::FdLimitLow).count();
        assert_eq!(open, is_open, "{tcp} {limit}");
    }
    assert_eq!(
        host.told(Kind::FdLimitLow)[0],
        "20 opened: program-7 (pid 7) has 1000 TCP sockets, and may have only 8192 descriptors (it \
         could raise that to 524288): a reconnect storm, which doubles the sockets for a moment, \
         can exhaust them"
    );
}

#[test]
fn a_budget_puts_it_off() {
    let mut config = Config::default();
    config.budgets.set(Kind::FdPressure, Duration::from_secs(25));
    let mut host = Host::new(config);
    for number in [900, 900, 100, 900, 900, 900, 900] {
        host.processes = vec![row(7, files(number), 1_000)];
        host.look();
        host.pass(10.0);
    }
    let told = host.told(Kind::FdPressure);
    assert!(told[0].starts_with("55 opened"), "{told:?}");
    assert_eq!(host.counts(Kind::FdPressure)[0], 1);
}

#[test]
fn the_largest_are_followed_and_no_more() {
    let mut host = Host::new(Config::default());
    let mut shown = Vec::new();
    for shift in 0..3_u32 {
        // Each snapshot shows other small ones, and the same large one.
        let small = (0..6_000).map(|number| row(10_000 * (shift + 1) + number, files(9), 1_024));
        host.processes = small.collect();
        host.processes.push(row(7, files(900), 1_024));
        shown.extend(host.processes.iter().map(|row| row.process));
        host.look();
        host.pass(1.0);
    }
    assert_eq!(host.counts(Kind::FdPressure)[0], 1);
    shown.sort_unstable();
    shown.dedup();
    let followed = shown.iter().filter(|it| host.correlator.process_row(**it).is_some());
    assert_eq!(followed.count(), super::PROCESSES);
    assert!(host.correlator.process_row(process(7)).is_some());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// However fast or slow, from birth or late: what leaks is told before none is left.
    #[test]
    fn a_leak_is_told_before_the_end(
        limit in 256_u64..20_000,
        base in 0.01..0.7_f64,
        calm in 0_u32..60,
        looks in 12_u32..200,
    ) {
        let free = limit as f64 * (1.0 - base);
        let number = |look: u32| {
            let leaked = free * f64::from(look.saturating_sub(calm)) / f64::from(looks);
            (limit as f64 * base + leaked) as u32
        };
        let numbers: Vec<_> = (0..calm + looks).map(number).collect();
        let host = shown(limit, &numbers);
        prop_assert_eq!(host.counts(Kind::FdPressure)[0], 1, "{:?}", host.told(Kind::FdPressure));
        prop_assert_eq!(host.counts(Kind::FdPressure)[2], 0);
    }
}

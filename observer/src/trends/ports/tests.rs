//! Routes whose ports run out.

use super::super::host::Host;
use super::*;
use crate::correlate::Config;

const LOCAL: [u8; 4] = [10, 0, 0, 1];

fn broker() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 9], 1_883))
}

fn row(local: IpAddr, sockets: u32, time_wait: u32) -> PortRow {
    PortRow { local, remote: broker(), sockets, time_wait }
}

/// Shows numbers of one route, one every 10 seconds: sockets and those in TIME_WAIT.
fn shown(local: impl Into<IpAddr>, numbers: &[(u32, u32)]) -> Host {
    let local = local.into();
    let mut host = Host::new(Config::default());
    host.connect(7, local, broker(), 30);
    host.connect(8, local, broker(), 20);
    // Of another route, and so of no interest.
    host.connect(9, local, SocketAddr::from(([10, 0, 0, 9], 1_884)), 90);
    for (sockets, time_wait) in numbers {
        host.ports = vec![row(local, *sockets, *time_wait)];
        host.look();
        host.pass(10.0);
    }
    host
}

#[test]
fn it_opens_at_eighty_percent_of_the_half_and_clears_five_below() {
    // 80 % of 14,116 are 11,292.8, 75 % are 10,587.
    let host = shown(LOCAL, &[(11_292, 0), (11_000, 293), (10_587, 0), (10_586, 0)]);
    let told: Vec<_> = host.told(Kind::PortPressure);
    let told: Vec<_> = told.iter().filter(|line| !line.contains("updated")).collect();
    assert_eq!(
        told,
        [
            "10 opened: 11293 of the 28232 local ports from 10.0.0.1 to 10.0.0.9:1883 are in use, \
             293 of them in TIME_WAIT: connect(2) tries 14116 of them first and is slow beyond; \
             program-7 (pid 7) has most of the sockets, 30",
            "30 cleared: cleared: port-pressure of program-7 (pid 7) to 10.0.0.9:1883 is over, \
             after 20 s",
        ]
    );
}

#[test]
fn time_wait_over_loopback_is_no_pressure() {
    assert_eq!(shown([127, 0, 0, 1], &[(3_000, 20_000)]).counts(Kind::PortPressure)[0], 0);
    assert_eq!(shown([127, 0, 0, 1], &[(11_293, 0)]).counts(Kind::PortPressure)[0], 1);
    assert_eq!(shown(LOCAL, &[(3_000, 20_000)]).counts(Kind::PortPressure)[0], 1);
}

#[test]
fn what_nobody_has_is_no_finding_and_what_somebody_had_is_still_theirs() {
    let mut host = Host::new(Config::default());
    let local = IpAddr::from(LOCAL);
    host.ports = vec![row(local, 0, 12_000)];
    host.look();
    host.pass(1.0);
    assert_eq!(host.counts(Kind::PortPressure)[0], 0);

    host.connect(7, local, broker(), 5);
    host.look();
    host.pass(1.0);
    assert_eq!(host.counts(Kind::PortPressure)[0], 1);
    // It begins with who has them.
    let age = host.findings.last().map(crate::incident::Finding::age);
    assert!(age.is_some_and(|age| age.as_millis() < 500), "{age:?}");
    host.rows.clear();
    host.look();
    host.pass(1.0);
    assert_eq!(host.counts(Kind::PortPressure)[2], 0);
    let open = host.correlator.open_incidents().find(|it| it.finding.kind == Kind::PortPressure);
    let message = open.map(|it| it.finding.message.clone()).unwrap_or_default();
    assert!(message.ends_with("program-7 (pid 7) had most of the sockets"), "{message}");
    host.ports.clear();
    host.look();
    assert_eq!(host.counts(Kind::PortPressure)[2], 1);
}

#[test]
fn it_ends_with_the_process_though_its_ports_wait() {
    let mut host = shown(LOCAL, &[(12_000, 0)]);
    for pid in [7, 8] {
        let process = super::super::host::process(pid);
        host.event(crate::model::KernelEvent::Exited { time: host.now, process });
    }
    host.rows.clear();
    host.ports = vec![row(LOCAL.into(), 0, 12_000)];
    host.look();
    let last = host.told(Kind::PortPressure).pop().unwrap_or_default();
    assert!(last.contains("cleared") && last.contains("the process exited"), "{last}");
}

#[test]
fn the_halves_are_counted_as_the_kernel_does() {
    // `remaining &= ~1U` for an odd number, and half as many steps of two.
    let cases = [
        ((32_768, 60_999), Some((28_232, 14_116))),
        ((1_024, 65_535), Some((64_512, 32_256))),
        ((10, 12), Some((3, 1))),
        ((10, 10), Some((1, 1))),
        ((11, 10), None),
        ((0, u16::MAX), Some((65_536, 32_768))),
    ];
    for (range, expected) in cases {
        assert_eq!(ports(range), expected, "{range:?}");
    }
}

#[test]
fn another_range_moves_the_bar() {
    let mut config = Config::default();
    for (range, expected) in [((1_024, 65_535), 0), ((32_768, 60_999), 1)] {
        config.thresholds.port_range = range;
        let mut host = Host::new(config.clone());
        host.connect(7, LOCAL.into(), broker(), 5);
        host.ports = vec![row(LOCAL.into(), 14_000, 0)];
        host.look();
        host.pass(1.0);
        assert_eq!(host.counts(Kind::PortPressure)[0], expected);
        // The kernel says it, and no config.
        host.correlator.set_thresholds(Config::default().thresholds);
        host.pass(1.0);
        assert_eq!(host.counts(Kind::PortPressure)[0], expected);
    }
}

#[test]
fn routes_are_told_apart_and_bounded() {
    let mut host = Host::new(Config::default());
    for number in 0..400_u16 {
        let local = IpAddr::from([10, 1, (number >> 8) as u8, number as u8]);
        host.connect(7, local, broker(), 1);
        host.ports.push(row(local, 11_500 + u32::from(number), 0));
    }
    host.look();
    host.pass(1.0);
    // The fullest of them.
    assert_eq!(host.counts(Kind::PortPressure)[0], ROUTES);
    let open = host.correlator.open_incidents();
    let least = open.filter_map(|it| match it.finding.detail {
        Some(Detail::Ports { in_use, .. }) => Some(in_use),
        _ => None,
    });
    assert_eq!(least.min(), Some(11_500 + 400 - ROUTES as u64));
    host.ports.clear();
    host.look();
    host.pass(1.0);
    assert_eq!(host.counts(Kind::PortPressure)[2], ROUTES);
}

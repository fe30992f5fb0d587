//! Processes at the end of their descriptors and ports, on the real kernel.

use harness::netns::Netns;
use harness::{App, Finding, Watch};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

/// Descriptors that a program may have in these scenarios.
const LIMIT: u64 = 1_200;

/// A Python program that may have [`LIMIT`] descriptors and has a listener of its own; its
/// descriptor and its port.
fn limited(wrapper: &[&str]) -> (App, u16) {
    let limit = format!("--nofile={LIMIT}:{}", hard());
    let mut app = App::python_through(&[wrapper, &["prlimit", limit.as_str()][..]].concat());
    let (_, port) = app.listen("127.0.0.1");
    (app, port)
}

fn raise(pid: u32) {
    // Up to the hard limit every process may; beyond it not even every root.
    let own = Rlimit { current: Some(hard()), maximum: Some(hard()) };
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("invariant: a process number");
    prlimit(Some(pid), Resource::Nofile, own).expect("a soft limit may be raised");
}

/// The hard limit that this process has.
fn hard() -> u64 {
    getrlimit(Resource::Nofile).maximum.unwrap_or(1 << 20)
}

fn number(finding: &Finding, field: &str) -> u64 {
    finding.detail[field].as_u64().unwrap_or_else(|| panic!("`{field}` in {:?}", finding.detail))
}

/// The listener's queue holds what nobody accepts, so all descriptors are those of connections.
#[test]
fn a_limit_that_is_near_is_told_until_it_is_raised() {
    let (mut app, port) = limited(&[]);
    let watch = Watch::of(app.pid());
    app.run(&format!("connect-many 1000 127.0.0.1 {port}"));
    let low = watch.opened("fd-limit-low", app.pid());
    assert_eq!((number(&low, "limit"), number(&low, "hard_limit")), (LIMIT, hard()));
    assert!((1_000..1_010).contains(&number(&low, "connections")), "{:?}", low.detail);

    let pressure = watch.opened("fd-pressure", app.pid());
    assert!(number(&pressure, "open") >= LIMIT * 80 / 100, "{:?}", pressure.detail);
    assert_eq!(number(&pressure, "limit"), LIMIT);

    raise(app.pid());
    watch.cleared(&low);
    watch.cleared(&pressure);
    app.kill();
}

#[test]
fn a_refused_descriptor_is_told_at_once() {
    let (mut app, port) = limited(&[]);
    let watch = Watch::of(app.pid());
    app.run(&format!("connect-many 1100 127.0.0.1 {port}"));
    // It fails, and says so; nobody listens.
    app.send(&format!("connect-many 200 127.0.0.1 {port}"));
    let exhausted = watch.opened("exhausted", app.pid());
    assert_eq!(exhausted.detail["error"], "EMFILE", "{}", exhausted.message);
    assert_eq!(exhausted.detail["call"], "socket");
    assert!(exhausted.message.contains("has no descriptor left: refused"), "{}", exhausted.message);
    app.kill();
    let cleared = watch.cleared(&exhausted);
    assert!(cleared.message.contains("the process exited"), "{}", cleared.message);
}

/// A range of 400 ports: 200 of one parity, of which 160 are the level.
#[test]
fn ports_that_run_out_are_told_before_and_after() {
    let netns = Netns::new();
    let range = "net.ipv4.ip_local_port_range=40000 40399";
    let status = netns.command().args(["sysctl", "-qw", range]).status();
    assert!(status.is_ok_and(|status| status.success()), "sysctl is installed");
    // The listener takes a port of the range too.
    let (mut app, port) = limited(&netns.wrapper());
    let inside = netns.wrapper().map(str::to_owned);
    let watch = Watch::builder()
        .through(&inside)
        .pid(app.pid())
        .args(["--snapshot-interval", "200ms"])
        .start();
    app.run(&format!("connect-many 170 127.0.0.1 {port}"));
    let pressure = watch.opened("port-pressure", app.pid());
    assert_eq!(pressure.remote, format!("127.0.0.1:{port}"));
    assert_eq!((number(&pressure, "half"), number(&pressure, "range")), (200, 400));
    assert!(number(&pressure, "in_use") >= 160, "{:?}", pressure.detail);

    app.send(&format!("connect-many 300 127.0.0.1 {port}"));
    let exhausted = watch.opened("exhausted", app.pid());
    assert_eq!(exhausted.detail["error"], "EADDRNOTAVAIL", "{}", exhausted.message);
    assert_eq!(exhausted.detail["call"], "connect");
    app.kill();
    watch.cleared(&pressure);
    watch.cleared(&exhausted);
}

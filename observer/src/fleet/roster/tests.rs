use std::time::Duration;

use futures_util::FutureExt as _;
use pool::{Broker, Device, Event, Events, Limits, Next, OperatorError, testing::TestBroker};

use super::*;
use crate::fleet::{SubscriptionSpec, scratch::Scratch};

/// Nobody listens there: devices try to connect, which is all the same here.
fn pool() -> Pool {
    Pool::builder(broker()).build().expect("a pool can be made")
}

fn broker() -> Broker {
    Broker::parse("mqtt://127.0.0.1:1").expect("invariant: a good address")
}

/// A fleet with a store and a file of its own.
struct Bench {
    scratch: Scratch,
    fleet: config::Fleet,
}

impl Bench {
    fn new(file: &str) -> Self {
        let scratch = Scratch::new();
        let fleet = config::Fleet {
            file: Some(scratch.join("fleet.csv")),
            store: scratch.join("devices.redb"),
            template: Template::default(),
        };
        let bench = Self { scratch, fleet };
        bench.write(file);
        bench
    }

    fn write(&self, file: &str) {
        std::fs::write(self.scratch.join("fleet.csv"), file).expect("a file can be written");
    }

    fn open(&self) -> (Roster, Loaded) {
        Roster::open(&self.fleet, pool()).expect("the fleet opens")
    }

    /// What a restart would find.
    fn stored(self, roster: Roster) -> Vec<String> {
        drop(roster);
        let store = Store::open(&self.fleet.store).expect("nobody has it any more");
        let devices = store.all().expect("it can be read");
        devices.into_iter().map(|device| device.id).collect()
    }
}

fn device(id: &str) -> DeviceSpec {
    DeviceSpec { id: id.into(), ..DeviceSpec::default() }
}

fn list(roster: &Roster) -> Vec<(String, Origin)> {
    let entries = roster.list();
    let listed: Vec<_> = entries.iter().map(|it| (it.id.to_string(), it.origin)).collect();
    for entry in &entries {
        assert_eq!(roster.get(&entry.id).as_ref(), Some(entry));
    }
    listed
}

/// What the pool has, which must be what the roster says.
fn in_pool(roster: &Roster) -> Vec<String> {
    let mut ids: Vec<_> = roster.0.pool.devices().iter().map(ToString::to_string).collect();
    ids.sort();
    ids
}

fn names(roster: &Roster) -> Vec<String> {
    list(roster).into_iter().map(|(id, _)| id).collect()
}

/// Which devices left the pool, as far as the pool has told by now.
fn removals(events: &mut Events) -> Vec<String> {
    let mut removed = Vec::new();
    while let Some(Some(next)) = events.next().now_or_never() {
        match next {
            Next::Event(Event::Removed { device }) => removed.push(device.to_string()),
            Next::Event(_) => {}
            Next::Gap(lost) => panic!("{lost} events are lost"),
        }
    }
    removed
}

#[tokio::test]
async fn a_device_of_the_api_survives_a_restart() {
    let bench = Bench::new("id\nf\n");
    let (roster, loaded) = bench.open();
    assert_eq!(loaded, Loaded { file: 1, api: 0, left_out: Vec::new() });
    roster.add(device("a")).await.expect("it is new");
    let both = [("a".to_owned(), Origin::Api), ("f".to_owned(), Origin::File)];
    assert_eq!(list(&roster), both);
    drop(roster);
    let (roster, loaded) = bench.open();
    assert_eq!(loaded, Loaded { file: 1, api: 1, left_out: Vec::new() });
    assert_eq!(list(&roster), both);
    assert_eq!(in_pool(&roster), ["a", "f"]);
    roster.remove("a").await.expect("it is the API's");
    assert_eq!(in_pool(&roster), ["f"]);
    assert_eq!(names(&roster), ["f"]);
    assert_eq!(bench.stored(roster), [] as [String; 0]);
}

#[tokio::test]
async fn what_cannot_be_added_changes_nothing() {
    let bench = Bench::new("id,client_id\nf,x\n");
    let (roster, _) = bench.open();
    roster.add(device("a")).await.expect("it is new");
    let text = |result: Result<(), FleetError>| result.expect_err("invariant: bad").to_string();
    let filter = SubscriptionSpec { filter: "a/#/b".into(), qos: 0 };
    let clash = DeviceSpec { client_id: Some("x".into()), ..device("b") };
    let bad = DeviceSpec { subscriptions: Some(vec![filter]), ..device("b") };
    let cases = [
        (device("a"), "device \"a\" is there already"),
        (device("f"), "device \"f\" is there already"),
        (clash, "client id \"x\" is device f's"),
        (device("x"), "client id \"x\" is device f's"),
        (bad, "invalid topic filter"),
        (device(""), "invalid device id: given nothing"),
    ];
    for (spec, expected) in cases {
        let text = text(roster.add(spec).await);
        assert!(text.contains(expected), "{text}");
    }
    assert_eq!(names(&roster), ["a", "f"]);
    assert_eq!(in_pool(&roster), ["a", "f"]);
    assert_eq!(bench.stored(roster), ["a"]);
}

#[tokio::test]
async fn what_the_pool_refuses_is_taken_out_of_the_store_again() {
    let bench = Bench::new("id\n");
    let (roster, _) = bench.open();
    // Behind the roster's back, so that only the pool knows.
    roster.0.pool.add(Device::new("a").expect("invariant: a good name")).expect("it is new");
    let error = roster.add(device("a")).await.expect_err("invariant: the pool has it");
    assert!(matches!(error, FleetError::Pool(_)), "{error:?}");
    assert_eq!(names(&roster), [] as [String; 0]);
    assert_eq!(bench.stored(roster), [] as [String; 0]);
}

#[tokio::test]
async fn only_devices_of_the_api_are_removed() {
    let bench = Bench::new("id\nf\n");
    let (roster, _) = bench.open();
    let error = roster.remove("f").await.expect_err("invariant: the file's");
    assert!(matches!(error, FleetError::OfTheFile { .. }), "{error:?}");
    assert!(error.to_string().contains("remove it there"), "{error}");
    let error = roster.remove("a").await.expect_err("invariant: unknown");
    assert!(matches!(error, FleetError::Unknown { .. }), "{error:?}");
    assert_eq!(in_pool(&roster), ["f"]);
}

#[tokio::test]
async fn a_clash_at_the_start_is_reported_and_the_file_wins() {
    let mut bench = Bench::new("id\n");
    let (roster, _) = bench.open();
    for id in ["a", "b", "c"] {
        roster.add(device(id)).await.expect("it is new");
    }
    drop(roster);
    bench.write("id,client_id\na,\nf,b\n");
    let (roster, loaded) = bench.open();
    assert_eq!((loaded.file, loaded.api), (2, 1));
    let left_out: Vec<_> =
        loaded.left_out.iter().map(|it| (it.id.as_str(), it.is_in_file)).collect();
    assert_eq!(left_out, [("a", true), ("b", false)]);
    assert_eq!(in_pool(&roster), ["a", "c", "f"]);
    let error = roster.add(device("b")).await.expect_err("invariant: it is in the store");
    assert!(matches!(error, FleetError::Exists { .. }), "{error:?}");
    // One that is left out can be forgotten, and another one comes back: it keeps its session.
    roster.remove("b").await.expect("it is the API's");
    bench.write("id\nf\n");
    let mut events = roster.0.pool.events();
    let reloaded = roster.reload(&bench.fleet).await.expect("the file is well");
    assert_eq!((reloaded.added, reloaded.removed, reloaded.replaced, reloaded.kept), (0, 0, 1, 2));
    assert_eq!(list(&roster)[0], ("a".to_owned(), Origin::Api));
    assert_eq!(removals(&mut events), ["f"]);
    assert_eq!(in_pool(&roster), ["a", "c", "f"]);
    bench.fleet.file = None;
    let reloaded = roster.reload(&bench.fleet).await.expect("no file is no fault");
    assert_eq!((reloaded.removed, reloaded.kept), (1, 2));
    assert_eq!(bench.stored(roster), ["a", "c"]);
}

#[tokio::test]
async fn a_reload_applies_the_difference() {
    let mut bench =
        Bench::new("id,client_id,keep_alive_s\nkept,,\ngone,,\nchanged,,5\nx,1,\ny,2,\n");
    let (roster, _) = bench.open();
    roster.add(device("api")).await.expect("it is new");
    bench.write("id,client_id,keep_alive_s\nkept,,\nchanged,,6\nx,2,\ny,1,\nnew,,\n");
    let reloaded = roster.reload(&bench.fleet).await.expect("the file is well");
    let expected = Reloaded { added: 1, removed: 1, replaced: 3, kept: 2, left_out: Vec::new() };
    assert_eq!(reloaded, expected);
    assert_eq!(in_pool(&roster), ["api", "changed", "kept", "new", "x", "y"]);
    assert_eq!(names(&roster), in_pool(&roster));
    assert_eq!(roster.get("x").map(|entry| entry.client_id.to_string()), Some("2".to_owned()));
    let again = roster.reload(&bench.fleet).await.expect("the file is well");
    assert_eq!(again, Reloaded { kept: 6, ..Reloaded::default() });
    // A new template makes all devices new that it says something about.
    bench.fleet.template.keep_alive = Some(Duration::from_secs(7));
    let reloaded = roster.reload(&bench.fleet).await.expect("the template is well");
    assert_eq!((reloaded.replaced, reloaded.kept), (5, 1));
    roster.add(device("b")).await.expect("it is new");
    let spec = roster.0.members().get("b").map(|member| member.spec.unpack().keep_alive_s);
    assert_eq!(spec, Some(Some(7)), "the new template is not used");
}

#[tokio::test]
async fn a_failed_reload_keeps_the_old_fleet() {
    let bench = Bench::new("id\nf\ng\n");
    let (roster, _) = bench.open();
    roster.add(device("a")).await.expect("it is new");
    let before = roster.list();
    let mut events = roster.0.pool.events();
    let with = |change: fn(&mut config::Fleet)| {
        let mut fleet = bench.fleet.clone();
        change(&mut fleet);
        fleet
    };
    let cases: [(&str, config::Fleet, &str); 7] = [
        ("id\nf\nf\n", bench.fleet.clone(), "line 3: device \"f\" stands in line 2 already"),
        (
            "id,client_id\nf,a\n",
            bench.fleet.clone(),
            "device \"a\" of the API: client id \"a\" is device f's",
        ),
        ("id\nf\n", with(|it| it.store = "elsewhere".into()), "fleet.store cannot change"),
        ("id\nf\n", with(|it| it.file = Some("none.csv".into())), "none.csv: No such file"),
        ("id\nf\n", with(|it| it.file = Some("none".into())), "its ending tells no format"),
        (
            "id\nf\n",
            with(|it| it.template.client_id = Some("{x}".into())),
            "the fleet's template: invalid client id",
        ),
        (
            "id\nf\n",
            with(|it| it.template.client_id = Some("x".into())),
            "device \"a\" of the API: client id \"x\" is",
        ),
    ];
    for (file, fleet, expected) in cases {
        bench.write(file);
        let error = roster.reload(&fleet).await.expect_err("invariant: it is wrong").to_string();
        assert!(error.contains(expected), "{expected}: {error}");
        assert_eq!(roster.list(), before);
        assert_eq!(in_pool(&roster), ["a", "f", "g"]);
    }
    assert_eq!(removals(&mut events), [] as [String; 0], "a device went and came again");
}

#[tokio::test]
async fn a_reload_that_the_pool_refuses_is_undone() {
    let bench = Bench::new("id,client_id,keep_alive_s\nf,,1\ngone,,\nx,1,\ny,2,\n");
    let (roster, _) = bench.open();
    roster.add(device("api")).await.expect("it is new");
    let before = roster.0.members().clone();
    roster.0.pool.add(Device::new("m").expect("invariant: a good name")).expect("it is new");
    bench.write("id,client_id,keep_alive_s\nf,,2\nx,2,\ny,1,\nm,,\nn,,\napi,,\n");
    let error = roster.reload(&bench.fleet).await.expect_err("invariant: the pool has m");
    assert!(matches!(error, FleetError::Pool(_)), "{error:?}");
    assert_eq!(*roster.0.members(), before);
    assert_eq!(in_pool(&roster), ["api", "f", "gone", "m", "x", "y"]);
    // Without the foreign device it goes through.
    roster.0.pool.remove("m").await.expect("it is there");
    let reloaded = roster.reload(&bench.fleet).await.expect("nothing is in the way");
    assert_eq!((reloaded.added, reloaded.removed, reloaded.replaced, reloaded.kept), (2, 1, 3, 1));
    assert_eq!(names(&roster), in_pool(&roster));
}

#[tokio::test]
async fn a_fleet_too_large_for_the_descriptors_is_refused_before_anything_happens() {
    let bench = Bench::new("id\n");
    let tight = Pool::builder(broker()).descriptor_headroom(u64::MAX).build();
    let tight = tight.expect("a pool can be made");
    let (roster, _) = Roster::open(&bench.fleet, tight.clone()).expect("no device, no descriptor");
    let is_budget = |error: &FleetError| {
        matches!(
            error,
            FleetError::Pool(pool::Error::Operator(OperatorError::DescriptorBudget { .. }))
        )
    };
    let error = roster.add(device("a")).await.expect_err("invariant: no room");
    assert!(is_budget(&error), "{error:?}");
    roster.reload(&bench.fleet).await.expect("nothing changes");
    bench.write("id\nf\n");
    let error = roster.reload(&bench.fleet).await.expect_err("invariant: no room");
    assert!(is_budget(&error), "{error:?}");
    drop(roster);
    let error = Roster::open(&bench.fleet, tight).expect_err("invariant: no room");
    assert!(is_budget(&error), "{error:?}");
}

#[tokio::test]
async fn a_reload_without_room_for_its_new_devices_ends_no_session() {
    let limit = pool().metrics().descriptor_limit;
    let tight = Pool::builder(broker()).descriptor_headroom(limit.saturating_sub(2_000)).build();
    let bench = Bench::new("id,keep_alive_s\nf,1\n");
    let (roster, _) = Roster::open(&bench.fleet, tight.expect("a pool can be made"))
        .expect("there is room for one device, and for what other tests have open");
    let many: String = (0..limit.min(2_000)).map(|number| format!("d{number},1\n")).collect();
    bench.write(&format!("id,keep_alive_s\nf,2\n{many}"));
    let mut events = roster.0.pool.events();
    let error = roster.reload(&bench.fleet).await.expect_err("invariant: no room");
    assert!(matches!(error, FleetError::Pool(pool::Error::Operator(_))), "{error:?}");
    assert_eq!(removals(&mut events), [] as [String; 0]);
    assert_eq!(in_pool(&roster), ["f"]);
}

#[tokio::test]
async fn changes_of_one_device_take_turns() {
    let bench = Bench::new("id\n");
    let (roster, _) = bench.open();
    let adds = (0..20).map(|_| roster.add(device("a")));
    let removes = (0..20).map(|_| roster.remove("a"));
    let (adds, removes) = futures_util::future::join(
        futures_util::future::join_all(adds),
        futures_util::future::join_all(removes),
    )
    .await;
    let added = adds.iter().filter(|result| result.is_ok()).count();
    let removed = removes.iter().filter(|result| result.is_ok()).count();
    assert!(added >= 1);
    for error in adds.into_iter().chain(removes).filter_map(Result::err) {
        let fits = matches!(error, FleetError::Exists { .. } | FleetError::Unknown { .. });
        assert!(fits, "{error:?}");
    }
    assert_eq!(names(&roster).len(), added - removed);
    assert_eq!(in_pool(&roster), names(&roster));
    let names = names(&roster);
    assert_eq!(bench.stored(roster), names);
}

#[tokio::test]
async fn who_hangs_up_takes_nothing_back() {
    let bench = Bench::new("id\n");
    let (roster, _) = bench.open();
    tokio::select! {
        biased;
        _ = roster.add(device("a")) => panic!("the disk cannot be so fast"),
        () = ready(()) => {}
    }
    let error = roster.add(device("a")).await.expect_err("invariant: it is done before");
    assert!(matches!(error, FleetError::Exists { .. }), "{error:?}");
    tokio::select! {
        biased;
        _ = roster.remove("a") => panic!("the disk cannot be so fast"),
        () = ready(()) => {}
    }
    let error = roster.remove("a").await.expect_err("invariant: it is done before");
    assert!(matches!(error, FleetError::Unknown { .. }), "{error:?}");
    assert_eq!(in_pool(&roster), [] as [String; 0]);
    assert_eq!(bench.stored(roster), [] as [String; 0]);
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..1_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited 10 s until {what}");
}

/// With real sessions: unchanged devices keep theirs, and no device ever has two.
#[tokio::test]
async fn a_reload_touches_only_the_sessions_of_what_changed() {
    let broker = TestBroker::start().await.expect("a broker can be started");
    let limits = Limits { connect_spacing: Duration::ZERO, ..Limits::adaptive() };
    let url = Broker::parse(&broker.url()).expect("invariant: a good address");
    let pool = Pool::builder(url).limits(limits).build().expect("a pool can be made");
    let rows = |range: std::ops::Range<u32>, keep_alive: u32| {
        range.map(|number| format!("d{number},{keep_alive}\n")).collect::<String>()
    };
    let header = "id,keep_alive_s\n";
    // 50 are kept, 100 changed, 100 gone; the API has one.
    let bench = Bench::new(&format!("{header}{}{}", rows(0..50, 30), rows(50..250, 30)));
    let (roster, _) = Roster::open(&bench.fleet, pool.clone()).expect("the fleet opens");
    roster.add(device("api")).await.expect("it is new");
    until("all are online", || pool.status().online == 251).await;
    let sockets = || -> BTreeMap<String, u64> {
        let claims = pool.registry().snapshot().into_iter();
        let claims = claims.map(|claim| (claim.device.to_string(), claim.cookie));
        claims
            .filter(|(id, _)| id == "api" || id[1..].parse().is_ok_and(|id: u32| id < 50))
            .collect()
    };
    let before = sockets();
    assert_eq!(before.len(), 51);

    // 100 are new.
    let list = format!("{header}{}{}{}", rows(0..50, 30), rows(50..150, 60), rows(250..350, 30));
    bench.write(&list);
    let reloaded = roster.reload(&bench.fleet).await.expect("the file is well");
    let expected =
        Reloaded { added: 100, removed: 100, replaced: 100, kept: 51, left_out: Vec::new() };
    assert_eq!(reloaded, expected);
    until("all are online", || pool.status().online == 251).await;
    assert_eq!(sockets(), before);
    let counters = broker.counters();
    assert_eq!((counters.overlaps, counters.takeovers, counters.most_at_once), (0, 0, 1));
    assert_eq!(counters.connects, 251 + 200);
    until("the broker has no other connection", || broker.counters().open == 251).await;
    roster.remove("api").await.expect("it is the API's");
    until("its connection is gone", || broker.counters().open == 250).await;
    pool.shutdown().await;
    broker.shutdown().await;
}

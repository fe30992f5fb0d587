use std::{
    collections::BTreeSet,
    env,
    hash::{BuildHasher as _, Hasher as _, RandomState},
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use redb::{Database, TableDefinition};

use super::{DEVICES, Store, StoreError};
use crate::fleet::{DeviceSpec, FleetError, Secret, SubscriptionSpec, WillSpec, scratch::Scratch};

fn device(id: &str) -> DeviceSpec {
    DeviceSpec { id: id.into(), ..DeviceSpec::default() }
}

fn open(path: &Path) -> Store {
    Store::open(path).expect("the store opens")
}

fn ids(store: &Store) -> Vec<String> {
    let devices = store.all().expect("the store can be read");
    devices.into_iter().map(|device| device.id).collect()
}

#[test]
fn what_was_put_is_there_after_reopening() {
    let scratch = Scratch::new();
    let path = scratch.join("devices.redb");
    let whole = DeviceSpec {
        client_id: Some("c".into()),
        username: Some("u".into()),
        password: Some(Secret("geheim".into())),
        keep_alive_s: Some(65_535),
        priority: Some("low".into()),
        will: Some(WillSpec { topic: "t".into(), payload: "p\n".into(), qos: 2, retain: true }),
        subscriptions: Some(vec![SubscriptionSpec { filter: "f/#".into(), qos: 1 }]),
        ..device("größe")
    };
    let store = open(&path);
    assert_eq!(store.all().expect("it can be read"), []);
    store.put(&whole).expect("it takes a device");
    store.put(&device("b")).expect("it takes a device");
    store.put(&DeviceSpec { keep_alive_s: Some(1), ..device("b") }).expect("it replaces one");
    store.put(&device("c")).expect("it takes a device");
    store.remove("c").expect("it forgets a device");
    store.remove("never").expect("nothing is nothing");
    drop(store);
    let expected = [DeviceSpec { keep_alive_s: Some(1), ..device("b") }, whole];
    assert_eq!(open(&path).all().expect("it can be read"), expected);
    let mode = path.metadata().expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let names = std::fs::read_dir(scratch.path()).expect("it is there").count();
    assert_eq!(names, 1, "a draft was left");
}

#[test]
fn a_second_opener_is_told_so() {
    let scratch = Scratch::new();
    let path = scratch.join("devices.redb");
    let first = open(&path);
    let error = Store::open(&path).expect_err("invariant: it is in use");
    assert!(matches!(error, StoreError::InUse { .. }), "{error:?}");
    assert!(error.to_string().contains("is a sockwarden running already?"), "{error}");
    first.put(&device("a")).expect("the first is not disturbed");
    drop(first);
    assert_eq!(ids(&open(&path)), ["a"]);
}

#[test]
fn a_directory_that_is_not_there_is_not_made() {
    let scratch = Scratch::new();
    let error = Store::open(&scratch.join("no/devices.redb")).expect_err("invariant: no directory");
    assert!(matches!(error, StoreError::System { .. }), "{error:?}");
    assert!(error.to_string().contains("No such file or directory"), "{error}");
    assert!(!scratch.join("no").exists());
    let error = Store::open(scratch.path()).expect_err("invariant: a directory");
    assert!(matches!(error, StoreError::System { .. }), "{error:?}");
}

#[test]
fn a_file_that_is_no_store_is_named_and_left_alone() {
    let scratch = Scratch::new();
    let path = scratch.join("devices.redb");
    for bytes in [b"x".to_vec(), b"id,client_id\n".repeat(1_000), vec![0; 100_000]] {
        std::fs::write(&path, &bytes).expect("a file can be written");
        let error = Store::open(&path).expect_err("invariant: no store");
        assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
        let text = error.to_string();
        assert!(
            text.contains("devices.redb is damaged") && text.contains("move it away"),
            "{text}"
        );
        assert_eq!(std::fs::read(&path).expect("it is there"), bytes);
    }
}

/// Each damage is found, or has hit nothing that counts. There is no panic and no wrong device.
#[test]
fn a_damaged_store_is_found() {
    let scratch = Scratch::new();
    let path = scratch.join("devices.redb");
    let store = open(&path);
    let all: Vec<String> = (0..40).map(|number| format!("device-{number:02}")).collect();
    for id in &all {
        store.put(&device(id)).expect("it takes a device");
    }
    drop(store);
    let good = std::fs::read(&path).expect("it is there");
    let used: Vec<usize> = (0..good.len()).filter(|at| good[*at] != 0).collect();
    let mut found = 0;
    for round in 0..60 {
        let mut bad = good.clone();
        match round % 3 {
            0 => bad[used[used.len() * round / 60]] ^= 0xff,
            1 => bad[used[used.len() * round / 60] & !0xfff..][..512].fill(0xa5),
            _ => bad.truncate(good.len() * round / 60),
        }
        std::fs::write(&path, &bad).expect("a file can be written");
        match Store::open(&path).and_then(|store| store.all()) {
            Ok(devices) => assert!(
                devices.is_empty() && bad.is_empty()
                    || devices.iter().map(|device| &device.id).eq(&all),
                "round {round}: {} devices",
                devices.len()
            ),
            Err(StoreError::Damaged { .. }) => found += 1,
            Err(other) => panic!("round {round}: {other:?}"),
        }
    }
    assert!(found >= 20, "only {found} of 60 were found");
}

#[test]
fn an_entry_of_a_later_version_or_of_nobody_is_refused() {
    const OTHER: TableDefinition<'_, &str, &[u8]> = DEVICES;
    let cases: [(&[u8], &str); 5] = [
        (b"\x02{}", "device \"a\" in version 2"),
        (b"", "device \"a\" has no value"),
        (b"\x01{", "device \"a\": EOF"),
        (b"\x01{\"id\":\"b\"}", "device \"a\" has the value of another"),
        (b"\x01{\"id\":\"a\",\"colour\":1}", "unknown field `colour`"),
    ];
    for (value, expected) in cases {
        let scratch = Scratch::new();
        let path = scratch.join("devices.redb");
        drop(open(&path));
        let database = Database::open(&path).expect("redb opens it");
        let transaction = database.begin_write().expect("redb writes");
        transaction
            .open_table(OTHER)
            .and_then(|mut table| Ok(table.insert("a", value).map(|_| ())?))
            .expect("redb writes");
        transaction.commit().expect("redb writes");
        drop(database);
        let error = open(&path).all().expect_err("invariant: it cannot be read");
        assert!(error.to_string().contains(expected), "{error}");
        let _by_the_operator = FleetError::from(error);
    }
}

/// Tells the child of a test what to do.
const ROLE: &str = "SOCKWARDEN_TEST_STORE";

/// What the child says when it begins. The harness has begun a line.
const BEGUN: &str = "\nbegun";

/// The test `name` once more, in a process that is killed `patience` after it was started, or
/// after it has begun; what it said until then, line by line.
fn run_and_kill(name: &str, role: &Path, begun: bool, patience: Duration) -> Vec<String> {
    let mut child = Command::new(env::current_exe().expect("this program has a name"))
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it can be started");
    let mut stdout = BufReader::new(child.stdout.take().expect("invariant: it is piped"));
    let mut said = String::new();
    while begun && !said.ends_with("\nbegun\n") {
        assert_ne!(stdout.read_line(&mut said).expect("it writes text"), 0, "{said}");
    }
    thread::sleep(patience);
    child.kill().expect("it is our child");
    stdout.read_to_string(&mut said).expect("it writes text");
    let status = child.wait().expect("it is our child");
    assert_eq!(status.code(), None, "it ended by itself: {said}");
    let whole = said.rfind('\n').map_or("", |end| &said[..end]);
    whole.lines().map(str::to_owned).collect()
}

/// The harness catches what `println` writes.
fn say(text: &str) {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}").and_then(|()| stdout.flush()).expect("the parent listens");
}

fn random_below(most: u64) -> u64 {
    RandomState::new().build_hasher().finish() % most
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    const NAME: &str = "fleet::store::tests::what_was_acknowledged_survives_kill_9";
    if let Some(path) = env::var_os(ROLE) {
        let store = open(path.as_ref());
        let begin = ids(&store).len();
        say(BEGUN);
        for number in begin.. {
            // Of each round some, so that names never come twice.
            let id = format!("{}-{number}", std::process::id());
            store.put(&device(&id)).expect("it takes a device");
            say(&format!("put {id}"));
            if number % 3 == 0 {
                say(&format!("about {id}"));
                store.remove(&id).expect("it forgets a device");
                say(&format!("gone {id}"));
            }
        }
    }
    let scratch = Scratch::new();
    let path = scratch.join("devices.redb");
    let (mut kept, mut unsure) = (BTreeSet::new(), BTreeSet::new());
    let (mut acknowledged, mut torn) = (0, 0);
    for round in 0..20 {
        // Half of them may be hit while they open and mend.
        let patience = Duration::from_millis(random_below(250));
        for line in run_and_kill(NAME, &path, round % 2 == 0, patience) {
            match line.split_once(' ') {
                Some(("put", id)) => drop(kept.insert(id.to_owned())),
                Some(("about", id)) => {
                    kept.remove(id);
                    unsure.insert(id.to_owned());
                }
                Some(("gone", id)) => drop(unsure.remove(id)),
                _ => continue,
            }
            acknowledged += 1;
        }
        let there: BTreeSet<String> = ids(&open(&path)).into_iter().collect();
        let lost: Vec<_> = kept.difference(&there).collect();
        assert!(lost.is_empty(), "round {round}: {lost:?} were acknowledged");
        // The last put or removal of each round may be done and not acknowledged.
        let more: Vec<_> = there.difference(&kept).filter(|id| !unsure.contains(*id)).collect();
        assert!(more.len() <= 1, "round {round}: {more:?}");
        torn += more.len();
        kept.extend(more.into_iter().cloned().collect::<Vec<_>>());
        kept.extend(unsure.intersection(&there).cloned().collect::<Vec<_>>());
        unsure.clear();
    }
    say(&format!("{acknowledged} acknowledged, {} kept, {torn} not acknowledged", kept.len()));
    assert!(acknowledged > 20, "the child did nothing: {acknowledged}");
}

#[test]
fn a_kill_while_it_is_made_leaves_a_store_or_none() {
    const NAME: &str = "fleet::store::tests::a_kill_while_it_is_made_leaves_a_store_or_none";
    if let Some(directory) = env::var_os(ROLE) {
        say(BEGUN);
        for number in 0.. {
            drop(open(&Path::new(&directory).join(format!("{number}.redb"))));
        }
    }
    let mut made = 0;
    for _ in 0..10 {
        let scratch = Scratch::new();
        run_and_kill(NAME, scratch.path(), true, Duration::from_millis(random_below(200)));
        for file in std::fs::read_dir(scratch.path()).expect("it is there") {
            let path = file.expect("it is there").path();
            if path.extension().is_some_and(|ending| ending == "redb") {
                assert_eq!(ids(&open(&path)), [] as [String; 0]);
                made += 1;
            }
        }
    }
    assert!(made > 0, "the child did nothing");
}

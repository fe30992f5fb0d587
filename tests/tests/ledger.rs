//! The registry of a real pool against the kernel's table, in one process with the observer: what a
//! broken pool and foreign code do is found and named, and a healthy pool raises nothing.

use std::collections::{BTreeMap, HashMap};
use std::env;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use harness::{Mosquitto, clock, require_root, wait};
use rustix::process::{Resource, Rlimit, setrlimit};
use serde_json::Value;
use socket2::{Domain, Socket, Type};

/// How much longer than its budget a finding may take to open.
const LATE: u64 = 1_000;

/// Loading and verifying the programs beside other tests.
const START: Duration = Duration::from_secs(60);

/// A pool with its observer, and what they say.
struct Program {
    child: Child,
    orders: Option<ChildStdin>,
    said: Arc<(Mutex<Vec<Value>>, Condvar)>,
}

impl Program {
    #[track_caller]
    fn start(url: &str, flaw: &str, keep_alive: u32) -> Self {
        require_root();
        let test = env::current_exe().expect("a program knows where it is");
        let directory = test.ancestors().nth(2).expect("invariant: target/PROFILE/deps/TEST");
        // It goes with the thread that started it, should the test be killed.
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(directory.join("broken_pool"))
            .args([url, flaw, &keep_alive.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("setpriv is there: it is essential to Debian");
        let orders = child.stdin.take();
        let stdout = child.stdout.take().expect("invariant: stdout is a pipe");
        let said: Arc<(Mutex<Vec<Value>>, Condvar)> = Arc::default();
        let heard = Arc::clone(&said);
        // Ends with the program.
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let value = serde_json::from_str(&line).unwrap_or(Value::String(line));
                heard.0.lock().unwrap_or_else(PoisonError::into_inner).push(value);
                heard.1.notify_all();
            }
        });
        let program = Self { child, orders, said };
        program.await_line(START, "its start", |line| line["type"] == "ready");
        program
    }

    /// One with a broker, and so many devices online.
    #[track_caller]
    fn with_devices(broker: &Mosquitto, flaw: &str, count: usize) -> Self {
        let mut program = Self::start(&broker.url(), flaw, 60);
        program.order(&format!("add {count}"));
        program.await_online(count, count);
        program
    }

    /// Gives an order, and waits for its answer.
    #[track_caller]
    fn order(&mut self, order: &str) -> Value {
        let before = self.lines().len();
        let orders = self.orders.as_mut().expect("invariant: it has not ended");
        writeln!(orders, "{order}").expect("it reads its orders");
        let answer = self.await_after(before, wait::PATIENCE, order, |line| {
            line["type"] == "answer" && line["order"] == order
        });
        assert!(answer["error"].is_null(), "{answer}");
        answer["ok"].clone()
    }

    /// Waits until so many devices are online, after so many connects in all.
    #[track_caller]
    fn await_online(&mut self, online: usize, connected: usize) {
        wait::until("devices online", || {
            let status = self.order("status");
            let is_there = status["online"] == online && number(&status["connected"]) >= connected;
            if is_there { Ok(()) } else { Err(status.to_string()) }
        });
    }

    /// Waits for a finding, and says all about it.
    #[track_caller]
    fn await_finding(&self, kind: &str, event: &str) -> Value {
        self.await_line(wait::PATIENCE, &format!("{kind} {event}"), |line| {
            line["type"] == "finding" && line["kind"] == kind && line["event"] == event
        })
    }

    /// Waits until a finding opens, within a second of its budget.
    #[track_caller]
    fn await_opened(&self, kind: &str) -> Value {
        let finding = self.await_finding(kind, "opened");
        let (age, budget) = (number(&finding["age_ms"]), number(&finding["budget_ms"]));
        assert!(age >= budget && age < budget + usize::try_from(LATE).unwrap_or(0), "{finding}");
        assert_eq!(finding["evidence"], "complete", "{finding}");
        finding
    }

    #[track_caller]
    fn await_line(&self, within: Duration, what: &str, pick: impl Fn(&Value) -> bool) -> Value {
        self.await_after(0, within, what, pick)
    }

    #[track_caller]
    fn await_after(
        &self,
        from: usize,
        within: Duration,
        what: &str,
        pick: impl Fn(&Value) -> bool,
    ) -> Value {
        let deadline = clock::now() + within;
        let mut said = self.said.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut seen = from;
        loop {
            if let Some(line) = said[seen..].iter().find(|line| pick(line)) {
                return line.clone();
            }
            seen = said.len();
            let left = deadline.saturating_duration_since(clock::now());
            if left.is_zero() {
                let told: Vec<String> = said
                    .iter()
                    .filter(|line| line["type"] != "transition")
                    .map(ToString::to_string)
                    .collect();
                panic!("waited {within:?} for {what}:\n{}", told.join("\n"));
            }
            let waited = self.said.1.wait_timeout(said, left);
            said = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lines(&self) -> Vec<Value> {
        self.said.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The kinds of the registry that ever opened.
    fn opened(&self) -> Vec<String> {
        let of_registry = ["ghost", "orphan", "overlap", "unreleased"];
        let lines = self.lines();
        let opened = lines.iter().filter(|it| it["type"] == "finding" && it["event"] == "opened");
        let kinds = opened.filter_map(|line| line["kind"].as_str());
        kinds.filter(|kind| of_registry.contains(kind)).map(str::to_owned).collect()
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // The end of its orders ends it, and its children.
        drop(self.orders.take());
        let ended = || matches!(self.child.try_wait(), Ok(Some(_)));
        let deadline = clock::now() + wait::PATIENCE;
        let mut ended = ended;
        while !ended() && clock::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

#[track_caller]
fn number(value: &Value) -> usize {
    let number = value.as_u64().and_then(|number| usize::try_from(number).ok());
    number.unwrap_or_else(|| panic!("`{value}` is no number"))
}

#[track_caller]
fn assert_says(finding: &Value, words: &[&str]) {
    let message = finding["message"].as_str().unwrap_or_default();
    assert!(words.iter().all(|word| message.contains(word)), "{words:?}: {finding}");
}

#[track_caller]
fn assert_first_holder(finding: &Value, pid: u32) {
    assert_eq!(finding["holders"][0]["pid"], pid, "{finding}");
    assert_eq!(finding["pid"], pid, "{finding}");
}

#[test]
fn the_socket_of_foreign_code_is_an_orphan_until_it_is_closed() {
    let broker = Mosquitto::start();
    let mut program = Program::with_devices(&broker, "none", 3);
    program.order("foreign");
    let orphan = program.await_opened("orphan");
    assert_first_holder(&orphan, program.pid());
    assert_says(&orphan, &["a broker of its devices", "without a claim"]);
    program.order("foreign-end");
    program.await_finding("orphan", "cleared");
    assert_eq!(program.opened(), ["orphan"]);
}

#[test]
fn a_copy_of_a_replaced_socket_in_the_own_process_is_an_orphan() {
    let broker = Mosquitto::start();
    let mut program = Program::with_devices(&broker, "none", 1);
    program.order("copy d0");
    program.order("reconnect");
    let orphan = program.await_opened("orphan");
    assert_first_holder(&orphan, program.pid());
    program.order("copy-end");
    program.await_finding("orphan", "cleared");
    assert_eq!(program.opened(), ["orphan"]);
}

#[test]
fn a_pool_that_forgets_to_close_has_an_orphan_and_an_overlap() {
    let broker = Mosquitto::start();
    let mut program = Program::with_devices(&broker, "forget-to-close", 1);
    program.order("reconnect");
    let overlap = program.await_opened("overlap");
    assert_says(&overlap, &["device d0 (generation 2)", "before its older socket had ended"]);
    let orphan = program.await_opened("orphan");
    assert_first_holder(&orphan, program.pid());
    program.order("mend");
    program.await_finding("orphan", "cleared");
    program.await_finding("overlap", "cleared");
    assert_eq!(program.opened(), ["overlap", "orphan"]);
    // The flaw is one of first sessions.
    program.order("reconnect");
    program.await_online(1, 3);
    assert_eq!(program.opened(), ["overlap", "orphan"]);
}

#[test]
fn a_pool_that_dials_before_it_destroys_has_an_overlap() {
    let broker = Mosquitto::start();
    let mut program = Program::with_devices(&broker, "dial-before-destroy", 1);
    program.order("reconnect");
    let overlap = program.await_opened("overlap");
    assert_says(&overlap, &["device d0 (generation 2)"]);
    program.order("mend");
    program.await_finding("overlap", "cleared");
    assert_eq!(program.opened(), ["overlap"]);
}

#[test]
fn a_socket_that_the_pool_keeps_open_is_unreleased() {
    let broker = Mosquitto::start();
    let mut program = Program::with_devices(&broker, "keep-open", 1);
    program.order("reconnect");
    let unreleased = program.await_opened("unreleased");
    assert_first_holder(&unreleased, program.pid());
    assert_says(&unreleased, &["device d0 (generation 1)"]);
    program.order("mend");
    program.await_finding("unreleased", "cleared");
    program.await_online(1, 2);
}

#[test]
fn a_child_that_inherited_a_socket_is_named() {
    let broker = Mosquitto::start();
    let mut program = Program::start(&broker.url(), "none", 2);
    program.order("add 1");
    program.await_online(1, 1);
    let child = program.order("child d0");
    let child = u32::try_from(number(&child)).expect("invariant: a process number");
    // Nobody answers the ping, so the session ends by a reset, which the copy outlives.
    broker.freeze();
    let unreleased = program.await_opened("unreleased");
    assert_first_holder(&unreleased, child);
    assert_says(&unreleased, &["sleep", "device d0 (generation 1)"]);
    program.order("child-end");
    program.await_finding("unreleased", "cleared");
    broker.thaw();
}

#[test]
fn a_session_that_dies_silently_is_a_ghost_until_it_is_replaced() {
    let broker = Mosquitto::start();
    let mut program = Program::with_devices(&broker, "die-silently", 1);
    let ghost = program.await_opened("ghost");
    assert_says(&ghost, &["device d0 (generation 1)", "online in the registry"]);
    assert_eq!(program.order("status")["zombies"], 1);
    program.order("reconnect");
    program.await_finding("ghost", "cleared");
    program.await_online(1, 2);
    assert_eq!(program.opened(), ["ghost"]);
}

#[test]
fn a_socket_that_is_destroyed_from_outside_is_replaced_and_raises_nothing() {
    let broker = Mosquitto::start();
    let mut program = Program::with_devices(&broker, "none", 5);
    let port = format!(":{}", broker.port());
    let killed = Command::new("ss").args(["-K", "dport", "=", &port]).output();
    assert!(killed.is_ok_and(|output| output.status.success()), "ss destroys sockets");
    program.await_online(5, 10);
    // Longer than every budget and the time for a snapshot.
    thread::sleep(Duration::from_secs(2));
    assert_eq!(program.opened(), Vec::<String>::new());
}

#[test]
fn syns_sent_again_shrink_the_window() {
    let deaf = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let any: std::net::SocketAddr = ([127, 0, 0, 1], 0).into();
    deaf.bind(&any.into()).expect("the kernel has a free port");
    // One connection fits into its queue; the SYNs of all others are dropped.
    deaf.listen(0).expect("it listens");
    let address = deaf.local_addr().ok().and_then(|it| it.as_socket()).expect("it is bound");
    let mut program = Program::start(&format!("mqtt://{address}"), "none", 60);
    let initial = pool::Limits::adaptive().adaptive.expect("it is adaptive").initial;
    program.order("add 8");
    wait::until("a smaller window", || {
        let status = program.order("status");
        let is_smaller = number(&status["window"]) < initial && number(&status["halved"]) > 0;
        let is_seen = number(&status["syn_retransmits"]) > 0;
        if is_smaller && is_seen { Ok(()) } else { Err(status.to_string()) }
    });
    assert_eq!(program.opened(), Vec::<String>::new());
}

/// When each socket began to connect, and when it left the states of an open connection.
fn lives(lines: &[Value]) -> HashMap<u64, (Option<u64>, Option<u64>)> {
    let mut lives: HashMap<u64, (Option<u64>, Option<u64>)> = HashMap::new();
    for line in lines.iter().filter(|line| line["type"] == "transition") {
        let (Some(cookie), Some(time)) = (line["cookie"].as_u64(), line["t_ns"].as_u64()) else {
            panic!("{line}");
        };
        let life = lives.entry(cookie).or_default();
        match line["new"].as_str() {
            Some("SYN_SENT") => life.0 = Some(time),
            Some("ESTABLISHED" | "CLOSE_WAIT") => {}
            _ => {
                life.1.get_or_insert(time);
            }
        }
    }
    lives
}

#[test]
fn a_storm_of_4000_on_a_healthy_pool_raises_nothing() {
    const DEVICES: usize = 4_000;
    // The broker inherits it.
    let limit = Rlimit { current: Some(20_000), maximum: Some(20_000) };
    setrlimit(Resource::Nofile, limit).expect("root may raise it");
    let broker = Mosquitto::start();
    let mut program = Program::start(&broker.url(), "none", 60);
    program.order(&format!("add {DEVICES}"));
    let patience = clock::now() + Duration::from_secs(60);
    let sockets = |program: &mut Program, connected: usize| loop {
        let status = program.order("status");
        if status["online"] == DEVICES && number(&status["connected"]) == connected {
            let sockets = status["sockets"].as_object().cloned().unwrap_or_default();
            let sockets = sockets.into_iter().map(|(name, it)| (name, it.as_u64()));
            break (status, sockets.collect::<BTreeMap<_, _>>());
        }
        assert!(clock::now() < patience, "{}", &status.to_string()[..200]);
        thread::sleep(Duration::from_millis(200));
    };
    let (_, before) = sockets(&mut program, DEVICES);
    program.order("reconnect");
    let (status, after) = sockets(&mut program, 2 * DEVICES);
    let (by_event, by_query) = (number(&status["by_event"]), number(&status["by_query"]));
    // Measured: 3 ms in a build without optimizations, on a machine with much else to do.
    assert!(number(&status["latency_us"][0]) < 50_000, "{}", status["latency_us"]);
    // Longer than every budget and the time for a snapshot.
    thread::sleep(Duration::from_secs(2));
    assert_eq!(program.opened(), Vec::<String>::new());

    let lives = lives(&program.lines());
    assert_eq!(before.len(), DEVICES);
    for (device, old) in &before {
        let new = after.get(device).copied().flatten().expect("it has a new socket");
        let old = old.and_then(|old| lives.get(&old)).expect("its transitions were seen");
        let (ended, connected) = (old.1.expect("it ended"), lives[&new].0.expect("it connected"));
        assert!(ended <= connected, "{device}: {ended} is not before {connected}");
    }
    assert!(by_query * 100 < DEVICES && by_event >= DEVICES, "{by_event} and {by_query}");
    assert_eq!(status["unreleased"], 0);
}

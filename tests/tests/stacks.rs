//! Where in its program a leaked socket was opened: real programs, built in the ways in which
//! people build theirs.

use harness::caps;
use harness::daemon::Daemon;
use harness::journald::Journald;
use harness::peer::Peer;
use harness::watch::{BUDGET, Builder, KINDS};
use harness::{Event, Finding, Line, TempDir, Watch, require_root, unique_name, wait};
use serde_json::Value;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;

/// Debian's own way, and with what a stack needs.
const WITH: [&str; 3] = ["-g", "-O1", "-fno-omit-frame-pointer"];
const WITHOUT: [&str; 3] = ["-g", "-O2", "-fomit-frame-pointer"];

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("stacks")
}

/// The line of `places.c` that has this comment.
fn line_of(place: &str) -> usize {
    let text = fs::read_to_string(sources().join("places.c")).expect("it is part of the tests");
    let comment = format!("/* at {place} */");
    1 + text.lines().position(|line| line.contains(&comment)).expect("it is there")
}

fn site_of(place: &str) -> String {
    format!("{place} (places.c:{})", line_of(place))
}

/// `places.c` with these options.
fn compile(into: &TempDir, options: &[&str]) -> PathBuf {
    let program = into.join(&unique_name());
    let out = Command::new("cc")
        .args(options)
        .args(["-pthread", "-o"])
        .arg(&program)
        .arg(sources().join("places.c"))
        .output()
        .expect("a C compiler is there: it links this test");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    program
}

/// A server that closes every connection, for as long as the test runs.
fn closing_server() -> u16 {
    let peer = Peer::new();
    let port = peer.port();
    thread::spawn(move || {
        loop {
            drop(peer.accept());
        }
    });
    port
}

/// A program that opens sockets when it is told to; ended when dropped.
struct Program {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// Where it listens.
    port: u16,
}

impl Program {
    #[track_caller]
    fn start(words: &[&str]) -> Self {
        require_root();
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let orders = child.stdin.take().expect("invariant: a pipe");
        let answers = BufReader::new(child.stdout.take().expect("invariant: a pipe"));
        let mut program = Self { child, orders, answers, port: 0 };
        let said = program.line();
        program.port = said.parse().unwrap_or_else(|_| panic!("`{said}` is no port"));
        program
    }

    /// `places.c` with these options, to a server that closes.
    fn places(into: &TempDir, options: &[&str]) -> Self {
        let program = compile(into, options);
        Self::start(&[&program.to_string_lossy(), &closing_server().to_string()])
    }

    fn node(flags: &[&str]) -> Self {
        let script = sources().join("pool.js");
        let (script, port) = (script.to_string_lossy().into_owned(), closing_server().to_string());
        Self::start(&[&["node"], flags, &[&*script, &*port]].concat())
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("it can be read");
        line.trim().to_owned()
    }

    #[track_caller]
    fn run(&mut self, order: &str) {
        writeln!(self.orders, "{order}").expect("it runs");
        assert_eq!(self.line(), "done", "{order}");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

fn observer(pid: u32) -> Builder {
    let builder = Watch::builder().pid(pid).budgets(BUDGET);
    builder.args(["--snapshot-interval", "200ms", "--explain"])
}

fn all_stacks(pid: u32) -> Watch {
    observer(pid).args(["--stacks"]).start()
}

/// The functions of a stack; `?` for those without a name.
fn functions(finding: &Finding) -> Vec<&str> {
    finding.stack.iter().map(|frame| frame.function.as_deref().unwrap_or("?")).collect()
}

#[track_caller]
fn expect_called(finding: &Finding, expected: &[&str]) {
    let all = functions(finding);
    let mut rest = all.iter();
    let is_there = expected.iter().all(|function| rest.any(|it| it == function));
    assert!(is_there, "{expected:?} in this order in {all:?}; {finding:#?}");
}

/// A finding with its stack: where there are many things to do, that comes with an update.
#[track_caller]
fn explained(watch: &Watch, pid: u32) -> Finding {
    watch.wait_for("a finding with a stack", |line| match line {
        Line::Finding(finding)
            if finding.pid == pid
                && finding.kind == "close-wait"
                && (finding.site.is_some() || finding.stack_note.is_some()) =>
        {
            Some(finding.clone())
        }
        _ => None,
    })
}

#[test]
fn the_places_that_leak_are_named_and_counted() {
    let directory = TempDir::new();
    let mut program = Program::places(&directory, &WITH);
    let watch = all_stacks(program.pid());
    program.run("first 5");
    program.run("second 2");
    wait::until_true("seven findings", || {
        watch.findings().iter().filter(|it| it.event == Event::Opened).count() == 7
    });
    let first = explained(&watch, program.pid());
    assert_eq!(first.site, Some(site_of("first")), "{first:#?}");
    assert!(first.message.ends_with(&format!("; opened at {}", site_of("first"))), "{first:#?}");
    expect_called(&first, &["first", "main"]);
    let frame = first.stack.iter().find(|it| it.function.as_deref() == Some("first"));
    let frame = frame.expect("it is there");
    assert!(frame.file.as_deref().is_some_and(|file| file.ends_with("/places.c")), "{frame:?}");
    assert_eq!(frame.line, u32::try_from(line_of("first")).ok());
    assert!(frame.module.is_some() && frame.offset > 0, "{frame:?}");
    assert_eq!(first.stack_note, None);

    let end = watch.stop();
    let sites = &end.summary().sites;
    let told: Vec<_> = sites.iter().map(|it| (&*it.site, it.here, it.of, it.pid)).collect();
    let (first, second) = (site_of("first"), site_of("second"));
    assert_eq!(told, [(&*first, 5, 7, program.pid()), (&*second, 2, 7, program.pid())]);
}

#[test]
fn what_is_accepted_has_a_place_too() {
    let directory = TempDir::new();
    let mut program = Program::places(&directory, &WITH);
    let watch = all_stacks(program.pid());
    let client = TcpStream::connect(("127.0.0.1", program.port)).expect("it listens");
    program.run("accept 1");
    drop(client);
    let finding = explained(&watch, program.pid());
    assert_eq!(finding.site, Some(site_of("serve")), "{finding:#?}");
    expect_called(&finding, &["serve", "main"]);
}

#[test]
fn stacks_are_taken_from_the_first_finding_on() {
    let directory = TempDir::new();
    let mut program = Program::places(&directory, &WITH);
    let watch = observer(program.pid()).start();
    program.run("first 1");
    let early = watch.opened("close-wait", program.pid());
    assert_eq!((early.site, early.stack.len()), (None, 0));
    let note = early.stack_note.expect("it says why");
    assert!(note.contains("a stack is taken of the next ones"), "{note}");

    program.run("second 3");
    for _ in 0..3 {
        let late = watch.wait_for("a finding with a place", |line| match line {
            Line::Finding(finding) if finding.site.is_some() => Some(finding.clone()),
            _ => None,
        });
        assert_eq!(late.site, Some(site_of("second")));
    }
    wait::until_true("four findings", || {
        watch.findings().iter().filter(|it| it.event == Event::Opened).count() == 4
    });
    let end = watch.stop();
    let sites: Vec<_> = end.summary().sites.iter().map(|it| (it.here, it.of)).collect();
    assert_eq!(sites, [(3, 4)], "the first one counts, without a place");
}

#[test]
fn the_caller_is_right_where_the_library_puts_the_frame_pointer_away() {
    // With a second thread connect(2) is a place where a thread can be cancelled, and its wrapper
    // another one.
    let directory = TempDir::new();
    let mut program = Program::places(&directory, &WITH);
    let watch = all_stacks(program.pid());
    program.run("thread 1");
    program.run("second 1");
    let finding = explained(&watch, program.pid());
    assert_eq!(finding.site, Some(site_of("second")), "{finding:#?}");
}

#[test]
fn without_frame_pointers_the_place_is_known_and_what_is_not_is_said() {
    let directory = TempDir::new();
    let mut program = Program::places(&directory, &WITHOUT);
    let watch = all_stacks(program.pid());
    program.run("second 1");
    let near = explained(&watch, program.pid());
    assert_eq!(near.site, Some(site_of("second")), "{near:#?}");

    program.run("deep 1");
    let far = watch.wait_for("the other place", |line| match line {
        Line::Finding(finding) if finding.site != near.site && finding.stack_note.is_some() => {
            Some(finding.clone())
        }
        _ => None,
    });
    assert_eq!(far.site, Some(site_of("first")), "{far:#?}");
    let note = far.stack_note.as_deref().unwrap_or_default();
    assert!(note.contains("-fno-omit-frame-pointer"), "{far:#?}");
    assert!(!functions(&far).contains(&"main"), "{far:#?}");
}

#[test]
fn with_frame_pointers_depth_does_not_matter() {
    let directory = TempDir::new();
    let mut program = Program::places(&directory, &WITH);
    let watch = all_stacks(program.pid());
    program.run("deep 1");
    let finding = explained(&watch, program.pid());
    expect_called(&finding, &["first", "deep", "main"]);
    assert_eq!(finding.stack_note, None);
}

#[test]
fn a_stripped_program_is_told_by_addresses_that_its_symbols_explain() {
    let directory = TempDir::new();
    let whole = compile(&directory, &WITH);
    let stripped = directory.join("stripped");
    let made = Command::new("strip").arg("-o").arg(&stripped).arg(&whole).status();
    assert!(made.expect("binutils are there").success());
    let words = [&*stripped.to_string_lossy(), &closing_server().to_string()];
    let mut program = Program::start(&words);
    let watch = all_stacks(program.pid());
    program.run("second 1");
    let finding = explained(&watch, program.pid());
    let site = finding.site.clone().expect("an address");
    let address = site.strip_prefix("stripped+").unwrap_or_else(|| panic!("{site}"));
    let out = Command::new("addr2line").args(["-f", "-e"]).arg(&whole).arg(address).output();
    let said = String::from_utf8(out.expect("binutils are there").stdout).expect("text");
    assert!(said.starts_with("second\n"), "{site} is {said}");
    assert!(said.contains(&format!("places.c:{}", line_of("second"))), "{site} is {said}");
}

#[test]
fn a_static_program_in_another_root_is_named() {
    let directory = TempDir::new();
    let program = compile(&directory, &[&WITH[..], &["-static"]].concat());
    let root = directory.join("");
    let inside = format!("/{}", program.file_name().expect("it has one").to_string_lossy());
    let words = ["chroot", &*root.to_string_lossy(), &inside, &closing_server().to_string()];
    let mut program = Program::start(&words);
    let watch = all_stacks(program.pid());
    program.run("first 1");
    let finding = explained(&watch, program.pid());
    assert_eq!(finding.site, Some(site_of("first")), "{finding:#?}");
    let module = finding.stack.last().and_then(|it| it.module.as_deref());
    assert!(module.is_some_and(|module| module.ends_with(&inside)), "{finding:#?}");
}

#[test]
fn a_program_on_a_mount_of_its_own_is_named() {
    let (directory, mount) = (TempDir::new(), TempDir::new());
    let program = compile(&directory, &WITH);
    let hidden = mount.join("hidden");
    let script = format!(
        "mount -t tmpfs none {} && cp {} {}",
        mount.join("").display(),
        program.display(),
        hidden.display()
    );
    let mut words = caps::with_mounts(&script);
    words.extend([hidden.to_string_lossy().into_owned(), closing_server().to_string()]);
    let mut program = Program::start(&words.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(!hidden.exists(), "nobody else sees it");
    let watch = all_stacks(program.pid());
    program.run("second 1");
    let finding = explained(&watch, program.pid());
    assert_eq!(finding.site, Some(site_of("second")), "{finding:#?}");
}

#[test]
fn a_program_that_was_deleted_or_only_its_user_may_read_is_named() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = TempDir::new();
    let program = compile(&directory, &WITH);
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).expect("it is ours");
    let words = [&*program.to_string_lossy(), &closing_server().to_string()];
    let mut running = Program::start(&words);
    fs::remove_file(&program).expect("it is ours");
    let watch = all_stacks(running.pid());
    running.run("second 1");
    let finding = explained(&watch, running.pid());
    assert_eq!(finding.site, Some(site_of("second")), "{finding:#?}");
    let module = finding.stack.last().and_then(|it| it.module.clone());
    assert!(module.is_some_and(|module| !module.contains("deleted")), "{finding:#?}");
}

#[test]
fn node_without_flags_is_told_honestly() {
    let mut program = Program::node(&[]);
    let watch = all_stacks(program.pid());
    program.run("acquire 1");
    let finding = explained(&watch, program.pid());
    assert_eq!(finding.site, None, "{finding:#?}");
    let note = finding.stack_note.as_deref().unwrap_or_default();
    for words in ["--perf-basic-prof", "nextTick", "Error().stack"] {
        assert!(note.contains(words), "{words} in {note}");
    }
    assert!(finding.stack.iter().any(|it| it.module.is_some()), "{finding:#?}");
}

#[test]
fn node_with_its_flags_names_functions_but_not_the_caller() {
    // It writes a log, else into the directory of the test.
    let directory = TempDir::new();
    let log = format!("--logfile={}", directory.join("v8.log").display());
    let flags = [
        "--perf-basic-prof",
        "--interpreted-frames-native-stack",
        "--no-logfile-per-isolate",
        &log,
    ];
    let mut program = Program::node(&flags);
    let map = PathBuf::from(format!("/tmp/perf-{}.map", program.pid()));
    let watch = all_stacks(program.pid());
    program.run("acquire 1");
    let finding = explained(&watch, program.pid());
    drop(program);
    let _removed = fs::remove_file(map);
    let named = functions(&finding).iter().any(|it| it.contains("internalConnect node:net"));
    assert!(named, "{finding:#?}");
    assert_eq!(finding.site, None, "{finding:#?}");
    let note = finding.stack_note.as_deref().unwrap_or_default();
    assert!(note.contains("Error().stack") && !note.contains("--perf"), "{note}");
}

#[test]
fn without_the_capability_the_rest_works_and_it_is_said() {
    let directory = TempDir::new();
    let copy = caps::PublicCopy::new();
    let mut program = Program::places(&directory, &WITH);
    let observer = observer(program.pid()).args(["--stacks"]);
    let watch = copy.as_nobody(observer, &["bpf", "perfmon", "dac_read_search"]).start();
    program.run("first 1");
    let finding = explained(&watch, program.pid());
    assert_eq!(finding.site, None, "{finding:#?}");
    let note = finding.stack_note.as_deref().unwrap_or_default();
    assert!(note.contains("CAP_SYS_PTRACE"), "{finding:#?}");
    let end = watch.stop();
    assert_eq!(end.stderr.matches("CAP_CHECKPOINT_RESTORE").count(), 1, "{}", end.stderr);
}

/// The processes that `parent` has started, by their second word.
fn helpers(parent: u32) -> Vec<(u32, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("it is there").flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let words = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().nth(1));
        if words.flatten() == Some(&*parent.to_string()) {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let mut words = line.split(|byte| *byte == 0);
            let verb = words.nth(1).map(|it| String::from_utf8_lossy(it).into_owned());
            found.push((pid, verb.unwrap_or_default()));
        }
    }
    found
}

#[track_caller]
fn helper(parent: u32, verb: &str) -> u32 {
    let all = helpers(parent);
    let found = all.iter().find(|(_, it)| it == verb);
    found.unwrap_or_else(|| panic!("no {verb} in {all:?}")).0
}

/// A line of `/proc/PID/status`.
fn status(pid: u32, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
    line.expect("it is there").trim().to_owned()
}

#[test]
fn the_helpers_may_do_little_and_their_end_is_survived() {
    let directory = TempDir::new();
    let mut program = Program::places(&directory, &WITH);
    let watch = all_stacks(program.pid());
    program.run("first 1");
    explained(&watch, program.pid());
    let (opener, namer) = (helper(watch.id(), "open-files"), helper(watch.id(), "name-stacks"));
    // CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE and CAP_CHECKPOINT_RESTORE.
    let kept = format!("{:016x}", 1u64 << 2 | 1 << 19 | 1 << 40);
    for (pid, capabilities) in [(opener, kept), (namer, "0".repeat(16))] {
        for set in ["CapPrm", "CapEff"] {
            assert_eq!(status(pid, set), capabilities, "{set} of {pid}");
        }
        for set in ["CapInh", "CapBnd", "CapAmb"] {
            assert_eq!(status(pid, set), "0".repeat(16), "{set} of {pid}");
        }
        assert_eq!(status(pid, "NoNewPrivs"), "1");
        assert_eq!(status(pid, "Uid"), "65534\t65534\t65534\t65534");
    }

    let number = rustix::process::Pid::from_raw(i32::try_from(namer).expect("a pid"));
    let number = number.expect("not 0");
    rustix::process::kill_process(number, rustix::process::Signal::KILL).expect("it is ours");
    program.run("second 1");
    let finding = watch.wait_for("the other place", |line| match line {
        Line::Finding(finding) if finding.site == Some(site_of("second")) => Some(finding.clone()),
        _ => None,
    });
    assert_eq!(finding.pid, program.pid());
    assert_ne!(helper(watch.id(), "name-stacks"), namer);
    drop(watch);
    wait::until_true("the opener to end", || !Path::new(&format!("/proc/{opener}/fd")).exists());
}

#[test]
fn the_daemon_names_places_after_it_has_given_its_privileges_up() {
    let journald = Journald::start();
    let directory = TempDir::new();
    let mut program = Program::places(&directory, &WITH);
    let comm = fs::read_to_string(format!("/proc/{}/comm", program.pid())).expect("it runs");
    let daemon = Daemon::builder()
        .budgets(BUDGET, &KINDS)
        .set("watch", format!("comm = [{:?}]", comm.trim()))
        .set("watch", "stacks = true")
        .journal(&journald)
        .start();
    program.run("first 3");
    program.run("second 1");
    let pid = program.pid();
    let is_second = |it: &Value| it["pid"] == pid && it["site"] == site_of("second");
    let finding = daemon.await_finding("a finding with a place", is_second);
    assert_eq!(finding.get("stack"), None, "nobody asked: {finding:#}");
    wait::until_true("four findings", || daemon.findings().len() == 4);

    let answer = daemon.tcp().get("/api/v1/findings?explain=true").json();
    let explained =
        answer["findings"].as_array().and_then(|all| all.iter().find(|it| is_second(it)));
    let stack = explained.expect("it is open")["stack"].as_array().expect("a list").clone();
    let frame = stack.iter().find(|it| it["function"] == "second").expect("it is there");
    assert_eq!(frame["line"], line_of("second"), "{answer:#}");

    let table = daemon.verb(&["leaks", "--explain"]);
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    assert!(table.contains(&format!("→ {}", site_of("second"))), "{table}");
    let group = format!(
        "3 of 4 leaked sockets of {} (pid {pid}) were opened here: {}",
        comm.trim(),
        site_of("first")
    );
    assert!(table.contains(&group), "{group} in {table}");

    let entry = wait::until("the entry in the journal", || {
        let wanted = format!("SOCKWARDEN_SITE={}", site_of("second"));
        let entries = journald.entries(&[&wanted]);
        entries.into_iter().next().ok_or_else(|| "nothing".to_owned())
    });
    let stack = &entry["SOCKWARDEN_STACK"];
    assert!(stack.contains(&format!("→ {}\n", site_of("second"))), "{stack}");
    assert!(stack.contains("main (places.c:"), "{stack}");
}

#[test]
fn places_are_named_with_the_capabilities_of_the_unit_alone() {
    let unit =
        ["bpf", "perfmon", "dac_read_search", "net_admin", "sys_ptrace", "checkpoint_restore"];
    let directory = TempDir::new();
    let copy = caps::PublicCopy::new();
    let mut program = Program::places(&directory, &WITH);
    let comm = fs::read_to_string(format!("/proc/{}/comm", program.pid())).expect("it runs");
    let wrapper = caps::as_by_the_unit(&unit);
    let watch = Watch::builder()
        .args(["--comm", comm.trim(), "--snapshot-interval", "200ms", "--explain", "--stacks"])
        .budgets(BUDGET)
        .through(&wrapper)
        .binary(copy.path())
        .start();
    program.run("first 1");
    let finding = explained(&watch, program.pid());
    assert_eq!(finding.site, Some(site_of("first")), "{finding:#?}");
}

//! Which capabilities the daemon needs, what each missing one costs, and that nothing is left of
//! them once it has given them up.

use harness::caps::{self, PublicCopy};
use harness::watch::Builder;
use harness::{App, TempDir, Watch, require_root, wait};
use serde_json::Value;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// What the systemd unit grants.
const BY_THE_UNIT: [&str; 6] =
    ["bpf", "perfmon", "dac_read_search", "net_admin", "sys_ptrace", "checkpoint_restore"];

/// A process that has given its privileges up; it is ended when dropped.
struct Dropper {
    child: Child,
    answer: Value,
}

impl Dropper {
    /// `dropper WORDS`, behind the words of a wrapper.
    fn start(wrapper: &[String], words: &[&str]) -> Self {
        require_root();
        let copy = PublicCopy::of(Path::new(env!("CARGO_BIN_EXE_dropper")));
        let program = copy.path().to_string_lossy().into_owned();
        let mut line: Vec<&str> = wrapper.iter().map(String::as_str).collect();
        line.push(&program);
        line.extend(words);
        let mut child = Command::new(line[0])
            .args(&line[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut text = String::new();
        let out = child.stdout.as_mut().expect("invariant: a pipe");
        BufReader::new(out).read_line(&mut text).expect("it can be read");
        let answer = serde_json::from_str(&text).unwrap_or_else(|_| panic!("no JSON: {text}"));
        Self { child, answer }
    }

    fn as_root(words: &[&str]) -> Self {
        Self::start(&[], words)
    }

    fn error(&self) -> &str {
        self.answer["error"].as_str().unwrap_or_else(|| panic!("no error: {}", self.answer))
    }

    /// Nothing of what makes a process mighty is left, seen from the inside and the outside.
    fn expect_harmless(&self) {
        let answer = &self.answer;
        let remaining = &answer["remaining"];
        assert_eq!(remaining["uid"], 65_534, "{answer}");
        assert_eq!(remaining["gid"], 65_534, "{answer}");
        assert_eq!(remaining["capabilities"], serde_json::json!([]), "{answer}");
        assert_eq!(remaining["no_new_privs"], true, "{answer}");
        assert_eq!(remaining["dumpable"], false, "{answer}");
        assert_eq!(&answer["in_thread"]["Ok"], remaining, "{answer}");
        assert_eq!(answer["shadow"], false, "{answer}");
        let line = "runs as nobody (uid 65534), no capabilities, no new privileges, not dumpable";
        assert_eq!(answer["line"], line);

        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("it is running");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_else(|| panic!("{status}")).trim().to_owned()
        };
        for ids in ["Uid:", "Gid:"] {
            let ids: Vec<String> = field(ids).split_whitespace().map(str::to_owned).collect();
            assert_eq!(ids, ["65534"; 4], "{status}");
        }
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
            assert_eq!(field(set).trim_start_matches('0'), "", "{status}");
        }
        assert_eq!(field("NoNewPrivs:"), "1");
        let limits = fs::read_to_string(format!("/proc/{}/limits", self.child.id()));
        let limits = limits.expect("root reads it");
        let core = limits.lines().find(|line| line.starts_with("Max core file size"));
        let words: Vec<&str> = core.expect("a limit").split_whitespace().collect();
        assert_eq!(words[4..6], ["0", "0"], "{limits}");
    }
}

impl Drop for Dropper {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Whether each of the pairs `[name, works]` works.
fn works<'a>(pairs: &'a Value, name: &str) -> &'a Value {
    let pairs = pairs.as_array().expect("a list");
    &pairs.iter().find(|pair| pair[0] == name).unwrap_or_else(|| panic!("no {name}"))[1]
}

#[test]
fn root_becomes_the_user_and_nothing_is_left() {
    let dropper = Dropper::as_root(&["nobody"]);
    dropper.expect_harmless();
    let status = fs::read_to_string(format!("/proc/{}/status", dropper.child.id()));
    let bounding = status.expect("it is running");
    assert!(bounding.contains("Groups:\t65534 \n"), "{bounding}");
    assert!(bounding.contains("CapBnd:\t0000000000000000"), "{bounding}");
}

#[test]
fn the_user_of_the_unit_stays_and_loses_its_capabilities() {
    let dropper = Dropper::start(&caps::as_by_the_unit(&BY_THE_UNIT), &["no-such-user"]);
    dropper.expect_harmless();
}

#[test]
fn a_process_that_is_not_dumpable_reads_what_the_daemon_needs() {
    for wrapper in [Vec::new(), caps::as_by_the_unit(&BY_THE_UNIT)] {
        let dropper = Dropper::start(&wrapper, &["nobody"]);
        let answer = &dropper.answer;
        for name in ["status", "stat", "statm", "limits", "cgroup", "maps"] {
            assert_eq!(works(&answer["own"], name), true, "own {name}: {answer}");
        }
        for name in ["environ", "io"] {
            assert_eq!(works(&answer["own"], name), false, "own {name}: {answer}");
        }
        assert!(answer["own_descriptors"].as_u64().is_some_and(|count| count >= 4), "{answer}");
        for fact in ["own_descriptor_info", "own_exe", "own_namespace"] {
            assert_eq!(answer[fact], true, "{fact}: {answer}");
        }
        for name in ["stat", "status", "limits", "cgroup"] {
            assert_eq!(works(&answer["others"], name), true, "others' {name}: {answer}");
        }
        assert_eq!(works(&answer["others"], "environ"), false, "{answer}");
        assert_eq!(answer["others_descriptor_list"], false, "{answer}");
    }
}

#[test]
fn descriptors_of_others_are_counted_without_a_privilege_since_linux_6_2() {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("Linux");
    let mut numbers = release.split(['.', '-']).map(|number| number.parse::<u32>().unwrap_or(0));
    let counts = (numbers.next(), numbers.next()) >= (Some(6), Some(2));
    let dropper = Dropper::as_root(&["nobody"]);
    let count = dropper.answer["others_descriptors"].as_u64();
    assert_eq!(count.is_some_and(|count| count >= 3), counts, "{release}: {}", dropper.answer);
}

#[test]
fn what_was_attached_before_works_on_and_nothing_new_can_be() {
    for wrapper in [Vec::new(), caps::as_by_the_unit(&BY_THE_UNIT)] {
        let dropper = Dropper::start(&wrapper, &["nobody", "probe"]);
        dropper.expect_harmless();
        let probe = &dropper.answer["probe"];
        assert_eq!(probe["watched"], true, "{probe}");
        assert_eq!(probe["snapshots"], true, "{probe}");
        for fact in ["records", "descriptors", "sockets"] {
            assert!(probe[fact].as_u64().is_some_and(|count| count > 0), "{fact}: {probe}");
        }
        let again = probe["again"].as_str().expect("a second probe is refused");
        assert!(again.contains("CAP_BPF"), "{again}");
    }
}

#[test]
fn who_cannot_be_become_is_an_error_that_says_what_to_do() {
    let unknown = Dropper::as_root(&["no-such-user"]);
    assert!(unknown.error().contains("systemd-sysusers"), "{}", unknown.error());
    assert!(unknown.error().contains("u no-such-user - "), "{}", unknown.error());
    let root = Dropper::as_root(&["root"]);
    assert!(root.error().contains("without privileges"), "{}", root.error());
}

#[test]
fn with_a_second_thread_nothing_is_dropped_half() {
    let dropper = Dropper::as_root(&["nobody", "threads"]);
    assert!(dropper.error().contains("2 threads"), "{}", dropper.error());
    let status = fs::read_to_string(format!("/proc/{}/status", dropper.child.id()));
    let status = status.expect("it is running");
    assert!(status.contains("Uid:\t0\t0\t0\t0") && status.contains("NoNewPrivs:\t0"), "{status}");
}

#[test]
fn root_without_the_right_to_change_its_user_is_told_so() {
    let dropper = Dropper::start(&caps::without(&["setuid"]), &["nobody"]);
    assert!(dropper.error().contains("setresuid"), "{}", dropper.error());
    let dropper = Dropper::start(&caps::without(&["setgid"]), &["nobody"]);
    assert!(dropper.error().contains("setgroups"), "{}", dropper.error());
}

#[test]
fn a_crash_writes_no_core_dump_though_the_limit_allowed_one() {
    require_root();
    let crash = |words: &[&str]| {
        let directory = TempDir::new();
        let mut child = Command::new("sh")
            .args(["-c", "ulimit -c unlimited; cd \"$0\"; exec \"$@\""])
            .arg(directory.join("."))
            .arg(env!("CARGO_BIN_EXE_dropper"))
            .args(words)
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        let status = child.wait().expect("invariant: our child");
        assert_eq!(status.signal(), Some(6), "{status}");
        status.core_dumped()
    };
    assert!(crash(&["nobody", "abort", "careless"]), "core dumps work on this host");
    assert!(!crash(&["nobody", "abort"]), "secrets are on the disk");
}

#[test]
fn its_own_user_cannot_read_its_memory() {
    let dropper = Dropper::as_root(&["nobody"]);
    let read = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "head", "-c1"])
        .arg(format!("/proc/{}/maps", dropper.child.id()))
        .output()
        .expect("setpriv is there");
    assert!(!read.status.success(), "{read:?}");
}

/// An observer that would end by itself, under the capabilities and no others.
fn short(copy: &PublicCopy, app: &App, capabilities: &[&str]) -> Builder {
    let observer = Watch::builder().pid(app.pid()).args(["--for", "1s"]);
    observer.through(&caps::as_by_the_unit(capabilities)).binary(copy.path())
}

#[test]
fn the_capabilities_of_the_unit_suffice_for_everything() {
    let app = App::python();
    let copy = PublicCopy::new();
    let watch = short(&copy, &app, &BY_THE_UNIT).launch();
    assert_eq!((watch.ready().layers.as_str(), watch.ready().names), ("ab", true));
    watch.finish().expect_code(0);
}

#[test]
fn each_capability_that_is_missing_has_its_documented_price() {
    let app = App::python();
    let copy = PublicCopy::new();
    let refused =
        [(["perfmon", "dac_read_search"], "CAP_BPF"), (["bpf", "dac_read_search"], "CAP_PERFMON")];
    for (left, missing) in refused {
        let end = short(&copy, &app, &left).run();
        end.expect_code(77).expect_said(&[missing]);
    }
    let watch = short(&copy, &app, &["bpf", "perfmon"]).launch();
    assert_eq!((watch.ready().layers.as_str(), watch.ready().names), ("a", false));
    watch.finish().expect_code(0).expect_said(&["CAP_DAC_READ_SEARCH", "CAP_NET_ADMIN"]);
}

#[test]
fn without_the_right_to_a_priority_it_works_at_the_usual_one() {
    let app = App::python();
    let copy = PublicCopy::new();
    // `LimitNICE=` of the unit allows it instead of CAP_SYS_NICE (`can_nice`,
    // kernel/sched/syscalls.c); raising that limit here would need CAP_SYS_RESOURCE.
    let mut wrapper: Vec<String> = ["prlimit", "--nice=0:0"].map(str::to_owned).to_vec();
    wrapper.extend(caps::as_by_the_unit(&BY_THE_UNIT));
    let watch = Watch::builder().pid(app.pid()).through(&wrapper).binary(copy.path()).start();
    let stat = fs::read_to_string(format!("/proc/{}/stat", watch.id())).expect("it is running");
    // proc_pid_stat(5): nice is field 19; the name in field 2 may have blanks.
    let fields = stat.rsplit_once(") ").expect("a name").1;
    assert_eq!(fields.split(' ').nth(16), Some("0"), "{stat}");
    watch.stop().expect_code(0);
}

#[test]
fn the_helper_that_holds_the_tracepoints_keeps_no_privilege() {
    let app = App::python();
    let watch = Watch::builder().pid(app.pid()).start();
    wait::until("the helper to be harmless", || {
        let id = watch.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
        let children = children.map_err(|error| error.to_string())?;
        let child = children.split_whitespace().next().ok_or("no helper")?;
        let status = fs::read_to_string(format!("/proc/{child}/status"));
        let status = status.map_err(|error| error.to_string())?;
        let harmless = ["Uid:\t65534\t65534", "CapPrm:\t0000000000000000", "NoNewPrivs:\t1"];
        let missing = harmless.iter().find(|line| !status.contains(*line));
        missing.map_or(Ok(()), |line| Err(format!("no {line} in {status}")))
    });
    watch.stop().expect_code(0);
}

#[test]
fn a_daemon_that_was_started_by_root_can_be_followed_by_one_that_was_not() {
    let directory = TempDir::new();
    let run = directory.join("run");
    let words = ["nobody", "in", &run.to_string_lossy()];
    let first = Dropper::as_root(&words);
    first.expect_harmless();
    let second = Dropper::as_root(&words);
    let named = format!("runs as process {} ", first.child.id());
    assert!(second.error().contains(&named), "{}", second.error());
    drop((first, second));
    let third = Dropper::start(&caps::as_by_the_unit(&BY_THE_UNIT), &words);
    third.expect_harmless();
}

#[test]
fn check_tells_root_from_others_by_its_exit_code() {
    require_root();
    let copy = PublicCopy::new();
    let directory = TempDir::new();
    let check = |wrapper: &[String]| {
        let mut line = wrapper.to_vec();
        line.push(copy.path().to_string_lossy().into_owned());
        let mut command = Command::new(&line[0]);
        command.args(&line[1..]).args(["check", "--json", "--runtime-directory"]);
        let out = command.arg(directory.join("none")).output().expect("it starts");
        let text = String::from_utf8(out.stdout).expect("UTF-8");
        let json: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("no JSON: {text}"));
        (out.status.code(), json)
    };
    let red = |json: &Value| {
        let rows = json["rows"].as_array().expect("rows").iter();
        let red = rows.filter(|row| row["verdict"] == "red");
        red.map(|row| row["what"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    let (code, json) = check(&[]);
    assert_eq!((code, red(&json)), (Some(0), vec![]), "{json}");
    let (code, json) = check(&caps::as_by_the_unit(&BY_THE_UNIT));
    assert_eq!((code, red(&json)), (Some(0), vec![]), "{json}");
    let (code, json) = check(&caps::as_by_the_unit(&[]));
    assert_eq!((code, red(&json)), (Some(1), vec!["privileges, layer A".to_owned()]), "{json}");
}

#[test]
fn check_shows_what_remains_to_a_running_daemon() {
    let dropper = Dropper::as_root(&["nobody"]);
    let directory = TempDir::new();
    let lock = directory.join("sockwarden.lock");
    // What the daemon does: the lock is held, and its number stands in it.
    fs::write(&lock, format!("{}\n", dropper.child.id())).expect("it is ours");
    let mut holder = Command::new("flock")
        .args(["--exclusive", &lock.to_string_lossy(), "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("flock is there");
    wait::until("the daemon to be seen", || {
        let out = Command::new(harness::watch::binary())
            .args(["check", "--runtime-directory", &directory.join(".").to_string_lossy()])
            .output()
            .expect("it starts");
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let pid = dropper.child.id();
        let row = format!(
            "process {pid}, runs as nobody (uid 65534), no capabilities, no new privileges, not \
             dumpable"
        );
        if text.contains(&row) { Ok(()) } else { Err(text) }
    });
    drop(holder.stdin.take());
    let mut rest = String::new();
    let _ = holder.stdout.take().expect("invariant: a pipe").read_to_string(&mut rest);
    holder.wait().expect("invariant: our child");
}

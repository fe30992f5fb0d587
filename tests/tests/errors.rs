//! What goes wrong, each thing tried: the exit code, and a message that says what to do.

use harness::caps::{self, PublicCopy};
use harness::peer::{self, Peer};
use harness::watch::{BUDGET, Builder};
use harness::{App, Line, TempDir, Watch, clock, wait};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::Duration;

/// Exit codes of sysexits.h.
const USAGE: i32 = 64;
const UNAVAILABLE: i32 = 69;
const NO_PERMISSION: i32 = 77;

/// An observer that would end by itself if it could start.
fn short(pid: u32) -> Builder {
    Watch::builder().pid(pid).args(["--for", "1s"])
}

#[test]
fn without_privileges_it_names_the_capability_and_the_remedy() {
    let app = App::python();
    let copy = PublicCopy::new();
    let end = copy.as_nobody(short(app.pid()), &[]).run();
    end.expect_code(NO_PERMISSION).expect_said(&["CAP_BPF", "CAP_PERFMON", "root"]);
    assert!(end.stdout.is_empty(), "{:?}", end.stdout);
}

#[test]
fn cap_bpf_alone_is_not_enough_and_the_missing_one_is_named() {
    let app = App::python();
    let copy = PublicCopy::new();
    let end = copy.as_nobody(short(app.pid()), &["bpf"]).run();
    end.expect_code(NO_PERMISSION).expect_said(&["CAP_PERFMON"]);
}

#[test]
fn root_without_cap_perfmon_is_told_the_same() {
    let app = App::python();
    let end = short(app.pid()).through(&caps::without(&["perfmon", "sys_admin"])).run();
    end.expect_code(NO_PERMISSION).expect_said(&["CAP_PERFMON"]);
}

/// No tracefs anywhere, and no privilege to mount one.
fn without_tracefs() -> Vec<String> {
    let hide = "mount -t tmpfs none /sys/kernel/tracing; \
                if [ -d /sys/kernel/debug ]; then mount -t tmpfs none /sys/kernel/debug; fi";
    let mut wrapper = caps::with_mounts(hide);
    wrapper.extend(caps::without(&["sys_admin"]));
    wrapper
}

#[test]
fn without_tracefs_layer_a_goes_on_with_a_warning() {
    let mut app = App::python();
    let watch =
        Watch::builder().pid(app.pid()).budgets(BUDGET).through(&without_tracefs()).launch();
    assert_eq!(watch.ready().layers, "a");
    let peer = Peer::new();
    let fd = app.connect("127.0.0.1", peer.port());
    drop(peer.accept());
    let finding = watch.opened("close-wait", app.pid());
    assert_eq!(finding.holders(), [(app.pid(), fd)]);
    watch.stop().expect_code(1).expect_said(&["tracefs", "layer"]);
}

#[test]
fn without_tracefs_layer_b_is_refused_where_it_was_asked_for() {
    let app = App::python();
    let end = short(app.pid()).args(["--layers", "ab"]).through(&without_tracefs()).run();
    end.expect_no_panic().expect_said(&["tracefs"]);
    let code = end.status.code();
    assert!([Some(UNAVAILABLE), Some(NO_PERMISSION)].contains(&code), "{code:?}");
}

#[test]
fn tracefs_that_is_not_mounted_is_mounted() {
    let app = App::python();
    let unmount =
        "umount -q /sys/kernel/debug/tracing || true; umount -q /sys/kernel/tracing || true";
    let watch = Watch::builder().pid(app.pid()).through(&caps::with_mounts(unmount)).launch();
    assert_eq!(watch.ready().layers, "ab");
}

#[test]
fn a_kernel_without_btf_is_refused() {
    let app = App::python();
    let wrapper = caps::with_mounts("mount -t tmpfs none /sys/kernel/btf");
    let end = short(app.pid()).through(&wrapper).run();
    end.expect_code(UNAVAILABLE).expect_said(&["BTF", "/sys/kernel/btf/vmlinux"]);
}

#[test]
fn a_field_that_the_kernel_does_not_have_is_named() {
    let app = App::python();
    let directory = TempDir::new();
    let path = directory.join("vmlinux");
    let mut btf = fs::read("/sys/kernel/btf/vmlinux").expect("the kernel has BTF");
    let old = b"\0copied_seq\0";
    let at = btf.windows(old.len()).position(|window| window == old).expect("the field is there");
    btf[at..at + old.len()].copy_from_slice(b"\0copied_seX\0");
    fs::write(&path, btf).expect("there is room");
    let end = short(app.pid()).args(["--btf", &path.to_string_lossy()]).run();
    end.expect_code(UNAVAILABLE).expect_said(&["tcp_sock", "copied_seq"]);
}

#[test]
fn a_file_that_is_no_btf_is_refused() {
    let app = App::python();
    let directory = TempDir::new();
    let path = directory.join("vmlinux");
    fs::write(&path, b"this is no BTF").expect("there is room");
    let end = short(app.pid()).args(["--btf", &path.to_string_lossy()]).run();
    end.expect_code(UNAVAILABLE).expect_said(&["BTF"]);
}

#[test]
fn a_process_that_does_not_exist_is_a_usage_error() {
    let app = App::python();
    let gone = app.pid();
    app.kill();
    let end = short(gone).run();
    end.expect_code(USAGE).expect_said(&[&gone.to_string(), "process"]);
}

#[test]
fn the_end_of_the_last_watched_process_is_told() {
    let mut app = App::python();
    let pid = app.pid();
    let watch = Watch::builder()
        .pid(pid)
        .budgets(BUDGET)
        .args(["--snapshot-interval", "200ms", "--for", "20s"])
        .start();
    let peer = Peer::new();
    app.connect("127.0.0.1", peer.port());
    drop(peer.accept());
    watch.opened("close-wait", pid);
    app.kill();
    // It goes on or ends, but what it holds open is cleared and it says why it is silent now.
    wait::until("a word about it", || {
        let said = watch.stderr();
        if said.contains(&pid.to_string()) { Ok(()) } else { Err(said) }
    });
    if std::path::Path::new(&format!("/proc/{}/exe", watch.id())).exists() {
        watch.signal(rustix::process::Signal::INT);
    }
    let end = watch.finish();
    end.expect_code(0);
    assert_eq!(end.summary().open_in_all(), 0);
}

#[test]
fn a_full_table_is_told() {
    let mut app = App::python();
    let watch = Watch::builder().pid(app.pid()).args(["--max-sockets", "10"]).start();
    let peer = Peer::new();
    app.run(&format!("connect-many 50 127.0.0.1 {}", peer.port()));
    watch.wait_for("the loss", |line| match line {
        Line::Loss(loss) if loss.cause == "table-full" => {
            assert!(loss.lost >= 1);
            Some(())
        }
        _ => None,
    });
    assert!(watch.table().len() <= 10);
    let end = watch.stop();
    end.expect_code(0);
    assert!(end.summary().lost >= 40, "{:?}", end.summary());
}

#[test]
fn a_control_group_that_cannot_be_read_is_a_usage_error() {
    for path in ["/sys/fs/cgroup/no-such-group", "/etc/hostname"] {
        let end = Watch::builder().args(["--cgroup", path, "--for", "1s"]).run();
        end.expect_code(USAGE).expect_said(&[path]);
    }
}

#[test]
fn a_directory_that_is_no_control_group_is_a_usage_error() {
    let end = Watch::builder().args(["--cgroup", "/proc", "--for", "1s"]).run();
    end.expect_code(USAGE).expect_said(&["/proc"]);
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let mut app = App::python();
    let mut child = Watch::builder()
        .pid(app.pid())
        .command()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdout = BufReader::new(child.stdout.take().expect("invariant: a pipe"));
    let mut first = String::new();
    stdout.read_line(&mut first).expect("it says something");
    assert!(first.contains(r#""type":"ready""#), "{first}");
    // `| head -n1`
    drop(stdout);
    let peer = Peer::new();
    let deadline = clock::now() + wait::PATIENCE;
    while child.try_wait().expect("invariant: our child").is_none() {
        if clock::now() > deadline {
            let _ = child.kill();
            panic!("it writes into a closed pipe for ever");
        }
        let fd = app.connect("127.0.0.1", peer.port());
        peer::reset(peer.accept());
        app.run(&format!("close {fd}"));
        std::thread::sleep(Duration::from_millis(20));
    }
    let end = child.wait_with_output().expect("invariant: it has ended");
    let stderr = String::from_utf8_lossy(&end.stderr);
    assert_eq!(end.status.code(), Some(0), "{}: {stderr}", end.status);
    assert!(stderr.is_empty(), "quietly: {stderr}");
}

#[test]
fn bad_arguments_are_usage_errors_that_name_the_argument() {
    let cases: [(&[&str], &str); 11] = [
        (&["--no-such-option"], "--no-such-option"),
        (&["--pid", "zero"], "--pid"),
        (&["--pid", "0"], "process 0"),
        (&["--port", "65536"], "--port"),
        (&["--for", "soon"], "--for"),
        (&["--budget", "close-wait"], "--budget"),
        (&["--budget", "close-wait=soon"], "--budget"),
        (&["--budget", "no-such-kind=1s"], "no-such-kind"),
        (&["--layers", "abc"], "--layers"),
        (&["--ring-size", "5000"], "--ring-size"),
        (&["--max-sockets", "0"], "--max-sockets"),
    ];
    let own = std::process::id().to_string();
    for (arguments, named) in cases {
        let mut builder = Builder::bare(["watch", "--json", "--for", "1s"]);
        if !arguments.contains(&"--pid") {
            builder = builder.args(["--pid", &own]);
        }
        for argument in arguments {
            builder = builder.args([argument]);
        }
        let end = builder.run();
        assert_eq!(end.status.code(), Some(USAGE), "{arguments:?}: {}", end.stderr);
        end.expect_said(&[named]).expect_no_panic();
        assert!(end.stdout.is_empty(), "{arguments:?}: {:?}", end.stdout);
    }
}

#[test]
fn nothing_to_watch_is_a_usage_error() {
    let end = Builder::bare(["watch", "--json", "--for", "1s"]).run();
    end.expect_code(USAGE).expect_said(&["--pid", "--all"]);
}

//! What is installed beside the binary: the unit, its user, its directories. systemd itself judges
//! them, and the sandbox of the unit is put around the real programs.

use harness::caps::PublicCopy;
use harness::sandbox::Unit;
use harness::{App, TempDir, Watch, require_root};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Most that `systemd-analyze security` may say, in tenths: what deploy/README.md explains.
const EXPOSURE: &str = "26";

fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name)
}

fn unit() -> String {
    fs::read_to_string(deploy("sockwarden.service")).expect("it is part of the repository")
}

/// The unit in a directory of its own, starting the binary that is tested.
fn installed() -> (TempDir, PathBuf) {
    let directory = TempDir::new();
    let path = directory.join("sockwarden.service");
    let binary = harness::watch::binary();
    let text = unit().replace("/usr/bin/sockwarden", &binary.to_string_lossy());
    fs::write(&path, text).expect("there is room");
    (directory, path)
}

fn run(program: &str, arguments: &[&str]) -> Output {
    Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"))
}

/// Succeeds, and has nothing to say.
fn expect_silence(out: &Output) {
    let said = [out.stdout.as_slice(), &out.stderr].concat();
    assert!(out.status.success() && said.is_empty(), "{out:?}");
}

#[test]
fn systemd_has_nothing_to_say_about_the_unit() {
    let (_directory, path) = installed();
    expect_silence(&run("systemd-analyze", &["verify", &path.to_string_lossy()]));
}

#[test]
fn a_setting_that_systemd_does_not_know_would_be_seen() {
    let (_directory, path) = installed();
    let text = fs::read_to_string(&path).expect("it is ours");
    fs::write(&path, text.replace("ProtectHome=", "ProtectHouse=")).expect("it is ours");
    let out = run("systemd-analyze", &["verify", &path.to_string_lossy()]);
    assert!(!out.stderr.is_empty(), "{out:?}");
}

#[test]
fn the_exposure_is_what_the_readme_explains() {
    let (_directory, path) = installed();
    let threshold = format!("--threshold={EXPOSURE}");
    let arguments = ["security", "--no-pager", "--offline=true", &threshold];
    let out = run("systemd-analyze", &[&arguments[..], &[&path.to_string_lossy()]].concat());
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "{said}");
    let readme = fs::read_to_string(deploy("README.md")).expect("it is part of the repository");
    // What is open has a cross, and its name stands in the table.
    let open = said.lines().filter_map(|line| line.strip_prefix("✗ ")?.split_whitespace().next());
    let open: Vec<&str> = open.collect();
    assert!(!open.is_empty(), "{said}");
    for name in open {
        assert!(readme.contains(&format!("`{name}`")), "deploy/README.md does not explain {name}");
    }
}

#[test]
fn each_capability_has_its_reason_and_none_is_beside_them() {
    let text = unit();
    let unit = Unit::parse(&text);
    let capabilities = unit.words("AmbientCapabilities");
    let expected = [
        "CAP_BPF",
        "CAP_PERFMON",
        "CAP_DAC_READ_SEARCH",
        "CAP_NET_ADMIN",
        "CAP_SYS_PTRACE",
        "CAP_CHECKPOINT_RESTORE",
    ];
    assert_eq!(capabilities, expected);
    assert_eq!(unit.words("CapabilityBoundingSet"), capabilities);
    assert_eq!(unit.words("User"), ["sockwarden"]);
    for capability in capabilities {
        assert!(text.contains(&format!("# {capability}: ")), "{capability} has no reason");
    }
}

#[test]
fn the_life_of_the_service_is_as_the_readme_says() {
    let text = unit();
    let unit = Unit::parse(&text);
    assert_eq!(unit.words("Type"), ["notify"]);
    assert_eq!(unit.words("LimitCORE"), ["0"]);
    assert_eq!(unit.words("ExecStart"), ["/usr/bin/sockwarden", "run"]);
    assert_eq!(unit.all("ExecReload"), ["/bin/kill -HUP $MAINPID"]);
    let limit = unit.words("LimitNOFILE")[0].parse::<u32>().expect("a number");
    assert!(limit >= 16_384, "12,000 sessions and room: {limit}");
}

#[test]
fn the_observer_works_in_the_sandbox_of_the_unit() {
    let app = App::python();
    let copy = PublicCopy::new();
    let observer = Watch::builder().pid(app.pid()).args(["--for", "1s"]);
    let wrapper = Unit::parse(&unit()).wrapper();
    let watch = observer.through(&wrapper).binary(copy.path()).launch();
    assert_eq!(watch.ready().layers, "ab");
    watch.finish().expect_code(0);
}

#[test]
fn privileges_are_dropped_in_the_sandbox_of_the_unit() {
    require_root();
    let copy = PublicCopy::of(Path::new(env!("CARGO_BIN_EXE_dropper")));
    let wrapper = Unit::parse(&unit()).wrapper();
    let mut child = Command::new(&wrapper[0])
        .args(&wrapper[1..])
        .arg(copy.path())
        .args(["sockwarden", "probe"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut line = String::new();
    let out = child.stdout.take().expect("invariant: a pipe");
    BufReader::new(out).read_line(&mut line).expect("it can be read");
    assert!(child.wait().expect("invariant: our child").success(), "{line}");
    let answer: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(answer["remaining"]["capabilities"], serde_json::json!([]), "{line}");
    assert_eq!(answer["probe"]["snapshots"], true, "{line}");
    assert!(answer["probe"]["records"].as_u64() > Some(0), "{line}");
}

#[test]
fn the_sandbox_of_these_tests_holds() {
    require_root();
    let wrapper = Unit::parse(&unit()).wrapper();
    let run = |words: &[&str]| {
        let mut command = Command::new(&wrapper[0]);
        command.args(&wrapper[1..]).args(words).output().expect("it starts")
    };
    assert!(run(&["/usr/bin/true"]).status.success());
    // A call that is not in the list, and a write to /sys that the mount refuses.
    let chown = "import os; os.chroot('/')";
    let refused = run(&["/usr/bin/python3", "-c", chown]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("PermissionError"), "{refused:?}");
    let write = "open('/sys/kernel/profiling', 'w')";
    let refused = run(&["/usr/bin/python3", "-c", write]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("Error"), "{refused:?}");
}

/// A root directory in which systemd's tools may make things.
fn root() -> TempDir {
    require_root();
    let root = TempDir::new();
    for directory in ["etc", "run", "var", "var/lib"] {
        fs::create_dir(root.join(directory)).expect("it is ours");
    }
    root
}

fn make_user(root: &TempDir) {
    let file = deploy("sysusers.d/sockwarden.conf");
    let root = format!("--root={}", root.join("").display());
    let out = run("systemd-sysusers", &[&root, &file.to_string_lossy()]);
    assert!(out.status.success(), "{out:?}");
}

#[test]
fn the_user_is_made_without_a_shell_and_without_a_password() {
    let root = root();
    make_user(&root);
    make_user(&root);
    let users = fs::read_to_string(root.join("etc/passwd")).expect("it was made");
    let users: Vec<&str> = users.lines().filter(|line| line.starts_with("sockwarden:")).collect();
    let [user] = users[..] else { panic!("{users:?}") };
    let fields: Vec<&str> = user.split(':').collect();
    let uid: u32 = fields[2].parse().expect("a number");
    assert!((1..1_000).contains(&uid), "{user}");
    assert_eq!(fields[5], "/var/lib/sockwarden");
    assert!(fields[6].ends_with("nologin"), "{user}");
    let shadow = fs::read_to_string(root.join("etc/shadow")).expect("it was made");
    assert!(shadow.lines().any(|line| line.starts_with("sockwarden:!")), "{shadow}");
}

#[test]
fn the_directories_belong_to_the_user() {
    let root = root();
    make_user(&root);
    let place = format!("--root={}", root.join("").display());
    let file = deploy("tmpfiles.d/sockwarden.conf");
    expect_silence(&run("systemd-tmpfiles", &["--create", &place, &file.to_string_lossy()]));
    let users = fs::read_to_string(root.join("etc/passwd")).expect("it was made");
    let user = users.lines().find_map(|line| line.strip_prefix("sockwarden:x:"));
    let mut numbers = user.expect("it was made").split(':').map(str::parse::<u32>);
    let (uid, gid) = (numbers.next().expect("a field"), numbers.next().expect("a field"));
    for (name, mode) in [("run/sockwarden", 0o755), ("var/lib/sockwarden", 0o700)] {
        let metadata = fs::metadata(root.join(name)).expect("it was made");
        assert_eq!(metadata.mode() & 0o7777, mode, "{name}");
        assert_eq!((Ok(metadata.uid()), Ok(metadata.gid())), (uid.clone(), gid.clone()), "{name}");
    }
}

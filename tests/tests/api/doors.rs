//! Who may come in by which door.

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};

use harness::watch::binary;

use super::daemon::{Daemon, Setup};

/// The writes, with bodies that would do something.
const WRITES: [(&str, &str, &str); 5] = [
    ("POST", "/api/v1/devices", r#"{"id":"x"}"#),
    ("DELETE", "/api/v1/devices/x", ""),
    ("POST", "/api/v1/devices/x/reconnect", ""),
    ("POST", "/api/v1/devices/x/publish", r#"{"topic":"a"}"#),
    ("POST", "/api/v1/reconnect", ""),
];

#[test]
fn tcp_changes_nothing_and_says_where_to_go() {
    let daemon = Daemon::start();
    for (method, path, body) in WRITES {
        let answer = daemon.tcp.request(method, path, &[], Some(body.as_bytes()));
        assert_eq!((answer.status, &*answer.code()), (403, "read-only"), "{method} {path}");
        assert!(answer.text().contains("api.sock"), "{}", answer.text());
    }
    assert!(daemon.pool.devices().is_empty());
}

#[test]
fn web_pages_get_nothing() {
    let daemon = Daemon::start();
    for (method, path, body) in WRITES {
        let headers = [("origin", "http://127.0.0.1:9641")];
        let answer = daemon.unix.request(method, path, &headers, Some(body.as_bytes()));
        assert_eq!((answer.status, &*answer.code()), (403, "web-page"), "{method} {path}");
    }
    for host in ["evil.example", "evil.example:9641", "127.0.0.1.evil.example"] {
        let answer = daemon.tcp.request("GET", "/api/v1/findings", &[("host", host)], None);
        assert_eq!((answer.status, &*answer.code()), (403, "host"), "{host}");
        let absolute = format!("http://{host}/api/v1/findings");
        assert_eq!(daemon.tcp.get(&absolute).status, 403, "{absolute}");
    }
    for host in ["localhost", "127.0.0.1:1", "[::1]:9641"] {
        let answer = daemon.tcp.request("GET", "/api/v1/findings", &[("host", host)], None);
        assert_eq!(answer.status, 200, "{host}");
    }
    assert!(daemon.pool.devices().is_empty());
}

/// Asks as another user, by the command.
fn ask_as(daemon: &Daemon, identity: &[&str]) -> Output {
    // Who is not root may not be able to read where the binary was built.
    let copy = daemon.socket.with_file_name("client");
    if !copy.exists() {
        std::fs::copy(binary(), &copy).expect("the binary can be copied");
    }
    Command::new("setpriv")
        .args(identity)
        .arg(copy)
        .args(["devices", "--json", "--socket"])
        .arg(&daemon.socket)
        .output()
        .expect("setpriv is there")
}

#[test]
fn the_socket_is_for_its_group_whatever_its_mode_became() {
    let mut setup = Setup::new();
    setup.api.group = Some("nogroup".to_owned());
    let daemon = setup.start();
    let directory = daemon.socket.parent().expect("invariant: it is in a directory");
    let everybody = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(directory, everybody).expect("it is ours");
    let member = ["--reuid=12345", "--regid=65534", "--clear-groups"];
    let by_supplement = ["--reuid=12345", "--regid=12345", "--groups=65534"];
    let stranger = ["--reuid=12345", "--regid=12345", "--clear-groups"];
    for identity in [member, by_supplement] {
        let output = ask_as(&daemon, &identity);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
    let refused = |output: Output, part: &str| {
        assert_eq!(output.status.code(), Some(77), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(part), "{said}");
    };
    // By the kernel, as the mode says.
    refused(ask_as(&daemon, &stranger), "member of its group (nogroup)");
    // And by the daemon, when somebody has widened the mode.
    let anybody = std::fs::Permissions::from_mode(0o666);
    std::fs::set_permissions(&daemon.socket, anybody).expect("it is ours");
    refused(ask_as(&daemon, &stranger), "uid 12345 may not");
}

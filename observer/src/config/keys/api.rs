//! PURE. The keys of `[api]` and `[privileges]`.

use std::time::Duration;

use super::{
    super::{
        form::{Form, number, path, size, socket_address, span, word},
        key::{Key, Reload, Section, place},
    },
    sinks::unix_socket,
};

/// `[api]`.
pub(super) fn section() -> Section {
    let listen = socket_address().checked(|it| it.ip().is_loopback()).or("off");
    let request = Duration::from_millis(100)..=Duration::from_secs(600);
    Section {
        name: "api",
        meaning: "The HTTP API.",
        repeats: None,
        keys: vec![
            Key {
                name: "listen",
                place: place(listen, |it| &mut it.api.listen),
                default: r#""127.0.0.1:9641""#.into(),
                allowed: r#"a loopback address and a port (0: the kernel chooses one), or "off""#,
                meaning: "Where /metrics, /healthz, /readyz and all that is only read are served.",
                reason: "Whoever reads it learns who talks to whom, so it stays on this host; a \
                    proxy with authentication may carry it further.",
                reload: Reload::Restart,
            },
            Key {
                name: "socket",
                place: place(unix_socket(), |it| &mut it.api.socket),
                default: r#""/run/sockwarden/api.sock""#.into(),
                allowed: "a path of at most 107 bytes that begins with /",
                meaning: "The Unix socket, mode 0660, for reading and for all that changes anything.",
                reason: "The runtime directory of the unit.",
                reload: Reload::Restart,
            },
            Key {
                name: "group",
                place: place(name().or(""), |it| &mut it.api.group),
                default: r#""""#.into(),
                allowed: r#"a name of a group; "" for none"#,
                meaning: "Who besides root and the daemon's own user may use the socket.",
                reason: "Whoever may use it can remove devices.",
                reload: Reload::Restart,
            },
            Key {
                name: "max_body",
                place: place(size(1_024..=256 << 20), |it| &mut it.api.max_body),
                default: r#""1MiB""#.into(),
                allowed: "1KiB to 256MiB",
                meaning: "Longest body of a request.",
                reason: "Far more than a device or a message needs.",
                reload: Reload::Restart,
            },
            Key {
                name: "request_timeout",
                place: place(span(request), |it| &mut it.api.request_timeout),
                default: r#""10s""#.into(),
                allowed: "100ms to 10m",
                meaning: "How long a client may take for its request.",
                reason: "A slow client holds one of max_connections.",
                reload: Reload::Restart,
            },
            Key {
                name: "max_connections",
                place: place(number(1..=65_535), |it| &mut it.api.max_connections),
                default: "64".into(),
                allowed: "1 to 65,535",
                meaning: "Connections at once, TCP and Unix each.",
                reason: "Few ask, and each takes a descriptor from the fleet.",
                reload: Reload::Restart,
            },
            Key {
                name: "stream_buffer",
                place: place(number(1..=1_048_576), |it| &mut it.api.stream_buffer),
                default: "1024".into(),
                allowed: "1 to 1,048,576",
                meaning: "Events or messages that a reader of a stream may fall behind before it \
                    gets a gap.",
                reason: "Some seconds of a storm, and little memory.",
                reload: Reload::Restart,
            },
        ],
    }
}

/// `[privileges]`.
pub(super) fn privileges() -> Section {
    Section {
        name: "privileges",
        meaning: "Who the daemon is once everything is open.",
        repeats: None,
        keys: vec![
            Key {
                name: "user",
                place: place(name().checked(|it| it != "root"), |it| &mut it.privileges.user),
                default: r#""sockwarden""#.into(),
                allowed: "a name of a user other than root",
                meaning: "The user to become when started as root.",
                reason: "What a broker sends is read with the rights of this user.",
                reload: Reload::Restart,
            },
            Key {
                name: "runtime_directory",
                place: place(path(), |it| &mut it.privileges.runtime_directory),
                default: r#""/run/sockwarden""#.into(),
                allowed: "a path that begins with /",
                meaning: "Where the daemon keeps its lock and its socket.",
                reason: "systemd makes and removes it (RuntimeDirectory=).",
                reload: Reload::Restart,
            },
        ],
    }
}

/// A name of a user or group: what getent(1) and passwd(5) can hold, at most 32 bytes as useradd(8)
/// allows.
fn name() -> Form<String> {
    word(32).checked(|it| !it.contains([':', '/', ',', ' ']) && !it.starts_with('-'))
}

//! PURE. The keys of `[watch]`.

use std::time::Duration;

use super::super::{
    form::{Form, choice, flag, number, path, size, span, word},
    key::{Key, Reload, Section, place},
};
use crate::probe::Layers;

/// `[watch]`.
pub(super) fn section() -> Section {
    let layers = choice("a text in quotes", &[("a", Layers::A), ("ab", Layers::Ab)]).or("auto");
    let interval = Duration::from_millis(100)..=Duration::from_secs(3_600);
    Section {
        name: "watch",
        meaning: "Which processes are watched, beside the daemon itself, and how.",
        repeats: None,
        keys: vec![
            Key {
                name: "all",
                place: place(flag(), |it| &mut it.watch.all),
                default: "false".into(),
                allowed: "true or false; alone, without comm, unit, cgroup and port",
                meaning: "Watch every process of the host.",
                reason: "Each watched socket costs memory and time: name who is suspected.",
                reload: Reload::Restart,
            },
            Key {
                name: "comm",
                // TASK_COMM_LEN of linux/sched.h counts the zero at the end.
                place: place(word(15).list("a list of names"), |it| &mut it.watch.comm),
                default: "[]".into(),
                allowed: "names of 1 to 15 bytes, each once",
                meaning: "Watch processes of these names, those that start later too. The name is \
                    the kernel's: `ps -o comm`.",
                reason: "Only you know who may leak.",
                reload: Reload::Additions,
            },
            Key {
                name: "unit",
                place: place(unit().list("a list of names of units"), |it| &mut it.watch.unit),
                default: "[]".into(),
                allowed: "names of systemd units that end in .service, each once",
                meaning: "Watch the processes of these systemd units.",
                reason: "Only you know who may leak.",
                reload: Reload::Additions,
            },
            Key {
                name: "cgroup",
                place: place(path().list("a list of paths"), |it| &mut it.watch.cgroup),
                default: "[]".into(),
                allowed: "paths that begin with /, each once",
                meaning: "Watch the processes of these cgroups and of those below them: the \
                    directory, or the path as /proc/PID/cgroup names it.",
                reason: "Only you know who may leak.",
                reload: Reload::Additions,
            },
            Key {
                name: "port",
                place: place(number(1..=u16::MAX).list("a list of ports"), |it| &mut it.watch.port),
                default: "[]".into(),
                allowed: "1 to 65,535, each once",
                meaning: "Watch whoever has a socket with one of these local or remote ports.",
                reason: "Only you know who may leak.",
                reload: Reload::Additions,
            },
            Key {
                name: "children",
                place: place(flag(), |it| &mut it.watch.children),
                default: "false".into(),
                allowed: "true or false",
                meaning: "Watch the descendants of all these processes too.",
                reason: "A child that still holds a watched socket is seen without this.",
                reload: Reload::Restart,
            },
            Key {
                name: "layers",
                place: place(layers, |it| &mut it.watch.layers),
                default: r#""auto""#.into(),
                allowed: r#""auto", "a" or "ab""#,
                meaning: "How much of the kernel to hook: a, changes of state; ab, descriptors too, \
                    at once and not only with the next snapshot. MQTT client ids are seen with \
                    ab and auto.",
                reason: "auto takes the most that this host allows.",
                reload: Reload::Restart,
            },
            Key {
                name: "snapshot_interval",
                place: place(span(interval), |it| &mut it.watch.snapshot_interval),
                default: r#""10s""#.into(),
                allowed: "100ms to 1h",
                meaning: "Longest time between two snapshots of all sockets and holders.",
                reason: "As long as most budgets; a loss or a suspicion makes one at \
                    once. Shorter ones than 100ms would cost more than all events together.",
                reload: Reload::Restart,
            },
            Key {
                name: "ring_bytes",
                place: place(size(65_536..=1 << 30).checked(is_power), |it| {
                    &mut it.watch.ring_bytes
                }),
                default: r#""1MiB""#.into(),
                allowed: "a power of two from 64KiB to 1GiB",
                meaning: "Size of the ring of records between the kernel and the daemon.",
                reason: "Room for 14,000 changes of state, read every 20 ms and at once when half full: \
                    12,000 sockets and two kicks of 4,000 lost none. It is mapped twice and counts \
                    twice in the memory of the daemon. What does not fit is counted, and a snapshot \
                    follows.",
                reload: Reload::Restart,
            },
            Key {
                name: "max_sockets",
                place: place(number(1..=4_194_304_u32), |it| &mut it.watch.max_sockets),
                default: "65536".into(),
                allowed: "1 to 4,194,304",
                meaning: "Most sockets that are kept in the table; what does not fit is counted.",
                reason: "Far more than most hosts have.",
                reload: Reload::Restart,
            },
            Key {
                name: "stacks",
                place: place(flag(), |it| &mut it.watch.stacks),
                default: "false".into(),
                allowed: "true or false",
                meaning: "Take the call stack of each connect and accept from the start, so that \
                    the first finding too says where its socket was opened.",
                reason: "Without this stacks are taken of a process from its first finding on, and \
                    cost nothing before: a stack takes a microsecond or two.",
                reload: Reload::Restart,
            },
        ],
    }
}

fn is_power(bytes: &u32) -> bool {
    bytes.is_power_of_two()
}

/// A name that systemd.unit(5) allows for a service.
fn unit() -> Form<String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte);
    word(255).checked(move |it| {
        it.strip_suffix(".service").is_some_and(|name| !name.is_empty()) && it.bytes().all(allowed)
    })
}

//! PURE. Where a process runs, as the path of its control group tells: unit and container.
//!
//! Container runtimes and service managers name their groups in ways that have not changed for
//! years, but no standard says so: what is not understood is not known.

use std::sync::Arc;

/// Hexadecimal digits of a container's id, in Docker and all that follow it.
pub(crate) const CONTAINER_ID: usize = 64;

/// Where a process runs. The names come from outside: a program may be able to choose them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The systemd unit of the system's manager: a service or a scope.
    pub unit: Option<Arc<str>>,
    /// The container: its id of 64 digits, or with LXC its name. The innermost of nested ones.
    pub container: Option<Arc<str>>,
}

impl Place {
    /// From the text of `/proc/PID/cgroup` (cgroups(7)): one line a hierarchy,
    /// `NUMBER:CONTROLLERS:PATH`.
    pub fn parse(text: &str) -> Self {
        let path = main_path(text);
        let hierarchies = || text.lines().filter_map(split).map(|(_, path)| path);
        // A manager that runs beside version 2 may have only some of the version 1 hierarchies.
        let container = path.and_then(container).or_else(|| hierarchies().find_map(container));
        Self { unit: path.and_then(unit).map(Arc::from), container: container.map(Arc::from) }
    }

    /// Whether nothing is known.
    pub fn is_unknown(&self) -> bool {
        self.unit.is_none() && self.container.is_none()
    }

    /// The unit, or else the last part of the path.
    pub fn unit_or_last_part(text: &str) -> Option<&str> {
        let path = main_path(text)?;
        unit(path).or_else(|| parts(path).next_back())
    }
}

/// The path that systemd goes by: its own hierarchy of version 1 if the process is anywhere in it,
/// else version 2.
fn main_path(text: &str) -> Option<&str> {
    let find = |wanted: &str| {
        let mut lines = text.lines().filter_map(split);
        lines.find(|(controllers, _)| *controllers == wanted).map(|(_, path)| path)
    };
    find("name=systemd").filter(|path| *path != "/").or_else(|| find(""))
}

/// Controllers and path of a line. A group that was removed is marked so (`proc_cgroup_show`).
fn split(line: &str) -> Option<(&str, &str)> {
    let mut fields = line.splitn(3, ':');
    let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
    Some((controllers, path.strip_suffix(" (deleted)").unwrap_or(path)))
}

fn parts(path: &str) -> impl DoubleEndedIterator<Item = &str> {
    path.split('/').filter(|part| !part.is_empty() && *part != "..")
}

/// The first service or scope, as `cg_path_get_unit` of systemd: what is below it is the unit's own
/// affair, or that of a user's manager.
fn unit(path: &str) -> Option<&str> {
    parts(path).find(|part| part.ends_with(".service") || part.ends_with(".scope"))
}

fn container(path: &str) -> Option<&str> {
    let named = |part: &str| part.strip_prefix("lxc.payload.").is_some_and(|name| !name.is_empty());
    let mut inner = None;
    let mut is_name = false;
    for part in parts(path) {
        if let Some(id) = id(part) {
            inner = Some(id);
        } else if is_name {
            inner = Some(part);
        } else if named(part) {
            inner = part.strip_prefix("lxc.payload.");
        }
        // LXC before 4.0: /lxc/NAME.
        is_name = part == "lxc";
    }
    inner
}

/// The id in the name of a group, alone or after the name of its runtime: `docker-ID.scope`,
/// `libpod-ID`, `SLICE:cri-containerd:ID`. A service is never a container: Podman's checks of
/// health run as `ID.service`, beside the container. Neither is conmon, which watches over one.
fn id(part: &str) -> Option<&str> {
    let name = part.strip_suffix(".scope").unwrap_or(part);
    let id = name.rsplit(['-', ':']).next()?;
    let is_hex = id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (id.len() == CONTAINER_ID && is_hex && !name.contains("conmon-")).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "3f4c1b0e9d8a7f6e5d4c3b2a190817263544536271809f8e7d6c5b4a39281706";
    const B: &str = "a0b1c2d3e4f5a6b7c8d9e0f1a2b3c4d5e6f7a8b9c0d1e2f3a4b5c6d7e8f90011";

    /// What stands in `/proc/PID/cgroup`, the unit, and the container.
    type Case = (&'static str, &'static str, Option<&'static str>, Option<&'static str>);

    #[test]
    fn paths_that_were_seen_in_the_field_are_understood() {
        let pod = "pod1f2e3d4c_5b6a_4978_8a9b_0c1d2e3f4a5b";
        let cases: &[Case] = &[
            ("the root", "0::/", None, None),
            ("nothing", "", None, None),
            ("no line of the kernel's", "x\n0\n:\n", None, None),
            ("a service", "0::/system.slice/node-red.service", Some("node-red.service"), None),
            ("a group below a service", "0::/system.slice/a.service/w", Some("a.service"), None),
            (
                "a template",
                "0::/system.slice/system-getty.slice/getty@tty1.service",
                Some("getty@tty1.service"),
                None,
            ),
            (
                "a login session",
                "0::/user.slice/user-1000.slice/session-3.scope",
                Some("session-3.scope"),
                None,
            ),
            (
                "a unit of a user's manager",
                "0::/user.slice/user-1000.slice/user@1000.service/app.slice/app.service",
                Some("user@1000.service"),
                None,
            ),
            ("the manager", "0::/init.scope", Some("init.scope"), None),
            (
                "a service on version 1",
                "12:memory:/system.slice/a.service\n1:name=systemd:/system.slice/a.service\n0::/x",
                Some("a.service"),
                None,
            ),
            (
                "a service on a hybrid host",
                "1:name=systemd:/system.slice/a.service\n0::/system.slice/a.service",
                Some("a.service"),
                None,
            ),
            (
                "a hybrid host without systemd",
                "9:name=systemd:/\n8:pids:/\n0::/system.slice/a.service",
                Some("a.service"),
                None,
            ),
            (
                "a unit that was stopped",
                "0::/system.slice/a.service (deleted)",
                Some("a.service"),
                None,
            ),
            (
                "docker by systemd",
                "0::/system.slice/docker-{A}.scope",
                Some("docker-{A}.scope"),
                Some(A),
            ),
            (
                "docker by itself, version 1",
                "11:cpu,cpuacct:/docker/{A}\n1:name=systemd:/docker/{A}\n0::/system.slice/containerd.service",
                None,
                Some(A),
            ),
            ("docker by itself, version 2", "0::/docker/{A}", None, Some(A)),
            ("a group in a container", "0::/docker/{A}/init", None, Some(A)),
            (
                "docker in docker",
                "0::/system.slice/docker-{A}.scope/docker/{B}",
                Some("docker-{A}.scope"),
                Some(B),
            ),
            ("seen from another container", "0::/../{A}", None, Some(A)),
            ("only an old hierarchy knows", "4:memory:/docker/{A}\n0::/", None, Some(A)),
            (
                "a parent of its own",
                "0::/iot.slice/docker-{A}.scope",
                Some("docker-{A}.scope"),
                Some(A),
            ),
            ("containerd", "0::/default/{A}", None, Some(A)),
            ("nerdctl", "0::/system.slice/nerdctl-{A}.scope", Some("nerdctl-{A}.scope"), Some(A)),
            (
                "podman of root",
                "0::/machine.slice/libpod-{A}.scope/container",
                Some("libpod-{A}.scope"),
                Some(A),
            ),
            ("podman without systemd", "0::/libpod_parent/libpod-{A}", None, Some(A)),
            (
                "podman of a user",
                "0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{A}.scope/container",
                Some("user@1000.service"),
                Some(A),
            ),
            (
                "podman in a unit",
                "0::/system.slice/broker.service/libpod-payload-{A}",
                Some("broker.service"),
                Some(A),
            ),
            (
                "podman's watcher",
                "0::/machine.slice/libpod-conmon-{A}.scope",
                Some("libpod-conmon-{A}.scope"),
                None,
            ),
            ("podman's check", "0::/system.slice/{A}.service", Some("{A}.service"), None),
            (
                "kubernetes, containerd",
                "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-{pod}.slice/cri-containerd-{A}.scope",
                Some("cri-containerd-{A}.scope"),
                Some(A),
            ),
            (
                "kubernetes, cri-o",
                "0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-{pod}.slice/crio-{A}.scope/container",
                Some("crio-{A}.scope"),
                Some(A),
            ),
            (
                "kubernetes, cri-o's watcher",
                "0::/kubepods.slice/kubepods-{pod}.slice/crio-conmon-{A}.scope",
                Some("crio-conmon-{A}.scope"),
                None,
            ),
            (
                "kubernetes without systemd",
                "3:memory:/kubepods/burstable/{pod}/{A}\n1:name=systemd:/kubepods/burstable/{pod}/{A}",
                None,
                Some(A),
            ),
            (
                "kubernetes, containerd told of systemd's groups and not of systemd",
                "0::/system.slice/containerd.service/kubepods-burstable-{pod}.slice:cri-containerd:{A}",
                Some("containerd.service"),
                Some(A),
            ),
            (
                "kubernetes in docker",
                "0::/docker/{A}/kubelet.slice/kubelet-kubepods.slice/cri-containerd-{B}.scope",
                Some("cri-containerd-{B}.scope"),
                Some(B),
            ),
            ("ECS", "0::/ecs/0123456789abcdef/{A}", None, Some(A)),
            (
                "LXC",
                "0::/lxc.payload.gateway/system.slice/a.service",
                Some("a.service"),
                Some("gateway"),
            ),
            (
                "LXC before 4.0",
                "1:name=systemd:/lxc/gateway/init.scope",
                Some("init.scope"),
                Some("gateway"),
            ),
            ("LXC's watcher", "0::/lxc.monitor.gateway", None, None),
            ("docker in LXC", "0::/lxc.payload.gateway/docker/{A}", None, Some(A)),
            ("LXC without a name", "0::/lxc.payload.", None, None),
            (
                "63 digits",
                "0::/docker/4c1b0e9d8a7f6e5d4c3b2a190817263544536271809f8e7d6c5b4a392817066",
                None,
                None,
            ),
            (
                "capital digits",
                "0::/docker/3F4C1B0E9D8A7F6E5D4C3B2A190817263544536271809F8E7D6C5B4A39281706",
                None,
                None,
            ),
            ("a colon in the path", "0::/a:b/x.service", Some("x.service"), None),
        ];
        let fill = |text: &str| text.replace("{A}", A).replace("{B}", B).replace("{pod}", pod);
        for (name, text, unit, container) in cases {
            let place = Place::parse(&fill(text));
            assert_eq!(place.unit.as_deref(), unit.map(fill).as_deref(), "{name}");
            assert_eq!(place.container.as_deref(), *container, "{name}");
            assert_eq!(place.is_unknown(), unit.is_none() && container.is_none(), "{name}");
        }
    }

    #[test]
    fn a_group_that_is_no_unit_is_named_by_its_last_part() {
        let cases = [
            ("0::/", None),
            ("0::/fleet/a", Some("a")),
            ("0::/system.slice/a.service/b", Some("a.service")),
            ("1:name=systemd:/fleet\n0::/x", Some("fleet")),
        ];
        for (text, expected) in cases {
            assert_eq!(Place::unit_or_last_part(text), expected, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_taken(text in "([0-9]{0,2}:[a-z=,]{0,9}:)?[-/a-z0-9.:@]{0,90}\n?.{0,20}") {
            let place = Place::parse(&text);
            for name in place.unit.iter().chain(&place.container) {
                proptest::prop_assert!(!name.is_empty() && !name.contains('/'));
            }
        }
    }
}

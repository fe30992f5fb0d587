//! The list of what is needed, with the reason of each, and the rule that says what is missing.

use super::{Extra, linker, npm};
use std::collections::HashSet;

/// One thing to have.
#[derive(Debug)]
pub(super) struct Item {
    /// The Debian package, the crate that cargo installs, or what npm does.
    pub(super) name: &'static str,
    pub(super) why: &'static str,
    pub(super) role: Role,
    /// The command that proves it is there, wherever it came from; without one, the package must be
    /// installed.
    pub(super) command: Option<&'static str>,
}

/// When an item is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Always.
    Build,
    /// To compile eBPF; another toolchain may do it instead.
    EbpfCompiler,
    /// To link eBPF.
    Linker,
    /// To compile bpf-linker; not when one is there that runs.
    LinkerBuild,
    /// By one verb.
    For(Extra),
}

/// Whether an item is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    Present,
    Missing,
    NotNeeded,
}

/// What was found on this machine.
pub(super) struct Facts<'a> {
    pub(super) packages: HashSet<String>,
    pub(super) can_build_ebpf: bool,
    pub(super) linker_runs: bool,
    pub(super) has_mqttjs: bool,
    pub(super) has_command: &'a dyn Fn(&str) -> bool,
}

pub(super) const ITEMS: &[Item] = &[
    command("gcc", "cc", Role::Build, "links host programs"),
    package("libc6-dev", Role::Build, "the C library that host programs link"),
    package("rustc-web", Role::EbpfCompiler, "rustc 1.96 on LLVM 22, compiles the eBPF program"),
    package("libstd-rust-web-dev-bpf", Role::EbpfCompiler, "`core` compiled for the BPF target"),
    command("g++", "c++", Role::LinkerBuild, "libstdc++, which bpf-linker links with LLVM"),
    package("llvm-22-dev", Role::LinkerBuild, "the LLVM inside bpf-linker, as old as rustc-web's"),
    package("libpolly-22-dev", Role::LinkerBuild, "llvm-config names it among LLVM's libraries"),
    package("zlib1g-dev", Role::LinkerBuild, "LLVM links it"),
    package("libzstd-dev", Role::LinkerBuild, "LLVM links it"),
    package("libxml2-dev", Role::LinkerBuild, "LLVM links it"),
    command(linker::NAME, linker::NAME, Role::Linker, "links the eBPF object and writes its BTF"),
    command("python3", "python3", Role::For(Extra::Test), "test programs that leak on purpose"),
    command("nodejs", "node", Role::For(Extra::Test), "the unmodified foreign process under test"),
    command("iproute2", "ss", Role::For(Extra::Test), "ss, the witness the tests compare with"),
    command("iproute2", "ip", Role::For(Extra::Test), "network namespaces of the tests"),
    command("util-linux", "setpriv", Role::For(Extra::Test), "runs without chosen capabilities"),
    command("util-linux", "unshare", Role::For(Extra::Test), "runs in namespaces of its own"),
    command("libbpf-tools", "tcplife", Role::For(Extra::Bench), "an observer to compare with"),
    command("libbpf-tools", "tcpstates", Role::For(Extra::Bench), "another one"),
    command("bpftool", "bpftool", Role::For(Extra::Bench), "reads how long programs ran"),
    command("util-linux", "setpriv", Role::For(Extra::Bench), "ties observers to their benchmark"),
    command("mosquitto", "mosquitto", Role::For(Extra::Test), "the broker of the pool's scenarios"),
    command("mosquitto", "mosquitto", Role::For(Extra::Bench), "the broker of the pool's fleets"),
    command("prometheus", "prometheus", Role::For(Extra::Test), "scrapes what the daemon counts"),
    command("prometheus", "promtool", Role::For(Extra::Test), "judges metrics and expressions"),
    package(
        "python3-paho-mqtt",
        Role::For(Extra::Test),
        "a client that programs of the corpus use",
    ),
    package("python3-requests", Role::For(Extra::Test), "another one"),
    package("python3-aiohttp", Role::For(Extra::Test), "another one"),
    command("npm", "npm", Role::For(Extra::Test), "brings mqtt.js"),
    command(npm::NAME, npm::NAME, Role::For(Extra::Test), "the client of the incident"),
    command("nginx-light", "nginx", Role::For(Extra::Test), "a healthy server of the corpus"),
    command("wrk", "wrk", Role::For(Extra::Test), "keeps it busy"),
    command("redis-server", "redis-server", Role::For(Extra::Test), "another healthy server"),
    command("redis-tools", "redis-benchmark", Role::For(Extra::Test), "keeps it busy"),
    package("postgresql", Role::For(Extra::Test), "another one, and pgbench"),
    command("socat", "socat", Role::For(Extra::Test), "a healthy proxy of the corpus"),
    command("systemd", "journalctl", Role::For(Extra::Test), "reads what a journald was told"),
    command("systemd", "systemd-analyze", Role::For(Extra::Test), "judges the unit"),
    command("iproute2", "ss", Role::For(Extra::Bench), "counts the connects that are turned away"),
    command("openssl", "openssl", Role::For(Extra::Bench), "makes that broker's certificate"),
    command("nodejs", "node", Role::For(Extra::Bench), "runs mqtt.js, a rival of the pool"),
    command("npm", "npm", Role::For(Extra::Bench), "brings mqtt.js"),
    command("qemu-system-x86", "qemu-system-x86_64", Role::For(Extra::Vm), "emulates the machine"),
    command("busybox-static", "busybox", Role::For(Extra::Vm), "the guest's shell and tools"),
    command("cpio", "cpio", Role::For(Extra::Vm), "packs the guest's file system"),
    command("binutils", "strip", Role::For(Extra::Vm), "makes the guest's binary small"),
];

const fn package(name: &'static str, role: Role, why: &'static str) -> Item {
    Item { name, why, role, command: None }
}

const fn command(name: &'static str, command: &'static str, role: Role, why: &'static str) -> Item {
    Item { name, why, role, command: Some(command) }
}

impl Item {
    pub(super) fn is_wanted(&self, extras: &[Extra]) -> bool {
        match self.role {
            Role::For(extra) => extras.contains(&extra),
            Role::Build | Role::EbpfCompiler | Role::Linker | Role::LinkerBuild => true,
        }
    }
}

impl Facts<'_> {
    pub(super) fn presence(&self, item: &Item) -> Presence {
        let found = match item.command {
            // A bpf-linker of another version, or one whose LLVM is gone, is as good as none.
            Some(linker::NAME) => self.linker_runs,
            Some(npm::NAME) => self.has_mqttjs,
            Some(command) => (self.has_command)(command),
            None => self.packages.contains(item.name),
        };
        let replaced = match item.role {
            // Where a C compiler is not Debian's, neither is its C library.
            Role::Build => self.packages.is_empty() && (self.has_command)("cc"),
            Role::EbpfCompiler => self.can_build_ebpf,
            Role::LinkerBuild => self.linker_runs,
            Role::Linker | Role::For(_) => false,
        };
        match (found, replaced) {
            (true, _) => Presence::Present,
            (false, true) => Presence::NotNeeded,
            (false, false) => Presence::Missing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(packages: &[&str], commands: &[&str], ebpf: bool, linker_runs: bool) -> Vec<String> {
        let has_command = |command: &str| commands.contains(&command);
        let facts = Facts {
            packages: packages.iter().map(|it| (*it).to_owned()).collect(),
            can_build_ebpf: ebpf,
            linker_runs,
            has_mqttjs: false,
            has_command: &has_command,
        };
        let wanted = ITEMS.iter().filter(|item| item.is_wanted(&[Extra::Vm]));
        wanted
            .filter(|item| facts.presence(item) == Presence::Missing)
            .map(|item| item.name.to_owned())
            .collect()
    }

    const VM: &[&str] = &["cc", "c++", "qemu-system-x86_64", "busybox", "cpio", "strip"];

    #[test]
    fn a_bare_debian_misses_compiler_linker_and_the_libraries_of_llvm() {
        assert_eq!(
            missing(&["libc6-dev", "zlib1g-dev"], VM, false, false),
            [
                "rustc-web",
                "libstd-rust-web-dev-bpf",
                "llvm-22-dev",
                "libpolly-22-dev",
                "libzstd-dev",
                "libxml2-dev",
                "bpf-linker"
            ]
        );
    }

    #[test]
    fn a_linker_that_runs_needs_no_libraries_to_be_built() {
        assert_eq!(
            missing(&["libc6-dev"], VM, false, true),
            ["rustc-web", "libstd-rust-web-dev-bpf"]
        );
    }

    #[test]
    fn another_distribution_with_nightly_and_a_linker_misses_nothing() {
        assert!(missing(&[], VM, true, true).is_empty());
    }

    #[test]
    fn a_command_counts_wherever_it_came_from() {
        let without_qemu: Vec<&str> =
            VM.iter().copied().filter(|it| !it.starts_with("qemu")).collect();
        assert_eq!(missing(&["libc6-dev"], &without_qemu, true, true), ["qemu-system-x86"]);
    }
}

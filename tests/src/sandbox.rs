//! What systemd would put around the daemon, made without systemd, so that it is tried and not only
//! read: user, capabilities, a read-only `/sys`, and the filter of system calls, loaded for real.

use crate::caps;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// The settings of a unit file, in its order; lines that are continued are not known.
#[derive(Clone, Debug)]
pub struct Unit(Vec<(String, String)>);

impl Unit {
    /// Reads the text of a unit.
    pub fn parse(text: &str) -> Self {
        let settings = text.lines().filter(|line| !line.starts_with('#'));
        let settings = settings.filter_map(|line| line.split_once('='));
        Self(
            settings.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned())).collect(),
        )
    }

    /// All values of a setting.
    pub fn all(&self, key: &str) -> Vec<&str> {
        self.0.iter().filter(|(name, _)| name == key).map(|(_, value)| value.as_str()).collect()
    }

    /// The last value of a setting, as words; none if it is not set.
    pub fn words(&self, key: &str) -> Vec<&str> {
        self.all(key).last().map(|value| value.split(' ').collect()).unwrap_or_default()
    }

    /// Capabilities as setpriv(1) names them: `dac_read_search`.
    pub fn capabilities(&self) -> Vec<String> {
        let words = self.words("AmbientCapabilities");
        words.iter().map(|word| word.trim_start_matches("CAP_").to_lowercase()).collect()
    }

    /// The system calls that its filter lets through (systemd.exec(5): the first line is a list of
    /// what is allowed, the next ones add, and with `~` take away).
    pub fn allowed_calls(&self) -> BTreeSet<String> {
        let sets = sets();
        let mut allowed = BTreeSet::new();
        for line in self.all("SystemCallFilter") {
            let (remove, words) = match line.strip_prefix('~') {
                Some(words) => (true, words),
                None => (false, line),
            };
            let mut named = BTreeSet::new();
            words.split(' ').for_each(|word| expand(word, &sets, &mut named));
            if remove {
                allowed = &allowed - &named;
            } else {
                allowed.extend(named);
            }
        }
        // `@default` is always allowed.
        expand("@default", &sets, &mut allowed);
        allowed
    }

    /// The words before a program that runs as in this unit.
    pub fn wrapper(&self) -> Vec<String> {
        let read_only = "for place in $(awk '$2 ~ /^\\/sys(\\/|$)/ {print $2}' /proc/mounts); do \
                         mount -o remount,bind,ro $place; done";
        let mut words = caps::with_mounts(read_only);
        let capabilities = self.capabilities();
        words.extend(caps::as_by_the_unit(
            &capabilities.iter().map(String::as_str).collect::<Vec<_>>(),
        ));
        let calls: Vec<String> = self.allowed_calls().into_iter().collect();
        words.extend(["python3", "-c", FILTER].map(str::to_owned));
        words.push(calls.join(","));
        words
    }
}

/// Loads a filter that lets only the named calls through (the others fail with EPERM), then becomes
/// the program. Whatever this machine's libseccomp does not know does not exist here.
const FILTER: &str = r#"
import ctypes, os, sys
lib = ctypes.CDLL("libseccomp.so.2")
lib.seccomp_init.restype = ctypes.c_void_p
lib.seccomp_rule_add.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint]
lib.seccomp_load.argtypes = [ctypes.c_void_p]
ALLOW, ERRNO_EPERM = 0x7fff0000, 0x00050001
context = lib.seccomp_init(ERRNO_EPERM)
for name in sys.argv[1].split(","):
    number = lib.seccomp_syscall_resolve_name(name.encode())
    if number >= 0:
        assert lib.seccomp_rule_add(context, ALLOW, number, 0) == 0, name
assert lib.seccomp_load(context) == 0
os.execv(sys.argv[2], sys.argv[2:])
"#;

/// The sets of system calls of the systemd on this host.
fn sets() -> BTreeMap<String, Vec<String>> {
    let out = Command::new("systemd-analyze").args(["syscall-filter", "--no-pager"]).output();
    let text = String::from_utf8(out.expect("systemd-analyze is there").stdout).expect("UTF-8");
    let mut sets: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut current = String::new();
    for line in text.lines() {
        match line.strip_prefix("    ") {
            None => current = line.trim().to_owned(),
            Some(word) if !word.starts_with('#') => {
                sets.entry(current.clone()).or_default().push(word.trim().to_owned());
            }
            Some(_) => {}
        }
    }
    sets
}

fn expand(word: &str, sets: &BTreeMap<String, Vec<String>>, into: &mut BTreeSet<String>) {
    if !word.starts_with('@') {
        into.insert(word.to_owned());
        return;
    }
    let members = sets.get(word).unwrap_or_else(|| panic!("no set {word} in this systemd"));
    members.iter().for_each(|member| expand(member, sets, into));
}

//! What this process may do, asked before the kernel is, so that the answer has a remedy in it.

use super::{Layers, error::ProbeError};

/// Bits of `CapEff` (include/uapi/linux/capability.h).
const DAC_READ_SEARCH: u32 = 2;
const NET_ADMIN: u32 = 12;
const SYS_ADMIN: u32 = 21;
const PERFMON: u32 = 38;
const BPF: u32 = 39;

/// Inode of the host's own pid namespace (`PROC_PID_INIT_INO`, include/linux/proc_ns.h).
const HOST_PID_NAMESPACE: u64 = 0xefff_fffc;

/// Fails if a capability that `layers` needs is missing.
pub(super) fn check(layers: Layers) -> Result<(), ProbeError> {
    let missing = missing(effective(), layers);
    if !missing.is_empty() {
        return Err(ProbeError::NotPermitted { missing });
    }
    let namespace = rustix::fs::stat("/proc/self/ns/pid").map(|stat| stat.st_ino);
    // Process numbers in records are the host's; nothing here could be matched to them.
    if namespace.is_ok_and(|inode| inode != HOST_PID_NAMESPACE) {
        return Err(ProbeError::PidNamespace);
    }
    Ok(())
}

/// Fails if CAP_NET_ADMIN is missing, which layer C needs besides the others.
pub(super) fn check_names() -> Result<(), ProbeError> {
    if has(effective(), NET_ADMIN) {
        return Ok(());
    }
    let missing = "CAP_NET_ADMIN (to see MQTT client ids, layer C)".to_owned();
    Err(ProbeError::NotPermitted { missing })
}

fn effective() -> u64 {
    procfs::process::Process::myself()
        .and_then(|process| process.status())
        .map_or(u64::MAX, |status| status.capeff)
}

fn has(effective: u64, bit: u32) -> bool {
    effective >> bit & 1 == 1
}

/// The capabilities that are missing, in words; empty if none is.
fn missing(effective: u64, layers: Layers) -> String {
    let has = |bit: u32| has(effective, bit);
    if has(SYS_ADMIN) {
        // Includes CAP_BPF and CAP_PERFMON (capabilities(7)).
        return String::new();
    }
    let needed = [
        (BPF, "CAP_BPF (to load programs)", true),
        (PERFMON, "CAP_PERFMON (to read kernel memory and attach to tracepoints)", true),
        (
            DAC_READ_SEARCH,
            "CAP_DAC_READ_SEARCH (to read tracefs, for layer B)",
            layers == Layers::Ab,
        ),
    ];
    let names: Vec<_> = needed
        .into_iter()
        .filter(|(bit, _, wanted)| *wanted && !has(*bit))
        .map(|(_, name, _)| name)
        .collect();
    names.join(" and ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let bits = |bits: &[u32]| bits.iter().map(|bit| 1u64 << bit).sum::<u64>();
        let cases = [
            (bits(&[SYS_ADMIN]), Layers::Ab, vec![]),
            (bits(&[BPF, PERFMON]), Layers::A, vec![]),
            (bits(&[BPF, PERFMON]), Layers::Ab, vec!["CAP_DAC_READ_SEARCH"]),
            (bits(&[BPF, PERFMON, DAC_READ_SEARCH]), Layers::Ab, vec![]),
            (bits(&[BPF]), Layers::A, vec!["CAP_PERFMON"]),
            (bits(&[]), Layers::A, vec!["CAP_BPF", "CAP_PERFMON"]),
        ];
        for (effective, layers, expected) in cases {
            let text = missing(effective, layers);
            assert_eq!(text.is_empty(), expected.is_empty(), "{text}");
            assert!(expected.iter().all(|name| text.contains(name)), "{text}");
        }
    }
}

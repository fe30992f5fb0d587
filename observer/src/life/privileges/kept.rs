//! EDGE: which capability this kernel makes us keep.

use rustix::thread::CapabilitySet;

/// What has to stay on the running kernel, so that open maps can be used.
pub(super) fn kept() -> CapabilitySet {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let disabled = std::fs::read_to_string("/proc/sys/kernel/unprivileged_bpf_disabled");
    kept_by(&release, disabled.is_ok_and(|value| value.trim() != "0"))
}

/// Before 5.19 `kernel.unprivileged_bpf_disabled` forbids every command of bpf(2) to processes
/// without CAP_BPF; since then only loading programs and making maps (commit c8644cd0efe7, "bpf:
/// refine kernel.unprivileged_bpf_disabled behaviour"). A release that cannot be read counts as
/// new: what is kept in vain is worse than what fails with a message.
fn kept_by(release: &str, disabled: bool) -> CapabilitySet {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    let old = matches!(
        (numbers.next(), numbers.next()),
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) < (5, 19)
    );
    if old && disabled { CapabilitySet::BPF } else { CapabilitySet::empty() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_old_kernels_that_forbid_bpf_make_us_keep_it() {
        let cases = [
            ("5.15.0-91-generic", true, CapabilitySet::BPF),
            ("5.18.19", true, CapabilitySet::BPF),
            ("5.15.0-91-generic", false, CapabilitySet::empty()),
            ("5.19.0", true, CapabilitySet::empty()),
            ("6.1.0-18-amd64", true, CapabilitySet::empty()),
            ("6.18", true, CapabilitySet::empty()),
            ("strange", true, CapabilitySet::empty()),
            ("", true, CapabilitySet::empty()),
        ];
        for (release, disabled, expected) in cases {
            assert_eq!(kept_by(release, disabled), expected, "{release}");
        }
    }
}

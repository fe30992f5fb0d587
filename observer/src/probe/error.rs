//! Why the kernel cannot be watched, by who must act: the operator, or nobody on this kernel.

use std::{io, path::PathBuf};

use aya::{EbpfError, programs::ProgramError};

use super::btf::BtfError;

const EPERM: i32 = rustix::io::Errno::PERM.raw_os_error();
const EACCES: i32 = rustix::io::Errno::ACCESS.raw_os_error();

/// Why the probe could not start or went blind.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The operator: run with privileges.
    #[error(
        "not permitted: watching needs {missing}. Run it as root (`sudo sockwarden ...`), or grant \
         the service CAP_BPF, CAP_PERFMON, CAP_DAC_READ_SEARCH and CAP_NET_ADMIN"
    )]
    NotPermitted {
        /// The capabilities that are missing.
        missing: String,
    },
    /// The operator: the kernel refused although the capabilities are there.
    #[error(
        "the kernel refused `{what}` ({error}) although the capabilities are there: a security \
         module, kernel lockdown or a user namespace forbids eBPF here. Run sockwarden on the host \
         itself"
    )]
    Refused {
        /// What was asked.
        what: String,
        /// The kernel's answer.
        error: io::Error,
    },
    /// The operator: run it on the host.
    #[error(
        "sockwarden runs in a pid namespace of its own, where process numbers are not the \
         kernel's. Run it on the host, or the container with `--pid=host`"
    )]
    PidNamespace,
    /// Another kernel is needed.
    #[error(
        "this kernel has no type information: {path} does not exist. sockwarden needs a kernel \
         built with CONFIG_DEBUG_INFO_BTF=y (Debian 11, Ubuntu 20.10, RHEL 8.2 and later have it)",
        path = path.display()
    )]
    NoBtf {
        /// Where it was expected.
        path: PathBuf,
    },
    /// Another version of sockwarden, or of the kernel, is needed.
    #[error("{0}. sockwarden does not guess: report it with the output of `uname -r`")]
    Btf(#[from] BtfError),
    /// A file of the kernel cannot be read.
    #[error("{path} cannot be read: {error}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Another kernel is needed.
    #[error(
        "this kernel ({release}) cannot run the program `{program}`, which needs Linux {since} or \
         later: {reason}"
    )]
    KernelTooOld {
        /// The program.
        program: &'static str,
        /// First kernel that can.
        since: &'static str,
        /// The running kernel.
        release: String,
        /// What the verifier said last.
        reason: String,
    },
    /// The operator: mount tracefs, or ask for layer A only.
    #[error(
        "layer B needs tracefs, which is not mounted: {reason}. Mount it (`mount -t tracefs \
         tracefs /sys/kernel/tracing`) or ask for `--layers a`"
    )]
    NoTracefs {
        /// Why it could not be mounted.
        reason: String,
    },
    /// The build is not complete.
    #[error("this binary was built without the eBPF object: run `cargo xtask build`")]
    NoObject,
    /// Something else that the kernel or aya said.
    #[error("the eBPF program cannot be {doing}: {error}")]
    Bpf {
        /// What was tried.
        doing: &'static str,
        /// The answer, with its causes.
        error: String,
    },
}

impl ProbeError {
    /// Whether privileges are missing (and not ability).
    pub fn is_permission(&self) -> bool {
        matches!(self, Self::NotPermitted { .. } | Self::Refused { .. })
    }

    /// From a failure to load the object or its maps.
    pub(super) fn loading(error: EbpfError) -> Self {
        Self::classify("loaded", "BPF_MAP_CREATE", &error)
    }

    /// From a failure to attach, read or write.
    pub(super) fn using(doing: &'static str, error: &(dyn std::error::Error + 'static)) -> Self {
        Self::classify(doing, "bpf(2)", error)
    }

    /// From a failure to load one program: the verifier's last words tell an old kernel from a
    /// refusal.
    pub(super) fn program(
        program: &'static str,
        since: &'static str,
        release: &str,
        error: &ProgramError,
    ) -> Self {
        if let ProgramError::LoadError { io_error, verifier_log } = error {
            let log = verifier_log.to_string();
            if let Some(reason) = missing_ability(&log) {
                return Self::KernelTooOld { program, since, release: release.to_owned(), reason };
            }
            if io_error.raw_os_error() != Some(EPERM) {
                return Self::Bpf {
                    doing: "loaded",
                    error: format!("{program}: {io_error}\n{log}"),
                };
            }
        }
        if let ProgramError::Btf(error) = error {
            // The hook is not among the kernel's types.
            let reason = error.to_string();
            return Self::KernelTooOld { program, since, release: release.to_owned(), reason };
        }
        Self::classify("loaded", program, error)
    }

    fn classify(
        doing: &'static str,
        what: &str,
        error: &(dyn std::error::Error + 'static),
    ) -> Self {
        let mut text = error.to_string();
        let mut cause = Some(error);
        while let Some(error) = cause {
            let errno = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
            if let Some(errno @ (EPERM | EACCES)) = errno {
                return Self::Refused {
                    what: what.to_owned(),
                    error: io::Error::from_raw_os_error(errno),
                };
            }
            // These wrappers pass on the source of what they wrap, and not that itself.
            if let Some(ProgramError::IOError(error)) = error.downcast_ref() {
                cause = Some(error);
                continue;
            }
            cause = error.source();
            if let Some(error) = cause {
                let next = error.to_string();
                if !text.contains(&next) {
                    text = format!("{text}: {next}");
                }
            }
        }
        Self::Bpf { doing, error: text }
    }
}

/// The line of a verifier's log that says that a helper is not known to this kernel.
fn missing_ability(log: &str) -> Option<String> {
    let tells = ["unknown func", "invalid func", "program of this type cannot use helper"];
    log.lines()
        .find(|line| tells.iter().any(|tell| line.contains(tell)))
        .map(|line| line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_kernel_is_told_from_a_faulty_program() {
        // The words of a 5.10 kernel.
        let old = "0: (b7) r0 = 0\n5: (85) call bpf_get_socket_cookie#46\nunknown func bpf_get_socket_cookie#46\n";
        let cases = [
            (old, Some("unknown func bpf_get_socket_cookie#46")),
            ("invalid func unknown#162", Some("invalid func unknown#162")),
            ("R1 type=scalar expected=fp", None),
            ("", None),
        ];
        for (log, expected) in cases {
            assert_eq!(missing_ability(log).as_deref(), expected, "{log}");
        }
    }

    #[test]
    fn a_refusal_is_found_below_its_wrappers() {
        let error = ProgramError::IOError(io::Error::from_raw_os_error(EPERM));
        assert!(ProbeError::program("state", "5.15", "6.1", &error).is_permission());
        let error = ProgramError::IOError(io::Error::from_raw_os_error(22));
        assert!(!ProbeError::program("state", "5.15", "6.1", &error).is_permission());
    }
}

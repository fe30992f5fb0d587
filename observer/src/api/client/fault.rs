//! PURE. Why the daemon gave no answer, and what the person can do.

use std::io;

use super::Address;
use crate::escape;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("no daemon answers on {}: start it (`systemctl start sockwarden`, or \
        `sockwarden run` as root), or say where it is with --socket", told(.address))]
    NoDaemon {
        /// Where.
        address: Address,
    },
    /// The socket's mode does not let this user in.
    #[error("no permission for {}: ask as root or as a member of its group ({group}); \
        `group` in [api] of the daemon's config chooses it", told(.address))]
    NoPermission {
        /// Where.
        address: Address,
        /// The group of the socket, for people.
        group: String,
    },
    /// The system says something else.
    #[error("cannot connect to {}: {source}", told(.address))]
    Unreachable {
        /// Where.
        address: Address,
        /// What it says.
        source: io::Error,
    },
    /// The connection broke.
    #[error("the daemon on {} broke off: {source}; look at its journal \
        (`journalctl -u sockwarden`)", told(.address))]
    Broken {
        /// Where.
        address: Address,
        /// How.
        source: hyper::Error,
    },
    /// The daemon said no.
    #[error("{}", escape::visible(.message))]
    Refused {
        /// Where.
        address: Address,
        /// Status of the answer.
        status: u16,
        /// A stable name.
        code: String,
        /// What it said: text from outside.
        message: String,
    },
    /// Somebody else answers there.
    #[error("{} answers with {status}, but not like a sockwarden daemon", told(.address))]
    NotOurs {
        /// Where.
        address: Address,
        /// Status of the answer.
        status: u16,
    },
    /// The answer is none of ours.
    #[error("the daemon's answer cannot be understood: are both of the same version?")]
    NotUnderstood,
}

/// Who must act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The command line is wrong.
    Usage,
    /// The daemon, the broker or the host is not able.
    Unable,
    /// This user may not.
    Permission,
}

impl ClientError {
    pub(super) fn unreachable(address: &Address, source: io::Error) -> Self {
        use std::io::ErrorKind as Kind;
        let address = address.clone();
        match source.kind() {
            Kind::NotFound | Kind::ConnectionRefused => Self::NoDaemon { address },
            Kind::PermissionDenied => Self::NoPermission { group: group_of(&address), address },
            _ => Self::Unreachable { address, source },
        }
    }

    /// Who must act.
    pub fn blame(&self) -> Blame {
        match self {
            Self::NoPermission { .. } | Self::Refused { status: 401 | 403, .. } => {
                Blame::Permission
            }
            Self::Refused { status: 429, .. } => Blame::Unable,
            Self::Refused { status: 400..=499, .. } => Blame::Usage,
            _ => Blame::Unable,
        }
    }
}

fn told(address: &Address) -> String {
    match address {
        Address::Unix(path) => escape::visible(&path.display().to_string()).into_owned(),
        Address::Tcp(address) => format!("http://{address}"),
    }
}

/// The group that may use the socket, by its file; the directory may hide even that.
fn group_of(address: &Address) -> String {
    use std::os::unix::fs::MetadataExt as _;
    let Address::Unix(path) = address else { return "none".to_owned() };
    let Ok(file) = std::fs::metadata(path) else { return "not known".to_owned() };
    match nix::unistd::Group::from_gid(nix::unistd::Gid::from_raw(file.gid())) {
        Ok(Some(group)) => group.name,
        _ => file.gid().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_says_who_must_act() {
        let address = Address::Unix("/run/sockwarden/api.sock".into());
        let refused = |status| ClientError::Refused {
            address: Address::Unix("x".into()),
            status,
            code: "x".to_owned(),
            message: "\x1b[31mno".to_owned(),
        };
        let io = |kind| ClientError::unreachable(&address, io::Error::from(kind));
        let cases = [
            (io(io::ErrorKind::NotFound), Blame::Unable, "sockwarden run"),
            (io(io::ErrorKind::ConnectionRefused), Blame::Unable, "systemctl start"),
            (io(io::ErrorKind::PermissionDenied), Blame::Permission, "group"),
            (io(io::ErrorKind::TimedOut), Blame::Unable, "api.sock"),
            (refused(400), Blame::Usage, "\\u{1b}[31mno"),
            (refused(403), Blame::Permission, "no"),
            (refused(404), Blame::Usage, "no"),
            (refused(429), Blame::Unable, "no"),
            (refused(502), Blame::Unable, "no"),
        ];
        for (error, blame, part) in cases {
            assert_eq!(error.blame(), blame, "{error}");
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}

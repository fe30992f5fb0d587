//! What an error of the system, of TLS or of WebSocket means for a session: one total function.

use crate::error::{Cause, OperatorError};
use nix::errno::Errno;
use std::io::{Error, ErrorKind};
use tokio_rustls::rustls;
use tokio_rustls::rustls::{AlertDescription, CertificateError};
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::error::ProtocolError;

/// The cause behind any error of a connect, a read or a write, whichever layer made it.
///
/// A read of 0 bytes is no error: the caller says [`Cause::PeerClosed`] itself.
pub(crate) fn cause_of(error: &Error) -> Cause {
    if let Some(inner) = error.get_ref() {
        if let Some(cause) = inner.downcast_ref::<Cause>() {
            return cause.clone();
        }
        if let Some(tls) = inner.downcast_ref() {
            return tls_cause(tls);
        }
        if let Some(websocket) = inner.downcast_ref() {
            return websocket_cause(websocket);
        }
    }
    match error.raw_os_error() {
        Some(code) => system_cause(Errno::from_raw(code), error),
        None => match error.kind() {
            // TLS without close_notify (RFC 8446 §6.1): brokers that are killed, and some others.
            ErrorKind::UnexpectedEof | ErrorKind::WriteZero => Cause::PeerClosed,
            _ => Cause::Io(error.to_string()),
        },
    }
}

/// The cause behind an error of rustls, with what to do about it.
pub(super) fn tls_cause(error: &rustls::Error) -> Cause {
    use rustls::Error as E;
    let remedy = match error {
        // A bad signature: an authority of the same name, with another key.
        E::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            "the broker's certificate is not signed by an authority that we trust: give the \
             broker's CA file"
        }
        E::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => "renew the broker's certificate, or check the clock of this host",
        E::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => "check the clocks of this host and of the broker",
        E::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "use one of these names in the broker's address, or give it as the server name",
        E::InvalidMessage(_) => "does the broker speak TLS on this port?",
        E::AlertReceived(AlertDescription::CertificateRequired) => {
            "the broker demands a client certificate: give one with its key"
        }
        E::AlertReceived(
            AlertDescription::BadCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            | AlertDescription::DecryptError
            | AlertDescription::UnknownCA,
        ) => "the broker does not accept our client certificate",
        E::AlertReceived(AlertDescription::HandshakeFailure) => {
            "no cipher suite in common, or the broker demands a client certificate"
        }
        E::AlertReceived(AlertDescription::ProtocolVersion) | E::PeerIncompatible(_) => {
            "the broker must speak TLS 1.2 or 1.3"
        }
        E::AlertReceived(AlertDescription::UnrecognisedName) => {
            "the broker does not know the name we asked for: give its server name"
        }
        E::AlertReceived(AlertDescription::NoApplicationProtocol) | E::NoApplicationProtocol => {
            "the broker takes none of the ALPN protocols that are configured"
        }
        _ => return Cause::Tls(error.to_string()),
    };
    Cause::Tls(format!("{error}: {remedy}"))
}

/// The cause behind an error of WebSocket, with what to do about it.
pub(super) fn websocket_cause(error: &tungstenite::Error) -> Cause {
    use tungstenite::Error as E;
    match error {
        E::Io(error) => cause_of(error),
        E::ConnectionClosed
        | E::AlreadyClosed
        | E::Protocol(
            ProtocolError::HandshakeIncomplete | ProtocolError::ResetWithoutClosingHandshake,
        ) => Cause::PeerClosed,
        E::Protocol(ProtocolError::SecWebSocketSubProtocolError(problem)) => {
            let remedy = "the broker must agree to the subprotocol mqtt (MQTT-6.0.0-3)";
            Cause::WebSocket(format!("{problem}: {remedy}"))
        }
        E::Http(answer) => {
            let status = answer.status();
            let remedy = "the broker refuses the upgrade: is the path right?";
            Cause::WebSocket(format!("HTTP {status}: {remedy}"))
        }
        E::Protocol(ProtocolError::HttparseError(problem)) => {
            Cause::WebSocket(format!("{problem}: does the broker speak WebSocket on this port?"))
        }
        _ => Cause::WebSocket(error.to_string()),
    }
}

fn system_cause(code: Errno, error: &Error) -> Cause {
    let system = |what, remedy: &str| {
        Cause::Operator(OperatorError::System { what, problem: format!("{error}: {remedy}") })
    };
    match code {
        Errno::ECONNREFUSED => Cause::Refused,
        Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::ENETDOWN | Errno::EHOSTDOWN => {
            Cause::Unreachable(error.to_string())
        }
        Errno::ECONNRESET => Cause::Reset,
        Errno::ETIMEDOUT => Cause::TcpTimeout,
        // A reset after the peer's FIN (tcp_reset, net/ipv4/tcp_input.c), or a write after it.
        Errno::EPIPE => Cause::PeerClosed,
        // Only SOCK_DESTROY says this of a connection (tcp_abort, net/ipv4/tcp.c).
        Errno::ECONNABORTED => {
            Cause::Io(format!("{error}: somebody on this host destroyed the socket (ss -K)"))
        }
        Errno::EMFILE => system(
            "descriptor for a socket",
            "raise this process's limit of open files (LimitNOFILE= of the unit)",
        ),
        Errno::ENFILE => system("descriptor for a socket", "raise fs.file-max of this host"),
        Errno::ENOBUFS | Errno::ENOMEM => {
            system("memory for a socket", "see net.ipv4.tcp_mem and the memory of the cgroup")
        }
        Errno::EADDRNOTAVAIL | Errno::EADDRINUSE => system(
            "local port",
            "all ports towards the broker are in use or in TIME_WAIT, or the source address is \
             not of this host: add source addresses, or widen net.ipv4.ip_local_port_range",
        ),
        Errno::EACCES | Errno::EPERM => system(
            "permission for a connection",
            "a firewall rule, a seccomp filter or a security module of this host forbids it",
        ),
        Errno::EAFNOSUPPORT | Errno::EPROTONOSUPPORT => {
            system("sockets of this kind", "is this address family switched off here?")
        }
        _ => Cause::Io(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(code: Errno, expected: &str, text: &str) {
        let cause = cause_of(&Error::from_raw_os_error(code as i32));
        assert_eq!(cause.code(), expected, "{code}: {cause}");
        assert!(cause.to_string().contains(text), "{code}: {cause}");
    }

    #[test]
    fn each_error_of_the_system_has_its_cause() {
        check(Errno::ECONNREFUSED, "refused", "refused");
        check(Errno::ENETUNREACH, "unreachable", "Network is unreachable");
        check(Errno::EHOSTUNREACH, "unreachable", "No route to host");
        check(Errno::ECONNRESET, "reset", "reset");
        check(Errno::ETIMEDOUT, "tcp-timeout", "TCP timed out");
        check(Errno::EPIPE, "peer-closed", "closed");
        check(Errno::ECONNABORTED, "io", "ss -K");
        check(Errno::EMFILE, "operator", "LimitNOFILE");
        check(Errno::ENFILE, "operator", "fs.file-max");
        check(Errno::ENOBUFS, "operator", "tcp_mem");
        check(Errno::EADDRNOTAVAIL, "operator", "ip_local_port_range");
        check(Errno::EPERM, "operator", "firewall");
        check(Errno::EAFNOSUPPORT, "operator", "address family");
        check(Errno::EBADF, "io", "Bad file descriptor");
    }

    #[test]
    fn an_error_of_tls_is_found_within_those_of_websocket() {
        let tls = rustls::Error::AlertReceived(AlertDescription::CertificateRequired);
        let within = tungstenite::Error::Io(Error::new(ErrorKind::InvalidData, tls));
        let cause = cause_of(&Error::other(within));
        assert!(matches!(&cause, Cause::Tls(text) if text.contains("client certificate")));
    }

    #[test]
    fn a_cause_passes_through_an_error_of_io() {
        let cause = Cause::WebSocket("a text message".to_owned());
        assert_eq!(cause_of(&Error::other(cause.clone())), cause);
    }

    #[test]
    fn an_end_without_close_notify_is_the_peers_close() {
        assert_eq!(cause_of(&ErrorKind::UnexpectedEof.into()), Cause::PeerClosed);
    }

    proptest! {
        #[test]
        fn no_number_of_the_system_panics(code: i32) {
            let _any = cause_of(&Error::from_raw_os_error(code));
        }
    }
}

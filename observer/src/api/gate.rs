//! PURE. Who may ask what.
//!
//! Three things are kept out. Strangers on this host from changing anything: writing is only on the
//! Unix socket, whose mode 0660 lets in its owner and its group, and whose clients are checked once
//! more by their credentials, so that a mode which somebody widened opens nothing. Web pages: a
//! browser cannot connect to a Unix socket, but to loopback, and a page whose name was made to
//! resolve to 127.0.0.1 (DNS rebinding) is of the same origin there; its requests carry that name as
//! `Host`, so that only addresses and `localhost` are taken. Pages that write: browsers send `Origin`
//! with every writing request (Fetch standard, section 3.2), other clients do not.

use std::{net::IpAddr, path::PathBuf};

use axum::http::{
    HeaderMap, Method, StatusCode, Uri, Version,
    header::{HOST, ORIGIN},
    request::Parts,
    uri::Authority,
};

use super::{error::ApiError, peer::Peer};

/// By which way a request came.
#[derive(Clone, Debug)]
pub(super) enum Door {
    /// Loopback TCP: anybody on this host.
    Tcp,
    /// The Unix socket.
    Unix(Peer),
}

/// Whom the Unix socket is for, beside root.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    /// The daemon's own user.
    pub(super) own_uid: u32,
    /// The group of the config.
    pub(super) group: Option<u32>,
    /// Where it is, for those who came by the wrong door.
    pub(super) socket: PathBuf,
}

/// Whether `method` changes something.
pub(super) fn is_write(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD)
}

/// Lets a request in, or says why not.
///
/// # Errors
///
/// 403, or 400 for a request without a proper `Host`.
pub(super) fn check(door: &Door, rule: &Rule, request: &Parts) -> Result<(), ApiError> {
    let writes = is_write(&request.method);
    match door {
        Door::Tcp => check_host(&request.uri, &request.headers, request.version)?,
        Door::Unix(peer) => check_peer(peer, rule)?,
    }
    if writes && request.headers.contains_key(ORIGIN) {
        let message = "requests of web pages (with `Origin`) change nothing here";
        return Err(ApiError::forbidden("web-page", message));
    }
    if writes && matches!(door, Door::Tcp) {
        let message = format!(
            "what changes something is taken only by the Unix socket {}",
            rule.socket.display()
        );
        return Err(ApiError::forbidden("read-only", message));
    }
    Ok(())
}

fn check_peer(peer: &Peer, rule: &Rule) -> Result<(), ApiError> {
    let in_group = |group| peer.gid == group || peer.groups.contains(&group);
    if peer.uid == 0 || peer.uid == rule.own_uid || rule.group.is_some_and(in_group) {
        return Ok(());
    }
    let whom = match rule.group {
        None => "set `group` in [api] to let others in".to_owned(),
        Some(group) => format!("and for the group {group} (`group` in [api])"),
    };
    let message = format!(
        "uid {} may not: the socket is for root and the daemon's own user; {whom}",
        peer.uid
    );
    Err(ApiError::forbidden("not-permitted", message))
}

fn check_host(uri: &Uri, headers: &HeaderMap, version: Version) -> Result<(), ApiError> {
    let mut named = headers.get_all(HOST).iter();
    let host = named.next();
    // RFC 9112 section 3.2: one and only one. A browser never leaves it out.
    if named.next().is_some() || (host.is_none() && version >= Version::HTTP_11) {
        let message = "send one `Host` (RFC 9112 section 3.2)";
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "host", message));
    }
    let host = host.map(|host| host.to_str().ok().and_then(|host| host.parse().ok()));
    // An absolute request target counts more than the header (RFC 9112 section 3.2.2): both must be
    // of this host.
    let names = host.into_iter().chain(uri.authority().map(|authority| Some(authority.clone())));
    for name in names {
        if !name.is_some_and(|name| is_own_name(&name)) {
            let message = "`Host` must be an address or `localhost`, so that no web page can ask \
                through a name of its own";
            return Err(ApiError::forbidden("host", message));
        }
    }
    Ok(())
}

fn is_own_name(authority: &Authority) -> bool {
    let host = authority.host();
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let is_plain = !authority.as_str().contains('@');
    is_plain && (host.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok())
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    const OWN: u32 = 998;
    const GROUP: u32 = 50;

    fn rule(group: Option<u32>) -> Rule {
        Rule { own_uid: OWN, group, socket: "/run/sockwarden/api.sock".into() }
    }

    fn peer(uid: u32, gid: u32, groups: &[u32]) -> Door {
        Door::Unix(Peer { uid, gid, pid: Some(7), groups: groups.to_vec() })
    }

    fn request(method: &str, uri: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).expect("invariant: a valid request").into_parts().0
    }

    #[test]
    fn the_unix_socket_is_for_root_the_daemon_and_one_group() {
        let get = request("GET", "/readyz", &[]);
        let cases = [
            (peer(0, 0, &[]), None, true),
            (peer(OWN, 1, &[]), None, true),
            (peer(1_000, GROUP, &[]), None, false),
            (peer(1_000, GROUP, &[]), Some(GROUP), true),
            (peer(1_000, 1_000, &[4, GROUP]), Some(GROUP), true),
            (peer(1_000, 1_000, &[4]), Some(GROUP), false),
            // No user is let in because of a group's number, nor the other way round.
            (peer(GROUP, 1_000, &[]), Some(GROUP), false),
            (peer(1_000, 0, &[0]), Some(GROUP), false),
        ];
        for (door, group, expected) in cases {
            assert_eq!(check(&door, &rule(group), &get).is_ok(), expected, "{door:?} {group:?}");
        }
    }

    #[test]
    fn only_the_unix_socket_writes() {
        let host = [("host", "127.0.0.1")];
        for method in ["POST", "DELETE", "PUT", "PATCH", "OPTIONS", "CONNECT", "TRACE", "BREW"] {
            let write = request(method, "/x", &host);
            let error = check(&Door::Tcp, &rule(None), &write).expect_err("invariant: a write");
            assert_eq!((error.status, error.code), (StatusCode::FORBIDDEN, "read-only"));
            assert!(error.message.contains("/run/sockwarden/api.sock"));
            assert_eq!(check(&peer(0, 0, &[]), &rule(None), &write), Ok(()));
        }
        for method in ["GET", "HEAD"] {
            assert_eq!(check(&Door::Tcp, &rule(None), &request(method, "/x", &host)), Ok(()));
        }
    }

    #[test]
    fn pages_change_nothing_whoever_sends_them() {
        let write = request("POST", "/x", &[("origin", "null")]);
        let error = check(&peer(0, 0, &[]), &rule(None), &write).expect_err("invariant: a page");
        assert_eq!(error.code, "web-page");
        let read = request("GET", "/x", &[("origin", "http://a")]);
        assert_eq!(check(&peer(0, 0, &[]), &rule(None), &read), Ok(()));
    }

    #[test]
    fn names_that_a_page_can_own_are_refused() {
        let cases = [
            ("127.0.0.1", true),
            ("127.0.0.1:9641", true),
            ("[::1]:9641", true),
            ("[::1]", true),
            ("LocalHost:1", true),
            ("192.0.2.1", true),
            ("localhost.evil.example", false),
            ("evil.example", false),
            ("evil.example:9641", false),
            ("127.0.0.1.evil.example", false),
            ("127.1.evil", false),
            ("127.0.0.1@evil.example", false),
            ("evil.example@127.0.0.1", false),
            ("", false),
            ("[", false),
            ("a b", false),
        ];
        for (host, expected) in cases {
            let read = request("GET", "/x", &[("host", host)]);
            assert_eq!(check(&Door::Tcp, &rule(None), &read).is_ok(), expected, "{host:?}");
        }
        let absolute = |uri| request("GET", uri, &[("host", "127.0.0.1")]);
        assert!(check(&Door::Tcp, &rule(None), &absolute("http://evil.example/x")).is_err());
        assert!(check(&Door::Tcp, &rule(None), &absolute("http://127.0.0.1/x")).is_ok());
    }

    #[test]
    fn there_is_one_host_in_a_request() {
        let none = request("GET", "/x", &[]);
        assert_eq!(check(&Door::Tcp, &rule(None), &none).expect_err("none").status, 400);
        let two = request("GET", "/x", &[("host", "127.0.0.1"), ("host", "127.0.0.1")]);
        assert_eq!(check(&Door::Tcp, &rule(None), &two).expect_err("two").status, 400);
        let mut old = none;
        old.version = Version::HTTP_10;
        assert_eq!(check(&Door::Tcp, &rule(None), &old), Ok(()));
    }
}

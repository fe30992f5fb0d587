use crate::error::Cause;
use std::sync::Arc;

/// Redirects followed in a row before the configured broker is asked again.
const MOST_IN_A_ROW: u8 = 3;

/// The servers that a broker may send a device to (MQTT 5 §4.13). Empty: none.
///
/// An entry is `host` or `host:port`; `*.example.com` stands for every name below it.
#[derive(Clone, Debug, Default)]
pub(crate) struct AllowList(Arc<[String]>);

/// What to do about a session's end.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// It names no other server.
    None,
    Follow(Arc<str>),
    Refuse(String),
}

impl AllowList {
    pub(crate) fn new(entries: Vec<String>) -> Self {
        Self(entries.into())
    }

    /// Reason codes 0x9C (use another server) and 0x9D (server moved) with a server reference.
    pub(super) fn follow(&self, cause: &Cause, in_a_row: u8) -> Verdict {
        let (Cause::ConnectRefused { code: 0x9C | 0x9D, detail: Some(detail), .. }
        | Cause::Disconnected { code: 0x9C | 0x9D, detail: Some(detail), .. }) = cause
        else {
            return Verdict::None;
        };
        let Some(references) = &detail.server_reference else { return Verdict::None };
        if in_a_row >= MOST_IN_A_ROW {
            return Verdict::Refuse(references.clone());
        }
        // A list of references is separated by spaces (MQTT 5 §4.11).
        let allowed = references.split(' ').find(|reference| self.allows(reference));
        match allowed {
            Some(server) => Verdict::Follow(server.into()),
            None => Verdict::Refuse(references.clone()),
        }
    }

    fn allows(&self, reference: &str) -> bool {
        let host = host_of(reference);
        !host.is_empty()
            && self.0.iter().any(|entry| match entry.strip_prefix("*.") {
                Some(domain) => host.strip_suffix(domain).is_some_and(|name| name.ends_with('.')),
                None => entry == reference || entry == host,
            })
    }
}

/// `host`, `host:port`, `[v6]` or `[v6]:port`.
fn host_of(reference: &str) -> &str {
    match reference.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, _)) => host,
        None => reference.split(':').next().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Detail;

    fn moved(reference: &str) -> Cause {
        let server_reference = Some(reference.to_owned());
        let detail = Some(Box::new(Detail { reason_string: None, server_reference }));
        Cause::ConnectRefused { code: 0x9D, reason: "server moved", detail }
    }

    #[track_caller]
    fn check(reference: &str, expected: Option<&str>) {
        let allowed = ["b.example.com", "c.example.com:8883", "*.eu.example.com", "::1"];
        let list = AllowList::new(allowed.map(str::to_owned).to_vec());
        let followed = match list.follow(&moved(reference), 0) {
            Verdict::Follow(server) => Some(server.to_string()),
            Verdict::Refuse(_) => None,
            Verdict::None => panic!("{reference} is a reference"),
        };
        assert_eq!(followed.as_deref(), expected, "{reference}");
    }

    #[test]
    fn only_listed_servers_are_followed() {
        check("b.example.com", Some("b.example.com"));
        check("b.example.com:1884", Some("b.example.com:1884"));
        check("c.example.com:8883", Some("c.example.com:8883"));
        check("c.example.com:1", None);
        check("x.eu.example.com", Some("x.eu.example.com"));
        check("eu.example.com", None);
        check("evileu.example.com", None);
        check("evil.com b.example.com", Some("b.example.com"));
        check("evil.com", None);
        check("", None);
        check("[::1]:1883", Some("[::1]:1883"));
    }

    #[test]
    fn a_circle_ends() {
        let list = AllowList::new(vec!["b".to_owned()]);
        assert!(matches!(list.follow(&moved("b"), 2), Verdict::Follow(_)));
        assert!(matches!(list.follow(&moved("b"), 3), Verdict::Refuse(_)));
    }

    #[test]
    fn other_ends_name_no_server() {
        let list = AllowList::new(vec!["b".to_owned()]);
        assert_eq!(list.follow(&Cause::PeerClosed, 0), Verdict::None);
    }
}

//! The tickets of TLS for short handshakes, enough of them for a storm.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio_rustls::rustls::NamedGroup;
use tokio_rustls::rustls::client::{
    ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use tokio_rustls::rustls::pki_types::ServerName;

/// The tickets of one broker, for all devices.
///
/// A ticket of TLS 1.3 serves once (RFC 8446 appendix C.4). The store of rustls keeps 8 for each
/// server, so with 80 handshakes at once nearly all would be full ones; here each finds one,
/// because each leaves one or two for the next.
#[derive(Default)]
pub(super) struct Tickets(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    group: Option<NamedGroup>,
    tls12: Option<Tls12ClientSessionValue>,
    tls13: VecDeque<Tls13ClientSessionValue>,
}

/// Three times the default number of connects in flight, at about half a kilobyte each.
const MAX_TICKETS: usize = 256;

impl Tickets {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing is ever left half done in it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The server's name is ignored: a configuration, and so a store, is for one broker only.
impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.lock().group = Some(group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.lock().group
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.lock().tls12 = Some(value);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.lock().tls12.clone()
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.lock().tls12 = None;
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        let mut inner = self.lock();
        if inner.tls13.len() == MAX_TICKETS {
            // The oldest would expire first.
            inner.tls13.pop_front();
        }
        inner.tls13.push_back(value);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.lock().tls13.pop_back()
    }
}

/// Tickets are secrets: only their number is shown.
impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").field("count", &self.lock().tls13.len()).finish()
    }
}

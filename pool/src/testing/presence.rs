//! Which sockets each client has: the witness of "never two at one time".

use super::line::ConnectionId;
use std::collections::HashMap;
use std::sync::Arc;

/// The sockets of each client, from the CONNECT on one to its end.
#[derive(Debug, Default)]
pub(super) struct Presence {
    by_client: HashMap<Arc<str>, Vec<ConnectionId>>,
}

impl Presence {
    /// A CONNECT came; says which older sockets this client has.
    pub(super) fn arrive(&mut self, client: &Arc<str>, id: ConnectionId) -> Vec<ConnectionId> {
        let sockets = self.by_client.entry(client.clone()).or_default();
        let older = sockets.clone();
        sockets.push(id);
        older
    }

    /// The socket is gone.
    pub(super) fn leave(&mut self, client: &str, id: ConnectionId) {
        if let Some(sockets) = self.by_client.get_mut(client) {
            sockets.retain(|one| *one != id);
            if sockets.is_empty() {
                self.by_client.remove(client);
            }
        }
    }

    /// All sockets of a client, those that were refused a session included.
    pub(super) fn of(&self, client: &str) -> &[ConnectionId] {
        self.by_client.get(client).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_socket_is_named_until_it_leaves() {
        let mut presence = Presence::default();
        let (client, first, second) = ("c".into(), ConnectionId(1), ConnectionId(2));
        assert_eq!(presence.arrive(&client, first), []);
        assert_eq!(presence.arrive(&client, second), [first]);
        assert_eq!(presence.of("c"), [first, second]);
        presence.leave("c", first);
        assert_eq!(presence.of("c"), [second]);
        presence.leave("c", second);
        presence.leave("c", second);
        assert!(presence.by_client.is_empty());
    }
}

//! PURE. What the daemon says of itself, with an id for each, as the kinds of findings have.

/// An event in the daemon's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Life {
    /// It begins to open what it needs.
    Started,
    /// It watches, and answers.
    Ready,
    /// It goes by a new config.
    Reloaded,
    /// The new config is faulty: it goes by the old one.
    ReloadRefused,
    /// It ends its sessions.
    Draining,
    /// It ends.
    Stopped,
    /// Records of the kernel are missing.
    RecordsLost,
    /// Entries of the journal are missing.
    EntriesLost,
}

/// A row of the table.
pub(super) struct Description {
    pub(super) life: Life,
    pub(super) code: &'static str,
    pub(super) priority: u8,
    pub(super) message_id: u128,
    pub(super) meaning: &'static str,
    pub(super) what_to_do: &'static str,
}

/// The ids are fixed for ever.
pub(super) const LIFE: [Description; 8] = [
    Description {
        life: Life::Started,
        code: "started",
        priority: 6,
        message_id: 0xd7d4_9b5d_8b76_484a_858e_2e76_d3cd_9131,
        meaning: "The daemon has read its config and begins to open what it needs: its lock, its \
            sockets, the programs in the kernel.",
        what_to_do: "Nothing. An entry \"ready\" follows; if it does not, the error after this \
            entry says why.",
    },
    Description {
        life: Life::Ready,
        code: "ready",
        priority: 6,
        message_id: 0x738c_9a90_b683_4519_9b26_536e_ea3d_81d1,
        meaning: "The programs are in the kernel, the first snapshot is in, and the API answers. \
            From now on leaks are found.",
        what_to_do: "Nothing.",
    },
    Description {
        life: Life::Reloaded,
        code: "reloaded",
        priority: 6,
        message_id: 0xe9b6_d069_dc1b_4cf9_8af2_4ec8_ea8f_cc94,
        meaning: "The daemon has read its config again and goes by it.",
        what_to_do: "Nothing.",
    },
    Description {
        life: Life::ReloadRefused,
        code: "reload-refused",
        priority: 3,
        message_id: 0x3ddd_2d5e_658e_41b0_ae88_51d8_124b_b93c,
        meaning: "The daemon was told to read its config again, and the new one is faulty. Nothing \
            of it was taken: the daemon goes on by the old one.",
        what_to_do: "Mend what the message names, and reload again. A restart before that would \
            fail.",
    },
    Description {
        life: Life::Draining,
        code: "draining",
        priority: 5,
        message_id: 0x9c93_66e5_b451_47d2_87d2_1000_a55a_580d,
        meaning: "The daemon was told to end. It takes no new work, and says goodbye to the broker \
            in the name of each device.",
        what_to_do: "Nothing. An entry \"stopped\" follows.",
    },
    Description {
        life: Life::Stopped,
        code: "stopped",
        priority: 6,
        message_id: 0x8c01_3aad_5365_48e1_9fc7_df85_32e3_a744,
        meaning: "The daemon ends. Its programs are out of the kernel, and nobody looks for leaks \
            any more.",
        what_to_do: "Nothing, if it was told to.",
    },
    Description {
        life: Life::RecordsLost,
        code: "records-lost",
        priority: 4,
        message_id: 0x7ca0_7d40_0074_4059_84c6_c20b_0d7b_488f,
        meaning: "The kernel had records for the daemon and no place to put them. A snapshot sets \
            the table right; until it is in, no finding opens, and findings that rest on it say \
            \"reconstructed\".",
        what_to_do: "Once or in a storm of connections, nothing. If it comes again and again, give \
            the ring more bytes or the table more sockets, as the cause in the message says, or \
            watch fewer processes.",
    },
    Description {
        life: Life::EntriesLost,
        code: "entries-lost",
        priority: 4,
        message_id: 0x144c_51b0_3914_4af7_8838_6415_59f3_c8ff,
        meaning: "journald did not read what was sent to it, more waited than the daemon keeps, \
            and entries were dropped. Metrics and API have all findings.",
        what_to_do: "Find out why journald stood still: a full or slow disk, mostly, or too little \
            CPU time for it.",
    },
];

impl Life {
    /// Its name in output.
    pub fn code(self) -> &'static str {
        self.row().code
    }

    /// `MESSAGE_ID` of its entries in the journal: fixed for ever.
    pub fn message_id(self) -> u128 {
        self.row().message_id
    }

    /// Syslog's number of its entries (RFC 5424 section 6.2.1).
    pub fn priority(self) -> u8 {
        self.row().priority
    }

    fn row(self) -> &'static Description {
        LIFE.iter().find(|row| row.life == self).expect("invariant: every event has its row")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::detect::Kind;

    #[test]
    fn every_event_has_its_row() {
        let events: BTreeSet<Life> = LIFE.iter().map(|row| row.life).collect();
        assert_eq!(events.len(), LIFE.len(), "no event has two rows");
        assert!(events.contains(&Life::Started) && events.contains(&Life::EntriesLost));
        assert_eq!(LIFE.len(), Life::EntriesLost as usize + 1, "the last event is the last row");
        for row in &LIFE {
            assert_eq!((row.life.code(), row.life.message_id()), (row.code, row.message_id));
            assert!(row.life.priority() < 8);
        }
    }

    #[test]
    fn no_id_is_given_twice() {
        let mut ids: BTreeSet<u128> = LIFE.iter().map(|row| row.message_id).collect();
        ids.extend(Kind::ALL.map(Kind::message_id));
        assert_eq!(ids.len(), LIFE.len() + Kind::ALL.len());
    }
}

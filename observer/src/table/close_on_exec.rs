//! PURE. What is known of a descriptor's close-on-exec bit (`FD_CLOEXEC`, fcntl(2)).
//!
//! No event tells of it: snapshots show it as it is at their time. A copy that fork(2) makes has the
//! bit of the original.

/// What snapshots have shown of the bit so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CloseOnExec {
    /// Nothing yet.
    #[default]
    Unknown,
    /// It was never seen set: an exec leaves the descriptor open.
    Unset,
    /// It is set: an exec closes the descriptor.
    Set,
    /// It was set and is not any more: somebody wants the descriptor to survive an exec.
    Cleared,
}

impl CloseOnExec {
    /// Whether it is set now, as far as that is known.
    pub fn is_set(self) -> Option<bool> {
        match self {
            Self::Unknown => None,
            Self::Unset | Self::Cleared => Some(false),
            Self::Set => Some(true),
        }
    }

    /// What is known when a snapshot has shown `bit`.
    pub(super) fn shown(self, bit: Option<bool>) -> Self {
        match (self, bit) {
            (known, None) => known,
            (_, Some(true)) => Self::Set,
            (Self::Unknown | Self::Unset, Some(false)) => Self::Unset,
            (Self::Set | Self::Cleared, Some(false)) => Self::Cleared,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::CloseOnExec::*;

    #[test]
    fn a_bit_that_was_once_set_is_remembered() {
        let cases = [
            (&[][..], Unknown, None),
            (&[None], Unknown, None),
            (&[Some(false)], Unset, Some(false)),
            (&[Some(true)], Set, Some(true)),
            (&[Some(false), Some(true)], Set, Some(true)),
            (&[Some(true), None], Set, Some(true)),
            (&[Some(true), Some(false)], Cleared, Some(false)),
            (&[Some(true), Some(false), None, Some(false)], Cleared, Some(false)),
            (&[Some(true), Some(false), Some(true)], Set, Some(true)),
            (&[Some(false), None, Some(false)], Unset, Some(false)),
        ];
        for (bits, expected, is_set) in cases {
            let known = bits.iter().fold(Unknown, |known, bit| known.shown(*bit));
            assert_eq!((known, known.is_set()), (expected, is_set), "{bits:?}");
        }
    }
}

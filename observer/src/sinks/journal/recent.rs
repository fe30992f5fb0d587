//! PURE. What was sent and may not have been read.
//!
//! When a journald ends together with its socket, what is still in the socket is gone, and nobody
//! says what that was. (Under systemd the socket is held by PID 1 and outlives journald.)

use std::collections::VecDeque;

/// The lines of the last entries that were sent, as many as the receiver may not have read.
#[derive(Clone, Debug)]
pub(super) struct Recent {
    most: usize,
    lines: VecDeque<String>,
}

impl Recent {
    /// For a receiver whose queue takes `queue` datagrams (`net.unix.max_dgram_qlen` of unix(7)).
    pub(super) fn new(queue: usize) -> Self {
        // The kernel lets one more in (unix_recvq_full() in net/unix/af_unix.c), and the receiver
        // has another one in its hands.
        Self { most: queue.saturating_add(2), lines: VecDeque::new() }
    }

    /// Remembers one that was sent.
    pub(super) fn sent(&mut self, line: String) {
        if self.lines.len() == self.most {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// All of them, the oldest first; they are forgotten.
    pub(super) fn take(&mut self) -> VecDeque<String> {
        std::mem::take(&mut self.lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_kept_and_told_once() {
        let mut recent = Recent::new(1);
        for line in ["a", "b", "c", "d"] {
            recent.sent(line.to_owned());
        }
        assert_eq!(recent.take(), ["b", "c", "d"]);
        assert!(recent.take().is_empty());
    }
}

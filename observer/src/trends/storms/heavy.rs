//! Where most connections go, without a count for each destination.

use std::net::SocketAddr;

use crate::model::MonoTime;

/// Destinations that are counted at a time. A destination with more than a ninth of all is never
/// missed (Misra and Gries, "Finding repeated elements", 1982).
const PLACES: usize = 8;

/// The counts of a time of this many nanoseconds are kept for one more such time: 5 s, the window
/// of a storm.
const EPOCH_NS: u64 = 5_000_000_000;

/// The destinations with most of the latest connections.
#[derive(Debug, Default)]
pub(super) struct Heavy {
    epoch: u64,
    counts: Vec<(SocketAddr, u64)>,
    former: Vec<(SocketAddr, u64)>,
}

impl Heavy {
    /// A connection went to `remote`.
    pub(super) fn count(&mut self, remote: SocketAddr, now: MonoTime) {
        let epoch = now.nanos() / EPOCH_NS;
        if epoch > self.epoch {
            let counts = std::mem::take(&mut self.counts);
            self.former = if epoch == self.epoch + 1 { counts } else { Vec::new() };
            self.epoch = epoch;
        }
        if let Some((_, count)) = self.counts.iter_mut().find(|(it, _)| *it == remote) {
            *count += 1;
        } else if self.counts.len() < PLACES {
            self.counts.push((remote, 1));
        } else {
            self.counts.iter_mut().for_each(|(_, count)| *count -= 1);
            self.counts.retain(|(_, count)| *count > 0);
        }
    }

    /// Where most of them went; the lowest address of several.
    pub(super) fn most(&self) -> Option<SocketAddr> {
        let of = |remote: SocketAddr| {
            let all = self.counts.iter().chain(&self.former);
            all.filter(|(it, _)| *it == remote).map(|(_, count)| count).sum::<u64>()
        };
        let all = self.counts.iter().chain(&self.former).map(|(remote, _)| *remote);
        all.max_by_key(|remote| (of(*remote), std::cmp::Reverse(*remote)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prop_assert_eq, proptest};

    use super::*;

    fn remote(number: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], 1000 + number))
    }

    #[test]
    fn what_is_long_over_does_not_count() {
        let mut heavy = Heavy::default();
        (0..9).for_each(|_| heavy.count(remote(1), MonoTime::from_nanos(1)));
        heavy.count(remote(2), MonoTime::from_nanos(EPOCH_NS));
        assert_eq!(heavy.most(), Some(remote(1)), "the last window counts");
        heavy.count(remote(2), MonoTime::from_nanos(2 * EPOCH_NS));
        assert_eq!(heavy.most(), Some(remote(2)));
        heavy.count(remote(3), MonoTime::from_nanos(9 * EPOCH_NS));
        assert_eq!(heavy.most(), Some(remote(3)));
    }

    proptest! {
        #![proptest_config(crate::trends::world::settings())]

        #[test]
        fn a_majority_is_always_found(others in vec(0_u16..500, 0..400), at in vec(0_usize..400, 0..401)) {
            // More than half go to one destination, at any places among the others.
            let mut all: Vec<u16> = others.iter().map(|number| number + 1).collect();
            for place in at.iter().copied().chain(0..=others.len()) {
                all.insert(place.min(all.len()), 0);
            }
            let mut heavy = Heavy::default();
            for number in &all {
                heavy.count(remote(*number), MonoTime::from_nanos(1));
                proptest::prop_assert!(heavy.counts.len() <= PLACES);
            }
            prop_assert_eq!(heavy.most(), Some(remote(0)));
        }
    }
}

//! How long each kind may last before it is a finding.

use std::time::Duration;

use crate::detect::Kind;

/// A time for each kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budgets([Duration; Kind::ALL.len()]);

impl Default for Budgets {
    fn default() -> Self {
        Self(Kind::ALL.map(Kind::default_budget))
    }
}

impl Budgets {
    /// The kinds that rest on what only snapshots show.
    pub const OF_SNAPSHOTS: [Kind; 3] = [Kind::DeadFd, Kind::Inherited, Kind::Undrained];

    /// The budget of `kind`.
    pub fn get(&self, kind: Kind) -> Duration {
        self.0[kind as usize]
    }

    /// Changes the budget of `kind`.
    pub fn set(&mut self, kind: Kind, budget: Duration) {
        self.0[kind as usize] = budget;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_own() {
        let mut budgets = Budgets::default();
        budgets.set(Kind::Undrained, Duration::from_secs(3));
        for kind in Kind::ALL {
            let expected = match kind {
                Kind::Undrained => Duration::from_secs(3),
                _ => kind.default_budget(),
            };
            assert_eq!(budgets.get(kind), expected, "{}", kind.code());
        }
    }
}

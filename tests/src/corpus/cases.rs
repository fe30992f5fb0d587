//! The table of all cases.

mod healthy;
mod leaks;

pub use healthy::HEALTHY;
pub use leaks::LEAKS;

use super::{Case, Expect, Names, Start};

/// A row with what most cases have.
const fn case(name: &'static str, start: Start) -> Case {
    Case {
        name,
        start,
        children: false,
        server: None,
        clients: None,
        expects: &[],
        seconds: 80,
        works: false,
    }
}

/// Exactly `count` findings of `kind`, no later than `within` seconds after the mistake.
const fn expect(kind: &'static str, count: usize, within: u64) -> Expect {
    Expect { kind, count: (count, count), names: Names::Any, within }
}

/// As [`expect`], and they name these client ids.
const fn naming(kind: &'static str, count: usize, within: u64, names: Names) -> Expect {
    Expect { kind, count: (count, count), names, within }
}

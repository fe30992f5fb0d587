//! What is counted over all runs of the pool, and must stay at 0.

use super::kernel;
use crate::bench::figure::Figure;
use crate::failure::Result;
use std::cell::RefCell;

/// Counts of the whole benchmark.
#[derive(Default)]
pub(super) struct Ledger {
    /// For each time that our fleet connected.
    overflows: RefCell<Vec<u64>>,
    overlap: RefCell<Option<Overlap>>,
}

/// Looks at our fleet in a storm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Overlap {
    pub(super) samples: u64,
    /// Those in which there were more sockets than devices.
    pub(super) with_overlap: u64,
}

impl Ledger {
    /// Does something while nobody but our fleet connects to this port.
    pub(super) fn watch_listener<T>(
        &self,
        port: u16,
        act: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let before = kernel::listen_overflows(port)?;
        let done = act()?;
        let overflows = kernel::listen_overflows(port)?.saturating_sub(before);
        self.overflows.borrow_mut().push(overflows);
        Ok(done)
    }

    pub(super) fn add_overlap(&self, seen: Overlap) {
        let mut overlap = self.overlap.borrow_mut();
        let sum = overlap.get_or_insert_default();
        sum.samples += seen.samples;
        sum.with_overlap += seen.with_overlap;
    }

    /// Only what was counted at all.
    pub(super) fn figures(&self) -> Result<Vec<Figure>> {
        let mut figures = Vec::new();
        let overflows = self.overflows.borrow();
        if !overflows.is_empty() {
            let sum = overflows.iter().sum::<u64>() as f64;
            eprintln!("» The pool connected {} times.", overflows.len());
            figures.push(Figure::new("pool.listen_overflows", "", Some(0.0), vec![sum])?);
        }
        if let Some(overlap) = *self.overlap.borrow() {
            eprintln!("» {} looks at the sockets of a storm.", overlap.samples);
            let with_overlap = overlap.with_overlap as f64;
            figures.push(Figure::new("pool.overlap_samples", "", Some(0.0), vec![with_overlap])?);
        }
        Ok(figures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(ledger: &Ledger) -> Vec<(String, f64)> {
        let figures = ledger.figures().expect("invariant: counts are numbers");
        figures.iter().map(|it| (it.name().to_owned(), it.value())).collect()
    }

    #[test]
    fn what_was_not_counted_is_no_figure() {
        assert_eq!(named(&Ledger::default()), []);
        let ledger = Ledger { overflows: RefCell::new(vec![0, 3, 4]), ..Ledger::default() };
        assert_eq!(named(&ledger), [("pool.listen_overflows".to_owned(), 7.0)]);
    }

    #[test]
    fn looks_add_up() {
        let ledger = Ledger::default();
        ledger.add_overlap(Overlap { samples: 5, with_overlap: 0 });
        ledger.add_overlap(Overlap { samples: 5, with_overlap: 2 });
        assert_eq!(named(&ledger), [("pool.overlap_samples".to_owned(), 2.0)]);
    }
}

use crate::error::OperatorError;

/// How many descriptors may be promised to devices, and opened for them.
///
/// A device is promised one when it is added, so that a fleet that is too large is refused at the
/// start and not in the middle of a storm.
#[derive(Clone, Debug)]
pub(crate) struct DescriptorBudget {
    limit: u64,
    headroom: u64,
    promised: u64,
    others: u64,
}

/// What to keep free when nobody chose: 1 % of `limit`, at least 64. Chosen: enough for a resolver,
/// a log file, an exporter's scrape and whoever debugs the process.
pub(crate) fn default_headroom(limit: u64) -> u64 {
    (limit / 100).max(64)
}

impl DescriptorBudget {
    /// `limit` is the soft limit (`RLIMIT_NOFILE`), `headroom` what stays free, `others` what the
    /// rest of the process has open.
    pub(crate) fn new(limit: u64, headroom: u64, others: u64) -> Self {
        Self { limit, headroom, promised: 0, others }
    }

    /// Promises one descriptor to each of `devices`: to all of them or to none.
    ///
    /// # Errors
    ///
    /// [`OperatorError::DescriptorBudget`] when less than the headroom would be left.
    pub(crate) fn promise(&mut self, devices: u64) -> Result<(), OperatorError> {
        let in_use = self.others.saturating_add(self.promised);
        self.check(in_use, devices, self.headroom)?;
        self.promised = self.promised.saturating_add(devices);
        Ok(())
    }

    /// Takes back the promises of removed devices.
    pub(crate) fn give_back(&mut self, devices: u64) {
        self.promised = self.promised.saturating_sub(devices);
    }

    /// What the rest of the process has open now.
    pub(crate) fn observe_others(&mut self, others: u64) {
        self.others = others;
    }

    /// Whether one more socket may be opened while the pool has `open_now` sockets open.
    ///
    /// Half of the headroom may be eaten here: a device keeps its promise although the application
    /// opened a few files since, or the sample of them is a little old.
    ///
    /// # Errors
    ///
    /// [`OperatorError::DescriptorBudget`] when less than half of the headroom would be left.
    pub(crate) fn may_open(&self, open_now: u64) -> Result<(), OperatorError> {
        self.check(self.others.saturating_add(open_now), 1, self.headroom / 2)
    }

    /// How many are promised to devices.
    pub(crate) fn promised(&self) -> u64 {
        self.promised
    }

    fn check(&self, in_use: u64, more: u64, headroom: u64) -> Result<(), OperatorError> {
        if in_use.saturating_add(more).saturating_add(headroom) <= self.limit {
            return Ok(());
        }
        Err(OperatorError::DescriptorBudget { limit: self.limit, in_use, headroom })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget() -> DescriptorBudget {
        DescriptorBudget::new(1_000, 64, 36)
    }

    #[test]
    fn devices_are_promised_what_the_headroom_leaves() {
        let mut budget = budget();
        assert_eq!(budget.promise(900), Ok(()));
        let refused = OperatorError::DescriptorBudget { limit: 1_000, in_use: 936, headroom: 64 };
        assert_eq!(budget.promise(1), Err(refused));
        budget.give_back(1);
        assert_eq!(budget.promise(1), Ok(()));
    }

    #[test]
    fn a_refused_promise_promises_nothing() {
        let mut budget = budget();
        assert!(budget.promise(901).is_err());
        assert_eq!(budget.promised(), 0);
        assert_eq!(budget.promise(900), Ok(()));
    }

    #[test]
    fn a_promise_is_kept_while_the_application_opens_a_few_files() {
        let mut budget = budget();
        budget.promise(900).expect("invariant: 36 + 900 + 64 = 1,000");
        budget.observe_others(36 + 32);
        assert_eq!(budget.may_open(899), Ok(()));
        budget.observe_others(36 + 33);
        let refused = OperatorError::DescriptorBudget { limit: 1_000, in_use: 968, headroom: 32 };
        assert_eq!(budget.may_open(899), Err(refused));
    }

    #[test]
    fn no_figure_overflows() {
        let mut budget = DescriptorBudget::new(u64::MAX, u64::MAX, u64::MAX);
        assert_eq!(budget.promise(u64::MAX), Ok(()), "RLIM_INFINITY is no limit");
        assert_eq!(budget.may_open(u64::MAX), Ok(()));
        let mut budget = DescriptorBudget::new(10, u64::MAX, u64::MAX);
        assert!(budget.promise(u64::MAX).is_err());
        assert!(budget.may_open(u64::MAX).is_err());
        budget.give_back(u64::MAX);
        assert_eq!(budget.promised(), 0);
    }

    #[test]
    fn the_default_headroom_is_a_hundredth_and_at_least_64() {
        assert_eq!(default_headroom(1_024), 64);
        assert_eq!(default_headroom(20_000), 200);
    }
}

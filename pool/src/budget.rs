//! What of this host the pool may use: descriptors and local ports.
//!
//! Both are counted beforehand, so that the pool refuses a device with the figures in its hand
//! instead of running into EMFILE or EADDRNOTAVAIL, which hit whatever else the process does.

mod descriptors;
mod ports;

pub(crate) use descriptors::{DescriptorBudget, default_headroom};
pub(crate) use ports::{Ending, PortBudget, TimeWaitReuse};

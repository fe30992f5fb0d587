//! EDGE: how the daemon lives among the others: the service manager, the other instance, the
//! privileges.
//!
//! The order at a start: [`privileges::forbid_core_dumps`], [`instance::Instance::claim`], open
//! everything privileged, [`privileges::drop_to`], and only then the first thread, the first secret
//! and the first byte from outside.

pub mod drain;
pub mod instance;
pub mod notify;
pub mod privileges;
pub mod watchdog;

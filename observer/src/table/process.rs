//! What is known about a process.

use std::{collections::HashMap, time::Duration};

use crate::{
    by_cookie::Numbered,
    cgroup::Place,
    model::{Comm, Cookie, MonoTime, ProcessKey},
};

/// Processes by number.
pub(super) type Processes = HashMap<u32, Process, Numbered>;

/// One life of a process.
#[derive(Clone, Debug, PartialEq)]
pub struct Process {
    /// Its number and start.
    pub key: ProcessKey,
    /// Its name; empty as long as it is known only by a number.
    pub comm: Comm,
    /// Whether it is watched by itself.
    pub watched: bool,
    /// When it last began to run a new program, if that was seen.
    pub exec_at: Option<MonoTime>,
    /// Process number of the parent, if the fork was seen.
    pub parent: Option<u32>,
    /// Where it runs, if that was asked and answered.
    pub place: Option<Place>,
    pub(super) descriptors: HashMap<i32, Cookie>,
    pub(super) touched: MonoTime,
}

impl Process {
    pub(super) fn new(key: ProcessKey, time: MonoTime) -> Self {
        Self {
            key,
            comm: Comm::default(),
            watched: false,
            exec_at: None,
            parent: None,
            place: None,
            descriptors: HashMap::new(),
            touched: time,
        }
    }

    /// How many of its descriptors refer to TCP sockets.
    pub fn descriptors(&self) -> usize {
        self.descriptors.len()
    }
}

/// When a process was forked, on the clock of the events: the kernel keeps a process's start on
/// `CLOCK_BOOTTIME` (`task_struct.start_boottime`), which runs ahead by the time spent suspended.
pub(super) fn forked_at(process: ProcessKey, boot_offset: Duration) -> MonoTime {
    MonoTime::from_nanos(process.start_ns).before(boot_offset)
}

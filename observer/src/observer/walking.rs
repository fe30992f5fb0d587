//! EDGE: a snapshot, from the kernel's walks to the core.

use super::{Observer, ObserverError};
use crate::{
    clock,
    decode::{self, Walked},
    model::{Snapshot, SnapshotRow},
    sinks::Sink,
    ticks::TickRate,
};

impl Observer {
    /// Walks the host. Records from before the walk went to the core already; those from during
    /// it go there before the rows do, and each row says when it was taken.
    pub(super) fn snapshot(&mut self, sink: &mut dyn Sink) -> Result<(), ObserverError> {
        self.drain();
        let began = clock::now();
        let (mut rows, mut damaged) = (Vec::new(), 0);
        let (mut processes, mut routes) = (Vec::new(), Vec::new());
        let mut rate = self.rate;
        let mut first = true;
        let mut consume = |bytes: &[u8]| {
            if std::mem::take(&mut first)
                && let Some((uptime, jiffies)) = decode::row_clock(bytes)
            {
                rate = TickRate::from_reading(uptime, jiffies).unwrap_or(rate);
            }
            match decode::walked(bytes, rate) {
                Ok(Walked::Socket(row)) => rows.push(row),
                Ok(Walked::Process(row)) => processes.push(row),
                Ok(Walked::Route(route)) => routes.push(route),
                Err(error) => {
                    log::debug!("a row is not understood: {error}");
                    damaged += 1;
                }
            }
        };
        self.probe.snapshot_descriptors(&mut consume)?;
        self.probe.snapshot_sockets(&mut consume)?;
        let unheld_netns = own_netns(&rows);
        let port_row = |route| Some(decode::port_row(route, &self.probe.ports_in_use(route)?));
        let ports = routes.iter().filter_map(port_row).collect();
        self.rate = rate;
        self.damaged += damaged;
        let ended = clock::now();
        self.tally.snapshot_time.observe(ended.since(began));
        self.drain();
        self.read_registry();
        // What was lost during the walk makes this snapshot's conclusions uncertain.
        self.account(ended, sink)?;
        self.tell_places(ended);
        self.correlator.handle_snapshot(Snapshot {
            began,
            ended,
            rows,
            lists_unheld: true,
            unheld_netns,
            processes,
            ports,
        });
        let table = self.correlator.table();
        self.stacking.retain(|cookie| table.socket(cookie).is_some());
        Ok(())
    }
}

/// The network namespace that `iter/tcp` walked: ours.
fn own_netns(rows: &[SnapshotRow]) -> u32 {
    rows.iter().find(|row| row.holder.is_none()).map(|row| row.netns).unwrap_or_else(|| {
        let inode = rustix::fs::stat("/proc/self/ns/net").map_or(0, |stat| stat.st_ino);
        u32::try_from(inode).unwrap_or(0)
    })
}

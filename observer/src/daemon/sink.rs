//! Where the observer's reports go in the daemon: the journal, and whoever follows the news.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use observer_ebpf::counter::Counter;

use super::losses::Losses;
use crate::{
    clock::{self, WallClock},
    config::Sinks,
    desk::{Desk, News},
    sinks::{
        Report, Sink,
        journal::{Journal, Life},
    },
};

/// Journal and desk.
pub(super) struct Alarm {
    journal: Journal,
    desk: Desk,
    losses: Losses,
    entries_lost: Arc<AtomicU64>,
}

impl Alarm {
    /// `entries_lost` counts what comes neither to the journal nor to stderr.
    pub(super) fn open(
        sinks: &Sinks,
        desk: Desk,
        entries_lost: Arc<AtomicU64>,
    ) -> io::Result<Self> {
        Ok(Self { journal: Journal::open(sinks)?, desk, losses: Losses::default(), entries_lost })
    }

    pub(super) fn journal(&mut self) -> &mut Journal {
        &mut self.journal
    }
}

impl Sink for Alarm {
    fn report(&mut self, report: Report<'_>, _clock: WallClock) -> io::Result<()> {
        match report {
            Report::Finding(finding) => {
                self.journal.send(finding, clock::now());
                self.desk.tell(News::Finding(Arc::new(finding.clone())));
            }
            // No record is lost: the metrics tell it.
            Report::Loss { cause, .. }
                if cause == Counter::ConnectNotRead.name()
                    || cause == Counter::StackNotTaken.name() => {}
            Report::Loss { cause, lost } => {
                self.losses.add(cause, lost);
                self.desk.tell(News::Loss { cause, lost });
            }
            Report::Ready { .. }
            | Report::Transition(_)
            | Report::Sockets { .. }
            | Report::Summary(_) => {}
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        for (cause, lost) in self.losses.due(clock::now()) {
            self.journal.tell(Life::RecordsLost, &format!("{lost} records were lost: {cause}"));
        }
        // What journald does not take now waits for the next look; nobody waits for journald.
        self.journal.flush(Duration::ZERO);
        self.entries_lost.store(self.journal.lost(), Ordering::Relaxed);
        Ok(())
    }
}

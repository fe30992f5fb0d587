//! The kernel's side by itself: what it tells, before the table and the detectors make something
//! of it. Runs within the test, as root.

use crate::require_root;
use crate::wait;
use observer::decode::{self, Outcome, Segments, Walked};
use observer::model::{Call, KernelEvent, Lack, PortRow, ProcessRow, SnapshotRow};
use observer::probe::{Options, Probe};
use observer::ticks::TickRate;

/// `observer_ebpf::config::watch::PID`: named by its number.
const BY_PID: u32 = 1;

/// The programs in the kernel, and what they have told of one process.
pub struct Facts {
    probe: Probe,
    pid: u32,
    segments: Segments,
    /// Segments of CONNECT packets, or of what may become one.
    pub segments_seen: u64,
    /// Everything so far.
    pub events: Vec<KernelEvent>,
    /// Packets from which no client id could be read.
    pub unread: u64,
}

/// What the walks over descriptors and sockets found.
#[derive(Debug, Default)]
pub struct Walk {
    /// Sockets and descriptors of them.
    pub rows: Vec<SnapshotRow>,
    /// What the watched processes have open.
    pub processes: Vec<ProcessRow>,
    /// Routes with many local ports in use.
    pub ports: Vec<PortRow>,
}

impl Facts {
    /// Watches a process.
    #[track_caller]
    pub fn of(pid: u32) -> Self {
        require_root();
        let options = Options {
            layers: None,
            watch_all: false,
            watch_ports: false,
            quiet: false,
            ring_bytes: 1 << 20,
            btf: None,
            stacks: false,
        };
        let started = Probe::start(&options).expect("root may observe");
        assert_eq!(started.degraded, None, "root has all layers");
        let mut probe = started.probe;
        assert_eq!(probe.nameless(), None, "root has all layers");
        probe.watch(pid, BY_PID).expect("there is room");
        let mut facts = Self {
            probe,
            pid,
            segments: Segments::default(),
            segments_seen: 0,
            events: Vec::new(),
            unread: 0,
        };
        // The sockets that are there already.
        facts.walk();
        facts
    }

    /// Takes in what the ring holds.
    #[track_caller]
    pub fn drain(&mut self) {
        let Self { probe, events, segments, segments_seen, unread, .. } = self;
        probe.drain(|bytes| {
            if let Some(segment) = decode::segment(bytes) {
                *segments_seen += 1;
                match segments.take(&segment.expect("a segment that is understood")) {
                    Some(Outcome::Named(event)) => events.push(event),
                    Some(Outcome::NoClientId) => *unread += 1,
                    None => {}
                }
                return;
            }
            let full = decode::widen(bytes);
            match decode::event(full.as_ref().map_or(bytes, |full| full)) {
                Ok(event) => events.push(event),
                Err(error) => panic!("a record that nobody understands: {error}"),
            }
        });
    }

    /// Says that every connection so far has had its time to say who it is.
    #[track_caller]
    pub fn settle_names(&mut self) {
        let begun = self.probe.begun().expect("the map can be read");
        self.probe.settle_names(begun);
    }

    /// How often the process was refused what, so far.
    #[track_caller]
    pub fn refusals(&mut self) -> Vec<(Call, Lack)> {
        self.drain();
        let refusal = |event: &KernelEvent| match event {
            KernelEvent::Exhausted { process, call, lacks, .. } => {
                assert_eq!(process.pid, self.pid, "the process itself, and no other");
                Some((*call, *lacks))
            }
            _ => None,
        };
        self.events.iter().filter_map(refusal).collect()
    }

    /// Waits until the socket of `client_id` is named.
    #[track_caller]
    pub fn wait_for_name(&mut self, client_id: &str) -> observer::model::ClientName {
        wait::until(&format!("the name {client_id}"), || {
            self.drain();
            let found = self.events.iter().find_map(|event| match event {
                KernelEvent::Named { name, .. } if &*name.client_id == client_id => Some(name),
                _ => None,
            });
            found.cloned().ok_or_else(|| format!("{:#?}", self.events))
        })
    }

    /// Walks over all descriptors and sockets.
    #[track_caller]
    pub fn walk(&mut self) -> Walk {
        let (mut walk, mut routes) = (Walk::default(), Vec::new());
        let mut take = |bytes: &[u8]| match decode::walked(bytes, TickRate::HZ_250) {
            Ok(Walked::Socket(row)) => walk.rows.push(row),
            Ok(Walked::Process(row)) => walk.processes.push(row),
            Ok(Walked::Route(route)) => routes.push(route),
            Err(error) => panic!("a row that nobody understands: {error}"),
        };
        self.probe.snapshot_descriptors(&mut take).expect("the walk is done");
        self.probe.snapshot_sockets(&mut take).expect("the walk is done");
        let count = |route| Some(decode::port_row(route, &self.probe.ports_in_use(route)?));
        walk.ports = routes.iter().filter_map(count).collect();
        walk
    }
}

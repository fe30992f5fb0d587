//! The kernel's side by itself: what it tells, before the table and the detectors make something
//! of it. Runs within the test, as root.

use crate::require_root;
use crate::wait;
use observer::decode::{self, Walked};
use observer::model::{Call, KernelEvent, Lack, PortRow, ProcessRow, SnapshotRow};
use observer::probe::{Options, Probe};
use observer::ticks::TickRate;

/// `observer_ebpf::config::watch::PID`: named by its number.
const BY_PID: u32 = 1;

/// The programs in the kernel, and what they have told of one process.
pub struct Facts {
    probe: Probe,
    pid: u32,
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
        let mut facts = Self { probe, pid, events: Vec::new(), unread: 0 };
        // The sockets that are there already.
        facts.walk();
        facts
    }

    /// Takes in what the ring holds.
    #[track_caller]
    pub fn drain(&mut self) {
        let Self { probe, events, unread, .. } = self;
        probe.drain(|bytes| {
            let full = decode::widen(bytes);
            match decode::event(full.as_ref().map_or(bytes, |full| full)) {
                Ok(event) => events.push(event),
                Err(decode::DecodeError::NoClientId) => *unread += 1,
                Err(error) => panic!("a record that nobody understands: {error}"),
            }
        });
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

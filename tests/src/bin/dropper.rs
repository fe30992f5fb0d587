//! Gives its privileges up as the daemon does, and says what it can still do, as one line of JSON.
//! Then it waits for the end of its input, so that others can look at it.
//!
//! `dropper USER [probe] [threads] [abort] [careless] [in DIRECTORY]`: with the probe attached
//! before; with a second thread; ending by abort(3) instead; with core dumps allowed; as the one
//! instance of a directory.

#![forbid(unsafe_code)]

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::thread;

use observer::life::instance::Instance;
use observer::life::privileges::{self, Remaining, User};
use observer::probe::{Options, Probe, Started};
use serde_json::{Value, json};

fn main() -> io::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let said = |word: &str| words.iter().any(|given| given == word);
    let user = words.first().map_or("nobody", String::as_str);
    if !said("careless") {
        privileges::forbid_core_dumps().map_err(io::Error::other)?;
    }
    if said("abort") {
        std::process::abort();
    }
    let directory = words.iter().skip_while(|word| *word != "in").nth(1);
    let instance = match directory.map(|directory| claim(Path::new(directory), user)).transpose() {
        Ok(instance) => instance,
        Err(error) => return writeln!(io::stdout(), "{}", json!({ "error": error })),
    };
    let mut probe = if said("probe") { Some(start().map_err(io::Error::other)?) } else { None };
    if said("threads") {
        thread::spawn(thread::park);
    }
    let answer = match privileges::drop_to(user) {
        Err(error) => json!({ "error": error.to_string() }),
        Ok(remaining) => facts(&remaining, probe.as_mut()),
    };
    writeln!(io::stdout(), "{answer}")?;
    let end = io::stdin().read_to_end(&mut Vec::new()).map(drop);
    drop(instance);
    end
}

/// As the daemon does at its start.
fn claim(directory: &Path, user: &str) -> Result<Instance, String> {
    let instance = Instance::claim(directory).map_err(|error| error.to_string())?;
    if rustix::process::geteuid().is_root() {
        let user = User::find(user).map_err(|error| error.to_string())?;
        instance.hand_over(&user).map_err(|error| error.to_string())?;
    }
    Ok(instance)
}

fn start() -> Result<Probe, String> {
    let options = Options {
        layers: None,
        watch_all: true,
        watch_ports: false,
        quiet: false,
        ring_bytes: 1 << 16,
        btf: None,
        stacks: false,
    };
    let Started { probe, degraded } = Probe::start(&options).map_err(|error| error.to_string())?;
    degraded.map_or(Ok(probe), Err)
}

fn facts(remaining: &Remaining, probe: Option<&mut Probe>) -> Value {
    // After the drop, as the daemon does: a thread has what the one before it had.
    let thread = thread::spawn(Remaining::of_this_process);
    let in_thread =
        thread.join().expect("invariant: it does not panic").map_err(|it| it.to_string());
    let parent = std::os::unix::process::parent_id();
    let own = ["status", "stat", "statm", "limits", "cgroup", "maps", "environ", "io"];
    let others = ["stat", "status", "limits", "cgroup", "environ"];
    json!({
        "remaining": remaining,
        "line": remaining.to_string(),
        "in_thread": in_thread,
        "own": own.map(|name| json!([name, reads(format!("/proc/self/{name}"))])),
        "own_descriptors": fs::read_dir("/proc/self/fd").map(Iterator::count).ok(),
        "own_descriptor_info": fs::read_to_string("/proc/self/fdinfo/0").is_ok(),
        "own_exe": std::env::current_exe().is_ok(),
        "own_namespace": fs::metadata("/proc/self/ns/net").is_ok(),
        "others": others.map(|name| json!([name, reads(format!("/proc/{parent}/{name}"))])),
        "others_descriptors": fs::metadata(format!("/proc/{parent}/fd")).map(|it| it.len()).ok(),
        "others_descriptor_list": fs::read_dir(format!("/proc/{parent}/fd")).is_ok(),
        "shadow": reads("/etc/shadow"),
        "probe": probe.map(probe_facts),
    })
}

fn reads(path: impl AsRef<Path>) -> bool {
    fs::read(path).is_ok()
}

fn probe_facts(probe: &mut Probe) -> Value {
    let (mut records, mut descriptors, mut sockets) = (0, 0, 0);
    let watched = probe.watch(std::process::id(), 1).is_ok();
    // Changes of state for the ring, descriptors for the snapshot.
    let listener = std::net::TcpListener::bind("127.0.0.1:0");
    let stream = listener
        .as_ref()
        .ok()
        .and_then(|listener| std::net::TcpStream::connect(listener.local_addr().ok()?).ok());
    let first = probe.snapshot_descriptors(|_| descriptors += 1).is_ok();
    let second = probe.snapshot_sockets(|_| sockets += 1).is_ok();
    probe.drain(|_| records += 1);
    drop((listener, stream));
    json!({
        "watched": watched,
        "snapshots": first && second,
        "records": records,
        "descriptors": descriptors,
        "sockets": sockets,
        "again": start().err(),
    })
}

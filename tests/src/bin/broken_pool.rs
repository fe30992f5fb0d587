//! A pool and the observer of its own process, as the daemon joins them, but healthy or broken as
//! a scenario orders. Run as root; its arguments are the broker's address, the flaw of the pool
//! (`none`, `dial-before-destroy`, `forget-to-close`, `keep-open`, `die-silently`) and the
//! keep-alive in seconds. It obeys one order a line and answers each with a line of JSON; in
//! between it prints what the observer has to say, as `sockwarden watch --json` does.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, BufRead as _, Write as _};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use observer::correlate::Config;
use observer::join::{Join, KernelReceipts};
use observer::model::Cookie;
use observer::observer::{Observer, Options};
use observer::probe;
use observer::selection::Selection;
use observer::sinks::json::Json;
use observer::sinks::output::Output;
use observer::stacks::Wanted;
use pool::registry::{Change, Stage};
use pool::testing::{Flaw, Sabotage};
use pool::{Broker, Device, Limits, Pool, ReconnectOptions};
use rustix::io::FdFlags;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, Resource, Rlimit};
use serde_json::{Value, json};
use tokio::sync::{Notify, broadcast, mpsc};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Everything that orders work on.
struct Theatre {
    pool: Pool,
    sabotage: Option<Sabotage>,
    observer: Observer,
    /// Copies of descriptors in this process.
    copies: Vec<OwnedFd>,
    children: Vec<Child>,
    foreign: Vec<TcpStream>,
    latencies: Arc<Mutex<Vec<Duration>>>,
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().ok_or("the broker's address is missing")?;
    let flaw = parse_flaw(&arguments.next().unwrap_or_default())?;
    let keep_alive = arguments.next().map_or(Ok(60), |text| text.parse())?;
    let limit = Rlimit { current: Some(20_000), maximum: Some(20_000) };
    rustix::process::setrlimit(Resource::Nofile, limit)?;
    // The pool has threads of its own, as in the daemon.
    let threads =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let receipts = Arc::new(KernelReceipts::default());
    let sabotage = flaw.map(Sabotage::new);
    let limits = Limits { connect_spacing: Duration::ZERO, ..Limits::adaptive() };
    let mut builder = Pool::builder(Broker::parse(&url)?)
        .limits(limits)
        .keep_alive(Duration::from_secs(keep_alive))
        .receipts(receipts.clone());
    if let Some(sabotage) = &sabotage {
        builder = builder.sabotage(sabotage.clone());
    }
    let pool = {
        let _context = threads.enter();
        builder.build()?
    };
    let latencies = Arc::default();
    threads.spawn(time_receipts(pool.registry().subscribe().1, Arc::clone(&latencies)));
    let (mut observer, _degraded) = Observer::start(options())?;
    let join = Join::new(pool.clone(), receipts);
    let awaited = join.awaited();
    observer.join(join);
    let mut theatre = Theatre {
        pool,
        sabotage,
        observer,
        copies: Vec::new(),
        children: Vec::new(),
        foreign: Vec::new(),
        latencies,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(theatre.run(&url, &awaited));
    for child in &mut theatre.children {
        child.kill()?;
        child.wait()?;
    }
    threads.shutdown_timeout(Duration::from_secs(5));
    ended
}

impl Theatre {
    /// The observer's loop, with orders in between.
    async fn run(&mut self, url: &str, awaited: &Notify) -> Result<()> {
        let mut orders = read_orders();
        let mut sink = Json::new(Output::start(io::stdout())?, true);
        self.observer.pump(&mut sink)?;
        self.observer.report_ready(&mut sink)?;
        loop {
            tokio::select! {
                () = awaited.notified() => {}
                order = orders.recv() => {
                    let Some(order) = order else { return Ok(()) };
                    let answer = match self.obey(url, &order) {
                        Ok(answer) => json!({ "type": "answer", "order": order, "ok": answer }),
                        Err(error) => {
                            json!({ "type": "answer", "order": order, "error": error.to_string() })
                        }
                    };
                    // Behind all that was said before.
                    self.observer.pump(&mut sink)?;
                    say(&answer)?;
                }
                () = tokio::time::sleep(self.observer.idle_time()) => {}
            }
            self.observer.pump(&mut sink)?;
        }
    }

    fn obey(&mut self, url: &str, order: &str) -> Result<Value> {
        let words: Vec<&str> = order.split_whitespace().collect();
        match *words.as_slice() {
            ["add", count] => {
                for number in 0..count.parse::<u32>()? {
                    self.pool.add(Device::new(format!("d{number}"))?)?;
                }
            }
            ["reconnect"] => {
                self.pool.reconnect_all(ReconnectOptions::default())?;
            }
            ["mend"] => self.sabotage.iter().for_each(Sabotage::mend),
            ["foreign"] => {
                let address = url.trim_start_matches("mqtt://");
                self.foreign.push(TcpStream::connect(address)?);
            }
            ["foreign-end"] => self.foreign.clear(),
            ["copy", device] => {
                let copy = self.copy_of(device)?;
                self.copies.push(copy);
            }
            ["copy-end"] => self.copies.clear(),
            ["child", device] => {
                let copy = self.copy_of(device)?;
                rustix::io::fcntl_setfd(&copy, FdFlags::empty())?;
                let child = Command::new("sleep").arg("600").stdin(Stdio::null()).spawn()?;
                self.children.push(child);
                return Ok(json!(self.children.last().map(Child::id)));
            }
            ["child-end"] => {
                for mut child in self.children.drain(..) {
                    child.kill()?;
                    child.wait()?;
                }
            }
            ["status"] => return Ok(self.status()),
            _ => return Err(format!("`{order}` is no order").into()),
        }
        Ok(Value::Null)
    }

    /// One more descriptor of a device's socket, closed by exec.
    fn copy_of(&self, device: &str) -> Result<OwnedFd> {
        let claims = self.pool.registry().snapshot();
        let claim = claims.iter().find(|claim| claim.device.as_str() == device);
        let cookie = Cookie(claim.ok_or("it has no socket")?.cookie);
        let socket = self.observer.core().table().socket(cookie).ok_or("it is not known")?;
        let holder = socket.holders.first().ok_or("nobody holds it")?;
        let own = rustix::process::getpid();
        let process = rustix::process::pidfd_open(own, PidfdFlags::empty())?;
        Ok(rustix::process::pidfd_getfd(process, holder.fd, PidfdGetfdFlags::empty())?)
    }

    fn status(&mut self) -> Value {
        let metrics = self.pool.metrics();
        let reading = self.observer.reading().registry.unwrap_or_default();
        let claims: Vec<_> = self.pool.registry().snapshot();
        let sockets: BTreeMap<_, _> =
            claims.iter().map(|claim| (claim.device.as_str(), claim.cookie)).collect();
        let mut latencies = self.latencies.lock().unwrap_or_else(PoisonError::into_inner).clone();
        latencies.sort_unstable();
        let quantile =
            |q: usize| latencies.get(latencies.len() * q / 1_000).map(Duration::as_micros);
        json!({
            "pid": std::process::id(),
            "online": self.pool.status().online,
            "connected": metrics.connected,
            "window": metrics.window,
            "halved": metrics.window_halvings,
            "unreleased": metrics.unreleased,
            "receipts": metrics.receipts,
            "by_event": reading.receipts_by_event,
            "by_query": reading.receipts_by_query,
            "syn_retransmits": reading.syn_retransmits,
            "zombies": reading.zombies,
            "sockets": sockets,
            "entries": self.observer.core().ledger().map(|ledger| ledger.cookies().count()),
            "latency_us": [quantile(500), quantile(990), quantile(999)],
            "timed": latencies.len(),
        })
    }
}

fn options() -> Options {
    let core = Config { boot_offset: observer::clock::boot_offset(), ..Config::default() };
    let selection = Selection { pids: vec![std::process::id()], ..Selection::default() };
    let probe = probe::Options {
        layers: None,
        watch_all: false,
        watch_ports: false,
        quiet: false,
        ring_bytes: 8 << 20,
        btf: None,
        stacks: false,
    };
    Options { selection, ports: Vec::new(), probe, core, stacks: Wanted::Never }
}

fn parse_flaw(word: &str) -> Result<Option<Flaw>> {
    Ok(Some(match word {
        "none" => return Ok(None),
        "dial-before-destroy" => Flaw::DialBeforeDestroy,
        "forget-to-close" => Flaw::ForgetToClose,
        "keep-open" => Flaw::KeepOpen,
        "die-silently" => Flaw::DieSilently,
        _ => return Err(format!("`{word}` is no flaw").into()),
    }))
}

/// From the registry's word that a socket is closed to its word that the receipt is there.
async fn time_receipts(
    mut changes: broadcast::Receiver<Change>,
    latencies: Arc<Mutex<Vec<Duration>>>,
) {
    let mut closed = BTreeMap::new();
    loop {
        match changes.recv().await {
            Ok(Change::Claimed(claim)) if claim.stage == Stage::Closed => {
                closed.insert(claim.cookie, now());
            }
            Ok(Change::Retracted { cookie, .. }) => {
                if let Some(since) = closed.remove(&cookie) {
                    let latency = now().saturating_duration_since(since);
                    latencies.lock().unwrap_or_else(PoisonError::into_inner).push(latency);
                }
            }
            Ok(Change::Claimed(_)) | Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a test program measures")]
fn now() -> Instant {
    Instant::now()
}

/// Ends with the input.
fn read_orders() -> mpsc::UnboundedReceiver<String> {
    let (orders, receiver) = mpsc::unbounded_channel();
    thread::spawn(move || {
        for order in io::stdin().lock().lines().map_while(std::result::Result::ok) {
            if orders.send(order).is_err() {
                return;
            }
        }
    });
    receiver
}

fn say(line: &Value) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")
}

//! The broker's addresses, asked for once at a time however many devices want them.

use crate::error::Cause;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Resolves names by the system's resolver (getaddrinfo(3)), and keeps its answers for a moment.
///
/// A storm of 4,000 dials makes one question, not 4,000 threads with one each.
pub(crate) struct Resolver {
    lookup: Arc<Lookup>,
    names: Mutex<HashMap<Box<str>, watch::Receiver<Option<Answer>>>>,
}

impl Resolver {
    /// With the system's resolver.
    pub(crate) fn new() -> Self {
        Self::with_lookup(|host| Ok((host, 0).to_socket_addrs()?.collect()))
    }

    /// All addresses of `host`, in the order in which they should be tried: the system sorted
    /// them by RFC 6724. An IP address is its own answer. Never empty.
    ///
    /// # Errors
    ///
    /// [`Cause::Resolve`] with the resolver's words.
    ///
    /// # Cancel safety
    ///
    /// The question goes on without the one who asked, and its answer serves the next.
    pub(crate) async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, Cause> {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        let mut answers = self.ask(host);
        let found = match answers.wait_for(Option::is_some).await {
            Ok(answer) => answer.as_ref().map(|answer| answer.found.clone()),
            // The runtime shuts down, or the lookup panicked.
            Err(_) => None,
        };
        match found.unwrap_or_else(|| Err("the resolver gave up".into())) {
            Ok(addresses) => {
                Ok(addresses.iter().map(|address| with_port(*address, port)).collect())
            }
            Err(problem) => {
                Err(Cause::Resolve { host: host.to_owned(), problem: problem.to_string() })
            }
        }
    }

    /// With another one.
    pub(super) fn with_lookup(
        lookup: impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> Self {
        Self { lookup: Arc::new(lookup), names: Mutex::default() }
    }

    /// The question that is under way or answered of late, or a new one.
    fn ask(&self, host: &str) -> watch::Receiver<Option<Answer>> {
        let mut names = self.lock();
        if let Some(answers) = names.get(host).filter(|answers| is_of_use(answers)) {
            return answers.clone();
        }
        names.retain(|_, answers| is_of_use(answers));
        let (sender, answers) = watch::channel(None);
        names.insert(host.into(), answers.clone());
        let (lookup, host) = (Arc::clone(&self.lookup), host.to_owned());
        tokio::task::spawn_blocking(move || {
            let found = match lookup(&host) {
                Ok(addresses) if addresses.is_empty() => Err("it has no address".into()),
                Ok(addresses) => Ok(addresses.into()),
                Err(error) => Err(error.to_string().into()),
            };
            sender.send_replace(Some(Answer { found, at: Instant::now() }));
        });
        answers
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, watch::Receiver<Option<Answer>>>> {
        // A map of finished questions is never half changed in a way that matters.
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Long enough for a storm, short enough that nobody waits for a change of DNS.
const KEEP_FOUND: Duration = Duration::from_secs(5);
/// A name that is missing is asked for again soon: a broker may just be starting.
const KEEP_MISSING: Duration = Duration::from_secs(1);

type Lookup = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;

#[derive(Clone)]
struct Answer {
    found: Result<Arc<[SocketAddr]>, Arc<str>>,
    at: Instant,
}

fn is_of_use(answers: &watch::Receiver<Option<Answer>>) -> bool {
    match &*answers.borrow() {
        Some(Answer { found: Ok(_), at }) => at.elapsed() < KEEP_FOUND,
        Some(Answer { found: Err(_), at }) => at.elapsed() < KEEP_MISSING,
        // Under way as long as somebody can still answer.
        None => answers.has_changed().is_ok(),
    }
}

fn with_port(mut address: SocketAddr, port: u16) -> SocketAddr {
    address.set_port(port);
    address
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::mpsc;

    /// A resolver that counts its questions and answers each with that count.
    fn counting() -> (Arc<Resolver>, Arc<AtomicU32>) {
        let asked = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&asked);
        let resolver = Resolver::with_lookup(move |host| {
            let count = counter.fetch_add(1, Ordering::SeqCst) + 1;
            match host {
                "missing" => Err(io::Error::other("no such name")),
                "empty" => Ok(Vec::new()),
                "broken" => panic!("the test breaks the resolver"),
                _ => {
                    Ok(vec![SocketAddr::from(([192, 0, 2, 1], 0)), SocketAddr::from(([0; 16], 0))]
                        .into_iter()
                        .take(count as usize + 1)
                        .collect())
                }
            }
        });
        (Arc::new(resolver), asked)
    }

    #[tokio::test]
    async fn an_ip_address_asks_nobody() {
        let (resolver, asked) = counting();
        for ip in ["127.0.0.1", "::1"] {
            let expected = SocketAddr::new(ip.parse().expect("invariant: valid"), 1_883);
            assert_eq!(resolver.resolve(ip, 1_883).await, Ok(vec![expected]));
        }
        assert_eq!(asked.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn the_order_of_the_system_stays_and_the_port_is_ours() {
        let (resolver, _) = counting();
        let addresses = resolver.resolve("broker", 8_883).await.expect("invariant: it is known");
        assert_eq!(
            addresses,
            [SocketAddr::from(([192, 0, 2, 1], 8_883)), SocketAddr::from(([0; 16], 8_883))]
        );
    }

    #[tokio::test]
    async fn a_storm_asks_once() {
        let (release, gate) = mpsc::channel::<()>();
        let (gate, asked) = (Mutex::new(gate), Arc::new(AtomicU32::new(0)));
        let counter = Arc::clone(&asked);
        let resolver = Arc::new(Resolver::with_lookup(move |_| {
            counter.fetch_add(1, Ordering::SeqCst);
            let _opened = gate.lock().expect("invariant: nobody panics").recv();
            Ok(vec![SocketAddr::from(([192, 0, 2, 1], 0))])
        }));
        let mut storm = tokio::task::JoinSet::new();
        for _ in 0..4_000 {
            let resolver = Arc::clone(&resolver);
            storm.spawn(async move { resolver.resolve("broker", 1).await });
        }
        // The first one gives up while the question is under way.
        let first = tokio::time::timeout(Duration::from_millis(20), resolver.resolve("broker", 1));
        assert!(first.await.is_err());
        release.send(()).expect("invariant: the lookup waits");
        let answers = storm.join_all().await;
        assert!(answers.iter().all(Result::is_ok));
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_kept_for_five_seconds_and_a_failure_for_one() {
        let (resolver, asked) = counting();
        let ask = async |host: &'static str, wait_ms| {
            tokio::time::advance(Duration::from_millis(wait_ms)).await;
            let _any = resolver.resolve(host, 1).await;
            asked.load(Ordering::SeqCst)
        };
        assert_eq!(ask("broker", 0).await, 1);
        assert_eq!(ask("broker", 4_990).await, 1);
        assert_eq!(ask("broker", 20).await, 2);
        assert_eq!(ask("missing", 0).await, 3);
        assert_eq!(ask("missing", 990).await, 3);
        assert_eq!(ask("missing", 20).await, 4);
    }

    #[tokio::test]
    async fn failures_are_named_and_a_panic_hangs_nobody() {
        let (resolver, asked) = counting();
        let cause = resolver.resolve("missing", 1).await.expect_err("invariant: no such name");
        assert_eq!(cause.to_string(), "cannot resolve missing: no such name");
        let cause = resolver.resolve("empty", 1).await.expect_err("invariant: no address");
        assert_eq!(cause.to_string(), "cannot resolve empty: it has no address");
        for _ in 0..2 {
            let cause = resolver.resolve("broken", 1).await.expect_err("invariant: it panics");
            assert_eq!(cause.code(), "resolve");
        }
        assert_eq!(asked.load(Ordering::SeqCst), 4, "a question that died is asked again");
    }

    #[tokio::test]
    async fn the_system_knows_localhost() {
        let addresses = Resolver::new().resolve("localhost", 1).await.expect("invariant: known");
        assert!(addresses.iter().all(|address| address.ip().is_loopback()), "{addresses:?}");
    }
}

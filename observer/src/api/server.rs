//! EDGE: takes connections, and no more of them than there is room for.

use std::{io, net, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, UnixListener},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    Backend, UnixDoor,
    connection::{self, Manners},
    counters::Open,
    gate::{Door, Rule},
    jobs::Jobs,
    peer,
    routes::{self, App},
};

/// How long a client may take nothing of an answer or a stream.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long connections and changes may take to end, each.
const FAREWELL: Duration = Duration::from_secs(3);

/// Clients at once that are told that there is no room. Beyond, they are told nothing.
const REFUSALS: usize = 64;

/// How long to wait after accept(2) failed: it mostly means that no descriptor is left.
const PAUSE: Duration = Duration::from_millis(100);

/// What a client is told when there is no room.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n\
    retry-after: 1\r\nconnection: close\r\ncontent-length: 119\r\n\r\n\
    {\"error\":{\"code\":\"too-many-connections\",\"message\":\"there are `max_connections` of [api] \
    already: close some, or wait\"}}";

/// The doors, opened by [`bind_tcp`](super::bind_tcp) and [`bind_unix`](super::bind_unix) before the
/// daemon gave its privileges away.
#[derive(Debug)]
pub struct Listeners {
    /// For readers; `None` for no TCP at all.
    pub tcp: Option<net::TcpListener>,
    /// For readers and writers.
    pub unix: UnixDoor,
}

/// The HTTP server.
#[derive(Debug)]
pub struct Server {
    tcp: Option<net::TcpListener>,
    unix: UnixDoor,
    backend: Backend,
    patience: Duration,
}

impl Server {
    /// A server that is not running yet.
    pub fn new(listeners: Listeners, backend: Backend) -> Self {
        Self { tcp: listeners.tcp, unix: listeners.unix, backend, patience: PATIENCE }
    }

    /// How long a client may take nothing of an answer or a stream. 30 s unless this is called.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Serves until `shutdown` is over, then ends within 6 s: streams end, requests that are under
    /// way get their answers, changes that were begun are ended. Who the daemon's own user is, is
    /// looked up now, so privileges must have been dropped before.
    ///
    /// # Errors
    ///
    /// Those of handing the listeners to the runtime (epoll).
    ///
    /// # Cancel safety
    ///
    /// Dropping it closes all connections at once; a change that was begun may be cut off.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) -> io::Result<()> {
        let (end, ending) = watch::channel(false);
        let jobs = Jobs::default();
        let rule = Rule {
            own_uid: rustix::process::geteuid().as_raw(),
            group: self.unix.group,
            socket: self.unix.path.clone(),
        };
        let manners = Manners {
            head: self.backend.limits.request_timeout,
            patience: self.patience,
            counters: Arc::clone(&self.backend.counters),
            ending: ending.clone(),
            router: routes::router(App::new(&self.backend, rule, ending, jobs.clone())),
        };
        let unix = UnixListener::from_std(self.unix.listener.try_clone()?)?;
        let tcp = self.tcp.map(TcpListener::from_std).transpose()?;
        let most = usize::try_from(self.backend.limits.max_connections).unwrap_or(usize::MAX);
        let mut hall = Hall::new(manners);
        let (tcp_room, unix_room) = (room(most), room(most));
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                client = accept_tcp(tcp.as_ref()) => match client {
                    Ok(stream) => hall.enter(stream, Door::Tcp, &tcp_room),
                    Err(error) => complain(&error).await,
                },
                client = unix.accept() => match client.and_then(|(stream, _)| {
                    peer::of(&stream).map(|peer| (stream, peer))
                }) {
                    Ok((stream, peer)) => hall.enter(stream, Door::Unix(peer), &unix_room),
                    Err(error) => complain(&error).await,
                },
                Some(over) = hall.clients.join_next() => {
                    if let Err(error) = over {
                        log::error!("serving a client of the API failed: {error}; please report it");
                    }
                }
            }
        }
        // Whoever connects from now on is refused by the system.
        drop((tcp, unix));
        let _nobody_left = end.send(true);
        if timeout(FAREWELL, hall.empty()).await.is_err() {
            log::debug!("connections of the API were cut off");
        }
        if timeout(FAREWELL, jobs.settled()).await.is_err() {
            log::warn!("a change of the fleet was cut off: it took longer than {FAREWELL:?}");
        }
        Ok(())
    }
}

/// All clients that are being served.
struct Hall {
    clients: JoinSet<()>,
    manners: Manners,
    refusals: Arc<Semaphore>,
}

impl Hall {
    fn new(manners: Manners) -> Self {
        Self { clients: JoinSet::new(), manners, refusals: room(REFUSALS) }
    }

    fn enter<S>(&mut self, stream: S, door: Door, room: &Arc<Semaphore>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let manners = self.manners.clone();
        if let Some(place) = place(room) {
            self.clients.spawn(async move {
                let counters = Arc::clone(&manners.counters);
                let _open = Open::new(&counters.connections_open);
                connection::serve(stream, door, manners).await;
                drop(place);
            });
            return;
        }
        manners.counters.connections_refused.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        if let Some(place) = place(&self.refusals) {
            let mut stream = stream;
            self.clients.spawn(async move {
                // It fits into the empty buffer of a new socket.
                if stream.write_all(FULL).await.is_ok() {
                    connection::linger(stream).await;
                }
                drop(place);
            });
        }
    }

    async fn empty(&mut self) {
        while self.clients.join_next().await.is_some() {}
    }
}

fn room(places: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(places.clamp(1, Semaphore::MAX_PERMITS)))
}

fn place(room: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    Arc::clone(room).try_acquire_owned().ok()
}

async fn accept_tcp(listener: Option<&TcpListener>) -> io::Result<tokio::net::TcpStream> {
    match listener {
        None => std::future::pending().await,
        Some(listener) => {
            let (stream, _) = listener.accept().await?;
            // Lines of a stream are small and should not wait for each other.
            stream.set_nodelay(true)?;
            Ok(stream)
        }
    }
}

async fn complain(error: &io::Error) {
    log::warn!("the API cannot take a connection: {error}");
    sleep(PAUSE).await;
}

#[cfg(test)]
mod tests {
    use super::FULL;

    #[test]
    fn the_length_of_the_refusal_is_true() {
        let text = std::str::from_utf8(FULL).expect("invariant: it is ASCII");
        let (head, body) = text.split_once("\r\n\r\n").expect("invariant: it has a body");
        assert!(head.contains(&format!("content-length: {}", body.len())), "{}", body.len());
        assert!(serde_json::from_str::<crate::api::shapes::ErrorBody>(body).is_ok(), "{body}");
    }
}

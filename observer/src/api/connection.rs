//! EDGE: the life of one connection.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    http::{Request, Response},
};
use hyper::{
    body::Incoming,
    server::conn::http1,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    sync::watch,
    time::timeout,
};

use super::{Counters, gate::Door, patience::Patient};

/// Longest head of a request, and about how much of an answer waits in this process for a slow
/// reader, bytes.
const BUFFER: usize = 64 << 10;

/// Most headers of a request.
const HEADERS: usize = 64;

/// How much of what a client still sends is read after the last answer, bytes: closing at once would
/// reset the connection, and the client might never see the answer (RFC 9112 section 9.6).
const LINGER_BYTES: u64 = 16 << 20;

/// For how long.
const LINGER: Duration = Duration::from_secs(1);

/// How a connection is served.
#[derive(Clone)]
pub(super) struct Manners {
    pub(super) router: Router,
    /// For the head of a request, and for the pause between two.
    pub(super) head: Duration,
    /// For a client that does not take what it asked for.
    pub(super) patience: Duration,
    pub(super) counters: Arc<Counters>,
    /// Becomes true when the server ends.
    pub(super) ending: watch::Receiver<bool>,
}

/// Serves one client until one of both has enough.
pub(super) async fn serve<S>(stream: S, door: Door, manners: Manners)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Manners { router, head, patience, counters, mut ending } = manners;
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(door.clone());
        // Boxed, so that the connection can be taken apart below.
        let answer: futures_util::future::BoxFuture<'static, Result<Response<Body>, Infallible>> =
            Box::pin(router.call(request));
        answer
    });
    let stream = TokioIo::new(Patient::new(stream, patience, counters));
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head)
        .max_buf_size(BUFFER)
        .max_headers(HEADERS)
        .serve_connection(stream, service);
    let ended = {
        let mut told = false;
        loop {
            let over = std::future::poll_fn(|cx| connection.poll_without_shutdown(cx));
            tokio::select! {
                result = over => break result,
                _ = ending.wait_for(|ending| *ending), if !told => {
                    told = true;
                    Pin::new(&mut connection).graceful_shutdown();
                }
            }
        }
    };
    let stream = connection.into_parts().io.into_inner().into_inner();
    match ended {
        Ok(()) => linger(stream).await,
        Err(error) => {
            log::debug!("a connection of the API ended: {error}");
            // A parser's complaint has its answer too, which wants to arrive.
            if error.is_parse() {
                linger(stream).await;
            }
        }
    }
}

/// Says good-bye so that the last answer arrives.
pub(super) async fn linger(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let rest = async {
        let mut rest = stream.take(LINGER_BYTES);
        let mut buffer = vec![0; 16 << 10];
        while rest.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
    };
    let _over = timeout(LINGER, rest).await;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::{io::duplex, sync::broadcast};

    use super::*;
    use crate::{
        api::{
            Backend, Health,
            gate::Rule,
            jobs::Jobs,
            peer::Peer,
            routes::{self, App},
        },
        config,
        desk::Desk,
    };

    /// For everything; there are many requests.
    const TIME: Duration = Duration::from_millis(20);

    /// What a server without an observer and without a pool answers to `bytes`. A panic of the
    /// server is one of the test, for both run in one task.
    fn answer(bytes: &[u8], door: Door) -> Vec<u8> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime can be made").block_on(async {
            let counters = Arc::new(Counters::default());
            let backend = Backend {
                desk: Desk::new(4).0,
                pool: None,
                roster: None,
                health: Health::default(),
                counters: Arc::clone(&counters),
                metrics: Arc::new(|| Box::pin(async { Err(crate::desk::Gone) })),
                messages: broadcast::channel(4).0,
                limits: config::Api { request_timeout: TIME, ..config::Api::default() },
            };
            let rule = Rule { own_uid: 1, group: None, socket: "/s".into() };
            let (end, ending) = watch::channel(false);
            let manners = Manners {
                router: routes::router(App::new(&backend, rule, ending.clone(), Jobs::default())),
                head: TIME,
                patience: TIME,
                counters,
                ending,
            };
            let (mut client, stream) = duplex(1 << 20);
            let talk = async {
                client.write_all(bytes).await.expect("it fits");
                // Streams have no other end. Too early, and nothing is served at all.
                tokio::time::sleep(TIME / 2).await;
                let _served = end.send(true);
                let mut said = Vec::new();
                client.read_to_end(&mut said).await.expect("the server closes");
                drop(client);
                said
            };
            tokio::join!(serve(stream, door, manners), talk).1
        })
    }

    fn root() -> Door {
        Door::Unix(Peer { uid: 0, gid: 0, pid: None, groups: Vec::new() })
    }

    #[test]
    fn a_request_is_answered_and_the_connection_ends() {
        let said = answer(b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n", Door::Tcp);
        let said = String::from_utf8_lossy(&said);
        assert!(said.starts_with("HTTP/1.1 200 OK\r\n"), "{said}");
        assert!(said.contains("x-content-type-options: nosniff"), "{said}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]

        #[test]
        fn no_bytes_make_the_server_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            answer(&bytes, root());
            answer(&bytes, Door::Tcp);
        }

        #[test]
        fn no_request_makes_the_server_panic(
            method in "GET|POST|DELETE|HEAD|OPTIONS|CONNECT|[A-Z]{1,5}",
            path in "(/api/v1/(devices|sockets|findings|processes|events|messages|reconnect))?\
                (/[a-z%0-9.]{0,6}){0,2}(/(reconnect|publish))?(\\?[a-z=&%0-9]{0,12})?|\\*|[ -~]{0,20}",
            host in "127.0.0.1|localhost|[ -~]{0,9}",
            body in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let mut bytes = format!(
                "{method} {path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {}\r\n\r\n",
                body.len()
            ).into_bytes();
            bytes.extend_from_slice(&body);
            for door in [root(), Door::Tcp] {
                let said = answer(&bytes, door);
                prop_assert!(said.is_empty() || said.starts_with(b"HTTP/1.1 "));
            }
        }
    }
}

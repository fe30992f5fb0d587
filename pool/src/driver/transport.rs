//! The stream of bytes below a session, whatever is between it and the socket.

use super::tls::TlsTarget;
use super::websocket::{WebSocketBytes, WebSocketTarget};
use crate::broker::{Broker, Scheme, parse_server_name};
use crate::error::{Cause, Error, Phase};
use socket2::SockRef;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// A broker with its certificates read: all that a connect needs, shared by all devices.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    broker: Broker,
    max_packet: usize,
    tls: Option<TlsTarget>,
    websocket: Option<WebSocketTarget>,
}

/// A connected stream. A TCP stream is inside it; TLS and WebSocket keep theirs on the heap.
///
/// After writes, flush: TLS and WebSocket may hold bytes back until then. Shutting down ends the
/// sending side, which makes TIME_WAIT ours with TCP and TLS: to leave it to the broker, send
/// DISCONNECT and read until the end instead.
///
/// Dropping it closes the socket at once, with a FIN, or with a reset after
/// [`Transport::set_reset_on_close`] or when received bytes were not read (`tcp_close`,
/// net/ipv4/tcp.c).
#[derive(Debug)]
pub(crate) enum Transport {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    WebSocket(Box<WebSocketBytes<TcpStream>>),
    SecureWebSocket(Box<WebSocketBytes<TlsStream<TcpStream>>>),
}

impl Endpoint {
    /// Reads and checks what the broker's options name. `max_packet` in bytes bounds a message of
    /// WebSocket. Reads files: once, when the pool is built.
    ///
    /// # Errors
    ///
    /// [`Error::Operator`] for a file that cannot be used, [`Error::Caller`] for a host that no
    /// certificate can name, or a path that no URI can have.
    pub(crate) fn prepare(broker: &Broker, max_packet: usize) -> Result<Self, Error> {
        let tls = match broker.scheme.is_secure() {
            true => {
                let name = parse_server_name("broker host", &broker.host)?;
                Some(TlsTarget::load(&broker.tls, name)?)
            }
            false => None,
        };
        let websocket = match broker.scheme {
            Scheme::WebSocket | Scheme::SecureWebSocket => {
                Some(WebSocketTarget::new(&broker.to_string(), max_packet)?)
            }
            Scheme::Tcp | Scheme::Tls => None,
        };
        Ok(Self { broker: broker.clone(), max_packet, tls, websocket })
    }

    /// The same at another server, as a broker of MQTT 5 names it: `host` or `host:port`; without
    /// a port, ours. A server name for TLS that was chosen stays in force.
    ///
    /// # Errors
    ///
    /// [`Cause::Resolve`] when it is no address, or no certificate can name it.
    pub(crate) fn at(&self, server: &str) -> Result<Self, Cause> {
        let wrong = |problem: Error| Cause::Resolve {
            host: server.to_owned(),
            problem: problem.to_string(),
        };
        let moved = self.broker.moved_to(server).map_err(|error| wrong(error.into()))?;
        let tls = match &self.tls {
            Some(tls) if self.broker.tls.server_name.is_none() => {
                let name = parse_server_name("server reference", &moved.host);
                Some(tls.named(name.map_err(|error| wrong(error.into()))?))
            }
            tls => tls.clone(),
        };
        let websocket = match &self.websocket {
            Some(_) => {
                let target = WebSocketTarget::new(&moved.to_string(), self.max_packet);
                Some(target.map_err(|error| wrong(error.into()))?)
            }
            None => None,
        };
        Ok(Self { broker: moved, max_packet: self.max_packet, tls, websocket })
    }

    /// For the resolver.
    pub(crate) fn host(&self) -> &str {
        &self.broker.host
    }

    /// For the resolver.
    pub(crate) fn port(&self) -> u16 {
        self.broker.port
    }
}

/// Wraps a connected stream into all that the broker's scheme wants.
///
/// `phase` is kept up to date, so that the one timeout over the whole connect can say where it
/// struck. What TLS and WebSocket need for it is on the heap: the future stays small.
///
/// # Errors
///
/// [`Cause::Tls`] or [`Cause::WebSocket`], or whatever ended the connection.
///
/// # Cancel safety
///
/// Dropping the future closes the socket.
pub(crate) async fn upgrade(
    stream: TcpStream,
    endpoint: &Endpoint,
    phase: &mut Phase,
) -> Result<Transport, Cause> {
    match (&endpoint.tls, &endpoint.websocket) {
        (None, None) => Ok(Transport::Tcp(stream)),
        (Some(tls), None) => {
            *phase = Phase::Tls;
            let stream = Box::pin(tls.handshake(stream)).await?;
            Ok(Transport::Tls(Box::new(stream)))
        }
        (None, Some(websocket)) => {
            *phase = Phase::WebSocket;
            let stream = Box::pin(websocket.upgrade(stream)).await?;
            Ok(Transport::WebSocket(Box::new(stream)))
        }
        (Some(tls), Some(websocket)) => {
            *phase = Phase::Tls;
            let stream = Box::pin(tls.handshake(stream)).await?;
            *phase = Phase::WebSocket;
            let stream = Box::pin(websocket.upgrade(stream)).await?;
            Ok(Transport::SecureWebSocket(Box::new(stream)))
        }
    }
}

impl Transport {
    /// The socket itself, for its addresses and options only.
    pub(crate) fn socket(&self) -> &TcpStream {
        match self {
            Self::Tcp(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
            Self::WebSocket(stream) => stream.stream(),
            Self::SecureWebSocket(stream) => stream.stream().get_ref().0,
        }
    }

    /// Lets the close be a reset (SO_LINGER 0, socket(7)): no TIME_WAIT keeps the port, and what
    /// was not sent yet is dropped.
    pub(crate) fn set_reset_on_close(&self) {
        // The kernel refuses it for no open socket (sk_setsockopt, net/core/sock.c).
        let _never_fails = SockRef::from(self.socket()).set_linger(Some(Duration::ZERO));
    }
}

/// Does the same with whichever stream it is.
macro_rules! each {
    ($transport:expr, $stream:ident => $do:expr) => {
        match $transport.get_mut() {
            Transport::Tcp($stream) => $do,
            Transport::Tls($stream) => $do,
            Transport::WebSocket($stream) => $do,
            Transport::SecureWebSocket($stream) => $do,
        }
    };
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_read(context, buffer))
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        each!(self, stream => Pin::new(stream).poll_write(context, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_shutdown(context))
    }
}

#[cfg(test)]
mod tests {
    use super::super::cause_of;
    use super::super::certificates::Certificates;
    use super::super::fate::{FateProbe, SocketFate};
    use super::super::socket::{OpenSocket, SocketOptions};
    use super::*;
    use crate::broker::TlsOptions;
    use std::net::{Ipv4Addr, SocketAddr};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;
    use tokio_tungstenite::accept_hdr_async;
    use tokio_tungstenite::tungstenite::Message;
    use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

    const MAX_PACKET: usize = 1 << 10;

    async fn listen() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("invariant: free");
        let address = listener.local_addr().expect("invariant: it is bound");
        (listener, address)
    }

    async fn connect(address: SocketAddr) -> (TcpStream, u64) {
        let options = SocketOptions { user_timeout: Duration::from_secs(20), source: None };
        let socket = OpenSocket::open(address, &options).expect("invariant: sockets");
        let cookie = socket.cookie();
        (socket.connect().await.expect("invariant: somebody listens"), cookie)
    }

    /// Accepts one connection of a scheme and gives back each byte that comes.
    async fn echo(listener: TcpListener, scheme: Scheme, acceptor: TlsAcceptor) {
        let (stream, _) = listener.accept().await.expect("invariant: one comes");
        match scheme {
            Scheme::Tcp => echo_bytes(stream).await,
            Scheme::Tls => echo_bytes(acceptor.accept(stream).await.expect("invariant: TLS")).await,
            Scheme::WebSocket => echo_messages(stream).await,
            Scheme::SecureWebSocket => {
                echo_messages(acceptor.accept(stream).await.expect("invariant: TLS")).await;
            }
        }
    }

    async fn echo_bytes(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        while let Ok(byte) = stream.read_u8().await {
            stream.write_u8(byte).await.expect("invariant: open");
            stream.flush().await.expect("invariant: open");
        }
    }

    #[expect(clippy::result_large_err, reason = "the type of the callback is not ours")]
    async fn echo_messages(stream: impl AsyncRead + AsyncWrite + Unpin) {
        use futures_util::{SinkExt, StreamExt};
        let agree = |_: &Request, mut response: Response| {
            let value = "mqtt".parse().expect("invariant: a valid header");
            response.headers_mut().insert("sec-websocket-protocol", value);
            Ok(response)
        };
        let mut messages = accept_hdr_async(stream, agree).await.expect("invariant: WebSocket");
        while let Some(Ok(message)) = messages.next().await {
            if let Message::Binary(bytes) = message {
                messages.send(Message::Binary(bytes)).await.expect("invariant: open");
            }
        }
    }

    async fn check_scheme(name: &str, scheme: Scheme, last_phase: Phase) {
        let certificates = Certificates::new();
        let (listener, address) = listen().await;
        let broker = Broker::parse(&format!("{name}://localhost:{}", address.port()))
            .expect("invariant: valid")
            .tls(TlsOptions::new().ca_file(certificates.path("ca.pem")));
        let endpoint = Endpoint::prepare(&broker, MAX_PACKET).expect("invariant: good files");
        let talk = async {
            let (stream, cookie) = connect(address).await;
            let mut phase = Phase::Tcp;
            let mut transport = upgrade(stream, &endpoint, &mut phase).await.expect(name);
            assert_eq!(phase, last_phase, "{name}");
            transport.write_all(b"\xC0\x00").await.expect(name);
            transport.flush().await.expect(name);
            assert_eq!(transport.read_u16().await.expect(name), 0xC000);
            check_reset(transport, cookie);
        };
        tokio::join!(talk, echo(listener, scheme, certificates.acceptor("server", false)));
    }

    /// The socket below is the one we opened, and a reset leaves nothing of it.
    #[track_caller]
    fn check_reset(transport: Transport, cookie: u64) {
        let ends = "invariant: connected";
        let local = transport.socket().local_addr().expect(ends);
        let peer = transport.socket().peer_addr().expect(ends);
        let mut probe = FateProbe::default();
        assert_eq!(probe.ask(local, peer, cookie), Ok(SocketFate::Alive { held: true }));
        transport.set_reset_on_close();
        drop(transport);
        assert_eq!(probe.ask(local, peer, cookie), Ok(SocketFate::Gone));
    }

    #[tokio::test]
    async fn tcp_carries_bytes() {
        check_scheme("mqtt", Scheme::Tcp, Phase::Tcp).await;
    }

    #[tokio::test]
    async fn tls_carries_bytes() {
        check_scheme("mqtts", Scheme::Tls, Phase::Tls).await;
    }

    #[tokio::test]
    async fn websocket_carries_bytes() {
        check_scheme("ws", Scheme::WebSocket, Phase::WebSocket).await;
    }

    #[tokio::test]
    async fn websocket_over_tls_carries_bytes() {
        check_scheme("wss", Scheme::SecureWebSocket, Phase::WebSocket).await;
    }

    #[tokio::test]
    async fn a_silent_broker_is_told_by_its_phase_and_leaves_no_socket() {
        let certificates = Certificates::new();
        for (name, expected) in [("mqtts", Phase::Tls), ("ws", Phase::WebSocket)] {
            let (_listener, address) = listen().await;
            let broker = Broker::parse(&format!("{name}://localhost:{}", address.port()))
                .expect("invariant: valid")
                .tls(TlsOptions::new().ca_file(certificates.path("ca.pem")));
            let endpoint = Endpoint::prepare(&broker, MAX_PACKET).expect("invariant: good files");
            let (stream, cookie) = connect(address).await;
            let local = stream.local_addr().expect("invariant: connected");
            let mut phase = Phase::Tcp;
            let upgrade = upgrade(stream, &endpoint, &mut phase);
            assert!(tokio::time::timeout(Duration::from_millis(50), upgrade).await.is_err());
            assert_eq!(phase, expected);
            let fate = FateProbe::default().ask(local, address, cookie);
            assert!(!matches!(fate, Ok(SocketFate::Alive { .. })), "{fate:?}");
        }
    }

    #[tokio::test]
    async fn a_reset_of_the_peer_is_named() {
        let (listener, address) = listen().await;
        let (stream, _) = connect(address).await;
        let (peer, _) = listener.accept().await.expect("invariant: one comes");
        Transport::Tcp(peer).set_reset_on_close();
        let error = Transport::Tcp(stream).read_u8().await.expect_err("invariant: reset");
        assert_eq!(cause_of(&error), Cause::Reset);
    }

    #[test]
    fn the_future_and_the_transport_are_small() {
        assert!(size_of::<Transport>() <= 40, "{}", size_of::<Transport>());
        // A future of a function is as large as what it keeps over its awaits.
        fn size<F>(_: &impl Fn(TcpStream, &'static Endpoint, &'static mut Phase) -> F) -> usize {
            size_of::<F>()
        }
        let size = size(&upgrade);
        assert!(size <= 160, "{size}");
    }

    #[test]
    fn a_host_that_no_certificate_can_name_is_refused_for_tls_only() {
        let prepare = |url| {
            let broker = Broker::parse(url).expect("invariant: valid");
            Endpoint::prepare(&broker, MAX_PACKET).map(drop)
        };
        let error = prepare("mqtts://a..b").expect_err("invariant: no DNS name");
        assert!(error.to_string().starts_with("invalid broker host"), "{error}");
        assert_eq!(prepare("mqtt://a..b"), Ok(()));
        assert_eq!(prepare("ws://[::1]:8080/a%20b?c=d"), Ok(()));
    }
}

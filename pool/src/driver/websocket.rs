//! MQTT over WebSocket (MQTT 3.1.1 and 5, section 6): the upgrade, and a stream of bytes over
//! binary messages.

use super::cause::websocket_cause;
use crate::error::{CallerError, Cause};
use bytes::{Buf, Bytes};
use futures_util::{Sink, Stream};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::client::ClientRequestBuilder;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::http::Uri;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

/// What one broker needs for an upgrade.
#[derive(Clone, Debug)]
pub(super) struct WebSocketTarget {
    uri: Uri,
    config: WebSocketConfig,
}

impl WebSocketTarget {
    /// For a URL such as `ws://host:80/mqtt`, and packets of at most so many bytes.
    ///
    /// # Errors
    ///
    /// [`CallerError::InvalidField`] when it is no URI (RFC 3986).
    pub(super) fn new(url: &str, max_packet: usize) -> Result<Self, CallerError> {
        let uri = url.parse().map_err(|error| CallerError::InvalidField {
            field: "broker path",
            given: format!("{url:?} ({error})"),
            allowed: "the path of a URI (RFC 3986)".to_owned(),
        })?;
        let limit = max_packet.saturating_mul(PACKETS_PER_MESSAGE).max(LEAST_MESSAGE_BYTES);
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(0)
            .max_message_size(Some(limit))
            .max_frame_size(Some(limit));
        Ok(Self { uri, config })
    }

    /// Asks for the upgrade with the subprotocol `mqtt` (MQTT-6.0.0-3).
    ///
    /// # Errors
    ///
    /// [`Cause::WebSocket`] when the broker refuses it or agrees to another subprotocol, or
    /// whatever ended the connection.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the stream.
    pub(super) async fn upgrade<S>(&self, stream: S) -> Result<WebSocketBytes<S>, Cause>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let request = ClientRequestBuilder::new(self.uri.clone()).with_sub_protocol("mqtt");
        let (messages, _response) = client_async_with_config(request, stream, Some(self.config))
            .await
            .map_err(|error| websocket_cause(&error))?;
        Ok(WebSocketBytes { messages, rest: Bytes::new(), ended: false })
    }
}

/// Bytes over binary messages: a packet may begin and end anywhere in them (MQTT-6.0.0-4).
///
/// Pings are answered when the stream is read, flushed or written. Text, and whatever else breaks
/// RFC 6455, is an error.
///
/// # Cancel safety
///
/// As for any stream: a write that was accepted is sent by later calls, a read that was not
/// finished loses nothing.
#[derive(Debug)]
pub(crate) struct WebSocketBytes<S> {
    messages: WebSocketStream<S>,
    /// Of the message that is being read.
    rest: Bytes,
    ended: bool,
}

impl<S> WebSocketBytes<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    /// What is below.
    pub(super) fn stream(&self) -> &S {
        self.messages.get_ref()
    }
}

impl<S> AsyncRead for WebSocketBytes<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.rest.is_empty() && !self.ended {
            match ready!(Pin::new(&mut self.messages).poll_next(context)) {
                Some(Ok(Message::Binary(bytes))) => self.rest = bytes,
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(_))) => {
                    self.ended = true;
                    // The answer goes out if there is room for it; nobody waits for it.
                    let _best_effort = Pin::new(&mut self.messages).poll_flush(context);
                }
                Some(Ok(Message::Text(_) | Message::Frame(_))) => {
                    self.ended = true;
                    let problem = "a text message, where MQTT uses binary ones (MQTT-6.0.0-1)";
                    let cause = Cause::WebSocket(problem.to_owned());
                    return Poll::Ready(Err(io::Error::other(cause)));
                }
                Some(Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake))) | None => {
                    self.ended = true;
                }
                Some(Err(error)) => {
                    self.ended = true;
                    return Poll::Ready(Err(io::Error::other(error)));
                }
            }
        }
        let count = self.rest.len().min(buffer.remaining());
        buffer.put_slice(&self.rest[..count]);
        self.rest.advance(count);
        if self.rest.is_empty() {
            // An empty slice would keep the whole message in memory.
            self.rest = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S> AsyncWrite for WebSocketBytes<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(Pin::new(&mut self.messages).poll_ready(context)).map_err(io::Error::other)?;
        let part = &bytes[..bytes.len().min(WRITE_BYTES)];
        let message = Message::Binary(Bytes::copy_from_slice(part));
        Pin::new(&mut self.messages).start_send(message).map_err(io::Error::other)?;
        Poll::Ready(Ok(part.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.messages).poll_flush(context).map_err(io::Error::other)
    }

    /// Says Close, and leaves the end of the connection to the broker (RFC 6455 §7.1.1), so that
    /// TIME_WAIT is the broker's.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.messages).poll_close(context).map_err(io::Error::other)
    }
}

/// What a session has anyway: the handshake of tungstenite leaves a buffer of this size behind.
/// A larger message grows it while it is read.
const READ_BUFFER_BYTES: usize = 4_096;

/// The longest message that we send: its copy stays allocated with the session.
const WRITE_BYTES: usize = 8 << 10;

/// Brokers may put several packets into one message (EMQX does).
const PACKETS_PER_MESSAGE: usize = 4;

/// The least bound of a message, whatever the bound of a packet.
const LEAST_MESSAGE_BYTES: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::super::cause_of;
    use super::*;
    use futures_util::{SinkExt, StreamExt};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio_tungstenite::accept_hdr_async;
    use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

    fn target() -> WebSocketTarget {
        WebSocketTarget::new("ws://broker.example:80/mqtt?key=1", 1 << 10)
            .expect("invariant: a valid URL")
    }

    /// Both ends after the upgrade, with little room between them.
    async fn pair() -> (WebSocketBytes<DuplexStream>, WebSocketStream<DuplexStream>) {
        let (ours, theirs) = duplex(1_024);
        let target = target();
        let (client, server) = tokio::join!(target.upgrade(ours), accept(theirs, "mqtt"));
        (client.expect("invariant: they agree"), server.expect("invariant: they agree"))
    }

    #[expect(clippy::result_large_err, reason = "the type of the callback is not ours")]
    async fn accept(
        stream: DuplexStream,
        subprotocol: &str,
    ) -> Result<WebSocketStream<DuplexStream>, Error> {
        accept_hdr_async(stream, |request: &Request, mut response: Response| {
            assert_eq!(request.uri(), "/mqtt?key=1");
            assert_eq!(request.headers()["host"], "broker.example:80");
            assert_eq!(request.headers()["sec-websocket-protocol"], "mqtt");
            if !subprotocol.is_empty() {
                let value = subprotocol.parse().expect("invariant: a valid header");
                response.headers_mut().insert("sec-websocket-protocol", value);
            }
            Ok(response)
        })
        .await
    }

    #[tokio::test]
    async fn a_broker_without_the_subprotocol_is_refused() {
        for other in ["", "mqttv3.1"] {
            let (ours, theirs) = duplex(4_096);
            let target = target();
            let (client, _) = tokio::join!(target.upgrade(ours), accept(theirs, other));
            let cause = client.map(drop).expect_err("invariant: another subprotocol");
            assert!(cause.to_string().contains("MQTT-6.0.0-3"), "{cause}");
        }
    }

    #[track_caller]
    fn check_cause(cause: &Cause, code: &str, text: &str) {
        assert_eq!(cause.code(), code, "{cause}");
        assert!(cause.to_string().contains(text), "{cause}");
    }

    #[tokio::test]
    async fn an_answer_that_is_no_upgrade_is_named() {
        let cases: [(&[u8], &str, &str); 3] = [
            (b"HTTP/1.1 404 Not Found\r\n\r\n", "websocket", "404 Not Found"),
            (b"\x20\x02\x00\x00\r\n\r\n", "websocket", "speak WebSocket on this port"),
            (b"", "peer-closed", "closed"),
        ];
        for (answer, code, text) in cases {
            let (ours, mut theirs) = duplex(4_096);
            theirs.write_all(answer).await.expect("invariant: there is room");
            theirs.shutdown().await.expect("invariant: open");
            let cause = target().upgrade(ours).await.map(drop).expect_err("invariant: no upgrade");
            check_cause(&cause, code, text);
        }
    }

    #[tokio::test]
    async fn bytes_pass_whatever_the_messages_are() {
        let (mut client, mut server) = pair().await;
        let sent: Vec<u8> = (0..100_000_u32).map(|number| number as u8).collect();
        let serve = async {
            for part in sent.chunks(777) {
                server.send(Message::Binary(part.to_vec().into())).await.expect("invariant: open");
                server.send(Message::Ping(Bytes::new())).await.expect("invariant: open");
                server.send(Message::Binary(Bytes::new())).await.expect("invariant: open");
            }
            server
        };
        let mut received = vec![0; sent.len()];
        let (server, _) = tokio::join!(serve, client.read_exact(&mut received));
        assert!(received == sent);
        check_writes(client, server, &sent).await;
    }

    async fn check_writes(
        mut client: WebSocketBytes<DuplexStream>,
        mut server: WebSocketStream<DuplexStream>,
        sent: &[u8],
    ) {
        let write = async {
            client.write_all(sent).await.expect("invariant: open");
            client.flush().await.expect("invariant: open");
            client
        };
        let read = async {
            let (mut received, mut pongs) = (Vec::new(), 0);
            while received.len() < sent.len() {
                match server.next().await.expect("invariant: open").expect("invariant: open") {
                    Message::Binary(bytes) => received.extend_from_slice(&bytes),
                    Message::Pong(_) => pongs += 1,
                    other => panic!("{other}"),
                }
            }
            (received, pongs)
        };
        let (_client, (received, pongs)) = tokio::join!(write, read);
        assert!(received == sent);
        assert!(pongs > 0, "pings were answered");
    }

    #[tokio::test]
    async fn one_write_is_one_binary_message() {
        let (mut client, mut server) = pair().await;
        for packet in [&b"\xC0\x00"[..], b"\xE0\x00"] {
            client.write_all(packet).await.expect("invariant: there is room");
            let message = server.next().await.expect("invariant: open").expect("invariant: open");
            assert_eq!(message, Message::Binary(packet.to_vec().into()));
        }
    }

    #[tokio::test]
    async fn a_text_message_is_an_error() {
        let (mut client, mut server) = pair().await;
        server.send(Message::Text("CONNACK".into())).await.expect("invariant: there is room");
        let error = client.read_u8().await.expect_err("invariant: text");
        check_cause(&cause_of(&error), "websocket", "MQTT-6.0.0-1");
        assert_eq!(client.read(&mut [0; 8]).await.expect("invariant: no error twice"), 0);
    }

    #[tokio::test]
    async fn a_message_beyond_the_limit_is_an_error_before_it_is_there() {
        let (mut client, mut server) = pair().await;
        // The header of a binary frame of 2 MiB.
        let header = [&[0x82, 127][..], &(2_u64 << 20).to_be_bytes()].concat();
        server.get_mut().write_all(&header).await.expect("invariant: there is room");
        let error = client.read_u8().await.expect_err("invariant: too long");
        check_cause(&cause_of(&error), "websocket", "too long");
    }

    #[tokio::test]
    async fn a_close_is_answered_and_ends_the_bytes() {
        let (mut client, mut server) = pair().await;
        server.send(Message::Binary(Bytes::from_static(b"x"))).await.expect("invariant: room");
        server.close(None).await.expect("invariant: there is room");
        let mut received = Vec::new();
        client.read_to_end(&mut received).await.expect("invariant: an orderly end");
        assert_eq!(received, b"x");
        let answer = server.next().await.expect("invariant: an answer").expect("invariant: open");
        assert!(answer.is_close());
    }

    #[tokio::test]
    async fn an_end_without_a_close_ends_the_bytes_too() {
        let (mut client, server) = pair().await;
        drop(server);
        assert_eq!(client.read(&mut [0; 8]).await.expect("invariant: an end"), 0);
    }

    #[tokio::test]
    async fn our_shutdown_says_close() {
        let (mut client, mut server) = pair().await;
        client.shutdown().await.expect("invariant: there is room");
        let message = server.next().await.expect("invariant: open").expect("invariant: open");
        assert!(message.is_close());
    }
}

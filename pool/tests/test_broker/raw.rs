//! A bare socket that speaks as much MQTT as a test writes down.

use super::PATIENCE;
use pool::testing::TestBroker;
use std::io::ErrorKind;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Fin,
    Reset,
}

pub(crate) struct Raw(pub(crate) TcpStream);

impl Raw {
    pub(crate) async fn open(broker: &TestBroker) -> Self {
        let stream = TcpStream::connect(broker.address()).await.expect("invariant: it listens");
        Self(stream)
    }

    /// Connects with MQTT 3.1.1 and checks CONNACK.
    pub(crate) async fn connected(broker: &TestBroker, client: &str) -> Self {
        let mut raw = Self::open(broker).await;
        raw.send(&connect(client, 4, true, 60)).await;
        raw.expect(&[0x20, 2, 0, 0]).await;
        raw
    }

    /// Connects with MQTT 5 and reads CONNACK, whatever is in it.
    pub(crate) async fn connected_5(broker: &TestBroker, client: &str) -> Self {
        let mut raw = Self::open(broker).await;
        raw.send(&connect(client, 5, true, 60)).await;
        let connack = raw.packet().await;
        assert_eq!((connack[0], connack[3]), (0x20, 0), "{connack:02x?}");
        raw
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.expect("invariant: the socket is open");
    }

    pub(crate) async fn expect(&mut self, bytes: &[u8]) {
        let mut got = vec![0; bytes.len()];
        timeout(PATIENCE, self.0.read_exact(&mut got))
            .await
            .expect("invariant: the broker answers")
            .expect("invariant: the socket is open");
        assert_eq!(got, bytes);
    }

    /// A whole packet with a short length.
    pub(crate) async fn packet(&mut self) -> Vec<u8> {
        let mut packet = vec![0; 2];
        timeout(PATIENCE, self.0.read_exact(&mut packet))
            .await
            .expect("invariant: the broker answers")
            .expect("invariant: the socket is open");
        assert!(packet[1] < 0x80, "a long packet");
        let start = packet.len();
        packet.resize(start + usize::from(packet[1]), 0);
        self.0.read_exact(&mut packet[start..]).await.expect("invariant: the socket is open");
        packet
    }

    /// Everything up to the end, and the end.
    pub(crate) async fn rest(&mut self) -> (Vec<u8>, Ended) {
        let mut rest = Vec::new();
        let end = timeout(PATIENCE, self.0.read_to_end(&mut rest)).await;
        match end.expect("invariant: the broker closes") {
            Ok(_) => (rest, Ended::Fin),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => (rest, Ended::Reset),
            Err(error) => panic!("{error}"),
        }
    }

    pub(crate) async fn ends(&mut self) -> Ended {
        let (rest, ended) = self.rest().await;
        assert_eq!(rest, [], "more than the end");
        ended
    }

    /// Nothing comes for so long.
    pub(crate) async fn is_quiet(&mut self, duration: Duration) {
        let mut byte = [0];
        let read = timeout(duration, self.0.read(&mut byte)).await;
        assert!(read.is_err(), "not quiet: {read:?}, {byte:02x?}");
    }
}

pub(crate) fn connect(client: &str, level: u8, clean: bool, keep_alive: u8) -> Vec<u8> {
    let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', level, u8::from(clean) << 1, 0, keep_alive];
    if level == 5 {
        body.push(0);
    }
    body.extend_from_slice(&[0, u8::try_from(client.len()).expect("invariant: short")]);
    body.extend_from_slice(client.as_bytes());
    let mut packet = vec![0x10, u8::try_from(body.len()).expect("invariant: short")];
    packet.append(&mut body);
    packet
}

/// QoS 1 of MQTT 3.1.1 to the topic "t".
pub(crate) fn publish(id: u8) -> [u8; 9] {
    [0x32, 7, 0, 1, b't', 0, id, b'h', b'i']
}

//! A plain client of MQTT 3.1.1, blocking, by hand: the second opinion on what a broker got and
//! sends, and the rival for a client id. It shares no code with the pool.

use crate::wait::PATIENCE;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// A connected client, with a clean session and without keep-alive.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    next_id: u16,
}

/// A message that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Where it was published.
    pub topic: String,
    /// Its content.
    pub payload: Vec<u8>,
    /// The broker kept it for later subscribers.
    pub retain: bool,
}

/// The kinds of packets by their first four bits (MQTT 3.1.1 §2.2.1).
mod kind {
    pub(super) const CONNACK: u8 = 2;
    pub(super) const PUBLISH: u8 = 3;
    pub(super) const PUBACK: u8 = 4;
    pub(super) const SUBACK: u8 = 9;
}

impl Client {
    /// Connects to a broker on this host.
    ///
    /// # Panics
    ///
    /// When the broker does not let it in.
    #[track_caller]
    pub fn connect(port: u16, client_id: &str) -> Self {
        Self::try_connect(port, client_id).expect("the broker lets everybody in")
    }

    /// As [`Client::connect`], for a broker that may not be there.
    ///
    /// # Errors
    ///
    /// What the system says; [`ErrorKind::PermissionDenied`] when the broker says no.
    pub fn try_connect(port: u16, client_id: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut client = Self { stream, next_id: 1 };
        // Protocol level 4, clean session, keep-alive 0.
        let mut body = b"\0\x04MQTT\x04\x02\0\0".to_vec();
        push_string(&mut body, client_id);
        client.send(0x10, &body)?;
        match client.read()? {
            (first, body) if first >> 4 == kind::CONNACK && body.get(1) == Some(&0) => Ok(client),
            other => Err(io::Error::new(ErrorKind::PermissionDenied, format!("{other:?}"))),
        }
    }

    /// Subscribes, and waits for the answer.
    #[track_caller]
    pub fn subscribe(&mut self, filter: &str, qos: u8) {
        let mut body = self.id().to_be_bytes().to_vec();
        push_string(&mut body, filter);
        body.push(qos);
        self.send(0x82, &body).expect("the connection is open");
        let (first, body) = self.read().expect("the broker answers");
        assert_eq!((first >> 4, body.get(2)), (kind::SUBACK, Some(&qos)), "{body:?}");
    }

    /// Publishes with QoS 0.
    #[track_caller]
    pub fn publish(&mut self, topic: &str, payload: impl AsRef<[u8]>) {
        let mut body = Vec::new();
        push_string(&mut body, topic);
        body.extend_from_slice(payload.as_ref());
        self.send(0x30, &body).expect("the connection is open");
    }

    /// Publishes many messages with QoS 1, and waits until the broker has them all. Their payloads
    /// begin with their number, in decimal and followed by a space.
    #[track_caller]
    pub fn publish_many(&mut self, topic: &str, count: usize, size: usize) {
        let mut acknowledged = 0;
        for number in 0..count {
            let mut body = Vec::new();
            push_string(&mut body, topic);
            body.extend_from_slice(&self.id().to_be_bytes());
            let payload = format!("{number} ");
            body.extend_from_slice(payload.as_bytes());
            body.resize(body.len() + size.saturating_sub(payload.len()), b'x');
            self.send(0x32, &body).expect("the connection is open");
            // The broker stops reading from who does not read its answers.
            if number - acknowledged > 50 {
                self.await_puback();
                acknowledged += 1;
            }
        }
        for _ in acknowledged..count {
            self.await_puback();
        }
    }

    /// The next message; acknowledges it.
    #[track_caller]
    pub fn next_message(&mut self) -> Received {
        self.next_message_within(PATIENCE).expect("a message comes in time")
    }

    /// The next message, if one comes within this time.
    #[track_caller]
    pub fn next_message_within(&mut self, patience: Duration) -> Option<Received> {
        let next = self.try_next(patience);
        next.unwrap_or_else(|error| panic!("waiting for a message: {error}"))
    }

    /// As [`Client::next_message_within`], for a broker that may go.
    ///
    /// # Errors
    ///
    /// When the connection has ended.
    #[track_caller]
    pub fn try_next(&mut self, patience: Duration) -> io::Result<Option<Received>> {
        self.stream.set_read_timeout(Some(patience)).expect("invariant: it is not zero");
        let packet = self.read();
        self.stream.set_read_timeout(Some(PATIENCE)).expect("invariant: it is not zero");
        let (first, body) = match packet {
            Ok(packet) => packet,
            Err(error) if is_timeout(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        assert_eq!(first >> 4, kind::PUBLISH, "{body:?}");
        Ok(Some(self.message(first, &body)))
    }

    /// Whether the broker has closed the connection, or does within this time. What it sends
    /// meanwhile is dropped.
    pub fn is_closed_within(&mut self, patience: Duration) -> bool {
        self.stream.set_read_timeout(Some(patience)).expect("invariant: it is not zero");
        loop {
            match self.read() {
                Ok(_packet) => {}
                Err(error) => return !is_timeout(&error),
            }
        }
    }

    /// Ends the session properly.
    pub fn disconnect(mut self) {
        // The broker may have ended it first.
        let _sent = self.send(0xE0, &[]);
    }

    #[track_caller]
    fn await_puback(&mut self) {
        let (first, body) = self.read().expect("the broker answers");
        assert_eq!(first >> 4, kind::PUBACK, "{body:?}");
    }

    fn message(&mut self, first: u8, body: &[u8]) -> Received {
        let length = usize::from(u16::from_be_bytes([body[0], body[1]]));
        let (topic, mut rest) = body[2..].split_at(length);
        match (first >> 1) & 3 {
            0 => {}
            1 => {
                let id = [rest[0], rest[1]];
                rest = &rest[2..];
                self.send(0x40, &id).expect("the connection is open");
            }
            qos => panic!("QoS {qos} was not asked for"),
        }
        Received {
            topic: String::from_utf8_lossy(topic).into_owned(),
            payload: rest.to_vec(),
            retain: first & 1 == 1,
        }
    }

    fn id(&mut self) -> u16 {
        let id = self.next_id;
        self.next_id = id.checked_add(1).unwrap_or(1);
        id
    }

    fn send(&mut self, first: u8, body: &[u8]) -> io::Result<()> {
        let mut packet = vec![first];
        let mut length = body.len();
        loop {
            let byte = u8::try_from(length % 128).expect("invariant: less than 128");
            length /= 128;
            packet.push(if length > 0 { byte | 0x80 } else { byte });
            if length == 0 {
                break;
            }
        }
        packet.extend_from_slice(body);
        self.stream.write_all(&packet)
    }

    /// First byte and body of the next packet.
    fn read(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut byte = [0];
        self.stream.read_exact(&mut byte)?;
        let first = byte[0];
        let (mut length, mut shift) = (0, 0);
        loop {
            self.stream.read_exact(&mut byte)?;
            length |= usize::from(byte[0] & 0x7F) << shift;
            shift += 7;
            if byte[0] & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok((first, body))
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn push_string(body: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).expect("invariant: names of tests are short");
    body.extend_from_slice(&length.to_be_bytes());
    body.extend_from_slice(text.as_bytes());
}

//! The other ends of the connections, in the process of the test, which nobody watches.

use socket2::{Domain, SockRef, Socket, Type};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Longer than any handshake on the loopback device, shorter than the first retransmission of a
/// SYN (1 s).
const REFUSED_AFTER: Duration = Duration::from_millis(300);

/// A listener whose connections are accepted when the scenario says so.
#[derive(Debug)]
pub struct Peer(TcpListener);

impl Peer {
    /// On 127.0.0.1.
    pub fn new() -> Self {
        Self::on("127.0.0.1")
    }

    /// On an address of this host.
    pub fn on(host: &str) -> Self {
        let host: IpAddr = host.parse().expect("invariant: an address");
        Self(TcpListener::bind((host, 0)).expect("the kernel has a free port"))
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.address().port()
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.0.local_addr().expect("invariant: it is bound")
    }

    /// The next connection.
    #[track_caller]
    pub fn accept(&self) -> TcpStream {
        self.0.accept().expect("somebody connects").0
    }

    /// The next `count` connections.
    #[track_caller]
    pub fn accept_many(&self, count: usize) -> Vec<TcpStream> {
        (0..count).map(|_| self.accept()).collect()
    }
}

impl Default for Peer {
    fn default() -> Self {
        Self::new()
    }
}

/// Ends a connection by RST.
pub fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("a socket can linger");
}

/// Connects as an unwatched client.
#[track_caller]
pub fn connect(host: &str, port: u16) -> TcpStream {
    let host: IpAddr = host.parse().expect("invariant: an address");
    TcpStream::connect((host, port)).expect("somebody listens")
}

/// Reads `stream` to its end.
pub fn drain(mut stream: TcpStream) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut buffer = [0; 65536];
        while let Ok(1..) = stream.read(&mut buffer) {}
    })
}

/// Writes `count` bytes.
#[track_caller]
pub fn write(mut stream: &TcpStream, count: usize) {
    stream.write_all(&vec![b'x'; count]).expect("the connection is open");
}

/// A listener that never accepts, with a full queue: who connects now gets no answer.
#[derive(Debug)]
pub struct FullBacklog {
    listener: Socket,
    waiting: Vec<Socket>,
}

impl FullBacklog {
    /// Fills one.
    pub fn new() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let any: SocketAddr = ([127, 0, 0, 1], 0).into();
        listener.bind(&any.into()).expect("the kernel has a free port");
        listener.listen(0).expect("it is bound");
        let address = listener.local_addr().expect("invariant: it is bound");
        let mut waiting = Vec::new();
        loop {
            let client = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            let connected = client.connect_timeout(&address, REFUSED_AFTER);
            waiting.push(client);
            match connected {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::TimedOut => break,
                Err(error) => panic!("filling a backlog: {error}"),
            }
        }
        Self { listener, waiting }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        let address = self.listener.local_addr().expect("invariant: it is bound");
        address.as_socket().expect("invariant: IPv4").port()
    }

    /// Makes room for one.
    pub fn accept_all(&mut self) {
        self.waiting.clear();
        self.listener.set_nonblocking(true).expect("a socket can be non-blocking");
        while self.listener.accept().is_ok() {}
    }
}

impl Default for FullBacklog {
    fn default() -> Self {
        Self::new()
    }
}

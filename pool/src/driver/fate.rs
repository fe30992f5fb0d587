//! What became of a socket after its close, as the kernel says: the receipt of a pool that has no
//! observer.

use crate::error::OperatorError;
use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP};
use netlink_packet_sock_diag::inet::{
    ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags,
};
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use nix::errno::Errno;
use socket2::SockRef;
use std::io::{Error, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

/// What the kernel has of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SocketFate {
    /// No connection with these ends, or another one: the socket is destroyed, or closed by a
    /// reset while somebody still holds its descriptor.
    Gone,
    /// Left ESTABLISHED and CLOSE_WAIT for good: the broker's session has its end.
    Disconnected {
        /// FIN_WAIT1, FIN_WAIT2, CLOSING, LAST_ACK or TIME_WAIT.
        state: TcpState,
        /// A descriptor still refers to it.
        held: bool,
    },
    /// Still a connection, or one in the making.
    Alive {
        /// A descriptor refers to it; without one, close(2) is under way.
        held: bool,
    },
}

/// The states of TCP as the kernel counts them (include/net/tcp_states.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(crate) enum TcpState {
    Established = 1,
    SynSent = 2,
    SynReceived = 3,
    FinWait1 = 4,
    FinWait2 = 5,
    TimeWait = 6,
    Close = 7,
    CloseWait = 8,
    LastAck = 9,
    Listen = 10,
    Closing = 11,
    NewSynReceived = 12,
    BoundInactive = 13,
}

/// Asks the kernel about single sockets by inet_diag (sock_diag(7)), without any privilege.
///
/// One exact question is one lookup in the kernel's table and takes a few microseconds, so it may
/// be asked from a task (`inet_diag_dump_one_icsk`, net/ipv4/inet_diag.c). The netlink socket is
/// opened at the first one, and costs one descriptor.
#[derive(Debug, Default)]
pub(crate) struct FateProbe {
    socket: Option<Socket>,
    sequence: u32,
}

impl FateProbe {
    /// What became of the socket with this cookie and these ends (its own address first).
    ///
    /// # Errors
    ///
    /// [`OperatorError::System`] where the kernel has no inet_diag for TCP, or a sandbox forbids
    /// it; the next call tries anew. No answer is never taken for [`SocketFate::Gone`].
    pub(crate) fn ask(
        &mut self,
        local: SocketAddr,
        peer: SocketAddr,
        cookie: u64,
    ) -> Result<SocketFate, OperatorError> {
        self.try_ask(local, peer, cookie).map_err(|error| {
            // A late answer to this question must not meet the next one.
            self.socket = None;
            OperatorError::System { what: WHAT, problem: error.to_string() }
        })
    }

    fn try_ask(
        &mut self,
        local: SocketAddr,
        peer: SocketAddr,
        cookie: u64,
    ) -> Result<SocketFate, Error> {
        if self.socket.is_none() {
            self.open()?;
        }
        self.look_up(local, peer, cookie)
    }

    /// Opens the netlink socket, and makes sure that it finds a socket that is there: a kernel
    /// without tcp_diag says ENOENT to everything (`__sock_diag_cmd`, net/core/sock_diag.c), which
    /// would pass for a receipt.
    fn open(&mut self) -> Result<(), Error> {
        let socket = Socket::new(NETLINK_SOCK_DIAG)?;
        // The kernel answers within send(2): what is not there then will never be.
        socket.set_non_blocking(true)?;
        self.socket = Some(socket);
        let anywhere = [(Ipv4Addr::LOCALHOST, 0).into(), (Ipv6Addr::LOCALHOST, 0).into()];
        let sample = TcpListener::bind(&anywhere[..])?;
        let (local, cookie) = (sample.local_addr()?, SockRef::from(&sample).cookie()?);
        match self.look_up(local, SocketAddr::new(local.ip(), 0), cookie)? {
            SocketFate::Gone => Err(Error::other("the kernel has no inet_diag for TCP (tcp_diag)")),
            _ => Ok(()),
        }
    }

    fn look_up(
        &mut self,
        local: SocketAddr,
        peer: SocketAddr,
        cookie: u64,
    ) -> Result<SocketFate, Error> {
        let Some(socket) = &self.socket else { return Err(ErrorKind::NotConnected.into()) };
        self.sequence = self.sequence.wrapping_add(1);
        let question = question(self.sequence, local, peer, cookie);
        socket.send(&question, 0)?;
        let mut buffer = [0; ANSWER_BYTES];
        loop {
            let size = socket.recv(&mut &mut buffer[..], 0)?;
            let answer = buffer.get(..size).ok_or(ErrorKind::InvalidData)?;
            let message = NetlinkMessage::<SockDiagMessage>::deserialize(answer)
                .map_err(|error| Error::new(ErrorKind::InvalidData, error.to_string()))?;
            if message.header.sequence_number == self.sequence {
                return judge(message.payload, cookie);
            }
        }
    }
}

impl TcpState {
    fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Established,
            2 => Self::SynSent,
            3 => Self::SynReceived,
            4 => Self::FinWait1,
            5 => Self::FinWait2,
            6 => Self::TimeWait,
            7 => Self::Close,
            8 => Self::CloseWait,
            9 => Self::LastAck,
            10 => Self::Listen,
            11 => Self::Closing,
            12 => Self::NewSynReceived,
            13 => Self::BoundInactive,
            _ => return None,
        })
    }
}

const WHAT: &str = "socket diagnostics (NETLINK_SOCK_DIAG)";

/// A header, the answer and its few attributes take about 150 bytes.
const ANSWER_BYTES: usize = 1_024;

fn question(sequence: u32, local: SocketAddr, peer: SocketAddr, cookie: u64) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST;
    header.sequence_number = sequence;
    let family = match local.ip() {
        IpAddr::V4(_) => AF_INET,
        IpAddr::V6(_) => AF_INET6,
    };
    let request = SockDiagMessage::InetRequest(InetRequest {
        family,
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::empty(),
        // An exact question goes by its ends alone.
        states: StateFlags::all(),
        socket_id: SocketId {
            source_port: local.port(),
            destination_port: peer.port(),
            source_address: local.ip(),
            destination_address: peer.ip(),
            interface_id: interface(local),
            cookie: cookie_bytes(cookie),
        },
    });
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(request));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// A socket with a link-local address is bound to its interface, and only found with it
/// (`tcp_v6_connect`, net/ipv6/tcp_ipv6.c).
fn interface(local: SocketAddr) -> u32 {
    match local {
        SocketAddr::V4(_) => 0,
        SocketAddr::V6(local) => local.scope_id(),
    }
}

/// Two words, the low one first, each in the byte order of this host (`sock_diag_save_cookie`,
/// net/core/sock_diag.c).
fn cookie_bytes(cookie: u64) -> [u8; 8] {
    let [low, high] = [cookie as u32, (cookie >> 32) as u32].map(u32::to_ne_bytes);
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&low);
    bytes[4..].copy_from_slice(&high);
    bytes
}

fn judge(payload: NetlinkPayload<SockDiagMessage>, cookie: u64) -> Result<SocketFate, Error> {
    match payload {
        NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => {
            judge_response(&response, cookie)
        }
        NetlinkPayload::Error(error) => match Errno::from_raw(error.raw_code().saturating_neg()) {
            // ENOENT stands for a socket with these ends and another cookie too: the port is in use
            // again, or a listener has it (`inet_diag_find_one_icsk`). ESTALE is what
            // `sock_diag_check_cookie` itself says of that.
            Errno::ENOENT | Errno::ESTALE => Ok(SocketFate::Gone),
            code => Err(code.into()),
        },
        _ => Err(ErrorKind::InvalidData.into()),
    }
}

fn judge_response(response: &InetResponse, cookie: u64) -> Result<SocketFate, Error> {
    let header = &response.header;
    if header.socket_id.cookie != cookie_bytes(cookie) {
        return Ok(SocketFate::Gone);
    }
    let state = TcpState::from_number(header.state).ok_or(ErrorKind::InvalidData)?;
    // close(2) takes the inode away from the socket (`sock_orphan`); TIME_WAIT never has one.
    let held = header.inode != 0;
    Ok(match state {
        TcpState::FinWait1
        | TcpState::FinWait2
        | TcpState::TimeWait
        | TcpState::LastAck
        | TcpState::Closing
        | TcpState::Close => SocketFate::Disconnected { state, held },
        TcpState::Established
        | TcpState::SynSent
        | TcpState::SynReceived
        | TcpState::NewSynReceived
        | TcpState::CloseWait
        | TcpState::Listen
        | TcpState::BoundInactive => SocketFate::Alive { held },
    })
}

#[cfg(test)]
mod tests {
    use super::super::socket::{OpenSocket, SocketOptions};
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;
    use tokio::net::TcpStream;

    /// Both ends of one connection, of which the client's is ours.
    struct Pair {
        client: Option<TcpStream>,
        server: Option<TcpStream>,
        local: SocketAddr,
        peer: SocketAddr,
        cookie: u64,
        probe: FateProbe,
    }

    impl Pair {
        async fn new(ip: impl Into<IpAddr>) -> Self {
            let there = "invariant: loopback is there";
            let listener = tokio::net::TcpListener::bind((ip.into(), 0)).await.expect(there);
            let peer = listener.local_addr().expect(there);
            let options = SocketOptions { user_timeout: Duration::from_secs(20), source: None };
            let socket = OpenSocket::open(peer, &options).expect(there);
            let cookie = socket.cookie();
            let client = socket.connect().await.expect(there);
            let local = client.local_addr().expect(there);
            let (server, _) = listener.accept().await.expect(there);
            let probe = FateProbe::default();
            Self { client: Some(client), server: Some(server), local, peer, cookie, probe }
        }

        fn fate(&mut self) -> SocketFate {
            self.probe.ask(self.local, self.peer, self.cookie).expect("invariant: it is available")
        }

        fn client(&self) -> SockRef<'_> {
            SockRef::from(self.client.as_ref().expect("invariant: open"))
        }

        /// Loopback delivers within the sending call, but on a timer's or another CPU's behalf
        /// once in a while.
        async fn settles(&mut self, expected: SocketFate) {
            for _ in 0..200 {
                if self.fate() == expected {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            assert_eq!(self.fate(), expected);
        }
    }

    #[tokio::test]
    async fn an_open_socket_is_alive_and_held_in_both_families() {
        for ip in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
            let mut pair = Pair::new(ip).await;
            assert_eq!(pair.fate(), SocketFate::Alive { held: true });
            pair.client().set_linger(Some(Duration::ZERO)).expect("invariant: allowed");
            pair.client = None;
            assert_eq!(pair.fate(), SocketFate::Gone, "{ip}");
        }
    }

    #[tokio::test]
    async fn a_normal_close_leaves_fin_wait_and_then_time_wait_without_a_holder() {
        let mut pair = Pair::new(Ipv4Addr::LOCALHOST).await;
        pair.client = None;
        let state = TcpState::FinWait2;
        pair.settles(SocketFate::Disconnected { state, held: false }).await;
        pair.server = None;
        let state = TcpState::TimeWait;
        pair.settles(SocketFate::Disconnected { state, held: false }).await;
    }

    #[tokio::test]
    async fn a_duplicate_keeps_the_socket_alive() {
        let mut pair = Pair::new(Ipv4Addr::LOCALHOST).await;
        let duplicate = pair.client().try_clone().expect("invariant: there is room");
        pair.client = None;
        assert_eq!(pair.fate(), SocketFate::Alive { held: true });
        drop(duplicate);
        pair.settles(SocketFate::Disconnected { state: TcpState::FinWait2, held: false }).await;
    }

    #[tokio::test]
    async fn a_socket_that_is_shut_down_but_open_is_disconnected_and_held() {
        let mut pair = Pair::new(Ipv4Addr::LOCALHOST).await;
        pair.client().shutdown(std::net::Shutdown::Write).expect("invariant: connected");
        pair.settles(SocketFate::Disconnected { state: TcpState::FinWait2, held: true }).await;
    }

    #[tokio::test]
    async fn a_socket_that_waits_for_its_close_is_alive() {
        let mut pair = Pair::new(Ipv4Addr::LOCALHOST).await;
        pair.server = None;
        pair.client.as_ref().expect("invariant: open").readable().await.expect("invariant: EOF");
        assert_eq!(pair.fate(), SocketFate::Alive { held: true });
        pair.client = None;
        pair.settles(SocketFate::Gone).await;
    }

    #[tokio::test]
    async fn the_same_ends_with_another_cookie_are_another_socket() {
        let mut pair = Pair::new(Ipv4Addr::LOCALHOST).await;
        pair.cookie += 1 << 32;
        assert_eq!(pair.fate(), SocketFate::Gone);
        pair.cookie -= 1 << 32;
        assert_eq!(pair.fate(), SocketFate::Alive { held: true });
    }

    #[tokio::test]
    async fn a_late_answer_is_not_taken_for_the_next_one() {
        let mut pair = Pair::new(Ipv4Addr::LOCALHOST).await;
        assert_eq!(pair.fate(), SocketFate::Alive { held: true });
        let other = question(0, pair.local, pair.peer, pair.cookie + 1);
        let socket = pair.probe.socket.as_ref().expect("invariant: opened");
        socket.send(&other, 0).expect("invariant: there is room");
        assert_eq!(pair.fate(), SocketFate::Alive { held: true });
    }

    #[tokio::test]
    async fn a_probe_that_failed_opens_a_new_socket() {
        let mut pair = Pair::new(Ipv4Addr::LOCALHOST).await;
        let local = pair.local;
        // A netlink family that knows nothing of sockets.
        pair.probe.socket = Some(Socket::new(0).expect("invariant: NETLINK_ROUTE is there"));
        let error = pair.probe.ask(local, pair.peer, pair.cookie);
        assert!(matches!(error, Err(OperatorError::System { .. })), "{error:?}");
        assert_eq!(pair.fate(), SocketFate::Alive { held: true });
    }

    #[tokio::test]
    async fn a_question_takes_microseconds() {
        let mut pair = Pair::new(Ipv4Addr::LOCALHOST).await;
        let begun = tokio::time::Instant::now();
        for _ in 0..10_000 {
            assert_eq!(pair.fate(), SocketFate::Alive { held: true });
        }
        let each = begun.elapsed() / 10_000;
        assert!(each < Duration::from_micros(500), "{each:?}");
    }

    #[test]
    fn an_error_other_than_not_found_is_no_receipt() {
        let answer = |code: i32| {
            let mut bytes = vec![0; 36];
            bytes[..4].copy_from_slice(&36_u32.to_ne_bytes());
            bytes[4..6].copy_from_slice(&2_u16.to_ne_bytes());
            bytes[16..20].copy_from_slice(&(-code).to_ne_bytes());
            let message = NetlinkMessage::<SockDiagMessage>::deserialize(&bytes);
            judge(message.expect("invariant: well formed").payload, 1)
        };
        for gone in [Errno::ENOENT, Errno::ESTALE] {
            assert_eq!(answer(gone as i32).expect("invariant: an answer"), SocketFate::Gone);
        }
        for problem in [Errno::EPERM, Errno::EINVAL, Errno::EOPNOTSUPP] {
            let error = answer(problem as i32).expect_err("invariant: a problem");
            assert_eq!(error.raw_os_error(), Some(problem as i32));
        }
        // An acknowledgement, which we never ask for.
        assert!(answer(0).is_err());
    }

    proptest! {
        #[test]
        fn no_answer_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), cookie: u64) {
            if let Ok(message) = NetlinkMessage::<SockDiagMessage>::deserialize(&bytes) {
                let _any = judge(message.payload, cookie);
            }
        }

        #[test]
        fn no_question_panics(port: u16, ip: u128, cookie: u64) {
            let v6 = SocketAddr::new(Ipv6Addr::from_bits(ip).into(), port);
            let v4 = SocketAddr::new(Ipv4Addr::from_bits(ip as u32).into(), port);
            prop_assert_eq!(question(1, v4, v6, cookie).len(), question(1, v6, v4, cookie).len());
        }
    }
}

//! The pool's own TCP sockets: made, named and only then connected.

use super::cause_of;
use crate::error::{Cause, OperatorError};
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream};

/// What all sockets of a pool have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SocketOptions {
    /// `TCP_USER_TIMEOUT` (tcp(7)); 0 leaves the kernel's rule. The SYN obeys it too.
    pub(crate) user_timeout: Duration,
    /// The local address; `None` lets the routes decide.
    pub(crate) source: Option<IpAddr>,
}

/// A socket that is not connected yet, but has its name: the registry can hold its claim before
/// the kernel has anything to tell about it.
#[derive(Debug)]
pub(crate) struct OpenSocket {
    socket: Socket,
    cookie: u64,
    destination: SocketAddr,
}

impl OpenSocket {
    /// A socket for one connect to `destination`: non-blocking, closed by exec, without Nagle's
    /// delay, with keep-alive, user timeout and source address.
    ///
    /// # Errors
    ///
    /// [`Cause::Operator`] when the system has no descriptor or no memory, or when the source
    /// address is not of this host or of the other family than the destination.
    pub(crate) fn open(destination: SocketAddr, options: &SocketOptions) -> Result<Self, Cause> {
        let destination = canonical(destination);
        let made = make(destination, options).and_then(|socket| Ok((socket.cookie()?, socket)));
        match made {
            Ok((cookie, socket)) => Ok(Self { socket, cookie, destination }),
            Err(error) => Err(name_source(options.source, &error)),
        }
    }

    /// `SO_COOKIE`: the kernel counts them up and never reuses one while it runs
    /// (`__sock_gen_cookie`, net/core/sock_diag.c), and keeps it into TIME_WAIT. The same number
    /// is in eBPF and inet_diag.
    pub(crate) fn cookie(&self) -> u64 {
        self.cookie
    }

    /// Connects, without any limit of time but the kernel's.
    ///
    /// # Errors
    ///
    /// Whatever [`cause_of`] makes of the system's answer.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the socket; one in SYN_SENT is destroyed at once (`tcp_close`,
    /// net/ipv4/tcp.c).
    pub(crate) async fn connect(self) -> Result<TcpStream, Cause> {
        let Self { socket, destination, .. } = self;
        let socket = TcpSocket::from_std_stream(socket.into());
        let stream = socket.connect(destination).await.map_err(|error| cause_of(&error))?;
        if is_connected_to_itself(&stream) {
            return Err(Cause::Refused);
        }
        Ok(stream)
    }
}

/// What the times of the keep-alive are parts of where `TCP_USER_TIMEOUT` is off.
const USUAL_TIMEOUT: Duration = Duration::from_secs(45);

/// Unanswered probes until the peer counts as gone, where `TCP_USER_TIMEOUT` is off.
const KEEPALIVE_PROBES: u32 = 3;

/// Into so many groups the sockets are spread.
const GROUPS: u32 = 16;

/// How long to be idle before the first probe, and between two of them: 15 to 29 s and 5 s with a
/// user timeout of 45 s.
///
/// The two timeouts belong together. Once there is a user timeout, the kernel does not count
/// probes, but asks at each whether the peer was silent for that long and the last probe is
/// unanswered (`tcp_keepalive_timer`, net/ipv4/tcp_timer.c): with 20 s and the first probe after
/// 30 s, one lost probe ended a connection that was in order.
///
/// And probes are lost when they come together. The kernel's timers are coarse, so 12,000 sockets
/// that were idle since the same second send theirs within a millisecond, and the queue of
/// received packets takes 1,000 (net.core.netdev_max_backlog): 4,000 of them lost every probe up
/// to the timeout. So each socket has its own idle time, by its cookie.
fn keepalive_times(user_timeout: Duration, cookie: u64) -> (Duration, Duration) {
    let whole = if user_timeout.is_zero() { USUAL_TIMEOUT } else { user_timeout };
    let seconds = |part: Duration| Duration::from_secs(part.as_secs().max(1));
    let group = u32::try_from(cookie % u64::from(GROUPS)).expect("invariant: below 16");
    (seconds(whole / 3 + whole / 3 * group / GROUPS), seconds(whole / 9))
}

fn make(destination: SocketAddr, options: &SocketOptions) -> io::Result<Socket> {
    // `new` sets CLOEXEC with the same system call: no fork can come between.
    let domain = Domain::for_address(destination);
    let socket = Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    let (idle, interval) = keepalive_times(options.user_timeout, socket.cookie()?);
    let keepalive =
        TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(KEEPALIVE_PROBES);
    socket.set_tcp_keepalive(&keepalive)?;
    if !options.user_timeout.is_zero() {
        socket.set_tcp_user_timeout(Some(options.user_timeout))?;
    }
    if let Some(source) = options.source {
        // Without this, bind reserves a port for every destination at once, and the range is used
        // up 65,535 destinations too early (ip(7)).
        setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    Ok(socket)
}

/// An IPv4 address in IPv6's clothes is reached by an IPv4 socket, which inet_diag finds too.
fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::new(ip.into(), address.port()),
        // Keeps the scope of a link-local address.
        IpAddr::V6(_) => address,
    }
}

fn name_source(source: Option<IpAddr>, error: &io::Error) -> Cause {
    let problem = match (source, error.kind()) {
        (Some(source), io::ErrorKind::AddrNotAvailable) => {
            format!("{source} is no address of this host ({error})")
        }
        // EAFNOSUPPORT or EINVAL: an IPv4 source on an IPv6 socket, or the other way round.
        (Some(source), io::ErrorKind::InvalidInput) => format!("source address {source}: {error}"),
        (Some(source), _) if matches!(error.raw_os_error(), Some(AF_NOT_SUPPORTED)) => {
            format!("the broker's address is not of the family of the source address {source}")
        }
        _ => return cause_of(error),
    };
    Cause::Operator(OperatorError::System { what: "socket with this source address", problem })
}

const AF_NOT_SUPPORTED: i32 = nix::errno::Errno::EAFNOSUPPORT as i32;

/// Where nobody listens on a port of the local range, TCP may meet itself: the kernel picks the
/// destination port as the source port, and the SYN is its own answer (RFC 9293 §3.5).
fn is_connected_to_itself(stream: &TcpStream) -> bool {
    match (stream.local_addr(), stream.peer_addr()) {
        (Ok(local), Ok(peer)) => local == peer,
        // Gone already: the first read tells why.
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::SockRef;
    use std::fs;
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::os::fd::AsRawFd;
    use tokio::net::TcpListener;
    use tokio::time::timeout;

    const OPTIONS: SocketOptions =
        SocketOptions { user_timeout: Duration::from_secs(20), source: None };

    fn open(destination: SocketAddr) -> OpenSocket {
        OpenSocket::open(destination, &OPTIONS).expect("invariant: the system has sockets")
    }

    async fn listen(ip: IpAddr) -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind((ip, 0)).await.expect("invariant: a free port");
        let address = listener.local_addr().expect("invariant: it is bound");
        (listener, address)
    }

    #[tokio::test]
    async fn the_cookie_is_the_same_before_and_after_the_connect() {
        let (_listener, address) = listen(Ipv4Addr::LOCALHOST.into()).await;
        let socket = open(address);
        let cookie = socket.cookie();
        assert_ne!(cookie, 0);
        assert_ne!(cookie, open(address).cookie());
        let stream = socket.connect().await.expect("invariant: somebody listens");
        assert_eq!(SockRef::from(&stream).cookie().expect("invariant: Linux"), cookie);
    }

    #[test]
    fn no_single_lost_probe_ends_a_connection() {
        for (seconds, cookie) in (9..=3_600).flat_map(|seconds| [(seconds, 0), (seconds, 15)]) {
            let whole = Duration::from_secs(seconds);
            let (idle, interval) = keepalive_times(whole, cookie);
            assert!(idle + 2 * interval < whole, "{seconds} s: {idle:?} and {interval:?}");
        }
        assert_eq!(keepalive_times(Duration::ZERO, 0), keepalive_times(USUAL_TIMEOUT, 0));
    }

    #[test]
    fn a_fleet_does_not_probe_all_at_once() {
        let idle = |cookie| keepalive_times(USUAL_TIMEOUT, cookie).0.as_secs();
        let times: std::collections::BTreeSet<u64> = (0..16).map(idle).collect();
        assert_eq!((times.first(), times.last(), times.len()), (Some(&15), Some(&29), 15));
    }

    #[tokio::test]
    async fn all_options_are_set() {
        let (_listener, address) = listen(Ipv4Addr::LOCALHOST.into()).await;
        let stream = open(address).connect().await.expect("invariant: somebody listens");
        let socket = SockRef::from(&stream);
        let get = "invariant: Linux has it";
        assert!(socket.tcp_nodelay().expect(get));
        assert!(socket.keepalive().expect(get));
        let cookie = socket.cookie().expect(get);
        let (idle, interval) = keepalive_times(OPTIONS.user_timeout, cookie);
        assert_eq!(socket.tcp_keepalive_time().expect(get), idle);
        assert_eq!(socket.tcp_keepalive_interval().expect(get), interval);
        assert_eq!(socket.tcp_keepalive_retries().expect(get), KEEPALIVE_PROBES);
        assert_eq!(socket.tcp_user_timeout().expect(get), Some(OPTIONS.user_timeout));
        assert!(socket.nonblocking().expect(get));
        let flags = rustix::io::fcntl_getfd(&stream).expect(get);
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    }

    #[tokio::test]
    async fn sockets_with_a_source_address_share_its_ports() {
        let (_first, one) = listen(Ipv4Addr::LOCALHOST.into()).await;
        let source = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 77));
        let options = SocketOptions { source: Some(source), ..OPTIONS };
        let socket = OpenSocket::open(one, &options).expect("invariant: of this host");
        let bound = socket.socket.local_addr().ok().and_then(|address| address.as_socket());
        assert_eq!(bound, Some(SocketAddr::new(source, 0)), "no port before the connect");
        let stream = socket.connect().await.expect("invariant: somebody listens");
        assert_eq!(stream.local_addr().expect("invariant: connected").ip(), source);
    }

    #[track_caller]
    fn check_source(destination: IpAddr, source: IpAddr, text: &str) {
        let options = SocketOptions { source: Some(source), ..OPTIONS };
        let cause = OpenSocket::open(SocketAddr::new(destination, 1), &options)
            .expect_err("invariant: no such source");
        assert_eq!(cause.code(), "operator");
        assert!(cause.to_string().contains(text), "{cause}");
    }

    #[test]
    fn a_source_address_that_cannot_be_is_the_operators() {
        let (v4, v6) = (IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST));
        check_source(v4, "192.0.2.1".parse().expect("invariant: valid"), "192.0.2.1 is no address");
        check_source(v4, v6, "source address ::1");
        check_source(v6, v4, "source address 127.0.0.1");
    }

    #[tokio::test]
    async fn ipv6_and_ipv4_in_its_clothes_connect() {
        let (_listener, v4) = listen(Ipv4Addr::LOCALHOST.into()).await;
        let mapped = SocketAddr::new(Ipv4Addr::LOCALHOST.to_ipv6_mapped().into(), v4.port());
        let stream = open(mapped).connect().await.expect("invariant: somebody listens");
        assert_eq!(stream.peer_addr().expect("invariant: connected"), v4);
        let (_listener, v6) = listen(Ipv6Addr::LOCALHOST.into()).await;
        let stream = open(v6).connect().await.expect("invariant: somebody listens");
        assert_eq!(stream.peer_addr().expect("invariant: connected"), v6);
    }

    #[tokio::test]
    async fn a_port_where_nobody_listens_refuses() {
        let (listener, address) = listen(Ipv4Addr::LOCALHOST.into()).await;
        drop(listener);
        assert_eq!(open(address).connect().await.map(drop), Err(Cause::Refused));
    }

    #[tokio::test]
    async fn a_socket_that_met_itself_is_refused() {
        let socket = open("127.0.0.1:1".parse().expect("invariant: valid"));
        socket.socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("invariant: free");
        let own = socket.socket.local_addr().ok().and_then(|own| own.as_socket());
        let destination = own.expect("invariant: it is bound");
        let outcome = OpenSocket { destination, ..socket }.connect().await;
        assert_eq!(outcome.map(drop), Err(Cause::Refused));
    }

    #[tokio::test]
    async fn an_address_without_a_route_is_unreachable() {
        // TCP refuses multicast before it sends anything (tcp_v4_connect, net/ipv4/tcp_ipv4.c).
        let socket = open("224.0.0.1:1883".parse().expect("invariant: valid"));
        let cause = socket.connect().await.map(drop).expect_err("invariant: multicast");
        assert_eq!(cause.code(), "unreachable", "{cause}");
    }

    #[tokio::test]
    async fn a_connect_that_hangs_can_be_dropped() {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("invariant: sockets");
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("invariant: free");
        listener.listen(0).expect("invariant: it is bound");
        let address = listener.local_addr().ok().and_then(|address| address.as_socket());
        let address = address.expect("invariant: it is bound");
        // A backlog of 0 holds one; the SYN of the next is dropped.
        let mut held = Vec::new();
        let (hung, name, inode) = loop {
            let socket = open(address);
            let name = format!("/proc/self/fd/{}", socket.socket.as_raw_fd());
            let inode = fs::read_link(&name).expect("invariant: it is open");
            let mut connect = Box::pin(socket.connect());
            match timeout(Duration::from_millis(100), &mut connect).await {
                Ok(stream) => held.push(stream.expect("invariant: there is room")),
                Err(_) => break (connect, name, inode),
            }
            assert!(held.len() < 10, "the backlog never fills");
        };
        assert_eq!(fs::read_link(&name).ok().as_ref(), Some(&inode));
        drop(hung);
        // Another test may have the number by now, but never the socket.
        assert_ne!(fs::read_link(&name).ok(), Some(inode));
    }
}

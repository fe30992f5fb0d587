//! MQTT 3.1.1 by hand: as few bytes and as little work as the protocol allows.

use super::Args;
use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
use std::io;
use std::net::{IpAddr, SocketAddr};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

/// PINGREQ, section 3.12.
pub const PINGREQ: [u8; 2] = [0xC0, 0];

/// CONNECT with a clean session, section 3.1.
pub fn connect_packet(client_id: &str, keep_alive: u16) -> Vec<u8> {
    const CLEAN_SESSION: u8 = 2;
    let mut rest = vec![0, 4, b'M', b'Q', b'T', b'T', 4, CLEAN_SESSION];
    rest.extend(keep_alive.to_be_bytes());
    string(&mut rest, client_id);
    packet(0x10, &rest)
}

/// PUBLISH, section 3.3; `packet_id` decides between QoS 0 and 1.
pub fn publish_packet(topic: &str, payload: &[u8], packet_id: Option<u16>) -> Vec<u8> {
    let mut rest = Vec::new();
    string(&mut rest, topic);
    rest.extend(packet_id.into_iter().flat_map(u16::to_be_bytes));
    rest.extend(payload);
    packet(if packet_id.is_some() { 0x32 } else { 0x30 }, &rest)
}

/// Whether a CONNACK accepts: section 3.2.
///
/// # Errors
///
/// Names the return code, or says that this is no CONNACK.
pub fn accepted(connack: [u8; 4]) -> io::Result<()> {
    match connack {
        [0x20, 2, _, 0] => Ok(()),
        [0x20, 2, _, code] => Err(io::Error::other(format!("refused with return code {code}"))),
        other => Err(io::Error::other(format!("no CONNACK: {other:?}"))),
    }
}

/// A fixed header (section 2.2) and what follows it.
pub fn packet(first: u8, rest: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    let mut length = rest.len();
    loop {
        let (digit, more) = (length as u8 % 128, length / 128);
        packet.push(digit | if more > 0 { 0x80 } else { 0 });
        length = more;
        if length == 0 {
            break;
        }
    }
    packet.extend(rest);
    packet
}

/// Section 1.5.3; what is longer than it can say is our own mistake.
fn string(out: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).expect("invariant: names of ours are short");
    out.extend(length.to_be_bytes());
    out.extend(text.as_bytes());
}

/// A TCP connection of a device, before any byte of MQTT.
///
/// # Errors
///
/// What the kernel says.
pub async fn dial(args: &Args, address: SocketAddr, number: u32) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if let Some(source) = source(&args.source, number) {
        // Otherwise the port is chosen here, from those that are free for every destination: ip(7).
        setsockopt(&socket, IpBindAddressNoPort, &true)?;
        socket.bind((source, 0).into())?;
    }
    socket.set_nodelay(true)?;
    socket.connect(address).await
}

/// Sends CONNECT and waits until it is accepted.
///
/// # Errors
///
/// A refusal, or the end of the connection.
pub async fn greet<S>(stream: &mut S, args: &Args, number: u32) -> io::Result<()>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    stream.write_all(&connect_packet(&args.client_id(number), args.keep_alive)).await?;
    stream.flush().await?;
    let mut connack = [0; 4];
    stream.read_exact(&mut connack).await?;
    accepted(connack)
}

fn source(sources: &[IpAddr], number: u32) -> Option<IpAddr> {
    sources.get(number as usize % sources.len().max(1)).copied()
}

//! More messages than anybody wants: to a broker, or to one client in the place of a broker.
//!
//! `firehose publish` sends small messages at a rate to the topics that a fleet subscribes to, and
//! says `{"type":"fired","count":N,"acknowledged":A,"seconds":S}`.
//!
//! `firehose serve` is a broker that does nothing else, so that only the client is measured. It says `{"type":"listening","port":P}`, acknowledges what it is sent, and answers a
//! subscription with N messages of QoS 0 and a last one of QoS 1. Once that is acknowledged, all
//! are received: `{"type":"served","count":N,"seconds":S}`.

#![forbid(unsafe_code)]

use clap::{Parser, Subcommand};
use harness::clock;
use harness::fleet::args::Broker;
use harness::fleet::{Report, raw};
use serde_json::json;
use std::io::{self, Read, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How often a paced publisher writes: rare enough to leave the CPU to those who are measured.
const TICK: Duration = Duration::from_millis(5);
/// How many messages of QoS 1 wait for PUBACK at most; packet ids must not repeat among them.
const MOST_UNACKNOWLEDGED: u64 = 60_000;
const PATIENCE: Duration = Duration::from_secs(10);
/// Chosen: what one write of the server hands to the kernel.
const CHUNK_BYTES: usize = 64 * 1024;

/// A source of messages.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    what: What,
    /// One JSON object a line, in place of words.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum What {
    Publish(Publish),
    Serve(Serve),
}

/// Publish to a broker at a rate.
#[derive(Clone, clap::Args)]
struct Publish {
    /// mqtt://HOST:PORT.
    #[arg(long)]
    broker: Broker,
    /// Messages a second, over all topics.
    #[arg(long)]
    rate: u32,
    /// For how many seconds.
    #[arg(long)]
    seconds: u32,
    /// How many topics, in turn.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    topics: u32,
    /// Topics are this, a number from 0, and `/in`.
    #[arg(long, default_value = "dev-")]
    prefix: String,
    /// Bytes of each payload.
    #[arg(long, default_value_t = 16)]
    size: usize,
    /// 0 or 1.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=1))]
    qos: u8,
}

/// Be the broker of one client.
#[derive(Clone, clap::Args)]
struct Serve {
    /// How many messages answer a subscription.
    #[arg(long, default_value_t = 0)]
    count: u32,
    /// Bytes of each payload.
    #[arg(long, default_value_t = 16)]
    size: usize,
}

fn main() -> io::Result<()> {
    let cli = Cli::parse();
    let report = Report::new(cli.json);
    match cli.what {
        What::Publish(publish) => publish.run(report),
        What::Serve(serve) => serve.run(report),
    }
}

impl Publish {
    fn run(&self, report: Report) -> io::Result<()> {
        let mut stream = TcpStream::connect(self.broker.address()?)?;
        stream.set_nodelay(true)?;
        stream.write_all(&raw::connect_packet("firehose", 0))?;
        let mut connack = [0; 4];
        stream.read_exact(&mut connack)?;
        raw::accepted(connack)?;

        let acknowledged = Arc::new(AtomicU64::new(0));
        let (reader, counter) = (stream.try_clone()?, Arc::clone(&acknowledged));
        thread::spawn(move || count_acknowledgements(reader, &counter));
        let begin = clock::now();
        let total = u64::from(self.rate) * u64::from(self.seconds);
        let mut sent = 0;
        while sent < total {
            let due = total.min((begin.elapsed().as_secs_f64() * f64::from(self.rate)) as u64);
            let room = self.room(sent, acknowledged.load(Ordering::Relaxed));
            let batch: Vec<u8> = (sent..due).take(room).flat_map(|it| self.message(it)).collect();
            stream.write_all(&batch)?;
            sent += due.saturating_sub(sent).min(room as u64);
            thread::sleep(TICK);
        }
        let sent_after = begin.elapsed();
        let deadline = clock::now() + PATIENCE;
        while self.qos > 0 && acknowledged.load(Ordering::Relaxed) < sent && clock::now() < deadline
        {
            thread::sleep(TICK);
        }
        let fired = json!({
            "count": sent,
            "acknowledged": acknowledged.load(Ordering::Relaxed),
            "seconds": sent_after.as_secs_f64(),
        });
        report.say("fired", fired);
        // DISCONNECT, section 3.14.
        stream.write_all(&[0xE0, 0])
    }

    /// How many more may be sent now.
    fn room(&self, sent: u64, acknowledged: u64) -> usize {
        let unacknowledged = if self.qos == 0 { 0 } else { sent.saturating_sub(acknowledged) };
        MOST_UNACKNOWLEDGED.saturating_sub(unacknowledged) as usize
    }

    fn message(&self, number: u64) -> Vec<u8> {
        let topic = format!("{}{}/in", self.prefix, number % u64::from(self.topics));
        let packet_id = (number % u64::from(u16::MAX)) as u16 + 1;
        let packet_id = (self.qos > 0).then_some(packet_id);
        raw::publish_packet(&topic, &vec![b'x'; self.size], packet_id)
    }
}

/// Everything that a broker sends to a publisher is PUBACK, of four bytes: section 3.4.
fn count_acknowledgements(mut stream: TcpStream, acknowledged: &AtomicU64) {
    let mut buffer = [0; 8 * 1024];
    let mut bytes = 0;
    while let Ok(more @ 1..) = stream.read(&mut buffer) {
        bytes += more as u64;
        acknowledged.store(bytes / 4, Ordering::Relaxed);
    }
}

impl Serve {
    fn run(&self, report: Report) -> io::Result<()> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        report.say("listening", json!({ "port": listener.local_addr()?.port() }));
        loop {
            let (stream, _) = listener.accept()?;
            let serve = self.clone();
            // How a connection ends is its client's business.
            thread::spawn(move || serve.serve(stream, report));
        }
    }

    fn serve(&self, mut stream: TcpStream, report: Report) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut reader = io::BufReader::with_capacity(CHUNK_BYTES, stream.try_clone()?);
        let mut answers = Vec::new();
        let mut begin: Option<Instant> = None;
        loop {
            // Answers leave once for everything that came together.
            if reader.buffer().is_empty() {
                stream.write_all(&answers)?;
                answers.clear();
            }
            let (first, body) = read_packet(&mut reader)?;
            let id = |at: usize| body.get(at..at + 2).unwrap_or(&[0, 0]).to_vec();
            let length = |at: usize| usize::from(u16::from_be_bytes([body[at], body[at + 1]]));
            match first >> 4 {
                // CONNECT: CONNACK.
                1 => answers.extend([0x20, 2, 0, 0]),
                // PUBLISH: nothing, PUBACK or PUBREC; the packet id follows the topic.
                3 => {
                    let id = id(2 + length(0));
                    match first >> 1 & 3 {
                        0 => {}
                        1 => answers.extend(raw::packet(0x40, &id)),
                        _ => answers.extend(raw::packet(0x50, &id)),
                    }
                }
                // PUBACK of the last message: all the others were read before it.
                4 => {
                    if let Some(begin) = begin.take() {
                        let seconds = (clock::now() - begin).as_secs_f64();
                        report.say("served", json!({ "count": self.count, "seconds": seconds }));
                    }
                }
                // PUBREL: PUBCOMP.
                6 => answers.extend(raw::packet(0x70, &id(0))),
                // SUBSCRIBE of one topic: SUBACK with the QoS that it wants, then the messages.
                8 => {
                    let (topic, qos) = body[4..].split_at(length(2).min(body.len() - 4));
                    let topic = String::from_utf8_lossy(topic).into_owned();
                    answers.extend(raw::packet(0x90, &[&id(0), qos].concat()));
                    stream.write_all(&answers)?;
                    answers.clear();
                    if self.count > 0 {
                        begin = Some(clock::now());
                        self.pour(&mut stream, &topic)?;
                    }
                }
                // PINGREQ: PINGRESP.
                12 => answers.extend([0xD0, 0]),
                14 => return Ok(()),
                other => return Err(io::Error::other(format!("a packet of type {other}"))),
            }
        }
    }

    fn pour(&self, stream: &mut TcpStream, topic: &str) -> io::Result<()> {
        let payload = vec![b'x'; self.size];
        let message = raw::publish_packet(topic, &payload, None);
        let per_chunk = (CHUNK_BYTES / message.len()).max(1);
        let chunk = message.repeat(per_chunk);
        let mut left = self.count as usize;
        while left > 0 {
            let now = left.min(per_chunk);
            stream.write_all(&chunk[..now * message.len()])?;
            left -= now;
        }
        stream.write_all(&raw::publish_packet(topic, &payload, Some(1)))
    }
}

/// The first byte of a packet, and what follows its length: section 2.2.
fn read_packet(reader: &mut impl Read) -> io::Result<(u8, Vec<u8>)> {
    let mut byte = [0];
    reader.read_exact(&mut byte)?;
    let first = byte[0];
    let mut length = 0;
    for shift in [0, 7, 14, 21] {
        reader.read_exact(&mut byte)?;
        length |= usize::from(byte[0] & 0x7F) << shift;
        if byte[0] & 0x80 == 0 {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    // Every packet that is looked into has at least its two lengths.
    body.resize(length.max(4), 0);
    Ok((first, body))
}

//! Messages of QoS 1 and 2 between devices whose sockets are replaced all the time: is one lost,
//! is one doubled?
//!
//! ```sh
//! cargo run --release -p sockwarden-pool --example replacements -- --broker mqtt://127.0.0.1:1883
//! ```
//!
//! Prints one JSON object and exits with 1 when a message was lost or one of QoS 2 was doubled.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

use bytes::Bytes;
use clap::Parser as _;
use pool::{Broker, Buffers, Delivery, Device, Error, Limits, Messages, Pool, Publish, QoS};
use std::collections::{HashMap, VecDeque};
use std::process::ExitCode;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, timeout};

#[derive(clap::Parser)]
struct Args {
    /// mqtt://, mqtts://, ws:// or wss://, with host and port.
    #[arg(long, value_name = "URL")]
    broker: Broker,
    /// How many devices; half of them publish, half of them receive.
    #[arg(long, default_value_t = 40)]
    devices: u32,
    /// How many sockets to replace.
    #[arg(long, default_value_t = 1_000)]
    replacements: u64,
    /// Messages of each quality a second, in all.
    #[arg(long, default_value_t = 1_000)]
    rate: u64,
    /// MQTT 5 in place of 3.1.1.
    #[arg(long)]
    v5: bool,
    /// The output is always JSON; taken for the sake of those who ask for it.
    #[arg(long)]
    json: bool,
}

/// What was sent, and how often each of it came.
#[derive(Default)]
struct Ledger {
    sent: [u64; 2],
    received: HashMap<Bytes, u32>,
}

struct Verdict {
    lost: u64,
    doubled: [u64; 2],
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Args::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> Result<bool, Error> {
    let started = Instant::now();
    let limits = Limits { connect_spacing: Duration::from_millis(200), ..Limits::adaptive() };
    let version = if args.v5 { pool::Version::V5 } else { pool::Version::V311 };
    let pool = Pool::builder(args.broker.clone())
        .limits(limits)
        .version(version)
        .buffers(Buffers { outbox: 100_000, ..Buffers::default() })
        .build()?;
    let half = args.devices / 2;
    for number in 0..half {
        pool.add(Device::new(sender(number))?)?;
        let mut device = Device::new(receiver(number))?;
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            device = device.subscribe(topic(number, qos), qos)?;
        }
        pool.add(device)?;
    }
    while pool.status().online < pool.status().devices {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Subscriptions are made right after CONNACK; nothing sent before them would come.
    tokio::time::sleep(Duration::from_millis(500)).await;

    let mut replacing = JoinSet::new();
    replacing.spawn(replace(pool.clone(), args.devices, args.replacements));
    let mut messages = pool.messages()?;
    let mut ledger = Ledger::default();
    let mut under_way: VecDeque<Delivery> = VecDeque::new();
    let mut ticks = interval(Duration::from_millis(10));
    let replaced = loop {
        tokio::select! {
            Some(done) = replacing.join_next() => break done.unwrap_or(0),
            Some(message) = messages.next() => ledger.note(message.payload),
            _ = ticks.tick() => {
                for _ in 0..(args.rate / 100).max(1) {
                    ledger.publish(&pool, half, &mut under_way)?;
                }
            }
        }
    };
    // Every one of them has to be acknowledged in the end.
    for delivery in under_way {
        delivery.await?;
    }
    ledger.await_the_rest(&mut messages).await;
    let verdict = ledger.verdict();
    for payload in ledger.missing().take(10) {
        eprintln!("missing: quality and number {payload}");
    }
    println!(
        concat!(
            r#"{{"type":"result","replacements":{},"sent":{},"lost":{},"doubled":{},"#,
            r#""qos1_doubled":{},"seconds":{:.1}}}"#
        ),
        replaced,
        ledger.sent.iter().sum::<u64>(),
        verdict.lost,
        verdict.doubled[1],
        verdict.doubled[0],
        started.elapsed().as_secs_f64(),
    );
    pool.shutdown().await;
    Ok(verdict.lost == 0 && verdict.doubled[1] == 0 && replaced >= args.replacements)
}

/// Replaces one device after the other, ten at a time; says how many were.
async fn replace(pool: Pool, devices: u32, replacements: u64) -> u64 {
    let (mut done, mut failed) = (0, 0);
    let mut next = 0;
    // As many failures are no trial any more: the broker is gone.
    while done < replacements && failed < replacements {
        let mut batch = JoinSet::new();
        for _ in 0..10.min(devices) {
            let number = next % devices;
            next += 1;
            let name =
                if number.is_multiple_of(2) { sender(number / 2) } else { receiver(number / 2) };
            let pool = pool.clone();
            batch.spawn(async move { pool.reconnect(&name).await });
        }
        while let Some(outcome) = batch.join_next().await {
            match outcome {
                Ok(Ok(_)) => done += 1,
                Ok(Err(error)) => {
                    failed += 1;
                    eprintln!("a replacement failed: {error}");
                }
                Err(error) => eprintln!("{error}"),
            }
        }
    }
    done
}

impl Ledger {
    /// One message of each quality, from the next sender to its receiver.
    fn publish(
        &mut self,
        pool: &Pool,
        half: u32,
        under_way: &mut VecDeque<Delivery>,
    ) -> Result<(), Error> {
        for (index, qos) in [QoS::AtLeastOnce, QoS::ExactlyOnce].into_iter().enumerate() {
            let number = self.sent[index];
            let device = u32::try_from(number % u64::from(half)).unwrap_or(0);
            let payload = format!("{index} {number}");
            let publish = Publish::new(topic(device, qos), qos, payload)?;
            under_way.push_back(pool.publish(&sender(device), publish)?);
            self.sent[index] += 1;
        }
        Ok(())
    }

    fn note(&mut self, payload: Bytes) {
        *self.received.entry(payload).or_insert(0) += 1;
    }

    /// The broker may still hold some: until all are there, or nothing comes for ten seconds.
    async fn await_the_rest(&mut self, messages: &mut Messages) {
        let patience = Duration::from_secs(10);
        while (self.received.len() as u64) < self.sent.iter().sum() {
            match timeout(patience, messages.next()).await {
                Ok(Some(message)) => self.note(message.payload),
                Ok(None) | Err(_) => return,
            }
        }
        // A double would come now.
        while let Ok(Some(message)) = timeout(Duration::from_secs(1), messages.next()).await {
            self.note(message.payload);
        }
    }

    fn missing(&self) -> impl Iterator<Item = String> {
        let all = [0, 1]
            .into_iter()
            .flat_map(|index| (0..self.sent[index]).map(move |number| format!("{index} {number}")));
        all.filter(|payload| !self.received.contains_key(payload.as_bytes()))
    }

    fn verdict(&self) -> Verdict {
        let lost = self.sent.iter().sum::<u64>().saturating_sub(self.received.len() as u64);
        let mut doubled = [0, 0];
        for (payload, times) in &self.received {
            let index = usize::from(payload.first() == Some(&b'1'));
            doubled[index] += u64::from(*times) - 1;
        }
        Verdict { lost, doubled }
    }
}

fn sender(number: u32) -> String {
    format!("sender-{number}-{}", std::process::id())
}

fn receiver(number: u32) -> String {
    format!("receiver-{number}-{}", std::process::id())
}

// With the process's number, for a persistent session may still hold what an earlier run sent.
fn topic(number: u32, qos: QoS) -> String {
    format!("to/{}/{number}/{}", std::process::id(), qos as u8)
}

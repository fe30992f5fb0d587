//! Takes over the sessions of a fleet, all of them, and goes: the fleet finds itself kicked.
//!
//! Its command line is that of a fleet; it needs the same prefix, and as many devices as it shall
//! take over. It says `{"type":"kicked","devices":K,"seconds":S}` once none is connected any more.

#![forbid(unsafe_code)]

use harness::fleet::{self, Args, Fleet, raw};
use serde_json::json;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// At once, unless the caller wants it otherwise: half of what Mosquitto lets wait.
const IN_FLIGHT: u32 = 50;

fn main() -> io::Result<()> {
    let fleet = Fleet::from_command_line();
    let mut args = fleet.args.clone();
    let (subscribe, tls) = (args.subscribe.is_some(), args.ca.is_some());
    args.refuse(&[("--subscribe", subscribe), ("--ca", tls)])?;
    args.max_in_flight.get_or_insert(IN_FLIGHT);
    let begin = harness::clock::now();
    fleet::runtime().block_on(kick(args))?;
    let seconds = begin.elapsed().as_secs_f64();
    fleet.report.say("kicked", json!({ "devices": fleet.args.devices, "seconds": seconds }));
    Ok(())
}

async fn kick(args: Args) -> io::Result<()> {
    let address = args.broker.address()?;
    let gate = Arc::new(Semaphore::new(args.permits()));
    let args = Arc::new(args);
    let mut connects = JoinSet::new();
    for number in 0..args.devices {
        connects.spawn(connect(Arc::clone(&args), Arc::clone(&gate), address, number));
    }
    // Each is held until all are taken over, for a device may come back at once.
    let mut held = Vec::new();
    while let Some(connected) = connects.join_next().await {
        held.push(connected.map_err(io::Error::other)??);
    }
    Ok(())
}

async fn connect(
    args: Arc<Args>,
    gate: Arc<Semaphore>,
    address: SocketAddr,
    number: u32,
) -> io::Result<TcpStream> {
    let _permit = gate.acquire().await.map_err(io::Error::other)?;
    let mut stream = raw::dial(&args, address, number).await?;
    raw::greet(&mut stream, &args, number).await?;
    Ok(stream)
}

//! The mistake: event loops of rumqttc that are held and not polled any more. rumqttc has no thread
//! of its own, so nobody notices that the broker has closed.
//!
//! Reported: what a task that waits for something else in its loop does to its connection.

#![forbid(unsafe_code)]

use rumqttc::{AsyncClient, Event, MqttOptions, Packet};
use std::error::Error;
use std::io::{self, Write as _};

fn main() -> Result<(), Box<dyn Error>> {
    let port: u16 = std::env::args().nth(1).ok_or("the port is missing")?.parse()?;
    say("ready")?;
    io::stdin().read_line(&mut String::new())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut held = Vec::new();
        for number in 0..5 {
            let options = MqttOptions::new(format!("dev-{number}"), "127.0.0.1", port);
            let (client, mut event_loop) = AsyncClient::new(options, 10);
            while !matches!(event_loop.poll().await?, Event::Incoming(Packet::ConnAck(_))) {}
            held.push((client, event_loop));
        }
        say("act")?; // The broker closes.
        // BUG: nobody polls.
        std::future::pending().await
    })
}

fn say(word: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{word}")
}

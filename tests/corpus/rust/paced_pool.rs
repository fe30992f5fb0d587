//! The look-alike: our own pool, whose broker kicks every session.

#![forbid(unsafe_code)]

use pool::{Broker, Device, Pool};
use std::error::Error;
use std::io::{self, Write as _};
use std::time::Duration;

const DEVICES: usize = 60;

fn main() -> Result<(), Box<dyn Error>> {
    let port = std::env::args().nth(1).ok_or("the port is missing")?;
    say("ready")?;
    io::stdin().read_line(&mut String::new())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let broker = Broker::parse(&format!("mqtt://127.0.0.1:{port}"))?;
        let pool = Pool::builder(broker).build()?;
        for number in 0..DEVICES {
            pool.add(Device::new(format!("dev-{number}"))?)?;
        }
        while pool.status().online < DEVICES {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        say("act")?; // They are taken over by somebody else.
        std::future::pending().await
    })
}

fn say(word: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{word}")
}

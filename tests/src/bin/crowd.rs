//! As many devices as the limit of descriptors allows, in a process of its own: its arguments are
//! the broker's address and how many to try. It says what was refused and how many came online,
//! replaces them all once, and says what is open then.

#![forbid(unsafe_code)]

use pool::{Broker, Device, Limits, Pool, ReconnectOptions};
use std::error::Error;
use std::io::{self, Write as _};
use std::time::Duration;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().ok_or("the broker's address is missing")?;
    let count = arguments.next().ok_or("the number of devices is missing")?.parse()?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(run(&url, count))
}

async fn run(url: &str, count: u32) -> Result<(), Box<dyn Error>> {
    let limits = Limits { connect_spacing: Duration::ZERO, ..Limits::adaptive() };
    let pool = Pool::builder(Broker::parse(url)?).limits(limits).build()?;
    let mut added = 0;
    for number in 0..count {
        match pool.add(Device::new(format!("c{number}"))?) {
            Ok(()) => added += 1,
            Err(error) => {
                say(&format!("refused {number}: {error}"))?;
                break;
            }
        }
    }
    await_connects(&pool, added).await;
    pool.reconnect_all(ReconnectOptions::default())?;
    await_connects(&pool, 2 * added).await;
    let metrics = pool.metrics();
    let failed: u64 = metrics.failed.iter().sum();
    let open = std::fs::read_dir("/proc/self/fd")?.count();
    say(&format!("added {added} online {} failed {failed} open {open}", pool.status().online))?;
    pool.shutdown().await;
    Ok(())
}

/// Waits until so many sessions came online, for as long as the test has patience.
async fn await_connects(pool: &Pool, count: u64) {
    while pool.metrics().connected < count {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn say(line: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")
}

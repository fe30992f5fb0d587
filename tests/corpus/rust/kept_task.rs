//! The mistake: a task that owns its socket and waits for something that never comes, a message of
//! a channel whose sender is kept. The peer closes; the task does not look.
//!
//! Reported: tasks without a `select!` over their socket, in most async servers once.

#![forbid(unsafe_code)]

use std::error::Error;
use std::io::{self, Write as _};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

fn main() -> Result<(), Box<dyn Error>> {
    let port: u16 = std::env::args().nth(1).ok_or("the port is missing")?.parse()?;
    say("ready")?;
    io::stdin().read_line(&mut String::new())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut tasks, mut senders) = (JoinSet::new(), Vec::new());
        for _ in 0..3 {
            let mut socket = TcpStream::connect(("127.0.0.1", port)).await?;
            let (sender, mut orders) = mpsc::channel::<Vec<u8>>(1);
            senders.push(sender);
            tasks.spawn(async move {
                // BUG: the end of the stream is nobody's business.
                while let Some(order) = orders.recv().await {
                    socket.write_all(&order).await?;
                }
                io::Result::Ok(())
            });
        }
        say("leaked")?;
        while tasks.join_next().await.is_some() {}
        Ok(())
    })
}

fn say(word: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{word}")
}

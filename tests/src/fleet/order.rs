//! The words on stdin.

use super::Report;
use std::io::{self, BufRead as _};
use std::str::FromStr;
use std::thread;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// What a fleet is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Publish over the first device's connection.
    Publish {
        /// How many messages.
        count: u32,
        /// Bytes of each payload.
        size: usize,
        /// 0 to 2.
        qos: u8,
    },
    /// End.
    Quit,
    /// Say how things are.
    Status,
}

impl FromStr for Order {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let not_understood = || format!("`{line}` is not understood");
        match *words {
            ["status"] => Ok(Self::Status),
            ["quit"] => Ok(Self::Quit),
            ["publish", count, size, qos] => {
                let publish = || {
                    let qos = qos.parse().ok().filter(|qos| *qos <= 2)?;
                    Some(Self::Publish {
                        count: count.parse().ok()?,
                        size: size.parse().ok()?,
                        qos,
                    })
                };
                publish().ok_or_else(not_understood)
            }
            _ => Err(not_understood()),
        }
    }
}

/// The orders as they come, until the end of the input. Complains of what it does not understand.
///
/// A thread of its own reads them: a blocking read must not hold a worker.
pub fn orders(report: Report) -> UnboundedReceiver<Order> {
    let (sender, receiver) = unbounded_channel();
    thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            match line.parse::<Order>() {
                Ok(order) if sender.send(order).is_err() => return,
                Ok(_) => {}
                Err(complaint) => report.refuse(&complaint),
            }
        }
    });
    receiver
}

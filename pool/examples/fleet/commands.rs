use crate::args::quality;
use pool::{Limits, QoS};
use std::io::BufRead as _;
use std::thread;
use tokio::sync::mpsc;

const COMMANDS: &str = "status, storm [COUNT], publish COUNT SIZE QOS, limits PROFILE, quit";

/// A line on stdin.
pub(crate) enum Command {
    Status,
    /// Replace so many; a third of the fleet without a number.
    Storm(Option<u32>),
    Publish {
        count: u64,
        size: usize,
        qos: QoS,
    },
    /// The limits of a profile from now on.
    Limits(String, Limits),
    Quit,
}

/// Reads commands on a thread of its own, for a terminal cannot be read asynchronously. What is no
/// command comes as an error. The end of the input is the end of the channel.
pub(crate) fn read() -> mpsc::UnboundedReceiver<Result<Command, String>> {
    let (sender, receiver) = mpsc::unbounded_channel();
    thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let command = parse(&line).ok_or_else(|| format!("{line:?} is none of {COMMANDS}"));
            if sender.send(command).is_err() {
                return;
            }
        }
    });
    receiver
}

fn parse(line: &str) -> Option<Command> {
    let mut words = line.split_whitespace();
    let command = match words.next() {
        None => Command::Storm(None),
        Some("status") => Command::Status,
        Some("storm") => Command::Storm(match words.next() {
            Some(count) => Some(count.parse().ok()?),
            None => None,
        }),
        Some("publish") => Command::Publish {
            count: words.next()?.parse().ok()?,
            size: words.next()?.parse().ok()?,
            qos: quality(words.next()?).ok()?,
        },
        Some("limits") => {
            let name = words.next()?;
            Command::Limits(name.to_owned(), Limits::named(name)?)
        }
        Some("quit") => Command::Quit,
        Some(_) => return None,
    };
    words.next().is_none().then_some(command)
}

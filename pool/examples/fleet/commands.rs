use pool::QoS;
use std::io::BufRead as _;
use std::thread;
use tokio::sync::mpsc;

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
    Quit,
}

/// Reads commands on a thread of its own, for a terminal cannot be read asynchronously. At the end
/// of input the fleet goes on until Ctrl-C, unless it was told to quit.
pub(crate) fn read() -> mpsc::UnboundedReceiver<Command> {
    let (sender, receiver) = mpsc::unbounded_channel();
    thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            match parse(&line) {
                Some(command) => {
                    if sender.send(command).is_err() {
                        return;
                    }
                }
                None => crate::report::complain(
                    &"commands: status, storm [COUNT], publish COUNT SIZE QOS, quit",
                ),
            }
        }
        // Keeps the channel open.
        loop {
            thread::park();
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
            qos: match words.next()? {
                "0" => QoS::AtMostOnce,
                "1" => QoS::AtLeastOnce,
                "2" => QoS::ExactlyOnce,
                _ => return None,
            },
        },
        Some("quit") => Command::Quit,
        Some(_) => return None,
    };
    words.next().is_none().then_some(command)
}

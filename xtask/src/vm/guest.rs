//! Booting the guest and listening to it.

use super::console::{self, Ended, Line};
use super::{NEXT, initramfs};
use crate::failure::{Failure, OrFail as _, Result};
use crate::{clock, sh};
use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

/// Chosen: a good run takes under a minute on two slow cores, and CI must not wait for ever.
const PATIENCE: Duration = Duration::from_secs(180);

/// Boots, prints what the guest says, and returns how each step ended; `None` if it did not.
pub(super) fn boot(
    kernel: &Path,
    initrd: &Path,
    say_how: bool,
) -> Result<Vec<(&'static str, Option<Ended>)>> {
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1024"])
        .args(["-nographic", "-no-reboot", "-nic", "none", "-kernel"])
        .arg(kernel)
        .arg("-initrd")
        .arg(initrd)
        .args(["-append", "console=ttyS0 panic=-1 quiet"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    eprintln!("» The release binary on {}.", kernel.display());
    if say_how {
        println!("  $ {}", sh::show(&qemu));
    }
    let install = "run `cargo xtask setup --with vm`";
    let mut child = qemu.spawn().or_fail("qemu-system-x86_64 did not start", install)?;
    let lines = lines_of(child.stdout.take().expect("invariant: stdout is piped"));
    let mut steps: Vec<_> = initramfs::STEPS.iter().map(|(name, _)| (*name, None)).collect();
    let heard = listen(&lines, &mut steps);
    stop(child, heard.is_ok())?;
    // Whatever ended is known even if the guest hung later; the table shows both.
    if let Err(failure) = heard {
        eprintln!("{failure}");
    }
    Ok(steps)
}

/// Reads lines in a thread of its own, for only a channel can be waited on with a time limit.
fn lines_of(console: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(console).split(b'\n') {
            let Ok(line) = line else { break };
            // Nobody listens any more after the time limit.
            if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                break;
            }
        }
    });
    receiver
}

/// Prints and notes until the guest is done.
fn listen(lines: &Receiver<String>, steps: &mut [(&'static str, Option<Ended>)]) -> Result {
    let deadline = clock::now() + PATIENCE;
    loop {
        let patience = deadline.saturating_duration_since(clock::now());
        let line = lines.recv_timeout(patience).map_err(|error| {
            let what = match error {
                RecvTimeoutError::Timeout => format!("the guest took more than {PATIENCE:?}"),
                RecvTimeoutError::Disconnected => "the guest ended too early".to_owned(),
            };
            Failure::new(what, NEXT)
        })?;
        match console::parse(&line) {
            Line::Begin(name) => println!("    --- {name}"),
            Line::End(name, ended) => {
                println!("    --- {name} exited with {}", ended.exit_code);
                for step in steps.iter_mut().filter(|(it, _)| *it == name) {
                    step.1 = Some(ended.clone());
                }
            }
            Line::Done => return Ok(()),
            Line::Text(text) => println!("    {}", console::printable(text)),
        }
    }
}

/// Waits for QEMU to end by itself if the guest is shutting down, and no longer than that.
fn stop(mut child: Child, shutting_down: bool) -> Result {
    let next = "end qemu-system-x86_64 by hand";
    let grace = Duration::from_secs(if shutting_down { 10 } else { 0 });
    let deadline = clock::now() + grace;
    while child.try_wait().or_fail("qemu", next)?.is_none() {
        if clock::now() >= deadline {
            child.kill().or_fail("qemu", next)?;
            child.wait().or_fail("qemu", next)?;
            break;
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

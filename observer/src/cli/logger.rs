//! EDGE: diagnostics of ours and of the program in the kernel, to stderr.

use std::sync::atomic::{AtomicBool, Ordering};

use log::{Level, LevelFilter, Log, Metadata, Record};

/// Whether stderr goes to somebody who reads priorities (sd-daemon(3)).
static HAS_PRIORITIES: AtomicBool = AtomicBool::new(false);

struct Stderr;

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // What libraries say below a warning is for their authors.
        let ours = metadata.target().starts_with("observer");
        metadata.level() <= if ours { log::max_level() } else { LevelFilter::Warn }
    }

    #[expect(clippy::print_stderr, reason = "the edge where diagnostics leave the process")]
    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        if HAS_PRIORITIES.load(Ordering::Relaxed) {
            eprintln!("<{}>{}", priority(record.level()), record.args());
        } else {
            eprintln!("sockwarden: {}: {}", record.level().as_str().to_lowercase(), record.args());
        }
    }

    fn flush(&self) {}
}

/// Syslog's number (RFC 5424 section 6.2.1).
fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

/// For a service, whose log is read later: what it does is told too, and with a priority where the
/// journal listens.
pub(super) fn for_service() {
    if std::env::var_os("SOCKWARDEN_LOG").is_none() {
        log::set_max_level(LevelFilter::Info);
    }
    HAS_PRIORITIES.store(std::env::var_os("JOURNAL_STREAM").is_some(), Ordering::Relaxed);
}

/// Warnings and worse; with `SOCKWARDEN_LOG=debug` all that we have to say.
pub(super) fn init() {
    let level = std::env::var("SOCKWARDEN_LOG")
        .ok()
        .and_then(|level| level.parse().ok())
        .unwrap_or(LevelFilter::Warn);
    if log::set_logger(&Stderr).is_ok() {
        log::set_max_level(level);
    }
}

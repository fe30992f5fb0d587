//! EDGE: diagnostics of ours and of the program in the kernel, to stderr.

use log::{LevelFilter, Log, Metadata, Record};

struct Stderr;

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // What libraries say below a warning is for their authors.
        let ours = metadata.target().starts_with("observer");
        metadata.level() <= if ours { log::max_level() } else { LevelFilter::Warn }
    }

    #[expect(clippy::print_stderr, reason = "the edge where diagnostics leave the process")]
    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            eprintln!("sockwarden: {}: {}", record.level().as_str().to_lowercase(), record.args());
        }
    }

    fn flush(&self) {}
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

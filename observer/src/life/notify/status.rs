//! PURE. Which status line is sent when.

use std::time::Duration;

use crate::{escape, model::MonoTime};

/// Least time between two lines: `systemctl status` is read by people, and each line wakes the
/// service manager.
const LEAST: Duration = Duration::from_secs(1);

/// Longest line, characters. The manager takes 4096 bytes a message (`NOTIFY_BUFFER_MAX`,
/// src/core/manager.c of systemd); a character has four bytes at most and ten when escaped.
const LONGEST: usize = 300;

/// The line that was sent, and the one that waits.
#[derive(Debug, Default)]
pub(super) struct StatusLine {
    shown: Option<(String, MonoTime)>,
    waiting: Option<String>,
}

impl StatusLine {
    /// `line` goes out now, whatever was sent before.
    pub(super) fn show(&mut self, line: &str, now: MonoTime) -> String {
        let line = escape::short(line, LONGEST).into_owned();
        self.shown = Some((line.clone(), now));
        self.waiting = None;
        line
    }

    /// `line` is the newest.
    pub(super) fn offer(&mut self, line: &str) {
        let line = escape::short(line, LONGEST);
        let shown = self.shown.as_ref().is_some_and(|(shown, _)| *shown == line);
        self.waiting = (!shown).then(|| line.into_owned());
    }

    /// What is to be sent now.
    pub(super) fn due(&mut self, now: MonoTime) -> Option<String> {
        if self.poll_timeout()? > now {
            return None;
        }
        let line = self.waiting.take()?;
        self.shown = Some((line.clone(), now));
        Some(line)
    }

    /// When something is to be sent.
    pub(super) fn poll_timeout(&self) -> Option<MonoTime> {
        self.waiting.as_ref()?;
        Some(self.shown.as_ref().map_or(MonoTime::from_nanos(0), |(_, at)| at.after(LEAST)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> MonoTime {
        MonoTime::from_nanos(0).after(Duration::from_millis(millis))
    }

    #[test]
    fn the_same_line_is_not_sent_again() {
        let mut status = StatusLine::default();
        status.offer("a");
        assert_eq!(status.due(at(0)).as_deref(), Some("a"));
        status.offer("a");
        assert_eq!(status.due(at(5_000)), None);
    }

    #[test]
    fn a_line_that_came_back_leaves_nothing_to_say() {
        let mut status = StatusLine::default();
        status.show("a", at(0));
        status.offer("b");
        status.offer("a");
        assert_eq!(status.poll_timeout(), None);
        assert_eq!(status.due(at(5_000)), None);
    }

    #[test]
    fn the_longest_line_fits_into_a_message() {
        let mut status = StatusLine::default();
        let worst = status.show(&"\u{202e}".repeat(100_000), at(0));
        assert!(worst.len() < 4_000, "{}", worst.len());
    }
}

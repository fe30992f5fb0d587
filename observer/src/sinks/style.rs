//! Colours, where a terminal shows them.

use std::{env, io::IsTerminal};

use anstyle::{AnsiColor, Style};

/// The few styles we use, or none at all.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Palette {
    on: bool,
}

impl Palette {
    /// In colour if `stream` is a terminal and the user did not say otherwise
    /// (<https://no-color.org>).
    pub(crate) fn for_stream(stream: &impl IsTerminal) -> Self {
        let refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { on: is_screen(stream) && !refused }
    }

    /// Something is wrong.
    pub(crate) fn alarm(self, text: &str) -> String {
        self.paint(AnsiColor::Red.on_default().bold(), text)
    }

    /// Something was wrong or may become so.
    pub(crate) fn caution(self, text: &str) -> String {
        self.paint(AnsiColor::Yellow.on_default(), text)
    }

    /// Something is well.
    pub(crate) fn good(self, text: &str) -> String {
        self.paint(AnsiColor::Green.on_default(), text)
    }

    /// Less important than its surroundings.
    pub(crate) fn faint(self, text: &str) -> String {
        self.paint(Style::new().dimmed(), text)
    }

    /// More important than its surroundings.
    pub(crate) fn strong(self, text: &str) -> String {
        self.paint(Style::new().bold(), text)
    }

    fn paint(self, style: Style, text: &str) -> String {
        if self.on { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }
}

/// Whether `stream` is a terminal that understands control sequences.
pub(crate) fn is_screen(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && env::var_os("TERM").is_none_or(|term| term != "dumb")
}

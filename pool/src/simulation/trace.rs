//! The last things that happened, for whoever has to find out why.

use crate::device::Generation;
use crate::error::Cause;
use crate::fleet::{Action, Input, SlotKey};
use std::collections::VecDeque;
use std::fmt;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// How many are kept.
const KEPT: usize = 4_000;

/// How many are shown.
const SHOWN: usize = 40;

/// One thing that happened.
#[derive(Clone, Debug)]
pub(super) enum Note {
    Told(Input),
    Says(Action),
    Opened(SlotKey, Generation),
    Connected(SlotKey, Generation),
    Closed(SlotKey, Generation, Cause),
    Released(SlotKey, Generation),
    Trouble(&'static str, usize),
}

#[derive(Debug, Default)]
pub(super) struct Trace(VecDeque<(Instant, Note)>);

impl Trace {
    pub(super) fn note(&mut self, now: Instant, note: Note) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back((now, note));
    }

    /// The last ones, and the last ones of one slot.
    pub(super) fn show(&self, start: Instant, key: Option<SlotKey>) -> String {
        let mut text = String::new();
        if let Some(key) = key {
            let own: Vec<_> = self.0.iter().filter(|it| it.1.key() == Some(key)).collect();
            let skipped = own.len().saturating_sub(SHOWN);
            let _always_fits = writeln!(text, "the last events of slot {}:", key.0);
            show(&mut text, start, own[skipped..].iter().copied());
        }
        let _always_fits = writeln!(text, "the last events:");
        show(&mut text, start, self.0.iter().skip(self.0.len().saturating_sub(SHOWN)));
        text
    }
}

fn show<'a>(text: &mut String, start: Instant, notes: impl Iterator<Item = &'a (Instant, Note)>) {
    for (at, note) in notes {
        let at: Duration = at.saturating_duration_since(start);
        let _always_fits = writeln!(text, "{:12.6} {note}", at.as_secs_f64());
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Told(input) => write!(f, "the fleet is told {input:?}"),
            Self::Says(action) => write!(f, "it says {action:?}"),
            Self::Opened(key, generation) => {
                write!(f, "slot {} makes the socket of {generation}", key.0)
            }
            Self::Connected(key, generation) => {
                write!(f, "slot {} is connected with {generation}", key.0)
            }
            Self::Closed(key, generation, cause) => {
                write!(f, "slot {} closes the socket of {generation}: {cause}", key.0)
            }
            Self::Released(key, generation) => {
                write!(f, "slot {}: nobody holds the socket of {generation} any more", key.0)
            }
            Self::Trouble(what, index) => write!(f, "trouble {index}: {what}"),
        }
    }
}

impl Note {
    fn key(&self) -> Option<SlotKey> {
        match self {
            Self::Told(
                Input::Add { key, .. }
                | Input::Remove { key, .. }
                | Input::Reconnect { key, .. }
                | Input::Online { key, .. }
                | Input::Ended { key, .. }
                | Input::Receipt { key, .. },
            )
            | Self::Says(
                Action::Dial { key, .. }
                | Action::Stop { key, .. }
                | Action::AwaitReceipt { key, .. }
                | Action::Entered { key, .. }
                | Action::Notice { key, .. }
                | Action::Gone { key },
            )
            | Self::Opened(key, _)
            | Self::Connected(key, _)
            | Self::Closed(key, ..)
            | Self::Released(key, _) => Some(*key),
            Self::Told(Input::Congestion | Input::SetLimits(_)) | Self::Trouble(..) => None,
        }
    }
}

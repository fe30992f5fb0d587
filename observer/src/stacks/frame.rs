//! PURE. A call stack with names.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::escape;

/// Longest name of a function that is shown, characters. Chosen: generic Rust names go on for a
/// page, and their beginning says enough.
const LONGEST: usize = 120;

/// A function on a call stack.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema,
)]
pub struct Frame {
    /// Its name; null where the program's file has none. Untrusted text.
    pub function: Option<String>,
    /// Its source file, as the compiler was given it; null where that is not known.
    pub file: Option<String>,
    /// The line in it.
    pub line: Option<u32>,
    /// Path of the program or library, as `/proc/PID/maps` has it; null for code that was made while
    /// it ran.
    pub module: Option<String>,
    /// The address, as the module's file counts it (`addr2line -e MODULE OFFSET`); without a
    /// module, as the process does.
    pub offset: u64,
}

/// What follows a place where the innermost caller may be missing.
const OR_BELOW: &str = " or what it calls";

/// What a call stack turned out to be.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Named {
    /// The functions, the innermost first.
    pub frames: Vec<Frame>,
    /// Which of them opened the socket: the first of the program's own code.
    pub site: Option<usize>,
    /// Whether it may have been a function that this one called.
    pub is_doubtful: bool,
    /// What cannot be known, and what would help.
    pub note: Option<String>,
}

impl Named {
    /// A stack about which only `note` can be said.
    pub fn unknown(note: impl Into<String>) -> Self {
        Self { note: Some(note.into()), ..Self::default() }
    }

    /// Where the socket was opened, for people.
    pub fn place(&self) -> Option<String> {
        let text = self.frames.get(self.site?)?.text();
        Some(if self.is_doubtful { text + OR_BELOW } else { text })
    }

    /// The whole stack for people, a line for each function, and what cannot be known.
    pub fn lines(&self) -> Vec<String> {
        listed(&self.frames, self.place().as_deref(), self.note.as_deref())
    }
}

/// A stack for people; the call site is marked.
pub fn listed(frames: &[Frame], site: Option<&str>, note: Option<&str>) -> Vec<String> {
    let site = site.map(|site| site.strip_suffix(OR_BELOW).unwrap_or(site));
    let mut is_marked = false;
    let line = |frame: &Frame| {
        let text = frame.text();
        let is_site = !is_marked && site == Some(&*text);
        is_marked |= is_site;
        format!("{} {text}", if is_site { "→" } else { " " })
    };
    let mut lines: Vec<String> = frames.iter().map(line).collect();
    lines.extend(note.map(|note| escape::short(note, 400).into_owned()));
    lines
}

impl Frame {
    /// `lease (pool.c:12)`, `lease (pool+0x1189)` or `pool+0x1189`: safe for a terminal.
    pub fn text(&self) -> String {
        let short = |text: &str| escape::short(text, LONGEST).into_owned();
        let last = |path: &str| short(path.rsplit('/').next().unwrap_or(path));
        let place = match (&self.file, self.line, &self.module) {
            (Some(file), Some(line), _) => format!("{}:{line}", last(file)),
            (_, _, Some(module)) => format!("{}+{:#x}", last(module), self.offset),
            (_, _, None) => format!("{:#x}", self.offset),
        };
        match &self.function {
            // Made by a compiler at run time: the name says where it is from.
            Some(function) if self.module.is_none() && self.line.is_none() => short(function),
            Some(function) => format!("{} ({place})", short(function)),
            None => place,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(function: Option<&str>, line: Option<(&str, u32)>, module: Option<&str>) -> Frame {
        Frame {
            function: function.map(str::to_owned),
            file: line.map(|(file, _)| file.to_owned()),
            line: line.map(|(_, line)| line),
            module: module.map(str::to_owned),
            offset: 0x1189,
        }
    }

    #[test]
    fn a_frame_says_as_much_as_is_known() {
        let lease = Some("lease");
        let cases = [
            (frame(lease, Some(("/src/pool.c", 12)), Some("/bin/m")), "lease (pool.c:12)"),
            (frame(lease, None, Some("/bin/m")), "lease (m+0x1189)"),
            (frame(None, None, Some("/bin/m")), "m+0x1189"),
            (frame(Some("JS:~lease /a.js:3:1"), None, None), "JS:~lease /a.js:3:1"),
            (frame(None, None, None), "0x1189"),
            (frame(Some("a\x1b[2J"), None, Some("b\n")), "a\\u{1b}[2J (b\\u{a}+0x1189)"),
        ];
        for (frame, expected) in cases {
            assert_eq!(frame.text(), expected);
        }
        let long = frame(Some(&"x".repeat(4_000)), None, Some("/m")).text();
        assert!(long.len() < 200, "{long}");
    }

    #[test]
    fn the_call_site_is_marked_once() {
        let lease = frame(Some("lease"), Some(("pool.c", 12)), Some("/bin/m"));
        let connect = frame(Some("connect"), None, Some("/lib/libc.so.6"));
        let named = Named {
            frames: vec![connect, lease.clone(), lease],
            site: Some(1),
            is_doubtful: false,
            note: Some("no frame\npointers".into()),
        };
        let expected = [
            "  connect (libc.so.6+0x1189)",
            "→ lease (pool.c:12)",
            "  lease (pool.c:12)",
            "no frame\\u{a}pointers",
        ];
        assert_eq!(named.lines(), expected);
        let doubtful = Named { is_doubtful: true, ..named };
        assert_eq!(doubtful.lines(), expected);
        assert_eq!(doubtful.place().as_deref(), Some("lease (pool.c:12) or what it calls"));
        assert_eq!(Named::unknown("gone").place(), None);
    }
}

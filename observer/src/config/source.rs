//! PURE. The text of the file: where in it something is, a line of it to look at, and how a text is
//! quoted in it.

use std::{borrow::Cow, fmt::Write as _, ops::Range};

use crate::escape;

/// Longest part of a line that is shown, characters.
const MOST_SHOWN: usize = 100;

/// Words that tell of a secret, unless `_file` follows.
const SECRETS: [&str; 4] = ["password", "passwd", "secret", "token"];

/// A place for people: both count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) line: usize,
    /// In characters.
    pub(super) column: usize,
}

/// A line of the file with a mark below the part that is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Excerpt {
    /// Fit to be shown.
    pub(super) line: String,
    /// Characters before the mark.
    pub(super) before: usize,
    /// Characters of the mark, at least 1.
    pub(super) marked: usize,
}

/// Where the byte `offset` of `text` is.
pub(super) fn position(text: &str, offset: usize) -> Position {
    let before = &text[..text.floor_char_boundary(offset)];
    let start = before.rfind('\n').map_or(0, |end| end + 1);
    Position {
        line: before.bytes().filter(|byte| *byte == b'\n').count() + 1,
        column: before[start..].chars().count() + 1,
    }
}

/// The line of `text` where `at` begins; `None` where it might show a secret: behind a key that is
/// named like one nobody knows any more what a line has, and a URL may carry one before its `@`.
pub(super) fn excerpt(text: &str, at: &Range<usize>) -> Option<Excerpt> {
    let begin = text.floor_char_boundary(at.start);
    let start = text[..begin].rfind('\n').map_or(0, |end| end + 1);
    let end = text[begin..].find('\n').map_or(text.len(), |end| begin + end);
    let line = text[start..end].trim_end_matches('\r');
    if tells_secret(&text[..end]) || (line.contains("://") && line.contains('@')) {
        return None;
    }
    let begin = begin.min(start + line.len());
    let last = text.floor_char_boundary(at.end).clamp(begin, start + line.len());
    let (before, marked) = (&text[start..begin], &text[begin..last]);
    let width = |part: &str| escape::visible(part).chars().count();
    // A long line is cut at its end; where even the mark is far out, the message must do.
    if width(before) >= MOST_SHOWN {
        return None;
    }
    let marked = width(marked).clamp(1, MOST_SHOWN - width(before));
    // A tab would move the mark away from what it marks.
    let shown = line.replace('\t', " ");
    let before = width(&before.replace('\t', " "));
    Some(Excerpt { line: escape::short(&shown, MOST_SHOWN).into_owned(), before, marked })
}

/// `text` as a basic string of TOML, and safe to show.
pub(super) fn quoted(text: &str) -> String {
    let mut shown = String::with_capacity(text.len() + 2);
    shown.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => shown.extend(['\\', c]),
            '\n' => shown.push_str("\\n"),
            '\t' => shown.push_str("\\t"),
            _ if matches!(escape::visible(c.encode_utf8(&mut [0; 4])), Cow::Owned(_)) => {
                write!(shown, "\\U{:08X}", u32::from(c))
                    .expect("invariant: a string takes everything");
            }
            _ => shown.push(c),
        }
    }
    shown.push('"');
    shown
}

fn tells_secret(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    SECRETS.iter().any(|word| {
        text.match_indices(word).any(|(at, _)| !text[at + word.len()..].starts_with("_file"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn places_count_from_one_and_in_characters() {
        let text = "a\nöß = 1\n";
        for (offset, line, column) in [(0, 1, 1), (2, 2, 1), (4, 2, 2), (6, 2, 3), (99, 3, 1)] {
            assert_eq!(position(text, offset), Position { line, column }, "{offset}");
        }
    }

    #[test]
    fn the_mark_is_below_what_is_meant() {
        let text = "[watch]\r\n\tport = [\u{1b}1, 99999]\r\nall = true\n";
        let at = text.find("99999").expect("invariant: it is there");
        let found = excerpt(text, &(at..at + 5)).expect("invariant: no secret");
        assert_eq!(found.line, " port = [\\u{1b}1, 99999]");
        assert_eq!(&found.line[found.before..found.before + found.marked], "99999");
        assert_eq!(
            excerpt("", &(0..0)),
            Some(Excerpt { line: String::new(), before: 0, marked: 1 })
        );
        let long = format!("a = \"{}\"", "x".repeat(500));
        let found = excerpt(&long, &(4..long.len())).expect("invariant: no secret");
        assert_eq!((found.line.chars().count(), found.before + found.marked), (101, 100));
    }

    #[test]
    fn a_line_that_may_show_a_secret_is_not_shown() {
        for (text, shown) in [
            ("keep_alive = 1", true),
            ("password_file = 1", true),
            ("password = 1", false),
            ("PassWord = \"\"\"\nabc", false),
            ("api_token = 1", false),
            ("broker = \"mqtt://me:you@there\"", false),
        ] {
            assert_eq!(excerpt(text, &(text.len()..text.len())).is_some(), shown, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_place_panics(text in "\\PC{0,40}(\n|\r\n|\t)?\\PC{0,150}", from in 0usize..250, to in 0usize..250) {
            let place = position(&text, from);
            prop_assert!(place.line >= 1 && place.column >= 1);
            if let Some(found) = excerpt(&text, &(from..to)) {
                prop_assert!(found.marked >= 1);
                prop_assert!(!found.line.contains(char::is_control));
            }
        }

        #[test]
        fn what_is_quoted_is_read_as_the_same(text in any::<String>()) {
            let quoted = quoted(&text);
            let value = toml::de::DeValue::parse(&quoted).expect("invariant: it is TOML");
            prop_assert_eq!(value.get_ref().as_str(), Some(text.as_str()));
            prop_assert_eq!(escape::visible(&quoted), quoted.as_str());
        }
    }
}

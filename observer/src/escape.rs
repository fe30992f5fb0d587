//! Text from outside, made safe to show: names of processes, client ids, topics, input of clients.

use std::borrow::Cow;

/// `text` without anything that a terminal, a journal or a page might obey: control characters and
/// those that change the direction of writing become `\u{..}`.
pub fn visible(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_active) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_active(c) {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

/// As [`visible`], and at most `most` characters long: the rest becomes `…`.
pub fn short(text: &str, most: usize) -> Cow<'_, str> {
    match text.char_indices().nth(most) {
        None => visible(text),
        Some((end, _)) => Cow::Owned(format!("{}…", visible(&text[..end]))),
    }
}

/// Control characters (C0, DEL, C1), line and paragraph separators, and the marks that reorder text
/// (Unicode Standard Annex 9).
fn is_active(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_active_is_left() {
        let cases = [
            ("node", "node"),
            ("größe 火", "größe 火"),
            ("a\nb", "a\\u{a}b"),
            ("\x1b[31mred", "\\u{1b}[31mred"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("a\u{202e}b", "a\\u{202e}b"),
        ];
        for (text, expected) in cases {
            assert_eq!(visible(text), expected);
        }
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(short("größe", 3), "grö…");
        assert_eq!(short("größe", 5), "größe");
        assert_eq!(short("\n\n", 1), "\\u{a}…");
    }
}

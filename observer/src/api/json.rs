//! PURE. JSON whose texts do nothing: control characters and marks that reorder text are written
//! as `\uXXXX`, so that what a stranger chose as a name is faithful to programs and harmless in a
//! terminal and on a page.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

use crate::escape;

/// `value` in one line, without a line break.
///
/// # Errors
///
/// Those of the type's own `Serialize`: none of ours has any.
pub(crate) fn to_vec(value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut out = Vec::new();
    value.serialize(&mut Serializer::with_formatter(&mut out, Harmless))?;
    Ok(out)
}

/// As [`to_vec`], as text.
///
/// # Errors
///
/// As [`to_vec`].
pub(crate) fn to_string(value: &impl Serialize) -> serde_json::Result<String> {
    to_vec(value).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

struct Harmless;

impl Formatter for Harmless {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        if is_harmless(fragment) {
            return writer.write_all(fragment.as_bytes());
        }
        let mut buffer = [0; 4];
        for c in fragment.chars() {
            let text = &*c.encode_utf8(&mut buffer);
            if is_harmless(text) {
                writer.write_all(text.as_bytes())?;
            } else {
                for unit in text.encode_utf16() {
                    write!(writer, "\\u{unit:04x}")?;
                }
            }
        }
        Ok(())
    }
}

fn is_harmless(text: &str) -> bool {
    matches!(escape::visible(text), std::borrow::Cow::Borrowed(_))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_written_as_a_number() {
        let cases = [
            ("node", r#""node""#),
            ("größe \"火\"", r#""größe \"火\"""#),
            ("\x1b[31m\n", r#""\u001b[31m\n""#),
            ("\u{9b}31m\u{7f}", r#""\u009b31m\u007f""#),
            ("a\u{202e}b", r#""a\u202eb""#),
        ];
        for (text, expected) in cases {
            assert_eq!(to_string(&text).ok().as_deref(), Some(expected));
        }
    }

    proptest! {
        #[test]
        fn programs_read_what_was_written(text: String) {
            let written = to_string(&text).expect("invariant: text has no errors");
            prop_assert!(is_harmless(&written));
            prop_assert_eq!(serde_json::from_str::<String>(&written).ok(), Some(text));
        }
    }
}

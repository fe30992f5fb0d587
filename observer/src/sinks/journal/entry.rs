//! PURE. One entry of the journal, and how it is written on the wire.
//!
//! The wire is <https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>.

use std::fmt::Display;

use crate::escape::{short, visible};

/// Characters of the message that go to stderr, at most. Chosen: longer than any sentence, short
/// against the line that a service manager takes (48 KiB, `LineMax=` of journald.conf(5)).
const LINE: usize = 8_192;

/// One entry: its fields in the order in which they are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    fields: Vec<(&'static str, String)>,
    line: String,
}

impl Entry {
    /// An entry of syslog's `priority` (0 to 7) that says `message`. Where there is no journal,
    /// `subject` goes before the message, for there are no fields to tell it.
    pub fn new(priority: u8, subject: &str, message: &str) -> Self {
        let line = format!("<{priority}>{}: {}", visible(subject), short(message, LINE));
        let mut entry = Self { fields: Vec::with_capacity(32), line };
        // An entry without a message would be an empty line.
        entry.add("MESSAGE", if message.is_empty() { subject } else { message });
        entry.add("PRIORITY", priority);
        entry.add("SYSLOG_IDENTIFIER", "sockwarden");
        // 3 is `daemon` (RFC 5424 section 6.2.1).
        entry.add("SYSLOG_FACILITY", 3);
        entry
    }

    /// One more field. What a terminal might obey is made visible, so the value has one line.
    ///
    /// `name` has capital letters, digits and underscores, begins with a letter and has at most 64
    /// characters: journald drops other fields.
    pub fn add(&mut self, name: &'static str, value: impl Display) {
        self.fields.push((name, visible(&value.to_string()).into_owned()));
    }

    /// One more field of several lines, each as in [`Entry::add`].
    pub fn add_lines(&mut self, name: &'static str, lines: impl IntoIterator<Item = String>) {
        let lines: Vec<String> =
            lines.into_iter().map(|line| visible(&line).into_owned()).collect();
        self.fields.push((name, lines.join("\n")));
    }

    /// One more field that says which text of the catalog explains the entry.
    pub fn add_message_id(&mut self, id: u128) {
        self.add("MESSAGE_ID", format_args!("{id:032x}"));
    }

    /// Names and values.
    pub fn fields(&self) -> &[(&'static str, String)] {
        &self.fields
    }

    /// What stderr gets where there is no journal: one line with the prefix of sd-daemon(3).
    pub fn line(&self) -> &str {
        &self.line
    }

    /// As it is sent.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(1_024);
        for (name, value) in &self.fields {
            bytes.extend_from_slice(name.as_bytes());
            if value.contains('\n') {
                bytes.push(b'\n');
                bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
            } else {
                bytes.push(b'=');
            }
            bytes.extend_from_slice(value.as_bytes());
            bytes.push(b'\n');
        }
        bytes
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads the wire as journald does (journald-native.c, `server_process_entry`).
    pub(in super::super) fn decode(mut bytes: &[u8]) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let end = bytes.iter().position(|byte| *byte == b'\n').expect("a line ends");
            let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
            if let Some(equals) = line.iter().position(|byte| *byte == b'=') {
                fields.push((text(&line[..equals]), text(&line[equals + 1..])));
                bytes = rest;
            } else {
                let (length, rest) = rest.split_at(8);
                let length = u64::from_le_bytes(length.try_into().expect("8 bytes"));
                let (value, rest) = rest.split_at(usize::try_from(length).expect("it fits"));
                fields.push((text(line), text(value)));
                bytes = rest.strip_prefix(b"\n").expect("a value ends with a newline");
            }
        }
        fields
    }

    #[test]
    fn one_line_and_many_are_framed_apart() {
        let mut entry = Entry::new(3, "close-wait opened 1", "x=y");
        entry.add_lines("SOCKWARDEN_HOLDERS", ["1 a 2".to_owned(), "3 b 4".to_owned()]);
        let expected =
            b"MESSAGE=x=y\nPRIORITY=3\nSYSLOG_IDENTIFIER=sockwarden\nSYSLOG_FACILITY=3\n\
            SOCKWARDEN_HOLDERS\n\x0b\0\0\0\0\0\0\x001 a 2\n3 b 4\n";
        assert_eq!(entry.encode(), expected);
        assert_eq!(entry.line(), "<3>close-wait opened 1: x=y");
    }

    #[test]
    fn nothing_from_outside_starts_a_field_or_a_line() {
        let mut entry = Entry::new(4, "a\nb", "evil\nPRIORITY=0\n\x1b[31m");
        entry.add_lines("SOCKWARDEN_HOLDERS", ["1 a\nb 2".to_owned()]);
        let shown = "evil\\u{a}PRIORITY=0\\u{a}\\u{1b}[31m";
        assert_eq!(entry.line(), format!("<4>a\\u{{a}}b: {shown}"));
        assert_eq!(entry.fields()[0], ("MESSAGE", shown.to_owned()));
        assert_eq!(entry.fields()[4].1, "1 a\\u{a}b 2");
    }

    #[test]
    fn a_line_for_stderr_is_cut_and_the_entry_is_not() {
        let entry = Entry::new(6, "log", &"x".repeat(1 << 20));
        assert_eq!(entry.line().chars().count(), "<6>log: ".len() + LINE + 1);
        assert_eq!(entry.fields()[0].1.len(), 1 << 20);
    }

    #[test]
    fn an_entry_without_a_message_says_its_subject() {
        assert_eq!(Entry::new(6, "ready", "").fields()[0].1, "ready");
    }

    #[test]
    fn ids_have_32_digits() {
        let mut entry = Entry::new(6, "ready", "");
        entry.add_message_id(0xabc);
        let id = ("MESSAGE_ID", "00000000000000000000000000000abc".to_owned());
        assert_eq!(entry.fields().last(), Some(&id));
    }

    proptest! {
        #[test]
        fn whatever_is_sent_comes_back(message in ".*", lines in prop::collection::vec(any::<String>(), 0..5)) {
            let mut entry = Entry::new(6, "subject", &message);
            entry.add_lines("LINES", lines.clone());
            let back = decode(&entry.encode());
            let sent: Vec<_> =
                entry.fields().iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
            prop_assert_eq!(&back, &sent);
            prop_assert_eq!(back[4].1.matches('\n').count(), lines.len().saturating_sub(1));
            prop_assert!(!entry.line().contains('\n'));
        }
    }
}

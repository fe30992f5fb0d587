//! The marks by which the guest tells the host how its steps ended, over the serial console.

/// No program prints this by chance.
const MARK: &str = "@@xtask-vm@@";

/// The guest's last words: every step has ended.
pub(super) const DONE: &str = "@@xtask-vm@@ done";

/// How a step ended.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ended {
    pub(super) exit_code: i32,
    pub(super) seconds: f64,
}

/// What a line of the console means.
#[derive(Debug, PartialEq)]
pub(super) enum Line<'a> {
    /// A step begins.
    Begin(&'a str),
    /// A step ended.
    End(&'a str, Ended),
    /// All steps ended.
    Done,
    /// The output of the guest.
    Text(&'a str),
}

pub(super) fn begin(name: &str) -> String {
    format!("{MARK} begin {name}")
}

/// The code and the seconds are words of the guest's shell.
pub(super) fn end(name: &str, code: &str, seconds: &str) -> String {
    format!("{MARK} end {name} {code} {seconds}")
}

pub(super) fn parse(line: &str) -> Line<'_> {
    let line = line.trim_end();
    // The firmware's escape codes, or a last line without an end, may stand before a mark.
    let Some(at) = line.find(MARK) else {
        return Line::Text(line);
    };
    let words: Vec<&str> = line[at + MARK.len()..].split_whitespace().collect();
    match words.as_slice() {
        ["begin", name] => Line::Begin(name),
        ["done"] => Line::Done,
        ["end", name, code, seconds] => match (code.parse(), seconds.parse()) {
            (Ok(exit_code), Ok(seconds)) => Line::End(name, Ended { exit_code, seconds }),
            _ => Line::Text(line),
        },
        _ => Line::Text(line),
    }
}

/// The line without the escape codes that firmware and programs send to terminals.
pub(super) fn printable(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            '\x1b' => {
                // ESC, one character, and after `[` everything up to a letter.
                if chars.next() == Some('[') {
                    let _ = chars.find(|c| c.is_ascii_alphabetic());
                }
            }
            '\t' => text.push_str("    "),
            c if c.is_control() => {}
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_read_as_they_are_written() {
        assert_eq!(parse(&begin("watch")), Line::Begin("watch"));
        let ended = Ended { exit_code: 69, seconds: 3.25 };
        assert_eq!(parse(&end("demo", "69", "3.25")), Line::End("demo", ended));
        assert_eq!(parse(DONE), Line::Done);
    }

    #[test]
    fn a_serial_console_adds_line_ends_and_text_before_a_mark() {
        let ended = Ended { exit_code: 0, seconds: 1.0 };
        assert_eq!(parse("half a line@@xtask-vm@@ end demo 0 1\r"), Line::End("demo", ended));
    }

    #[test]
    fn a_damaged_mark_is_text() {
        let damaged = end("demo", "$code", "1");
        assert_eq!(parse(&damaged), Line::Text(&damaged));
        assert_eq!(parse("hello\r"), Line::Text("hello"));
    }

    #[test]
    fn escape_codes_are_not_printed() {
        assert_eq!(printable("\x1bc\x1b[?7l\x1b[1;31mred\x1b[0m\r"), "red");
    }
}

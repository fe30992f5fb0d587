//! PURE. The message catalog: what `journalctl -x` says below an entry.
//!
//! The format is <https://systemd.io/CATALOG/>.

use super::life::LIFE;
use crate::detect::Kind;

/// Columns of a line, with room for the mark that journalctl puts before it.
const WIDTH: usize = 78;

/// Where the page about `kind` is once sockwarden is installed.
pub(super) fn documentation(kind: Kind) -> String {
    format!("file:///usr/share/doc/sockwarden/findings.md#{kind}")
}

/// The file `deploy/sockwarden.catalog`, to be installed in `/usr/lib/systemd/catalog`.
pub fn catalog() -> String {
    let mut file = String::from(
        "# Generated from the tables in observer/src/detect/kind.rs and\n\
         # observer/src/sinks/journal/life.rs; do not edit.\n",
    );
    for kind in Kind::ALL {
        let subject = format!("{kind} @SOCKWARDEN_EVENT@: @SOCKWARDEN_COMM@[@OBJECT_PID@]");
        head(&mut file, kind.message_id(), &subject, Some(&documentation(kind)));
        paragraph(&mut file, kind.meaning());
        paragraph(&mut file, &format!("How it comes about: {}", kind.how_it_comes_about()));
        paragraph(&mut file, &format!("What to do: {}", kind.what_to_do()));
        file.push_str(if Kind::OF_PROCESSES.contains(&kind) {
            "\nIncident @SOCKWARDEN_INCIDENT@, since @SOCKWARDEN_SINCE@:\n\
             @SOCKWARDEN_DETAIL@\n"
        } else {
            "\nIncident @SOCKWARDEN_INCIDENT@, socket @SOCKWARDEN_COOKIE@ in @SOCKWARDEN_STATE@\n\
             from @SOCKWARDEN_LOCAL@ to @SOCKWARDEN_REMOTE@,\n\
             since @SOCKWARDEN_SINCE@. Held by (pid, name, descriptor):\n\
             @SOCKWARDEN_HOLDERS@\n"
        });
    }
    for row in &LIFE {
        head(&mut file, row.message_id, &format!("sockwarden: {}", row.code), None);
        paragraph(&mut file, row.meaning);
        paragraph(&mut file, &format!("What to do: {}", row.what_to_do));
    }
    file
}

fn head(file: &mut String, id: u128, subject: &str, documentation: Option<&str>) {
    file.push_str(&format!("\n-- {id:032x}\nSubject: {subject}\nDefined-By: sockwarden\n"));
    if let Some(url) = documentation {
        file.push_str(&format!("Documentation: {url}\n"));
    }
}

/// An empty line and the text, folded at spaces.
fn paragraph(file: &mut String, text: &str) {
    file.push('\n');
    let mut column = 0;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if column > 0 && column + 1 + length > WIDTH {
            file.push('\n');
            column = 0;
        } else if column > 0 {
            file.push(' ');
            column += 1;
        }
        file.push_str(word);
        column += length;
    }
    file.push('\n');
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    #[test]
    fn the_file_is_what_the_tables_say() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/sockwarden.catalog");
        let file = fs::read_to_string(path).expect("it is part of the source");
        assert!(file == catalog(), "deploy/sockwarden.catalog is stale: `cargo xtask tidy --fix`");
    }

    #[test]
    fn every_kind_and_event_has_a_text() {
        let file = catalog();
        let ids = Kind::ALL.map(Kind::message_id).into_iter();
        for id in ids.chain(LIFE.iter().map(|row| row.message_id)) {
            assert_eq!(file.matches(&format!("\n-- {id:032x}\nSubject: ")).count(), 1, "{id:x}");
        }
        assert!(file.lines().all(|line| line.chars().count() <= 80), "lines fit a terminal");
    }

    #[test]
    fn text_is_folded_at_spaces() {
        let mut file = String::new();
        let text = "word ".repeat(40);
        paragraph(&mut file, &text);
        let lines: Vec<&str> = file.lines().collect();
        assert_eq!(lines[0], "");
        assert_eq!(lines[1].len(), 15 * 5 - 1, "as many words as fit");
        assert_eq!(lines[1..].join(" "), text.trim_end());
    }
}

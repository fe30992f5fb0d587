//! PURE. `docs/config.md` and the commented example, from the table of keys.

use std::fmt::Write as _;

use super::{
    key::{Key, Reload, Section},
    keys::sections,
};

/// The page about all keys.
pub fn page() -> String {
    let mut page = String::from(
        "# Config\n\n\
         Generated from `observer/src/config/keys` by `cargo xtask tidy --fix`; do not edit.\n\n\
         `sockwarden run` reads `/etc/sockwarden/config.toml`, or what `--config` names: TOML, UTF-8, \
         at most 1 MiB.\n\
         Every key may be left out, and an empty file is a config: it watches the daemon itself.\n\
         `sockwarden config example` prints all of this as a file to begin with, `sockwarden config \
         check` says everything that is wrong with a file at once, with line and column, and \
         `sockwarden config show` what is in effect.\n\n\
         Durations are texts: `\"500ms\"`, `\"10s\"`, `\"1m30s\"`.\n\
         Sizes are bytes, as a number or with a unit: `65536`, `\"64KiB\"`, `\"8MiB\"`, `\"1GiB\"`.\n\
         Paths begin with `/`.\n\n\
         SIGHUP reads the file again. *reload* says what it does to a key: *yes*, a new value applies \
         at once; *additions*, what is added to the list applies at once, and what is removed at the \
         next start; *no*, it needs a restart, which the daemon says in its log. A file with a \
         mistake changes nothing.\n",
    );
    for section in sections() {
        write!(page, "\n## {}\n\n{}\n\n", section.title(), section.meaning).expect(STRING);
        if let Some(example) = section.repeats {
            write!(page, "```toml\n{example}```\n\n").expect(STRING);
        }
        table(&mut page, section);
        page.push('\n');
        for key in &section.keys {
            writeln!(page, "- **{}**: {} *Why so:* {}", key.name, key.meaning, key.reason)
                .expect(STRING);
        }
    }
    page
}

/// The file to begin with: every key in a comment, with its default, but for a minimal start.
pub fn example() -> String {
    let mut page = String::from(
        "# The config of sockwarden: /etc/sockwarden/config.toml\n\
         #\n\
         # Generated from the table of keys (docs/config.md). Behind # and a blank stands what a key\n\
         # means, or an example; behind # alone the key with its default, to be changed. What\n\
         # `sockwarden config check` says is said by SIGHUP too, and a file with a mistake changes\n\
         # nothing.\n\
         #\n\
         # This is all that is needed to begin: a broker. Devices come by [fleet] file or the API.\n",
    );
    let (start, rest): (Vec<_>, Vec<_>) =
        sections().iter().partition(|section| section.name == START.0);
    for section in start.into_iter().chain(rest) {
        page.push('\n');
        comment(&mut page, section.meaning);
        match section.repeats {
            None => writeln!(page, "[{}]", section.name).expect(STRING),
            Some(example) => {
                let lines = example.lines().map(|line| format!("# {line}\n"));
                lines.for_each(|line| page.push_str(&line.replace("# \n", "#\n")));
            }
        }
        for key in &section.keys {
            entry(&mut page, section, key);
        }
    }
    page
}

/// Section, key and value that the example sets.
const START: (&str, &str, &str) = ("pool", "broker", r#""mqtt://localhost:1883""#);

/// Width of the example, characters.
const WIDTH: usize = 98;

const STRING: &str = "invariant: a string takes everything";

fn entry(page: &mut String, section: &Section, key: &Key) {
    let Key { name, default, allowed, meaning, reason, reload, .. } = key;
    page.push('\n');
    match section.repeats {
        None => comment(page, meaning),
        Some(_) => comment(page, &format!("{name}: {meaning}")),
    }
    comment(page, &format!("Why so: {reason}"));
    let reload = match reload {
        Reload::Applies => "a reload applies it",
        Reload::Additions => "a reload applies what is added",
        Reload::Restart => "needs a restart",
    };
    comment(page, &format!("Allowed: {allowed}; {reload}."));
    if section.repeats.is_some() {
        return;
    }
    if (section.name, *name) == (START.0, START.1) {
        writeln!(page, "{name} = {}", START.2)
    } else {
        writeln!(page, "#{name} = {default}")
    }
    .expect(STRING);
}

/// `text` in lines of `# `.
fn comment(page: &mut String, text: &str) {
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > WIDTH {
            writeln!(page, "{line}").expect(STRING);
            line.truncate(1);
        }
        line.push(' ');
        line.push_str(word);
    }
    writeln!(page, "{line}").expect(STRING);
}

fn table(page: &mut String, section: &Section) {
    let head = ["key", "type", "default", "allowed", "reload"].map(str::to_owned);
    let rows = section.keys.iter().map(|key| {
        let reload = match key.reload {
            Reload::Applies => "yes",
            Reload::Additions => "additions",
            Reload::Restart => "no",
        };
        let default = format!("`{}`", key.default);
        let unit = key.place.unit().to_owned();
        [format!("`{}`", key.name), unit, default, key.allowed.to_owned(), reload.to_owned()]
    });
    let rows: Vec<[String; 5]> = [head].into_iter().chain(rows).collect();
    let widths: [usize; 5] = std::array::from_fn(|column| {
        rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default()
    });
    for (index, row) in rows.iter().enumerate() {
        for (cell, width) in row.iter().zip(widths) {
            write!(page, "| {cell:width$} ").expect(STRING);
        }
        page.push_str("|\n");
        if index == 0 {
            for width in widths {
                write!(page, "|{}", "-".repeat(width + 2)).expect(STRING);
            }
            page.push_str("|\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Config, keys::keys},
        detect::Kind,
    };
    use std::collections::BTreeSet;

    /// Keys of a rule.
    const RULE: usize = 8;

    /// Those of sections that repeat too.
    fn every_key() -> impl Iterator<Item = (&'static Section, &'static Key)> {
        sections().iter().flat_map(|it| it.keys.iter().map(move |key| (it, key)))
    }

    /// What the example sets and nothing else.
    fn start() -> Config {
        Config::parse(&format!("{}.{} = {}", START.0, START.1, START.2)).expect("invariant: valid")
    }

    /// The keys that stand in the example with their values, and the text without the `#` before them.
    fn uncommented() -> String {
        let keep = |line: &&str| !line.starts_with("# ") && *line != "#";
        let example = example();
        let lines = example.lines().filter(keep).map(|line| line.strip_prefix('#').unwrap_or(line));
        lines.map(|line| format!("{line}\n")).collect()
    }

    #[test]
    fn the_example_is_a_minimal_start() {
        assert_eq!(Config::parse(&example()), Ok(start()));
    }

    #[test]
    fn every_key_of_the_example_is_its_default() {
        let text = uncommented();
        assert_eq!(Config::parse(&text), Ok(start()), "{text}");
        let document: toml::Table = toml::from_str(&text).expect("invariant: it is a config");
        for (section, key) in keys() {
            let table = section.name.split('.').fold(&document, |table, name| {
                table[name].as_table().expect("invariant: a section")
            });
            assert!(table.contains_key(key.name), "{} {}", section.name, key.name);
        }
    }

    #[test]
    fn each_default_by_itself_is_the_default() {
        for (section, key) in keys() {
            let text = format!("[{}]\n{} = {}\n", section.name, key.name, key.default);
            let broker = "pool.broker = \"mqtt://localhost:1883\"\n";
            let (text, expected) = if (section.name, key.name) == ("pool", "broker") {
                (text, Config::default())
            } else if section.name == "pool" {
                (format!("[pool]\nbroker = {}\n{} = {}\n", START.2, key.name, key.default), start())
            } else {
                // A header may not come after dotted keys of its table.
                let name = section.name;
                (format!("{broker}{name}.{} = {}\n", key.name, key.default), start())
            };
            assert_eq!(Config::parse(&text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn names_are_there_once_and_everything_is_explained() {
        let mut names = BTreeSet::new();
        for (section, key) in every_key() {
            assert!(names.insert((section.name, key.name)), "{} {}", section.name, key.name);
            for text in [key.allowed, key.meaning, key.reason] {
                assert!(!text.is_empty() && !text.contains("  "), "{}: {text}", key.name);
            }
            assert!(!key.allowed.contains('|'), "{}: it stands in a table", key.name);
            let page = page();
            assert!(page.contains(&format!("| `{}` ", key.name)), "{}", key.name);
        }
        assert_eq!(names.len(), 73 + Kind::ALL.len() + RULE);
    }

    #[test]
    fn tables_that_repeat_have_an_example_that_is_right() {
        for section in sections() {
            let Some(tables) = section.repeats else { continue };
            let config = Config::parse(tables).unwrap_or_else(|it| panic!("{it}"));
            assert_eq!(config.rules.len(), tables.matches("[[rules]]").count());
            assert!(page().contains(&format!("## {}\n", section.title())));
            assert!(page().contains(&format!("```toml\n{tables}```\n")));
            for line in tables.lines().filter(|line| !line.is_empty()) {
                assert!(example().contains(&format!("\n# {line}\n")), "{line}");
            }
            for key in &section.keys {
                assert!(example().contains(&format!("\n# {}: ", key.name)), "{}", key.name);
                // Written out, a default says nothing.
                let with = tables.replacen(
                    "[[rules]]\n",
                    &format!("[[rules]]\n{} = {}\n", key.name, key.default),
                    1,
                );
                if !tables.split("\n\n").next().is_some_and(|it| it.contains(key.name)) {
                    assert_eq!(Config::parse(&with).as_ref(), Ok(&config), "{with}");
                }
            }
        }
    }

    #[test]
    fn the_words_of_the_pool_are_ours() {
        for (section, key) in keys() {
            let ranged = ["pool.limits", "pool.timeouts", "pool.buffers"].contains(&section.name);
            let default = key.default.as_ref();
            if !ranged || ["profile", "overflow"].contains(&key.name) {
                continue;
            }
            let is_duration = default.ends_with("s\"")
                || key.name.ends_with("interval")
                || key.name.ends_with("spacing");
            let absurd = if is_duration { "\"8760h\"" } else { "4294967295" };
            let absurd = if key.name == "inflight" { "0" } else { absurd };
            let absurd = if key.name == "messages" { "1" } else { absurd };
            let text =
                format!("pool.broker = \"mqtt://a\"\n{}.{} = {absurd}", section.name, key.name);
            let complaints = Config::parse(&text).expect_err("invariant: absurd");
            let problem = complaints.iter().next().expect("invariant: never empty").problem();
            let said = problem.strip_prefix("allowed ").expect("invariant: a range");
            assert!(key.allowed.contains(said), "{}: {said} is not in {}", key.name, key.allowed);
        }
    }

    #[test]
    fn the_lines_of_the_example_are_short() {
        for line in example().lines().filter(|line| line.starts_with("# ")) {
            assert!(line.chars().count() <= WIDTH, "{line}");
            assert_eq!(line, line.trim_end());
        }
    }
}

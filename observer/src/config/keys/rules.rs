//! PURE. The keys of `[[rules]]`.

use std::{fmt::Display, str::FromStr, time::Duration};

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use toml::de::DeValue;

use super::super::{
    form::{Form, Problem, Text, Value, Wrong, mistyped, span, word},
    key::{Key, Place, Reload, Section, place},
    nearest::nearest,
    source::quoted,
};
use crate::detect::Kind;

/// One rule as it stands in a file.
const EXAMPLE: &str = r#"[[rules]]
kinds = ["undrained", "close-wait"]
comm = "batch-*"
destination = "10.0.0.0/8:5432"
budget = "5m"

[[rules]]
unit = "nginx.service"
kinds = ["undrained"]
budget = "1h"

[[rules]]
kinds = ["stale-generation"]
comm = "importer"
ignore = "the importer is being replaced"
until = "2027-01-31"
"#;

/// `[[rules]]`: a table for each rule.
pub(super) fn section() -> Section {
    Section {
        name: "rules",
        meaning: "What is allowed to some: a longer or shorter budget, or no finding at all for a \
            while. Of all rules that are about something, the first one in the file counts. Each \
            has either budget or ignore, and names at least one of kinds, comm, unit, container and \
            destination; everything that it names must hold. What a rule ignores is counted: in \
            sockwarden_findings_ignored_total, and by `sockwarden leaks`.",
        repeats: Some(EXAMPLE),
        keys: vec![
            key(
                "kinds",
                place(kind().list("a list of kinds"), |it| &mut it.rule.kinds),
                "[]",
                "codes of docs/findings.md, each once; [] for all",
                "The kinds of findings that the rule is about.",
                "A program is an exception in one respect, seldom in all.",
            ),
            key(
                "comm",
                place(worded("pattern").or(""), |it| &mut it.rule.comm),
                r#""""#,
                r#"a name of at most 15 bytes, * for any characters and ? for one; "" for all"#,
                "The process that the finding names: the kernel's name for it, `ps -o comm`.",
                "Process numbers do not last.",
            ),
            key(
                "unit",
                place(worded("pattern").or(""), |it| &mut it.rule.unit),
                r#""""#,
                r#"a name that may end in .service or .scope, * for any characters and ? for one; "" for all"#,
                "The systemd unit in which the process runs that the finding names. It is looked up \
                    when something is due, and every 10 seconds as long as that lasts; one that \
                    cannot be told is no unit.",
                "Many programs share a name: every service in Python is python3.",
            ),
            key(
                "container",
                place(worded("pattern").or(""), |it| &mut it.rule.container),
                r#""""#,
                r#"the first 12 to 64 digits of its id, or an id or a name of LXC with * and ?; "" for all"#,
                "The container in which the process runs that the finding names, the innermost of \
                    nested ones. It is looked up as unit is.",
                "Everything in a container may have any name.",
            ),
            key(
                "destination",
                place(worded("address").or(""), |it| &mut it.rule.destination),
                r#""""#,
                r#"ADDRESS, ADDRESS/BITS, either with :PORT, [IPV6]:PORT or *:PORT; "" for all"#,
                "The other end of the connection. Findings about a process as a whole have none, \
                    and are not met by a rule with a destination.",
                "A name could stand for other addresses tomorrow.",
            ),
            key(
                "budget",
                place(span(Duration::ZERO..=super::budgets::LONGEST).or(""), |it| {
                    &mut it.rule.budget
                }),
                r#""""#,
                r#"0s to 24h; "" for a rule that ignores"#,
                "How long it may last before it is a finding, in the place of the key in [budgets].",
                "A longer budget still finds what lasts for ever: try it before ignore.",
            ),
            key(
                "ignore",
                place(word(200).or(""), |it| &mut it.rule.ignore),
                r#""""#,
                r#"a reason of 1 to 200 bytes; "" for a rule with a budget"#,
                "It is no finding, and this is why. Open ones are cleared, and say so.",
                "Whoever reads this next year should know.",
            ),
            key(
                "until",
                place(moment().or(""), |it| &mut it.rule.until),
                r#""""#,
                r#"a date (its beginning in UTC) or a time of RFC 3339, at most a year ahead; "" beside budget"#,
                "The end of a rule with ignore, which needs one: what still lasts then is a finding, \
                    as old as it is. A rule that has ended has no effect, and a warning says so.",
                "What is ignored for ever is forgotten.",
            ),
        ],
    }
}

fn key(
    name: &'static str,
    place: Box<dyn Place>,
    default: &'static str,
    allowed: &'static str,
    meaning: &'static str,
    reason: &'static str,
) -> Key {
    Key { name, place, default: default.into(), allowed, meaning, reason, reload: Reload::Applies }
}

/// The code of a kind.
fn kind() -> Form<Kind> {
    let read = |value: &Value<'_>| {
        let text = value.get_ref().as_str().ok_or_else(|| mistyped(value, "a kind in quotes"))?;
        Kind::from_code(text).ok_or_else(|| {
            let rule = match nearest(text, Kind::ALL.into_iter().map(Kind::code)) {
                Some(near) => format!("there is no such kind; did you mean {near}?"),
                None => "there is no such kind; docs/findings.md has all".to_owned(),
            };
            vec![Wrong::new(value, Problem::Rule(rule))]
        })
    };
    Form::new("kind", read, |it: &Kind| Text::One(quoted(it.code())))
}

/// A type that says what is wrong with a text.
fn worded<T: FromStr<Err: Display> + Display + 'static>(unit: &'static str) -> Form<T> {
    let read = |value: &Value<'_>| {
        let text = value.get_ref().as_str().ok_or_else(|| mistyped(value, "a text in quotes"))?;
        text.parse().map_err(|it: T::Err| vec![Wrong::new(value, Problem::Rule(it.to_string()))])
    };
    Form::new(unit, read, |it: &T| Text::One(quoted(&it.to_string())))
}

/// A date or a time, in quotes or as TOML has them.
fn moment() -> Form<Timestamp> {
    let what = "a date or time such as \"2027-01-31\" or \"2027-01-31T18:00:00Z\"";
    let read = move |value: &Value<'_>| {
        let text = match value.get_ref() {
            DeValue::String(text) => text.to_string(),
            DeValue::Datetime(it) => it.to_string(),
            _ => return Err(mistyped(value, what)),
        };
        let is_date = text.len() == "2027-01-31".len();
        let midnight = |date: Date| date.to_zoned(TimeZone::UTC).map(|it| it.timestamp());
        let parsed = match is_date {
            true => text.parse().and_then(midnight),
            false => text.parse(),
        };
        parsed.map_err(|_| mistyped(value, what))
    };
    Form::new("time", read, |it: &Timestamp| Text::One(quoted(&it.to_string())))
}

#[cfg(test)]
mod tests {
    use crate::{
        config::{Config, show},
        tuning::Act,
    };

    use super::*;

    const NOW: &str = "2026-11-23T01:00:00Z";

    #[track_caller]
    fn parse(text: &str) -> Config {
        Config::parse(text).unwrap_or_else(|it| panic!("{text}\n{it}"))
    }

    /// Each complaint without its excerpt.
    fn complaints(text: &str) -> Vec<String> {
        let now = NOW.parse().expect("invariant: a time");
        let Err(complaints) = Config::parse_at(text, now) else { return Vec::new() };
        complaints
            .iter()
            .map(|it| format!("{}:{}: {}: {}", it.line(), it.column(), it.subject(), it.problem()))
            .collect()
    }

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let found = complaints(text);
        assert_eq!(found.len(), expected.len(), "{text}: {found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{text}: {found}");
        }
    }

    #[test]
    fn rules_stand_in_the_order_of_the_file() {
        let rules = parse(EXAMPLE).rules;
        assert_eq!(rules[0].kinds, [Kind::Undrained, Kind::CloseWait]);
        assert_eq!(rules[0].comm.as_ref().map(ToString::to_string).as_deref(), Some("batch-*"));
        let destination = rules[0].destination.map(|it| it.to_string());
        assert_eq!(destination.as_deref(), Some("10.0.0.0/8:5432"));
        assert_eq!(rules[0].act, Act::Budget(Duration::from_secs(300)));
        assert_eq!(
            rules[1].unit.as_ref().map(ToString::to_string).as_deref(),
            Some("nginx.service")
        );
        assert_eq!(rules[1].destination, None);
        let until = "2027-01-31T00:00:00Z".parse().expect("invariant: a time");
        let reason = "the importer is being replaced".into();
        assert_eq!(rules[2].act, Act::Ignore { reason, until });
        assert_eq!(rules.len(), 3);
    }

    #[test]
    fn an_end_is_a_date_or_a_time_with_its_zone() {
        let rule =
            |until: &str| format!("[[rules]]\ncomm = \"a\"\nignore = \"b\"\nuntil = {until}\n");
        for (until, shown) in [
            ("\"2027-01-31\"", Some("2027-01-31T00:00:00Z")),
            ("2027-01-31", Some("2027-01-31T00:00:00Z")),
            ("\"2027-01-31T01:00:00+01:00\"", Some("2027-01-31T00:00:00Z")),
            ("2027-01-31T01:00:00.5Z", Some("2027-01-31T01:00:00.5Z")),
            ("2027-01-31 01:00:00Z", Some("2027-01-31T01:00:00Z")),
            ("\"2027-01-31T01:00:00\"", None),
            ("2027-01-31T01:00:00", None),
            ("01:00:00", None),
            ("\"2027-02-30\"", None),
            ("\"tomorrow\"", None),
            ("\"31.01.2027\"", None),
            ("7", None),
        ] {
            match shown {
                Some(shown) => {
                    let shown = format!("until = \"{shown}\"\n");
                    assert!(show(&parse(&rule(until))).contains(&shown), "{until}");
                }
                None => check(&rule(until), &["4:1: [[rules]] until = "]),
            }
        }
    }

    #[test]
    fn nothing_is_ignored_for_more_than_a_year_and_what_is_over_is_no_mistake() {
        let rule =
            |until: &str| format!("[[rules]]\ncomm = \"a\"\nignore = \"b\"\nuntil = \"{until}\"\n");
        check(&rule("2027-11-24T01:00:00Z"), &[]);
        check(
            &rule("2027-11-24T01:00:01Z"),
            &["4:1: [[rules]] until: allowed at most a year ahead"],
        );
        check(&rule("2020-01-01"), &[]);
        let now: Timestamp = NOW.parse().expect("invariant: a time");
        for (until, over) in [(NOW, true), ("2026-11-23T01:00:01Z", false), ("2020-01-01", true)] {
            assert_eq!(parse(&rule(until)).rules[0].is_over(now), over, "{until}");
        }
    }

    #[test]
    fn wrong_rules_say_what_is_wrong_and_where() {
        for (keys, expected) in [
            ("", &["2:1: [[rules]]: it would be about", "2:1: [[rules]]: it does nothing"][..]),
            ("comm = \"a\"\n", &["2:1: [[rules]]: it does nothing: set budget, or ignore"]),
            ("budget = \"1s\"\n", &["2:1: [[rules]]: it would be about everything"]),
            (
                "kinds = []\nbudget = \"1s\"\n",
                &["3:1: [[rules]] kinds: it would be about everything"],
            ),
            (
                "comm = \"a\"\nbudget = \"1s\"\nignore = \"b\"\nuntil = \"2027-01-31\"\n",
                &["5:1: [[rules]] ignore: it has a budget too"],
            ),
            (
                "comm = \"a\"\nbudget = \"1s\"\nuntil = \"2027-01-31\"\n",
                &["5:1: [[rules]] until: a budget has no end"],
            ),
            (
                "comm = \"a\"\nignore = \"b\"\n",
                &["4:1: [[rules]] ignore: what is ignored needs an end"],
            ),
            (
                "comm = \"a\"\nignore = \"\"\nuntil = \"2027-01-31\"\n",
                &["4:1: [[rules]] ignore: it does nothing"],
            ),
            (
                "comm = \"a\"\nignore = \"b\\n\"\nuntil = \"2027-01-31\"\n",
                &["4:1: [[rules]] ignore = \"b\\n\": allowed a reason of 1 to 200"],
            ),
            ("comm = \"a\"\nbudget = \"25h\"\n", &["4:1: [[rules]] budget = \"25h\": allowed 0s"]),
            ("comm = \"a\"\nbudget = 5\n", &["4:1: [[rules]] budget = 5: a duration in quotes"]),
            (
                "kinds = [\"close-wait\", \"clsoe-wait\"]\nbudget = \"1s\"\n",
                &[
                    "3:24: [[rules]] kinds = \"clsoe-wait\": there is no such kind; did you mean close-wait?",
                ],
            ),
            (
                "kinds = [\"ghost\", \"ghost\"]\nbudget = \"1s\"\n",
                &["3:19: [[rules]] kinds = \"ghost\": it is in the list already"],
            ),
            (
                "comm = \"0123456789abcdef\"\nbudget = \"1s\"\n",
                &["3:1: [[rules]] comm = \"0123456789abcdef\": the kernel's names have at most 15"],
            ),
            (
                "destination = \"10.0.0.1/8:1\"\nbudget = \"1s\"\n",
                &[
                    "3:1: [[rules]] destination = \"10.0.0.1/8:1\": bits behind the prefix are set: write 10.0.0.0/8",
                ],
            ),
            (
                "unit = \"nginx\"\nbudget = \"1s\"\n",
                &["3:1: [[rules]] unit = \"nginx\": it is the name of a service or a scope"],
            ),
            (
                "container = \"3f2a\"\nbudget = \"1s\"\n",
                &["3:1: [[rules]] container = \"3f2a\": an id is known by its first 12 digits"],
            ),
            ("unit = \"\"\nbudget = \"1s\"\n", &["3:1: [[rules]] unit: it would be about"]),
            (
                "com = \"a\"\nkinds = [\"ghost\"]\nbudget = \"1s\"\n",
                &["3:1: [[rules]] com: there is no such key; did you mean comm?"],
            ),
            (
                "pid = 7\nkinds = [\"ghost\"]\nbudget = \"1s\"\n",
                &[
                    "3:1: [[rules]] pid: there is no such key; [[rules]] has kinds, comm, unit, container",
                ],
            ),
        ] {
            check(&format!("# a comment\n[[rules]]\n{keys}"), expected);
        }
        check(
            "[[rules]]\ncomm = \"a\"\nbudget = \"1s\"\n[[rules]]\nbudget = \"1s\"\ncomm = \"a\"\n\
             [[rules]]\ncomm = \"b\"\n",
            &["4:1: [[rules]]: this rule is there already", "7:1: [[rules]]: it does nothing"],
        );
        check(
            "[rules]\ncomm = \"a\"\n",
            &["1:2: [[rules]]: it is a list of tables: write [[rules]]"],
        );
        check("rules = 1", &["1:1: [[rules]]: it is a list of tables"]);
        check("rules = [1]", &["1:10: [[rules]]: a table is needed"]);
        check("[[rule]]\n", &["1:3: [rule]: there is no such section; did you mean [[rules]]?"]);
        check("[[watch]]\n", &["1:3: [watch]: it is a section: write [watch]"]);
        let many = |count: usize| {
            let rule = |it| format!("[[rules]]\ncomm = \"{it}\"\nbudget = \"1s\"\n");
            (0..count).map(rule).collect::<String>()
        };
        check(&many(100), &[]);
        check(&many(101), &["1:3: [[rules]]: there are 101, and at most 100 are allowed"]);
    }

    #[test]
    fn thresholds_have_their_ranges() {
        let config = parse(
            "[thresholds]\npercent_in_use = 90\nfleets = [\"10.0.0.1:1883=7\"]\ntakeovers = 9\n",
        );
        assert_eq!((config.thresholds.percent_in_use, config.thresholds.takeovers), (90, 9));
        assert_eq!(config.thresholds.fleets[0].devices, 7);
        for (text, expected) in [
            ("percent_in_use = 0", "1:12: [thresholds] percent_in_use = 0: allowed 1 to 100"),
            ("percent_in_use = 101", "1:12: [thresholds] percent_in_use = 101: allowed"),
            ("generations = 1", "1:12: [thresholds] generations = 1: allowed 2 to 100"),
            ("takeovers = 1", "1:12: [thresholds] takeovers = 1: allowed 2 to"),
            ("storm_connections = 0", "1:12: [thresholds] storm_connections = 0: allowed"),
            ("close_wait_sockets = 0", "1:12: [thresholds] close_wait_sockets = 0: allowed"),
            ("many_connections = 0", "1:12: [thresholds] many_connections = 0: allowed"),
            ("low_limit = -1", "1:12: [thresholds] low_limit = -1: allowed 0 (off)"),
            (
                "fleets = [\"10.0.0.1=7\"]",
                "1:22: [thresholds] fleets = \"10.0.0.1=7\": a broker and its devices in quotes",
            ),
            (
                "fleets = [\"10.0.0.1:1=7\", \"10.0.0.1:1=8\"]",
                "1:12: [thresholds] fleets = a list: allowed a list of \"ADDRESS:PORT=DEVICES\", each broker once",
            ),
        ] {
            check(&format!("thresholds.{text}"), &[expected]);
        }
    }
}

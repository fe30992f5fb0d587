//! PURE. What differs between two configs, and what a reload can do about it.

use std::fmt;

use super::{
    Config,
    form::Text,
    key::{Key, Reload, Section},
    keys::sections,
    show::lines_of_table,
    written::Written,
};

/// A key whose value is another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// As it stands in brackets.
    pub section: &'static str,
    /// Name of the key; empty where it is about a whole table, of a section that repeats.
    pub key: &'static str,
    /// From what to what. Secrets are dots.
    pub what: What,
    /// When.
    pub applies: Applies,
}

/// How a value changed; values as they are written in TOML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// It is another one.
    Other {
        /// The old one.
        from: String,
        /// The new one.
        to: String,
    },
    /// These are in the list now.
    Added(Vec<String>),
    /// These are not in the list any more.
    Removed(Vec<String>),
    /// The same tables stand in another order.
    Order,
}

/// When a change applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applies {
    /// At once.
    Now,
    /// When the daemon is started again.
    AtRestart,
}

/// Every key that differs, in the order of the docs. A key of which a part applies now and a part at
/// the next start comes twice. If a pool comes or goes, only its broker is told.
pub fn changes(old: &Config, new: &Config) -> Vec<Change> {
    let whole_pool = old.pool.is_some() != new.pool.is_some();
    let (mut before, mut after) = (Written::from(old), Written::from(new));
    let mut changes = Vec::new();
    for section in sections().iter().filter(|section| section.repeats.is_some()) {
        changes.extend(of_tables(section, &mut before, &mut after));
    }
    let once = sections().iter().filter(|section| section.repeats.is_none());
    for (section, key) in once.flat_map(|it| it.keys.iter().map(move |key| (it, key))) {
        let is_told = section.name.starts_with("pool") && key.name != "broker" && whole_pool;
        let (from, to) = (key.place.write(&mut before), key.place.write(&mut after));
        if from != to && !is_told {
            changes.extend(of_key(section, key, from, to));
        }
    }
    changes
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key {
            "" => write!(f, "[[{}]]: ", self.section)?,
            key => write!(f, "[{}] {key}: ", self.section)?,
        }
        match &self.what {
            What::Other { from, to } => write!(f, "{from} is now {to}")?,
            What::Added(items) => write!(f, "{} added", items.join(", "))?,
            What::Removed(items) => write!(f, "{} removed", items.join(", "))?,
            What::Order => f.write_str("they stand in another order now")?,
        }
        f.write_str(match self.applies {
            Applies::Now => ", applied",
            Applies::AtRestart => ", needs a restart",
        })
    }
}

/// What was added to and removed from a section that repeats, or that only the order is another.
fn of_tables(section: &Section, before: &mut Written, after: &mut Written) -> Vec<Change> {
    let mut usual = Written::default();
    let mut texts = |written: &mut Written| -> Vec<String> {
        let rules = written.rules.clone();
        let text = |rule| {
            written.rule = rule;
            format!("{{ {} }}", lines_of_table(section, written, &mut usual).join(", "))
        };
        rules.into_iter().map(text).collect()
    };
    let (from, to) = (texts(before), texts(after));
    let less = |these: &[String], those: &[String]| -> Vec<String> {
        these.iter().filter(|it| !those.contains(it)).cloned().collect()
    };
    let (added, removed) = (less(&to, &from), less(&from, &to));
    let is_moved = added.is_empty() && removed.is_empty() && from != to;
    let change = |what| Change { section: section.name, key: "", what, applies: Applies::Now };
    let added = Some(added).filter(|it| !it.is_empty()).map(What::Added);
    let removed = Some(removed).filter(|it| !it.is_empty()).map(What::Removed);
    let moved = is_moved.then_some(What::Order);
    added.into_iter().chain(removed).chain(moved).map(change).collect()
}

fn of_key(section: &Section, key: &Key, from: Text, to: Text) -> Vec<Change> {
    let change = |what, applies| Change { section: section.name, key: key.name, what, applies };
    match (key.reload, from, to) {
        (Reload::Additions, Text::List(from), Text::List(to)) => {
            let less = |these: &[String], those: &[String]| -> Vec<String> {
                these.iter().filter(|it| !those.contains(it)).cloned().collect()
            };
            let (added, removed) = (less(&to, &from), less(&from, &to));
            let added = Some(added).filter(|it| !it.is_empty()).map(What::Added);
            let removed = Some(removed).filter(|it| !it.is_empty()).map(What::Removed);
            let added = added.map(|what| change(what, Applies::Now));
            added.into_iter().chain(removed.map(|what| change(what, Applies::AtRestart))).collect()
        }
        (reload, from, to) => {
            let shown = |text: Text| match key.place.is_secret() {
                true => "…".to_owned(),
                false => text.to_string(),
            };
            let applies = match reload {
                Reload::Applies => Applies::Now,
                Reload::Additions | Reload::Restart => Applies::AtRestart,
            };
            vec![change(What::Other { from: shown(from), to: shown(to) }, applies)]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys::sections;

    fn config(text: &str) -> Config {
        Config::parse(text).unwrap_or_else(|it| panic!("{text}\n{it}"))
    }

    #[track_caller]
    fn check(old: &str, new: &str, expected: &[&str]) {
        let found = changes(&config(old), &config(new));
        let found: Vec<String> = found.iter().map(Change::to_string).collect();
        assert_eq!(found, expected, "{old} -> {new}");
    }

    #[test]
    fn each_change_says_when_it_applies() {
        check("", "", &[]);
        check(
            "",
            "budgets.overlap = \"1s\"\nwatch.children = true\nsinks.update_interval = \"0s\"",
            &[
                "[watch] children: false is now true, needs a restart",
                "[budgets] overlap: \"0s\" is now \"1s\", applied",
                "[sinks] update_interval: \"1m\" is now \"0s\", applied",
            ],
        );
    }

    #[test]
    fn what_is_added_to_the_watch_applies_and_what_is_removed_does_not() {
        check(
            "watch.comm = [\"a\", \"b\"]\nwatch.port = [1]",
            "watch.comm = [\"c\", \"b\", \"d\"]\nwatch.port = [1, 2]",
            &[
                "[watch] comm: \"c\", \"d\" added, applied",
                "[watch] comm: \"a\" removed, needs a restart",
                "[watch] port: 2 added, applied",
            ],
        );
        check("watch.port = [1, 2]", "watch.port = [2, 1]", &[]);
    }

    #[test]
    fn a_profile_changes_what_it_stands_for() {
        check(
            "pool.broker = \"mqtt://a\"",
            "pool.broker = \"mqtt://a\"\npool.limits.profile = \"adaptive\"\npool.limits.min_interval = \"10ms\"",
            &[
                "[pool.limits] profile: \"paced\" is now \"adaptive\", applied",
                "[pool.limits] adaptive_initial: 0 is now 16, applied",
                "[pool.limits] adaptive_tolerance: \"auto\" is now 2.0, applied",
            ],
        );
    }

    #[test]
    fn of_a_pool_that_comes_or_goes_only_the_broker_is_told() {
        let pool = "pool.broker = \"mqtt://a\"\npool.clean_start = true";
        check("", pool, &["[pool] broker: \"\" is now \"mqtt://a:1883\", needs a restart"]);
        check(pool, "", &["[pool] broker: \"mqtt://a:1883\" is now \"\", needs a restart"]);
        check(
            pool,
            "pool.broker = \"mqtt://b\"",
            &[
                "[pool] broker: \"mqtt://a:1883\" is now \"mqtt://b:1883\", needs a restart",
                "[pool] clean_start: true is now false, needs a restart",
            ],
        );
    }

    #[test]
    fn rules_come_and_go_as_a_whole_and_their_order_counts() {
        let rule = |comm: &str| format!("[[rules]]\ncomm = \"{comm}\"\nbudget = \"1m\"\n");
        let (a, b) = (rule("a"), rule("b"));
        let shown = |comm: &str| format!("{{ comm = \"{comm}\", budget = \"1m\" }}");
        let (shown_a, shown_b) = (shown("a"), shown("b"));
        check(&a, &a, &[]);
        check("", &a, &[&format!("[[rules]]: {shown_a} added, applied")]);
        check(&format!("{a}{b}"), &a, &[&format!("[[rules]]: {shown_b} removed, applied")]);
        check(
            &a,
            &b,
            &[
                &format!("[[rules]]: {shown_b} added, applied"),
                &format!("[[rules]]: {shown_a} removed, applied"),
            ],
        );
        let order = "[[rules]]: they stand in another order now, applied";
        check(&format!("{a}{b}"), &format!("{b}{a}"), &[order]);
        check("", "thresholds.takeovers = 7", &["[thresholds] takeovers: 5 is now 7, applied"]);
    }

    #[test]
    fn a_secret_is_not_told() {
        let with = |password: &str| {
            format!(
                "pool.broker = \"mqtt://a\"\n[fleet.template]\nusername = \"me\"\npassword = \"{password}\""
            )
        };
        check(&with("one"), &with("two"), &["[fleet.template] password: … is now …, applied"]);
    }

    #[test]
    fn what_a_reload_can_change() {
        let applies = |section: &str, key: &str| match section {
            "watch" if ["comm", "unit", "cgroup", "port"].contains(&key) => Reload::Additions,
            "budgets" | "thresholds" | "rules" | "pool.limits" | "fleet.template" => {
                Reload::Applies
            }
            "fleet" if key == "file" => Reload::Applies,
            "sinks" if key == "update_interval" => Reload::Applies,
            _ => Reload::Restart,
        };
        for section in sections() {
            for key in &section.keys {
                assert_eq!(
                    key.reload,
                    applies(section.name, key.name),
                    "{} {}",
                    section.name,
                    key.name
                );
            }
        }
    }
}

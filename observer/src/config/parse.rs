//! PURE. From the text of the file to a config, or to all that is wrong with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use jiff::Timestamp;
use toml::de::{DeTable, DeValue};

use super::{
    Complaints, Config,
    form::{Problem, Value, Wrong},
    key::{Key, Section},
    keys::{keys, section, sections},
    nearest::nearest,
    rules::{contradictions, of_rule},
    written::{Written, WrittenRule},
};
use crate::{escape, tuning::MOST_RULES};

impl Config {
    /// Reads the text of a config file. What it does not say is as in [`Config::default`] and
    /// [`Pool::new`](super::Pool::new).
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, Complaints> {
        Self::read(text, None)
    }

    /// As [`Config::parse`], at a time: what must not be too far ahead of it is looked at as well.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it.
    pub fn parse_at(text: &str, now: Timestamp) -> Result<Self, Complaints> {
        Self::read(text, Some(now))
    }

    fn read(text: &str, now: Option<Timestamp>) -> Result<Self, Complaints> {
        let (document, errors) = DeTable::parse_recoverable(text);
        let mut reader = Reader::new(text, now);
        reader.not_toml(&errors);
        reader.document(document.get_ref());
        // What is missing may stand where the file is torn.
        if errors.is_empty() {
            for (name, problem) in contradictions(&reader.written, &reader.given) {
                let (at, subject) = (reader.given.at(name), subject(home(name), name.1));
                reader.complaints.add(text, at, subject, problem);
            }
        }
        reader.complaints.or(()).map(|()| reader.written.into())
    }
}

/// Which keys the file has, where they begin, and whether their values are right.
#[derive(Debug, Default)]
pub(super) struct Given(BTreeMap<Name, (usize, bool)>);

/// Section and key.
pub(super) type Name = (&'static str, &'static str);

impl Given {
    pub(super) fn has(&self, name: Name) -> bool {
        self.0.contains_key(&name)
    }

    pub(super) fn is_wrong(&self, name: Name) -> bool {
        self.0.get(&name).is_some_and(|(_, right)| !right)
    }

    /// The first key in the file that is `wanted`.
    pub(super) fn first(&self, wanted: impl Fn(Name) -> bool) -> Option<Name> {
        let keys = self.0.iter().filter(|(name, _)| wanted(**name));
        keys.min_by_key(|(_, (at, _))| *at).map(|(name, _)| *name)
    }

    /// Nothing of this section: another table of it is read.
    fn forget(&mut self, section: &str) {
        self.0.retain(|name, _| name.0 != section);
    }

    fn at(&self, name: Name) -> usize {
        self.0.get(&name).map_or(0, |(at, _)| *at)
    }
}

struct Reader<'t> {
    text: &'t str,
    now: Option<Timestamp>,
    /// Where each line begins.
    lines: Vec<usize>,
    /// Lines that are no TOML, from 1.
    torn: BTreeSet<usize>,
    complaints: Complaints,
    written: Written,
    given: Given,
}

impl<'t> Reader<'t> {
    fn new(text: &'t str, now: Option<Timestamp>) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self {
            text,
            now,
            lines: [0].into_iter().chain(ends.map(|(at, _)| at + 1)).collect(),
            torn: BTreeSet::new(),
            complaints: Complaints::default(),
            written: Written::default(),
            given: Given::default(),
        }
    }

    /// One complaint for each line: what follows in it mostly comes from the first.
    fn not_toml(&mut self, errors: &[toml::de::Error]) {
        let end = self.text.len()..self.text.len();
        let mut errors: Vec<(Range<usize>, &str)> = errors
            .iter()
            .map(|error| (error.span().unwrap_or(end.clone()), error.message()))
            .collect();
        errors.sort_by_key(|(at, _)| at.start);
        for (at, message) in errors {
            if self.torn.insert(self.line(at.start)) {
                let problem = match message {
                    "duplicate key" => "it is there already: remove one of them".to_owned(),
                    _ => format!("this is no TOML: {message}"),
                };
                self.complaints.add_with_line(self.text, &at, String::new(), problem);
            }
        }
    }

    fn document(&mut self, document: &DeTable<'_>) {
        for (name, value) in document {
            match section(name.get_ref()) {
                Some(section) if section.repeats.is_some() => {
                    self.tables(section, name.span(), value);
                }
                Some(section) => self.section(section, name.span(), value),
                None => self.unknown_section(name.get_ref(), name.span()),
            }
        }
    }

    fn section(&mut self, found: &'static Section, at: Range<usize>, value: &Value<'_>) {
        let DeValue::Table(table) = value.get_ref() else {
            let problem = format!("it is a section: write [{}] on a line of its own", found.name);
            return self.complain(&at, &value.span(), found.title(), problem);
        };
        self.keys(found, table);
    }

    /// A section that repeats: an array of tables.
    fn tables(&mut self, found: &'static Section, at: Range<usize>, value: &Value<'_>) {
        let tables = value.get_ref().as_array().map(|array| (array, array.len()));
        let Some((tables, count)) = tables else {
            let problem =
                format!("it is a list of tables: write {} on a line of its own", found.title());
            return self.complain(&at, &value.span(), found.title(), problem);
        };
        if count > MOST_RULES {
            let problem = format!("there are {count}, and at most {MOST_RULES} are allowed");
            return self.complain(&at, &value.span(), found.title(), problem);
        }
        for table in tables {
            self.rule(found, table);
        }
    }

    fn rule(&mut self, found: &'static Section, value: &Value<'_>) {
        let at = value.span();
        let DeValue::Table(table) = value.get_ref() else {
            let problem = format!("a table is needed: write {} above its keys", found.title());
            return self.complain(&at, &at, found.title(), problem);
        };
        self.given.forget(found.name);
        self.written.rule = WrittenRule::default();
        let before = self.complaints.count();
        self.keys(found, table);
        // What is missing may stand where the file is torn.
        if self.torn.is_empty() {
            for (key, problem) in of_rule(&self.written.rule, &self.given, self.now) {
                let name = (found.name, key);
                if self.given.has(name) {
                    let (at, subject) = (self.given.at(name), subject(found, key));
                    self.complaints.add(self.text, at, subject, problem);
                } else {
                    self.complaints.add(self.text, at.start, found.title(), problem);
                }
            }
        }
        let rule = std::mem::take(&mut self.written.rule);
        if self.complaints.count() == before && self.written.rules.contains(&rule) {
            let problem = "this rule is there already: remove it".to_owned();
            self.complaints.add(self.text, at.start, found.title(), problem);
        }
        self.written.rules.push(rule);
    }

    fn keys(&mut self, found: &'static Section, table: &DeTable<'_>) {
        for (name, value) in table {
            let below = format!("{}.{}", found.name, name.get_ref());
            if let Some(below) = section(&below) {
                self.section(below, name.span(), value);
            } else if let Some(key) = found.keys.iter().find(|key| key.name == name.get_ref()) {
                self.key(found, key, name.span(), value);
            } else {
                self.unknown_key(found, name.get_ref(), name.span());
            }
        }
    }

    fn key(
        &mut self,
        found: &'static Section,
        key: &'static Key,
        at: Range<usize>,
        value: &Value<'_>,
    ) {
        let wrongs = key.place.read(value, &mut self.written).err().unwrap_or_default();
        self.given.0.insert((found.name, key.name), (at.start, wrongs.is_empty()));
        for wrong in wrongs {
            let subject = format!("{} = {}", subject(found, key.name), wrong.given);
            let problem = problem(&wrong, key);
            if wrong.at == value.span() {
                self.complain(&at, &wrong.at, subject, problem);
            } else if !self.is_torn(&wrong.at) {
                self.complaints.add_with_line(self.text, &wrong.at, subject, problem);
            }
        }
    }

    fn unknown_section(&mut self, name: &str, at: Range<usize>) {
        if self.complaints.is_full() {
            return self.complain(&at, &at, String::new(), String::new());
        }
        let problem = match homes_of(name) {
            Some(homes) => format!("this key belongs to {homes}"),
            None => match nearest(name, names()) {
                Some(near) => {
                    let title = section(near).map(Section::title).unwrap_or_default();
                    format!("there is no such section; did you mean {title}?")
                }
                None => format!("there is no such section; there are {}", listed(names())),
            },
        };
        self.complain(&at, &at, format!("[{}]", escape::short(name, 40)), problem);
    }

    fn unknown_key(&mut self, found: &'static Section, name: &str, at: Range<usize>) {
        if self.complaints.is_full() {
            return self.complain(&at, &at, String::new(), String::new());
        }
        let keys = || found.keys.iter().map(|key| key.name);
        let prefix = format!("{}.", found.name);
        let below = names().filter_map(|name| name.strip_prefix(&prefix));
        let problem = match (homes_of(name), nearest(name, keys().chain(below))) {
            (Some(homes), _) => format!("there is no such key here: it belongs to {homes}"),
            (_, Some(near)) => format!("there is no such key; did you mean {near}?"),
            _ => format!("there is no such key; {} has {}", found.title(), listed(keys())),
        };
        self.complain(&at, &at, subject(found, &escape::short(name, 40)), problem);
    }

    /// About the key at `at` with the value at `value`, unless a part of that is no TOML.
    fn complain(
        &mut self,
        at: &Range<usize>,
        value: &Range<usize>,
        subject: String,
        problem: String,
    ) {
        if !self.is_torn(&(at.start..value.end)) {
            self.complaints.add(self.text, at.start, subject, problem);
        }
    }

    fn is_torn(&self, at: &Range<usize>) -> bool {
        let lines = self.line(at.start)..=self.line(at.end.max(at.start));
        self.torn.range(lines).next().is_some()
    }

    /// From 1.
    fn line(&self, at: usize) -> usize {
        self.lines.partition_point(|start| *start <= at)
    }
}

fn subject(section: &Section, key: &str) -> String {
    format!("{} {key}", section.title())
}

/// The section of a key that is known.
fn home(name: Name) -> &'static Section {
    section(name.0).expect("invariant: it is in the table of keys")
}

fn problem(wrong: &Wrong, key: &Key) -> String {
    match &wrong.problem {
        Problem::Type(what) => format!("{what} is needed; allowed {}", key.allowed),
        Problem::Range => format!("allowed {}", key.allowed),
        Problem::Pool(allowed) => format!("allowed {allowed}"),
        Problem::Rule(rule) => rule.clone(),
    }
}

/// The sections that have this key, if any has.
fn homes_of(name: &str) -> Option<String> {
    let homes = keys().filter(|(_, key)| key.name == name);
    let homes: Vec<String> = homes.map(|(section, _)| format!("[{}]", section.name)).collect();
    Some(homes.join(" or ")).filter(|homes| !homes.is_empty())
}

fn names() -> impl Iterator<Item = &'static str> {
    sections().iter().map(|section| section.name)
}

fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Pool, Profile};
    use proptest::prelude::*;
    use std::time::Duration;

    /// Each complaint without its excerpt.
    fn complaints(text: &str) -> Vec<String> {
        match Config::parse(text) {
            Ok(_) => Vec::new(),
            Err(complaints) => complaints
                .iter()
                .map(|it| {
                    format!("{}:{}: {}: {}", it.line(), it.column(), it.subject(), it.problem())
                })
                .collect(),
        }
    }

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        assert_eq!(complaints(text), expected, "{text}");
    }

    /// As `check`, with the beginnings only.
    #[track_caller]
    fn check_begins(text: &str, expected: &[&str]) {
        let found = complaints(text);
        assert_eq!(found.len(), expected.len(), "{text}: {found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{text}: {found}");
        }
    }

    fn in_pool(text: &str) -> String {
        format!("[pool]\nbroker = \"mqtt://a\"\n{text}")
    }

    #[test]
    fn nothing_is_a_config() {
        assert_eq!(Config::parse(""), Ok(Config::default()));
        assert_eq!(Config::parse("\u{feff}# nothing\r\n[watch]\r\n"), Ok(Config::default()));
    }

    #[test]
    fn a_broker_alone_makes_a_pool_with_its_defaults() {
        let config = Config::parse("pool.broker = \"mqtt://a\"").expect("invariant: valid");
        let broker = pool::Broker::parse("mqtt://a").expect("invariant: valid");
        assert_eq!(config, Config { pool: Some(Pool::new(broker)), ..Config::default() });
    }

    #[test]
    fn what_is_written_is_what_is_meant() {
        let config = Config::parse(
            r##"
            [watch]
            comm = ["node", "python3"]
            port = [1_883, 0x22b3]
            layers = "a"
            ring_bytes = "64KiB"
            max_sockets = 1
            stacks = true
            [budgets]
            close-wait = "1m30s"
            [pool]
            broker = "wss://a.example"
            version = "5"
            username = "me"
            password_file = "/etc/p"
            sources = ["10.0.0.1", "::1"]
            redirects = ["*.example.com", "b:1"]
            descriptor_headroom = 0
            [pool.limits]
            profile = "article"
            max_in_flight = 7
            adaptive_initial = 7
            adaptive_tolerance = 3
            [pool.buffers]
            overflow = "drop"
            [fleet.template]
            client_id = "s-{id}"
            password = "p{id}"
            keep_alive = "30s"
            will = { topic = "d/{id}", payload = "gone", qos = 1, retain = true }
            [[fleet.template.subscriptions]]
            filter = "d/{id}/#"
            qos = 2
            [api]
            listen = "off"
            "##,
        )
        .expect("invariant: valid");
        assert_eq!(config.watch.comm, ["node", "python3"]);
        assert_eq!(config.watch.port, [1_883, 8_883]);
        assert_eq!((config.watch.ring_bytes, config.watch.max_sockets), (65_536, 1));
        assert_eq!(config.watch.layers, Some(crate::probe::Layers::A));
        assert!(config.watch.stacks);
        let budget = config.budgets.get(crate::detect::Kind::CloseWait);
        assert_eq!(budget, Duration::from_secs(90));
        assert_eq!(config.api.listen, None);
        let template = config.fleet.template;
        assert_eq!(template.client_id.as_deref(), Some("s-{id}"));
        assert_eq!(template.password.map(|it| it.0).as_deref(), Some("p{id}"));
        assert_eq!(template.keep_alive, Some(Duration::from_secs(30)));
        let will = template.will.expect("invariant: given");
        assert_eq!((will.topic.as_str(), will.qos, will.retain), ("d/{id}", 1, true));
        assert_eq!(template.subscriptions.len(), 1);
        assert_eq!(template.subscriptions[0].qos, 2);
        let pool = config.pool.expect("invariant: given");
        assert_eq!(pool.broker.to_string(), "wss://a.example:443/mqtt");
        assert_eq!(pool.version, pool::Version::V5);
        assert_eq!((pool.profile, pool.limits.max_in_flight), (Profile::Article, 7));
        assert_eq!(pool.limits.adaptive, Some(pool::Adaptive { initial: 7, tolerance: 3.0 }));
        assert_eq!(pool.limits.reservoir, pool::Limits::article().reservoir);
        assert_eq!(pool.buffers.overflow, pool::Overflow::Drop);
        assert_eq!(pool.descriptor_headroom, Some(0));
        assert_eq!(pool.sources.len(), 2);
        let credentials = pool.credentials.expect("invariant: given");
        assert_eq!(credentials.username, "me");
    }

    #[test]
    fn all_complaints_come_at_once_in_the_order_of_the_file() {
        check(
            "[sinks]\nupdate_interval = \"25h\"\n[watch]\nmax_sockets = 0\nlayer = \"a\"\n\
             port = [80, 80, 0]\n[wacth]\n",
            &[
                "2:1: [sinks] update_interval = \"25h\": allowed 0s (each update) to 24h",
                "4:1: [watch] max_sockets = 0: allowed 1 to 4,194,304",
                "5:1: [watch] layer: there is no such key; did you mean layers?",
                "6:13: [watch] port = 80: it is in the list already: remove it",
                "6:17: [watch] port = 0: allowed 1 to 65,535, each once",
                "7:2: [wacth]: there is no such section; did you mean [watch]?",
            ],
        );
    }

    #[test]
    fn the_place_of_an_unknown_name_is_told() {
        check(
            "comm = [\"a\"]\nwatch = 1\n[pool]\nbroker = \"mqtt://a\"\nmax_in_flight = 1\ntsl = {}\n\
             [zzzz]\n[api]\nusername = 1\n",
            &[
                "1:1: [comm]: this key belongs to [watch]",
                "2:1: [watch]: it is a section: write [watch] on a line of its own",
                "5:1: [pool] max_in_flight: there is no such key here: it belongs to [pool.limits]",
                "6:1: [pool] tsl: there is no such key; did you mean tls?",
                "7:2: [zzzz]: there is no such section; there are watch, budgets, thresholds, rules, \
                 pool, pool.tls, \
                 pool.limits, pool.timeouts, pool.buffers, fleet, fleet.template, sinks, api, \
                 privileges",
                "9:1: [api] username: there is no such key here: it belongs to [pool] or \
                 [fleet.template]",
            ],
        );
    }

    #[test]
    fn wrong_types_and_ranges_say_what_is_allowed() {
        for (text, expected) in [
            (
                "watch.all = 1",
                "1:7: [watch] all = 1: true or false is needed; allowed true or false",
            ),
            ("watch.comm = \"a\"", "1:7: [watch] comm = \"a\": a list of names is needed"),
            (
                "watch.comm = [\"0123456789abcdef\"]",
                "1:15: [watch] comm = \"0123456789abcdef\": allowed names",
            ),
            ("watch.comm = [\"\"]", "1:15: [watch] comm = \"\": allowed names of 1 to 15 bytes"),
            (
                "watch.unit = [\"a.socket\"]",
                "1:15: [watch] unit = \"a.socket\": allowed names of systemd",
            ),
            ("watch.unit = [\".service\"]", "1:15: [watch] unit"),
            (
                "watch.cgroup = [\"a\"]",
                "1:17: [watch] cgroup = \"a\": a path in quotes that begins",
            ),
            ("watch.port = [65536]", "1:15: [watch] port = 65536: allowed 1 to 65,535"),
            ("watch.port = [-1]", "1:15: [watch] port = -1: allowed 1 to 65,535"),
            ("watch.port = [1.5]", "1:15: [watch] port = 1.5: a whole number is needed"),
            (
                "watch.layers = \"b\"",
                "1:7: [watch] layers = \"b\": allowed \"auto\", \"a\" or \"ab\"",
            ),
            (
                "watch.snapshot_interval = 10",
                "1:7: [watch] snapshot_interval = 10: a duration in quotes",
            ),
            (
                "watch.snapshot_interval = \"99ms\"",
                "1:7: [watch] snapshot_interval = \"99ms\": allowed 100ms to 1h",
            ),
            ("watch.snapshot_interval = \"3601s\"", "1:7: [watch] snapshot_interval"),
            (
                "watch.ring_bytes = \"3MiB\"",
                "1:7: [watch] ring_bytes = \"3MiB\": allowed a power of two",
            ),
            ("watch.ring_bytes = 32768", "1:7: [watch] ring_bytes = 32768: allowed a power of two"),
            ("watch.ring_bytes = \"8MB\"", "1:7: [watch] ring_bytes = \"8MB\": a number of bytes"),
            (
                "watch.ring_bytes = \"+8MiB\"",
                "1:7: [watch] ring_bytes = \"+8MiB\": a number of bytes",
            ),
            ("watch.ring_bytes = \"99999999999GiB\"", "1:7: [watch] ring_bytes"),
            ("budgets.overlap = \"-1s\"", "1:9: [budgets] overlap = \"-1s\": a duration"),
            (
                "budgets.close_wait = \"1s\"",
                "1:9: [budgets] close_wait: there is no such key; did you mean close-wait?",
            ),
            (
                "api.listen = \"0.0.0.0:1\"",
                "1:5: [api] listen = \"0.0.0.0:1\": allowed a loopback address",
            ),
            (
                "api.listen = \"localhost:1\"",
                "1:5: [api] listen = \"localhost:1\": an IP address and a port",
            ),
            ("api.group = \"a:b\"", "1:5: [api] group = \"a:b\": allowed a name of a group"),
            ("api.max_connections = 0", "1:5: [api] max_connections = 0: allowed"),
            ("api.stream_buffer = 0", "1:5: [api] stream_buffer = 0: allowed"),
            (
                "privileges.user = \"root\"",
                "1:12: [privileges] user = \"root\": allowed a name of a user other",
            ),
            ("privileges.user = \"\"", "1:12: [privileges] user = \"\": allowed"),
            (
                "sinks.journal_socket = \"x\"",
                "1:7: [sinks] journal_socket = \"x\": a path in quotes",
            ),
            ("fleet.file = \"/a.json\"", "1:7: [fleet] file = \"/a.json\": allowed a path"),
            (
                "pool.broker = \"http://a\"",
                "1:6: [pool] broker = \"http\": allowed mqtt://, mqtts://",
            ),
            (
                "pool.broker = \"\\u001b\\u202e\"",
                "1:6: [pool] broker = \"\\u{1b}\\u{202e}\": allowed",
            ),
        ] {
            check_begins(text, &[expected]);
        }
        let long = format!("sinks.journal_socket = \"/{}\"", "x".repeat(107));
        check_begins(&long, &["1:7: [sinks] journal_socket = "]);
        let many = format!("watch.port = [{}]", "1,".repeat(1_001));
        check_begins(&many, &["1:7: [watch] port = a list: at most 1000 items"]);
    }

    #[test]
    fn the_pool_says_what_it_allows() {
        for (text, expected) in [
            (
                "keep_alive = \"1500ms\"",
                "[pool] keep_alive = \"1500ms\": allowed whole seconds from 0",
            ),
            ("keep_alive = \"65536s\"", "[pool] keep_alive"),
            ("version = \"4\"", "[pool] version = \"4\": allowed \"3.1.1\" or \"5\""),
            ("limits.max_in_flight = 0", "[pool.limits] max_in_flight = 0: allowed 1 to 65,535"),
            (
                "limits.min_interval = \"61s\"",
                "[pool.limits] min_interval = \"61s\": allowed 0 (off) to 60 s",
            ),
            (
                "limits.reservoir_amount = 1_000_001",
                "[pool.limits] reservoir_amount = 1000001: allowed 1 to",
            ),
            (
                "limits.adaptive_tolerance = nan",
                "[pool.limits] adaptive_tolerance = nan: allowed 1.0 to 10.0",
            ),
            (
                "timeouts.tcp_user = \"8s\"",
                "[pool.timeouts] tcp_user = \"8s\": allowed 0 (off), or 9 s to 1 hour",
            ),
            (
                "buffers.messages = \"1KiB\"",
                "[pool.buffers] messages = \"1KiB\": allowed 64 KiB to 4 GiB",
            ),
            ("buffers.inflight = 65536", "[pool.buffers] inflight = 65536: allowed 1 to 65,535"),
            ("tls.server_name = \"a b\"", "[pool.tls] server_name = \"a b\": allowed a DNS name"),
            ("sources = [\"a\"]", "[pool] sources = \"a\": an IP address in quotes is needed"),
            ("redirects = [\"*.a:1\"]", "[pool] redirects = \"*.a:1\": allowed host, host:port"),
            ("redirects = [\"A\"]", "[pool] redirects = \"A\": allowed host, host:port"),
            ("redirects = [\"a/\"]", "[pool] redirects = \"a/\": allowed host, host:port"),
            (
                "session_expiry = \"1500ms\"",
                "[pool] session_expiry = \"1500ms\": allowed whole seconds",
            ),
        ] {
            let found = complaints(&in_pool(text));
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].starts_with("3:"), "{found:?}");
            assert!(found[0].contains(expected), "{found:?}");
        }
    }

    #[test]
    fn parts_of_a_device_are_complained_about_by_themselves() {
        let text = "broker = \"mqtt://a\"\n[fleet.template]\nclient_id = \"same\"\n\
                    will = { topic = \"a/#\" }\nsubscriptions = [{ filter = \"a\", qos = 3 }, { filter = \"\" }, 5, { x = 1 }]\n";
        check_begins(
            &format!("[pool]\n{text}"),
            &[
                "4:1: [fleet.template] client_id = \"same\": allowed a text with {id}",
                "5:1: [fleet.template] will = \"a/#\": allowed",
                "6:40: [fleet.template] subscriptions = 3: allowed a list of",
                "6:45: [fleet.template] subscriptions = nothing: allowed 1 to 65,535 bytes",
                "6:62: [fleet.template] subscriptions = 5: a table such as",
                "6:67: [fleet.template] subscriptions = \"x\": a table such as",
            ],
        );
    }

    #[test]
    fn what_is_no_toml_is_told_beside_the_rest_and_once_a_line() {
        check_begins(
            "[watch]\ncomm = [\"a\nall = maybe maybe\n[sinks]\nupdate_interval = 1\nupdate_interval = 2\n",
            &["2:11: : this is no TOML: ", "3:", "4:", "5:", "6:"],
        );
        check(
            "[watch]\nall = yes\n[sinks]\nupdate_interval = 1\n[api]\nmax_body = 2\n[sinks]\n",
            &[
                "2:7: : this is no TOML: string values must be quoted, expected literal string",
                "4:1: [sinks] update_interval = 1: a duration in quotes such as \"500ms\", \"10s\" or \
                 \"1m30s\" is needed; allowed 0s (each update) to 24h",
                "6:1: [api] max_body = 2: allowed 1KiB to 256MiB",
                "7:2: : it is there already: remove one of them",
            ],
        );
    }

    #[test]
    fn nothing_is_missed_in_a_torn_file() {
        check_begins(
            "[pool\nbroker = \"mqtts://a\"\n[pool.tls]\nca_file = \"/a\"\n",
            &["1:6: : this is no TOML"],
        );
    }

    #[test]
    fn secrets_are_never_shown() {
        for text in [
            "[pool]\nbroker = \"mqtt://me:hunter2@a\"",
            "[pool]\nbroker = \"hunter2@a\"",
            "[pool]\nbroker = \"mqtt://me:hunter2@a",
            "[pool]\npassword = \"hunter2\"",
            "[fleet.template]\npassword = [\"hunter2\"]",
            "[fleet.template]\npassword = { a = \"hunter2\" }",
            "[fleet.template]\npassword = \"hunter2",
            "[fleet.template]\npassword = hunter2",
            "[fleet.template]\npassword = \"\"\"\nhunter2 \\q \"\"\"",
            "[fleet]\ntemplate = { password = \"hunter2\", subscriptions = [{ filter = \"#/\" }] }",
            "[fleet.template]\npassword = \"hunter2\"",
        ] {
            let complaints = Config::parse(text).expect_err("invariant: wrong");
            let shown = format!("{complaints} {complaints:?}");
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }

    #[test]
    fn a_flood_of_mistakes_is_counted() {
        for (text, least) in [
            ("a=1\n".repeat(20_000), 19_999),
            ((0..20_000).map(|it| format!("key{it}=1\n")).collect::<String>(), 20_000),
            (
                format!(
                    "[watch]\n{}",
                    (0..20_000).map(|it| format!("key{it}=1\n")).collect::<String>()
                ),
                20_000,
            ),
        ] {
            let complaints = Config::parse(&text).expect_err("invariant: wrong");
            assert!(complaints.count() >= least, "{}", complaints.count());
            assert_eq!(complaints.iter().count(), 100);
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in any::<String>()) {
            let _any = Config::parse(&text).map_err(|it| it.to_string());
        }

        #[test]
        fn no_toml_panics(
            lines in proptest::collection::vec(
                (
                    prop::sample::select(keys().map(|(section, key)| (section.name, key.name)).collect::<Vec<_>>()),
                    prop_oneof![
                        Just("\"\"".to_owned()),
                        Just("[]".to_owned()),
                        Just("{}".to_owned()),
                        any::<i64>().prop_map(|it| it.to_string()),
                        any::<f64>().prop_map(|it| format!("{it:?}")),
                        any::<u32>().prop_map(|it| format!("\"{it}ms\"")),
                        any::<u32>().prop_map(|it| format!("[{it}, \"{it}\"]")),
                        "\\PC{0,12}",
                        "\"[ -!#-~]{0,12}\"",
                    ],
                    "[ \t\r\n]{0,2}",
                ),
                0..12,
            )
        ) {
            let text: String = lines
                .iter()
                .map(|((section, key), value, gap)| format!("{section}.{key} = {value}{gap}\n"))
                .collect();
            let _any = Config::parse(&text).map_err(|it| it.to_string());
        }
    }
}

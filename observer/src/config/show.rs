//! PURE. The config as it is in effect, as a file that says the same.

use std::fmt::Write as _;

use super::{
    Config,
    key::{Key, Section},
    keys::sections,
    written::{Written, WrittenLimits},
};

/// All keys with their values in TOML, with a mark at those that have their default. Secrets are left
/// out, and of a config without a pool what only a pool has.
///
/// Without secrets, [`Config::parse`] makes the same config of it.
pub fn show(config: &Config) -> String {
    let mut written = Written::from(config);
    let mut usual = Written::default();
    let profile = written.pool.limits.profile;
    // The profile has a default, and what follows from it is the default of the other limits.
    let follows = WrittenLimits::new(profile, &profile.limits());
    usual.pool.limits = WrittenLimits { profile: usual.pool.limits.profile, ..follows };
    let mut page = String::new();
    for section in sections() {
        if section.repeats.is_some() {
            for rule in written.rules.clone() {
                written.rule = rule;
                let lines = lines_of_table(section, &mut written, &mut usual).join("\n");
                let gap = if page.is_empty() { "" } else { "\n" };
                writeln!(page, "{gap}{}\n{lines}", section.title())
                    .expect("invariant: a string takes everything");
            }
            continue;
        }
        let lines: Vec<Line> = section
            .keys
            .iter()
            .filter(|key| config.pool.is_some() || !is_of_pool_only(section, key))
            .map(|key| line(key, &mut written, &mut usual))
            .collect();
        if lines.is_empty() {
            continue;
        }
        let gap = if page.is_empty() { "" } else { "\n" };
        let width = lines.iter().filter(|line| line.width() <= MOST).map(Line::width).max();
        let width = width.unwrap_or_default();
        writeln!(page, "{gap}[{}]", section.name).expect("invariant: a string takes everything");
        for Line { text, usual } in lines {
            if usual {
                writeln!(page, "{text:width$}  # default")
            } else {
                writeln!(page, "{text}")
            }
            .expect("invariant: a string takes everything");
        }
    }
    page
}

/// Marks are aligned behind lines up to this width, in characters.
const MOST: usize = 50;

/// The keys of one table of a section that repeats, without those that have their default.
pub(super) fn lines_of_table(
    section: &Section,
    written: &mut Written,
    usual: &mut Written,
) -> Vec<String> {
    let lines = section.keys.iter().map(|key| line(key, written, usual));
    lines.filter(|line| !line.usual).map(|line| line.text).collect()
}

struct Line {
    text: String,
    usual: bool,
}

impl Line {
    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

fn line(key: &Key, written: &mut Written, usual: &mut Written) -> Line {
    let (value, default) = (key.place.write(written), key.place.write(usual));
    let usual = value == default;
    let text = match key.place.is_secret() && !usual {
        true => format!("# {} is set, and not shown", key.name),
        false => format!("{} = {value}", key.name),
    };
    Line { text, usual }
}

/// Whether it would be a mistake without a broker.
fn is_of_pool_only(section: &Section, key: &Key) -> bool {
    section.name.starts_with("pool") && key.name != "broker"
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{prelude::*, sample::subsequence};

    #[track_caller]
    fn check_comes_back(text: &str) {
        let config = Config::parse(text).unwrap_or_else(|it| panic!("{text}\n{it}"));
        let shown = show(&config);
        let again = Config::parse(&shown).unwrap_or_else(|it| panic!("{shown}\n{it}"));
        assert_eq!(again, config, "{shown}");
    }

    #[test]
    fn what_is_default_is_marked() {
        let config = Config::parse(
            "watch.comm = [\"node\"]\n[pool]\nbroker = \"mqtt://a\"\nusername = \"me\"\n\
             [pool.limits]\nprofile = \"adaptive\"\nmax_in_flight = 20\n\
             [fleet.template]\npassword = \"hunter2\"\n",
        );
        let shown = show(&config.expect("invariant: valid"));
        let lines: Vec<String> = shown
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        for line in [
            "comm = [\"node\"]",
            "all = false # default",
            "close-wait = \"10s\" # default",
            "broker = \"mqtt://a:1883\"",
            "profile = \"adaptive\"",
            "max_in_flight = 20",
            "adaptive_initial = 16 # default",
            "reservoir_amount = 0 # default",
            "# password is set, and not shown",
        ] {
            assert!(lines.iter().any(|it| it == line), "{line} is not in\n{shown}");
        }
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn a_config_without_a_pool_comes_back() {
        check_comes_back("");
        check_comes_back("api.listen = \"off\"\nbudgets.ghost = \"1m30s\"");
        let shown = show(&Config::default());
        assert!(!shown.contains("[pool.tls]") && shown.contains("broker = \"\""), "{shown}");
    }

    /// Lines of which any choice is a config together with a broker behind TLS and MQTT 5.
    const LINES: [&str; 45] = [
        "watch.comm = [\"a b\", \"\\u00e9\\\"\\\\\"]",
        "watch.unit = [\"a@b.service\"]",
        "watch.cgroup = [\"/a\", \"/b\"]",
        "watch.port = [1, 65535]",
        "watch.children = true",
        "watch.layers = \"ab\"",
        "watch.snapshot_interval = \"1m1s1ms\"",
        "watch.ring_bytes = 131072",
        "watch.max_sockets = 7",
        "watch.stacks = true",
        "budgets.close-wait = \"0s\"",
        "budgets.unreleased = \"24h\"",
        "pool.keep_alive = \"0s\"",
        "pool.clean_start = true",
        "pool.session_expiry = \"8760h\"",
        "pool.username = \"me\\u202e\"",
        "pool.sources = [\"::1\", \"127.0.0.1\"]",
        "pool.redirects = [\"*.a\", \"b:1\"]",
        "pool.descriptor_headroom = 5",
        "pool.tls.ca_file = \"/ca\"",
        "pool.tls.alpn = [\"mqtt\"]",
        "pool.tls.server_name = \"b\"",
        "pool.limits.min_interval = \"1us\"",
        "pool.limits.max_in_flight = 9",
        "pool.limits.reservoir_amount = 4",
        "pool.limits.adaptive_initial = 3",
        "pool.limits.connect_spacing = \"0s\"",
        "pool.timeouts.close = \"0s\"",
        "pool.timeouts.tcp_user = \"9s\"",
        "pool.buffers.max_packet = 129",
        "pool.buffers.messages = \"4GiB\"",
        "pool.buffers.overflow = \"drop\"",
        "pool.buffers.inflight = 1",
        "fleet.file = \"/a.csv\"",
        "fleet.store = \"/s\"",
        "fleet.template.client_id = \"{id}-\\u0007\"",
        "fleet.template.will = { topic = \"a/{id}\", payload = \"\\n\", qos = 2 }",
        "fleet.template.subscriptions = [{ filter = \"#\" }, { filter = \"a\", qos = 1 }]",
        "sinks.update_interval = \"0s\"",
        "api.listen = \"[::1]:0\"",
        "api.max_body = 1025",
        "thresholds.takeovers = 7",
        "thresholds.fleets = [\"10.0.0.1:1883=12000\", \"[::1]:8883=1\"]",
        "thresholds.low_limit = 0",
        "rules = [{ comm = \"a*\\\"\", budget = \"0s\" }, { kinds = [\"ghost\", \"close-wait\"], \
         unit = \"a*.service\", container = \"gate?\", \
         destination = \"[2001:db8::/32]:7\", ignore = \"why \\u202e\", until = 2027-01-31 }]",
    ];

    proptest! {
        #[test]
        fn what_is_shown_is_read_as_the_same(
            lines in subsequence(LINES.to_vec(), 0..LINES.len()),
            profile in prop::sample::select(vec!["article", "paced", "adaptive"]),
        ) {
            let start = format!(
                "pool.broker = \"wss://a/x?y\"\npool.version = \"5\"\npool.limits.profile = \"{profile}\"\n"
            );
            let text = start + &lines.join("\n");
            check_comes_back(&text);
        }
    }
}

//! PURE. What does not fit together, though each value alone would.

use jiff::{SignedDuration, Timestamp};

use super::{
    Fleet, Tls,
    parse::{Given, Name},
    written::{Written, WrittenPool, WrittenRule},
};

/// Longest time that a rule may ignore something: a leap year.
const LONGEST_IGNORED: SignedDuration = SignedDuration::from_hours(366 * 24);

/// All contradictions: the key that each is said about, and what is wrong.
///
/// Nothing is said where a key that decides has a wrong value: who corrects that may be done.
pub(super) fn contradictions(written: &Written, given: &Given) -> Vec<(Name, String)> {
    let mut rules = Rules { given, contradictions: Vec::new() };
    rules.of_watch(written);
    rules.of_broker(written);
    rules.of_version(&written.pool);
    rules.of_credentials(written);
    rules.of_tls(&written.pool);
    rules.of_limits(&written.pool);
    rules.of_template(written);
    rules.contradictions
}

/// What does not fit together in one of `[[rules]]`: the key that each is said about. `now`, if the
/// time is to be looked at.
pub(super) fn of_rule(
    rule: &WrittenRule,
    given: &Given,
    now: Option<Timestamp>,
) -> Vec<(&'static str, String)> {
    let mut rules = Rules { given, contradictions: Vec::new() };
    let name = |key| ("rules", key);
    let (budget, ignore, until) = (name("budget"), name("ignore"), name("until"));
    let WrittenRule { kinds, comm, unit, container, destination, .. } = rule;
    let names_none = comm.is_none() && unit.is_none() && container.is_none();
    let is_about_all = kinds.is_empty() && names_none && destination.is_none();
    rules.rule(
        is_about_all,
        &["kinds", "comm", "unit", "container", "destination"].map(name),
        "it would be about everything: name kinds, comm, unit, container or destination; [budgets] \
         is for all",
    );
    match (rule.budget, &rule.ignore, rule.until) {
        (None, None, _) => rules.rule(
            true,
            &[budget, ignore],
            "it does nothing: set budget, or ignore with a reason and until",
        ),
        (Some(_), Some(_), _) => {
            rules.rule(true, &[ignore, budget], "it has a budget too: remove the one or the other");
        }
        (Some(_), None, Some(_)) => {
            rules.rule(true, &[until, budget], "a budget has no end: remove until");
        }
        (None, Some(_), None) => rules.rule(
            true,
            &[until, ignore],
            "what is ignored needs an end: set until, to a date at most a year ahead",
        ),
        (Some(_), None, None) | (None, Some(_), Some(_)) => {}
    }
    let is_far =
        |now: Timestamp| rule.until.is_some_and(|it| it.duration_since(now) > LONGEST_IGNORED);
    rules.rule(now.is_some_and(is_far), &[until], "allowed at most a year ahead");
    rules.contradictions.into_iter().map(|((_, key), problem)| (key, problem)).collect()
}

struct Rules<'a> {
    given: &'a Given,
    contradictions: Vec<(Name, String)>,
}

impl Rules<'_> {
    /// `deciding`: the keys that make it `broken`; the first that the file has is complained about.
    fn rule(&mut self, broken: bool, deciding: &[Name], problem: impl Into<String>) {
        if broken && !deciding.iter().any(|name| self.given.is_wrong(*name)) {
            let given = deciding.iter().find(|name| self.given.has(**name));
            self.contradictions.push((*given.unwrap_or(&deciding[0]), problem.into()));
        }
    }

    fn of_watch(&mut self, written: &Written) {
        let watch = &written.watch;
        for (key, named) in [
            ("comm", !watch.comm.is_empty()),
            ("unit", !watch.unit.is_empty()),
            ("cgroup", !watch.cgroup.is_empty()),
            ("port", !watch.port.is_empty()),
        ] {
            let problem = "all = true watches every process: remove the one or the other";
            self.rule(watch.all && named, &[("watch", key), ("watch", "all")], problem);
        }
    }

    fn of_broker(&mut self, written: &Written) {
        let none = written.pool.broker.is_none();
        let beside = |name: Name| name != BROKER && is_below(name.0, "pool");
        if let Some(first) = self.given.first(beside).filter(|_| none) {
            let problem = "the keys of [pool] need a broker: set broker in [pool]";
            self.rule(true, &[first, BROKER], problem);
        }
        let devices = written.fleet != Fleet::default();
        let first = self.given.first(|name| is_below(name.0, "fleet"));
        if let Some(first) = first.filter(|_| none && devices) {
            self.rule(true, &[first, BROKER], "devices need a pool: set broker in [pool]");
        }
    }

    fn of_version(&mut self, pool: &WrittenPool) {
        let old = pool.version == pool::Version::V311;
        let problem = "it has no effect in MQTT 3.1.1: set version = \"5\", or remove it";
        let expiry = pool.session_expiry != WrittenPool::default().session_expiry;
        let version = ("pool", "version");
        self.rule(old && expiry, &[("pool", "session_expiry"), version], problem);
        self.rule(old && !pool.redirects.is_empty(), &[("pool", "redirects"), version], problem);
    }

    fn of_template(&mut self, written: &Written) {
        let first = self.given.first(|name| name.0 == "fleet.template");
        if let (Some(first), Err(error)) = (first, written.fleet.template.check()) {
            self.rule(true, &[first], error.to_string());
        }
    }

    fn of_credentials(&mut self, written: &Written) {
        let (pool, template) = (&written.pool, &written.fleet.template);
        let nobody = pool.username.is_none();
        let (user, file) = (("pool", "username"), ("pool", "password_file"));
        let problem = "a password needs a user name: set username in [pool]";
        self.rule(nobody && pool.password_file.is_some(), &[file, user], problem);
        let broken = nobody && template.username.is_none() && template.password.is_some();
        let (own, password) = (("fleet.template", "username"), ("fleet.template", "password"));
        let problem = "a password needs a user name: set username in [fleet.template] or [pool]";
        self.rule(broken, &[password, own, user], problem);
    }

    fn of_tls(&mut self, pool: &WrittenPool) {
        let Tls { client_certificate, client_key, .. } = &pool.tls;
        let (certificate, key) = (("pool.tls", "client_certificate"), ("pool.tls", "client_key"));
        for (one, other, names, problem) in [
            (client_certificate, client_key, [certificate, key], "it needs client_key beside it"),
            (
                client_key,
                client_certificate,
                [key, certificate],
                "it needs client_certificate beside it",
            ),
        ] {
            self.rule(one.is_some() && other.is_none(), &names, problem);
        }
        // The address in its shown form has `mqtts` for all names of that.
        let shown = pool.broker.as_ref().map(pool::Broker::to_string);
        let open = shown.is_some_and(|it| it.starts_with("mqtt:") || it.starts_with("ws:"));
        let first = self.given.first(|name| name.0 == "pool.tls");
        if let Some(first) = first.filter(|_| open && pool.tls != Tls::default()) {
            let problem = "the broker is not behind TLS: write mqtts:// or wss:// in broker of \
                [pool], or remove what is in [pool.tls]";
            self.rule(true, &[first, BROKER], problem);
        }
    }

    fn of_limits(&mut self, pool: &WrittenPool) {
        const SECTION: &str = "pool.limits";
        let (written, limits) = (&pool.limits, pool.limits.limits());
        let profile = (SECTION, "profile");
        for (key, given) in [
            ("reservoir_refresh_amount", written.reservoir_refresh_amount.is_some()),
            ("reservoir_refresh_interval", written.reservoir_refresh_interval.is_some()),
        ] {
            let broken = given && limits.reservoir.is_none();
            let problem = "there is no reservoir: set reservoir_amount, or remove it";
            self.rule(broken, &[(SECTION, key), (SECTION, "reservoir_amount"), profile], problem);
        }
        let (initial, tolerance) = ((SECTION, "adaptive_initial"), (SECTION, "adaptive_tolerance"));
        let broken = written.adaptive_tolerance.is_some() && limits.adaptive.is_none();
        let problem = "the number in flight does not follow the broker: set adaptive_initial, or \
            remove it";
        self.rule(broken, &[tolerance, initial, profile], problem);
        // Each value is in its range, so what the pool still refuses is about two of them.
        if let Err(error) = limits.check() {
            let problem =
                format!("it does not fit max_in_flight = {}: {error}", limits.max_in_flight);
            self.rule(true, &[initial, (SECTION, "max_in_flight"), profile], problem);
        }
    }
}

const BROKER: Name = ("pool", "broker");

/// Whether `section` is `above` or a part of it.
fn is_below(section: &str, above: &str) -> bool {
    section.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    const BROKER: &str = "pool.broker = \"mqtt://a\"\n";
    const SECURE: &str = "pool.broker = \"mqtts://a\"\n";

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let found = match Config::parse(text) {
            Ok(_) => Vec::new(),
            Err(complaints) => {
                complaints.iter().map(|it| format!("{}: {}", it.subject(), it.problem())).collect()
            }
        };
        assert_eq!(found.len(), expected.len(), "{text}: {found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.contains(expected), "{text}: {found}");
        }
    }

    #[test]
    fn all_and_names_exclude_each_other() {
        check("watch = { all = true, children = true }", &[]);
        for list in ["comm = [\"a\"]", "unit = [\"a.service\"]", "cgroup = [\"/a\"]", "port = [1]"]
        {
            check(&format!("watch.all = false\nwatch.{list}"), &[]);
            check(
                &format!("watch.all = true\nwatch.{list}"),
                &["all = true watches every process"],
            );
        }
    }

    #[test]
    fn without_a_broker_there_is_no_pool() {
        check("pool.broker = \"\"", &[]);
        check(
            "pool.clean_start = true\npool.limits.max_in_flight = 1",
            &["[pool] clean_start: the keys of [pool] need a broker"],
        );
        check(
            "pool.broker = \"\"\npool.buffers.outbox = 1",
            &["[pool.buffers] outbox: the keys of [pool] need"],
        );
        check("pool.broker = \"x\"\npool.buffers.outbox = 1", &["[pool] broker = \"x\": allowed"]);
        check("fleet.file = \"/a.csv\"", &["[fleet] file: devices need a pool"]);
        check(
            "fleet.template.keep_alive = \"1s\"",
            &["[fleet.template] keep_alive: devices need a pool"],
        );
        check("fleet.template.subscriptions = []", &[]);
        check(&format!("{BROKER}fleet.file = \"/a.csv\""), &[]);
    }

    #[test]
    fn what_only_mqtt_5_has_needs_mqtt_5() {
        for key in ["session_expiry = \"2h\"", "redirects = [\"a\"]"] {
            check(&format!("{BROKER}pool.{key}"), &["it has no effect in MQTT 3.1.1"]);
            check(&format!("{BROKER}pool.version = \"5\"\npool.{key}"), &[]);
            check(&format!("{BROKER}pool.version = \"6\"\npool.{key}"), &["[pool] version"]);
        }
        check(&format!("{BROKER}pool.session_expiry = \"1h\""), &[]);
    }

    #[test]
    fn a_password_needs_a_user_name() {
        let file = format!("{BROKER}pool.password_file = \"/p\"\n");
        check(&file, &["[pool] password_file: a password needs a user name"]);
        check(&format!("{file}pool.username = \"me\""), &[]);
        let own = format!("{BROKER}fleet.template.password = \"p\"\n");
        check(&own, &["[fleet.template] password: a password needs a user name"]);
        check(&format!("{own}fleet.template.username = \"me\""), &[]);
        check(&format!("{own}pool.username = \"me\""), &[]);
    }

    #[test]
    fn tls_is_whole_and_behind_tls() {
        let (chain, key) =
            ("pool.tls.client_certificate = \"/c\"\n", "pool.tls.client_key = \"/k\"\n");
        check(&format!("{SECURE}{chain}"), &["[pool.tls] client_certificate: it needs client_key"]);
        check(&format!("{SECURE}{key}"), &["[pool.tls] client_key: it needs client_certificate"]);
        check(&format!("{SECURE}{chain}{key}"), &[]);
        check(
            &format!("{BROKER}{chain}{key}"),
            &["[pool.tls] client_certificate: the broker is not behind TLS"],
        );
        check(&format!("{BROKER}pool.tls.ca_file = \"\""), &[]);
        check(
            "pool.broker = \"ws://a\"\npool.tls.ca_file = \"/a\"",
            &["the broker is not behind TLS"],
        );
        check("pool.broker = \"wss://a\"\npool.tls.ca_file = \"/a\"", &[]);
    }

    #[test]
    fn limits_fit_together() {
        let limits = |text: &str| format!("{BROKER}[pool.limits]\n{text}");
        for key in ["reservoir_refresh_amount = 1", "reservoir_refresh_interval = \"1s\""] {
            check(&limits(key), &["there is no reservoir"]);
            check(&limits(&format!("{key}\nprofile = \"article\"")), &[]);
            check(&limits(&format!("{key}\nreservoir_amount = 1")), &[]);
            check(
                &limits(&format!("{key}\nprofile = \"article\"\nreservoir_amount = 0")),
                &["there is no"],
            );
        }
        check(&limits("adaptive_tolerance = 2"), &["the number in flight does not follow"]);
        check(&limits("adaptive_tolerance = 2\nadaptive_initial = 1"), &[]);
        check(
            &limits("adaptive_initial = 81"),
            &["[pool.limits] adaptive_initial: it does not fit max_in_flight = 80"],
        );
        check(&limits("adaptive_initial = 81\nmax_in_flight = 81"), &[]);
        check(&limits("profile = \"adaptive\"\nmax_in_flight = 3"), &[]);
    }
}

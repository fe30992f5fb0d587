//! Who wants which topic: a tree of the levels of all filters (MQTT 3.1.1 §4.7).

use crate::message::QoS;
use std::collections::HashMap;
use std::sync::Arc;

/// One client at one filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Subscriber {
    pub(super) client: Arc<str>,
    pub(super) qos: QoS,
    /// MQTT 5: not for what the client publishes itself.
    pub(super) no_local: bool,
    /// MQTT 5: the RETAIN flag stays as it was published.
    pub(super) keep_retain: bool,
}

/// All filters of all clients.
#[derive(Debug, Default)]
pub(super) struct Topics {
    root: Node,
}

#[derive(Debug, Default)]
struct Node {
    /// By level, with the wildcards as levels of their own. Never iterated over, so that the
    /// order of matches depends on nothing random.
    children: HashMap<Box<str>, Node>,
    subscribers: Vec<Subscriber>,
}

impl Topics {
    /// Adds it, or replaces what the client has at this filter.
    pub(super) fn insert(&mut self, filter: &str, subscriber: Subscriber) {
        let mut node = &mut self.root;
        for level in filter.split('/') {
            // Looked up twice rather than allocated each time: most levels are there already.
            if !node.children.contains_key(level) {
                node.children.insert(level.into(), Node::default());
            }
            node = node.children.get_mut(level).expect("invariant: inserted above");
        }
        match node.subscribers.iter_mut().find(|one| one.client == subscriber.client) {
            Some(one) => *one = subscriber,
            None => node.subscribers.push(subscriber),
        }
    }

    /// Removes what the client has at this filter.
    pub(super) fn remove(&mut self, filter: &str, client: &str) {
        self.root.remove(filter.split('/'), client);
    }

    /// Each client once, with the best quality of service of its matching filters.
    pub(super) fn matches(&self, topic: &str) -> Vec<Subscriber> {
        let mut found = Vec::new();
        let levels: Vec<&str> = topic.split('/').collect();
        // Wildcards in the first level are not for topics of the broker itself [MQTT-4.7.2-1].
        self.root.collect(&levels, topic.starts_with('$'), &mut found);
        if found.len() > 1 {
            merge(&mut found);
        }
        found
    }
}

impl Node {
    fn remove<'a>(&mut self, mut levels: impl Iterator<Item = &'a str>, client: &str) {
        let Some(level) = levels.next() else {
            self.subscribers.retain(|one| *one.client != *client);
            return;
        };
        if let Some(child) = self.children.get_mut(level) {
            child.remove(levels, client);
            if child.children.is_empty() && child.subscribers.is_empty() {
                self.children.remove(level);
            }
        }
    }

    fn collect(&self, levels: &[&str], literal_only: bool, found: &mut Vec<Subscriber>) {
        if !literal_only && let Some(rest) = self.children.get("#") {
            // It matches the parent too: "a/#" is for "a" [MQTT 3.1.1 §4.7.1.2].
            found.extend_from_slice(&rest.subscribers);
        }
        let Some((level, deeper)) = levels.split_first() else {
            found.extend_from_slice(&self.subscribers);
            return;
        };
        if let Some(child) = self.children.get(*level) {
            child.collect(deeper, false, found);
        }
        if !literal_only && let Some(child) = self.children.get("+") {
            child.collect(deeper, false, found);
        }
    }
}

fn merge(found: &mut Vec<Subscriber>) {
    found.sort_by(|a, b| a.client.cmp(&b.client).then(b.qos.cmp(&a.qos)));
    found.dedup_by(|later, first| {
        let same = later.client == first.client;
        if same {
            first.no_local &= later.no_local;
            first.keep_retain |= later.keep_retain;
        }
        same
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Subscription;
    use proptest::prelude::*;

    fn subscriber(client: &str, qos: QoS) -> Subscriber {
        Subscriber { client: client.into(), qos, no_local: false, keep_retain: false }
    }

    #[track_caller]
    fn check(filter: &str, topic: &str, expected: bool) {
        let mut topics = Topics::default();
        topics.insert(filter, subscriber("c", QoS::AtLeastOnce));
        assert_eq!(!topics.matches(topic).is_empty(), expected, "{filter} for {topic}");
    }

    #[test]
    fn filters_match_as_in_the_standard() {
        check("a/b", "a/b", true);
        check("a/b", "a/b/c", false);
        check("a/b", "a", false);
        check("sport/tennis/player1/#", "sport/tennis/player1", true);
        check("sport/tennis/player1/#", "sport/tennis/player1/ranking", true);
        check("sport/tennis/player1/#", "sport/tennis", false);
        check("#", "a/b", true);
        check("+", "a", true);
        check("+", "a/b", false);
        check("+", "/a", false);
        check("+/+", "/finance", true);
        check("/+", "/finance", true);
        check("sport/+", "sport", false);
        check("sport/+", "sport/", true);
        check("a/+/c", "a//c", true);
        check("#", "$SYS/x", false);
        check("+/x", "$SYS/x", false);
        check("$SYS/#", "$SYS/x", true);
        check("$SYS/+", "$SYS/x", true);
    }

    #[test]
    fn a_client_with_two_matching_filters_gets_one_message_with_the_best_qos() {
        let mut topics = Topics::default();
        topics.insert("a/#", subscriber("c", QoS::AtMostOnce));
        topics.insert("a/b", subscriber("c", QoS::ExactlyOnce));
        topics.insert("+/b", subscriber("d", QoS::AtLeastOnce));
        let found = topics.matches("a/b");
        assert_eq!(found, [subscriber("c", QoS::ExactlyOnce), subscriber("d", QoS::AtLeastOnce)]);
    }

    #[test]
    fn a_second_subscription_to_a_filter_replaces_the_first() {
        let mut topics = Topics::default();
        topics.insert("a", subscriber("c", QoS::ExactlyOnce));
        topics.insert("a", subscriber("c", QoS::AtMostOnce));
        assert_eq!(topics.matches("a"), [subscriber("c", QoS::AtMostOnce)]);
    }

    proptest! {
        #[test]
        fn removing_all_filters_leaves_nothing(
            filters in prop::collection::vec("[ab+/]{1,5}#?", 1..20),
            topic in "[ab/]{1,5}",
        ) {
            let mut topics = Topics::default();
            let filters: Vec<_> = filters
                .iter()
                .filter(|filter| Subscription::new(filter, QoS::AtMostOnce).is_ok())
                .collect();
            for filter in &filters {
                topics.insert(filter, subscriber("c", QoS::AtMostOnce));
            }
            let expected = filters.iter().any(|filter| by_hand(filter, &topic));
            prop_assert_eq!(!topics.matches(&topic).is_empty(), expected);
            for filter in &filters {
                topics.remove(filter, "c");
            }
            prop_assert!(topics.root.children.is_empty());
        }
    }

    /// The rule of the standard without a tree.
    fn by_hand(filter: &str, topic: &str) -> bool {
        let (filter, topic): (Vec<_>, Vec<_>) =
            (filter.split('/').collect(), topic.split('/').collect());
        for (index, level) in filter.iter().enumerate() {
            match (*level, topic.get(index)) {
                ("#", _) => return topic.len() >= index,
                ("+", Some(_)) => {}
                (literal, Some(here)) if literal == *here => {}
                _ => return false,
            }
        }
        filter.len() == topic.len()
    }
}

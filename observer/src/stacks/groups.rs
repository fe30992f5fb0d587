//! PURE. Leaks that come from one place, together: "214 of 220 leaked sockets were opened here".

use std::collections::BTreeMap;

use serde::Serialize;

use crate::escape;

/// Groups that are told, the largest first. Chosen: a screen; one or two places leak.
pub const MOST: usize = 10;

/// Open findings of one kind and process whose sockets were opened at one place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Group {
    /// The kind of finding.
    pub kind: String,
    /// The process.
    pub pid: u32,
    /// Its name.
    pub comm: String,
    /// The place: function, and file and line where known.
    pub site: String,
    /// How many sockets were opened there.
    pub here: u64,
    /// How many sockets of that process have such a finding in all, those of which no stack is
    /// known included.
    pub of: u64,
}

impl Group {
    /// For people.
    pub fn text(&self) -> String {
        let comm = escape::short(&self.comm, 64);
        let comm = if comm.is_empty() { "a process".into() } else { comm };
        let noun = if self.of == 1 { "socket" } else { "sockets" };
        let were = if self.here == 1 { "was" } else { "were" };
        format!(
            "{} of {} leaked {noun} of {comm} (pid {}) {were} opened here: {} ({})",
            self.here,
            self.of,
            self.pid,
            escape::short(&self.site, 300),
            escape::short(&self.kind, 64)
        )
    }
}

/// Puts together findings that are about sockets: kind, process with its name, and place where
/// known.
pub fn group<'a>(
    findings: impl Iterator<Item = (&'a str, u32, &'a str, Option<String>)>,
) -> Vec<Group> {
    let mut totals: BTreeMap<(&str, u32), u64> = BTreeMap::new();
    let mut places: BTreeMap<(&str, u32, String), (u64, &str)> = BTreeMap::new();
    for (kind, pid, comm, site) in findings {
        *totals.entry((kind, pid)).or_default() += 1;
        if let Some(site) = site {
            places.entry((kind, pid, site)).or_insert((0, comm)).0 += 1;
        }
    }
    let group = |((kind, pid, site), (here, comm)): ((&str, u32, String), (u64, &str))| Group {
        kind: kind.to_owned(),
        pid,
        comm: comm.to_owned(),
        site,
        here,
        of: totals.get(&(kind, pid)).copied().unwrap_or(here),
    };
    let mut groups: Vec<Group> = places.into_iter().map(group).collect();
    // Stable: equal ones stay in the order of kind, process and place.
    groups.sort_by_key(|group| std::cmp::Reverse(group.here));
    groups.truncate(MOST);
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_opened_at_one_place_is_counted_together() {
        let at = |kind, pid, site: Option<&str>| (kind, pid, "node", site.map(str::to_owned));
        let mut findings = vec![at("close-wait", 1, Some("lease (m.c:12)")); 214];
        findings.extend(vec![at("close-wait", 1, None); 5]);
        findings.push(at("close-wait", 1, Some("other (m.c:40)")));
        findings.push(at("dead-fd", 1, Some("lease (m.c:12)")));
        findings.push(at("close-wait", 2, None));
        let texts: Vec<String> = group(findings.into_iter()).iter().map(Group::text).collect();
        let expected = [
            "214 of 220 leaked sockets of node (pid 1) were opened here: lease (m.c:12) (close-wait)",
            "1 of 220 leaked sockets of node (pid 1) was opened here: other (m.c:40) (close-wait)",
            "1 of 1 leaked socket of node (pid 1) was opened here: lease (m.c:12) (dead-fd)",
        ];
        assert_eq!(texts, expected);
    }

    #[test]
    fn groups_are_bounded_and_the_largest_stay() {
        let findings = (0..1_000u32).flat_map(|place| {
            (0..=place % 50).map(move |_| ("dead-fd", 1, "x", Some(format!("f{place}"))))
        });
        let groups = group(findings);
        assert_eq!(groups.len(), MOST);
        assert!(groups.iter().all(|group| group.here == 50), "{groups:?}");
    }

    #[test]
    fn hostile_names_are_made_safe() {
        let group = group([("dead-fd", 1, "\x1b[2J", Some("a\nb".to_owned()))].into_iter());
        let text = group[0].text();
        assert!(!text.contains(char::is_control), "{text}");
    }
}

//! Patterns for where processes run: systemd units and containers.

use std::{fmt, str::FromStr};

use super::Glob;
use crate::cgroup::CONTAINER_ID;

/// Longest name of a unit (UNIT_NAME_MAX of systemd counts the zero at the end), and so the longest
/// pattern; a name of LXC is shorter.
const LONGEST: usize = 255;

/// Fewest digits that stand for a container's id: as many as Docker and Podman show.
const FEWEST_DIGITS: usize = 12;

/// What the names of units end in: no other units have processes of their own.
const ENDINGS: [&str; 2] = [".service", ".scope"];

/// A pattern for the names of systemd units.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitGlob(Glob);

/// A pattern for containers: the beginning of an id, or a [`Glob`] for an id or a name of LXC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerGlob {
    glob: Glob,
    /// The pattern is the first digits of an id.
    is_beginning: bool,
}

impl UnitGlob {
    /// Whether `unit` is such a unit.
    pub fn matches(&self, unit: &str) -> bool {
        self.0.matches(unit)
    }
}

impl ContainerGlob {
    /// Whether `container` is such a container.
    pub fn matches(&self, container: &str) -> bool {
        match self.is_beginning {
            true => container.starts_with(self.glob.as_str()),
            false => self.glob.matches(container),
        }
    }
}

impl FromStr for UnitGlob {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let glob = Glob::new(text, LONGEST).ok_or(
            "a name of 1 to 255 bytes is needed, in which * stands for any characters and ? for one",
        )?;
        let tail: Vec<char> = glob.tail().chars().collect();
        let may_end_in = |ending: &&str| {
            let has_room = tail.len() < text.chars().count() || tail.len() > ending.len();
            let mut last = tail.iter().rev().zip(ending.chars().rev());
            has_room && last.all(|(wanted, found)| *wanted == '?' || *wanted == found)
        };
        match ENDINGS.iter().any(may_end_in) && !text.contains('/') {
            true => Ok(Self(glob)),
            false => Err("it is the name of a service or a scope, so this matches none: write \
                          NAME.service or NAME.scope"),
        }
    }
}

impl FromStr for ContainerGlob {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let glob = Glob::new(text, LONGEST).ok_or(
            "an id or name of 1 to 255 bytes is needed, in which * stands for any characters and ? \
             for one",
        )?;
        let is_hex = |it: &str| it.bytes().all(|byte| byte.is_ascii_hexdigit());
        let is_beginning = is_hex(text);
        match text.len() {
            _ if !is_beginning => Ok(Self { glob, is_beginning }),
            _ if text.bytes().any(|byte| byte.is_ascii_uppercase()) => {
                Err("the digits of an id are small: write a to f")
            }
            FEWEST_DIGITS..=CONTAINER_ID => Ok(Self { glob, is_beginning }),
            0..FEWEST_DIGITS => {
                Err("an id is known by its first 12 digits or more: write them, or \
                                     * for the rest")
            }
            _ => Err("an id has 64 digits, so this matches none"),
        }
    }
}

impl fmt::Display for UnitGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for ContainerGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.glob.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "3f4c1b0e9d8a7f6e5d4c3b2a190817263544536271809f8e7d6c5b4a39281706";

    #[test]
    fn units_are_named_as_systemd_names_them() {
        for (pattern, yes, no) in [
            ("nginx.service", &["nginx.service"][..], &["nginx.scope", "anginx.service", ""][..]),
            ("*.service", &["a.service", "a@b.service"], &["a.scope"]),
            ("worker@*", &["worker@1.service", "worker@x.scope"], &["worker.service"]),
            ("docker-*.scope", &["docker-3f.scope"], &["docker-3f.service"]),
            ("a?.service", &["ab.service"], &["a.service", "abc.service"]),
        ] {
            let glob: UnitGlob = pattern.parse().expect("invariant: a pattern");
            for unit in yes {
                assert!(glob.matches(unit), "{pattern} {unit}");
            }
            for unit in no {
                assert!(!glob.matches(unit), "{pattern} {unit}");
            }
        }
    }

    #[test]
    fn a_unit_that_no_process_has_is_refused() {
        for (text, right) in [
            ("", false),
            ("nginx", false),
            ("nginx.socket", false),
            ("*.slice", false),
            ("system.slice/nginx.service", false),
            (".service", false),
            ("?.service", true),
            ("*.service", true),
            ("*", true),
            ("*service", true),
            ("*ervixe", false),
            ("a*b", false),
            ("a*e", true),
            ("a*scop?", true),
            ("??????", false),
            ("???????", true),
            ("a\n.service", false),
            (&format!("{}.service", "a".repeat(247)), true),
            (&format!("{}.service", "a".repeat(248)), false),
        ] {
            assert_eq!(text.parse::<UnitGlob>().is_ok(), right, "{text:?}");
        }
    }

    #[test]
    fn a_container_is_known_by_the_beginning_of_its_id_or_by_a_pattern() {
        let other = "a".repeat(64);
        for (pattern, yes, no) in [
            (&ID[..12], &[ID][..], &[&other[..], "gateway"][..]),
            (ID, &[ID], &[&other]),
            ("3f4c*", &[ID], &[&other]),
            ("*1706", &[ID], &[&other]),
            ("gateway", &["gateway"], &["gateway-1", ID]),
            ("gate*", &["gateway", "gate"], &["agate"]),
            ("3f4c1b0e9d8?", &["3f4c1b0e9d8a"], &[ID]),
        ] {
            let glob: ContainerGlob = pattern.parse().expect("invariant: a pattern");
            for container in yes {
                assert!(glob.matches(container), "{pattern} {container}");
            }
            for container in no {
                assert!(!glob.matches(container), "{pattern} {container}");
            }
        }
    }

    #[test]
    fn a_beginning_that_is_short_or_no_id_is_refused() {
        for (text, right) in [
            ("", false),
            (&ID[..11], false),
            (&ID[..12], true),
            (ID, true),
            (&format!("{ID}0"), false),
            (&ID[..12].to_uppercase(), false),
            ("cafe", false),
            ("cafe*", true),
            ("café", true),
            ("a\n", false),
        ] {
            assert_eq!(text.parse::<ContainerGlob>().is_ok(), right, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_refused_matches_no_unit(
            pattern in "[se*?.a]{0,3}[.*?]?[vicope*?s]{0,5}",
            name in "[a-c.]{1,3}",
            ending in prop::sample::select(ENDINGS.to_vec()),
        ) {
            let unit = format!("{name}{ending}");
            let matches = Glob::new(&pattern, LONGEST).is_some_and(|it| it.matches(&unit));
            if matches {
                prop_assert!(pattern.parse::<UnitGlob>().is_ok());
            }
        }

        #[test]
        fn patterns_are_shown_as_they_were_written(text in "[a-f0-9*?.g]{1,20}") {
            if let Ok(glob) = text.parse::<ContainerGlob>() {
                prop_assert_eq!(glob.to_string(), &text[..]);
            }
            if let Ok(glob) = text.parse::<UnitGlob>() {
                prop_assert_eq!(glob.to_string(), &text[..]);
            }
        }
    }
}

//! Reads what tidy needs from `deny.toml`, so that the policy is written once.
//!
//! `cargo deny` reads the whole file; this reads its arrays of strings, in the form they have there.

use crate::failure::{Failure, OrFail as _, Result};
use crate::paths;
use std::collections::BTreeSet;
use std::fs;

/// The part of the policy that needs no network.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Policy {
    pub(super) licences: BTreeSet<String>,
    pub(super) registries: BTreeSet<String>,
}

impl Policy {
    pub(super) fn read() -> Result<Self> {
        let path = paths::root().join("deny.toml");
        let text = fs::read_to_string(&path).or_fail(path.display(), "restore it from git")?;
        Self::parse(&text)
    }

    fn parse(toml: &str) -> Result<Self> {
        let array = |section, key| {
            let found = strings(toml, section, key);
            found.ok_or_else(|| {
                let what = format!("deny.toml has no array `{key}` in [{section}]");
                Failure::new(what, "write it as `key = [\"..\", \"..\"]`")
            })
        };
        Ok(Self {
            licences: array("licenses", "allow")?,
            registries: array("sources", "allow-registry")?,
        })
    }
}

/// The strings of an array; comments may stand between them.
fn strings(toml: &str, section: &str, key: &str) -> Option<BTreeSet<String>> {
    let header = format!("[{section}]");
    let body = toml.lines().map(str::trim).skip_while(|line| *line != header).skip(1);
    let body = body.take_while(|line| !line.starts_with("[") || line.starts_with("[["));
    let code: String = body.map(|line| without_comment(line).to_owned() + "\n").collect();
    let array = code.lines().find_map(|line| {
        let value = line.strip_prefix(key)?.trim_start().strip_prefix('=')?;
        value.trim_start().starts_with('[').then_some(line)
    })?;
    let start = code.find(array)?;
    let array = &code[start..];
    let array = &array[..array.find(']')?];
    // Every second piece between quotes is a string.
    Some(array.split('"').skip(1).step_by(2).map(str::to_owned).collect())
}

fn without_comment(line: &str) -> &str {
    let quotes_before = |at: usize| line[..at].matches('"').count();
    let comment = line.match_indices('#').find(|(at, _)| quotes_before(*at) % 2 == 0);
    comment.map_or(line, |(at, _)| &line[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_are_read_from_their_own_section() {
        let toml = r##"
[bans]
allow = ["not this"]
[licenses]
# allow = ["nor this"]
confidence-threshold = 0.9
allow = [
    "MIT", # The "usual" one.
    "ISC",
]
[sources]
allow-registry = ["https://example.org/#index"]
"##;
        let policy = Policy::parse(toml).expect("invariant: both arrays are there");
        assert_eq!(policy.licences, BTreeSet::from(["MIT", "ISC"].map(str::to_owned)));
        assert_eq!(policy.registries, BTreeSet::from(["https://example.org/#index".to_owned()]));
    }

    #[test]
    fn a_missing_array_is_named() {
        let failure = Policy::parse("[licenses]\n[sources]\n").expect_err("invariant: no array");
        assert!(failure.to_string().contains("`allow` in [licenses]"), "{failure}");
    }
}

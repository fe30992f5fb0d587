//! What `cargo metadata` says about packages and who depends on whom.

use crate::failure::{OrFail as _, Result};
use crate::sh;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// The answer of `cargo metadata`.
pub(super) struct Metadata(Value);

impl Metadata {
    /// Asks cargo; `args` are more options of `cargo metadata`.
    pub(super) fn read(args: &[&str]) -> Result<Self> {
        let mut cargo = sh::cargo();
        cargo.args(["metadata", "--format-version", "1"]).args(args);
        let json = sh::output(&mut cargo, "read cargo's message above")?;
        Self::parse(&json)
    }

    pub(super) fn parse(json: &str) -> Result<Self> {
        let next = "report a bug of xtask";
        serde_json::from_str(json).or_fail("`cargo metadata` is no JSON", next).map(Self)
    }

    pub(super) fn packages(&self) -> impl Iterator<Item = &Value> {
        self.0["packages"].as_array().into_iter().flatten()
    }

    pub(super) fn package(&self, name: &str) -> Option<&Value> {
        self.packages().find(|package| package["name"] == name)
    }

    /// The names of all packages that end up in a program that uses this one, itself included.
    pub(super) fn linked_into(&self, package: &str) -> BTreeSet<&str> {
        let id = |package: &Value| package["id"].as_str().unwrap_or_default().to_owned();
        let names: BTreeMap<String, &str> =
            self.packages().map(|it| (id(it), it["name"].as_str().unwrap_or_default())).collect();
        let nodes: BTreeMap<String, &Value> =
            array(&self.0["resolve"]["nodes"]).map(|node| (id(node), node)).collect();

        let mut seen = BTreeSet::new();
        let mut todo: Vec<String> = self.package(package).map(id).into_iter().collect();
        while let Some(next) = todo.pop() {
            let normal = |edge: &&Value| array(&edge["dep_kinds"]).any(|it| it["kind"].is_null());
            if let Some(node) = nodes.get(&next).filter(|_| !seen.contains(&next)) {
                let edges = array(&node["deps"]).filter(normal);
                todo.extend(edges.filter_map(|edge| edge["pkg"].as_str()).map(str::to_owned));
            }
            seen.insert(next);
        }
        seen.iter().filter_map(|id| names.get(id).copied()).collect()
    }
}

/// The target triple that cargo compiles for by default.
pub(super) fn host() -> Result<String> {
    let next = "check that rustc is on PATH";
    let answer = sh::output(Command::new("rustc").arg("-vV"), next)?;
    let line = answer.lines().find_map(|line| line.strip_prefix("host: "));
    line.map(str::to_owned).ok_or("no line `host:`").or_fail("`rustc -vV`", next)
}

/// The elements of an array; none if it is something else.
pub(super) fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

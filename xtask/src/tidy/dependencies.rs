//! Who may depend on whom.

use super::Report;
use super::metadata::{self, Metadata, array};
use crate::failure::Result;

/// A program that uses `package` must not contain any of `never`; `*` stands for any ending.
struct Rule {
    package: &'static str,
    never: &'static [&'static str],
    reason: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        package: "sockwarden-pool",
        never: &["sockwarden-observer*", "aya*"],
        reason: "the pool is usable alone, by any tokio program",
    },
    Rule {
        package: "xtask",
        never: &["sockwarden-*"],
        reason: "xtask is compiled before anything else, and builds what they need",
    },
    Rule {
        package: "sockwarden-observer",
        never: &["aya-ebpf*", "aya-log-ebpf*"],
        reason: "a host binary with aya-ebpf gets aya's memcpy in place of libc's",
    },
];

pub(super) fn check() -> Result<Report> {
    let metadata = Metadata::read(&["--filter-platform", &metadata::host()?])?;
    Ok(report(&metadata))
}

fn report(metadata: &Metadata) -> Report {
    let mut complaints = Vec::new();
    for rule in RULES {
        if metadata.package(rule.package).is_none() {
            complaints.push(format!("{0} is gone: remove its rule from xtask", rule.package));
        }
        for linked in metadata.linked_into(rule.package) {
            if rule.never.iter().any(|pattern| matches(pattern, linked)) {
                complaints.push(format!(
                    "{} contains {linked}, but {}: see `cargo tree -p {0} -e normal -i {linked}`",
                    rule.package, rule.reason
                ));
            }
        }
    }
    complaints.extend(abi_needs_nothing(metadata));
    Report { note: format!("{} rules", RULES.len() + 1), complaints }
}

/// The ABI crate is compiled for the kernel too, so what it needs must be optional.
fn abi_needs_nothing(metadata: &Metadata) -> Vec<String> {
    let package = metadata.package("sockwarden-observer-ebpf").into_iter();
    let normal = package
        .flat_map(|package| array(&package["dependencies"]))
        .filter(|dependency| dependency["kind"].is_null());
    normal
        .filter(|dependency| {
            let for_bpf = dependency["target"].as_str().is_some_and(|it| it.contains("bpf"));
            let optional = dependency["optional"] == true;
            !(optional && (for_bpf || dependency["name"] == "aya"))
        })
        .map(|dependency| {
            let name = dependency["name"].as_str().unwrap_or_default();
            format!(
                "sockwarden-observer-ebpf depends on {name}: make it optional and for the BPF \
                 target only, for both sides of the ABI compile this crate"
            )
        })
        .collect()
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => name == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A workspace in which pool has a dependency of one kind, which depends on aya-obj.
    fn workspace(kind: &str) -> Metadata {
        let json = r#"{
            "packages": [
                {"id": "p", "name": "sockwarden-pool"}, {"id": "x", "name": "xtask"},
                {"id": "o", "name": "sockwarden-observer"}, {"id": "m", "name": "middle"},
                {"id": "a", "name": "aya-obj"}],
            "resolve": {"nodes": [
                {"id": "p", "deps": [{"pkg": "m", "dep_kinds": [{"kind": KIND}]}]},
                {"id": "m", "deps": [{"pkg": "a", "dep_kinds": [{"kind": null}]}]},
                {"id": "a", "deps": []}, {"id": "x", "deps": []}, {"id": "o", "deps": []}]}}"#;
        Metadata::parse(&json.replace("KIND", kind)).expect("invariant: the sample is JSON")
    }

    #[test]
    fn a_forbidden_package_is_found_behind_another_one() {
        let complaints = report(&workspace("null")).complaints;
        assert_eq!(complaints.len(), 1, "{complaints:?}");
        assert!(complaints[0].starts_with("sockwarden-pool contains aya-obj"), "{complaints:?}");
    }

    #[test]
    fn what_only_tests_use_is_not_linked() {
        assert_eq!(report(&workspace("\"dev\"")).complaints, [""; 0]);
    }
}

//! Licences and origins of all dependencies, against `deny.toml`.

use super::deny::Policy;
use super::metadata::{self, Metadata};
use super::{Report, spdx};
use crate::failure::Result;
use serde_json::Value;

pub(super) fn check() -> Result<Report> {
    let policy = Policy::read()?;
    // What other platforms would need is neither shipped nor worth downloading.
    let host = metadata::host()?;
    let platforms = ["--filter-platform", &host, "--filter-platform", "bpfel-unknown-none"];
    let metadata = Metadata::read(&[&platforms[..], &["--all-features"]].concat())?;
    let foreign = || metadata.packages().filter(|package| !is_ours(package));
    Ok(Report {
        note: format!("{} packages, {} licences allowed", foreign().count(), policy.licences.len()),
        complaints: foreign().flat_map(|package| complaints(package, &policy)).collect(),
    })
}

/// Packages of this workspace are the ones of our name; a path dependency has no source either.
fn is_ours(package: &Value) -> bool {
    let name = package["name"].as_str().unwrap_or_default();
    package["source"].is_null() && (name == "xtask" || name.starts_with("sockwarden-"))
}

fn complaints(package: &Value, policy: &Policy) -> Vec<String> {
    let text = |key: &str| package[key].as_str().unwrap_or_default();
    let name = format!("{} {}", text("name"), text("version"));
    let advice = "choose another crate, or argue for it in deny.toml";

    let mut complaints = Vec::new();
    let registry = text("source").strip_prefix("registry+").unwrap_or_default();
    if !policy.registries.contains(registry) {
        let source = package["source"].as_str().unwrap_or("a path outside the workspace");
        complaints.push(format!("{name} comes from {source}: take it from crates.io"));
    }
    match (text("license"), spdx::is_allowed(text("license"), &policy.licences)) {
        ("", _) => complaints.push(format!("{name} states no licence: {advice}")),
        (_, Ok(true)) => {}
        (licence, Ok(false)) => complaints.push(format!("{name} is under {licence}: {advice}")),
        (licence, Err(error)) => {
            complaints.push(format!("{name} has the licence `{licence}`, but {error}: {advice}"));
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const CRATES_IO: &str = "https://github.com/rust-lang/crates.io-index";

    #[track_caller]
    fn check(source: &str, licence: &Value, expected: &[&str]) {
        let policy = Policy {
            licences: ["MIT".to_owned()].into(),
            registries: [CRATES_IO.to_owned()].into(),
        };
        let package =
            json!({"name": "x", "version": "1.0.0", "source": source, "license": licence});
        let found = complaints(&package, &policy);
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.contains(expected), "{found}");
        }
    }

    #[test]
    fn source_and_licence_are_both_checked() {
        let crates_io = format!("registry+{CRATES_IO}");
        check(&crates_io, &json!("MIT"), &[]);
        check(&crates_io, &json!("GPL-3.0"), &["is under GPL-3.0"]);
        check(&crates_io, &Value::Null, &["states no licence"]);
        check("git+https://example.org/x", &json!("MIT"), &["comes from git+"]);
        check("git+https://example.org/x", &json!("AND"), &["comes from", "has the licence `AND`"]);
    }
}

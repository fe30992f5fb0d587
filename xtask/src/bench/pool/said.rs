//! What a fleet says: one JSON object a line.

use crate::failure::{Failure, OrFail as _, Result};
use serde_json::Value;

const NEXT: &str = "start the program by hand; tests/src/fleet.rs says what it has to print";

/// One line.
#[derive(Debug)]
pub(super) struct Said(Value);

impl Said {
    /// Fails where the line is no object with a type, and where it is a complaint.
    pub(super) fn parse(line: &str) -> Result<Self> {
        let said: Value = serde_json::from_str(line).or_fail(format!("`{line}`"), NEXT)?;
        match said["type"].as_str() {
            Some("error") => Err(Failure::new(format!("a refusal: {line}"), NEXT)),
            Some(_) => Ok(Self(said)),
            None => Err(Failure::new(format!("`{line}` has no type"), NEXT)),
        }
    }

    pub(super) fn is(&self, kind: &str) -> bool {
        self.0["type"] == kind
    }

    pub(super) fn number(&self, field: &str) -> Result<f64> {
        let broken = || Failure::new(format!("`{}` has no number `{field}`", self.0), NEXT);
        self.0[field].as_f64().ok_or_else(broken)
    }

    pub(super) fn count(&self, field: &str) -> Result<u64> {
        let broken = || Failure::new(format!("`{}` has no count `{field}`", self.0), NEXT);
        self.0[field].as_u64().ok_or_else(broken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_a_type_and_its_fields_are_read() {
        let said = Said::parse(r#"{"type":"online","devices":12000,"seconds":0.5}"#);
        let said = said.expect("invariant: as the fleets write it");
        assert!(said.is("online") && !said.is("status"));
        assert_eq!(said.count("devices").ok(), Some(12_000));
        assert_eq!(said.number("seconds").ok(), Some(0.5));
        assert!(said.number("cpu_seconds").is_err());
        assert!(said.count("seconds").is_err());
    }

    #[test]
    fn other_text_and_complaints_are_failures() {
        assert!(Said::parse("Segmentation fault").is_err());
        assert!(Said::parse(r#"{"devices":1}"#).is_err());
        let failure = Said::parse(r#"{"type":"error","message":"no messages here"}"#);
        let failure = failure.expect_err("invariant: a complaint");
        assert!(failure.to_string().contains("no messages here"), "{failure}");
    }
}

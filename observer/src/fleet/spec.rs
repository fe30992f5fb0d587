//! PURE. How the words of a device are read, so that an error says what is allowed and never shows a
//! password.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor},
};

use super::Secret;

/// What a quality of service may be.
pub(super) const QOS: &str = "0, 1 or 2";
/// What a keep-alive may be (MQTT 3.1.1 section 3.1.2.10).
pub(super) const KEEP_ALIVE: &str = "whole seconds from 0 (off) to 65,535";

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Asked for a string, serde_json would itself complain about a number, and show it.
        deserializer.deserialize_any(SecretVisitor)
    }
}

/// A number in JSON or TOML as quality of service. Its range is checked with the device's others.
pub(super) fn qos<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u8, D::Error> {
    in_range(i64::deserialize(deserializer)?, "qos", QOS)
}

/// A number in JSON or TOML as keep-alive.
pub(super) fn keep_alive<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<u16>, D::Error> {
    let given = Option::<i64>::deserialize(deserializer)?;
    given.map(|given| in_range(given, "keep_alive_s", KEEP_ALIVE)).transpose()
}

fn in_range<T: TryFrom<i64>, E: Error>(given: i64, field: &str, allowed: &str) -> Result<T, E> {
    let wrong = |_| E::custom(format_args!("invalid {field}: given {given}, allowed: {allowed}"));
    T::try_from(given).map_err(wrong)
}

/// The visitor that serde derives would put a password that is a number into its error.
struct SecretVisitor;

impl<'de> Visitor<'de> for SecretVisitor {
    type Value = Secret;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a password in quotes")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Secret, E> {
        Ok(Secret(text.to_owned()))
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Secret, E> {
        Ok(Secret(text))
    }

    fn visit_bool<E: Error>(self, _hidden: bool) -> Result<Secret, E> {
        Err(not_a_text())
    }

    fn visit_i64<E: Error>(self, _hidden: i64) -> Result<Secret, E> {
        Err(not_a_text())
    }

    fn visit_u64<E: Error>(self, _hidden: u64) -> Result<Secret, E> {
        Err(not_a_text())
    }

    fn visit_f64<E: Error>(self, _hidden: f64) -> Result<Secret, E> {
        Err(not_a_text())
    }

    fn visit_bytes<E: Error>(self, _hidden: &[u8]) -> Result<Secret, E> {
        Err(not_a_text())
    }
}

fn not_a_text<E: Error>() -> E {
    E::custom("invalid password: allowed: a text in quotes")
}

#[cfg(test)]
mod tests {
    use crate::fleet::{DeviceSpec, Secret};

    #[test]
    fn no_error_shows_a_password() {
        for hidden in ["90210", "-90210", "90210.5", "true", "[\"90210\"]", "{\"90210\":1}"] {
            let json = format!("{{\"id\":\"d\",\"password\":{hidden}}}");
            let error = serde_json::from_str::<DeviceSpec>(&json).expect_err("invariant: no text");
            assert!(!error.to_string().contains("90210"), "{error}");
            let toml =
                format!("id = 'd'\npassword = {}", hidden.replace("{\"90210\":1}", "{x=90210}"));
            let error = toml::from_str::<DeviceSpec>(&toml).expect_err("invariant: no text");
            assert!(!error.message().contains("90210"), "{}", error.message());
            assert!(!error.message().contains("true"), "{}", error.message());
        }
    }

    #[test]
    fn a_password_is_a_text_and_shows_dots() {
        let spec: DeviceSpec =
            serde_json::from_str(r#"{"id":"d","password":"a\n"}"#).expect("invariant: good JSON");
        assert_eq!(spec.password, Some(Secret("a\n".into())));
        assert!(format!("{spec:?}").contains("Some(…)"));
    }

    #[test]
    fn numbers_outside_their_range_say_the_range() {
        let cases = [
            (r#"{"keep_alive_s":65536}"#, "given 65536, allowed: whole seconds from 0"),
            (r#"{"keep_alive_s":-1}"#, "given -1, allowed: whole seconds"),
            (r#"{"subscriptions":[{"filter":"a","qos":256}]}"#, "given 256, allowed: 0, 1 or 2"),
        ];
        for (json, expected) in cases {
            let error = serde_json::from_str::<DeviceSpec>(json).expect_err("invariant: bad");
            assert!(error.to_string().contains(expected), "{error}");
        }
        let most: DeviceSpec =
            serde_json::from_str(r#"{"keep_alive_s":65535}"#).expect("invariant: in range");
        assert_eq!(most.keep_alive_s, Some(65_535));
    }
}

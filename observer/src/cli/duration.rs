//! Durations on the command line: `10s`, `500ms`, `1m30s`.

use std::{str::FromStr as _, time::Duration};

use jiff::SignedDuration;

/// Longest that is taken: a year. Nothing here waits longer, and sums stay far from overflow.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// Parses a duration of at most a year.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no duration; write 500ms, 10s or 1m30s (at most a year)");
    let signed = SignedDuration::from_str(text).map_err(|_| wrong())?;
    Duration::try_from(signed).ok().filter(|duration| *duration <= LONGEST).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write() {
        let cases = [
            ("500ms", Some(500)),
            ("10s", Some(10_000)),
            ("1m30s", Some(90_000)),
            ("1m 30s", Some(90_000)),
            ("2h", Some(7_200_000)),
            ("0s", Some(0)),
            ("10", None),
            ("-1s", None),
            ("400d", None),
            ("99999999999h", None),
            ("", None),
            ("soon", None),
        ];
        for (text, millis) in cases {
            assert_eq!(parse(text).ok(), millis.map(Duration::from_millis), "{text}");
        }
    }
}

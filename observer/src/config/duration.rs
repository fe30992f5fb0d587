//! PURE. Durations as people write them: `10s`, `500ms`, `1m30s`.

use std::{str::FromStr as _, time::Duration};

use jiff::{
    SignedDuration,
    fmt::friendly::{Spacing, SpanPrinter},
};

/// Longest that is taken: a year. Nothing here waits longer, and sums stay far from overflow.
pub(crate) const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// Parses a duration of at most a year.
///
/// # Errors
///
/// What to write instead.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no duration; write 500ms, 10s or 1m30s (at most a year)");
    let signed = SignedDuration::from_str(text).map_err(|_| wrong())?;
    Duration::try_from(signed).ok().filter(|duration| *duration <= LONGEST).ok_or_else(wrong)
}

/// The shortest text that [`parse`] takes for it, to the nanosecond.
pub(crate) fn show(duration: Duration) -> String {
    const PRINTER: SpanPrinter = SpanPrinter::new().spacing(Spacing::None);
    PRINTER.unsigned_duration_to_string(&duration)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_people_write() {
        let cases = [
            ("500ms", Some(500)),
            ("10s", Some(10_000)),
            ("1m30s", Some(90_000)),
            ("1m 30s", Some(90_000)),
            ("2h", Some(7_200_000)),
            ("0s", Some(0)),
            ("8760h", Some(365 * 86_400_000)),
            ("8761h", None),
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

    #[test]
    fn what_is_shown() {
        let cases =
            [(0, "0s"), (250, "250ms"), (10_000, "10s"), (60_000, "1m"), (90_500, "1m30s500ms")];
        for (millis, text) in cases {
            assert_eq!(show(Duration::from_millis(millis)), text);
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_as_the_same(nanos in 0..=LONGEST.as_nanos() as u64) {
            let duration = Duration::from_nanos(nanos);
            prop_assert_eq!(parse(&show(duration)), Ok(duration));
        }
    }
}

//! PURE. What somebody may have meant who wrote a name that does not exist.

/// Longest name that is compared: ours are shorter, and the effort grows with the square.
const LONGEST: usize = 40;

/// The candidate that is least changes away from `name`, if it is near enough to be meant.
pub(super) fn nearest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    if name.len() > LONGEST {
        return None;
    }
    let name = name.to_lowercase().replace('-', "_");
    let near = candidates
        .into_iter()
        .map(|candidate| (distance(&name, &candidate.replace('-', "_")), candidate));
    // A third may be mistyped.
    let enough = name.chars().count().div_ceil(3);
    near.filter(|(changes, _)| *changes <= enough)
        .min_by_key(|(changes, _)| *changes)
        .map(|it| it.1)
}

/// How many characters must be put in, taken out, changed or swapped with their neighbour (the
/// distance of Damerau and Levenshtein, each place changed once).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let differs = usize::from(a[i - 1] != b[j - 1]);
            let mut least =
                (rows[i - 1][j] + 1).min(row[j - 1] + 1).min(rows[i - 1][j - 1] + differs);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistyped_names_are_found() {
        let names = ["max_in_flight", "min_interval", "broker", "close-wait", "comm"];
        for (given, meant) in [
            ("max_inflight", Some("max_in_flight")),
            ("Broker", Some("broker")),
            ("borker", Some("broker")),
            ("close_wait", Some("close-wait")),
            ("com", Some("comm")),
            ("zzzz", None),
            ("", None),
        ] {
            assert_eq!(nearest(given, names), meant, "{given}");
        }
        assert_eq!(nearest(&"b".repeat(41), ["b"]), None);
    }

    #[test]
    fn each_change_counts_once() {
        for (a, b, changes) in [
            ("", "abc", 3),
            ("abc", "abc", 0),
            ("abc", "acb", 1),
            ("abc", "adc", 1),
            ("ab", "b", 1),
        ] {
            assert_eq!((distance(a, b), distance(b, a)), (changes, changes), "{a} {b}");
        }
    }
}

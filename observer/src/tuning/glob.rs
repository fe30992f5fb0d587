//! Patterns for names, and those of processes.

use std::{fmt, str::FromStr};

/// Longest name of a process (TASK_COMM_LEN of linux/sched.h counts the zero at the end).
const LONGEST_NAME: usize = 15;

/// Longest pattern for one, bytes. Chosen: a name four times over; more stars say nothing more.
const LONGEST: usize = 64;

/// A pattern: `*` stands for any characters or none, `?` for one, everything else for itself.
///
/// Read from a text it is one for the names of processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob(String);

impl Glob {
    /// A pattern for other names, if `text` has 1 to `longest` bytes and no control characters.
    pub(super) fn new(text: &str, longest: usize) -> Option<Self> {
        let is_name = !text.is_empty() && text.len() <= longest;
        (is_name && !text.contains(char::is_control)).then(|| Self(text.to_owned()))
    }

    /// What stands behind its last `*`; all of it, if there is none.
    pub(super) fn tail(&self) -> &str {
        self.0.rsplit('*').next().unwrap_or(&self.0)
    }

    /// The pattern as it was written.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `name` is such a name, from its first character to its last.
    pub fn matches(&self, name: &str) -> bool {
        let (mut pattern, mut rest) = (self.0.chars(), name.chars());
        // Behind the last star: what follows it in the pattern, and where it was tried last.
        let mut retry = None;
        loop {
            match pattern.next() {
                Some('*') => {
                    retry = Some((pattern.clone(), rest.clone()));
                    continue;
                }
                Some(wanted) => match rest.next() {
                    Some(found) if wanted == '?' || wanted == found => continue,
                    Some(_) => {}
                    // Whatever a star takes, no more characters come.
                    None => return false,
                },
                None if rest.as_str().is_empty() => return true,
                None => {}
            }
            // The last star takes one more character; an earlier one need not, for the last can
            // take whatever it would.
            let Some((after, from)) = &mut retry else { return false };
            if from.next().is_none() {
                return false;
            }
            (pattern, rest) = (after.clone(), from.clone());
        }
    }
}

impl FromStr for Glob {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let glob = Self::new(text, LONGEST).ok_or(
            "a name of 1 to 64 bytes is needed, in which * stands for any characters and ? for one",
        )?;
        // The kernel cuts names: whoever writes a longer one would wait for ever.
        if text.chars().filter(|c| *c != '*').count() > LONGEST_NAME {
            return Err("the kernel's names have at most 15 bytes, so this matches none: cut it, \
                        or write * for the rest");
        }
        Ok(glob)
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn glob(text: &str) -> Glob {
        text.parse().expect("invariant: a pattern")
    }

    #[test]
    fn a_star_is_anything_and_a_question_mark_one_character() {
        for (pattern, yes, no) in [
            ("node", &["node"][..], &["nod", "node2", "anode", "", "NODE"][..]),
            ("batch-*", &["batch-", "batch-1"], &["batch", "a-batch-1"]),
            ("*", &["", "a", "ö b"], &[]),
            ("**", &["", "a"], &[]),
            ("a?c", &["abc", "aöc", "a?c"], &["ac", "abbc"]),
            ("*ab", &["ab", "aab", "abab", "aabab"], &["aba", "a", ""]),
            ("a*b*c", &["abc", "axbxc", "abcbc", "aXbcXc"], &["acb", "ab", "abcd"]),
            ("*?", &["a", "ab"], &[""]),
            ("[a]", &["[a]"], &["a"]),
        ] {
            for name in yes {
                assert!(glob(pattern).matches(name), "{pattern} {name}");
            }
            for name in no {
                assert!(!glob(pattern).matches(name), "{pattern} {name}");
            }
        }
    }

    #[test]
    fn what_can_match_nothing_is_refused() {
        for (text, right) in [
            ("", false),
            ("a\n", false),
            ("0123456789abcde", true),
            ("0123456789abcdef", false),
            ("0123456789abcde*", true),
            ("???????????????*", true),
            ("????????????????", false),
            (&"*".repeat(64), true),
            (&"*".repeat(65), false),
        ] {
            assert_eq!(text.parse::<Glob>().is_ok(), right, "{text:?}");
        }
    }

    /// The definition, which takes exponential time.
    fn slow(pattern: &[char], name: &[char]) -> bool {
        match pattern {
            [] => name.is_empty(),
            ['*', rest @ ..] => (0..=name.len()).any(|taken| slow(rest, &name[taken..])),
            [first, rest @ ..] => match name {
                [] => false,
                [found, name @ ..] => (*first == '?' || first == found) && slow(rest, name),
            },
        }
    }

    proptest! {
        #[test]
        fn it_is_what_the_definition_says(pattern in "[ab*?]{1,8}", name in "[ab]{0,8}") {
            let letters = |text: &str| text.chars().collect::<Vec<_>>();
            let expected = slow(&letters(&pattern), &letters(&name));
            prop_assert_eq!(glob(&pattern).matches(&name), expected);
        }
    }
}

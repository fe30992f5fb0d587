//! SPDX licence expressions, as far as packages use them.

use std::collections::BTreeSet;

/// Whether the allowed licences satisfy the expression; an error says what is wrong with it.
pub(super) fn is_allowed(expression: &str, allowed: &BTreeSet<String>) -> Result<bool, String> {
    // Old manifests write `MIT/Apache-2.0` for OR.
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut parser = Parser { words: &words, allowed };
    let verdict = parser.any_of()?;
    match parser.words {
        [] => Ok(verdict),
        [extra, ..] => Err(format!("`{extra}` is unexpected")),
    }
}

/// Reads from the front of `words`.
struct Parser<'a> {
    words: &'a [&'a str],
    allowed: &'a BTreeSet<String>,
}

impl<'a> Parser<'a> {
    fn any_of(&mut self) -> Result<bool, String> {
        let mut verdict = self.all_of()?;
        while self.eat("OR") {
            // Both sides are read in any case, for they must be well formed.
            let other = self.all_of()?;
            verdict |= other;
        }
        Ok(verdict)
    }

    fn all_of(&mut self) -> Result<bool, String> {
        let mut verdict = self.one()?;
        while self.eat("AND") {
            let other = self.one()?;
            verdict &= other;
        }
        Ok(verdict)
    }

    fn one(&mut self) -> Result<bool, String> {
        if self.eat("(") {
            let verdict = self.any_of()?;
            return if self.eat(")") { Ok(verdict) } else { Err("a `)` is missing".to_owned()) };
        }
        let licence = self.name()?;
        if !self.eat("WITH") {
            return Ok(self.allowed.contains(licence));
        }
        // An exception only adds permissions, so the plain licence in the list is enough.
        let exception = self.name()?;
        Ok(self.allowed.contains(licence)
            || self.allowed.contains(&format!("{licence} WITH {exception}")))
    }

    fn name(&mut self) -> Result<&'a str, String> {
        match self.words {
            [word, rest @ ..] if !["OR", "AND", "WITH", "(", ")"].contains(word) => {
                self.words = rest;
                Ok(word)
            }
            [word, ..] => Err(format!("`{word}` stands where a licence should")),
            [] => Err("it ends where a licence should stand".to_owned()),
        }
    }

    fn eat(&mut self, word: &str) -> bool {
        match self.words {
            [first, rest @ ..] if *first == word => {
                self.words = rest;
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_allowed;

    #[track_caller]
    fn check(expression: &str, expected: Result<bool, &str>) {
        let allowed = ["MIT", "ISC", "Unicode-3.0"].map(str::to_owned).into();
        assert_eq!(is_allowed(expression, &allowed), expected.map_err(str::to_owned));
    }

    #[test]
    fn one_side_of_or_and_both_sides_of_and_must_be_allowed() {
        check("MIT", Ok(true));
        check("GPL-3.0", Ok(false));
        check("MIT OR GPL-3.0", Ok(true));
        check("GPL-3.0/MIT", Ok(true));
        check("MIT AND GPL-3.0", Ok(false));
        check("(GPL-3.0 OR MIT) AND Unicode-3.0", Ok(true));
        check("GPL-3.0 OR MIT AND ISC", Ok(true));
        check("GPL-3.0 AND MIT OR GPL-2.0", Ok(false));
    }

    #[test]
    fn an_exception_makes_a_licence_milder() {
        check("MIT WITH LLVM-exception", Ok(true));
        check("Apache-2.0 WITH LLVM-exception OR ISC", Ok(true));
        check("Apache-2.0 WITH LLVM-exception", Ok(false));
    }

    #[test]
    fn malformed_expressions_are_explained() {
        check("MIT OR", Err("it ends where a licence should stand"));
        check("(MIT", Err("a `)` is missing"));
        check("MIT ISC", Err("`ISC` is unexpected"));
        check("AND MIT", Err("`AND` stands where a licence should"));
    }
}

//! Finding words in Rust code, and only in code: comments and literals do not count.

/// The lines, counted from 1, that have one of the words as a whole identifier.
pub(super) fn lines_with(source: &str, words: &[&str]) -> Vec<usize> {
    let code = code_only(source);
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    code.lines()
        .enumerate()
        .filter(|(_, line)| line.split(|c| !is_word(c)).any(|word| words.contains(&word)))
        .map(|(index, _)| index + 1)
        .collect()
}

/// The source with comments and the contents of literals taken out; every line stays where it is.
fn code_only(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(length) = raw_string(rest, code.chars().next_back()) {
            length
        } else if first == '"' {
            quoted(rest, '"')
        } else if first == '\'' && is_char_literal(rest) {
            quoted(rest, '\'')
        } else {
            code.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        };
        // Something must part the words on both sides of what is gone.
        code.push(' ');
        code.extend(rest[..skipped].chars().filter(|c| *c == '\n'));
        rest = &rest[skipped..];
    }
    code
}

/// The length of the block comment that `rest` begins with; they nest.
fn block_comment(rest: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

/// The length of the raw string that `rest` begins with, if it does.
fn raw_string(rest: &str, before: Option<char>) -> Option<usize> {
    if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
        return None;
    }
    let prefix = ["r", "br", "cr"].into_iter().find(|prefix| {
        rest.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(['"', '#']))
    })?;
    let hashes = rest[prefix.len()..].chars().take_while(|c| *c == '#').count();
    let start = prefix.len() + hashes + 1;
    // `r#name` is an identifier.
    if !rest[prefix.len() + hashes..].starts_with('"') {
        return None;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    Some(rest[start..].find(&end).map_or(rest.len(), |at| start + at + end.len()))
}

/// The length of the literal that `rest` begins with, up to the closing quote.
fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// `'a'` is a literal, `'a` is a lifetime.
fn is_char_literal(rest: &str) -> bool {
    let mut chars = rest.chars().skip(1);
    chars.next() == Some('\\') || chars.next() == Some('\'')
}

#[cfg(test)]
mod tests {
    use super::lines_with;

    #[track_caller]
    fn check(source: &str, expected: &[usize]) {
        assert_eq!(lines_with(source, &["unsafe"]), expected, "{source}");
    }

    #[test]
    fn the_keyword_is_found_in_every_position() {
        check("unsafe { x() }", &[1]);
        check("fn a() {}\n\npub unsafe fn b() {}\n#[unsafe(no_mangle)]", &[3, 4]);
        check("let a = 'x'; unsafe { b('\\'', 'c') }", &[1]);
    }

    #[test]
    fn names_of_lints_are_other_words() {
        check("#![forbid(unsafe_code)]\n#![deny(unsafe_op_in_unsafe_fn)]", &[]);
    }

    #[test]
    fn comments_do_not_count_but_the_code_after_them_does() {
        check("// unsafe\n/// unsafe\n/* unsafe /* unsafe */ unsafe */ unsafe {}", &[3]);
        check("/* unsafe\n\n*/\nunsafe {}", &[4]);
    }

    #[test]
    fn literals_do_not_count() {
        check("let s = \"unsafe \\\" unsafe\"; let t = r#\"unsafe \" unsafe\"#;", &[]);
        check("let s = \"a\n\nb\"; unsafe {}", &[3]);
        check("let s = br\"\\\"; unsafe {}", &[1]);
        check("let r#unsafe = 1;", &[1]);
    }

    #[test]
    fn a_lifetime_opens_no_literal() {
        check("fn f<'a>(x: &'a str) { unsafe { g(x) } }", &[1]);
    }
}

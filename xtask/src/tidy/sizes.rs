//! How long the files are: short ones are read, long ones are searched.

use super::Report;
use super::workspace::File;

/// Chosen: where the well-kept codebases of this field have their longest tenth, and half more.
const MOST_LINES: usize = 600;

pub(super) fn check(sources: &[File]) -> Report {
    let written = sources.iter().filter(|file| !is_generated(&file.text));
    let mut sizes: Vec<(usize, &str)> =
        written.map(|file| (lines_without_tests(&file.text), file.path.as_str())).collect();
    sizes.sort_unstable_by(|a, b| b.cmp(a));

    let at = |share: f64| {
        let index = (sizes.len() as f64 * share) as usize;
        sizes.get(index).map_or(0, |(lines, _)| *lines)
    };
    let longest: Vec<String> =
        sizes.iter().take(5).map(|(lines, path)| format!("{path} {lines}")).collect();
    let too_long = sizes.iter().take_while(|(lines, _)| *lines > MOST_LINES);
    Report {
        note: format!(
            "{} .rs files, median {} lines, p90 {}, without tests; longest: {}",
            sizes.len(),
            at(0.5),
            at(0.1),
            longest.join(", ")
        ),
        complaints: too_long
            .map(|(lines, path)| format!("{path}: {lines} lines of {MOST_LINES}: split it"))
            .collect(),
    }
}

fn is_generated(text: &str) -> bool {
    text.lines().take(5).any(|line| line.contains("@generated"))
}

/// The lines before the module of tests that ends the file.
fn lines_without_tests(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let tests = lines.windows(2).position(|pair| {
        pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].ends_with('{')
    });
    tests.unwrap_or(lines.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_at_the_end_do_not_count() {
        assert_eq!(lines_without_tests("a\nb\n#[cfg(test)]\nmod tests {\n}\n"), 2);
        assert_eq!(lines_without_tests("#[cfg(test)]\nmod tests;\na\n"), 3);
    }

    #[test]
    fn only_long_files_written_by_people_are_complained_about() {
        let file = |path: &str, text: String| File { path: path.to_owned(), text };
        let report = check(&[
            file("short.rs", "x\n".repeat(MOST_LINES)),
            file("long.rs", "x\n".repeat(MOST_LINES + 1)),
            file("table.rs", format!("// @generated\n{}", "x\n".repeat(MOST_LINES + 1))),
        ]);
        assert_eq!(report.complaints, ["long.rs: 601 lines of 600: split it"]);
    }
}

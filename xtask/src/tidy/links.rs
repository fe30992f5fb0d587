//! Links of the Markdown pages that lead to no file.

use super::Report;
use super::workspace::File;
use crate::paths;
use std::path::Path;

pub(super) fn check(pages: &[File]) -> Report {
    let root = paths::root();
    let mut links = 0;
    let mut complaints = Vec::new();
    for page in pages {
        let dir = Path::new(&page.path).parent().unwrap_or(Path::new(""));
        for (line, link) in relative_links(&page.text) {
            links += 1;
            let target = match link.strip_prefix('/') {
                Some(from_root) => root.join(from_root),
                None => root.join(dir).join(link),
            };
            if !target.exists() {
                complaints.push(format!(
                    "{}:{line}: there is no {link}: correct the link or write the file",
                    page.path
                ));
            }
        }
    }
    Report { note: format!("{links} links in {} pages", pages.len()), complaints }
}

/// The links to files with their lines, without fragments; code is no prose and has none.
fn relative_links(markdown: &str) -> Vec<(usize, &str)> {
    let mut fenced = false;
    let mut links = Vec::new();
    for (index, line) in markdown.lines().enumerate() {
        if line.trim_start().starts_with("```") || line.trim_start().starts_with("~~~") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        // Every second piece between backticks is code.
        let pieces = line.split('`').step_by(2);
        let inline = pieces
            .flat_map(|piece| piece.split("](").skip(1).filter_map(|rest| rest.split(')').next()));
        // The text of a link may hold code, and then its address begins the next piece.
        links.extend(inline.chain(definition(line)).filter_map(file_of).map(|it| (index + 1, it)));
    }
    links
}

/// The address in `[name]: address`.
fn definition(line: &str) -> Option<&str> {
    let (_, address) = line.strip_prefix('[')?.split_once("]: ")?;
    Some(address)
}

/// The file in `file#fragment "title"`, if the address is one of ours.
fn file_of(address: &str) -> Option<&str> {
    let address = address.split_whitespace().next()?.trim_matches(['<', '>']);
    let file = address.split('#').next().unwrap_or_default();
    let foreign = file.contains("://") || file.starts_with("mailto:");
    (!file.is_empty() && !foreign).then_some(file)
}

#[cfg(test)]
mod tests {
    use super::relative_links;

    #[track_caller]
    fn check(markdown: &str, expected: &[(usize, &str)]) {
        assert_eq!(relative_links(markdown), expected, "{markdown}");
    }

    #[test]
    fn relative_links_are_found_without_fragment_and_title() {
        check(
            "See [a](b.md#part), [c](<d.md>) and ![e](f.svg \"g\").",
            &[(1, "b.md"), (1, "d.md"), (1, "f.svg")],
        );
        check("\n[name]: docs/x.md\n", &[(2, "docs/x.md")]);
        check("[`code`](src/lib.rs)", &[(1, "src/lib.rs")]);
    }

    #[test]
    fn links_to_elsewhere_and_code_are_left_alone() {
        check("[a](https://example.org) [b](#part) [c](mailto:x@example.org)", &[]);
        check("```\n[a](b)\n```\n`[c](d)`", &[]);
    }
}

//! The files of the workspace, committed or not.

use crate::failure::{OrFail as _, Result};
use crate::paths;
use std::fs;
use std::path::Path;

/// A text file, named relative to the root of the workspace.
pub(super) struct File {
    pub(super) path: String,
    pub(super) text: String,
}

/// All files with this extension, sorted by name.
pub(super) fn files(extension: &str) -> Result<Vec<File>> {
    let mut found = Vec::new();
    collect(&paths::root(), extension, &mut found)?;
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn collect(dir: &Path, extension: &str, found: &mut Vec<File>) -> Result {
    let next = "check that this file can be read and holds UTF-8 text";
    for entry in fs::read_dir(dir).or_fail(dir.display(), next)? {
        let path = entry.or_fail(dir.display(), next)?.path();
        // Links lead out of the tree or back to files that are listed anyway.
        if path.is_symlink() || is_foreign(&path) {
            continue;
        }
        if path.is_dir() {
            collect(&path, extension, found)?;
        } else if path.extension().is_some_and(|it| it == extension) {
            let text = fs::read_to_string(&path).or_fail(path.display(), next)?;
            let path = path.strip_prefix(paths::root()).unwrap_or(&path);
            found.push(File { path: path.display().to_string(), text });
        }
    }
    Ok(())
}

/// What tools put into the tree is not ours to check.
fn is_foreign(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    matches!(name, ".git" | "node_modules" | "target") || path == paths::target()
}

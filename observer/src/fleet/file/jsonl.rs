//! PURE. A JSON object in each line.

use super::{Complaints, DeviceSpec, Listed};

pub(super) fn read(text: &str, complaints: &mut Complaints) -> Vec<Listed> {
    let mut listed = Vec::new();
    for (index, json) in text.split('\n').enumerate() {
        let (line, json) = (index + 1, json.trim_ascii());
        if json.is_empty() {
            continue;
        }
        // Otherwise serde would take an array of the values in order, too.
        if !json.starts_with('{') {
            complaints.add(Some(line), "this is no JSON object: write {\"id\": \"...\"}");
            continue;
        }
        match serde_json::from_str::<DeviceSpec>(json) {
            Ok(spec) => listed.push(Listed { line, spec }),
            Err(error) => complaints.add(Some(line), without_position(&error)),
        }
    }
    listed
}

/// serde_json counts lines inside of what it was given, which is one line.
fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let end = format!(" at line {} column {}", error.line(), error.column());
    match text.strip_suffix(&end) {
        Some(what) => format!("{what} (column {})", error.column()),
        None => text,
    }
}

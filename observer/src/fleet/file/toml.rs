//! PURE. A `[[device]]` table for each device.

use serde::Deserialize as _;
use toml::{
    Spanned,
    de::{DeTable, DeValue, Error, ValueDeserializer},
};

use super::{Complaints, DeviceSpec, Listed, line_breaks};

/// The name of the tables.
const DEVICE: &str = "device";

pub(super) fn read(text: &str, complaints: &mut Complaints) -> Vec<Listed> {
    let mut lines = Lines::new(text);
    let (root, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        complain(error, 0, &mut lines, complaints);
    }
    // What the parser made of a broken text is a guess.
    if !errors.is_empty() {
        return Vec::new();
    }
    let mut listed = Vec::new();
    for (key, value) in root.into_inner() {
        let at = key.span().start;
        match value.into_inner() {
            DeValue::Array(devices) if key.get_ref() == DEVICE => {
                listed.reserve(devices.len());
                for device in devices {
                    listed.extend(device_of(device, &mut lines, complaints));
                }
            }
            _ => {
                let what = format_args!(
                    "unknown key {:?}: write a [[device]] table for each \
                    device",
                    key.get_ref()
                );
                complaints.add(Some(lines.line(at)), what);
            }
        }
    }
    listed
}

fn device_of(
    device: Spanned<DeValue<'_>>,
    lines: &mut Lines<'_>,
    complaints: &mut Complaints,
) -> Option<Listed> {
    let span = device.span();
    // Otherwise serde would take an array of the values in order, too.
    if !matches!(device.get_ref(), DeValue::Table(_)) {
        let what = "this is no device: write a [[device]] table for each";
        complaints.add(Some(lines.line(span.start)), what);
        return None;
    }
    let line = lines.line(span.start);
    match DeviceSpec::deserialize(ValueDeserializer::from(device)) {
        Ok(spec) => Some(Listed { line, spec }),
        Err(error) => {
            complain(&error, span.start, lines, complaints);
            None
        }
    }
}

/// With the message alone: the error's own text shows the line, which may have a password.
fn complain(error: &Error, at: usize, lines: &mut Lines<'_>, complaints: &mut Complaints) {
    let at = error.span().map_or(at, |span| span.start);
    complaints.add(Some(lines.line(at)), error.message());
}

/// Line numbers of places that mostly come in order.
struct Lines<'t> {
    text: &'t [u8],
    at: usize,
    line: usize,
}

impl<'t> Lines<'t> {
    fn new(text: &'t str) -> Self {
        Self { text: text.as_bytes(), at: 0, line: 1 }
    }

    /// The line of the byte `at`, from 1.
    fn line(&mut self, at: usize) -> usize {
        let at = at.min(self.text.len());
        if at < self.at {
            (self.at, self.line) = (0, 1);
        }
        self.line += line_breaks(&self.text[self.at..at]);
        self.at = at;
        self.line
    }
}

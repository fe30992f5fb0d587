//! Lists of devices in TOML, CSV or JSON lines.
//!
//! [`parse`] and what is below it is PURE; [`load`] is the EDGE that reads. A list is taken as a
//! whole or not at all, and everything that is wrong with it is said at once.

mod csv;
mod jsonl;
mod toml;

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read as _},
    path::Path,
};

use super::{Complaints, DeviceSpec, FleetError, Template, members::Member, members::Origin};

/// Longest list, bytes. A million devices with all they can say fit.
const MOST_BYTES: u64 = 256 << 20;

/// How a list is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A header row, then a row for each device.
    Csv,
    /// A JSON object in each line.
    JsonLines,
    /// A `[[device]]` table for each device.
    Toml,
}

/// A device and the line where it begins, from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Listed {
    line: usize,
    spec: DeviceSpec,
}

impl Format {
    /// By the ending of the name.
    pub fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "csv" => Some(Self::Csv),
            "jsonl" => Some(Self::JsonLines),
            "toml" => Some(Self::Toml),
            _ => None,
        }
    }
}

/// The devices of the list at `path`, at most 256 MiB. Blocks.
///
/// # Errors
///
/// [`FleetError::File`] when it cannot be read, [`FleetError::Invalid`] as for [`parse`].
pub fn load(path: &Path, template: &Template) -> Result<Vec<DeviceSpec>, FleetError> {
    let failed = |problem: String| FleetError::File { path: path.display().to_string(), problem };
    let format = Format::of(path)
        .ok_or_else(|| failed("its ending tells no format: use .toml, .csv or .jsonl".into()))?;
    let bytes = read(path).map_err(|error| failed(error.to_string()))?;
    Ok(parse(format, &bytes, template)?)
}

/// The devices of a list. Each was tried with `template`, and can be one of the pool's.
///
/// # Errors
///
/// Everything that is wrong, with its line. No text of a password is in it.
pub fn parse(
    format: Format,
    bytes: &[u8],
    template: &Template,
) -> Result<Vec<DeviceSpec>, Complaints> {
    let mut complaints = Complaints::default();
    let listed = match text(bytes) {
        Ok(text) => match format {
            Format::Csv => csv::read(text, &mut complaints),
            Format::JsonLines => jsonl::read(text, &mut complaints),
            Format::Toml => toml::read(text, &mut complaints),
        },
        Err(line) => {
            complaints.add(Some(line), "this is no UTF-8");
            Vec::new()
        }
    };
    check(&listed, template, &mut complaints);
    complaints.or(listed.into_iter().map(|listed| listed.spec).collect())
}

/// Spreadsheets put a byte order mark before their text.
fn text(bytes: &[u8]) -> Result<&str, usize> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| 1 + line_breaks(&bytes[..error.valid_up_to()]))?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

fn line_breaks(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte == b'\n').count()
}

fn check(listed: &[Listed], template: &Template, complaints: &mut Complaints) {
    let mut ids = HashMap::with_capacity(listed.len());
    let mut client_ids = HashMap::with_capacity(listed.len());
    for Listed { line, spec } in listed {
        let id = spec.id.as_str();
        if id.is_empty() {
            complaints.add(Some(*line), "the device has no id: give it one of 1 to 65,535 bytes");
            continue;
        }
        if let Some(first) = ids.insert(id, *line) {
            let what = format_args!("device {id:?} stands in line {first} already");
            complaints.add(Some(*line), what);
            continue;
        }
        match Member::new(Origin::File, spec, template) {
            Err(error) => complaints.add(Some(*line), format_args!("device {id:?}: {error}")),
            Ok(member) => {
                let client_id = member.entry.client_id;
                if let Some((other, first)) = client_ids.insert(client_id.clone(), (id, *line)) {
                    let what = format_args!(
                        "device {id:?}: client id {client_id:?} is that of {other:?} in line \
                         {first}: the broker keeps one session per client id"
                    );
                    complaints.add(Some(*line), what);
                }
            }
        }
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let too_long = || io::Error::other("it is longer than 256 MiB, the most that is read");
    // Asked before it is opened, for opening a FIFO waits for its writer.
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::other("this is no regular file"));
    }
    if metadata.len() > MOST_BYTES {
        return Err(too_long());
    }
    let mut bytes = Vec::new();
    // It may grow while it is read.
    File::open(path)?.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST_BYTES { Err(too_long()) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests;

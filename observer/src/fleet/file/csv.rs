//! PURE. A header row, then a row for each device. An empty cell says nothing.

use csv::{ReaderBuilder, StringRecord, Trim};

use super::{Complaints, DeviceSpec, Listed};
use crate::fleet::{Secret, SubscriptionSpec, WillSpec, spec};

/// What a cell is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    Id,
    ClientId,
    Username,
    Password,
    KeepAlive,
    Priority,
    Subscriptions,
    WillTopic,
    WillPayload,
    WillQos,
    WillRetain,
}

/// The header's words.
pub(super) const COLUMNS: [(&str, Column); 11] = [
    ("id", Column::Id),
    ("client_id", Column::ClientId),
    ("username", Column::Username),
    ("password", Column::Password),
    ("keep_alive_s", Column::KeepAlive),
    ("priority", Column::Priority),
    ("subscriptions", Column::Subscriptions),
    ("will_topic", Column::WillTopic),
    ("will_payload", Column::WillPayload),
    ("will_qos", Column::WillQos),
    ("will_retain", Column::WillRetain),
];

pub(super) fn read(text: &str, complaints: &mut Complaints) -> Vec<Listed> {
    let mut reader = ReaderBuilder::new()
        .has_headers(true)
        .trim(Trim::Headers)
        .flexible(true)
        .from_reader(text.as_bytes());
    let columns = match reader.headers() {
        Ok(header) => columns(header, complaints),
        Err(error) => {
            complaints.add(Some(1), error);
            None
        }
    };
    let Some(columns) = columns else { return Vec::new() };
    let mut listed = Vec::new();
    let mut record = StringRecord::new();
    loop {
        match reader.read_record(&mut record) {
            Ok(true) => {}
            Ok(false) => return listed,
            // The text is UTF-8 and rows may differ in length: there is no other error.
            Err(error) => {
                complaints.add(None, error);
                return listed;
            }
        }
        let line = record.position().map_or(0, line_number);
        match device(&columns, &record) {
            Ok(spec) => listed.push(Listed { line, spec }),
            Err(what) => complaints.add(Some(line), what),
        }
    }
}

fn line_number(position: &csv::Position) -> usize {
    usize::try_from(position.line()).unwrap_or(usize::MAX)
}

/// What the columns are; `None` when rows cannot be read by it.
fn columns(header: &StringRecord, complaints: &mut Complaints) -> Option<Vec<Column>> {
    let mut columns = Vec::with_capacity(header.len());
    let mut is_whole = true;
    for word in header {
        match COLUMNS.iter().find(|(name, _)| *name == word) {
            Some((_, column)) if columns.contains(column) => {
                complaints.add(Some(1), format_args!("column {word:?} is there twice"));
                is_whole = false;
            }
            Some((_, column)) => columns.push(*column),
            None => {
                let known = COLUMNS.map(|(name, _)| name).join(", ");
                complaints.add(Some(1), format_args!("unknown column {word:?}, known: {known}"));
                is_whole = false;
            }
        }
    }
    if is_whole && !columns.contains(&Column::Id) {
        complaints.add(Some(1), "there is no column \"id\": the first row names the columns");
        is_whole = false;
    }
    is_whole.then_some(columns)
}

fn device(columns: &[Column], record: &StringRecord) -> Result<DeviceSpec, String> {
    if record.len() != columns.len() {
        let (cells, wanted) = (record.len(), columns.len());
        return Err(format!("the row has {cells} cells, the header {wanted}"));
    }
    let mut spec = DeviceSpec::default();
    let mut will = WillSpec::default();
    let (mut has_topic, mut has_rest) = (false, false);
    for (column, cell) in columns.iter().zip(record).filter(|(_, cell)| !cell.is_empty()) {
        let text = || Some(cell.to_owned());
        match column {
            Column::Id => cell.clone_into(&mut spec.id),
            Column::ClientId => spec.client_id = text(),
            Column::Username => spec.username = text(),
            Column::Password => spec.password = text().map(Secret),
            Column::KeepAlive => {
                let wrong = |_| refused("keep_alive_s", cell, spec::KEEP_ALIVE);
                spec.keep_alive_s = Some(cell.parse().map_err(wrong)?);
            }
            Column::Priority => spec.priority = text(),
            Column::Subscriptions => spec.subscriptions = Some(subscriptions(cell)?),
            Column::WillTopic => {
                has_topic = true;
                cell.clone_into(&mut will.topic);
            }
            Column::WillPayload => {
                has_rest = true;
                cell.clone_into(&mut will.payload);
            }
            Column::WillQos => {
                has_rest = true;
                will.qos = qos("will_qos", cell)?;
            }
            Column::WillRetain => {
                has_rest = true;
                let wrong = |_| refused("will_retain", cell, "true or false");
                will.retain = cell.parse().map_err(wrong)?;
            }
        }
    }
    if has_rest && !has_topic {
        return Err("a will needs a will_topic".to_owned());
    }
    spec.will = has_topic.then_some(will);
    Ok(spec)
}

/// `filter@qos;filter@qos`. A filter may have an `@`, and no `;`.
fn subscriptions(cell: &str) -> Result<Vec<SubscriptionSpec>, String> {
    let subscription = |text: &str| {
        let (filter, number) = text.rsplit_once('@').ok_or_else(|| {
            refused("subscriptions", text, "filter@qos, several with ; between them")
        })?;
        Ok(SubscriptionSpec { filter: filter.to_owned(), qos: qos("subscriptions", number)? })
    };
    cell.split(';').map(subscription).collect()
}

fn qos(column: &str, text: &str) -> Result<u8, String> {
    text.parse().map_err(|_| refused(column, text, spec::QOS))
}

fn refused(column: &str, given: &str, allowed: &str) -> String {
    format!("invalid {column}: given {given:?}, allowed: {allowed}")
}

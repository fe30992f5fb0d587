//! A finding about a process, from a suspicion.

use super::{Finding, FindingEvent, message};
use crate::{model::MonoTime, table::Table, trends::Suspicion};

/// All of a finding but its number.
pub(crate) fn describe(table: &Table, suspicion: Suspicion, now: MonoTime) -> Finding {
    let Suspicion { kind, subject, process, since, due, evidence, detail } = suspicion;
    let mut finding = Finding {
        event: FindingEvent::Opened,
        id: 0,
        kind,
        time: now.max(since),
        process,
        comm: table.comm(process),
        subject,
        socket: None,
        holders: Vec::new(),
        since,
        budget: due.since(since),
        evidence,
        device: None,
        detail: Some(detail),
        proof: Box::default(),
        message: String::new(),
        clear_reason: None,
    };
    finding.message = message::trend(&finding);
    finding
}

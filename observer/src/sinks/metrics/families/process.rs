//! PURE. What the watched processes hold.

use super::{Family, Fill, Type};
use crate::detect::Kind;

pub(super) const FAMILIES: &[Family] = &[
    Family {
        name: "sockwarden_processes",
        kind: Type::Gauge,
        unit: "processes",
        labels: &["reason"],
        help: "Processes that the observer knows, by reason: watched by itself, or holding a \
            watched socket.",
        advice: "0 watched ones mean that nothing matches the selection of the config.",
        query: "sockwarden_processes{reason=\"watched\"} == 0",
        fill: Fill::Processes(|listed, out| {
            out.labelled(&["watched"], listed.watched);
            out.labelled(&["holding"], listed.holding);
        }),
    },
    Family {
        name: "sockwarden_processes_unlisted",
        kind: Type::Gauge,
        unit: "processes",
        labels: &[],
        help: "Processes without series of their own: they are summed as comm=\"(others)\".",
        advice: "The hundred that matter are listed: those with open findings, then the watched \
            ones, then those with most sockets. Above 0, select fewer.",
        query: "sockwarden_processes_unlisted > 0",
        fill: Fill::Processes(|listed, out| out.value(listed.others)),
    },
    Family {
        name: "sockwarden_process_sockets",
        kind: Type::Gauge,
        unit: "sockets",
        labels: &["comm", "pid", "unit", "state"],
        help: "TCP sockets that a process holds, by state. A socket that two processes hold counts \
            for both.",
        advice: "The states are those of node_exporter's tcpstat. A leak shows as a line of \
            close_wait or close that only climbs.",
        query: "deriv(sockwarden_process_sockets{state=~\"close_wait|close\"}[30m]) > 0",
        fill: Fill::Process(|row, out| out.by_state(&row.sockets)),
    },
    Family {
        name: "sockwarden_process_descriptors",
        kind: Type::Gauge,
        unit: "descriptors",
        labels: &["comm", "pid", "unit"],
        help: "Open descriptors of a process, of any kind.",
        advice: "Against the soft limit: at 1 the next accept or connect fails with EMFILE.",
        query: "sockwarden_process_descriptors / ignoring(limit) \
            sockwarden_process_descriptor_limit{limit=\"soft\"} > 0.8",
        fill: Fill::Process(|row, out| {
            if let Some(descriptors) = row.descriptors {
                out.value(descriptors);
            }
        }),
    },
    Family {
        name: "sockwarden_process_descriptor_limit",
        kind: Type::Gauge,
        unit: "descriptors",
        labels: &["comm", "pid", "unit", "limit"],
        help: "Limits of open descriptors of a process, soft and hard (RLIMIT_NOFILE).",
        advice: "A soft limit of 1024 is what most programs inherit and few servers can live with. \
            For the others together it is the sum, so that shares stay right.",
        query: "predict_linear(sockwarden_process_descriptors[30m], 900) > ignoring(limit) \
            sockwarden_process_descriptor_limit{limit=\"soft\"}",
        fill: Fill::Process(|row, out| {
            if let Some((soft, hard)) = row.descriptor_limit {
                out.labelled(&["soft"], soft);
                out.labelled(&["hard"], hard);
            }
        }),
    },
    Family {
        name: "sockwarden_process_findings_open",
        kind: Type::Gauge,
        unit: "findings",
        labels: &["comm", "pid", "unit", "kind"],
        help: "Findings about a process that are open, by kind.",
        advice: "Names the process that has to act; the socket and its descriptor are in the \
            finding itself.",
        query: "topk(10, sum by (comm, pid, unit) (sockwarden_process_findings_open)) > 0",
        fill: Fill::Process(|row, out| {
            for kind in Kind::ALL {
                let open = row.findings.get(&kind).copied().unwrap_or_default();
                out.labelled(&[kind.code()], open);
            }
        }),
    },
];

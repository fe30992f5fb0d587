//! PURE. What the daemon is, takes and loses.

use super::{Family, Fill, Type};

pub(super) const FAMILIES: &[Family] = &[
    Family {
        name: "sockwarden_build_info",
        kind: Type::Gauge,
        unit: "1",
        labels: &["version"],
        help: "Always 1; the label says which program runs.",
        advice: "Shows at which host an update is missing.",
        query: "count by (version) (sockwarden_build_info)",
        fill: Fill::Own(|own, out| out.labelled(&[own.version], true)),
    },
    Family {
        name: "sockwarden_start_time_seconds",
        kind: Type::Gauge,
        unit: "seconds since 1970",
        labels: &[],
        help: "When the daemon was started, by the wall clock.",
        advice: "Changes count restarts.",
        query: "changes(sockwarden_start_time_seconds[1h]) > 0",
        fill: Fill::Own(|own, out| out.value(own.start_time)),
    },
    Family {
        name: "sockwarden_uptime_seconds",
        kind: Type::Gauge,
        unit: "seconds",
        labels: &[],
        help: "For how long the daemon has run, by a clock that nobody sets.",
        advice: "Silences alerts right after a start.",
        query: "sockwarden_uptime_seconds < 300",
        fill: Fill::Own(|own, out| out.value(own.uptime)),
    },
    Family {
        name: "sockwarden_resident_memory_bytes",
        kind: Type::Gauge,
        unit: "bytes",
        labels: &[],
        help: "Memory of the daemon that is in RAM.",
        advice: "Bounded by the table, the ring and the pool's sessions; a line that only climbs \
            is a fault of ours.",
        query: "deriv(sockwarden_resident_memory_bytes[6h])",
        fill: Fill::Own(|own, out| {
            if let Some(bytes) = own.footprint.resident_bytes {
                out.value(bytes);
            }
        }),
    },
    Family {
        name: "sockwarden_open_descriptors",
        kind: Type::Gauge,
        unit: "descriptors",
        labels: &[],
        help: "Open descriptors of the daemon, those of the pool's sessions included.",
        advice: "Without the pool's sockets it is nearly constant: the watchman must not leak \
            either.",
        query: "sockwarden_open_descriptors - sockwarden_pool_sockets",
        fill: Fill::Own(|own, out| {
            if let Some(descriptors) = own.footprint.open_descriptors {
                out.value(descriptors);
            }
        }),
    },
    Family {
        name: "sockwarden_cpu_seconds_total",
        kind: Type::Counter,
        unit: "seconds",
        labels: &[],
        help: "CPU time of the daemon, user and system, without its programs in the kernel.",
        advice: "The rate is the share of one CPU.",
        query: "rate(sockwarden_cpu_seconds_total[5m])",
        fill: Fill::Own(|own, out| {
            if let Some(time) = own.footprint.cpu_time {
                out.value(time);
            }
        }),
    },
    Family {
        name: "sockwarden_journal_entries_lost_total",
        kind: Type::Counter,
        unit: "entries",
        labels: &[],
        help: "Entries about findings that the journal did not take.",
        advice: "journald is overloaded or gone; the findings themselves are not lost.",
        query: "increase(sockwarden_journal_entries_lost_total[10m]) > 0",
        fill: Fill::Own(|own, out| out.value(own.journal_entries_lost)),
    },
    Family {
        name: "sockwarden_stream_events_dropped_total",
        kind: Type::Counter,
        unit: "events",
        labels: &[],
        help: "Events and messages that readers of the API's streams missed because they were too \
            slow.",
        advice: "Each gap is marked in the stream. Raise api.stream_buffer, or read faster.",
        query: "increase(sockwarden_stream_events_dropped_total[10m]) > 0",
        fill: Fill::Own(|own, out| out.value(own.events_dropped)),
    },
    Family {
        name: "sockwarden_messages_unread_total",
        kind: Type::Counter,
        unit: "messages",
        labels: &[],
        help: "Messages of devices that came while nobody read the stream of messages.",
        advice: "They are acknowledged and gone. Keep a reader at /api/v1/messages, or do not \
            subscribe.",
        query: "increase(sockwarden_messages_unread_total[10m]) > 0",
        fill: Fill::Own(|own, out| out.value(own.messages_unread)),
    },
    Family {
        name: "sockwarden_http_requests_total",
        kind: Type::Counter,
        unit: "requests",
        labels: &["route", "status"],
        help: "Answered requests of the API, by route and HTTP status.",
        advice: "The route is the pattern, never the path that was asked for.",
        query: "sum by (route) (rate(sockwarden_http_requests_total{status=~\"5..\"}[5m])) > 0",
        fill: Fill::Own(|own, out| {
            for ((route, status), count) in &own.requests {
                out.labelled(&[route, &status.to_string()], *count);
            }
        }),
    },
];

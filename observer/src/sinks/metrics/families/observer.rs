//! PURE. What the kernel's stream, the table and the findings come to.

use observer_ebpf::counter::Counter;

use super::{Family, Fill, Type};
use crate::{detect::Kind, probe::Layers};

pub(super) const FAMILIES: &[Family] = &[
    Family {
        name: "iot_open_sockets_total",
        kind: Type::Gauge,
        unit: "sockets",
        labels: &[],
        help: "MQTT sockets by the kernel's count, in any state: those to the brokers of the pool, \
            or on port 1883 or 8883. A gauge, whatever its name says.",
        advice: "The name is that of the article that tells of the leak, and kept for its \
            dashboards. It should stay at the number of devices; new dashboards use \
            sockwarden_mqtt_sockets.",
        query: "delta(iot_open_sockets_total[15m]) > 100",
        fill: Fill::Observer(|reading, out| out.value(reading.mqtt_sockets)),
    },
    Family {
        name: "iot_zombie_sockets_total",
        kind: Type::Gauge,
        unit: "sockets",
        labels: &[],
        help: "Sockets that the pool's registry claims as online, and that are not ESTABLISHED in \
            the kernel. A gauge, whatever its name says; 0 without a pool, which claims nothing.",
        advice: "As before, a name of the article. Moments of a few are normal while a broker \
            restarts; what stays becomes a ghost finding.",
        query: "min_over_time(iot_zombie_sockets_total[1m]) > 0",
        fill: Fill::Observer(|reading, out| {
            out.value(reading.registry.map_or(0, |registry| registry.zombies));
        }),
    },
    Family {
        name: "sockwarden_mqtt_sockets",
        kind: Type::Gauge,
        unit: "sockets",
        labels: &[],
        help: "MQTT sockets by the kernel's count, in any state: those to the brokers of the pool, \
            or on port 1883 or 8883.",
        advice: "Compare it with the number of devices: what is above it is leaked, or somebody \
            else's.",
        query: "sockwarden_mqtt_sockets - sockwarden_pool_devices",
        fill: Fill::Observer(|reading, out| out.value(reading.mqtt_sockets)),
    },
    Family {
        name: "sockwarden_findings_open",
        kind: Type::Gauge,
        unit: "findings",
        labels: &["kind", "severity"],
        help: "Findings that are open, by kind.",
        advice: "The one to alert on. What each kind asks for is in [findings.md](findings.md).",
        query: "sum by (kind) (sockwarden_findings_open) > 0",
        fill: Fill::Observer(|reading, out| {
            for kind in Kind::ALL {
                let open = reading.findings_open.get(&kind).copied().unwrap_or_default();
                out.labelled(&[kind.code(), kind.severity().name()], open);
            }
        }),
    },
    Family {
        name: "sockwarden_findings_opened_total",
        kind: Type::Counter,
        unit: "findings",
        labels: &["kind", "severity"],
        help: "Findings that were opened, by kind.",
        advice: "Shows leaks that come and go between two scrapes.",
        query: "sum by (kind) (increase(sockwarden_findings_opened_total[1h])) > 0",
        fill: Fill::Observer(|reading, out| {
            for kind in Kind::ALL {
                let opened = reading.findings_opened.get(&kind).copied().unwrap_or_default();
                out.labelled(&[kind.code(), kind.severity().name()], opened);
            }
        }),
    },
    Family {
        name: "sockwarden_findings_ignored_total",
        kind: Type::Counter,
        unit: "findings",
        labels: &["kind"],
        help: "Findings that did not open, or were cleared, because a rule of the config ignores \
            them, by kind.",
        advice: "What is ignored still leaks. If it grows without an end, look at it before the \
            rule ends.",
        query: "sum by (kind) (increase(sockwarden_findings_ignored_total[1d])) > 0",
        fill: Fill::Observer(|reading, out| {
            for kind in Kind::ALL {
                let ignored = reading.findings_ignored.get(&kind).copied().unwrap_or_default();
                out.labelled(&[kind.code()], ignored);
            }
        }),
    },
    Family {
        name: "sockwarden_detection_delay_seconds",
        kind: Type::Histogram,
        unit: "seconds",
        labels: &[],
        help: "From the end of a budget to the finding that was opened for it.",
        advice: "If it grows, the host has no time left for the observer, or snapshots take long.",
        query: "histogram_quantile(0.99, rate(sockwarden_detection_delay_seconds_bucket[1h]))",
        fill: Fill::Observer(|reading, out| out.histogram(&reading.detection_time)),
    },
    Family {
        name: "sockwarden_transitions_total",
        kind: Type::Counter,
        unit: "transitions",
        labels: &["state"],
        help: "Changes of TCP state of watched sockets, by the state that was entered.",
        advice: "New connections come in as syn_sent and syn_recv, ends as close. A storm of \
            reconnects shows here at an unchanged number of sockets.",
        query: "rate(sockwarden_transitions_total{state=\"syn_sent\"}[1m])",
        fill: Fill::Observer(|reading, out| out.by_state(&reading.transitions)),
    },
    Family {
        name: "sockwarden_records_lost_total",
        kind: Type::Counter,
        unit: "records",
        labels: &["cause"],
        help: "What the observer did not get to know, by cause. A snapshot sets the table right.",
        advice: "With ring-full causes, raise watch.ring_bytes; with table-full, watch.max_sockets. \
            Findings after a loss say that their evidence is reconstructed.",
        query: "sum by (cause) (increase(sockwarden_records_lost_total[10m])) > 0",
        fill: Fill::Observer(|reading, out| {
            let mut losses = reading.losses.clone();
            // A counter that appears with its first loss hides that loss from increase().
            for counter in Counter::ALL {
                losses.entry(counter.name()).or_default();
            }
            for (cause, lost) in losses {
                out.labelled(&[cause], lost);
            }
        }),
    },
    Family {
        name: "sockwarden_probe_layer",
        kind: Type::Gauge,
        unit: "0 or 1",
        labels: &["layer"],
        help: "Whether a layer of programs is attached: a changes of state and snapshots, b \
            descriptors of connect, accept and close, c MQTT client ids.",
        advice: "Without layer b the holders of a socket are known only from snapshots, and \
            without layer c nothing is said of client ids. `sockwarden check` says what is \
            missing.",
        query: "sockwarden_probe_layer{layer=\"b\"} == 0",
        fill: Fill::Observer(|reading, out| {
            out.labelled(&["a"], true);
            out.labelled(&["b"], reading.layers == Layers::Ab);
            out.labelled(&["c"], reading.names);
        }),
    },
    Family {
        name: "sockwarden_table_sockets",
        kind: Type::Gauge,
        unit: "sockets",
        labels: &[],
        help: "Sockets in the observer's table.",
        advice: "Each counts once here, however many processes hold it.",
        query: "sockwarden_table_sockets / sockwarden_table_sockets_limit > 0.8",
        fill: Fill::Observer(|reading, out| out.value(reading.sockets)),
    },
    Family {
        name: "sockwarden_table_sockets_limit",
        kind: Type::Gauge,
        unit: "sockets",
        labels: &[],
        help: "Sockets that the observer's table may hold.",
        advice: "Set by watch.max_sockets. What does not fit is counted as lost with the cause \
            table-full.",
        query: "sockwarden_table_sockets_limit",
        fill: Fill::Observer(|reading, out| out.value(reading.socket_capacity)),
    },
    Family {
        name: "sockwarden_snapshots_total",
        kind: Type::Counter,
        unit: "snapshots",
        labels: &[],
        help: "Snapshots that were taken of all holders and sockets.",
        advice: "At least one each watch.snapshot_interval; many more mean losses or suspicions.",
        query: "rate(sockwarden_snapshots_total[5m])",
        fill: Fill::Observer(|reading, out| out.value(reading.snapshot_time.count())),
    },
    Family {
        name: "sockwarden_snapshot_duration_seconds",
        kind: Type::Histogram,
        unit: "seconds",
        labels: &[],
        help: "How long a snapshot took.",
        advice: "It grows with the descriptors of the host, and the observer does nothing else \
            meanwhile.",
        query: "histogram_quantile(0.99, rate(sockwarden_snapshot_duration_seconds_bucket[1h]))",
        fill: Fill::Observer(|reading, out| out.histogram(&reading.snapshot_time)),
    },
    Family {
        name: "sockwarden_program_runs_total",
        kind: Type::Counter,
        unit: "runs",
        labels: &["program"],
        help: "How often a program in the kernel ran. Only where kernel.bpf_stats_enabled is 1.",
        advice: "Says which hook is the busy one.",
        query: "sum by (program) (rate(sockwarden_program_runs_total[5m]))",
        fill: Fill::Observer(|reading, out| {
            for cost in &reading.programs {
                out.labelled(&[cost.name], cost.runs);
            }
        }),
    },
    Family {
        name: "sockwarden_program_run_seconds_total",
        kind: Type::Counter,
        unit: "seconds",
        labels: &["program"],
        help: "How long a program in the kernel ran. Only where kernel.bpf_stats_enabled is 1.",
        advice: "The sum of the rates is the share of one CPU that the programs take from others.",
        query: "sum(rate(sockwarden_program_run_seconds_total[5m]))",
        fill: Fill::Observer(|reading, out| {
            for cost in &reading.programs {
                out.labelled(&[cost.name], cost.time);
            }
        }),
    },
    Family {
        name: "sockwarden_registry_claims",
        kind: Type::Gauge,
        unit: "sockets",
        labels: &["stage"],
        help: "Sockets that the pool claims, by stage: connecting until CONNACK, online, closed \
            until the receipt is there.",
        advice: "Claims that stay closed mean that somebody else holds the socket.",
        query: "min_over_time(sockwarden_registry_claims{stage=\"closed\"}[5m]) > 0",
        fill: Fill::Registry(|registry, out| {
            out.labelled(&["connecting"], registry.connecting);
            out.labelled(&["online"], registry.online);
            out.labelled(&["closed"], registry.closed);
        }),
    },
    Family {
        name: "sockwarden_registry_zombies",
        kind: Type::Gauge,
        unit: "sockets",
        labels: &[],
        help: "Claims as online whose socket is not ESTABLISHED in the kernel.",
        advice: "The registry against the kernel: 0 but for moments.",
        query: "min_over_time(sockwarden_registry_zombies[1m]) > 0",
        fill: Fill::Registry(|registry, out| out.value(registry.zombies)),
    },
    Family {
        name: "sockwarden_registry_receipts_total",
        kind: Type::Counter,
        unit: "receipts",
        labels: &["source"],
        help: "Proofs that a closed socket is gone, by source: an event of the kernel, or a query \
            because records were lost or late.",
        advice: "A growing share of queries means that events get lost: see \
            sockwarden_records_lost_total.",
        query: "rate(sockwarden_registry_receipts_total{source=\"query\"}[5m])",
        fill: Fill::Registry(|registry, out| {
            out.labelled(&["event"], registry.receipts_by_event);
            out.labelled(&["query"], registry.receipts_by_query);
        }),
    },
    Family {
        name: "sockwarden_registry_syn_retransmits_total",
        kind: Type::Counter,
        unit: "segments",
        labels: &[],
        help: "SYNs that were sent again towards a broker of the pool.",
        advice: "The first sign of a full listen queue at the broker, or of a bad way to it.",
        query: "rate(sockwarden_registry_syn_retransmits_total[5m])",
        fill: Fill::Registry(|registry, out| out.value(registry.syn_retransmits)),
    },
];

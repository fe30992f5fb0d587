use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{processes::Row, *};
use crate::{
    detect::Kind,
    model::{Comm, MonoTime, ProcessKey, TcpState},
    probe::Layers,
    reading::{ByState, Histogram, ProcessReading, ProgramCost, RegistryReading},
};

/// What was rendered: value by series, as it is written.
type Rendered = BTreeMap<String, f64>;

#[test]
fn each_number_stands_under_its_name() {
    let rendered = parse(&render(&reading(), Some(&pool_reading()), &own()));
    let expected = [
        ("iot_open_sockets_total", 12.0),
        ("iot_zombie_sockets_total", 74.0),
        ("sockwarden_mqtt_sockets", 12.0),
        ("sockwarden_findings_open{kind=\"close-wait\",severity=\"error\"}", 5.0),
        ("sockwarden_findings_open{kind=\"overlap\",severity=\"critical\"}", 0.0),
        ("sockwarden_findings_opened_total{kind=\"undrained\",severity=\"warning\"}", 6.0),
        ("sockwarden_findings_ignored_total{kind=\"undrained\"}", 2.0),
        ("sockwarden_findings_ignored_total{kind=\"ghost\"}", 0.0),
        ("sockwarden_detection_delay_seconds_count", 4.0),
        ("sockwarden_detection_delay_seconds_sum", 8.5),
        ("sockwarden_transitions_total{state=\"established\"}", 101.0),
        // A request counts where the kernel shows it.
        ("sockwarden_transitions_total{state=\"syn_recv\"}", 103.0 + 112.0),
        ("sockwarden_transitions_total{state=\"close_wait\"}", 108.0),
        ("sockwarden_transitions_total{state=\"closing\"}", 111.0),
        ("sockwarden_records_lost_total{cause=\"ring-full-state\"}", 51.0),
        ("sockwarden_records_lost_total{cause=\"table-full\"}", 52.0),
        ("sockwarden_records_lost_total{cause=\"watch-map-full\"}", 0.0),
        ("sockwarden_probe_layer{layer=\"a\"}", 1.0),
        ("sockwarden_probe_layer{layer=\"b\"}", 1.0),
        ("sockwarden_probe_layer{layer=\"c\"}", 1.0),
        ("sockwarden_table_sockets", 10.0),
        ("sockwarden_table_sockets_limit", 11.0),
        ("sockwarden_snapshots_total", 3.0),
        ("sockwarden_snapshot_duration_seconds_count", 3.0),
        ("sockwarden_program_runs_total{program=\"state\"}", 61.0),
        ("sockwarden_program_run_seconds_total{program=\"state\"}", 0.062),
        ("sockwarden_registry_claims{stage=\"connecting\"}", 71.0),
        ("sockwarden_registry_claims{stage=\"online\"}", 72.0),
        ("sockwarden_registry_claims{stage=\"closed\"}", 73.0),
        ("sockwarden_registry_zombies", 74.0),
        ("sockwarden_registry_receipts_total{source=\"event\"}", 75.0),
        ("sockwarden_registry_receipts_total{source=\"query\"}", 76.0),
        ("sockwarden_registry_syn_retransmits_total", 77.0),
        ("sockwarden_processes{reason=\"watched\"}", 1.0),
        ("sockwarden_processes{reason=\"holding\"}", 1.0),
        ("sockwarden_processes_unlisted", 0.0),
        (
            "sockwarden_process_sockets{comm=\"node\",pid=\"41\",unit=\"app.service\",\
             state=\"established\"}",
            1.0,
        ),
        (
            "sockwarden_process_sockets{comm=\"node\",pid=\"41\",unit=\"app.service\",\
             state=\"last_ack\"}",
            9.0,
        ),
        ("sockwarden_process_sockets{comm=\"python3\",pid=\"42\",unit=\"\",state=\"listen\"}", 0.0),
        ("sockwarden_process_descriptors{comm=\"node\",pid=\"41\",unit=\"app.service\"}", 81.0),
        (
            "sockwarden_process_descriptor_limit{comm=\"node\",pid=\"41\",unit=\"app.service\",\
             limit=\"soft\"}",
            82.0,
        ),
        (
            "sockwarden_process_descriptor_limit{comm=\"node\",pid=\"41\",unit=\"app.service\",\
             limit=\"hard\"}",
            83.0,
        ),
        (
            "sockwarden_process_findings_open{comm=\"node\",pid=\"41\",unit=\"app.service\",\
             kind=\"close-wait\"}",
            5.0,
        ),
        (
            "sockwarden_process_findings_open{comm=\"python3\",pid=\"42\",unit=\"\",\
             kind=\"close-wait\"}",
            0.0,
        ),
        ("sockwarden_pool_devices", 300.0),
        ("sockwarden_pool_sessions{state=\"waiting\"}", 301.0),
        ("sockwarden_pool_sessions{state=\"online\"}", 304.0),
        ("sockwarden_pool_sessions{state=\"releasing\"}", 306.0),
        ("sockwarden_pool_sockets", 310.0),
        ("sockwarden_pool_queued", 311.0),
        ("sockwarden_pool_connects_in_flight", 312.0),
        ("sockwarden_pool_window", 313.0),
        ("sockwarden_pool_window_halvings_total", 314.0),
        ("sockwarden_pool_reservoir", 315.0),
        ("sockwarden_pool_admissions_total", 2.0),
        ("sockwarden_pool_admission_wait_seconds_count", 2.0),
        ("sockwarden_pool_requests_merged_total", 316.0),
        ("sockwarden_pool_requests_expired_total", 317.0),
        ("sockwarden_pool_dials_total", 318.0),
        ("sockwarden_pool_connected_total", 319.0),
        ("sockwarden_pool_connect_duration_seconds_count", 1.0),
        ("sockwarden_pool_sessions_ended_total{cause=\"replaced\"}", 400.0),
        ("sockwarden_pool_sessions_ended_total{cause=\"rejected\"}", 420.0),
        ("sockwarden_pool_connects_failed_total{cause=\"replaced\"}", 500.0),
        ("sockwarden_pool_connects_failed_total{cause=\"refused\"}", 506.0),
        ("sockwarden_pool_receipts_total{level=\"released\"}", 321.0),
        ("sockwarden_pool_receipts_total{level=\"disconnected\"}", 322.0),
        ("sockwarden_pool_receipts_total{level=\"destroyed\"}", 323.0),
        ("sockwarden_pool_unreleased_total", 324.0),
        ("sockwarden_pool_late_events_total", 325.0),
        ("sockwarden_pool_quarantines_total", 326.0),
        ("sockwarden_pool_messages_received_total", 327.0),
        ("sockwarden_pool_messages_sent_total", 328.0),
        ("sockwarden_pool_messages_dropped_total", 329.0),
        ("sockwarden_pool_messages_waiting_bytes", 330.0),
        ("sockwarden_pool_sessions_paused", 331.0),
        ("sockwarden_pool_subscriptions_refused_total", 332.0),
        ("sockwarden_pool_received_bytes_total", 333.0),
        ("sockwarden_pool_sent_bytes_total", 334.0),
        ("sockwarden_pool_descriptors_promised", 335.0),
        ("sockwarden_pool_descriptors_limit", 336.0),
        ("sockwarden_pool_ports_in_use", 337.0),
        ("sockwarden_pool_ports_half", 338.0),
        ("sockwarden_build_info{version=\"1.2.3\"}", 1.0),
        ("sockwarden_start_time_seconds", 1_700_000_000.5),
        ("sockwarden_uptime_seconds", 91.25),
        ("sockwarden_resident_memory_bytes", 92.0),
        ("sockwarden_open_descriptors", 93.0),
        ("sockwarden_cpu_seconds_total", 1.5),
        ("sockwarden_journal_entries_lost_total", 94.0),
        ("sockwarden_stream_events_dropped_total", 95.0),
        ("sockwarden_messages_unread_total", 98.0),
        ("sockwarden_http_requests_total{route=\"/metrics\",status=\"200\"}", 96.0),
        ("sockwarden_http_requests_total{route=\"/metrics\",status=\"503\"}", 97.0),
    ];
    for (series, value) in expected {
        assert_eq!(rendered.get(series), Some(&value), "{series}");
    }
    // Nothing but what the table names, and nothing of that missing, here or in the page.
    let page = page();
    for family in all() {
        assert!(
            rendered.keys().any(|series| family_of(series) == family.name),
            "{} has no value",
            family.name
        );
        assert!(
            expected.iter().any(|(series, _)| family_of(series) == family.name),
            "{} is not tried here",
            family.name
        );
        assert!(page.contains(&format!("| `{}` ", family.name)), "{} has no row", family.name);
    }
}

#[test]
fn all_eleven_states_are_there_without_a_socket_too() {
    let rendered = parse(&render(&reading(), None, &own()));
    let states = [
        "close",
        "close_wait",
        "closing",
        "established",
        "fin_wait1",
        "fin_wait2",
        "last_ack",
        "listen",
        "syn_recv",
        "syn_sent",
        "time_wait",
    ];
    for family in ["sockwarden_process_sockets{comm=\"python3\"", "sockwarden_transitions_total"] {
        let of: Vec<&String> = rendered.keys().filter(|it| it.starts_with(family)).collect();
        let found: BTreeSet<&str> = of.iter().map(|series| label(series, "state")).collect();
        assert_eq!(found, states.into(), "{family}");
        assert_eq!(of.len(), states.len());
    }
}

#[test]
fn a_histogram_is_cumulated_up_to_infinity() {
    let rendered = render(&reading(), None, &own());
    let lines: Vec<&str> = rendered
        .lines()
        .filter(|it| it.starts_with("sockwarden_detection_delay_seconds_"))
        .collect();
    let bucket =
        |bound: &str| format!("sockwarden_detection_delay_seconds_bucket{{le=\"{bound}\"}}");
    let expected: Vec<String> = [
        ("0.0005", 1),
        ("0.001", 1),
        ("0.002", 1),
        ("0.005", 1),
        ("0.01", 1),
        ("0.025", 1),
        ("0.05", 1),
        ("0.1", 1),
        ("0.25", 1),
        ("0.5", 1),
        ("1", 3),
        ("5", 3),
        ("30", 3),
        ("120", 3),
        ("+Inf", 4),
    ]
    .iter()
    .map(|(bound, count)| format!("{} {count}", bucket(bound)))
    .chain([
        "sockwarden_detection_delay_seconds_sum 8.5".to_owned(),
        "sockwarden_detection_delay_seconds_count 4".to_owned(),
    ])
    .collect();
    assert_eq!(lines, expected);
}

#[test]
fn without_a_pool_only_the_name_of_the_article_is_left_of_it() {
    let reading = Reading { registry: None, programs: Vec::new(), ..reading() };
    let own = Own { footprint: Footprint::default(), ..own() };
    let rendered = parse(&render(&reading, None, &own));
    assert_eq!(rendered.get("iot_zombie_sockets_total"), Some(&0.0));
    for absent in [
        "sockwarden_pool_",
        "sockwarden_registry_",
        "sockwarden_program_",
        "sockwarden_resident",
        "sockwarden_open_",
        "sockwarden_cpu_",
    ] {
        let found = rendered.keys().find(|series| series.starts_with(absent));
        assert_eq!(found, None);
    }
}

#[test]
fn layer_b_that_is_not_there_is_a_zero() {
    let reading = Reading { layers: Layers::A, names: false, ..reading() };
    let rendered = parse(&render(&reading, None, &own()));
    assert_eq!(rendered["sockwarden_probe_layer{layer=\"a\"}"], 1.0);
    assert_eq!(rendered["sockwarden_probe_layer{layer=\"b\"}"], 0.0);
    assert_eq!(rendered["sockwarden_probe_layer{layer=\"c\"}"], 0.0);
}

#[test]
fn a_reservoir_that_is_not_there_is_no_zero() {
    let mut pool = pool_reading();
    pool.metrics.reservoir = None;
    let rendered = parse(&render(&reading(), Some(&pool), &own()));
    assert!(!rendered.contains_key("sockwarden_pool_reservoir"));
}

#[test]
fn findings_go_before_watched_ones_and_these_before_many_sockets_and_among_equals_age() {
    let mut processes: Vec<ProcessReading> = (0..MOST_PROCESSES as u32)
        .map(|n| ProcessReading { watched: true, ..process(1_000 + n, "crowd", 50) })
        .collect();
    let with_finding = ProcessReading {
        findings_open: BTreeMap::from([(Kind::Ghost, 1)]),
        ..process(1, "finding", 0)
    };
    let with_past_finding = ProcessReading {
        findings_open: BTreeMap::from([(Kind::Ghost, 0)]),
        ..process(2, "past", 0)
    };
    let large = process(3, "large", 9_000);
    let small = ProcessReading { watched: true, ..process(4, "small", 49) };
    processes.extend([large, small, with_past_finding, with_finding]);
    let rows = Listed::new(&processes).rows;
    let names: Vec<&str> = rows.iter().map(|row| row.labels[0].as_str()).collect();
    assert_eq!(rows.len(), MOST_PROCESSES + 1);
    assert_eq!(names[0], "finding");
    assert!(names[1..MOST_PROCESSES].iter().all(|name| *name == "crowd"), "{names:?}");
    // Of the equals the youngest gave way.
    assert!(!rows.iter().any(|row| row.labels[1] == (1_000 + MOST_PROCESSES - 1).to_string()));
    assert_eq!(names[MOST_PROCESSES], OTHERS);
    assert_eq!(rows[MOST_PROCESSES].sockets[0], 9_000 + 49 + 50);
}

#[test]
fn exactly_the_most_processes_leave_no_others() {
    let processes: Vec<_> = (0..MOST_PROCESSES as u32).map(|n| process(n, "x", 1)).collect();
    let listed = Listed::new(&processes);
    assert_eq!((listed.rows.len(), listed.others), (MOST_PROCESSES, 0));
    assert!(listed.rows.iter().all(|row| row.labels[0] == "x"));
}

#[test]
fn two_lives_of_one_number_are_one_series() {
    let first = process(7, "x", 2);
    let mut second = process(7, "x", 3);
    second.process.start_ns += 1;
    let listed = Listed::new(&[first, second]);
    assert_eq!(listed.rows.len(), 1);
    assert_eq!(listed.rows[0].sockets[0], 5);
}

#[test]
fn a_process_called_others_is_not_taken_for_them() {
    let mut processes: Vec<_> =
        (0..2 * MOST_PROCESSES as u32).map(|n| process(n + 1, OTHERS, 1)).collect();
    processes[0].unit = Some(String::new());
    let rows = Listed::new(&processes).rows;
    let summed: Vec<&Row> = rows.iter().filter(|row| row.labels[1].is_empty()).collect();
    assert_eq!(summed.len(), 1);
    assert_eq!(summed[0].sockets[0], MOST_PROCESSES as u64);
}

#[test]
fn names_can_break_nothing_and_are_cut() {
    let unit = format!("a\"b\\c\nd\u{1b}[31m\u{202e}{}", "x".repeat(1_000));
    let reading = Reading {
        processes: vec![ProcessReading { unit: Some(unit), ..process(1, "e\"}\\ 1", 1) }],
        ..reading()
    };
    let rendered = render(&reading, None, &own());
    let line = rendered
        .lines()
        .find(|line| line.starts_with("sockwarden_process_sockets"))
        .expect("there is a process");
    let shown = "a\\\"b\\\\c\\\\u{a}d\\\\u{1b}[31m\\\\u{202e}";
    assert!(
        line.starts_with(&format!(
            "sockwarden_process_sockets{{comm=\"e\\\"}}\\\\ 1\",pid=\"1\",unit=\"{shown}x"
        )),
        "{line}"
    );
    let unit = line.split("unit=\"").nth(1).and_then(|it| it.split("\",state").next());
    let unit = unit.expect("it has a unit").replace("\\\\", "\\").replace("\\\"", "\"");
    assert_eq!(unit.chars().count(), MOST_CHARACTERS + 1, "{unit}");
    assert!(unit.ends_with('…'));
}

#[test]
fn the_table_keeps_the_conventions() {
    let mut names = BTreeSet::new();
    for family in all() {
        let name = family.name;
        assert!(names.insert(name), "{name} is there twice");
        let of_the_article = ["iot_open_sockets_total", "iot_zombie_sockets_total"].contains(&name);
        assert!(name.starts_with("sockwarden_") || of_the_article, "{name}");
        let word = |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        assert!(word(name) && family.labels.iter().all(|label| word(label)), "{name}");
        if !of_the_article {
            assert_eq!(name.ends_with("_total"), family.kind == Type::Counter, "{name}");
        }
        let base = name.trim_end_matches("_total");
        for unit in ["seconds", "bytes"] {
            assert_eq!(
                base.ends_with(&format!("_{unit}")),
                family.unit.starts_with(unit),
                "{name}"
            );
        }
        for text in [family.help, family.advice] {
            let is_sentence = text.ends_with('.') || text.ends_with(").");
            assert!(is_sentence && !text.contains(['|', '\n']), "{name}: {text}");
            assert!(!text.contains("  "), "{name}: {text}");
        }
        assert!(!family.query.contains("  ") && !family.query.contains('`'), "{name}");
        assert!(family.query.contains(name), "{name}: {}", family.query);
    }
}

#[test]
fn the_columns_of_the_page_are_aligned() {
    let page = page();
    let mut widths = BTreeSet::new();
    for line in page.lines() {
        if line.starts_with('|') {
            let bars: Vec<usize> =
                line.chars().enumerate().filter(|(_, c)| *c == '|').map(|(at, _)| at).collect();
            assert_eq!(bars.len(), 6, "{line}");
            widths.insert(bars);
        } else if line.starts_with('#') {
            widths.clear();
        }
        assert!(widths.len() <= 1, "{line}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_processes_give_bounded_text_without_twins_whose_sums_are_right(
        processes in prop::collection::vec(any_process(), 0..300),
    ) {
        let reading = Reading { processes, ..reading() };
        let processes = &reading.processes;
        let rendered = parse(&render(&reading, None, &own()));
        let of = |name: &str| -> Vec<(&String, f64)> {
            let prefix = format!("{name}{{");
            rendered.iter().filter(|(it, _)| it.starts_with(&prefix)).map(|(a, b)| (a, *b)).collect()
        };
        let sum = |name: &str| of(name).iter().map(|(_, value)| value).sum::<f64>();
        let total = |of: &dyn Fn(&ProcessReading) -> u64| processes.iter().map(of).sum::<u64>() as f64;

        prop_assert!(of("sockwarden_process_sockets").len() <= 11 * (MOST_PROCESSES + 1));
        prop_assert!(of("sockwarden_process_findings_open").len() <= Kind::ALL.len() * (MOST_PROCESSES + 1));
        prop_assert_eq!(sum("sockwarden_process_sockets"), total(&|it| it.sockets.iter().sum()));
        prop_assert_eq!(
            sum("sockwarden_process_descriptors"),
            total(&|it| it.descriptors.unwrap_or_default())
        );
        prop_assert_eq!(
            sum("sockwarden_process_descriptor_limit"),
            total(&|it| it.descriptor_limit.map_or(0, |(soft, hard)| soft + hard))
        );
        prop_assert_eq!(
            sum("sockwarden_process_findings_open"),
            total(&|it| it.findings_open.values().sum())
        );
        prop_assert_eq!(sum("sockwarden_processes"), processes.len() as f64);
        prop_assert_eq!(
            rendered["sockwarden_processes_unlisted"],
            processes.len().saturating_sub(MOST_PROCESSES) as f64
        );
    }
}

/// A process with a name and a unit that anybody may have chosen.
fn any_process() -> impl Strategy<Value = ProcessReading> {
    let names = (prop::collection::vec(any::<u8>(), 0..16), prop::option::of(any::<String>()));
    let kinds = prop::sample::select(Kind::ALL.to_vec());
    let numbers = (
        prop::array::uniform12(0_u64..1_000),
        prop::option::of(0_u64..100_000),
        prop::option::of((0_u64..1 << 20, 0_u64..1 << 20)),
        prop::collection::btree_map(kinds, 0_u64..5, 0..4),
    );
    (1_u32..200, any::<u64>(), any::<bool>(), names, numbers).prop_map(
        |(pid, start_ns, watched, (comm, unit), (sockets, descriptors, limit, findings))| {
            ProcessReading {
                process: ProcessKey { pid, start_ns },
                comm: Comm::from_bytes(&comm),
                unit,
                watched,
                sockets,
                descriptors,
                descriptor_limit: limit,
                findings_open: findings,
            }
        },
    )
}

/// Reads the text format as far as it is used here; a series must not come twice.
fn parse(text: &str) -> Rendered {
    let mut rendered = Rendered::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').expect("a line has a value");
        let value = value.parse().expect("the value is a number");
        assert_eq!(rendered.insert(series.to_owned(), value), None, "{series} comes twice");
    }
    rendered
}

/// The family of a series: without labels, and without what a histogram adds.
fn family_of(series: &str) -> &str {
    let name = series.split('{').next().unwrap_or(series);
    let histogram = ["_count", "_sum", "_bucket"].iter().find_map(|end| name.strip_suffix(end));
    histogram.filter(|name| name.ends_with("_seconds")).unwrap_or(name)
}

fn label<'a>(series: &'a str, name: &str) -> &'a str {
    let (_, rest) = series.split_once(&format!("{name}=\"")).expect("it has this label");
    rest.split('"').next().expect("invariant: there is a first piece")
}

fn process(pid: u32, comm: &str, established: u64) -> ProcessReading {
    let mut sockets = ByState::default();
    sockets[0] = established;
    ProcessReading {
        process: ProcessKey { pid, start_ns: u64::from(pid) * 1_000 },
        comm: Comm::from_bytes(comm.as_bytes()),
        unit: None,
        watched: false,
        sockets,
        descriptors: None,
        descriptor_limit: None,
        findings_open: BTreeMap::new(),
    }
}

/// A number for everything, all different.
fn reading() -> Reading {
    let node = ProcessReading {
        unit: Some("app.service".to_owned()),
        watched: true,
        sockets: std::array::from_fn(|index| index as u64 + 1),
        descriptors: Some(81),
        descriptor_limit: Some((82, 83)),
        findings_open: BTreeMap::from([(Kind::CloseWait, 5)]),
        ..process(41, "node", 0)
    };
    Reading {
        time: MonoTime::from_nanos(1_000_000_000),
        layers: Layers::Ab,
        names: true,
        processes: vec![process(42, "python3", 1), node],
        sockets: 10,
        socket_capacity: 11,
        mqtt_sockets: 12,
        findings_open: BTreeMap::from([(Kind::CloseWait, 5)]),
        findings_opened: BTreeMap::from([(Kind::Undrained, 6)]),
        findings_ignored: BTreeMap::from([(Kind::Undrained, 2)]),
        transitions: std::array::from_fn(|index| TcpState::ALL[index] as u64 + 100),
        losses: BTreeMap::from([("ring-full-state", 51), ("table-full", 52)]),
        snapshot_time: histogram(&[(4, 3)], 20),
        detection_time: histogram(&[(0, 1), (10, 2), (14, 1)], 8_500),
        programs: vec![ProgramCost { name: "state", runs: 61, time: Duration::from_millis(62) }],
        registry: Some(RegistryReading {
            connecting: 71,
            online: 72,
            closed: 73,
            zombies: 74,
            receipts_by_event: 75,
            receipts_by_query: 76,
            syn_retransmits: 77,
        }),
    }
}

fn pool_reading() -> PoolReading {
    let mut pool = PoolReading::default();
    pool.status.devices = 300;
    let metrics = &mut pool.metrics;
    metrics.devices = std::array::from_fn(|index| 301 + index);
    metrics.sockets = 310;
    metrics.queued = 311;
    metrics.in_flight = 312;
    metrics.window = 313;
    metrics.window_halvings = 314;
    metrics.reservoir = Some(315);
    metrics.requests_merged = 316;
    metrics.requests_expired = 317;
    metrics.dials = 318;
    metrics.connected = 319;
    metrics.ended = std::array::from_fn(|index| 400 + index as u64);
    metrics.failed = std::array::from_fn(|index| 500 + index as u64);
    metrics.connect_time = histogram(&[(1, 1)], 1);
    metrics.admission_wait = histogram(&[(2, 2)], 4);
    metrics.receipts = [321, 322, 323];
    metrics.unreleased = 324;
    metrics.late_events = 325;
    metrics.quarantines = 326;
    metrics.messages_received = 327;
    metrics.messages_sent = 328;
    metrics.messages_dropped = 329;
    metrics.messages_waiting_bytes = 330;
    metrics.sessions_paused = 331;
    metrics.subscriptions_refused = 332;
    metrics.received_bytes = 333;
    metrics.sent_bytes = 334;
    metrics.descriptors_promised = 335;
    metrics.descriptor_limit = 336;
    metrics.ports_in_use = 337;
    metrics.ports_half = 338;
    pool
}

fn own() -> Own {
    Own {
        version: "1.2.3",
        start_time: Timestamp::from_millisecond(1_700_000_000_500)
            .expect("invariant: within the range of the calendar"),
        uptime: Duration::from_millis(91_250),
        footprint: Footprint {
            resident_bytes: Some(92),
            open_descriptors: Some(93),
            cpu_time: Some(Duration::from_millis(1_500)),
        },
        journal_entries_lost: 94,
        events_dropped: 95,
        messages_unread: 98,
        requests: BTreeMap::from([
            (("/metrics".to_owned(), 200), 96),
            (("/metrics".to_owned(), 503), 97),
        ]),
    }
}

fn histogram(counts: &[(usize, u64)], sum_ms: u64) -> Histogram {
    let mut histogram = Histogram { sum: Duration::from_millis(sum_ms), ..Histogram::default() };
    for (bucket, count) in counts {
        histogram.counts[*bucket] = *count;
    }
    histogram
}

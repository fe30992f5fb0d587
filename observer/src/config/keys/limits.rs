//! PURE. The keys of `[pool.limits]`, `[pool.timeouts]` and `[pool.buffers]`.

use std::time::Duration;

use pool::{Adaptive, Buffers, Limits, Overflow, Reservoir, Timeouts};

use super::super::{
    Profile,
    form::{Form, any_span, choice, fraction, number, size},
    key::{Key, Reload, Section, place},
};

/// `[pool.limits]`.
pub(super) fn limits() -> Section {
    let profiles: &[(&str, Profile)] = &[
        ("article", Profile::Article),
        ("paced", Profile::Paced),
        ("adaptive", Profile::Adaptive),
    ];
    let interval = any_span().pool(|it| Limits { min_interval: *it, ..Limits::paced() }.check());
    let in_flight =
        number(0..=usize::MAX).pool(|it| Limits { max_in_flight: *it, ..Limits::paced() }.check());
    let spacing = any_span().pool(|it| Limits { connect_spacing: *it, ..Limits::paced() }.check());
    let amount = || {
        number(0..=u32::MAX).pool(|it| match it {
            0 => Ok(()),
            _ => with_reservoir(Reservoir { amount: *it, ..RESERVOIR }),
        })
    };
    let refresh = number(0..=u32::MAX)
        .pool(|it| with_reservoir(Reservoir { refresh_amount: *it, ..RESERVOIR }));
    let window =
        any_span().pool(|it| with_reservoir(Reservoir { refresh_interval: *it, ..RESERVOIR }));
    let initial = number(0..=65_535_usize);
    let tolerance = fraction().pool(|it| {
        let adaptive = Some(Adaptive { initial: 1, tolerance: *it });
        Limits { adaptive, ..Limits::paced() }.check()
    });
    Section {
        name: "pool.limits",
        meaning: "How fast connects may begin, all devices together. \"auto\" is what the profile \
            says.",
        repeats: None,
        keys: vec![
            Key {
                name: "profile",
                place: place(choice("a text in quotes", profiles), |it| {
                    &mut it.pool.limits.profile
                }),
                default: r#""paced""#.into(),
                allowed: r#""article", "paced" or "adaptive""#,
                meaning: "article: one dial per 10 ms, 100 at once, 200 in each 10 s, so 4,000 \
                    devices take 192 s. paced: one dial per 10 ms, 80 at once, so they take 40 s. \
                    adaptive: as fast as the broker takes them without refusing one.",
                reason: "It is quick enough and kind to any broker.",
                reload: Reload::Applies,
            },
            Key {
                name: "min_interval",
                place: place(interval.or("auto"), |it| &mut it.pool.limits.min_interval),
                default: AUTO.into(),
                allowed: "0 (off) to 60 s",
                meaning: "The least time between two turns to connect.",
                reason: "10ms with article and paced, 0s with adaptive.",
                reload: Reload::Applies,
            },
            Key {
                name: "max_in_flight",
                place: place(in_flight.or("auto"), |it| &mut it.pool.limits.max_in_flight),
                default: AUTO.into(),
                allowed: "1 to 65,535",
                meaning: "Connects that may be under way at once, from the dial to CONNACK or \
                    failure. Keep it under the listen backlog of the broker.",
                reason: "80 with paced and adaptive, for Mosquitto's backlog is 100; 100 with \
                    article.",
                reload: Reload::Applies,
            },
            Key {
                name: "reservoir_amount",
                place: place(amount().or("auto"), |it| &mut it.pool.limits.reservoir_amount),
                default: AUTO.into(),
                allowed: "0 (no reservoir), or 1 to 1,000,000",
                meaning: "Dials that may begin in the first window of time.",
                reason: "200 with article; paced and adaptive have no reservoir.",
                reload: Reload::Applies,
            },
            Key {
                name: "reservoir_refresh_amount",
                place: place(refresh.or("auto"), |it| &mut it.pool.limits.reservoir_refresh_amount),
                default: AUTO.into(),
                allowed: "1 to 1,000,000",
                meaning: "Dials that may begin in each further window; what was left is lost.",
                reason: "As many as at first.",
                reload: Reload::Applies,
            },
            Key {
                name: "reservoir_refresh_interval",
                place: place(window.or("auto"), |it| {
                    &mut it.pool.limits.reservoir_refresh_interval
                }),
                default: AUTO.into(),
                allowed: "10 ms to 1 hour",
                meaning: "How long a window of the reservoir lasts.",
                reason: "10s, as in the article.",
                reload: Reload::Applies,
            },
            Key {
                name: "adaptive_initial",
                place: place(initial.or("auto"), |it| &mut it.pool.limits.adaptive_initial),
                default: AUTO.into(),
                allowed: "0 (not adaptive), or 1 to max_in_flight",
                meaning: "Connects in flight at first, where their number follows the broker.",
                reason: "16 with adaptive; with article and paced it does not follow.",
                reload: Reload::Applies,
            },
            Key {
                name: "adaptive_tolerance",
                place: place(tolerance.or("auto"), |it| &mut it.pool.limits.adaptive_tolerance),
                default: AUTO.into(),
                allowed: "1.0 to 10.0",
                meaning: "How many times longer than usual a connect may take before fewer are made \
                    at once.",
                reason: "2.0: less would take the usual jitter for congestion.",
                reload: Reload::Applies,
            },
            Key {
                name: "connect_spacing",
                place: place(spacing.or("auto"), |it| &mut it.pool.limits.connect_spacing),
                default: AUTO.into(),
                allowed: "0 (off) to 1 hour",
                meaning: "The least time between two CONNECTs of one client id.",
                reason: "1s: AWS IoT Core allows no more, and it ends any fight within the pool.",
                reload: Reload::Applies,
            },
        ],
    }
}

/// `[pool.timeouts]`.
pub(super) fn timeouts() -> Section {
    let key = |name, place, default: &'static str, allowed, meaning, reason| Key {
        name,
        place,
        default: default.into(),
        allowed,
        meaning,
        reason,
        reload: Reload::Restart,
    };
    Section {
        name: "pool.timeouts",
        meaning: "How long the pool waits for others.",
        repeats: None,
        keys: vec![
            key(
                "connect",
                place(timeout(|it, time| it.connect = time), |it| &mut it.pool.timeouts.connect),
                r#""10s""#,
                "100 ms to 10 minutes",
                "For DNS, TCP, TLS, WebSocket and CONNACK together, counted from the dial.",
                "Four SYNs (after 0, 1, 3 and 7 s) and a slow broker; longer only holds a place that others wait for.",
            ),
            key(
                "packet",
                place(timeout(|it, time| it.packet = time), |it| &mut it.pool.timeouts.packet),
                r#""30s""#,
                "1 s to 10 minutes",
                "For the rest of a packet whose first byte is there.",
                "A whole packet of max_packet over a slow line takes less.",
            ),
            key(
                "close",
                place(timeout(|it, time| it.close = time), |it| &mut it.pool.timeouts.close),
                r#""250ms""#,
                "0 (at once) to 10 s",
                "For the broker to close after our DISCONNECT, so that TIME_WAIT and its port are \
                 the broker's.",
                "About a round trip to anywhere on earth.",
            ),
            key(
                "receipt",
                place(timeout(|it, time| it.receipt = time), |it| &mut it.pool.timeouts.receipt),
                r#""1s""#,
                "10 ms to 1 minute",
                "For the receipt of a destroyed socket, before the next dial goes ahead without it \
                 and is counted.",
                "Receipts take microseconds on a healthy host.",
            ),
            key(
                "tcp_user",
                place(timeout(|it, time| it.tcp_user = time), |it| &mut it.pool.timeouts.tcp_user),
                r#""45s""#,
                "0 (off), or 9 s to 1 hour",
                "How long the peer's kernel may stay silent when data is sent or a probe asks \
                 (TCP_USER_TIMEOUT).",
                "Before the keep-alive of MQTT would notice it, after 90 s.",
            ),
        ],
    }
}

/// `[pool.buffers]`.
pub(super) fn buffers() -> Section {
    let overflow =
        choice("a text in quotes", &[("wait", Overflow::Wait), ("drop", Overflow::Drop)]);
    let key = |name, place, default: &'static str, allowed, meaning, reason| Key {
        name,
        place,
        default: default.into(),
        allowed,
        meaning,
        reason,
        reload: Reload::Restart,
    };
    let all = 0..=u64::MAX;
    Section {
        name: "pool.buffers",
        meaning: "How much may wait, in either direction. Nothing in the pool grows beyond these.",
        repeats: None,
        keys: vec![
            key(
                "max_packet",
                place(buffer(size(all.clone()), |it, bytes| it.max_packet = bytes), |it| {
                    &mut it.pool.buffers.max_packet
                }),
                r#""256KiB""#,
                "128 to 268,435,455 bytes",
                "The largest packet taken from the broker, in bytes with headers; told to it in \
                 MQTT 5.",
                "AWS IoT Core allows 128 KiB, Azure IoT Hub 256 KiB.",
            ),
            key(
                "messages",
                place(buffer(size(all), |it, bytes| it.messages = bytes), |it| {
                    &mut it.pool.buffers.messages
                }),
                r#""32MiB""#,
                "64 KiB to 4 GiB",
                "Received messages that nobody has taken yet, of all devices, in bytes: topic, \
                 payload and 128 bytes for each.",
                "A burst of some 100,000 small messages.",
            ),
            key(
                "overflow",
                place(overflow, |it| &mut it.pool.buffers.overflow),
                r#""wait""#,
                r#""wait" or "drop""#,
                "What happens when messages are full. wait: the sessions stop reading, so that TCP \
                 slows the broker down. drop: the newest is dropped, acknowledged and counted.",
                "Nothing is lost.",
            ),
            key(
                "outbox",
                place(buffer(number(0..=usize::MAX), |it, most| it.outbox = most), |it| {
                    &mut it.pool.buffers.outbox
                }),
                "100",
                "1 to 100,000",
                "Requests that may wait for the session of one device.",
                "More is a sign that the device is gone for long.",
            ),
            key(
                "inflight",
                place(buffer(number(0..=u16::MAX), |it, most| it.inflight = most), |it| {
                    &mut it.pool.buffers.inflight
                }),
                "16",
                "1 to 65,535",
                "Publishes with QoS 1 or 2 under way on one session, and messages that the broker \
                 may have under way to us.",
                "It bounds what a session has to keep, and to send again after a replacement.",
            ),
            key(
                "events",
                place(buffer(number(0..=usize::MAX), |it, most| it.events = most), |it| {
                    &mut it.pool.buffers.events
                }),
                "4096",
                "16 to 1,048,576",
                "Events of the pool that the daemon may fall behind before it gets a gap.",
                "Some seconds of a storm at the usual pace.",
            ),
        ],
    }
}

const AUTO: &str = r#""auto""#;

/// Within all ranges: what another value is tried beside.
const RESERVOIR: Reservoir =
    Reservoir { amount: 1, refresh_amount: 1, refresh_interval: Duration::from_secs(1) };

fn with_reservoir(reservoir: Reservoir) -> Result<(), pool::CallerError> {
    Limits { reservoir: Some(reservoir), ..Limits::paced() }.check()
}

fn timeout(set: fn(&mut Timeouts, Duration)) -> Form<Duration> {
    any_span().pool(move |it| {
        let mut alone = Timeouts::default();
        set(&mut alone, *it);
        alone.check()
    })
}

fn buffer<T: Copy + 'static>(form: Form<T>, set: fn(&mut Buffers, T)) -> Form<T> {
    form.pool(move |it| {
        let mut alone = Buffers::default();
        set(&mut alone, *it);
        alone.check()
    })
}

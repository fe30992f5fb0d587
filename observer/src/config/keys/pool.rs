//! PURE. The keys of `[pool]` and `[pool.tls]`.

use std::time::Duration;

use pool::{Broker, CallerError, Device, TlsOptions, Version};

use super::super::{
    form::{
        Form, Problem, Taken, Text, Value, Wrong, address, any_span, choice, flag, number, path,
        text, word,
    },
    key::{Key, Reload, Section, place},
    source::quoted,
};

/// `[pool]`.
pub(super) fn section() -> Section {
    let version = choice("a text in quotes", &[("3.1.1", Version::V311), ("5", Version::V5)]);
    Section {
        name: "pool",
        meaning: "The MQTT pool and its broker.",
        repeats: None,
        keys: vec![
            Key {
                name: "broker",
                place: place(broker().or(""), |it| &mut it.pool.broker),
                default: r#""""#.into(),
                allowed: r#"mqtt://, mqtts://, ws:// or wss://, a host, and perhaps :PORT; "" for no pool"#,
                meaning: "The address of the broker. Without it there is no pool, and the observer \
                    runs alone. User and password do not belong here: logs show addresses.",
                reason: "Only you know your broker.",
                reload: Reload::Restart,
            },
            Key {
                name: "version",
                place: place(version, |it| &mut it.pool.version),
                default: r#""3.1.1""#.into(),
                allowed: r#""3.1.1" or "5""#,
                meaning: "The version of MQTT.",
                reason: "Every broker speaks 3.1.1.",
                reload: Reload::Restart,
            },
            Key {
                name: "keep_alive",
                place: place(keep_alive(), |it| &mut it.pool.keep_alive),
                default: r#""1m""#.into(),
                allowed: "whole seconds from 0s (off) to 65535s",
                meaning: "Keep-alive of devices that have no own one. A broker that is silent for \
                    1.5 times as long is dead.",
                reason: "What most MQTT clients have.",
                reload: Reload::Restart,
            },
            Key {
                name: "clean_start",
                place: place(flag(), |it| &mut it.pool.clean_start),
                default: "false".into(),
                allowed: "true or false",
                meaning: "Whether the broker forgets the session of a device at each connect.",
                reason: "Subscriptions and messages with QoS above 0 outlive a replacement.",
                reload: Reload::Restart,
            },
            Key {
                name: "session_expiry",
                place: place(any_span().checked(is_whole), |it| &mut it.pool.session_expiry),
                default: r#""1h""#.into(),
                allowed: "whole seconds from 0s to 8760h (a year)",
                meaning: "MQTT 5: how long the broker keeps a session whose connection is gone.",
                reason: "Longer than a restart or an outage that somebody is called for.",
                reload: Reload::Restart,
            },
            Key {
                name: "username",
                place: place(word(65_535).or(""), |it| &mut it.pool.username),
                default: r#""""#.into(),
                allowed: r#"1 to 65,535 bytes; "" for none"#,
                meaning: "User name at the broker of devices that have none of their own.",
                reason: "Only you know your broker.",
                reload: Reload::Restart,
            },
            Key {
                name: "password_file",
                place: place(path().or(""), |it| &mut it.pool.password_file),
                default: r#""""#.into(),
                allowed: r#"a path that begins with /; "" for none"#,
                meaning: "The file whose first line is the password for username, at most 64 KiB. \
                    Read before privileges are dropped: it may belong to root alone.",
                reason: "A password in this file would be read by whoever may read the config.",
                reload: Reload::Restart,
            },
            Key {
                name: "sources",
                place: place(address().list("a list of IP addresses"), |it| &mut it.pool.sources),
                default: "[]".into(),
                allowed: "IP addresses of this host, each once",
                meaning: "Local addresses to connect from; the one with the fewest connections is \
                    taken.",
                reason: "The kernel chooses. One address has some 28,000 ports towards one broker, \
                    and past half of them each connect costs 25 times more.",
                reload: Reload::Restart,
            },
            Key {
                name: "redirects",
                place: place(redirect().list("a list of servers"), |it| &mut it.pool.redirects),
                default: "[]".into(),
                allowed: "host, host:port or *.domain, each once",
                meaning: "MQTT 5: servers that the broker may send a device to.",
                reason: "Whoever answers as the broker could send devices anywhere.",
                reload: Reload::Restart,
            },
            Key {
                name: "descriptor_headroom",
                place: place(number(0..=1_000_000_u64).or("auto"), |it| {
                    &mut it.pool.descriptor_headroom
                }),
                default: r#""auto""#.into(),
                allowed: r#"0 to 1,000,000, or "auto""#,
                meaning: "Descriptors that stay free for the rest of the daemon: the pool refuses \
                    devices that would take them.",
                reason: "auto: 64, or 1 % of the limit of open files if that is more.",
                reload: Reload::Restart,
            },
        ],
    }
}

/// `[pool.tls]`.
pub(super) fn tls() -> Section {
    Section {
        name: "pool.tls",
        meaning: "Whom to trust and who we are, for a broker behind mqtts:// or wss://. The files \
            are read at the start.",
        repeats: None,
        keys: vec![
            Key {
                name: "ca_file",
                place: place(path().or(""), |it| &mut it.pool.tls.ca_file),
                default: r#""""#.into(),
                allowed: r#"a path that begins with /; "" for none"#,
                meaning: "PEM file with the authorities to trust, instead of those of the system.",
                reason: "The system's authorities are what most brokers are signed by.",
                reload: Reload::Restart,
            },
            Key {
                name: "client_certificate",
                place: place(path().or(""), |it| &mut it.pool.tls.client_certificate),
                default: r#""""#.into(),
                allowed: r#"a path that begins with /, together with client_key; "" for none"#,
                meaning: "PEM file with our certificate chain, our own certificate first.",
                reason: "Few brokers demand one.",
                reload: Reload::Restart,
            },
            Key {
                name: "client_key",
                place: place(path().or(""), |it| &mut it.pool.tls.client_key),
                default: r#""""#.into(),
                allowed: r#"a path that begins with /, together with client_certificate; "" for none"#,
                meaning: "PEM file with the key of our certificate (PKCS #8, PKCS #1 or SEC1, not \
                    encrypted).",
                reason: "Few brokers demand one.",
                reload: Reload::Restart,
            },
            Key {
                name: "server_name",
                place: place(server_name().or(""), |it| &mut it.pool.tls.server_name),
                default: r#""""#.into(),
                allowed: r#"a DNS name or an IP address; "" for the host of the address"#,
                meaning: "The name that the broker's certificate must carry.",
                reason: "It is the host that you asked for.",
                reload: Reload::Restart,
            },
            Key {
                name: "alpn",
                place: place(protocol().list("a list of protocols"), |it| &mut it.pool.tls.alpn),
                default: "[]".into(),
                allowed: "names of 1 to 255 bytes, each once",
                meaning: "Protocols to offer by ALPN (RFC 7301), the preferred one first. AWS IoT \
                    Core wants x-amzn-mqtt-ca on port 443.",
                reason: "Few brokers look at it.",
                reload: Reload::Restart,
            },
        ],
    }
}

/// Keep-alive in whole seconds, as the pool takes it.
pub(super) fn keep_alive() -> Form<Duration> {
    any_span().pool(|it| Device::new("any")?.keep_alive(*it).map(drop))
}

/// An address of a broker. What was given is shown in the pool's words: it leaves passwords out.
fn broker() -> Form<Broker> {
    let read = |value: &Value<'_>| -> Taken<Broker> {
        let what = Problem::Type("an address in quotes such as \"mqtt://broker.example:1883\"");
        let text = value.get_ref().as_str().ok_or_else(|| vec![Wrong::new(value, what)])?;
        Broker::parse(text).map_err(|error| vec![Wrong::of_pool(value, error, true)])
    };
    Form::new("address", read, |it: &Broker| Text::One(quoted(&it.to_string())))
}

/// `host`, `host:port` or `*.domain`.
fn redirect() -> Form<String> {
    text().pool(|it| {
        let name = it.strip_prefix("*.");
        let host = name.unwrap_or(it);
        let parsed = Broker::parse(&format!("mqtt://{host}"))?;
        // The pool compares with the host alone below a `*`, and letter by letter.
        let plain = it.to_ascii_lowercase() == *it && (name.is_none() || parsed.host() == host);
        if plain && !host.contains('/') {
            return Ok(());
        }
        Err(CallerError::InvalidField {
            field: "redirects",
            given: it.clone(),
            allowed: "host, host:port or *.domain, in lower case".to_owned(),
        })
    })
}

fn server_name() -> Form<String> {
    text().pool(|it| TlsOptions::new().server_name(it).map(drop))
}

fn protocol() -> Form<String> {
    text().pool(|it| TlsOptions::new().alpn([it.as_str()]).map(drop))
}

fn is_whole(duration: &Duration) -> bool {
    duration.subsec_nanos() == 0
}

//! PURE. The keys of `[fleet]` and `[fleet.template]`.

use std::path::PathBuf;

use super::{
    super::{
        form::{Form, path, text},
        key::{Key, Reload, Section, place},
    },
    device,
    pool::keep_alive,
};

/// `[fleet]`.
pub(super) fn section() -> Section {
    Section {
        name: "fleet",
        meaning: "Where devices come from.",
        repeats: None,
        keys: vec![
            Key {
                name: "file",
                place: place(list_of_devices().or(""), |it| &mut it.fleet.file),
                default: r#""""#.into(),
                allowed: r#"a path that begins with / and ends in .toml, .csv or .jsonl; "" for none"#,
                meaning: "A list of devices; its ending tells the format.",
                reason: "Devices may all come by the API.",
                reload: Reload::Applies,
            },
            Key {
                name: "store",
                place: place(path(), |it| &mut it.fleet.store),
                default: r#""/var/lib/sockwarden/devices.redb""#.into(),
                allowed: "a path that begins with /",
                meaning: "Where devices that came by the API are kept.",
                reason: "The state directory of the unit.",
                // It is open and locked as long as the daemon runs.
                reload: Reload::Restart,
            },
        ],
    }
}

/// `[fleet.template]`.
pub(super) fn template() -> Section {
    Section {
        name: "fleet.template",
        meaning: "What devices have that say nothing else. `{id}` in a text stands for the name of \
            the device.",
        repeats: None,
        keys: vec![
            Key {
                name: "client_id",
                place: place(device::client_id().or(""), |it| &mut it.fleet.template.client_id),
                default: r#""""#.into(),
                allowed: r#"a text with {id}; "" for the name of the device"#,
                meaning: "The MQTT client id.",
                reason: "A broker keeps one session for each client id, so it must tell devices \
                    apart.",
                reload: Reload::Applies,
            },
            Key {
                name: "username",
                place: place(text().or(""), |it| &mut it.fleet.template.username),
                default: r#""""#.into(),
                allowed: r#"a text; "" for that of the pool"#,
                meaning: "User name at the broker.",
                reason: "Many fleets share one.",
                reload: Reload::Applies,
            },
            Key {
                name: "password",
                place: place(device::secret(), |it| &mut it.fleet.template.password),
                default: r#""""#.into(),
                allowed: r#"a text; "" for that of the pool"#,
                meaning: "Password at the broker. The daemon shows it to nobody; keep this file from \
                    others if it is set (mode 0640).",
                reason: "A file of its own is safer: password_file of [pool].",
                reload: Reload::Applies,
            },
            Key {
                name: "keep_alive",
                place: place(keep_alive().or("auto"), |it| &mut it.fleet.template.keep_alive),
                default: r#""auto""#.into(),
                allowed: r#"whole seconds from 0s (off) to 65535s, or "auto" for that of the pool"#,
                meaning: "Keep-alive of the devices.",
                reason: "One for all is enough.",
                reload: Reload::Applies,
            },
            Key {
                name: "will",
                place: place(device::will(), |it| &mut it.fleet.template.will),
                default: "{}".into(),
                allowed: "{ topic = \"..\", payload = \"..\", qos = 0 to 2, retain = true or false }; \
                    {} for none",
                meaning: "What the broker publishes when a session ends without a DISCONNECT.",
                reason: "Only you know who listens.",
                reload: Reload::Applies,
            },
            Key {
                name: "subscriptions",
                place: place(device::subscription().list("a list of tables"), |it| {
                    &mut it.fleet.template.subscriptions
                }),
                default: "[]".into(),
                allowed: "a list of { filter = \"..\", qos = 0 to 2 }, each once",
                meaning: "Topic filters of the devices.",
                reason: "Only you know what they listen to.",
                reload: Reload::Applies,
            },
        ],
    }
}

/// A file whose ending tells its format.
fn list_of_devices() -> Form<PathBuf> {
    path().checked(|it| {
        it.extension().is_some_and(|ending| ["toml", "csv", "jsonl"].iter().any(|it| ending == *it))
    })
}

//! `sockwarden devices`: the fleet of the daemon's pool.

use std::{fs, path::PathBuf};

use clap::{Args, Subcommand};

use super::{
    Failure,
    asking::{self, Out, Place},
    columns::{Cell, age, align, plain},
    exit,
};
use crate::{
    api::{
        client::segment,
        shapes::{Device, DevicePage},
    },
    escape,
    fleet::{DeviceSpec, Secret, SubscriptionSpec},
    sinks::Palette,
};

/// Longest text of a cell, characters.
const CELL: usize = 48;

/// Lists the devices of the daemon's pool, adds one, removes one.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Devices {
    #[command(subcommand)]
    change: Option<Change>,
    /// Only those in this state: waiting, quarantined, connecting, online, stopping, releasing.
    #[arg(long)]
    state: Option<String>,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Subcommand)]
enum Change {
    Add(Box<Add>),
    Remove(Remove),
}

/// Adds a device; it survives a restart of the daemon.
#[derive(Debug, Args)]
struct Add {
    /// Its name.
    id: String,
    /// Its MQTT client id; without this, that of the fleet's template.
    #[arg(long)]
    client_id: Option<String>,
    /// User name at the broker.
    #[arg(long)]
    username: Option<String>,
    /// A file whose first line is the password at the broker; `-` reads it from standard input.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// A topic filter and its quality of service; may be given more than once.
    #[arg(long, value_name = "FILTER@QOS", value_parser = subscription)]
    subscribe: Vec<SubscriptionSpec>,
    /// One JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

/// Removes a device that was added by `add`; returns when its socket is gone.
#[derive(Debug, Args)]
struct Remove {
    /// Its name.
    id: String,
    /// One JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

impl Devices {
    pub(super) fn run(self) -> Result<u8, Failure> {
        asking::run(async {
            match self.change {
                Some(Change::Add(add)) => add.run().await,
                Some(Change::Remove(remove)) => remove.run().await,
                None => self.list().await,
            }
        })
    }

    async fn list(self) -> Result<u8, Failure> {
        let out = Out::new();
        let state = self.state.map(|state| format!("&state={}", segment(&state)));
        let path = format!("/api/v1/devices?limit=10000{}", state.unwrap_or_default());
        let devices = asking::pages(&self.place.client(), &path, |page: DevicePage| {
            (page.devices, page.next.as_deref().map(segment))
        })
        .await?;
        if self.json {
            let lines: Result<Vec<_>, _> =
                devices.iter().map(|device| asking::typed("device", device)).collect();
            out.lines(lines?)?;
        } else {
            out.lines(table(&devices, out.palette))?;
        }
        Ok(exit::OK)
    }
}

impl Add {
    async fn run(self) -> Result<u8, Failure> {
        let (client, out) = (self.place.writing_client()?, Out::new());
        let spec = DeviceSpec {
            id: self.id,
            client_id: self.client_id,
            username: self.username,
            password: self.password_file.map(password).transpose()?,
            subscriptions: (!self.subscribe.is_empty()).then_some(self.subscribe),
            ..DeviceSpec::default()
        };
        let device: Device = client.post("/api/v1/devices", Some(&spec)).await?;
        if self.json {
            out.json("device", &device)?;
        } else {
            out.line(&format!("device {} is in the pool", shown(&device.id)))?;
        }
        Ok(exit::OK)
    }
}

impl Remove {
    async fn run(self) -> Result<u8, Failure> {
        #[derive(serde::Serialize)]
        struct Removed<'a> {
            device: &'a str,
        }
        let (client, out) = (self.place.writing_client()?, Out::new());
        client.delete(&format!("/api/v1/devices/{}", segment(&self.id))).await?;
        if self.json {
            out.json("removed", &Removed { device: &self.id })?;
        } else {
            out.line(&format!("device {} is gone, and so is its socket", shown(&self.id)))?;
        }
        Ok(exit::OK)
    }
}

fn table(devices: &[Device], palette: Palette) -> Vec<String> {
    let good = |text: &str| palette.good(text);
    let caution = |text: &str| palette.caution(text);
    let alarm = |text: &str| palette.alarm(text);
    let heading =
        ["DEVICE", "STATE", "SINCE", "GENERATION", "WAITING", "ORIGIN", "CLIENT ID", "LAST END"];
    let cell = |text: String| -> Cell<'_> { (text, &plain) };
    let rows: Vec<_> = devices
        .iter()
        .map(|device| {
            let state: Cell<'_> = match &*device.state {
                "online" => (shown(&device.state), &good),
                "quarantined" => (shown(&device.state), &alarm),
                _ => (shown(&device.state), &caution),
            };
            [
                cell(shown(&device.id)),
                state,
                cell(age(device.since_ms)),
                cell(device.generation.to_string()),
                cell(device.waiting.to_string()),
                cell(device.origin.name().to_owned()),
                cell(shown(&device.client_id)),
                cell(device.last_end.as_deref().map_or_else(|| "-".to_owned(), shown)),
            ]
        })
        .collect();
    align(heading, |text| palette.strong(text), &rows)
}

fn shown(text: &str) -> String {
    escape::short(text, CELL).into_owned()
}

/// The first line of a file.
fn password(path: PathBuf) -> Result<Secret, Failure> {
    let text = if path.as_os_str() == "-" {
        std::io::read_to_string(std::io::stdin())
    } else {
        fs::read_to_string(&path)
    };
    let text = text.map_err(|error| Failure {
        code: exit::USAGE,
        message: format!("the password file {} cannot be read: {error}", path.display()),
    })?;
    Ok(Secret(text.lines().next().unwrap_or_default().to_owned()))
}

/// Parses `FILTER@QOS`; without `@`, QoS 0.
fn subscription(text: &str) -> Result<SubscriptionSpec, String> {
    let (filter, qos) = match text.rsplit_once('@') {
        Some((filter, qos)) => (filter, qos.parse().ok()),
        None => (text, Some(0)),
    };
    match qos {
        Some(qos @ 0..=2) => Ok(SubscriptionSpec { filter: filter.to_owned(), qos }),
        _ => Err(format!("`{text}` has no QoS of 0, 1 or 2 behind the last `@`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::shapes::Origin;

    #[test]
    fn subscriptions_are_written_with_their_quality_of_service() {
        let cases = [
            ("a/#@1", Some(("a/#", 1))),
            ("a", Some(("a", 0))),
            ("a@b@2", Some(("a@b", 2))),
            ("a@3", None),
            ("a@", None),
            ("a@b", None),
        ];
        for (text, expected) in cases {
            let parsed = subscription(text).ok().map(|it| (it.filter, it.qos));
            assert_eq!(parsed, expected.map(|(filter, qos)| (filter.to_owned(), qos)), "{text}");
        }
    }

    #[test]
    fn a_hostile_name_cannot_write_on_the_terminal() {
        let device = Device {
            id: "a\x1b[2Jb".into(),
            client_id: "c\r\n".into(),
            origin: Origin::Api,
            state: "online".into(),
            generation: 3,
            since_ms: 5_000,
            last_end: None,
            last_end_message: None,
            waiting: 0,
        };
        let lines = table(&[device], Palette::default());
        assert!(lines.iter().all(|line| !line.contains(char::is_control)), "{lines:?}");
        assert!(lines[1].starts_with("a\\u{1b}[2Jb  online  5s"), "{lines:?}");
    }
}

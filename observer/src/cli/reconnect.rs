//! `sockwarden reconnect`: new sessions for devices of the daemon's pool.

use std::{collections::BTreeMap, time::Duration};

use clap::Args;
use futures_util::{StreamExt as _, stream};

use super::{
    Failure,
    asking::{self, Out, Socket},
    exit,
};
use crate::{
    api::{
        client::{Client, segment},
        shapes::{AllReconnected, DevicePage, Reconnected},
    },
    escape,
};

/// Devices that are asked for at once: under the connections that a daemon takes by default.
const AT_ONCE: usize = 16;

/// How often is looked whether all devices have their new session.
const LOOK: Duration = Duration::from_millis(250);

/// Replaces the sessions of devices by new ones, each when it is its turn.
#[derive(Debug, Args)]
pub(super) struct Reconnect {
    /// Names of devices.
    #[arg(required_unless_present = "all", conflicts_with = "all", value_name = "DEVICE")]
    devices: Vec<String>,
    /// All of them.
    #[arg(long)]
    all: bool,
    /// Return when the new sessions are online.
    #[arg(long)]
    wait: bool,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: Socket,
}

impl Reconnect {
    pub(super) fn run(self) -> Result<u8, Failure> {
        asking::run(async {
            let (client, out) = (self.socket.client(), Out::new());
            if self.all {
                self.everyone(&client, &out).await?;
            } else {
                self.some(&client, &out).await?;
            }
            Ok(exit::OK)
        })
    }

    async fn some(&self, client: &Client, out: &Out) -> Result<(), Failure> {
        let query = if self.wait { "?wait=true" } else { "" };
        let asked = self.devices.iter().map(|device| async move {
            let path = format!("/api/v1/devices/{}/reconnect{query}", segment(device));
            client.post::<Reconnected>(&path, None::<&()>).await
        });
        let mut outcomes = stream::iter(asked).buffered(AT_ONCE);
        // One that fails does not keep the others from their sessions.
        let mut failed = None;
        while let Some(outcome) = outcomes.next().await {
            match outcome {
                Ok(done) if self.json => out.json("reconnect", &done).map(|_read| ())?,
                Ok(done) => {
                    let device = escape::visible(&done.device);
                    let what = done.generation.map_or_else(
                        || "is asked to reconnect".to_owned(),
                        |generation| format!("is online again, generation {generation}"),
                    );
                    out.line(&format!("device {device} {what}"))?;
                }
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(()), |error| Err(error.into()))
    }

    async fn everyone(&self, client: &Client, out: &Out) -> Result<(), Failure> {
        let before = if self.wait { generations(client).await? } else { BTreeMap::new() };
        let asked: AllReconnected = client.post("/api/v1/reconnect", None::<&()>).await?;
        if self.wait {
            while !are_new(&before, &generations(client).await?) {
                tokio::time::sleep(LOOK).await;
            }
        }
        if self.json {
            out.json("reconnect-all", &asked)?;
        } else {
            let what = if self.wait { "are online again" } else { "are asked to reconnect" };
            out.line(&format!("{} devices {what}", asked.devices))?;
        }
        Ok(())
    }
}

/// Device by name: its generation, and whether it is online.
type Generations = BTreeMap<String, (u32, bool)>;

async fn generations(client: &Client) -> Result<Generations, Failure> {
    let devices = asking::pages(client, "/api/v1/devices?limit=10000", |page: DevicePage| {
        (page.devices, page.next.as_deref().map(segment))
    });
    let devices = devices.await?.into_iter();
    Ok(devices.map(|it| (it.id, (it.generation, it.state == "online"))).collect())
}

/// Whether every device that is still there has a newer session, and it is online.
fn are_new(before: &Generations, now: &Generations) -> bool {
    before.iter().all(|(device, (old, _))| {
        now.get(device).is_none_or(|(generation, online)| generation > old && *online)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_back_when_each_has_a_newer_session() {
        let fleet = |rows: &[(&str, u32, bool)]| -> Generations {
            rows.iter().map(|(id, number, online)| ((*id).to_owned(), (*number, *online))).collect()
        };
        let before = fleet(&[("a", 1, true), ("b", 4, false)]);
        assert!(!are_new(&before, &before));
        assert!(!are_new(&before, &fleet(&[("a", 2, true), ("b", 4, true)])));
        assert!(!are_new(&before, &fleet(&[("a", 2, true), ("b", 5, false)])));
        assert!(are_new(&before, &fleet(&[("a", 2, true), ("b", 6, true)])));
        // One that was removed meanwhile is not waited for, nor one that is new.
        assert!(are_new(&before, &fleet(&[("a", 2, true), ("c", 0, false)])));
    }
}

//! `sockwarden publish`: a message on a device's session.

use std::io::Read as _;

use clap::Args;

use super::{
    Failure,
    asking::{self, Out, Socket},
    exit,
};
use crate::{
    api::{
        client::segment,
        encode_base64,
        shapes::{Publication, Published},
    },
    escape,
};

/// Longest payload that is read from standard input, bytes: the daemon's own limit is less.
const LONGEST: u64 = 256 << 20;

/// Publishes a message on a device's session.
#[derive(Debug, Args)]
pub(super) struct Publish {
    /// The device.
    device: String,
    /// Where to.
    topic: String,
    /// The content; `-` reads it from standard input.
    #[arg(default_value = "", hide_default_value = true)]
    payload: String,
    /// 0, 1 or 2; with 1 and 2 the broker acknowledges.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: u8,
    /// The broker keeps it for later subscribers.
    #[arg(long)]
    retain: bool,
    /// One JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: Socket,
}

impl Publish {
    pub(super) fn run(self) -> Result<u8, Failure> {
        let (payload, payload_base64) = self.content()?;
        let message = Publication {
            topic: self.topic,
            payload,
            payload_base64,
            qos: self.qos,
            retain: self.retain,
        };
        let path = format!("/api/v1/devices/{}/publish", segment(&self.device));
        let client = self.socket.client();
        let done: Published =
            asking::run(async { client.post(&path, Some(&message)).await.map_err(Failure::from) })?;
        let out = Out::new();
        if self.json {
            out.json("publish", &done)?;
        } else {
            let device = escape::visible(&done.device);
            let what = match (done.delivered, self.qos) {
                (true, 0) => "sent",
                (true, _) => "acknowledged by the broker",
                (false, _) => "waiting for a session or for the broker",
            };
            out.line(&format!("message of {device}: {what}"))?;
        }
        Ok(exit::OK)
    }

    fn content(&self) -> Result<(Option<String>, Option<String>), Failure> {
        if self.payload != "-" {
            return Ok((Some(self.payload.clone()), None));
        }
        let mut bytes = Vec::new();
        let read = std::io::stdin().lock().take(LONGEST).read_to_end(&mut bytes);
        read.map_err(|error| Failure::unable(format!("cannot read standard input: {error}")))?;
        Ok(match String::from_utf8(bytes) {
            Ok(text) => (Some(text), None),
            Err(error) => (None, Some(encode_base64(error.as_bytes()))),
        })
    }
}

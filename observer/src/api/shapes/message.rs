//! A message that a device received.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::base64;

/// Longest payload that is shown, bytes: a message may have 256 MiB, and each reader has its own
/// copy of the text.
const SHOWN: usize = 256 << 10;

/// An entry of the stream of messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum MessageNews {
    /// A message.
    Message(Message),
    /// The reader was too slow.
    Gap {
        /// Messages of all devices that it missed.
        lost: u64,
    },
}

/// A message of the broker for a device. Either `payload` or `payload_base64` is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Message {
    /// Whose session received it.
    pub device: String,
    /// Where it was published.
    pub topic: String,
    /// Its content, where that is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
    /// Its content, where it is not (base64, RFC 4648 section 4).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload_base64: Option<String>,
    /// Length of the whole content, bytes.
    pub bytes: usize,
    /// Whether only the first 256 KiB of the content are here.
    pub truncated: bool,
    /// 0, 1 or 2.
    pub qos: u8,
    /// Whether the broker had kept it.
    pub retain: bool,
    /// Whether the broker had sent it before.
    pub duplicate: bool,
}

impl Message {
    pub(crate) fn new(message: &pool::Message) -> Self {
        let (text, binary) = match text(&message.payload) {
            Some(text) => (Some(text.into_owned()), None),
            None => {
                let shown = &message.payload[..message.payload.len().min(SHOWN)];
                (None, Some(base64::encode(shown)))
            }
        };
        Self {
            device: message.device.as_str().to_owned(),
            topic: message.topic.clone(),
            payload: text,
            payload_base64: binary,
            bytes: message.payload.len(),
            truncated: message.payload.len() > SHOWN,
            qos: message.qos as u8,
            retain: message.retain,
            duplicate: message.duplicate,
        }
    }
}

/// The payload, or the longest part of it that may be shown, if that is text.
fn text(payload: &[u8]) -> Option<Cow<'_, str>> {
    let shown = &payload[..payload.len().min(SHOWN)];
    match std::str::from_utf8(shown) {
        Ok(text) => Some(Cow::Borrowed(text)),
        // The cut may go through a character.
        Err(error) if payload.len() > SHOWN && error.error_len().is_none() => {
            Some(String::from_utf8_lossy(&shown[..error.valid_up_to()]))
        }
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(payload: Vec<u8>) -> Message {
        Message::new(&pool::Message {
            device: pool::DeviceId::new("d").expect("invariant: a valid id"),
            topic: "t".to_owned(),
            payload: payload.into(),
            qos: pool::QoS::ExactlyOnce,
            retain: true,
            duplicate: false,
            properties: None,
        })
    }

    #[test]
    fn text_is_text_and_the_rest_is_base64() {
        let shown = shape("größe".into());
        assert_eq!((shown.payload.as_deref(), shown.payload_base64), (Some("größe"), None));
        assert_eq!((shown.bytes, shown.truncated, shown.qos, shown.retain), (7, false, 2, true));
        let shown = shape(vec![0xff, 0]);
        assert_eq!((shown.payload, shown.payload_base64.as_deref()), (None, Some("/wA=")));
        // A character that breaks off is no text, unless we cut it.
        assert!(shape(vec![0xc3]).payload.is_none());
        assert_eq!(shape(Vec::new()).payload.as_deref(), Some(""));
    }

    #[test]
    fn long_payloads_are_cut_and_say_so() {
        let shown = shape(vec![b'a'; SHOWN]);
        assert!(!shown.truncated);
        let mut long = vec![b'a'; SHOWN - 1];
        long.extend("öö".bytes());
        let shown = shape(long);
        assert_eq!((shown.bytes, shown.truncated), (SHOWN + 3, true));
        assert_eq!(shown.payload.map(|text| text.len()), Some(SHOWN - 1));
        let shown = shape(vec![0xff; SHOWN * 2]);
        assert_eq!(shown.payload_base64.map(|text| text.len()), Some(SHOWN.div_ceil(3) * 4));
    }
}

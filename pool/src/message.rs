//! What travels over a session: messages, publishes, subscriptions.

use crate::device::{DeviceId, MAX_STRING, check_mqtt_string};
use crate::error::CallerError;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

/// Quality of service (MQTT 3.1.1 §4.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum QoS {
    /// Delivered once or not at all.
    #[default]
    AtMostOnce = 0,
    /// Delivered once or more often.
    AtLeastOnce = 1,
    /// Delivered exactly once.
    ExactlyOnce = 2,
}

/// A message of the broker for a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Whose session received it.
    pub device: DeviceId,
    /// Where it was published.
    pub topic: String,
    /// Its content.
    pub payload: Bytes,
    /// As the broker sent it.
    pub qos: QoS,
    /// It was kept by the broker, and is not new (MQTT 3.1.1 §3.3.1.3).
    pub retain: bool,
    /// The broker sent it before, and does not know whether it arrived.
    pub duplicate: bool,
    /// MQTT 5 only, and only when the broker sent one.
    pub properties: Option<Box<Properties>>,
}

/// The properties of a message in MQTT 5 (§3.3.2.3) that are for the application.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    /// The payload is UTF-8.
    pub is_text: Option<bool>,
    /// For how long the message is of use, in whole seconds.
    pub expiry: Option<Duration>,
    /// Where to answer.
    pub response_topic: Option<String>,
    /// What an answer has to carry.
    pub correlation_data: Option<Bytes>,
    /// The kind of content, as the application agreed on it.
    pub content_type: Option<String>,
    /// Names and values, in order.
    pub user_properties: Vec<(String, String)>,
}

/// A message to the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    pub(crate) topic: Arc<str>,
    pub(crate) payload: Bytes,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) properties: Option<Box<Properties>>,
}

impl Publish {
    /// # Errors
    ///
    /// [`CallerError::InvalidField`] when the topic is empty, too long, or contains a wildcard or
    /// U+0000 (MQTT 3.1.1 §4.7.1.1 and §4.7.3).
    pub fn new(
        topic: impl AsRef<str>,
        qos: QoS,
        payload: impl Into<Bytes>,
    ) -> Result<Self, CallerError> {
        let topic = topic.as_ref();
        check_topic("topic", topic)?;
        Ok(Self {
            topic: topic.into(),
            payload: payload.into(),
            qos,
            retain: false,
            properties: None,
        })
    }

    /// The broker keeps it for later subscribers.
    pub fn retain(mut self) -> Self {
        self.retain = true;
        self
    }

    /// For MQTT 5; left away on a session of 3.1.1, which has none.
    ///
    /// # Errors
    ///
    /// [`CallerError::InvalidField`] when one is longer than MQTT allows.
    pub fn properties(mut self, properties: Properties) -> Result<Self, CallerError> {
        properties.check()?;
        self.properties = Some(Box::new(properties));
        Ok(self)
    }
}

impl Properties {
    fn check(&self) -> Result<(), CallerError> {
        if let Some(topic) = &self.response_topic {
            check_topic("response topic", topic)?;
        }
        if let Some(text) = &self.content_type {
            check_mqtt_string("content type", text, 0)?;
        }
        for (name, value) in &self.user_properties {
            check_mqtt_string("name of a user property", name, 0)?;
            check_mqtt_string("value of a user property", value, 0)?;
        }
        let correlation = self.correlation_data.as_ref().map_or(0, Bytes::len);
        if correlation > MAX_STRING {
            return Err(CallerError::InvalidField {
                field: "correlation data",
                given: format!("{correlation} bytes"),
                allowed: "at most 65,535 bytes".to_owned(),
            });
        }
        let expiry = self.expiry.unwrap_or_default();
        if expiry.as_secs() > u64::from(u32::MAX) {
            return Err(CallerError::InvalidField {
                field: "message expiry",
                given: format!("{expiry:?}"),
                allowed: "at most 4,294,967,295 s".to_owned(),
            });
        }
        Ok(())
    }
}

/// What the broker publishes when a session ends without a DISCONNECT (MQTT 3.1.1 §3.1.2.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Will {
    pub(crate) publish: Publish,
    /// MQTT 5: how long the broker waits for the session to come back (§3.1.3.2.2).
    pub(crate) delay: Duration,
}

impl Will {
    /// # Errors
    ///
    /// [`CallerError::InvalidField`] when the payload is longer than 65,535 bytes.
    pub fn new(publish: Publish) -> Result<Self, CallerError> {
        if publish.payload.len() > MAX_STRING {
            return Err(CallerError::InvalidField {
                field: "payload of the will",
                given: format!("{} bytes", publish.payload.len()),
                allowed: "at most 65,535 bytes".to_owned(),
            });
        }
        Ok(Self { publish, delay: Duration::ZERO })
    }

    /// MQTT 5: for how long the broker waits for the session to come back, in whole seconds.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }
}

/// A topic filter and the quality of service asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    pub(crate) filter: Arc<str>,
    pub(crate) qos: QoS,
}

impl Subscription {
    /// # Errors
    ///
    /// [`CallerError::InvalidField`] when the filter is not one (MQTT 3.1.1 §4.7.1).
    pub fn new(filter: impl AsRef<str>, qos: QoS) -> Result<Self, CallerError> {
        let filter = filter.as_ref();
        check_mqtt_string("topic filter", filter, 1)?;
        if !is_filter(filter) {
            return Err(CallerError::InvalidField {
                field: "topic filter",
                given: format!("{filter:?}"),
                allowed: "`+` alone in its level, `#` alone in the last one".to_owned(),
            });
        }
        Ok(Self { filter: filter.into(), qos })
    }
}

fn is_filter(filter: &str) -> bool {
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        let is_last = levels.peek().is_none();
        let fits = match level {
            "+" => true,
            "#" => is_last,
            _ => !level.contains(['+', '#']),
        };
        if !fits {
            return false;
        }
    }
    true
}

fn check_topic(field: &'static str, topic: &str) -> Result<(), CallerError> {
    check_mqtt_string(field, topic, 1)?;
    if topic.contains(['+', '#']) {
        return Err(CallerError::InvalidField {
            field,
            given: format!("{topic:?}"),
            allowed: "a topic without the wildcards + and #".to_owned(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_follow_the_standard() {
        for good in ["a", "/", "+", "#", "a/+/b", "a/#", "+/+/#", "/+", "a//b", "$share/g/a/+"] {
            assert!(Subscription::new(good, QoS::AtMostOnce).is_ok(), "{good}");
        }
        for bad in ["", "a#", "#/a", "a+/b", "a/+b", "a/#/b", "++", "a\0"] {
            assert!(Subscription::new(bad, QoS::AtMostOnce).is_err(), "{bad}");
        }
    }

    #[test]
    fn topics_have_no_wildcards() {
        for good in ["a", "/", "a/b", " "] {
            assert!(Publish::new(good, QoS::AtMostOnce, "").is_ok(), "{good}");
        }
        for bad in ["", "a/+", "#", "a\0"] {
            assert!(Publish::new(bad, QoS::AtMostOnce, "").is_err(), "{bad}");
        }
    }
}

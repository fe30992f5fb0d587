//! PUBLISH (MQTT 3.1.1 §3.3, MQTT 5 §3.3) from a broker.
//!
//! # What a payload holds on to
//!
//! A slice of the read buffer keeps all of that buffer alive for as long as the application keeps
//! the payload. So only a payload of 1 KiB and more is a slice, where copying begins to cost more
//! than counting references; a smaller one is a copy of its own. A message of 1 KiB in a buffer of
//! 64 KiB can hold 64 times its size, and no message can hold more than that. Topics and
//! properties are always copies.

use super::frame::{Frame, Kind};
use super::guard::Walk;
use super::incoming::rumqttc;
use super::properties::{self, SUBSCRIPTION_IDENTIFIER, Seen, TOPIC_ALIAS};
use super::sink::Sink;
use crate::error::ProtocolError;
use crate::message::{Properties, QoS};
use crate::packet::{IncomingPublish, Version};
use ::rumqttc::v5::mqttbytes::v5::PublishProperties;
use bytes::{Bytes, BytesMut};
use std::time::Duration;

/// In bytes. Chosen, see the top of this file.
const SLICE_FROM: usize = 1_024;

/// Takes the PUBLISH of `frame` off the front of `buffer`.
pub(super) fn read(
    version: Version,
    frame: &Frame,
    buffer: &mut BytesMut,
) -> Result<IncomingPublish, ProtocolError> {
    let mut walk = Walk::new(frame.kind.name(), frame.body(buffer));
    let topic = walk.topic("topic")?;
    let id = if frame.qos() == QoS::AtMostOnce { 0 } else { walk.packet_id()? };
    let properties = match version {
        Version::V311 => None,
        Version::V5 => read_properties(&mut walk)?,
    };
    if topic.is_empty() {
        return Err(walk.malformed("an empty topic"));
    }
    let topic = topic.to_owned();
    let length = walk.rest().len();
    let payload = if length < SLICE_FROM {
        let payload = Bytes::copy_from_slice(walk.rest());
        frame.drop_from(buffer);
        payload
    } else {
        buffer.split_to(frame.size()).freeze().split_off(frame.size() - length)
    };
    Ok(IncomingPublish {
        duplicate: frame.duplicate(),
        qos: frame.qos(),
        retain: frame.retain(),
        topic,
        id,
        payload,
        properties,
    })
}

fn read_properties(walk: &mut Walk<'_>) -> Result<Option<Box<Properties>>, ProtocolError> {
    let before = walk.clone();
    let seen = properties::check(Kind::Publish, walk)?;
    if seen.has(TOPIC_ALIAS) {
        let problem = "it has a topic alias, and we allow none (MQTT 5 section 3.3.2.3.4)";
        return Err(ProtocolError::Unexpected { packet: "PUBLISH", problem });
    }
    if seen == Seen::default() {
        return Ok(None);
    }
    let mut block = without_subscription_identifiers(before)?;
    let read = rumqttc("PUBLISH", PublishProperties::read(&mut block))?;
    Ok(read.and_then(for_application))
}

/// The properties and their length without what rumqttc counts wrongly. We never ask for these
/// identifiers, so a broker sends them only for a session that somebody else began.
fn without_subscription_identifiers(mut walk: Walk<'_>) -> Result<Bytes, ProtocolError> {
    let length = walk.variable_integer("length of properties")?;
    let mut part = walk.part(length, "properties")?;
    let mut kept = BytesMut::with_capacity(length);
    while !part.is_empty() {
        let mut property = part.clone();
        let id = properties::next(Kind::Publish, &mut part)?;
        let length = property.rest().len() - part.rest().len();
        if id != SUBSCRIPTION_IDENTIFIER {
            kept.raw(property.take(length, "property")?);
        }
    }
    let mut block = BytesMut::with_capacity(4 + kept.len());
    block.variable_integer(kept.len());
    block.raw(&kept);
    Ok(block.freeze())
}

/// `None` when there is nothing for the application among them.
pub(super) fn for_application(read: PublishProperties) -> Option<Box<Properties>> {
    let properties = Properties {
        is_text: read.payload_format_indicator.map(|indicator| indicator == 1),
        expiry: read.message_expiry_interval.map(|seconds| Duration::from_secs(seconds.into())),
        response_topic: read.response_topic,
        correlation_data: read.correlation_data,
        content_type: read.content_type,
        user_properties: read.user_properties,
    };
    (properties != Properties::default()).then(|| Box::new(properties))
}

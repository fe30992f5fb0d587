//! [`Outgoing`] to bytes.
//!
//! Why rumqttc 0.25.1 does not write them: it wants owned strings for each packet; it puts the
//! flags of a CONNECT at a place counted from the start of the buffer and not of the packet; it
//! takes a password only as text, and leaves an empty user name away; it cuts the length of a
//! string above 65,535 bytes; and its DISCONNECT of MQTT 5 with a reason is one byte longer than
//! its length says, so that the next packet is read wrongly.

use super::sink::{Block, Measure, Sink};
use crate::device::MAX_STRING;
use crate::message::{Properties, QoS, Will};
use crate::packet::{Connect, Outgoing, OutgoingPublish, Version};
use bytes::BytesMut;
use std::time::Duration;

/// The most that may follow the fixed header, in bytes (MQTT 3.1.1 §2.2.3).
const MAX_REMAINING: usize = 268_435_455;

/// What MQTT itself cannot carry: a packet of more than 268,435,455 bytes after its fixed header,
/// or a string or binary field of more than 65,535.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{size} bytes where MQTT allows at most {limit}")]
pub(crate) struct TooLarge {
    /// In bytes, of the packet after its fixed header or of the field.
    pub(crate) size: usize,
    /// In bytes.
    pub(crate) limit: usize,
}

/// Writes one packet behind what is in `buffer`. The bytes of a payload are copied once.
///
/// # Errors
///
/// [`TooLarge`]; then `buffer` is unchanged.
pub(crate) fn encode(
    version: Version,
    packet: &Outgoing<'_>,
    buffer: &mut BytesMut,
) -> Result<(), TooLarge> {
    let measure = measure(version, packet);
    if measure.longest > MAX_STRING {
        return Err(TooLarge { size: measure.longest, limit: MAX_STRING });
    }
    if measure.bytes > MAX_REMAINING {
        return Err(TooLarge { size: measure.bytes, limit: MAX_REMAINING });
    }
    buffer.reserve(with_header(measure.bytes));
    buffer.byte(first_byte(packet));
    buffer.variable_integer(measure.bytes);
    write(version, packet, buffer);
    Ok(())
}

/// The size of the whole packet with its headers, in bytes.
pub(crate) fn encoded_size(version: Version, packet: &Outgoing<'_>) -> usize {
    with_header(measure(version, packet).bytes)
}

fn measure(version: Version, packet: &Outgoing<'_>) -> Measure {
    let mut measure = Measure::default();
    write(version, packet, &mut measure);
    measure
}

fn with_header(remaining: usize) -> usize {
    let mut header = Measure { bytes: 1, longest: 0 };
    header.variable_integer(remaining);
    header.bytes.saturating_add(remaining)
}

/// Type and flags (MQTT 3.1.1 §2.2).
fn first_byte(packet: &Outgoing<'_>) -> u8 {
    match packet {
        Outgoing::Connect(_) => 0x10,
        Outgoing::Publish(publish) => {
            0x30 | u8::from(publish.duplicate) << 3
                | (publish.qos as u8) << 1
                | u8::from(publish.retain)
        }
        Outgoing::PubAck { .. } => 0x40,
        Outgoing::PubRec { .. } => 0x50,
        Outgoing::PubRel { .. } => 0x62,
        Outgoing::PubComp { .. } => 0x70,
        Outgoing::Subscribe { .. } => 0x82,
        Outgoing::Unsubscribe { .. } => 0xA2,
        Outgoing::PingReq => 0xC0,
        Outgoing::Disconnect { .. } => 0xE0,
    }
}

/// All that follows the fixed header.
fn write<S: Sink>(version: Version, packet: &Outgoing<'_>, sink: &mut S) {
    match packet {
        Outgoing::Connect(connect) => write_connect(version, connect, sink),
        Outgoing::Publish(publish) => write_publish(version, publish, sink),
        Outgoing::PubAck { id, code }
        | Outgoing::PubRec { id, code }
        | Outgoing::PubRel { id, code }
        | Outgoing::PubComp { id, code } => {
            sink.two(*id);
            write_code(version, *code, sink);
        }
        Outgoing::Subscribe { id, subscriptions } => {
            sink.two(*id);
            no_properties(version, sink);
            for subscription in *subscriptions {
                sink.string(&subscription.filter);
                // The other options of MQTT 5 (§3.8.3.1) stay 0, as 3.1.1 has it.
                sink.byte(subscription.qos as u8);
            }
        }
        Outgoing::Unsubscribe { id, filters } => {
            sink.two(*id);
            no_properties(version, sink);
            for filter in *filters {
                sink.string(filter);
            }
        }
        Outgoing::PingReq => {}
        Outgoing::Disconnect { code } => write_code(version, *code, sink),
    }
}

/// Success is left away. A code brings an empty list of properties, which the standard lets us
/// leave away too, but rumqttc's reader of a DISCONNECT waits for it.
fn write_code<S: Sink>(version: Version, code: u8, sink: &mut S) {
    if version == Version::V5 && code != 0 {
        sink.byte(code);
        sink.byte(0);
    }
}

fn no_properties<S: Sink>(version: Version, sink: &mut S) {
    if version == Version::V5 {
        sink.byte(0);
    }
}

/// MQTT 3.1.1 §3.1, MQTT 5 §3.1.
fn write_connect<S: Sink>(version: Version, connect: &Connect<'_>, sink: &mut S) {
    sink.string("MQTT");
    sink.byte(if version == Version::V5 { 5 } else { 4 });
    sink.byte(connect_flags(connect));
    sink.two(connect.keep_alive);
    if version == Version::V5 {
        connect.write_with_length(sink);
    }
    sink.string(connect.client_id);
    if let Some(will) = connect.will {
        if version == Version::V5 {
            will.write_with_length(sink);
        }
        sink.string(&will.publish.topic);
        sink.binary(&will.publish.payload);
    }
    if let Some(credentials) = connect.credentials {
        sink.string(&credentials.username);
        if let Some(password) = &credentials.password {
            sink.binary(password);
        }
    }
}

/// MQTT 3.1.1 §3.1.2.3. A password without a user name cannot be said.
fn connect_flags(connect: &Connect<'_>) -> u8 {
    let will = connect.will.map_or(0, |will| {
        0x04 | (will.publish.qos as u8) << 3 | u8::from(will.publish.retain) << 5
    });
    let credentials = connect
        .credentials
        .map_or(0, |credentials| 0x80 | u8::from(credentials.password.is_some()) << 6);
    u8::from(connect.clean_start) << 1 | will | credentials
}

/// MQTT 3.1.1 §3.3, MQTT 5 §3.3.
fn write_publish<S: Sink>(version: Version, publish: &OutgoingPublish<'_>, sink: &mut S) {
    sink.string(publish.topic);
    if publish.qos != QoS::AtMostOnce {
        sink.two(publish.id);
    }
    if version == Version::V5 {
        if publish.properties.is_none() && publish.topic_alias.is_none() {
            sink.byte(0);
        } else {
            publish.write_with_length(sink);
        }
    }
    sink.raw(publish.payload);
}

/// MQTT 5 §3.1.2.11. Topic aliases and problem information keep their defaults: none, and yes.
impl Block for Connect<'_> {
    fn write<S: Sink>(&self, sink: &mut S) {
        if let Some(session_expiry) = self.session_expiry {
            sink.byte(0x11);
            sink.four(session_expiry);
        }
        sink.byte(0x21);
        sink.two(self.receive_maximum);
        sink.byte(0x27);
        sink.four(self.maximum_packet);
    }
}

/// MQTT 5 §3.1.3.2.
impl Block for Will {
    fn write<S: Sink>(&self, sink: &mut S) {
        if self.delay.as_secs() > 0 {
            sink.byte(0x18);
            sink.four(seconds(self.delay));
        }
        if let Some(properties) = &self.publish.properties {
            properties.write(sink);
        }
    }
}

/// MQTT 5 §3.3.2.3.
impl Block for OutgoingPublish<'_> {
    fn write<S: Sink>(&self, sink: &mut S) {
        if let Some(topic_alias) = self.topic_alias {
            sink.byte(0x23);
            sink.two(topic_alias);
        }
        if let Some(properties) = self.properties {
            properties.write(sink);
        }
    }
}

impl Block for Properties {
    fn write<S: Sink>(&self, sink: &mut S) {
        if let Some(is_text) = self.is_text {
            sink.byte(0x01);
            sink.byte(is_text.into());
        }
        if let Some(expiry) = self.expiry {
            sink.byte(0x02);
            sink.four(seconds(expiry));
        }
        if let Some(content_type) = &self.content_type {
            sink.byte(0x03);
            sink.string(content_type);
        }
        if let Some(response_topic) = &self.response_topic {
            sink.byte(0x08);
            sink.string(response_topic);
        }
        if let Some(correlation_data) = &self.correlation_data {
            sink.byte(0x09);
            sink.binary(correlation_data);
        }
        for (name, value) in &self.user_properties {
            sink.byte(0x26);
            sink.string(name);
            sink.string(value);
        }
    }
}

/// The longest that MQTT 5 can say is 136 years.
fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

//! Where a packet is written to: a buffer, or a count of its bytes. One function writes a packet
//! to both, so that the two cannot differ.

use bytes::{BufMut, BytesMut};

/// The data types of MQTT (MQTT 5 §1.5).
pub(super) trait Sink {
    fn raw(&mut self, bytes: &[u8]);

    fn byte(&mut self, value: u8) {
        self.raw(&[value]);
    }

    fn two(&mut self, value: u16) {
        self.raw(&value.to_be_bytes());
    }

    fn four(&mut self, value: u32) {
        self.raw(&value.to_be_bytes());
    }

    /// With its length before it. [`Measure`] finds the ones that are too long for that.
    fn binary(&mut self, bytes: &[u8]) {
        self.two(u16::try_from(bytes.len()).unwrap_or(u16::MAX));
        self.raw(bytes);
    }

    fn string(&mut self, text: &str) {
        self.binary(text.as_bytes());
    }

    /// Up to 268,435,455 (MQTT 5 §1.5.5).
    fn variable_integer(&mut self, mut value: usize) {
        while value >= 0x80 {
            self.byte((value & 0x7F) as u8 | 0x80);
            value >>= 7;
        }
        self.byte(value as u8);
    }
}

impl Sink for BytesMut {
    fn raw(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn byte(&mut self, value: u8) {
        self.put_u8(value);
    }
}

/// Counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Measure {
    pub(super) bytes: usize,
    /// The longest string or binary field.
    pub(super) longest: usize,
}

impl Sink for Measure {
    fn raw(&mut self, bytes: &[u8]) {
        self.bytes = self.bytes.saturating_add(bytes.len());
    }

    fn binary(&mut self, bytes: &[u8]) {
        self.longest = self.longest.max(bytes.len());
        self.bytes = self.bytes.saturating_add(2);
        self.raw(bytes);
    }
}

/// Properties, whose length stands before them.
pub(super) trait Block {
    fn write<S: Sink>(&self, sink: &mut S);

    fn write_with_length<S: Sink>(&self, sink: &mut S) {
        let mut measure = Measure::default();
        self.write(&mut measure);
        sink.variable_integer(measure.bytes);
        self.write(sink);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variable_integers_are_as_short_as_they_can_be() {
        let cases: [(usize, &[u8]); 8] = [
            (0, &[0]),
            (127, &[0x7F]),
            (128, &[0x80, 0x01]),
            (16_383, &[0xFF, 0x7F]),
            (16_384, &[0x80, 0x80, 0x01]),
            (2_097_151, &[0xFF, 0xFF, 0x7F]),
            (2_097_152, &[0x80, 0x80, 0x80, 0x01]),
            (268_435_455, &[0xFF, 0xFF, 0xFF, 0x7F]),
        ];
        for (value, wanted) in cases {
            let mut buffer = BytesMut::new();
            buffer.variable_integer(value);
            assert_eq!(buffer, wanted, "{value}");
        }
    }

    #[test]
    fn a_measure_counts_what_a_buffer_holds() {
        fn write<S: Sink>(sink: &mut S) {
            sink.byte(1);
            sink.two(2);
            sink.four(3);
            sink.string("four");
            sink.variable_integer(500);
        }
        let (mut buffer, mut measure) = (BytesMut::new(), Measure::default());
        write(&mut buffer);
        write(&mut measure);
        assert_eq!(buffer, &b"\x01\x00\x02\x00\x00\x00\x03\x00\x04four\xF4\x03"[..]);
        assert_eq!(measure, Measure { bytes: buffer.len(), longest: 4 });
    }
}

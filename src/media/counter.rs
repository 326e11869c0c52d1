//! The counters that RTP carries, as types, and their extension past 16 and 32 bits.
//!
//! A wire counter is *unwrapped* to the candidate nearest to one known already, so a late packet resolves backwards
//! across a wrap. Extended counters begin one full cycle up: packets older than the first one stay above zero.

/// Synchronisation source (RFC 3550, section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ssrc(pub u32);

/// Sequence number on the wire: one up a packet, modulo 2^16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SequenceNumber(pub u16);

/// Media timestamp on the wire, in ticks of the payload's RTP clock, modulo 2^32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtpTimestamp(pub u32);

/// Sequence number without wraps; the first one of a source lies in 2^16..2^17.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExtendedSequence(u64);

/// Timestamp without wraps; the first one of a segment lies in 2^32..2^33.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExtendedTimestamp(u64);

impl std::fmt::Display for Ssrc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl SequenceNumber {
    /// The one after this.
    pub const fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }

    /// Signed distance from `earlier`, taken the short way round.
    pub const fn since(self, earlier: Self) -> i16 {
        self.0.wrapping_sub(earlier.0) as i16
    }
}

impl RtpTimestamp {
    /// Signed ticks from `earlier`, taken the short way round.
    pub const fn since(self, earlier: Self) -> i32 {
        self.0.wrapping_sub(earlier.0) as i32
    }
}

impl ExtendedSequence {
    /// The first number of a source, one cycle up.
    pub const fn first(number: SequenceNumber) -> Self {
        Self((1 << 16) + number.0 as u64)
    }

    /// The extension of `number` nearest to `self`.
    pub const fn nearest(self, number: SequenceNumber) -> Self {
        self.plus(number.0.wrapping_sub(self.0 as u16) as i16 as i64)
    }

    /// `by` further on, or back.
    pub const fn plus(self, by: i64) -> Self {
        Self(self.0.wrapping_add_signed(by))
    }

    /// Signed distance from `earlier`.
    pub const fn since(self, earlier: Self) -> i64 {
        self.0.wrapping_sub(earlier.0) as i64
    }

    /// The number itself.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The number on the wire.
    pub const fn on_wire(self) -> SequenceNumber {
        SequenceNumber(self.0 as u16)
    }
}

impl ExtendedTimestamp {
    /// The first timestamp of a segment, one cycle up.
    pub const fn first(timestamp: RtpTimestamp) -> Self {
        Self((1 << 32) + timestamp.0 as u64)
    }

    /// The extension of `timestamp` nearest to `self`.
    pub const fn nearest(self, timestamp: RtpTimestamp) -> Self {
        self.plus(timestamp.0.wrapping_sub(self.0 as u32) as i32 as i64)
    }

    /// `by` ticks further on, or back.
    pub const fn plus(self, by: i64) -> Self {
        Self(self.0.wrapping_add_signed(by))
    }

    /// Signed ticks from `earlier`.
    pub const fn since(self, earlier: Self) -> i64 {
        self.0.wrapping_sub(earlier.0) as i64
    }

    /// The timestamp on the wire.
    pub const fn on_wire(self) -> RtpTimestamp {
        RtpTimestamp(self.0 as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrap_goes_on_upwards_and_a_late_packet_resolves_back_across_it() {
        let before = ExtendedSequence::first(SequenceNumber(65_534));
        let after = before.nearest(SequenceNumber(1));
        assert_eq!(after.since(before), 3);
        assert_eq!(after.nearest(SequenceNumber(65_535)).since(before), 1);
        assert_eq!(after.on_wire(), SequenceNumber(1));
    }

    #[test]
    fn numbers_before_the_first_are_below_it_and_above_zero() {
        let first = ExtendedSequence::first(SequenceNumber(0));
        let older = first.nearest(SequenceNumber(65_000));
        assert_eq!(older.since(first), -536);
        assert!(older.get() > 0);
    }

    #[test]
    fn timestamps_unwrap_like_sequence_numbers() {
        let before = ExtendedTimestamp::first(RtpTimestamp(u32::MAX - 79));
        let after = before.nearest(RtpTimestamp(80));
        assert_eq!(after.since(before), 160);
        assert_eq!(after.nearest(RtpTimestamp(u32::MAX - 79)), before);
        assert_eq!(RtpTimestamp(80).since(RtpTimestamp(u32::MAX - 79)), 160);
    }
}

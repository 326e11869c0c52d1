//! What the media path knows of a leg when asked: the leg's part of `report.json`.

use serde::{Deserialize, Serialize};

use super::slot::SlotState;

/// Counters and estimates of one leg (DESIGN: `report.json`, `legs[]`), less the gaps, which the recorder collects.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LegStats {
    /// Codec name as Asterisk spells formats: `ulaw`, `alaw`, `slin`, `slin16`.
    pub codec: String,
    /// Synchronisation sources in order of appearance.
    pub ssrcs: Vec<u32>,
    /// RFC 3550 A.3: highest extended sequence number less the first, plus one, summed over segments.
    pub packets_expected: u64,
    /// Packets accepted, duplicates excluded.
    pub packets_received: u64,
    /// Expected less received: packets that never came.
    pub packets_lost: u64,
    /// Packets that came after live readers had passed their place.
    pub packets_late: u64,
    /// Packets that came more than once, counted once for each extra copy.
    pub packets_duplicate: u64,
    /// Late packets whose audio still mended the recording.
    pub packets_repaired: u64,
    /// Datagrams that were not RTP, of an unknown payload type or of impossible length.
    pub packets_invalid: u64,
    /// Interarrival jitter (RFC 3550 A.8), milliseconds.
    pub jitter_ms: f64,
    /// Listening quality estimate (ITU-T G.107, delay impairment 0), 1.0 to 4.5. `None` where nothing came to judge by.
    pub mos: Option<f64>,
    /// Sender's clock against ours, parts per million; positive = the sender is fast. `None` before it can be told.
    pub clock_ppm: Option<f64>,
    /// Stretches with anchors of their own.
    pub segments: Vec<Segment>,
}

/// A stretch of one leg that has one anchor: within it, a sample's place follows from its RTP timestamp alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Synchronisation source.
    pub ssrc: u32,
    /// Call sample of the segment's first RTP timestamp; in `report.json`, sample of the recording.
    pub first_sample: i64,
    /// RTP timestamp that lies at `first_sample`.
    pub first_rtp_timestamp: u32,
    /// First sequence number.
    pub first_sequence: u16,
}

/// A stretch of a leg that is not received audio.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// First sample of the recording that it covers.
    pub start_sample: u64,
    /// Length in samples.
    pub samples: u64,
    /// Why.
    pub kind: SlotState,
}

/// Something that happened on a leg and that users hear of.
#[derive(Clone, Debug, PartialEq)]
pub enum LegEvent {
    /// The first anchor is set: media has begun, at this call sample.
    Anchored {
        /// The segment that begins.
        segment: Segment,
    },
    /// A new segment: another SSRC, a restart of the sender, a jump of its timestamps.
    Resegmented {
        /// The segment that begins.
        segment: Segment,
    },
    /// No packet for the stall time.
    Stalled,
    /// No packet of use for the stall time, from the beginning of the leg's reception on.
    Unheard {
        /// Datagrams that came meanwhile and were none of this leg's audio.
        invalid: u64,
    },
    /// Packets (again), after `silent_ms` without.
    Resumed {
        /// Milliseconds without a packet.
        silent_ms: u64,
    },
    /// Packets were lost for good or are late: `samples` are missing from call sample `start`.
    Gap {
        /// Call sample.
        start: i64,
        /// Length in samples.
        samples: u64,
        /// Lost, or silence on the sender's part.
        kind: SlotState,
    },
    /// A telephone event ended (RFC 4733).
    Dtmf {
        /// `0`-`9`, `*`, `#`, `A`-`D`.
        digit: char,
        /// How long it was held, milliseconds.
        duration_ms: u32,
    },
}

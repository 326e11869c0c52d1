//! What is known of each 10 ms of a leg.

use serde::{Deserialize, Serialize};

/// Milliseconds in a slot, the unit in which a ring accounts for time.
pub const SLOT_MS: u64 = 10;

/// What a slot of the ring holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum SlotState {
    /// Every sample arrived in time.
    #[default]
    Received = 0,
    /// Packets that carried (part of) this slot never arrived: zeros stand in for them.
    Lost = 1,
    /// The sender sent nothing and nothing is missing: hold, discontinuous transmission, or no media yet.
    Silence = 2,
    /// The sender asked for comfort noise (RFC 3389) here; zeros are written.
    ComfortNoise = 3,
    /// Lost, and what is missing filled in with made-up audio ([`super::conceal`]).
    Concealed = 4,
    /// Was missing when the live readers came by; a late packet has filled it since.
    Repaired = 5,
}

impl SlotState {
    /// Whether the slot's samples are what the sender sent.
    pub const fn is_audio(self) -> bool {
        matches!(self, Self::Received | Self::Repaired)
    }

    /// The state stored as `raw`; anything unknown reads as [`SlotState::Lost`].
    pub const fn from_raw(raw: u8) -> Self {
        match raw {
            0 => Self::Received,
            2 => Self::Silence,
            3 => Self::ComfortNoise,
            4 => Self::Concealed,
            5 => Self::Repaired,
            _ => Self::Lost,
        }
    }
}

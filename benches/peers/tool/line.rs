//! What happens to a packet between sender and receiver: a pure function of the stream and the packet's number, so that the
//! judge knows without being told.

use std::time::Duration;

use clap::ValueEnum;

use crate::content::{PACKETS_A_SECOND, mix};

/// What the network, or the speaker, does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Line {
    /// Nothing.
    Clean,
    /// 1 % of the packets are lost, each by itself.
    Loss,
    /// 5 % are lost, five in a row.
    Bursts,
    /// Each packet is 0 to 60 ms late, so that one in two or three overtakes another.
    Jitter,
    /// The sender is silent for the middle 35 s (at most all but 10 s): timestamps go on, sequence numbers stand still.
    Hold,
    /// The sender is silent whenever the speaker is: 1.8 s of speech, 1.2 s of nothing.
    Dtx,
    /// 2 % come twice.
    Twice,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The sender has nothing to say: no packet, and no sequence number.
    Unspoken,
    /// Sent and lost.
    Lost,
    /// Delivered, perhaps late, perhaps with a copy right behind it.
    Delivered { late: Duration, twice: bool },
}

const IN_TIME: Fate = Fate::Delivered { late: Duration::ZERO, twice: false };
/// Five packets in each hundred, together.
const BURST: (u32, u32) = (5, 100);
const HOLD_SECONDS: u32 = 35;
const SPEECH_AROUND_HOLD_SECONDS: u32 = 10;
/// Packets of speech and of speech and pause.
const TALK: (u32, u32) = (90, 150);
const MOST_LATE_MS: u64 = 60;

impl Line {
    /// What becomes of packet `packet` of `stream` in a run of `seconds`.
    pub fn fate(self, stream: usize, packet: u32, seconds: u32) -> Fate {
        // Other bits than the content's.
        let draw = |what: u32| mix(!(((stream as u64) << 32) | u64::from(what)));
        match self {
            Self::Loss if draw(packet).is_multiple_of(100) => Fate::Lost,
            Self::Bursts => {
                let (length, period) = BURST;
                let begin = draw(packet / period) as u32 % (period - length);
                if (begin..begin + length).contains(&(packet % period)) { Fate::Lost } else { IN_TIME }
            }
            Self::Jitter => Fate::Delivered {
                late: Duration::from_millis(draw(packet) % (MOST_LATE_MS + 1)),
                twice: false,
            },
            Self::Hold => {
                let length = HOLD_SECONDS.min(seconds.saturating_sub(SPEECH_AROUND_HOLD_SECONDS));
                let begin = (seconds - length) / 2 * PACKETS_A_SECOND;
                let held = begin..begin + length * PACKETS_A_SECOND;
                if held.contains(&packet) { Fate::Unspoken } else { IN_TIME }
            }
            Self::Dtx => {
                let (talk, period) = TALK;
                let speaks = packet % period < talk;
                if speaks { IN_TIME } else { Fate::Unspoken }
            }
            Self::Twice if draw(packet).is_multiple_of(50) => {
                Fate::Delivered { late: Duration::ZERO, twice: true }
            }
            Self::Clean | Self::Loss | Self::Twice => IN_TIME,
        }
    }
}

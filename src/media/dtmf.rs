//! Telephone events (RFC 4733): each key press reported once.
//!
//! All packets of one press carry the timestamp at which it began, and the last is sent three times. Any of them may
//! be lost: a press whose end never comes ends with the next one, or 150 ms after the last word of it.

use std::time::Duration;

use super::counter::{RtpTimestamp, Ssrc};
use super::time::MediaInstant;

/// Ticks a millisecond: Asterisk sends `telephone-event/8000` whatever the audio's rate.
const TICKS_PER_MS: u32 = 8;
/// Bytes of one event block.
const BLOCK: usize = 4;
/// Asterisk's default patience for a lost end (`dtmftimeout` in rtp.conf: 1200 ticks).
const END_TIMEOUT: Duration = Duration::from_millis(150);
/// RFC 4733, 2.5.1.3: an event goes on in a new segment when its duration field is full. Senders stop a packet short.
const FULL_DURATION: u32 = 0xf000;
const DIGITS: [u8; 16] = *b"0123456789*#ABCD";

/// A key that was pressed and released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Press {
    /// `0`-`9`, `*`, `#`, `A`-`D`.
    pub digit: char,
    /// How long it was held, milliseconds.
    pub duration_ms: u32,
}

#[derive(Clone, Copy, Debug)]
struct Current {
    ssrc: Ssrc,
    timestamp: RtpTimestamp,
    event: u8,
    /// Ticks of earlier segments of the same press, and of earlier rounds of a 16-bit duration.
    base: u32,
    duration: u16,
    heard: MediaInstant,
}

/// The telephone events of one leg.
#[derive(Debug, Default)]
pub struct TelephoneEvents {
    current: Option<Current>,
    /// Timestamp of the newest press that is over: its repeated ends, and stragglers before it, are old news.
    ended: Option<(Ssrc, RtpTimestamp)>,
}

impl TelephoneEvents {
    /// Whether a payload of `bytes` bytes can be a telephone event.
    pub fn is_plausible(bytes: usize) -> bool {
        bytes >= BLOCK && bytes.is_multiple_of(BLOCK)
    }

    /// A telephone-event packet with a payload of at least four bytes; `emit` is called for each press that it ends.
    /// Events other than keys (flash, tones) are ignored.
    pub fn on_packet(
        &mut self,
        ssrc: Ssrc,
        timestamp: RtpTimestamp,
        payload: &[u8],
        arrival: MediaInstant,
        mut emit: impl FnMut(Press),
    ) {
        let &[event, flags, high, low, ..] = payload else { return };
        if usize::from(event) >= DIGITS.len() || self.is_over(ssrc, timestamp) {
            return;
        }
        let duration = u16::from_be_bytes([high, low]);
        match &mut self.current {
            Some(press) if press.ssrc == ssrc && press.timestamp == timestamp && press.event == event => {
                press.extend(duration);
                press.heard = arrival;
            }
            Some(press) if press.ssrc == ssrc && timestamp.since(press.timestamp) < 0 => return,
            Some(press) if press.is_continued_by(ssrc, timestamp, event) => {
                press.base = press.base.saturating_add(u32::from(press.duration));
                *press = Current { timestamp, duration, heard: arrival, ..*press };
            }
            current => {
                if let Some(unfinished) = current.take() {
                    emit(unfinished.press());
                }
                *current = Some(Current { ssrc, timestamp, event, base: 0, duration, heard: arrival });
            }
        }
        if flags & 0x80 != 0 {
            self.end(emit);
        }
    }

    /// When [`TelephoneEvents::on_deadline`] is due.
    pub fn deadline(&self) -> Option<MediaInstant> {
        self.current.map(|press| press.heard + END_TIMEOUT)
    }

    /// End a press whose end was lost, if it is time.
    pub fn on_deadline(&mut self, now: MediaInstant, emit: impl FnMut(Press)) {
        if self.deadline().is_some_and(|due| due <= now) {
            self.end(emit);
        }
    }

    /// End the press at hand, whatever the time.
    pub fn end(&mut self, mut emit: impl FnMut(Press)) {
        if let Some(press) = self.current.take() {
            self.ended = Some((press.ssrc, press.timestamp));
            emit(press.press());
        }
    }

    /// `ssrc` began anew at `timestamp`: of what it sent before, only earlier timestamps can still be told.
    pub fn begin_anew(&mut self, ssrc: Ssrc, timestamp: RtpTimestamp) {
        self.ended = self.ended.filter(|&(of, last)| of != ssrc || timestamp.since(last) > 0);
    }

    fn is_over(&self, ssrc: Ssrc, timestamp: RtpTimestamp) -> bool {
        self.ended.is_some_and(|(of, last)| of == ssrc && timestamp.since(last) <= 0)
    }
}

impl Current {
    fn extend(&mut self, duration: u16) {
        if duration > self.duration {
            self.duration = duration;
        } else if self.duration - duration > 0x8000 {
            // Some senders let the field wrap instead of beginning a segment.
            self.base = self.base.saturating_add(0x1_0000);
            self.duration = duration;
        }
    }

    fn is_continued_by(&self, ssrc: Ssrc, timestamp: RtpTimestamp, event: u8) -> bool {
        let ticks = i64::from(timestamp.since(self.timestamp));
        let full = i64::from(self.duration) >= i64::from(FULL_DURATION);
        self.ssrc == ssrc && self.event == event && full && (0..=0x1_0000).contains(&ticks)
    }

    fn press(&self) -> Press {
        Press {
            digit: char::from(DIGITS[usize::from(self.event)]),
            duration_ms: self.base.saturating_add(u32::from(self.duration)) / TICKS_PER_MS,
        }
    }
}

#[cfg(test)]
mod tests;

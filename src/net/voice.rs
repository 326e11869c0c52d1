//! What is said to parties over RTP: a paced stream each, sent on the shard's thread from the socket to which the party's side
//! of Asterisk sends.
//!
//! Asterisk's `strictrtp` takes a stream from exactly the address that it was told to send to, so a voice needs the port of its
//! seat, for the whole call. What Asterisk sends there is the caller once more, whom the legs hear already: it is dropped.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use slab::Slab;

use super::leg::panic_text;
use super::plane::{AttachError, Seat};
use super::route::{BuildFoldHasher, Sender};
use super::rtcp::{Sockets, random};
use super::shard::Command;
use super::wheel::{TICK, Wheel, next_tick};
use crate::media::codec::Codec;
use crate::media::counter::{RtpTimestamp, SequenceNumber, Ssrc};
use crate::media::pace::{PaceStats, Pacer};
use crate::media::rtp_send::{NotTaken, RtpSender};
use crate::media::time::MediaInstant;
use crate::telemetry::metric;

/// Bytes of the longest packet: 20 ms of linear PCM at 8 kHz and its header. The room grows if that is not so.
const PACKET: usize = 12 + 2 * 160;

/// A stream that is sent.
pub(super) struct Voice {
    id: u64,
    to: SocketAddr,
    pacer: Pacer,
    rtp: RtpSender,
    frame: Vec<i16>,
    packet: Vec<u8>,
    /// As of the last turn.
    known: PaceStats,
}

/// What was sent since the last report.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    sent: u64,
    skipped: u64,
}

/// The voices of one shard.
pub(super) struct Voices {
    voices: Slab<Box<Voice>>,
    ids: HashMap<u64, u32>,
    /// How many voices go to an address: one, or two for a moment.
    peers: HashMap<Sender, u32, BuildFoldHasher>,
    wheel: Wheel,
    sockets: Arc<Sockets>,
    counts: Counts,
}

impl Voices {
    pub(super) fn new(sockets: Arc<Sockets>, now: MediaInstant) -> Self {
        Self {
            voices: Slab::new(),
            ids: HashMap::new(),
            peers: HashMap::default(),
            wheel: Wheel::new(now),
            sockets,
            counts: Counts::default(),
        }
    }

    /// Whether a voice goes to `source`: then nobody wants what comes from there.
    pub(super) fn is_peer(&self, source: SocketAddr) -> bool {
        self.peers.contains_key(&source.into())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.voices.is_empty()
    }

    /// Send `voice` from now on, until it is removed.
    pub(super) fn add(&mut self, voice: Box<Voice>, now: MediaInstant) {
        *self.peers.entry(voice.to.into()).or_default() += 1;
        let id = voice.id;
        let at = self.voices.insert(voice) as u32;
        self.ids.insert(id, at);
        self.wheel.schedule(at, now);
    }

    /// Send it to another place from now on.
    pub(super) fn move_to(&mut self, id: u64, to: SocketAddr) {
        let Some(voice) = self.ids.get(&id).and_then(|&at| self.voices.get_mut(at as usize)) else { return };
        let before = std::mem::replace(&mut voice.to, to);
        *self.peers.entry(to.into()).or_default() += 1;
        self.forget_peer(before);
    }

    /// Send it no more.
    pub(super) fn remove(&mut self, id: u64) {
        let Some(at) = self.ids.remove(&id) else { return };
        self.wheel.cancel(at);
        if let Some(voice) = self.voices.try_remove(at as usize) {
            self.forget_peer(voice.to);
        }
    }

    fn forget_peer(&mut self, peer: SocketAddr) {
        if let Some(count) = self.peers.get_mut(&peer.into()) {
            *count -= 1;
            if *count == 0 {
                self.peers.remove(&peer.into());
            }
        }
    }

    /// Send what is due at `now`. To be called at every tick: frames are due on their grid, and so go out as often as they are due.
    pub(super) fn tick(&mut self, now: MediaInstant) {
        let tick = next_tick(now) - TICK;
        while let Some(at) = self.wheel.take_due(now) {
            let (voice, sockets, counts) = (&mut self.voices[at as usize], &self.sockets, &mut self.counts);
            let spoken = catch_unwind(AssertUnwindSafe(|| voice.speak(tick, sockets, counts)));
            match spoken {
                // After this tick, or the pacer would have had it.
                Ok(()) => self.wheel.schedule(at, voice.pacer.next_due()),
                // It ends this voice, and no other: nothing is due of it any more.
                Err(panic) => {
                    tracing::error!(to = %voice.to, panic = panic_text(&*panic), "a voice panicked and is silent from here on");
                }
            }
        }
    }

    /// Tell the metrics what was sent since the last time.
    pub(super) fn report(&mut self) {
        let counts = std::mem::take(&mut self.counts);
        metric::RTP_SENT.add(counts.sent);
        metric::RTP_SKIPPED.add(counts.skipped);
    }
}

impl Voice {
    fn speak(&mut self, now: MediaInstant, sockets: &Sockets, counts: &mut Counts) {
        while self.pacer.take(now, &mut self.frame) {
            let stats = self.pacer.stats();
            let skipped = stats.skipped - self.known.skipped;
            self.known = stats;
            if skipped > 0 {
                // Time went on all the same.
                self.rtp.skip(skipped as usize * self.frame.len());
            }
            let written = self.rtp.write(&self.frame, &mut self.packet);
            let sent = written.is_ok() && sockets.send_rtp(&self.packet, self.to);
            counts.sent += u64::from(sent);
            counts.skipped += skipped + u64::from(!sent);
        }
    }
}

impl Seat {
    /// Send what `pacer` has, in `codec` and from this seat's port, to `to`; silence when it has nothing. Goes on until the handle
    /// is dropped.
    ///
    /// # Errors
    /// [`SpeakError`].
    pub fn speak(self, to: SocketAddr, codec: Codec, pacer: Pacer) -> Result<VoiceHandle, SpeakError> {
        let to = SocketAddr::new(to.ip().to_canonical(), to.port());
        let (ssrc, sequence, timestamp) = (random() as u32, random() as u16, random() as u32);
        let rtp = RtpSender::new(codec, Ssrc(ssrc), SequenceNumber(sequence), RtpTimestamp(timestamp))?;
        if !self.link.alive.load(Ordering::Acquire) {
            return Err(AttachError::ShardStopped { port: self.port() }.into());
        }
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let frame = vec![0; pacer.frame_samples()];
        let packet = Vec::with_capacity(PACKET);
        let voice = Voice { id, to, pacer, rtp, frame, packet, known: PaceStats::default() };
        self.link.send(Command::Speak(Box::new(voice)));
        Ok(VoiceHandle { seat: self, id })
    }
}

/// Why nothing can be said.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpeakError {
    /// Asterisk would not take it.
    #[error(transparent)]
    Codec(#[from] NotTaken),
    /// The shard is gone.
    #[error(transparent)]
    Shard(#[from] AttachError),
}

/// A stream that is sent. Dropping it ends it.
pub struct VoiceHandle {
    seat: Seat,
    id: u64,
}

impl VoiceHandle {
    /// Send to `to` from now on, as the same stream.
    pub fn move_to(&self, to: SocketAddr) {
        let to = SocketAddr::new(to.ip().to_canonical(), to.port());
        self.seat.link.send(Command::MoveVoice { id: self.id, to });
    }
}

impl Drop for VoiceHandle {
    fn drop(&mut self) {
        self.seat.link.send(Command::Hush { id: self.id });
    }
}

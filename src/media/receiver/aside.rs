//! Sources of which too little has come to be believed when a packet of another one comes.
//!
//! RFC 3550 (A.1) has every source in a probation of its own. One at a time is [held](super::pending); what came of two others is kept
//! beside it, so that sources whose first packets and last ones come by turns lose none, and one that a network held up behind its first
//! packet has its place by that.

use super::super::hold::Hold;
use super::super::rtp::RtpPacket;
use super::super::time::MediaInstant;
use super::Body;
use super::anchor::STRAGGLERS;
use super::pending::Pending;

/// Room for what comes of a source before two of its packets are in sequence: one, and keys.
const PACKETS: usize = 4;
/// Bytes of these, 20 ms of 48 kHz linear PCM twice.
const BYTES: usize = 4 << 10;

/// What came of a source, or of none.
#[derive(Debug)]
struct Aside {
    pending: Option<Pending>,
    hold: Hold,
}

/// One to go on with, and one that makes way for it.
#[derive(Debug)]
pub(super) struct Asides([Aside; 2]);

impl Asides {
    pub(super) fn new() -> Self {
        let aside = || Aside { pending: None, hold: Hold::new(PACKETS, BYTES) };
        Self([aside(), aside()])
    }
}

impl Aside {
    fn is_of(&self, packet: &RtpPacket<'_>) -> bool {
        self.pending.is_some_and(|pending| pending.is_of(packet))
    }

    fn deadline(&self) -> Option<MediaInstant> {
        Some(self.pending?.since + STRAGGLERS)
    }

    /// How many packets it had.
    fn discard(&mut self) -> u64 {
        let had = self.hold.packets().len() as u64;
        self.pending = None;
        self.hold.clear();
        had
    }
}

impl Body {
    /// Keep what is held, while `packet` of another source has its turn or because nothing follows. What is too much to be kept is
    /// discarded, and so is what has been kept for longest of any other source.
    pub(super) fn set_aside(&mut self, packet: Option<&RtpPacket<'_>>) {
        let asides = self.asides.0.iter_mut();
        let aside = asides.filter(|aside| packet.is_none_or(|packet| !aside.is_of(packet)));
        let Some(aside) = aside.min_by_key(|aside| aside.pending.map(|pending| pending.since)) else {
            // The packet may be of either, by its number.
            return self.discard_held();
        };
        self.tally.invalid += aside.discard();
        if self.hold.move_to(&mut aside.hold) {
            aside.pending = self.pending.take();
        } else {
            self.discard_held();
        }
    }

    /// Go on with what was kept of the source of `packet`. Nothing is held.
    pub(super) fn take_back(&mut self, packet: &RtpPacket<'_>) {
        let Some(aside) = self.asides.0.iter_mut().find(|aside| aside.is_of(packet)) else { return };
        if aside.hold.move_to(&mut self.hold) {
            self.pending = aside.pending.take();
        } else {
            self.tally.invalid += aside.discard();
        }
    }

    pub(super) fn asides_deadline(&self) -> Option<MediaInstant> {
        self.asides.0.iter().filter_map(Aside::deadline).min()
    }

    /// Those of which nothing more has come until `now` were strays.
    pub(super) fn discard_asides(&mut self, now: MediaInstant) {
        let asides = self.asides.0.iter_mut();
        let strays = asides.filter(|aside| aside.deadline().is_some_and(|due| due <= now));
        self.tally.invalid += strays.map(Aside::discard).sum::<u64>();
    }
}

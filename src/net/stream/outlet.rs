//! The sending half of a connection: what a producer has, in frames of 20 ms.

use super::link::{Link, LinkEnd};
use crate::media::codec::Codec;
use crate::media::pace::{PaceStats, Pacer};
use crate::media::time::MediaInstant;
use crate::telemetry::metric;

/// Frames between two reports to the metrics: a second's.
const REPORT_FRAMES: u64 = 50;

pub(super) struct Outlet {
    codec: Codec,
    pacer: Pacer,
    /// Room for one frame.
    frame: Vec<i16>,
    /// Asterisk has enough to play for now.
    held: bool,
    /// Frames that the connection did not take, since the last report.
    dropped: u64,
    /// As of the last report.
    paced: PaceStats,
}

impl Outlet {
    pub(super) fn new(codec: Codec, pacer: Pacer) -> Self {
        let frame = vec![0; pacer.frame_samples()];
        Self { codec, pacer, frame, held: false, dropped: 0, paced: PaceStats::default() }
    }

    /// There is a connection, which has been told nothing yet.
    pub(super) fn on_connected(&mut self) {
        self.held = false;
    }

    /// Send nothing from now on, or do so again.
    pub(super) fn hold(&mut self, hold: bool) {
        self.held = hold;
    }

    pub(super) fn next_due(&self) -> MediaInstant {
        self.pacer.next_due()
    }

    /// Send what is due at `now`.
    pub(super) fn send_due(&mut self, now: MediaInstant, link: &mut Link) -> Result<(), LinkEnd> {
        if self.held {
            while self.pacer.pass(now) {}
            return Ok(());
        }
        while self.pacer.take(now, &mut self.frame) {
            self.dropped += u64::from(!link.send(self.codec, &self.frame)?);
        }
        Ok(())
    }

    pub(super) fn should_report(&self) -> bool {
        self.pacer.stats().frames >= self.paced.frames + REPORT_FRAMES
    }

    /// Tell the metrics what was sent since the last time.
    pub(super) fn report(&mut self) {
        let paced = self.pacer.stats();
        metric::STREAM_SENT.add(paced.frames - self.paced.frames);
        metric::STREAM_SKIPPED.add(paced.skipped - self.paced.skipped + std::mem::take(&mut self.dropped));
        self.paced = paced;
    }
}

//! Stand-in for `media::receiver` until that is merged.
#![allow(missing_docs)]
use crate::media::report::{LegEvent, LegStats};
use crate::media::time::MediaInstant;

#[derive(Debug, Default)]
pub struct LegReceiver {
    stats: LegStats,
}
impl LegReceiver {
    pub fn on_packet(&mut self, _arrival: MediaInstant, _datagram: &[u8]) {
        self.stats.packets_received += 1;
    }
    pub fn on_tick(&mut self, _now: MediaInstant) {}
    pub fn stats(&self) -> LegStats {
        self.stats.clone()
    }
    pub fn take_events(&mut self) -> impl Iterator<Item = LegEvent> {
        std::iter::empty()
    }
    pub fn finish(self, _end: MediaInstant) -> LegStats {
        self.stats
    }
}

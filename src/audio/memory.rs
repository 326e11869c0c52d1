//! Samples that are in memory already.

use super::{AudioError, PcmSource, PcmSpec};

/// Channels in memory, all as long as the longest: the others have silence behind their end.
#[derive(Clone, Debug)]
pub struct Samples<'a> {
    rate_hz: u32,
    channels: Vec<&'a [i16]>,
    at: usize,
}

impl<'a> Samples<'a> {
    /// `channels` at `rate_hz` frames a second.
    pub fn new(rate_hz: u32, channels: &[&'a [i16]]) -> Self {
        Self { rate_hz, channels: channels.to_vec(), at: 0 }
    }

    fn frames(&self) -> usize {
        self.channels.iter().map(|channel| channel.len()).max().unwrap_or(0)
    }
}

impl PcmSource for Samples<'_> {
    fn spec(&self) -> PcmSpec {
        PcmSpec { rate_hz: self.rate_hz, channels: self.channels.len() as u16 }
    }

    fn read(&mut self, out: &mut [i16]) -> Result<usize, AudioError> {
        let count = self.channels.len().max(1);
        let frames = (out.len() / count).min(self.frames() - self.at);
        for (frame, out) in out.chunks_exact_mut(count).take(frames).enumerate() {
            for (to, channel) in out.iter_mut().zip(&self.channels) {
                *to = channel.get(self.at + frame).copied().unwrap_or(0);
            }
        }
        self.at += frames;
        Ok(frames)
    }

    fn share(&self) -> f64 {
        self.at as f64 / self.frames().max(1) as f64
    }
}

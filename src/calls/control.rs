//! What users may do to a live call: the driver does it, the API asks for it.

use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::media::resample::{Resampler, UnsupportedRate};
use crate::media::time::SampleRate;

/// Commands to the driver.
pub trait CallControl: Send + Sync {
    /// Hang the call up.
    fn hangup<'a>(&'a self, call_id: &'a str) -> BoxFuture<'a, Result<(), ControlError>>;
    /// Write marked silence from now on.
    fn pause_recording<'a>(&'a self, call_id: &'a str) -> BoxFuture<'a, Result<(), ControlError>>;
    /// Write audio again.
    fn resume_recording<'a>(&'a self, call_id: &'a str) -> BoxFuture<'a, Result<(), ControlError>>;
    /// Play `audio`, which is not empty, to the caller, after what plays already. Returns at once.
    fn play<'a>(&'a self, call_id: &'a str, audio: Audio) -> BoxFuture<'a, Result<Playback, ControlError>>;
    /// Play nothing more of what plays or waits to.
    fn stop_playing<'a>(&'a self, call_id: &'a str) -> BoxFuture<'a, Result<(), ControlError>>;
    /// A call that is over is about to be removed: nothing more is written of it when this resolves.
    fn forget<'a>(&'a self, call_id: &'a str) -> BoxFuture<'a, ()> {
        let _ = call_id;
        Box::pin(std::future::ready(()))
    }
}

/// What a caller is to hear: one channel of 16-bit PCM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audio {
    /// Samples a second.
    pub rate_hz: u32,
    /// The samples.
    pub pcm: Vec<i16>,
}

impl Audio {
    /// The samples at `rate`: untouched if that is theirs.
    ///
    /// # Errors
    /// [`UnsupportedRate`].
    pub fn at(self, rate: SampleRate) -> Result<Vec<i16>, UnsupportedRate> {
        if self.rate_hz == rate.hz() {
            return Ok(self.pcm);
        }
        let mut resampler = Resampler::between(self.rate_hz, rate)?;
        let input: Vec<f32> = self.pcm.iter().map(|&sample| f32::from(sample) / 32_768.0).collect();
        let mut output = Vec::new();
        resampler.push(&input, &mut output);
        resampler.finish(&mut output);
        // The conversion to an integer saturates.
        Ok(output.into_iter().map(|sample| (sample * 32_768.0).round() as i16).collect())
    }
}

/// Audio that is to be heard by a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Playback {
    /// Number within the call, from 1.
    pub id: u64,
    /// How long it is.
    pub duration: Duration,
}

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The call is not live (any more).
    #[error("the call is not live")]
    NotLive,
    /// An earlier process had the call, and it is not known yet whether it lives.
    #[error("the call is not taken up yet")]
    NotTakenUp,
    /// The call is not such that this can be done, for example not recorded.
    #[error("{0}")]
    NotPossible(String),
    /// Asterisk, or a part of ours, did not do it.
    #[error("{0}")]
    Failed(String),
}

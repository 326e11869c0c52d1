//! What the legs of the speech bench say.

use std::path::Path;

use anyhow::Context;

use crate::audio::{AudioFile, Limits, PcmSource};
use crate::media::codec::Codec;
use crate::media::time::SampleRate;
use crate::speech::RATE;
use crate::speech::resample::Resampler;
use crate::speech::vad::{Vad, WINDOW};

/// Prompts of Asterisk's (see models/LICENCE.md), µ-law at 8 kHz: 15 s, one to 17 words long.
const PROMPTS: [&[u8]; 5] = [
    include_bytes!("../../../../tests/fixtures/speech/agent-pass.ulaw"),
    include_bytes!("../../../../tests/fixtures/speech/invalid.ulaw"),
    include_bytes!("../../../../tests/fixtures/speech/vm-goodbye.ulaw"),
    include_bytes!("../../../../tests/fixtures/speech/ss-noservice.ulaw"),
    include_bytes!("../../../../tests/fixtures/speech/queue-thereare.ulaw"),
];
/// Share of the time for which a party of a call speaks: each about half, less the pauses.
const TALKS: f64 = 0.45;
/// What of a file is used at most.
const LONGEST_SECONDS: usize = 600;

/// Audio of one party, which is played over and over.
#[derive(Clone, Debug)]
pub struct Track {
    /// Samples a second.
    pub rate: SampleRate,
    /// Never empty.
    pub pcm: Vec<i16>,
    /// Share of it in which the detector hears a voice, 0 to 1.
    pub voiced: f64,
}

impl Track {
    /// Prompts, with pauses after the manner of a conversation.
    ///
    /// # Errors
    /// None: the prompts have a rate that can be converted.
    pub fn of_prompts() -> anyhow::Result<Self> {
        let mut pcm = Vec::new();
        for prompt in PROMPTS {
            pcm.extend((0..prompt.len()).map(|at| Codec::Ulaw.decode(prompt, at)));
            let pause = (prompt.len() as f64 * (1.0 - TALKS) / TALKS) as usize;
            pcm.resize(pcm.len() + pause, 0);
        }
        Self::new(SampleRate::NARROWBAND, pcm)
    }

    /// One of `seconds` without a pause.
    pub fn speech(seconds: f64) -> Vec<f32> {
        let spoken = PROMPTS.iter().cycle().flat_map(|prompt| {
            (0..prompt.len()).map(|at| f32::from(Codec::Ulaw.decode(prompt, at)) / 32_768.0)
        });
        let narrow: Vec<f32> =
            spoken.take((seconds * f64::from(SampleRate::NARROWBAND.hz())) as usize).collect();
        widened(&narrow, SampleRate::NARROWBAND.hz()).unwrap_or_default()
    }

    /// The channels of a file, one or two.
    ///
    /// # Errors
    /// It cannot be read, is empty, or has a rate that calls do not have.
    pub fn of_file(path: &Path) -> anyhow::Result<Vec<Self>> {
        let name = || format!("--audio: {}", path.display());
        let mut file = AudioFile::open(path, None, Limits::default()).with_context(name)?;
        let spec = file.spec();
        let channels = usize::from(spec.channels);
        let rate = SampleRate::new(spec.rate_hz).with_context(|| {
            format!(
                "{}: {} samples a second is no rate of calls (8, 16, 24, 32 or 48 kHz)",
                name(),
                spec.rate_hz
            )
        })?;
        let mut all = Vec::new();
        let mut piece = vec![0; spec.rate_hz as usize * channels];
        while all.len() < LONGEST_SECONDS * piece.len() {
            match file.read(&mut piece).with_context(name)? {
                0 => break,
                frames => all.extend_from_slice(&piece[..frames * channels]),
            }
        }
        anyhow::ensure!(!all.is_empty(), "{}: there is no audio in it", name());
        let own = |channel| all.iter().skip(channel).step_by(channels).copied().collect();
        (0..channels).map(|channel| Self::new(rate, own(channel))).collect()
    }

    /// A line on which nobody speaks: silence, or noise of this amplitude.
    pub fn silent(amplitude: i16) -> Self {
        let rate = SampleRate::NARROWBAND;
        let mut state = 0x9e37_79b9_u32;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            (state % (2 * u32::from(amplitude.unsigned_abs()) + 1)) as i16 - amplitude
        };
        Self { rate, pcm: (0..rate.hz() * 5).map(|_| next()).collect(), voiced: 0.0 }
    }

    fn new(rate: SampleRate, pcm: Vec<i16>) -> anyhow::Result<Self> {
        let narrow: Vec<f32> = pcm.iter().map(|&sample| f32::from(sample) / 32_768.0).collect();
        let wide = widened(&narrow, rate.hz())?;
        let mut vad = Vad::default();
        let windows = wide.as_chunks::<WINDOW>().0;
        let voiced = windows.iter().filter(|window| vad.window(window)[0].voiced).count();
        Ok(Self { rate, pcm, voiced: voiced as f64 / windows.len().max(1) as f64 })
    }
}

fn widened(narrow: &[f32], hz: u32) -> anyhow::Result<Vec<f32>> {
    let mut resampler = Resampler::new(hz)?;
    let mut wide = Vec::with_capacity(narrow.len() * RATE as usize / hz as usize);
    resampler.push(narrow, &mut wide);
    resampler.finish(&mut wide);
    Ok(wide)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parties_speak_as_much_as_is_said() {
        let track = Track::of_prompts().unwrap();
        assert!((0.33..=TALKS).contains(&track.voiced), "{}", track.voiced);
        assert!((25..40).contains(&(track.pcm.len() / 8_000)));
        assert_eq!(Track::silent(0).pcm, vec![0; 40_000]);
        assert!(
            Track::silent(100).pcm.iter().all(|s| s.abs() <= 100) && Track::silent(100).pcm.contains(&-100)
        );
        assert_eq!(Track::speech(2.0).len(), 32_000);
    }
}

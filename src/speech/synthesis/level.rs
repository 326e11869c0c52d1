//! Loudness.

/// Frames that are looked at.
const FRAMES_A_SECOND: usize = 50;
/// Of the loudest frame, below which nobody speaks: ITU-T P.56 has its margin of 15.9 dB below the active level, and peaks of
/// 20 ms stand some 10 dB above that.
const ACTIVE_DB: f64 = -26.0;
/// No sample comes closer to full scale than this: G.711's largest is 0.3 dB below it.
const PEAK_DBOV: f64 = -1.0;

/// Bring the speech in `pcm` to an active level of `dbov`, without clipping any of it.
pub(super) fn set(pcm: &mut [i16], rate_hz: u32, dbov: f64) {
    let Some(active) = active_level(pcm, rate_hz) else { return };
    let peak = pcm.iter().map(|sample| sample.unsigned_abs()).max().unwrap_or(0);
    let wanted = ratio(dbov) / active;
    let room = ratio(PEAK_DBOV) * 32_768.0 / f64::from(peak.max(1));
    let gain = wanted.min(room);
    for sample in pcm {
        *sample = (f64::from(*sample) * gain).round() as i16;
    }
}

/// Root mean square of the frames in which somebody speaks, 1 being full scale; `None` in silence.
fn active_level(pcm: &[i16], rate_hz: u32) -> Option<f64> {
    let frame = (rate_hz as usize / FRAMES_A_SECOND).max(1);
    let power = |frame: &[i16]| {
        frame.iter().map(|&sample| (f64::from(sample) / 32_768.0).powi(2)).sum::<f64>() / frame.len() as f64
    };
    let powers: Vec<f64> = pcm.chunks(frame).map(power).collect();
    let floor = powers.iter().copied().fold(0.0, f64::max) * ratio(ACTIVE_DB).powi(2);
    let active: Vec<f64> = powers.into_iter().filter(|&power| power > 0.0 && power >= floor).collect();
    (!active.is_empty()).then(|| (active.iter().sum::<f64>() / active.len() as f64).sqrt())
}

fn ratio(db: f64) -> f64 {
    10_f64.powf(db / 20.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(amplitude: f64, samples: usize) -> Vec<i16> {
        (0..samples).map(|n| (amplitude * (n as f64 * 0.7).sin()) as i16).collect()
    }

    #[test]
    fn speech_comes_to_the_level_asked_for_and_pauses_do_not_count() {
        for amplitude in [60.0, 2_000.0, 30_000.0] {
            let mut pcm = [tone(amplitude, 8_000), vec![0; 24_000], tone(amplitude, 8_000)].concat();
            set(&mut pcm, 8_000, -20.0);
            let level = 20.0 * active_level(&pcm, 8_000).unwrap().log10();
            assert!((level + 20.0).abs() < 0.3, "{amplitude}: {level}");
        }
    }

    #[test]
    fn nothing_is_clipped_for_the_sake_of_loudness_and_silence_stays() {
        let mut pcm = tone(300.0, 8_000);
        pcm[4_000] = 30_000;
        set(&mut pcm, 8_000, -3.0);
        assert_eq!(
            pcm.iter().map(|s| s.unsigned_abs()).max().unwrap(),
            (32_768.0 * ratio(PEAK_DBOV)).round() as u16
        );
        let mut silence = vec![0; 100];
        set(&mut silence, 8_000, -20.0);
        assert_eq!(silence, [0; 100]);
        set(&mut [], 8_000, -20.0);
    }
}

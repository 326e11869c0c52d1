use std::f32::consts::TAU;

use super::*;

/// A voice: ten harmonics of `hz`, whose pitch glides by `glide` hertz a second.
fn voice(rate: SampleRate, hz: f32, glide: f32, samples: usize) -> Vec<i16> {
    (0..samples)
        .map(|n| {
            let t = n as f32 / rate.hz() as f32;
            let phase = TAU * (hz * t + glide * t * t / 2.0);
            let sum: f32 = (1..=10).map(|k| (phase * k as f32 + k as f32).sin() / k as f32).sum();
            (3_000.0 * sum) as i16
        })
        .collect()
}

/// Signal to error, dB, of `gap` in the place of `truth`.
fn snr(truth: &[i16], gap: &[i16]) -> f32 {
    let power = |of: &mut dyn Iterator<Item = f32>| of.map(|x| x * x).sum::<f32>();
    let signal = power(&mut truth.iter().map(|&x| f32::from(x)));
    let error = power(&mut truth.iter().zip(gap).map(|(&a, &b)| f32::from(a) - f32::from(b)));
    10.0 * (signal / error).log10()
}

/// `ms` of `audio` in its middle, concealed from what is around it.
fn concealed(rate: SampleRate, audio: &[i16], ms: u64, sides: [bool; 2]) -> (Vec<i16>, Vec<i16>) {
    let len = rate.samples_in(Duration::from_millis(ms)) as usize;
    let at = audio.len() / 2;
    let mut gap = vec![0; len];
    let before = if sides[0] { &audio[..at] } else { &[] };
    let after = if sides[1] { &audio[at + len..] } else { &[] };
    assert!(conceal(rate, before, after, &mut gap));
    (audio[at..at + len].to_vec(), gap)
}

#[test]
fn a_steady_voice_goes_on_through_a_lost_packet_at_every_rate() {
    for hz in [8_000, 12_000, 16_000, 24_000, 48_000] {
        let rate = SampleRate::new(hz).unwrap();
        for pitch in [70.0, 110.0, 150.0, 195.0] {
            let audio = voice(rate, pitch, 0.0, hz as usize);
            let (truth, gap) = concealed(rate, &audio, 20, [true, true]);
            // The fade alone leaves 15 dB at the middle of 20 ms.
            assert!(snr(&truth, &gap) > 9.0, "{hz} Hz, pitch {pitch}: {} dB", snr(&truth, &gap));
        }
    }
}

#[test]
fn both_sides_do_better_than_one_when_the_voice_changes() {
    let rate = SampleRate::NARROWBAND;
    let mut better = 0;
    for n in 0..50 {
        let audio = voice(rate, 90.0 + 2.0 * n as f32, 40.0, 8_000);
        let both = concealed(rate, &audio, 40, [true, true]);
        let one = concealed(rate, &audio, 40, [true, false]);
        better += usize::from(snr(&both.0, &both.1) > snr(&one.0, &one.1));
    }
    assert!(better >= 45, "{better} of 50");
}

#[test]
fn the_joints_are_no_steps() {
    let rate = SampleRate::NARROWBAND;
    let audio = voice(rate, 130.0, 15.0, 8_000);
    let largest = audio.windows(2).map(|w| w[0].abs_diff(w[1])).max().unwrap();
    let (at, len) = (4_000, 320);
    let mut patched = audio.clone();
    let (before, rest) = patched.split_at_mut(at);
    let (gap, after) = rest.split_at_mut(len);
    assert!(conceal(rate, before, after, gap));
    let step = |i: usize| patched[i].abs_diff(patched[i - 1]);
    assert!((at..=at + len).all(|i| step(i) <= largest + largest / 4), "{largest}");
}

#[test]
fn a_continuation_is_silent_after_50_ms() {
    let rate = SampleRate::NARROWBAND;
    let audio = voice(rate, 100.0, 0.0, 8_000);
    let (_, gap) = concealed(rate, &audio, 60, [true, false]);
    assert!(gap[400..].iter().all(|&sample| sample == 0));
    assert!(gap[..300].iter().any(|&sample| sample.unsigned_abs() > 300));
    let (_, gap) = concealed(rate, &audio, 60, [false, true]);
    assert!(gap[..80].iter().all(|&sample| sample == 0));
}

#[test]
fn silence_stays_silence_and_full_scale_does_not_wrap() {
    let rate = SampleRate::NARROWBAND;
    let mut gap = [99; 160];
    assert!(conceal(rate, &[0; 400], &[0; 400], &mut gap));
    assert_eq!(gap, [0; 160]);
    let square: Vec<i16> = (0..800).map(|n| if n / 40 % 2 == 0 { i16::MAX } else { i16::MIN }).collect();
    assert!(conceal(rate, &square[..400], &square[400..], &mut gap));
    assert!(gap.iter().zip(&square[400..]).filter(|(a, b)| (**a < 0) != (**b < 0)).count() < 80);
}

#[test]
fn too_little_context_is_refused_on_either_side_alone() {
    let rate = SampleRate::NARROWBAND;
    let mut gap = [7; 160];
    assert!(!conceal(rate, &[5; 79], &[5; 10], &mut gap));
    assert_eq!(gap, [7; 160]);
    assert!(conceal(rate, &[5; 79], &[5; 80], &mut gap));
    assert!(conceal(rate, &[], &[5; 4_000], &mut gap));
}

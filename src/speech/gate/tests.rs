use std::collections::HashSet;
use std::f32::consts::TAU;

use super::keys::Keys;
use super::music::{Heard, Music, judge};
use super::spectrum::Spectrum;
use super::tone::Tones;
use super::*;
use crate::speech::RATE;

/// Sines of these frequencies and peaks, frame by frame.
fn frames<'a>(sines: &'a [(f32, f32)], count: usize) -> impl Iterator<Item = [f32; FRAME]> + 'a {
    let at = |n: usize| sines.iter().map(|(hz, peak)| peak * (TAU * hz * n as f32 / RATE as f32).sin()).sum();
    (0..count).map(move |frame| std::array::from_fn(|n| at(frame * FRAME + n)))
}

#[test]
fn sines_show_at_their_frequency_with_their_share() {
    let mut spectrum = Spectrum::default();
    let last = frames(&[(425.3, 0.2), (1_336.0, 0.1)], 8).map(|frame| spectrum.peaks(&frame)).last().unwrap();
    let [first, second, ..] = last.as_slice() else { panic!("{last:?}") };
    assert!((first.hz - 425.3).abs() < 1.0 && (first.share - 0.8).abs() < 0.02, "{first:?}");
    assert!((second.hz - 1_336.0).abs() < 1.0 && (second.share - 0.2).abs() < 0.02, "{second:?}");
}

#[test]
fn a_tone_is_known_within_a_tenth_of_a_second_and_a_glide_never() {
    let (mut spectrum, mut tones) = (Spectrum::default(), Tones::default());
    let at =
        frames(&[(440.0, 0.1), (480.0, 0.1)], 40).position(|frame| tones.frame(&spectrum.peaks(&frame)) > 0);
    assert!(at.is_some_and(|frame| frame <= 6), "{at:?}");

    let (mut spectrum, mut tones) = (Spectrum::default(), Tones::default());
    let mut phase = 0.0;
    for frame in 0..100 {
        // 400 Hz a second, as a voice may.
        let hz = 350.0 + 6.4 * frame as f32;
        let glide = std::array::from_fn(|_| {
            phase = (phase + TAU * hz / RATE as f32) % TAU;
            0.1 * f32::sin(phase)
        });
        assert_eq!(tones.frame(&spectrum.peaks(&glide)), 0, "frame {frame}");
    }
}

#[test]
fn two_sines_make_a_key_only_if_they_are_of_the_sixteen_and_balanced() {
    let is_key = |sines: &[(f32, f32)]| {
        let mut keys = Keys::default();
        frames(sines, 4).map(|frame| keys.frame(&frame)).last().unwrap() > 0
    };
    assert!(is_key(&[(770.0, 0.1), (1_336.0, 0.1)]));
    assert!(is_key(&[(770.0 * 1.015, 0.1), (1_336.0 * 0.985, 0.1)]), "1.5 % off");
    assert!(is_key(&[(941.0, 0.05), (1_633.0, 0.12)]), "twisted by 7.6 dB");
    assert!(!is_key(&[(941.0, 0.02), (1_633.0, 0.12)]), "by 15.6 dB");
    assert!(!is_key(&[(770.0, 0.1), (852.0, 0.1)]), "two rows");
    assert!(!is_key(&[(770.0, 0.1), (1_336.0, 0.1), (300.0, 0.15)]), "someone speaks meanwhile");
}

#[test]
fn music_takes_half_a_second_to_be_told_and_speech_less() {
    let heard = |still: f32, count: usize| std::iter::repeat_n(Heard { still, rms: 0.1 }, count);
    assert_eq!(judge(heard(0.6, 31), false), Music::Unclear);
    assert_eq!(judge(heard(0.6, 32), false), Music::Playing);
    assert_eq!(judge(heard(0.1, 7), false), Music::Unclear);
    assert_eq!(judge(heard(0.1, 8), false), Music::Speech(8));
    assert_eq!(judge(heard(0.3, 64), false), Music::Unclear);
    // Someone begins to speak over music: only what is newer than the music is told to be speech.
    assert_eq!(judge(heard(0.05, 40).chain(heard(0.5, 24)), true), Music::Speech(54));
    assert_eq!(judge(heard(0.05, 20), true), Music::Unclear);
}

#[test]
fn what_may_be_music_is_unclear_until_somebody_speaks_clearly() {
    let mut gate = Gate::default();
    let heard = Frame { voiced: true, score: 0.9, rms: 0.1 };
    let chord = [220.0, 330.0, 440.0, 554.0, 660.0, 880.0].map(|hz| (hz, 0.05));
    for frame in frames(&chord, 64) {
        gate.frame(&frame, heard, None);
        assert!(gate.verdicts().all(|reason| reason.is_none()), "music is no verdict");
    }
    assert!(gate.is_unclear());
    (0..60).for_each(|_| _ = gate.frame(&[0.0; FRAME], Frame::default(), None));
    assert!(gate.is_unclear(), "a second of silence between two bars");
    let mut phase = 0.0;
    for frame in 0..64 {
        let hz = 350.0 + 6.4 * frame as f32;
        let glide = std::array::from_fn(|_| {
            phase = (phase + TAU * hz / RATE as f32) % TAU;
            0.1 * f32::sin(phase)
        });
        gate.frame(&glide, heard, None);
    }
    assert!(!gate.is_unclear());
}

#[test]
fn every_reason_has_a_name_of_its_own() {
    let names: HashSet<&str> = Reason::ALL.iter().map(|reason| reason.name()).collect();
    assert_eq!(names.len(), Reason::ALL.len());
    for (index, reason) in Reason::ALL.into_iter().enumerate() {
        assert_eq!(reason as usize, index);
    }
}

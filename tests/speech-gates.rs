//! What is not speech makes no utterance, and what is stays one: the gates on telephone sounds and on real prompts.

#[path = "speech-support/drive.rs"]
mod drive;
#[path = "speech-support/mod.rs"]
mod support;
#[path = "speech-support/telephone.rs"]
mod telephone;

use std::path::Path;

use sidetone::media::codec::Codec;
use sidetone::speech::gate::echo::Said;
use sidetone::speech::gate::{Gate, Reason};
use sidetone::speech::segment::{SegmentEvent, Segmenter, Utterance};
use sidetone::speech::vad::{FRAME, Vad, WINDOW};
use support::{hush, prompt, prompts};
use telephone::{Colour, RATE, TONES, amplitude, coded, dialled, hum, mixed, noise, rms, sines};

/// What the segmenter makes of `pcm` (8 kHz), heard 20 ms at a time beside what the other leg said, if anything.
fn segmented(pcm: &[i16], far: Option<&[i16]>) -> (Vec<Utterance>, Vec<Reason>) {
    let mut segmenter = Segmenter::new(drive::config());
    let mut said = Said::default();
    let (mut events, mut utterances, mut reasons) = (Vec::new(), Vec::new(), Vec::new());
    let far = far.map(drive::wide);
    for (index, part) in drive::wide(pcm).chunks(320).enumerate() {
        if let Some(wide) = &far {
            said.push(wide.chunks(320).nth(index).unwrap_or_default());
        }
        segmenter.push(part, far.as_ref().map(|_| said.far(0.0)).as_ref(), &mut events);
    }
    segmenter.finish(&mut events);
    for event in events {
        match event {
            SegmentEvent::Ended(utterance) => utterances.push(utterance),
            SegmentEvent::Dropped { reason, .. } => reasons.extend(reason),
            SegmentEvent::Suppressed(reason) => reasons.push(reason),
            SegmentEvent::Started { .. } | SegmentEvent::Paused | SegmentEvent::Resumed => {}
        }
    }
    (utterances, reasons)
}

/// How much of what the detector alone takes for speech in `clean` lies in an utterance of `heard`, 0 to 1. Both are of the
/// same length: what is `heard` is the speech with something else.
fn kept(clean: &[i16], heard: &[i16], far: Option<&[i16]>) -> f64 {
    let (utterances, _) = segmented(heard, far);
    let mut vad = Vad::default();
    let wide = drive::wide(clean);
    let frames = wide.as_chunks::<WINDOW>().0.iter().flat_map(|window| vad.window(window));
    let voiced: Vec<u64> = frames
        .enumerate()
        .filter(|(_, frame)| frame.voiced)
        .map(|(index, _)| (index * FRAME) as u64)
        .collect();
    let within = |at: &&u64| {
        utterances.iter().any(|u| (u.audio_start..u.audio_start + u.audio.len() as u64).contains(at))
    };
    assert!(voiced.len() > 10, "no speech to lose");
    voiced.iter().filter(within).count() as f64 / voiced.len() as f64
}

fn between_silences(pcm: &[i16]) -> Vec<i16> {
    [&hush(RATE / 2, 1)[..], pcm, &hush(RATE, 2)[..]].concat()
}

fn music() -> Vec<(String, Vec<i16>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/music");
    let mut all: Vec<(String, Vec<i16>)> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "ulaw"))
        .map(|path| {
            let bytes = std::fs::read(&path).unwrap();
            let pcm = (0..bytes.len()).map(|at| Codec::Ulaw.decode(&bytes, at)).collect();
            (path.file_stem().unwrap().to_string_lossy().into_owned(), pcm)
        })
        .collect();
    all.sort();
    assert_eq!(all.len(), 5);
    all
}

#[test]
fn the_tones_of_no_country_are_an_utterance() {
    for tone in TONES {
        for dbm0 in [-10.0, -20.0, -35.0] {
            let (utterances, reasons) = segmented(&tone.sound(dbm0, 11 * RATE), None);
            assert!(utterances.is_empty(), "{} at {dbm0} dBm0: {utterances:?}", tone.name);
            let known = [Reason::Tone, Reason::Keys];
            assert!(reasons.iter().all(|reason| known.contains(reason)), "{}: {reasons:?}", tone.name);
        }
    }
}

#[test]
fn a_tone_that_no_table_has_is_one_all_the_same() {
    for (a, b) in [(523.0, 1_103.0), (367.0, 911.0), (1_777.0, 2_345.0)] {
        let bursts = [sines(&[a, b], -15.0, RATE), vec![0.0; RATE / 2]].concat();
        let (utterances, _) = segmented(&coded(&bursts.repeat(4)), None);
        assert!(utterances.is_empty(), "{a} and {b} Hz: {utterances:?}");
    }
}

#[test]
fn keys_are_no_utterance_however_short_and_twisted() {
    for (on, off) in [(50, 50), (60, 60), (100, 100), (250, 150), (1_000, 500)] {
        for (low, high) in [(-9.0, -7.0), (-14.0, -6.0), (-6.0, -10.0), (-25.0, -23.0)] {
            let keys = dialled("123A456B789C*0#D", on, off, low, high);
            let (utterances, _) = segmented(&keys, None);
            assert!(utterances.is_empty(), "{on} ms on, {off} off, {low} and {high} dBm0: {utterances:?}");
        }
    }
}

#[test]
fn noise_that_goes_on_as_it_is_is_no_utterance() {
    for colour in [Colour::White, Colour::Pink, Colour::Room] {
        for dbm0 in [-60.0, -50.0, -40.0, -30.0] {
            let (utterances, _) = segmented(&noise(colour, dbm0, 20 * RATE, 7), None);
            assert!(utterances.is_empty(), "{colour:?} at {dbm0} dBm0: {utterances:?}");
        }
    }
}

#[test]
fn speech_in_loud_noise_is_heard() {
    for colour in [Colour::Pink, Colour::Room] {
        let (hiss, mut said, mut heard) = (noise(colour, -20.0, 10 * RATE, 5), [0.0; 2], [0.0; 2]);
        for (of, db) in [-10.0, -5.0].into_iter().enumerate() {
            for prompt in prompts() {
                let clean = between_silences(&prompt.pcm);
                let gain = 10_f64.powf(db / 20.0) * rms(&prompt.pcm) / rms(&hiss);
                let noisy = mixed(&clean, &hiss, gain);
                assert!(kept(&clean, &noisy, None) > 0.9, "{} in {colour:?} noise of {db} dB", prompt.name);
                let voiced = |pcm: &[i16]| -> f64 {
                    segmented(pcm, None).0.iter().map(|u| u.voiced.as_secs_f64()).sum()
                };
                said[of] += voiced(&clean);
                heard[of] += voiced(&noisy);
            }
            let share = heard[of] / said[of];
            assert!(
                (0.93..1.1).contains(&share),
                "of what is said in {colour:?} noise of {db} dB, {share} is heard"
            );
        }
    }
}

#[test]
fn of_music_on_hold_next_to_nothing_is_left() {
    let (mut played, mut left) = (0.0, 0.0);
    for (name, pcm) in music() {
        for gain in [1.0, 0.1] {
            let quieter: Vec<f64> = pcm.iter().map(|&s| f64::from(s) * gain).collect();
            let (utterances, _) = segmented(&coded(&quieter), None);
            let voiced: f64 = utterances.iter().map(|u| u.voiced.as_secs_f64()).sum();
            eprintln!("{name} times {gain}: {voiced:.2} s of 12");
            played += 12.0;
            left += voiced;
        }
    }
    assert!(left < 0.05 * played, "{left:.1} of {played} s taken for speech");
}

#[test]
fn prompts_stay_whole() {
    for prompt in prompts() {
        let heard = between_silences(&prompt.pcm);
        assert!(kept(&heard, &heard, None) > 0.98, "{}", prompt.name);
    }
}

#[test]
fn speech_over_music_and_over_noise_stays_whole() {
    let (_, tune) = &music()[2];
    let hiss = noise(Colour::Pink, -20.0, 10 * RATE, 5);
    for prompt in prompts() {
        let clean = between_silences(&prompt.pcm);
        for (what, other, db) in [("music", &tune[..], -10.0), ("noise", &hiss[..], -15.0)] {
            let gain = 10_f64.powf(db / 20.0) * rms(&prompt.pcm) / rms(other);
            let heard = mixed(&clean, other, gain);
            let kept = kept(&clean, &heard, None);
            assert!(kept > 0.95, "{} over {what} at {db} dB: {kept}", prompt.name);
        }
    }
}

#[test]
fn speech_right_behind_a_beep_is_whole_and_the_beep_is_not_in_it() {
    let beep = coded(&sines(&[1_000.0], -12.0, RATE * 2 / 5));
    for name in ["hello-world", "digit-5", "vm-goodbye"] {
        let spoken = prompt(name).pcm;
        let before = hush(RATE / 2, 3);
        let heard = [&before[..], &beep, &spoken, &hush(RATE, 4)].concat();
        let clean = [&hush(before.len() + beep.len(), 3)[..], &spoken, &hush(RATE, 4)].concat();
        assert!(kept(&clean, &heard, None) > 0.95, "{name}");
        let (utterances, _) = segmented(&heard, None);
        let beep_ends = 2 * (before.len() + beep.len()) as u64;
        let early = beep_ends.saturating_sub(utterances[0].audio_start);
        assert!(early <= 2 * FRAME as u64, "{name}: {early} samples of the beep");
    }
}

#[test]
fn a_busy_tone_behind_the_last_word_is_not_in_its_utterance() {
    let spoken = prompt("vm-goodbye").pcm;
    let busy = TONES.iter().find(|tone| tone.name == "busy, Germany").unwrap().sound(-12.0, 5 * RATE);
    let heard = [&hush(RATE / 2, 3)[..], &spoken, &busy].concat();
    let (utterances, _) = segmented(&heard, None);
    assert_eq!(utterances.len(), 1, "{utterances:?}");
    let tone_begins = (RATE + 2 * spoken.len()) as u64;
    let end = utterances[0].audio_start + utterances[0].audio.len() as u64;
    assert!(end <= tone_begins + 3 * FRAME as u64, "{} ms of the tone", end.saturating_sub(tone_begins) / 16);
}

#[test]
fn digits_spoken_while_keys_are_pressed_are_heard() {
    // At -20 dBm0 and below; the words at about -17. What keys mask at a word's edges is lost to the detector, too.
    for (low, least) in [(-22.0, 0.7), (-34.0, 0.85)] {
        let keys = dialled("5", 200, 100, low, low + 2.0).repeat(20);
        for name in ["digit-5", "digit-2", "agent-pass"] {
            let clean = between_silences(&prompt(name).pcm);
            let kept = kept(&clean, &mixed(&clean, &keys, 1.0), None);
            assert!(kept > least, "{name} and keys at {low} dBm0: {kept}");
        }
    }
}

#[test]
fn someone_who_hums_is_no_tone() {
    for pitch in [100.0, 130.0, 180.0, 230.0] {
        let heard = between_silences(&hum(pitch, -18.0, RATE * 2 / 5, 3));
        let wide = drive::wide(&heard);
        let (mut vad, mut gate) = (Vad::default(), Gate::default());
        // A wave made by rule is hardly a voice to the network, so the gates are asked by themselves.
        for window in wide.as_chunks::<WINDOW>().0 {
            for (samples, frame) in window.as_chunks::<FRAME>().0.iter().zip(vad.window(window)) {
                gate.frame(samples, frame, None);
                assert!(gate.verdicts().all(|reason| reason.is_none()), "{pitch} Hz");
            }
        }
    }
}

/// `far` as it comes back: later, quieter, and through a hybrid that rings for a few milliseconds.
fn echo_of(far: &[i16], delay_ms: usize, gain: f64) -> Vec<i16> {
    let delay = delay_ms * RATE / 1_000;
    let at = |n: usize, tap: usize| {
        n.checked_sub(delay + tap).and_then(|n| far.get(n)).map_or(0.0, |&s| f64::from(s))
    };
    let taps = [1.0, -0.45, 0.3, 0.2, -0.12, 0.08];
    coded(
        &(0..far.len())
            .map(|n| gain * taps.iter().enumerate().map(|(k, tap)| tap * at(n, 5 * k)).sum::<f64>())
            .collect::<Vec<_>>(),
    )
}

#[test]
fn the_other_partys_voice_come_back_is_no_utterance() {
    for name in ["agent-pass", "invalid", "auth-incorrect"] {
        let far = between_silences(&prompt(name).pcm);
        for (delay, gain) in [(20, 0.2), (130, 0.3), (310, 0.1), (520, 0.25)] {
            let near = echo_of(&far, delay, gain);
            assert!(!segmented(&near, None).0.is_empty(), "{name}: an echo sounds like speech");
            let (utterances, reasons) = segmented(&near, Some(&far));
            let voiced: f64 = utterances.iter().map(|u| u.voiced.as_secs_f64()).sum();
            assert!(voiced < 0.3, "{name}, {delay} ms, times {gain}: {voiced} s, {reasons:?}");
        }
    }
}

#[test]
fn two_who_talk_at_once_are_both_heard() {
    let names = ["agent-pass", "invalid", "auth-incorrect", "ss-noservice", "queue-thereare"];
    for (one, other) in names.iter().zip(names.iter().cycle().skip(1)) {
        let near = between_silences(&prompt(one).pcm.iter().map(|s| s / 4).collect::<Vec<_>>());
        let far = between_silences(&prompt(other).pcm);
        let kept_whole = kept(&near, &near, Some(&far));
        assert!(kept_whole > 0.98, "{one} beside {other}: {kept_whole}");
        // And over an echo of the other one, at the same level as their own voice or below.
        let echo = echo_of(&far, 90, 0.08);
        let kept_over = kept(&near, &mixed(&near, &echo, 1.0), Some(&far));
        assert!(kept_over > 0.95, "{one} over an echo of {other}: {kept_over}");
    }
}

#[test]
fn the_same_words_from_both_as_loud_are_no_echo() {
    let far = between_silences(&prompt("hello-world").pcm);
    let near = echo_of(&far, 100, 0.8);
    assert!(kept(&near, &near, Some(&far)) > 0.98);
}

#[test]
fn levels_are_what_they_say() {
    let full = coded(&sines(&[1_000.0], 0.0, RATE));
    assert!((rms(&full) - amplitude(0.0) / 2_f64.sqrt()).abs() < 100.0, "{}", rms(&full));
}

#[cfg(feature = "embedded-model")]
mod model {
    use sidetone::speech::ModelFile;

    use super::*;

    /// Words shown, as partials and as finals, and what they are.
    fn phantoms(pcm: &[i16]) -> (usize, String) {
        let model = ModelFile::embedded().unwrap().load().unwrap();
        let mut recogniser = model.recogniser().unwrap();
        let mut leg = drive::Driven::new(&mut *recogniser);
        leg.hear(pcm);
        let (finals, partials) = leg.words();
        (finals + partials, leg.text())
    }

    #[test]
    fn a_minute_of_each_gives_no_word() {
        let minute = 60 * RATE;
        let tones: Vec<i16> = TONES.iter().flat_map(|tone| tone.sound(-13.0, minute / TONES.len())).collect();
        let quiet = [
            ("digital silence", vec![0; minute]),
            ("comfort noise", noise(Colour::Room, -60.0, minute, 1)),
            ("white noise", noise(Colour::White, -40.0, minute, 2)),
            ("pink noise", noise(Colour::Pink, -40.0, minute, 3)),
            ("tones", tones),
            ("keys", dialled(&"123A456B789C*0#D".repeat(19), 100, 100, -9.0, -7.0)),
        ];
        for (what, pcm) in quiet {
            assert_eq!(phantoms(&pcm), (0, String::new()), "{what}");
        }
    }

    #[test]
    fn a_minute_of_music_on_hold_gives_no_word() {
        let all: Vec<i16> = music().into_iter().flat_map(|(_, pcm)| pcm).collect();
        assert_eq!(phantoms(&all), (0, String::new()));
    }
}

use super::*;
use crate::speech::resample::Resampler;

const SPOKEN: &[u8] = include_bytes!("../../../tests/fixtures/speech/agent-pass.ulaw");

/// A prompt of 3.3 s at 16 kHz: speech from about 0.06 s on, without a pause of the hangover's length in it.
fn spoken() -> Vec<f32> {
    let narrow = SPOKEN.iter().map(|code| {
        let code = !code;
        let magnitude = ((i16::from(code & 0x0f) << 3) + 0x84) << (code >> 4 & 7);
        f32::from(if code & 0x80 == 0 { magnitude - 0x84 } else { 0x84 - magnitude }) / 32_768.0
    });
    let mut wide = Vec::new();
    let mut resampler = Resampler::new(8_000).unwrap();
    resampler.push(&narrow.collect::<Vec<_>>(), &mut wide);
    resampler.finish(&mut wide);
    wide
}

fn silence(seconds: f64) -> Vec<f32> {
    vec![0.0; (seconds * f64::from(RATE)) as usize]
}

fn run(config: SegmentConfig, audio: &[f32], chunk: usize) -> Vec<SegmentEvent> {
    let mut segmenter = Segmenter::new(config);
    let mut events = Vec::new();
    for part in audio.chunks(chunk) {
        segmenter.push(part, None, &mut events);
    }
    segmenter.finish(&mut events);
    events
}

fn utterances(events: &[SegmentEvent]) -> Vec<&Utterance> {
    events.iter().filter_map(|e| if let SegmentEvent::Ended(u) = e { Some(u) } else { None }).collect()
}

fn seconds(position: u64) -> f64 {
    position as f64 / f64::from(RATE)
}

#[test]
fn an_utterance_has_its_speech_and_a_little_silence_around() {
    let audio = [silence(1.0), spoken(), silence(1.0)].concat();
    let events = run(SegmentConfig::default(), &audio, 320);
    let found = utterances(&events);
    assert_eq!(found.len(), 1, "{found:?}");
    let u = found[0];
    let length = spoken().len() as f64 / f64::from(RATE);
    assert!((1.0..1.25).contains(&seconds(u.speech_start)), "{}", seconds(u.speech_start));
    assert!((length + 0.7..length + 1.1).contains(&seconds(u.speech_end)), "{}", seconds(u.speech_end));
    assert!((0.4..0.5).contains(&seconds(u.speech_start - u.audio_start)));
    let end = u.audio_start + u.audio.len() as u64;
    assert_eq!(end, u.speech_end + 3_200);
    assert_eq!(u.audio[..], audio[u.audio_start as usize..end as usize]);
}

#[test]
fn how_the_audio_comes_makes_no_difference() {
    let audio = [silence(0.3), spoken(), silence(0.7), spoken(), silence(0.2)].concat();
    let whole = run(SegmentConfig::default(), &audio, audio.len());
    assert_eq!(utterances(&whole).len(), 2);
    // All but how much of the silence behind the last word there is at the end does not depend on it.
    let parts = run(SegmentConfig::default(), &audio, 77);
    assert_eq!(utterances(&whole), utterances(&parts));
}

#[test]
fn a_pause_is_told_before_the_end_and_taken_back_when_speech_goes_on() {
    let audio = [spoken(), silence(0.2), spoken(), silence(1.0)].concat();
    let events = run(SegmentConfig::default(), &audio, 320);
    let kinds: Vec<&str> = events
        .iter()
        .map(|e| match e {
            SegmentEvent::Started { .. } => "started",
            SegmentEvent::Paused => "paused",
            SegmentEvent::Resumed => "resumed",
            SegmentEvent::Ended(_) => "ended",
            SegmentEvent::Dropped { .. } => "dropped",
            SegmentEvent::Suppressed(_) => "suppressed",
        })
        .collect();
    assert!(kinds.starts_with(&["started"]) && kinds.ends_with(&["paused", "ended"]), "{kinds:?}");
    let paused = kinds.iter().filter(|k| **k == "paused").count();
    let resumed = kinds.iter().filter(|k| **k == "resumed").count();
    let ended = kinds.iter().filter(|k| **k == "ended").count();
    assert_eq!(paused, resumed + ended, "{kinds:?}");
}

#[test]
fn a_long_utterance_is_cut_without_losing_or_repeating_a_sample() {
    let config = SegmentConfig { max_utterance: Duration::from_secs(4), ..SegmentConfig::default() };
    let speech = spoken();
    let body = &speech[1_600..speech.len() - 6_400];
    let audio = [&silence(0.5), body, body, body, &silence(1.0)].concat();
    let events = run(config, &audio, 320);
    let found = utterances(&events);
    assert!(found.len() >= 3, "{}", found.len());
    assert!(found.iter().any(|u| u.cut));
    for pair in found.windows(2) {
        let end = pair[0].audio_start + pair[0].audio.len() as u64;
        assert!(pair[0].audio.len() as u64 <= samples_in(config.max_utterance));
        assert!(pair[1].audio_start >= if pair[0].cut { end } else { pair[0].speech_end });
        assert!(pair[1].speech_start < end + 8_000, "no speech between two pieces is lost");
    }
}

#[test]
fn a_click_is_no_utterance() {
    let speech = spoken();
    let audio = [silence(0.5), speech[8_000..8_000 + 1_800].to_vec(), silence(1.0)].concat();
    let events = run(SegmentConfig::default(), &audio, 320);
    assert!(utterances(&events).is_empty(), "{events:?}");
}

#[test]
fn nothing_piles_up_in_silence() {
    let mut segmenter = Segmenter::new(SegmentConfig::default());
    let mut events = Vec::new();
    for _ in 0..600 {
        segmenter.push(&silence(0.1), None, &mut events);
    }
    assert!(events.is_empty());
    // What a verdict may still change, the pre-roll and an onset: 2 s of 16 kHz.
    assert!(segmenter.kept.len() < 32_000, "{}", segmenter.kept.len());
    assert_eq!(segmenter.position(), 960_000);
}

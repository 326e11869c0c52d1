use super::*;

const SPOKEN: &[u8] = include_bytes!("../../../tests/fixtures/speech/agent-pass.ulaw");

/// A prompt of 3.3 s, each sample twice: 16 kHz of a kind that is the same everywhere.
fn spoken() -> Vec<f32> {
    let sample = |code: &u8| {
        let code = !code;
        let magnitude = ((i16::from(code & 0x0f) << 3) + 0x84) << (code >> 4 & 7);
        f32::from(if code & 0x80 == 0 { magnitude - 0x84 } else { 0x84 - magnitude }) / 32_768.0
    };
    SPOKEN.iter().flat_map(|code| [sample(code); 2]).collect()
}

/// White noise of this amplitude.
fn hiss(amplitude: f32, samples: usize) -> Vec<f32> {
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (f64::from(state) / f64::from(u32::MAX) * 2.0 - 1.0) as f32
    };
    (0..samples).map(|_| amplitude * next()).collect()
}

fn judged(audio: &[f32]) -> Vec<Frame> {
    let mut vad = Vad::default();
    audio.as_chunks::<WINDOW>().0.iter().flat_map(|window| vad.window(window)).collect()
}

#[test]
fn the_network_scores_as_its_makers_does() {
    // From silero_vad.onnx of silero-vad 6.2.3 by onnxruntime 1.32.0.
    #[rustfmt::skip]
    const SCORES: [f32; 102] = [
        0.011, 0.078, 0.833, 0.918, 0.968, 0.981, 0.980, 0.955, 0.958, 0.986, 0.986, 0.976, 0.979, 0.999, 0.999, 0.999, 1.000,
        1.000, 1.000, 1.000, 1.000, 1.000, 1.000, 1.000, 1.000, 0.995, 0.984, 0.991, 0.995, 0.980, 0.946, 0.999, 0.998, 0.997,
        0.996, 0.998, 1.000, 1.000, 1.000, 1.000, 1.000, 1.000, 1.000, 1.000, 1.000, 1.000, 0.998, 0.993, 0.790, 0.299, 0.144,
        0.102, 0.123, 0.341, 0.650, 0.813, 0.976, 0.984, 0.983, 0.984, 0.999, 1.000, 1.000, 1.000, 1.000, 1.000, 1.000, 1.000,
        1.000, 1.000, 1.000, 1.000, 1.000, 1.000, 0.999, 0.994, 1.000, 1.000, 1.000, 1.000, 1.000, 1.000, 1.000, 1.000, 1.000,
        1.000, 1.000, 1.000, 1.000, 1.000, 1.000, 1.000, 1.000, 1.000, 1.000, 1.000, 1.000, 0.997, 0.977, 0.989, 0.979, 0.508,
    ];
    let mut silero = Silero::default();
    let audio = spoken();
    let windows = audio.as_chunks::<WINDOW>().0;
    assert_eq!(windows.len(), SCORES.len());
    for (at, (window, theirs)) in windows.iter().zip(SCORES).enumerate() {
        let ours = silero.score(window);
        assert!((ours - theirs).abs() < 0.002, "window {at}: {ours}, theirs {theirs}");
    }
}

#[test]
fn what_is_no_louder_than_the_noise_before_it_is_not_looked_at() {
    let looked = |frames: &[Frame]| frames.iter().filter(|frame| frame.score > 0.0).count();
    assert_eq!(looked(&judged(&vec![0.0; 160_000])), 0, "digital silence");
    assert_eq!(looked(&judged(&hiss(0.002, 160_000))), 0, "below the floor");
    let noisy = judged(&hiss(0.02, 160_000));
    // Until the noise is known and for a moment after; then never.
    assert!((2..64).contains(&looked(&noisy[..64])), "{}", looked(&noisy[..64]));
    assert_eq!(looked(&noisy[64..]), 0);
}

#[test]
fn who_speaks_after_a_long_silence_is_heard_at_once() {
    for before in [vec![0.0; 480_000 / WINDOW * WINDOW], hiss(0.02, 480_000 / WINDOW * WINDOW)] {
        let from = before.len() / FRAME;
        let frames = judged(&[before, spoken()].concat());
        assert!(frames[..from].iter().all(|frame| !frame.voiced));
        let first = frames[from..].iter().position(|frame| frame.voiced);
        assert!(first.is_some_and(|frame| frame <= 8), "{first:?}");
    }
}

#[test]
fn a_detector_depends_on_its_own_audio_alone() {
    let (one, other) = (spoken(), hiss(0.05, 64_000));
    let alone = judged(&one);
    let (mut first, mut second) = (Vad::default(), Vad::default());
    let mut beside = Vec::new();
    for (window, others) in one.as_chunks::<WINDOW>().0.iter().zip(other.as_chunks::<WINDOW>().0) {
        beside.extend(first.window(window));
        second.window(others);
    }
    assert_eq!(beside[..], alone[..beside.len()]);
}

#[test]
fn numbers_that_are_none_are_nobodys_voice_and_are_forgotten() {
    let mut audio = spoken();
    audio[20_000..20_100].fill(f32::NAN);
    let frames = judged(&audio);
    let bad = 20_000 / WINDOW * FRAMES;
    assert!(frames[bad..bad + FRAMES].iter().all(|frame| !frame.voiced && frame.score == 0.0));
    assert!(frames[bad + 20..].iter().filter(|frame| frame.voiced).count() > 60);
}

#[test]
fn a_floor_is_exceeded_by_what_is_louder_and_by_everything_before_it_is_known() {
    let mut floor = Floor::default();
    for frame in 0..100 {
        assert_eq!(floor.is_exceeded(0.011), frame < 12, "frame {frame}");
        floor.frame(0.01);
    }
    assert!(!floor.is_exceeded(0.014) && floor.is_exceeded(0.0145));
    // It rises only once nothing has been quieter for 1.5 s.
    for frame in 0..60 {
        floor.frame(0.1);
        assert!(floor.is_exceeded(0.1), "frame {frame}");
    }
    (0..60).for_each(|_| floor.frame(0.1));
    assert!(!floor.is_exceeded(0.1));
}

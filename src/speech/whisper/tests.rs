#[path = "../../../fuzz/src/tiny_model.rs"]
mod tiny_model;

use std::io::Cursor;

use super::*;
use crate::speech::resample::Resampler;

/// Stock prompts in a row, 16 kHz.
fn speech() -> Vec<f32> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/speech");
    let mut names: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| path.extension().is_some_and(|extension| extension == "ulaw"));
    names.sort();
    let mut resampler = Resampler::new(8_000).unwrap();
    let mut wide = Vec::new();
    for path in names {
        let codes = std::fs::read(path).unwrap();
        let pcm: Vec<f32> = codes
            .iter()
            .map(|&code| f32::from(crate::media::codec::g711::ULAW[usize::from(code)]) / 32_768.0)
            .collect();
        resampler.push(&pcm, &mut wide);
    }
    wide
}

/// Pieces of speech, of each length in seconds some, decoded here and by the library: how many, and in how many the text differs. Up to where
/// they differ, log probabilities do so by less than `rounding`.
fn differences(
    model: &WhisperModel,
    lengths: &[f64],
    (language, prompt): (&str, &str),
    rounding: f32,
) -> (usize, usize) {
    let speech = speech();
    let state = model.0.context.create_state().unwrap();
    let mut recogniser = WhisperRecogniser::new(model.0.clone(), state);
    let request = Request { language: language.into(), prompt: Some(prompt.into()), partial: false };
    let prompt = recogniser.prompt_tokens(&request);
    let (mut pieces, mut different) = (0, 0);
    for round in 0..6 {
        for seconds in lengths {
            let length = (seconds * f64::from(RATE)) as usize;
            let start = (pieces * 31_337 + round) % (speech.len() - length);
            let audio = &speech[start..start + length];
            let window = model.0.windows.of(*seconds) as i32;
            let piece = Piece { audio, window, language, prompt: &prompt, most: 40 };
            let ours = recogniser.by_own_rules(&piece).unwrap().unwrap();
            let theirs = recogniser.by_library(&piece).unwrap();
            let end = model.0.context.token_eot();
            let text = |tokens: &[Token]| {
                tokens.iter().map(|token| token.id).filter(|id| *id < end).collect::<Vec<_>>()
            };
            pieces += 1;
            if text(&ours) != text(&theirs) {
                println!("{seconds} s at {start}: {ours:?}, the library {theirs:?}");
                different += 1;
            }
            // What was said before decides over the next: only up to the first difference can be compared.
            for (ours, theirs) in ours.iter().zip(&theirs).take_while(|(ours, theirs)| ours.id == theirs.id) {
                let off = (ours.plog - theirs.plog).abs();
                assert!(off < rounding, "{seconds} s at {start}: {ours:?}, {theirs:?}");
            }
        }
    }
    (pieces, different)
}

/// Rounding differs, so that of two stamps that are equally likely now and then the other one is taken. Of words hardly ever.
#[cfg(feature = "embedded-model")]
#[test]
fn what_is_decoded_here_is_what_the_library_decodes() {
    let bytes = crate::speech::model::unpack_embedded().unwrap();
    let model = WhisperModel::from_bytes(EMBEDDED_NAME, &bytes).unwrap();
    for prompt in ["", " please enter your password"] {
        let (pieces, different) = differences(&model, &[0.3, 1.0, 2.2, 3.84, 5.0, 8.0], ("en", prompt), 0.25);
        assert!(different * 30 <= pieces, "{different} of {pieces} with prompt {prompt:?}");
    }
}

/// A model of random weights, which hangs on every rounding.
#[test]
fn in_a_language_of_many_too() {
    let bytes = tiny_model::TinyModel::babbling().bytes;
    ggml::check(&mut Cursor::new(&bytes)).unwrap();
    let model = WhisperModel::from_bytes("babbling", &bytes).unwrap();
    for asked in [("de", ""), ("ja", " w1 w2 w3")] {
        let (pieces, different) = differences(&model, &[0.5, 4.0, 12.0, 20.0], asked, 1.0);
        assert!(different * 4 <= pieces, "{different} of {pieces}: {asked:?}");
    }
}

#[test]
fn the_settings_know_the_languages_of_the_library_and_no_others() {
    let of_library: Vec<_> = (0..=whisper_rs::get_lang_max_id()).filter_map(get_lang_str).collect();
    assert_eq!(of_library, crate::config::LANGUAGES);
}

#[test]
fn tokens_without_a_probability_make_words_that_nobody_believes() {
    for absurd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MIN] {
        let mut builder = WordBuilder { words: Vec::new(), bytes: Vec::new(), plogs: Vec::new() };
        builder.push(b" yes", finite(-0.1));
        builder.push(b"ter", finite(absurd));
        builder.finish();
        let word = &builder.words[0];
        assert!((0.0..0.001).contains(&word.p), "{absurd}: {}", word.p);
    }
    assert_eq!(finite(-0.1), -0.1);
}

#[test]
fn the_window_has_slack_and_comes_in_steps() {
    let stock = [0.5, 4.0, 8.0, 9.0, 12.0, 60.0].map(|seconds| Windows::STOCK.of(seconds));
    assert_eq!(stock, [512, 512, 512, 768, 768, 1_500]);
    let short = [0.5, 3.0, 4.0, 8.0, 60.0].map(|seconds| Windows::SHORT.of(seconds));
    assert_eq!(short, [256, 256, 512, 512, 1_500]);
}

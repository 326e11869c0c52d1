//! `transcribe` of files that lie, have no speech model for them, or are none.

use std::path::Path;

use serde_json::Value;

use crate::{folder, serve, sidetone, ulaw};

fn prompt(name: &str) -> Vec<i16> {
    let file = format!("{}/tests/fixtures/speech/{name}.ulaw", env!("CARGO_MANIFEST_DIR"));
    let silence = vec![0; 4_000];
    let speech = std::fs::read(file).unwrap().into_iter().map(ulaw).collect();
    [silence.clone(), speech, silence].concat()
}

/// 16-bit PCM at 8 kHz.
fn wav_bytes(channels: u16, samples: &[i16]) -> Vec<u8> {
    let data: Vec<u8> = samples.iter().flat_map(|s| s.to_le_bytes()).collect();
    let mut wav = b"RIFF".to_vec();
    wav.extend((36 + data.len() as u32).to_le_bytes());
    wav.extend(b"WAVEfmt \x10\0\0\0\x01\0");
    wav.extend(channels.to_le_bytes());
    wav.extend(8_000_u32.to_le_bytes());
    wav.extend((16_000 * u32::from(channels)).to_le_bytes());
    wav.extend((2 * channels).to_le_bytes());
    wav.extend(b"\x10\0data");
    wav.extend((data.len() as u32).to_le_bytes());
    wav.extend(data);
    wav
}

/// A file of one prompt in `folder`; its path.
pub fn prompt_file(folder: &Path, name: &str) -> String {
    let path = folder.join(format!("{name}.wav"));
    std::fs::write(&path, wav_bytes(1, &prompt(name))).unwrap();
    path.to_str().unwrap().to_owned()
}

fn two_speakers(folder: &Path) {
    let (left, right) = (prompt("vm-goodbye"), prompt("hello-world"));
    // One after the other, as people do.
    let silence = |n: usize| vec![0_i16; n];
    let left_leg = [left.clone(), silence(right.len())].concat();
    let right_leg = [silence(left.len()), right].concat();
    let both: Vec<i16> = left_leg.iter().zip(&right_leg).flat_map(|(&l, &r)| [l, r]).collect();
    std::fs::write(folder.join("two.wav"), wav_bytes(2, &both)).unwrap();
}

/// G.711 in any of the ways in which files carry it.
#[test]
fn files_without_a_header_are_told_by_their_name_or_by_the_user() {
    let folder = folder();
    let codes =
        std::fs::read(format!("{}/tests/fixtures/speech/hello-world.ulaw", env!("CARGO_MANIFEST_DIR")))
            .unwrap();
    let codes = [vec![0xff; 4_000], codes, vec![0xff; 8_000]].concat();
    for name in ["a.ulaw", "b.UL", "c", "d.pcm"] {
        std::fs::write(folder.path().join(name), &codes).unwrap();
    }
    for args in [&["a.ulaw"][..], &["b.UL"], &["c", "--from", "ulaw"], &["d.pcm", "--from", ".ulaw"]] {
        let ran = sidetone(folder.path(), &[&["transcribe", "--quiet"], args].concat());
        assert_eq!(ran.code, 0, "{}", ran.err);
        assert!(ran.out.ends_with("] hello world\n"), "{args:?}: {}", ran.out);
    }
    sidetone(folder.path(), &["transcribe", "d.pcm", "--quiet"])
        .refused(1, &["d.pcm", "WAV, FLAC, MP3", "ffmpeg"]);
    assert_eq!(sidetone(folder.path(), &["transcribe", "c", "--from", "docx"]).code, 2);
}

#[test]
fn standard_input_is_a_file_too() {
    let folder = folder();
    let path = prompt_file(folder.path(), "hello-world");
    let input = |args: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_sidetone"));
        command.args(args).current_dir(folder.path()).stdin(std::fs::File::open(&path).unwrap());
        command.output().unwrap()
    };
    let ran = input(&["transcribe", "-", "--quiet", "--format", "srt"]);
    let out = String::from_utf8(ran.stdout).unwrap();
    assert!(ran.status.success() && out.ends_with("\nhello world\n\n"), "{out}");
    assert_eq!(input(&["transcribe", "-", "--beside"]).status.code(), Some(2));
}

#[test]
fn a_stereo_file_has_two_speakers_in_every_format() {
    let folder = folder();
    two_speakers(folder.path());
    let as_format = |format: &str| {
        let ran = sidetone(folder.path(), &["transcribe", "two.wav", "--quiet", "--format", format]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        ran.out
    };
    let text = as_format("text");
    assert_eq!(as_format("txt"), text, "named by its extension, as over HTTP");
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[0].starts_with("[00:0") && lines[0].contains("] caller: "), "{text}");
    assert!(lines[0].contains("goodbye"), "{text}");
    assert!(lines[1].contains("] callee: ") && lines[1].contains("hello world"), "{text}");

    let json: Value = serde_json::from_str(&as_format("json")).expect("JSON");
    let utterances = json["utterances"].as_array().expect("utterances");
    assert_eq!(
        (utterances[0]["speaker"].as_str(), utterances[1]["speaker"].as_str()),
        (Some("caller"), Some("callee"))
    );
    assert!(utterances[1]["start"].as_f64() > utterances[0]["end"].as_f64(), "{json:#}");

    assert_eq!(json["file"], "two.wav");

    let srt = as_format("srt");
    assert!(
        srt.starts_with("1\n00:00:0")
            && srt.contains(" --> 00:00:0")
            && srt.contains(",")
            && srt.contains("\n\n2\n"),
        "{srt}"
    );
    let vtt = as_format("vtt");
    assert!(
        vtt.starts_with("WEBVTT\n\n") && vtt.contains("<v caller>") && vtt.contains("<v callee>"),
        "{vtt}"
    );
}

#[test]
fn a_wav_whose_header_lies_is_read_as_far_as_it_goes_and_says_so() {
    let folder = folder();
    let whole = wav_bytes(1, &prompt("vm-goodbye"));
    let transcribe = |bytes: &[u8]| {
        std::fs::write(folder.path().join("a.wav"), bytes).unwrap();
        sidetone(folder.path(), &["transcribe", "a.wav", "--quiet"])
    };
    let good = transcribe(&whole);
    assert_eq!(good.code, 0, "{}", good.err);
    assert!(good.out.contains("goodbye") && !good.err.contains("header"), "{}{}", good.out, good.err);
    // A length far beyond the file's end, in both places.
    let mut lie = whole.clone();
    lie[4..8].copy_from_slice(&0x7fff_ffff_u32.to_le_bytes());
    lie[40..44].copy_from_slice(&0x7fff_ff00_u32.to_le_bytes());
    // Cut in the silence after the word, amid a sample.
    for bytes in [&lie[..], &whole[..whole.len() - 3_001]] {
        let ran = transcribe(bytes);
        assert_eq!((ran.code, ran.out.as_str()), (0, good.out.as_str()), "{}", ran.err);
        assert!(
            ran.err.starts_with("sidetone: a.wav: ") || ran.err.contains("\nsidetone: a.wav: "),
            "{}",
            ran.err
        );
    }
}

#[test]
fn a_language_that_is_none_is_refused_and_one_that_the_model_lacks_is_warned_of() {
    let folder = folder();
    let wav = prompt_file(folder.path(), "hello-world");
    let transcribe = |language: &str| sidetone(folder.path(), &["transcribe", &wav, "--language", language]);
    let ran = transcribe("xx");
    assert_eq!(ran.code, 2, "{}", ran.err);
    assert!(ran.err.contains("`xx` is no language") && ran.err.contains(" de, "), "{}", ran.err);
    serve(&["speech.language=zz"]).refused(64, &["speech.language", "`zz` is no language", " de, "]);
    let checked = sidetone(folder.path(), &["check", "--set", "speech.language=zz"]);
    assert_eq!(checked.code, 64, "{}", checked.out);
    for language in ["de", "auto"] {
        let ran = transcribe(language);
        assert_eq!(ran.code, 0, "{}", ran.err);
        let warning =
            format!("knows English only, and takes everything for it: for the language `{language}`");
        assert!(ran.err.contains(&warning), "{}", ran.err);
    }
    assert!(!transcribe("en").err.contains("English only"));
    let ran = sidetone(
        folder.path(),
        &["check", "--set", "speech.language=de", "--set", "ari.url=http://127.0.0.1:1"],
    );
    assert!(ran.out.lines().any(|l| l.starts_with("warning") && l.contains("English only")), "{}", ran.out);
}

#[test]
fn what_is_no_audio_fails_and_the_other_files_are_transcribed() {
    let folder = folder();
    let good = prompt_file(folder.path(), "hello-world");
    std::fs::write(folder.path().join("text.wav"), "I am no audio").unwrap();
    std::fs::write(folder.path().join("cut.wav"), &wav_bytes(1, &[0; 100])[..30]).unwrap();
    std::fs::write(folder.path().join("empty.wav"), "").unwrap();
    std::fs::create_dir(folder.path().join("folder.wav")).unwrap();
    let files = ["text.wav", "cut.wav", "empty.wav", "gone.wav", "folder.wav", good.as_str()];
    let ran = sidetone(folder.path(), &[&["transcribe", "--quiet"][..], &files].concat());
    ran.refused(
        1,
        &[
            "text.wav: not audio of a kind that is read here",
            "convert it first",
            "cut.wav: ",
            "empty.wav: the file is empty",
            "gone.wav: cannot be opened: No such file",
            "folder.wav: cannot be opened: is a directory",
        ],
    );
    assert_eq!(ran.err.matches("(os error").count(), 1, "the cause is said once: {}", ran.err);
    assert!(ran.err.contains("copy it again"), "{}", ran.err);
    assert!(ran.out.contains("hello world"), "{}{}", ran.out, ran.err);
    // Usage is clap's business.
    assert_eq!(sidetone(folder.path(), &["transcribe"]).code, 2);
    assert_eq!(sidetone(folder.path(), &["transcribe", "x.wav", "--format", "docx"]).code, 2);
}

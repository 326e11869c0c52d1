//! Telephone audio with truth, and what the voice detector in use makes of it: for `benches/vad/compare`, which sets others beside it.
//!
//! `vad --sounds DIR --out DIR`: DIR of `scripts/lab sounds`. Writes for each sound `NAME.s16` (mono 8 kHz), `NAME.truth` (a byte for 10 ms:
//! 0 nobody speaks, 1 somebody does, 2 either), for each frame of 16 ms `NAME.scores` (a little-endian f32), `NAME.voiced` (with hysteresis and
//! floor), `NAME.gated` (what the gates leave of that in the end, which is what an utterance is made of) and `NAME.earshot` (the scores of
//! another detector, an f32), and `index.json`.
//!
//! Truth is a matter of level, on the clean prompts: a frame within 24 dB of its prompt's loud ones (95th percentile) is speech;
//! frames more than 40 dB below, and what is outside of prompts, are none, but for 50 ms before and 100 ms behind anything louder.
//! The rest, breaths and fricatives among it, counts for nobody.

#[path = "../../tests/speech-support/drive.rs"]
mod drive;
#[path = "../../tests/speech-support/telephone.rs"]
mod telephone;

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Parser;
use serde_json::{Value, json};
use sidetone::clock;
use sidetone::speech::gate::Gate;
use sidetone::speech::vad::{FRAME, Frame, Vad, WINDOW};
use telephone::{Colour, RATE, TONES, coded, dialled, mixed, noise, rms};

#[derive(Parser)]
#[command(about = "Telephone audio with truth")]
struct Args {
    /// Prompts and music.
    #[arg(long)]
    sounds: PathBuf,
    /// Where to write; made if it is not there.
    #[arg(long)]
    out: PathBuf,
    /// Prompts of each language.
    #[arg(long, default_value_t = 60)]
    prompts: usize,
    /// Of each sound that is no speech.
    #[arg(long, default_value_t = 60)]
    seconds: usize,
    /// What `cargo bench` adds.
    #[arg(long, hide = true)]
    bench: bool,
}

/// A prompt is of use if it is so long: shorter ones are clicks, longer ones lists.
const SECONDS: std::ops::Range<f64> = 0.6..8.0;
/// Root mean square of a prompt at least: -50 dB of full scale.
const LEAST: f64 = 100.0;
/// Between prompts: longer than any detector remembers.
const PAUSE: usize = RATE * 6 / 5;
/// Samples of a frame of truth: 10 ms.
const TRUTH: usize = RATE / 100;
/// Of a prompt's loud frames: speech is above the first, silence below the second.
const SPEECH: f64 = 0.063;
const SILENCE: f64 = 0.01;
/// Frames before and behind anything louder than silence that are not silence yet, or any more.
const BEFORE: usize = 5;
const BEHIND: usize = 10;

const NOBODY: u8 = 0;
const SOMEBODY: u8 = 1;
const EITHER: u8 = 2;
/// Root mean square of music that is mixed with something: not so loud that it clips.
const LOUD: u16 = 2_000;

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    std::fs::create_dir_all(&args.out)?;
    let mut index = Vec::new();
    let (mut spent, mut earshot_spent, mut seconds, mut looked_at) = (0.0, 0.0, 0.0, 0);
    let mut write = |name: String, kind: &str, pcm: &[i16], truth: &[u8]| -> anyhow::Result<()> {
        let wide = drive::wide(pcm);
        let mut detector = Box::<earshot::Detector>::default();
        let begun = clock::now();
        let score = |frame: &[f32; FRAME]| detector.predict_f32(&frame.map(|s| s.clamp(-1.0, 1.0)));
        let earshot: Vec<f32> = wide.as_chunks::<FRAME>().0.iter().map(score).collect();
        earshot_spent += clock::since(begun).as_secs_f64();
        seconds += pcm.len() as f64 / RATE as f64;
        let begun = clock::now();
        let mut vad = Vad::default();
        let frames: Vec<Frame> =
            wide.as_chunks::<WINDOW>().0.iter().flat_map(|window| vad.window(window)).collect();
        spent += clock::since(begun).as_secs_f64();
        looked_at += frames.iter().filter(|frame| frame.score > 0.0).count();
        let mut gate = Gate::default();
        let voiced: Vec<u8> = frames.iter().map(|frame| u8::from(frame.voiced)).collect();
        let mut gated = Vec::new();
        for (samples, heard) in wide.as_chunks::<FRAME>().0.iter().zip(&frames) {
            gated.push(u8::from(heard.voiced));
            let changed = gate.frame(samples, *heard, None);
            let newest = gated.iter_mut().zip(&voiced).rev();
            for ((gated, voiced), reason) in newest.zip(gate.verdicts()).take(changed) {
                *gated = if reason.is_none() { *voiced } else { 0 };
            }
        }
        let scores: Vec<f32> = frames.iter().map(|frame| frame.score).collect();
        let file = |extension: &str| args.out.join(format!("{name}.{extension}"));
        std::fs::write(file("s16"), pcm.iter().flat_map(|s| s.to_le_bytes()).collect::<Vec<u8>>())?;
        for (extension, scores) in [("scores", scores), ("earshot", earshot)] {
            std::fs::write(
                file(extension),
                scores.iter().flat_map(|s| s.to_le_bytes()).collect::<Vec<u8>>(),
            )?;
        }
        std::fs::write(file("voiced"), voiced)?;
        std::fs::write(file("gated"), gated)?;
        std::fs::write(file("truth"), truth)?;
        index.push(json!({ "name": name, "kind": kind }));
        Ok(())
    };

    let music = tracks(&args.sounds.join("moh"))?;
    for folder in folders(&args.sounds.join("sounds"))? {
        let language = folder.file_name().unwrap_or_default().to_string_lossy()[..2].to_owned();
        let (clean, truth) = spoken(&folder, args.prompts)?;
        write(format!("{language} clean"), "clean", &clean, &truth)?;
        let speech: Vec<i16> = (0..truth.len())
            .filter(|frame| truth[*frame] == SOMEBODY)
            .flat_map(|frame| clean[frame * TRUTH..(frame + 1) * TRUTH].to_vec())
            .collect();
        for colour in [Colour::Pink, Colour::Room] {
            let hiss = noise(colour, -25.0, clean.len(), 11);
            for snr in [20.0, 10.0, 5.0] {
                let gain = rms(&speech) / rms(&hiss) / 10_f64.powf(snr / 20.0);
                let name = format!("{language} {colour:?} {snr} dB").to_lowercase();
                write(name, &format!("{snr} dB"), &mixed(&clean, &hiss, gain), &truth)?;
            }
        }
        let tune = medley(&music, clean.len());
        for snr in [20.0, 10.0, 0.0] {
            let gain = rms(&speech) / rms(&tune) / 10_f64.powf(snr / 20.0);
            let kind = format!("{snr} dB over music");
            write(format!("{language} {kind}"), &kind, &mixed(&clean, &tune, gain), &truth)?;
        }
    }
    let samples = args.seconds * RATE;
    let mut other = vec![("digital silence".to_owned(), "silence", vec![0; samples])];
    for colour in [Colour::White, Colour::Pink, Colour::Room] {
        for level in [-60.0, -50.0, -40.0, -30.0] {
            let kind = if colour == Colour::Room && level <= -50.0 { "comfort noise" } else { "noise" };
            other.push((
                format!("{colour:?} noise {level} dBm0").to_lowercase(),
                kind,
                noise(colour, level, samples, 3),
            ));
        }
    }
    for level in [-10.0, -20.0] {
        let share = samples * 2 / TONES.len();
        let tones = TONES.iter().flat_map(|tone| tone.sound(level, share)).collect();
        other.push((format!("tones {level} dBm0"), "tones", tones));
    }
    let keys: String = "123A456B789C*0#D".chars().cycle().take(samples * 5 / RATE).collect();
    other.push(("keys".into(), "keys", dialled(&keys, 100, 100, -9.0, -7.0)));
    for (name, pcm) in &music {
        let pcm: Vec<f64> = pcm.iter().take(samples).map(|&s| f64::from(s)).collect();
        other.push((format!("music {name}"), "music", coded(&pcm)));
    }
    for (name, kind, pcm) in other {
        let truth = vec![NOBODY; pcm.len() / TRUTH];
        write(name, kind, &pcm, &truth)?;
    }
    let report = json!({
        "sounds": Value::from(index),
        "percent_of_a_core": 100.0 * spent / seconds,
        "percent_of_a_core_looking": 100.0 * spent * RATE as f64 * 2.0 / (looked_at.max(1) * FRAME) as f64,
        "earshot_percent_of_a_core": 100.0 * earshot_spent / seconds,
        "seconds": seconds,
    });
    std::fs::write(args.out.join("index.json"), serde_json::to_vec_pretty(&report)?)?;
    println!("{seconds:.0} s of audio in {}", args.out.display());
    Ok(())
}

type Track = (String, Vec<i16>);

fn tracks(folder: &Path) -> anyhow::Result<Vec<Track>> {
    let track = |path: PathBuf| -> anyhow::Result<Track> {
        Ok((path.file_stem().unwrap_or_default().to_string_lossy().into_owned(), read(&path)?))
    };
    let all: Vec<Track> = wavs(folder)?.into_iter().map(track).collect::<anyhow::Result<_>>()?;
    anyhow::ensure!(!all.is_empty(), "{}: no music", folder.display());
    Ok(all)
}

/// An equal part of each track, equally loud, in turn.
fn medley(tracks: &[Track], samples: usize) -> Vec<i16> {
    let part = samples.div_ceil(tracks.len());
    let of = |(_, pcm): &Track| -> Vec<i16> {
        let gain = f64::from(LOUD) / rms(pcm);
        pcm.iter().cycle().take(part).map(|&s| (f64::from(s) * gain) as i16).collect()
    };
    let mut all: Vec<i16> = tracks.iter().flat_map(of).collect();
    all.truncate(samples);
    all
}

/// Prompts of a language with pauses of a silent line between, through mu-law, and the truth.
fn spoken(folder: &Path, count: usize) -> anyhow::Result<(Vec<i16>, Vec<u8>)> {
    let mut all = Vec::new();
    for path in wavs(folder)? {
        let pcm = read(&path)?;
        // Some are recordings of silence.
        if SECONDS.contains(&(pcm.len() as f64 / RATE as f64)) && rms(&pcm) > LEAST {
            all.push(pcm);
        }
    }
    anyhow::ensure!(!all.is_empty(), "{}: no prompts", folder.display());
    let (mut clean, mut truth) = (Vec::new(), Vec::new());
    for prompt in all.iter().step_by((all.len() / count).max(1)).take(count) {
        let prompt = &prompt[..prompt.len() / TRUTH * TRUTH];
        clean.extend([&vec![0; PAUSE][..], prompt].concat());
        truth.extend(vec![NOBODY; PAUSE / TRUTH]);
        truth.extend(levels(prompt));
    }
    clean.resize(clean.len() + PAUSE, 0);
    truth.resize(truth.len() + PAUSE / TRUTH, NOBODY);
    let quiet: Vec<bool> = truth.iter().map(|&truth| truth == NOBODY).collect();
    for (frame, verdict) in truth.iter_mut().enumerate() {
        let around = frame.saturating_sub(BEHIND)..(frame + BEFORE + 1).min(quiet.len());
        if *verdict == NOBODY && quiet[around].contains(&false) {
            *verdict = EITHER;
        }
    }
    let hiss = noise(Colour::White, -65.0, clean.len(), 5);
    Ok((mixed(&clean, &hiss, 1.0), truth))
}

fn levels(prompt: &[i16]) -> Vec<u8> {
    let levels: Vec<f64> = prompt.chunks_exact(TRUTH).map(rms).collect();
    let mut sorted = levels.clone();
    sorted.sort_unstable_by(f64::total_cmp);
    let loud = sorted[sorted.len() * 95 / 100];
    let verdict = |level: &f64| match level / loud {
        share if share >= SPEECH => SOMEBODY,
        share if share < SILENCE => NOBODY,
        _ => EITHER,
    };
    levels.iter().map(verdict).collect()
}

fn folders(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut found: Vec<PathBuf> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    found.retain(|path| path.is_dir() && !path.is_symlink());
    found.sort();
    Ok(found)
}

/// All below the folder, by name.
fn wavs(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut found = Vec::new();
    for path in entries.filter_map(|entry| entry.ok().map(|entry| entry.path())) {
        if path.is_dir() {
            found.extend(wavs(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "wav") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn read(path: &Path) -> anyhow::Result<Vec<i16>> {
    let name = || path.display().to_string();
    let mut wav = sidetone::recording::wav::WavReader::open(path).with_context(name)?;
    let format = wav.format();
    anyhow::ensure!((format.channels, format.rate_hz) == (1, 8_000), "{}: not mono at 8 kHz", name());
    wav.read_all().with_context(name)
}

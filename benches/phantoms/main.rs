//! Words that nobody said: `cargo bench --bench phantoms -- --seconds 600 --music DIR`.
//!
//! The built-in model, behind the detector, the gates and the guards of a live leg, listens to what is not speech: silence,
//! noise, tones, keys and music. Every word shown, final or partial, is a phantom. DIR holds recordings as mono 8 kHz
//! 16-bit WAV (Debian: `asterisk-moh-opsound-wav`).

#[path = "../../tests/speech-support/drive.rs"]
mod drive;
#[path = "../../tests/speech-support/telephone.rs"]
mod telephone;

use std::path::{Path, PathBuf};

use clap::Parser;
use drive::Driven;
use sidetone::speech::ModelFile;
use sidetone::speech::recogniser::Recogniser;
use telephone::{Colour, RATE, TONES, coded, dialled, noise};

#[derive(Parser)]
#[command(about = "Words that nobody said")]
struct Args {
    /// Of each sound.
    #[arg(long, default_value_t = 60)]
    seconds: usize,
    /// Music on hold: WAV files.
    #[arg(long)]
    music: Option<PathBuf>,
    /// Only sounds whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// Print what was heard.
    #[arg(long)]
    verbose: bool,
    /// What `cargo bench` adds.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let model = ModelFile::embedded()?.load()?;
    let mut recogniser = model.recogniser()?;
    println!("{:<42} {:>7} {:>8} {:>8} {:>8}", "sound", "minutes", "decodes", "partial", "final");
    for (name, pcm) in sounds(&args)? {
        if name.contains(&args.only) {
            measure(&args, &name, &pcm, &mut *recogniser);
        }
    }
    Ok(())
}

type Sound = (String, Vec<i16>);

fn sounds(args: &Args) -> anyhow::Result<Vec<Sound>> {
    let samples = args.seconds * RATE;
    let mut sounds = vec![("digital silence".to_owned(), vec![0; samples])];
    for colour in [Colour::White, Colour::Pink, Colour::Room] {
        for level in [-60.0, -50.0, -40.0, -30.0] {
            let name = format!("{colour:?} noise at {level} dBm0").to_lowercase();
            sounds.push((name, noise(colour, level, samples, 1)));
        }
    }
    let share = samples / TONES.len();
    for level in [-10.0, -20.0, -35.0] {
        let all: Vec<i16> = TONES.iter().flat_map(|tone| tone.sound(level, share)).collect();
        sounds.push((format!("{} kinds of tone at {level} dBm0", TONES.len()), all));
    }
    for (on, off) in [(60, 60), (100, 100), (250, 150), (1_000, 500)] {
        let keys = samples * 1_000 / RATE / (on + off);
        let digits: String = "123A456B789C*0#D".chars().cycle().take(keys).collect();
        sounds.push((format!("keys, {on} ms on and {off} off"), dialled(&digits, on, off, -9.0, -7.0)));
    }
    for (index, path) in args.music.iter().flat_map(|folder| wavs(folder)).enumerate() {
        let pcm: Vec<i16> = wav(&path)?.into_iter().cycle().take(samples).collect();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let quiet: Vec<f64> = pcm.iter().map(|&s| f64::from(s) * 0.1).collect();
        sounds.push((
            format!("music {index}: {name}"),
            coded(&pcm.iter().map(|&s| f64::from(s)).collect::<Vec<_>>()),
        ));
        sounds.push((format!("music {index}, 20 dB quieter"), coded(&quiet)));
    }
    Ok(sounds)
}

fn measure(args: &Args, name: &str, pcm: &[i16], recogniser: &mut dyn Recogniser) {
    let mut leg = Driven::new(recogniser);
    leg.hear(pcm);
    let (finals, partials) = leg.words();
    let minutes = pcm.len() as f64 / RATE as f64 / 60.0;
    println!("{name:<42} {minutes:>7.1} {:>8} {partials:>8} {finals:>8}", leg.decodes);
    if args.verbose {
        for event in &leg.events {
            println!("    {:?} {:.2} {}", event.kind, event.start, event.text);
        }
    }
}

fn wavs(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<PathBuf> = entries.filter_map(|e| e.ok().map(|e| e.path())).collect();
    found.retain(|path| path.extension().is_some_and(|e| e == "wav"));
    found.sort();
    found
}

fn wav(path: &Path) -> anyhow::Result<Vec<i16>> {
    let bytes = std::fs::read(path)?;
    let at = bytes
        .windows(4)
        .position(|w| w == b"data")
        .ok_or_else(|| anyhow::anyhow!("{}: no WAV", path.display()))?;
    Ok(bytes[at + 8..].chunks_exact(2).map(|b| i16::from_le_bytes([b[0], b[1]])).collect())
}

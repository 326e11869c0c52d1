//! `sidetone transcribe`: files to text, by the same engine as live calls.

use std::fmt::Display;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::output::OutputError;
use super::{SettingsArgs, output};
use crate::audio::{AudioFile, Format as AudioFormat, Limits, PcmSource};
use crate::calls::speech::vocabulary;
use crate::config::Settings;
use crate::files;
use crate::speech::SpeechEngine;
use crate::speech::batch::{self, BatchNews, BatchOptions};
use crate::speech::model::{self, ModelFile};
use crate::speech::scheduler::Class;
use crate::speech::transcript::Transcript;

/// The name that stands for standard input.
const STDIN: &str = "-";

#[derive(Debug, Args)]
pub(super) struct TranscribeArgs {
    /// WAV (PCM, float, G.711, GSM), FLAC, MP3, Opus in Ogg, or, without a header, .ulaw .alaw .gsm .g722 .sln … .sln192; `-` for
    /// standard input. A stereo file has two speakers.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// What files are whose contents and name do not say: an extension, such as `ulaw`.
    #[arg(long, value_name = "EXTENSION", value_parser = extension)]
    from: Option<AudioFormat>,
    /// What to write.
    #[arg(long, short, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Write FILE's transcript beside it, with the format's extension, not to standard output.
    #[arg(long)]
    beside: bool,
    /// Language code, or `auto`; without it speech.language.
    #[arg(long, value_name = "CODE", value_parser = crate::config::language)]
    language: Option<String>,
    /// Model, as in speech.model.
    #[arg(long)]
    model: Option<String>,
    /// No progress bar.
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// One line an utterance.
    #[value(alias = "txt")]
    Text,
    /// Words with times and confidences.
    Json,
    /// SubRip subtitles.
    Srt,
    /// WebVTT subtitles.
    Vtt,
}

impl Format {
    fn render(self, transcript: &Transcript) -> String {
        match self {
            Self::Text => transcript.to_text(),
            Self::Json => transcript.to_json(),
            Self::Srt => transcript.to_srt(),
            Self::Vtt => transcript.to_vtt(),
        }
    }

    const fn extension(self) -> &'static str {
        match self {
            Self::Text => "txt",
            Self::Json => "transcript.json",
            Self::Srt => "srt",
            Self::Vtt => "vtt",
        }
    }
}

pub(super) fn run(args: &TranscribeArgs, settings: &SettingsArgs) -> anyhow::Result<ExitCode> {
    let mut settings = settings.load()?;
    super::init_quiet_log(&settings)?;
    if args.files.len() > 1 && !args.beside && matches!(args.format, Format::Srt | Format::Vtt) {
        output::tell("subtitles of several files in one stream are of no use: add --beside");
        return Ok(ExitCode::from(2));
    }
    if args.beside && args.files.iter().any(|file| file == Path::new(STDIN)) {
        output::tell("standard input has no place to write beside: leave out --beside");
        return Ok(ExitCode::from(2));
    }
    settings.speech.model = args.model.clone().unwrap_or(settings.speech.model);
    settings.speech.language = args.language.clone().unwrap_or(settings.speech.language);
    if let (Some(warning), false) = (find_model(&settings)?.warning(), args.quiet) {
        output::tell(warning);
    }
    let engine = engine(&settings)?;
    if let (Some(warning), false) = (engine.deaf_to(&settings.speech.language), args.quiet) {
        output::tell(warning);
    }
    let mut failed = false;
    for file in &args.files {
        if let Err(error) = one(args, &settings, &engine, file) {
            if error.is::<OutputError>() {
                return Err(error);
            }
            output::tell(format_args!("{}: {}", file.display(), super::in_words(&error)));
            failed = true;
        }
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn one(args: &TranscribeArgs, settings: &Settings, engine: &SpeechEngine, file: &Path) -> anyhow::Result<()> {
    let audio = if file == Path::new(STDIN) {
        AudioFile::new(spooled_stdin()?, args.from, Limits::default())?
    } else {
        AudioFile::open(file, args.from, Limits::default())?
    };
    let bar = if args.quiet { ProgressBar::hidden() } else { progress_bar(file) };
    let progress = &mut |share: f64| bar.set_position((share * 1_000.0) as u64);
    let transcript = transcribe(settings, engine, audio, file.display(), None, progress);
    bar.finish_and_clear();
    let transcript = transcript?;
    if transcript.utterances.is_empty() && !args.quiet {
        output::tell(format_args!("{}: nothing was said", file.display()));
    }
    let text = match args.format {
        Format::Json => OfFile { file: &file.to_string_lossy(), transcript: &transcript }.to_json()?,
        format => format.render(&transcript),
    };
    if args.beside {
        let path = file.with_extension(args.format.extension());
        files::replace(&path, text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))?;
        output::line(path.display())?;
    } else {
        if args.files.len() > 1 && args.format == Format::Text {
            output::line(format_args!("{}:", file.display()))?;
        }
        output::text(&text)?;
    }
    Ok(())
}

/// What files with that extension are.
pub(super) fn extension(name: &str) -> Result<AudioFormat, String> {
    let file = Path::new("audio").with_extension(name.trim_start_matches('.'));
    AudioFormat::of_name(&file)
        .ok_or_else(|| format!("`{name}` is none that is read: see the list of formats above"))
}

/// Standard input in a file without a name: formats are told by going back and forth.
fn spooled_stdin() -> anyhow::Result<File> {
    let folder = std::env::temp_dir();
    let spool = || {
        let mut file = files::nameless(&folder)?;
        io::copy(&mut io::stdin().lock(), &mut file)?;
        Ok::<_, io::Error>(file)
    };
    spool().with_context(|| format!("cannot keep standard input below {} (set TMPDIR)", folder.display()))
}

/// Tells the transcripts of several files apart.
#[derive(Serialize)]
struct OfFile<'a> {
    file: &'a str,
    #[serde(flatten)]
    transcript: &'a Transcript,
}

impl OfFile<'_> {
    fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self).map(|json| json + "\n")
    }
}

fn progress_bar(file: &Path) -> ProgressBar {
    let bar = ProgressBar::new(1_000);
    if let Ok(style) = ProgressStyle::with_template("{msg} {bar:30} {percent:>3} %  {eta} left") {
        bar.set_style(style);
    }
    bar.set_message(file.file_name().unwrap_or_default().to_string_lossy().into_owned());
    bar
}

fn engine(settings: &Settings) -> anyhow::Result<SpeechEngine> {
    Ok(SpeechEngine::start(super::serve::speech_config(settings), find_model(settings)?.load()?)?)
}

fn find_model(settings: &Settings) -> anyhow::Result<ModelFile> {
    model::find(settings)?.context("speech.model is off: name a model with --model")
}

/// The transcript of the recording `audio`, on one channel or two; `name` is what to call it.
fn transcribe(
    settings: &Settings,
    engine: &SpeechEngine,
    mut audio: AudioFile,
    name: impl Display,
    call_id: Option<String>,
    progress: &mut dyn FnMut(f64),
) -> anyhow::Result<Transcript> {
    let words = vocabulary(&settings.speech.vocabulary);
    let prompt = (!words.is_empty()).then_some(words.as_str());
    let options = BatchOptions { language: &settings.speech.language, prompt, class: Class::Job };
    let mut news = |news| {
        if let BatchNews::Read(share) = news {
            progress(share);
        }
    };
    let batch = batch::transcribe(engine, &mut audio, options, &CancellationToken::new(), &mut news)?;
    let flaws = audio.flaws();
    if flaws.cut_off {
        output::tell(format_args!(
            "{name}: the file says that there is more audio than there is (cut off, or still being written?): what there is is used"
        ));
    }
    if flaws.damaged > 0 {
        output::tell(format_args!("{name}: {} damaged pieces were left silent or out", flaws.damaged));
    }
    Ok(Transcript::new(call_id, batch.duration, audio.spec().channels, engine.model(), batch.events))
}

/// Write transcript and subtitles of the recording `wav` beside it; the paths written.
pub(super) fn beside_recording(settings: &Settings, wav: &Path, name: &str) -> anyhow::Result<[PathBuf; 2]> {
    if let Some(warning) = find_model(settings)?.warning() {
        output::tell(warning);
    }
    let engine = engine(settings)?;
    if let Some(warning) = engine.deaf_to(&settings.speech.language) {
        output::tell(warning);
    }
    let audio = AudioFile::open(wav, None, Limits::default())?;
    let transcript = transcribe(settings, &engine, audio, wav.display(), Some(name.to_owned()), &mut |_| {})?;
    let json = wav.with_extension("transcript.json");
    let vtt = wav.with_extension("vtt");
    files::replace(&json, transcript.to_json().as_bytes())
        .with_context(|| format!("cannot write {}", json.display()))?;
    files::replace(&vtt, transcript.to_vtt().as_bytes())
        .with_context(|| format!("cannot write {}", vtt.display()))?;
    Ok([json, vtt])
}

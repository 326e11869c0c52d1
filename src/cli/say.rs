//! `sidetone say`: a text to a file.

use std::io::{Cursor, Read as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;

use super::{SettingsArgs, output};
use crate::audio::convert::{Channels, Conversion, Target, convert};
use crate::audio::wav::header;
use crate::audio::{AudioFile, Limits};
use crate::config::{Settings, Tts};
use crate::speech::synthesis::{Engine, SharedCache, SpeechRequest, SynthesisConfig, Synthesiser};

/// Bytes of standard input; a text of more is refused by tts.max_chars anyway.
const MOST_TEXT: u64 = 1 << 20;

#[derive(Debug, Args)]
pub(super) struct SayArgs {
    /// What to say; `-` for standard input.
    text: String,
    /// The file to write, its kind told by its extension: wav, gsm, ulaw, alaw, g722, sln … sln192, wav16, wav49, opus.
    #[arg(long, short, value_name = "FILE")]
    out: PathBuf,
    /// Samples a second, where the kind has a choice; without it the voice's own. Telephones have 8000.
    #[arg(long, value_name = "HZ")]
    rate: Option<u32>,
    /// Voice, as the engine names it; without it tts.voice.
    #[arg(long)]
    voice: Option<String>,
    /// Language code; without it tts.language.
    #[arg(long, value_name = "CODE")]
    language: Option<String>,
    /// Pace: 1 is the voice's own.
    #[arg(long)]
    speed: Option<f64>,
    /// No line that says what was written.
    #[arg(long, short)]
    quiet: bool,
}

pub(super) fn run(args: &SayArgs, settings: &SettingsArgs) -> anyhow::Result<ExitCode> {
    let settings = settings.load()?;
    super::init_quiet_log(&settings)?;
    let target = Target::of_path(&args.out)?;
    let text = if args.text == "-" { from_stdin()? } else { args.text.clone() };
    // Files of a user's own are no business of the server's folder.
    let config = config(&settings).map(|config| SynthesisConfig { cache_bytes: 0, ..config });
    let config = config.context("tts.engine is off: name one with --set tts.engine=espeak")?;
    let request =
        SpeechRequest { text, voice: args.voice.clone(), language: args.language.clone(), speed: args.speed };
    let spoken = super::runtime()?.block_on(async {
        let synthesiser = speaker(config, &settings)?;
        anyhow::Ok(synthesiser.speak(&request).await?)
    })?;

    let pcm: Vec<u8> = spoken.pcm.iter().flat_map(|sample| sample.to_le_bytes()).collect();
    let wav = [&header(spoken.rate_hz, 1, pcm.len() as u64)[..], &pcm].concat();
    let mut source = AudioFile::new(Cursor::new(wav), None, Limits::default())?;
    let conversion = Conversion { target, rate_hz: args.rate, channels: Channels::Keep };
    let done = convert(&mut source, &args.out, conversion, &mut |_| true)?;
    if !args.quiet {
        output::tell(format_args!("{} ({:.1} s)", args.out.display(), done.seconds));
    }
    Ok(ExitCode::SUCCESS)
}

fn from_stdin() -> anyhow::Result<String> {
    let mut text = String::new();
    let read = std::io::stdin().lock().take(MOST_TEXT).read_to_string(&mut text);
    read.context("cannot read the text from standard input")?;
    Ok(text)
}

/// How to speak, from the settings; `None` if nothing is to.
pub(super) fn config(settings: &Settings) -> Option<SynthesisConfig> {
    let tts = &settings.tts;
    Some(SynthesisConfig {
        engine: engine(tts, &settings.node.data, &settings.riva.url)?,
        voice: tts.voice.clone(),
        language: tts.language.clone(),
        most_chars: tts.max_chars,
        timeout: Duration::from_millis(tts.timeout_ms),
        level_dbov: tts.level_dbov,
        cache: settings.node.data.join("tts"),
        cache_bytes: tts.cache_mib << 20,
        at_once: tts.at_once,
    })
}

fn engine(tts: &Tts, data: &Path, riva: &str) -> Option<Engine> {
    let program = |name: &str| tts.program.clone().unwrap_or_else(|| name.into());
    let url = |default: &str| if tts.url.is_empty() { default.to_owned() } else { tts.url.clone() };
    match tts.engine.as_str() {
        "espeak" => Some(Engine::Espeak { program: program("espeak-ng") }),
        "piper" => {
            let voices = tts.voices_dir.clone().unwrap_or_else(|| data.join("voices"));
            Some(Engine::Piper { program: program("piper"), voices })
        }
        "openai" => Some(Engine::OpenAi {
            url: url("https://api.openai.com/v1"),
            key: tts.api_key.clone(),
            model: tts.model.clone(),
        }),
        "riva" => Some(Engine::Riva { url: riva.to_owned() }),
        "google" => Some(Engine::Google { url: url("https://translate.google.com/translate_tts") }),
        // Anything else was refused with the settings.
        _ => None,
    }
}

/// What speaks so. On a runtime.
pub(super) fn speaker(config: SynthesisConfig, settings: &Settings) -> anyhow::Result<Synthesiser> {
    let is_elsewhere = matches!(config.engine, Engine::Riva { .. });
    let speaker = Synthesiser::new(config)?;
    Ok(match super::riva::voice(settings).transpose()?.filter(|_| is_elsewhere) {
        Some(riva) => speaker.with_remote(riva),
        None => speaker,
    })
}

/// The server's voice, with what other nodes have spoken.
pub(super) fn start(
    settings: &Settings,
    shared: Option<Arc<dyn SharedCache>>,
) -> anyhow::Result<Option<Arc<Synthesiser>>> {
    let voice = config(settings).map(|config| speaker(config, settings)).transpose()?;
    Ok(voice.map(|voice| match shared {
        Some(shared) => Arc::new(voice.with_shared(shared)),
        None => Arc::new(voice),
    }))
}

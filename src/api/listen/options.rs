//! What the query of `/v1/listen` asks for.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use crate::api::live::{Packing, RATES, is_rate};
use crate::api::problem::Problem;
use crate::audio::wav::Encoding;
use crate::config;

/// Channels that Deepgram takes.
const MOST_CHANNELS: u16 = 20;
/// Silence that may end an utterance. Words are not parted by less; by more, a speaker has gone.
const ENDPOINTING_MS: std::ops::RangeInclusive<u64> = 200..=5_000;
/// As Deepgram has it.
const LEAST_UTTERANCE_END_MS: u64 = 1_000;
const MOST_UTTERANCE_END_MS: u64 = 60_000;
/// Of a prompt, Whisper takes 224 tokens; the rest would be cut off from the front.
const MOST_VOCABULARY: usize = 800;

/// Names by which clients ask for one of Deepgram's models; here they mean the one there is.
const FAMILIES: [&str; 18] = [
    "nova",
    "enhanced",
    "base",
    "whisper",
    "general",
    "meeting",
    "phonecall",
    "finance",
    "conversationalai",
    "voicemail",
    "video",
    "medical",
    "drivethru",
    "automotive",
    "atc",
    "custom",
    "default",
    "auto",
];

/// What is done to the words, or with them, that nobody would notice was not done.
const NOT_DONE: [(&str, &str); 12] = [
    ("redact", "nothing is taken out of the words here"),
    ("replace", "words are not replaced here"),
    ("search", "words are not searched for here"),
    ("diarize", "voices within a channel are not told apart here; with `multichannel=true` channels are"),
    (
        "diarize_model",
        "voices within a channel are not told apart here; with `multichannel=true` channels are",
    ),
    ("profanity_filter", "words are given as they are said"),
    ("detect_entities", "entities are not looked for here"),
    ("callback", "results come over this socket alone"),
    ("sentiment", "sentiment is not judged here"),
    ("intents", "intents are not looked for here"),
    ("topics", "topics are not looked for here"),
    ("summarize", "nothing is summed up here"),
];

/// What a client wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenOptions {
    pub(super) packing: Packing,
    /// Interleaved channels in the audio.
    pub(super) channels: u16,
    /// Each of them has results of its own.
    pub(super) multichannel: bool,
    /// A code, or `auto`.
    pub(super) language: String,
    pub(super) language_asked: bool,
    pub(super) interim: bool,
    /// Words as they are written, and not only as they are said.
    pub(super) punctuated: bool,
    /// `None`: as the engine has it.
    pub(super) hangover: Option<Duration>,
    /// Ends of utterances are told.
    pub(super) endpointing: bool,
    pub(super) utterance_end: Option<Duration>,
    pub(super) vad_events: bool,
    pub(super) vocabulary: Option<Arc<str>>,
    pub(super) tags: Vec<String>,
}

impl ListenOptions {
    /// From the query's pairs, in order. `model` is the one there is, `language` that of clients that name none. What is not known is
    /// ignored, as Deepgram does, unless it asks for something that would be missed.
    ///
    /// # Errors
    /// 400, naming the parameter and what to write.
    pub fn of(query: &[(String, String)], model: &str, language: &str) -> Result<Self, Problem> {
        let query = Query(query);
        query.refuse_what_is_not_done()?;
        query.check_model(model)?;
        let channels = query.number("channels", 1..=u64::from(MOST_CHANNELS))?.unwrap_or(1) as u16;
        let packing = query.packing(channels)?;
        let multichannel = query.flag("multichannel")?;
        let asked = query.language()?;
        let interim = query.flag("interim_results")?;
        let (endpointing, hangover) = query.endpointing()?;
        let wanted_ms = query.number("utterance_end_ms", LEAST_UTTERANCE_END_MS..=MOST_UTTERANCE_END_MS)?;
        if wanted_ms.is_some() && !interim {
            return Err(wrong("`utterance_end_ms` needs `interim_results=true`.", "Add it."));
        }
        Ok(Self {
            packing,
            channels,
            multichannel: multichannel && channels > 1,
            language_asked: asked.is_some(),
            language: asked.unwrap_or_else(|| language.to_owned()),
            interim,
            punctuated: query.flag("punctuate")? | query.flag("smart_format")?,
            hangover,
            endpointing,
            utterance_end: wanted_ms.map(Duration::from_millis),
            vad_events: query.flag("vad_events")?,
            vocabulary: query.vocabulary()?,
            tags: query.all("tag").map(str::to_owned).collect(),
        })
    }

    /// Channels that are heard apart.
    pub(super) fn lanes(&self) -> usize {
        if self.multichannel { usize::from(self.channels) } else { 1 }
    }
}

struct Query<'a>(&'a [(String, String)]);

impl<'a> Query<'a> {
    /// The last value of `name` counts; an empty one is none.
    fn get(&self, name: &str) -> Option<&'a str> {
        self.all(name).last()
    }

    fn all(&self, name: &str) -> impl Iterator<Item = &'a str> {
        let named = self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.trim());
        named.filter(|value| !value.is_empty())
    }

    fn flag(&self, name: &str) -> Result<bool, Problem> {
        match self.get(name).map(str::to_ascii_lowercase).as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => Err(wrong(format!("`{name}` is `{}`.", shown(other)), "Use true or false.")),
        }
    }

    fn number(&self, name: &str, range: std::ops::RangeInclusive<u64>) -> Result<Option<u64>, Problem> {
        let Some(text) = self.get(name) else { return Ok(None) };
        match text.parse() {
            Ok(number) if range.contains(&number) => Ok(Some(number)),
            _ => Err(wrong(
                format!("`{name}` is `{}`.", shown(text)),
                format!("Use a whole number from {} to {}.", range.start(), range.end()),
            )),
        }
    }

    fn refuse_what_is_not_done(&self) -> Result<(), Problem> {
        for (name, reason) in NOT_DONE {
            if let Some(value) = self.all(name).find(|value| !value.eq_ignore_ascii_case("false")) {
                return Err(wrong(
                    format!("`{name}={}`: {reason}.", shown(value)),
                    format!("Leave out `{name}`."),
                ));
            }
        }
        Ok(())
    }

    fn check_model(&self, here: &str) -> Result<(), Problem> {
        let Some(asked) = self.get("model") else { return Ok(()) };
        let family = asked.split(['-', '_', ':']).next().unwrap_or_default();
        if asked == here || FAMILIES.contains(&family) {
            return Ok(());
        }
        Err(wrong(
            format!("The model `{}` is not here.", shown(asked)),
            format!(
                "Ask for `{here}`, for one of Deepgram's such as `nova-3`, which means the same, or for none."
            ),
        ))
    }

    fn packing(&self, channels: u16) -> Result<Packing, Problem> {
        let rate = self.number("sample_rate", u64::from(*RATES.start())..=u64::from(*RATES.end()))?;
        let rate = rate.map(|hz| hz as u32);
        if let Some(hz) = rate.filter(|hz| !is_rate(*hz)) {
            return Err(wrong(
                format!("`sample_rate` is {hz}."),
                "Use a multiple of 25, such as 8000, 11025, 16000 or 44100.",
            ));
        }
        let samples = |encoding, rate_hz| Ok(Packing::Samples { encoding, rate_hz });
        match self.get("encoding") {
            None => Ok(Packing::Wav),
            Some("linear16") => {
                let needed =
                    || wrong("`encoding=linear16` needs `sample_rate`.", "Add it, as in sample_rate=16000.");
                samples(Encoding::Pcm16, rate.ok_or_else(needed)?)
            }
            Some("linear32") => {
                let needed =
                    || wrong("`encoding=linear32` needs `sample_rate`.", "Add it, as in sample_rate=16000.");
                samples(Encoding::Pcm32, rate.ok_or_else(needed)?)
            }
            // What telephones have, unless it is said otherwise.
            Some("mulaw") => samples(Encoding::Ulaw, rate.unwrap_or(8_000)),
            Some("alaw") => samples(Encoding::Alaw, rate.unwrap_or(8_000)),
            Some("opus") if channels == 1 || !self.flag("multichannel")? => Ok(Packing::OpusPackets),
            Some("opus") => {
                Err(wrong("The channels of Opus packets are not told apart.", "Leave out `multichannel`."))
            }
            Some(other) => Err(wrong(
                format!("`encoding` is `{}`.", shown(other)),
                "Use linear16, linear32, mulaw, alaw or opus (each message a packet), or send a WAV file and leave it out.",
            )),
        }
    }

    fn language(&self) -> Result<Option<String>, Problem> {
        let Some(asked) = self.get("language") else { return Ok(None) };
        if asked.eq_ignore_ascii_case("multi") {
            return Ok(Some("auto".to_owned()));
        }
        // Whisper knows languages, not where they are spoken: `pt-BR` is `pt`.
        let code = shown(asked.split(['-', '_']).next().unwrap_or_default()).to_ascii_lowercase();
        config::language(&code)
            .map(Some)
            .map_err(|words| wrong(format!("`language`: {words}."), "Correct it, or leave it out."))
    }

    fn endpointing(&self) -> Result<(bool, Option<Duration>), Problem> {
        match self.get("endpointing") {
            None | Some("true") => Ok((true, None)),
            Some("false") => Ok((false, None)),
            Some(text) => {
                let ms: u64 = text.parse().map_err(|_| {
                    wrong(
                        format!("`endpointing` is `{}`.", shown(text)),
                        "Use milliseconds of silence, or false.",
                    )
                })?;
                let ms = ms.clamp(*ENDPOINTING_MS.start(), *ENDPOINTING_MS.end());
                Ok((true, Some(Duration::from_millis(ms))))
            }
        }
    }

    fn vocabulary(&self) -> Result<Option<Arc<str>>, Problem> {
        let keywords = self.all("keywords").filter_map(|word| match word.rsplit_once(':') {
            // A weight. What is to be heard less cannot be said to the model.
            Some((word, weight)) if weight.parse::<f64>().is_ok() => {
                (!weight.starts_with('-')).then_some(word)
            }
            _ => Some(word),
        });
        let mut text = String::new();
        for term in self.all("keyterm").chain(keywords) {
            let separator = if text.is_empty() { "" } else { ", " };
            let _ = write!(text, "{separator}{term}");
        }
        if text.len() > MOST_VOCABULARY {
            return Err(wrong(
                format!("`keyterm` and `keywords` have {} bytes.", text.len()),
                format!("Use {MOST_VOCABULARY} at most: the model takes in no more."),
            ));
        }
        Ok((!text.is_empty()).then(|| text.into()))
    }
}

fn wrong(
    detail: impl Into<std::borrow::Cow<'static, str>>,
    remedy: impl Into<std::borrow::Cow<'static, str>>,
) -> Problem {
    Problem::bad_request(detail, remedy)
}

/// Enough of a value to know it by.
fn shown(value: &str) -> String {
    value.chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(query: &[(&str, &str)]) -> Result<ListenOptions, String> {
        let query: Vec<_> = query.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        ListenOptions::of(&query, "base.en", "en").map_err(|problem| problem.in_words().1)
    }

    #[test]
    fn what_is_left_out_is_as_with_deepgram() {
        let options =
            asked(&[("model", "nova-3"), ("encoding", "mulaw"), ("numerals", "true"), ("new", "1")]).unwrap();
        let expected = ListenOptions {
            packing: Packing::Samples { encoding: Encoding::Ulaw, rate_hz: 8_000 },
            channels: 1,
            multichannel: false,
            language: "en".into(),
            language_asked: false,
            interim: false,
            punctuated: false,
            hangover: None,
            endpointing: true,
            utterance_end: None,
            vad_events: false,
            vocabulary: None,
            tags: Vec::new(),
        };
        assert_eq!(options, expected);
    }

    #[test]
    fn every_parameter_counts() {
        let options = asked(&[
            ("model", "base.en"),
            ("encoding", "linear16"),
            ("sample_rate", "44100"),
            ("channels", "2"),
            ("multichannel", "true"),
            ("language", "pt-BR"),
            ("interim_results", "true"),
            ("smart_format", "true"),
            ("endpointing", "300"),
            ("utterance_end_ms", "1000"),
            ("vad_events", "true"),
            ("keyterm", "customer service"),
            ("keywords", "Asterisk:2"),
            ("keywords", "umm:-5"),
            ("tag", "a"),
            ("tag", "b"),
        ])
        .unwrap();
        assert_eq!(options.packing, Packing::Samples { encoding: Encoding::Pcm16, rate_hz: 44_100 });
        assert_eq!((options.lanes(), options.language.as_str(), options.language_asked), (2, "pt", true));
        assert!(options.interim && options.punctuated && options.vad_events && options.endpointing);
        assert_eq!(options.hangover, Some(Duration::from_millis(300)));
        assert_eq!(options.utterance_end, Some(Duration::from_secs(1)));
        assert_eq!(options.vocabulary.as_deref(), Some("customer service, Asterisk"));
        assert_eq!(options.tags, ["a", "b"]);
    }

    #[test]
    fn pauses_within_words_end_nothing() {
        let after =
            |value| asked(&[("endpointing", value)]).map(|options| (options.endpointing, options.hangover));
        assert_eq!(after("10"), Ok((true, Some(Duration::from_millis(200)))));
        assert_eq!(after("false"), Ok((false, None)));
        assert_eq!(after("true"), Ok((true, None)));
        assert!(after("soon").is_err());
    }

    #[test]
    fn what_cannot_be_had_is_refused_by_name() {
        for (name, value) in [
            ("model", "gpt-5"),
            ("encoding", "flac"),
            ("encoding", "linear16"),
            ("sample_rate", "7999"),
            ("sample_rate", "16001"),
            ("channels", "0"),
            ("channels", "21"),
            ("language", "klingon"),
            ("interim_results", "yes"),
            ("utterance_end_ms", "999"),
            ("utterance_end_ms", "1000"),
            ("redact", "pci"),
            ("diarize", "true"),
            ("callback", "https://example.com"),
            ("keyterm", &"x".repeat(801)),
        ] {
            let words = asked(&[(name, value)]).unwrap_err();
            assert!(words.contains(&format!("`{name}")) || words.contains(&format!("`{value}`")), "{words}");
        }
        assert!(asked(&[("diarize", "false"), ("encoding", "opus")]).is_ok());
        assert!(asked(&[("encoding", "opus"), ("channels", "2"), ("multichannel", "true")]).is_err());
    }
}

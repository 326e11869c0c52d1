//! whisper.cpp behind the [`Recogniser`](super::recogniser::Recogniser) border: one context, one state a worker, one thread a state.
//!
//! The library's networks between our own spectrogram ([`mel`]) and our own choice of tokens ([`decode`]), which cost a fifth of all with
//! the library's. Models that want another spectrogram or other rules are left to the library as a whole.

mod decode;
mod mel;

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use whisper_rs::{
    FullParams, SamplingStrategy, WhisperContext, WhisperContextParameters, WhisperError, WhisperState,
    WhisperTokenId, get_lang_id, get_lang_str, install_logging_hooks,
};

use self::decode::{Token, Vocabulary, greedy};
use self::mel::MelSpectrum;
use super::event::{is_unspaced, primary};
use super::ggml;
use super::language::AUTO;
use super::model::EMBEDDED_NAME;
use super::recogniser::{Hypothesis, HypothesisWord, RecogniseError, Recogniser, Request, SpeechModel};
use super::{RATE, align};

/// Encoder positions a second of audio.
const POSITIONS_PER_SECOND: f64 = 50.0;
const MOST_POSITIONS: usize = 1_500;
/// whisper.cpp refuses less than 0.1 s; a little silence more costs nothing.
const SHORTEST: usize = RATE as usize / 4;
/// Of a prompt, only its end: every token of it costs as much as one that is spoken.
const PROMPT_TOKENS: usize = 48;
/// Of words that a model is surer of than this (mean log probability), it is not asked whether anybody speaks: the answer costs as
/// much as a token, and changes nothing.
const SURE: f32 = -0.3;
/// Nobody speaks more tokens a second; it bounds what a decoder that loops can cost.
const TOKENS_PER_SECOND: f64 = 10.0;
/// whisper.cpp takes in so much audio and decodes nothing of it: it stops where less than 0.1 s is left.
const NOTHING_MS: i32 = 100;
/// Mel bands of all models but the latest of the large ones: what [`WhisperState::set_mel`] takes.
const BANDS: i32 = 80;
/// Decoder layers of the first distilled models, which were never taught stamps: whisper.cpp has rules of their own for them.
const DISTILLED: i32 = 2;

/// A loaded model.
#[derive(Clone)]
pub struct WhisperModel(Arc<Inner>);

struct Inner {
    name: String,
    context: WhisperContext,
    windows: Windows,
    longest: Option<Duration>,
    /// If it is decoded here: its tokens, and its mel filters.
    own: Option<(Vocabulary, Box<[f32]>)>,
}

impl WhisperModel {
    /// Load from memory. The bytes have to have passed [`super::ggml::check`]; they are not needed afterwards.
    pub fn from_bytes(name: &str, bytes: &[u8]) -> Result<Self, String> {
        install_logging_hooks();
        Self::new(name, bytes, WhisperContext::new_from_buffer_with_params(bytes, Self::params()))
    }

    /// Load a file that passed [`super::ggml::check`].
    pub fn from_file(name: &str, path: &Path) -> Result<Self, String> {
        install_logging_hooks();
        let file = File::open(path).map_err(|error| error.to_string())?;
        Self::new(name, file, WhisperContext::new_with_params(path, Self::params()))
    }

    fn params() -> WhisperContextParameters<'static> {
        let mut params = WhisperContextParameters::default();
        // With flash attention the padding of the keys holds what the request before left there.
        params.flash_attn(false);
        params
    }

    fn new(
        name: &str,
        mut file: impl Read,
        context: Result<WhisperContext, WhisperError>,
    ) -> Result<Self, String> {
        let context = context.map_err(|e| e.to_string())?;
        let filters = ggml::mel_filters(&mut file).map_err(|e| e.to_string())?;
        let is_usual = context.model_n_mels() == BANDS && context.model_n_text_layer() != DISTILLED;
        let own = Vocabulary::of(&context).filter(|_| is_usual).map(|vocabulary| (vocabulary, filters));
        let demo = name == EMBEDDED_NAME;
        Ok(Self(Arc::new(Inner {
            name: name.to_owned(),
            context,
            windows: if demo { Windows::SHORT } else { Windows::STOCK },
            longest: demo.then_some(Duration::from_secs(8)),
            own,
        })))
    }
}

impl SpeechModel for WhisperModel {
    fn name(&self) -> &str {
        &self.0.name
    }

    fn is_multilingual(&self) -> bool {
        self.0.context.is_multilingual()
    }

    fn longest_utterance(&self) -> Option<Duration> {
        self.0.longest
    }

    fn carries_text(&self) -> bool {
        self.0.name != EMBEDDED_NAME
    }

    fn is_probed(&self) -> bool {
        true
    }

    fn left_out_of(&self, prompt: &str) -> Option<String> {
        let tokens = self.0.context.tokenize(prompt, prompt.len() + 1).ok()?;
        let kept = &tokens[tokens.len().checked_sub(PROMPT_TOKENS).filter(|cut| *cut > 0)?..];
        let length = |token: &WhisperTokenId| self.0.context.token_to_bytes(*token).map_or(0, <[u8]>::len);
        let cut = prompt.len().saturating_sub(kept.iter().map(length).sum());
        Some(String::from_utf8_lossy(&prompt.as_bytes()[..cut]).trim_end_matches([' ', ',']).to_owned())
    }

    fn recogniser(&self) -> Result<Box<dyn Recogniser>, RecogniseError> {
        let state = self
            .0
            .context
            .create_state()
            .map_err(|e| RecogniseError::NoState { model: self.0.name.clone(), reason: e.to_string() })?;
        Ok(Box::new(WhisperRecogniser::new(self.0.clone(), state)))
    }
}

/// The encoder's windows (`audio_ctx`) that a model is used with, positions.
#[derive(Clone, Copy, Debug)]
struct Windows {
    least: usize,
    step: usize,
    /// Beyond the audio.
    slack: usize,
}

impl Windows {
    /// Stock models were taught 30 s and nothing else: with less than this they fall into loops.
    const STOCK: Self = Self { least: 512, step: 256, slack: 64 };
    /// The model inside was taught windows cut to what is said. Closer ones cost less (with steps of 32 a third less, live), and make other
    /// words of speech that breaks off in the middle of one, twice in a row, so that they are believed.
    const SHORT: Self = Self { least: 256, ..Self::STOCK };

    /// For `seconds` of audio, with slack: a window cut to the audio is what stock models cannot do.
    fn of(self, seconds: f64) -> usize {
        let wanted = (POSITIONS_PER_SECOND * seconds) as usize + self.slack;
        wanted.next_multiple_of(self.step).clamp(self.least, MOST_POSITIONS)
    }
}

struct WhisperRecogniser {
    model: Arc<Inner>,
    state: WhisperState,
    /// By language: setting one leaks a string each time, so it is done once.
    params: HashMap<String, FullParams<'static, 'static>>,
    /// If the model is decoded here.
    own: Option<(Vocabulary, MelSpectrum)>,
    /// What the state looks through.
    window: i32,
}

/// What is to be put into words.
struct Piece<'a> {
    /// 0.25 s at least.
    audio: &'a [f32],
    /// Encoder positions.
    window: i32,
    language: &'a str,
    prompt: &'a [WhisperTokenId],
    /// Tokens, about.
    most: usize,
}

impl Piece<'_> {
    fn seconds(&self) -> f64 {
        self.audio.len() as f64 / f64::from(RATE)
    }
}

impl Recogniser for WhisperRecogniser {
    fn recognise(&mut self, audio: &[f32], request: &Request) -> Result<Hypothesis, RecogniseError> {
        let seconds = audio.len() as f64 / f64::from(RATE);
        let window = self.model.windows.of(seconds) as i32;
        let mut padded = Vec::new();
        let enough = if audio.len() < SHORTEST {
            padded.extend_from_slice(audio);
            padded.resize(SHORTEST, 0.0);
            &padded
        } else {
            audio
        };
        let language = match primary(&request.language) {
            _ if !self.model.context.is_multilingual() => "en",
            AUTO => self.language_of(enough, window)?,
            known => known,
        };
        let prompt = self.prompt_tokens(request);
        let most = (16.0 + TOKENS_PER_SECOND * seconds) as usize;
        let piece = Piece { audio: enough, window, language, prompt: &prompt, most };
        let tokens = match self.by_own_rules(&piece)? {
            Some(tokens) => tokens,
            None => self.by_library(&piece)?,
        };
        let mut hypothesis = self.hypothesis(language, &tokens);
        if !request.partial && !hypothesis.words.is_empty() && hypothesis.avg_logprob < SURE {
            hypothesis.no_speech = self.no_speech();
        }
        align::place(&mut hypothesis.words, audio);
        Ok(hypothesis)
    }
}

impl WhisperRecogniser {
    fn new(model: Arc<Inner>, state: WhisperState) -> Self {
        let own = model.own.as_ref().map(|(vocabulary, filters)| (*vocabulary, MelSpectrum::new(filters)));
        Self { model, state, params: HashMap::new(), own, window: 0 }
    }

    /// `None` if the model is not decoded here, or there is more audio than the window takes.
    fn by_own_rules(&mut self, piece: &Piece<'_>) -> Result<Option<Vec<Token>>, RecogniseError> {
        // A position is two frames.
        let frames = 2 * piece.window as usize;
        if self.own.is_none() || MelSpectrum::reach(piece.audio.len()) > frames {
            return Ok(None);
        }
        let start = self.start(piece.language, piece.prompt)?;
        if self.window != piece.window {
            // A state's window is set by the library's own way alone, and that wants audio.
            self.take_in(&[0.0; SHORTEST], piece.window)?;
        }
        let Some((vocabulary, mel)) = &mut self.own else { return Ok(None) };
        let whole = MelSpectrum::whole(piece.audio.len());
        let encoded = self.state.set_mel(mel.of(piece.audio, frames)).and_then(|()| self.state.encode(0, 1));
        let said = encoded.and_then(|()| greedy(&mut self.state, vocabulary, &start, whole, piece.most));
        said.map(Some).map_err(|error| self.failed(piece.seconds(), &error))
    }

    /// Before the first word: what was said before, then what is to be done.
    fn start(
        &mut self,
        language: &str,
        prompt: &[WhisperTokenId],
    ) -> Result<Vec<WhisperTokenId>, RecogniseError> {
        // Whether there is such a language.
        self.params(language)?;
        let context = &self.model.context;
        let mut tokens = Vec::with_capacity(prompt.len() + 4);
        if !prompt.is_empty() {
            tokens.push(context.token_prev());
            tokens.extend_from_slice(prompt);
        }
        tokens.push(context.token_sot());
        if let Some(language) = get_lang_id(language).filter(|_| context.is_multilingual()) {
            tokens.extend([context.token_lang(language), context.token_transcribe()]);
        }
        Ok(tokens)
    }

    fn by_library(&mut self, piece: &Piece<'_>) -> Result<Vec<Token>, RecogniseError> {
        let mut params = self.params(piece.language)?;
        params.set_audio_ctx(piece.window);
        params.set_max_tokens(piece.most as i32);
        params.set_tokens(piece.prompt);
        self.full(params, piece.audio)?;
        self.window = piece.window;
        let mut tokens = Vec::new();
        for segment in self.state.as_iter() {
            for token in (0..segment.n_tokens()).filter_map(|n| segment.get_token(n)) {
                let data = token.token_data();
                tokens.push(Token { id: data.id, plog: data.plog });
            }
        }
        Ok(tokens)
    }

    /// Look at `audio` through `window`, and say nothing of it.
    fn take_in(&mut self, audio: &[f32], window: i32) -> Result<(), RecogniseError> {
        let mut params = self.params("en")?;
        params.set_audio_ctx(window);
        params.set_duration_ms(NOTHING_MS);
        self.full(params, audio)?;
        self.window = window;
        Ok(())
    }

    fn full(&mut self, params: FullParams<'_, '_>, audio: &[f32]) -> Result<(), RecogniseError> {
        // Of a call that failed nobody knows what it has set.
        self.window = 0;
        let seconds = audio.len() as f64 / f64::from(RATE);
        self.state.full(params, audio).map_err(|error| self.failed(seconds, &error))
    }

    fn failed(&self, seconds: f64, error: &WhisperError) -> RecogniseError {
        RecogniseError::Failed { model: self.model.name.clone(), seconds, reason: error.to_string() }
    }

    /// The language spoken in `audio`, found in a window of its own. The library's `auto` looks through the window of whatever the
    /// state recognised before, so that the answer would depend on other people's audio.
    fn language_of(&mut self, audio: &[f32], window: i32) -> Result<&'static str, RecogniseError> {
        self.take_in(audio, window)?;
        let seconds = audio.len() as f64 / f64::from(RATE);
        let found = self.state.lang_detect(0, 1).map_err(|error| self.failed(seconds, &error))?;
        Ok(get_lang_str(found.0).unwrap_or("en"))
    }

    fn prompt_tokens(&self, request: &Request) -> Vec<WhisperTokenId> {
        let text = request.prompt.as_deref().unwrap_or_default();
        // A token is at least a byte, and the tokeniser needs room for all of them.
        let mut tokens = self.model.context.tokenize(text, text.len() + 1).unwrap_or_default();
        tokens.drain(..tokens.len().saturating_sub(PROMPT_TOKENS));
        tokens
    }

    /// Probability of the token for "nobody speaks" as the first of all, of the audio just encoded. The library's own value comes
    /// from the wrong place and is always next to nothing (whisper.cpp 3945). `None` where it cannot be had.
    fn no_speech(&mut self) -> Option<f32> {
        let (start, nobody) = (self.model.context.token_sot(), self.model.context.token_nosp());
        self.state.decode(&[start], 0, 1).ok()?;
        let logits = self.state.get_logits().ok()?;
        let most = logits.iter().copied().fold(f32::MIN, f32::max);
        let all: f32 = logits.iter().map(|logit| (logit - most).exp()).sum();
        let nobody = logits.get(usize::try_from(nobody).ok()?)?;
        Some((nobody - most).exp() / all).filter(|p| p.is_finite())
    }

    fn params(&mut self, language: &str) -> Result<FullParams<'static, 'static>, RecogniseError> {
        if let Some(params) = self.params.get(language) {
            return Ok(params.clone());
        }
        // The library looks names up in C strings.
        let known = Some(language).filter(|code| !code.contains('\0')).and_then(get_lang_id);
        let known = known.and_then(get_lang_str).unwrap_or_default();
        if known.is_empty() {
            return Err(RecogniseError::UnknownLanguage {
                model: self.model.name.clone(),
                language: language.to_owned(),
            });
        }
        let mut params = FullParams::new(SamplingStrategy::Greedy { best_of: 1 });
        params.set_language(Some(known));
        params.set_n_threads(1);
        params.set_temperature_inc(0.0);
        // Text of the request before would come back as context, another caller's for all it knows.
        params.set_no_context(true);
        params.set_no_timestamps(false);
        params.set_single_segment(true);
        params.set_print_progress(false);
        params.set_print_realtime(false);
        params.set_print_timestamps(false);
        params.set_print_special(false);
        self.params.insert(known.to_owned(), params.clone());
        Ok(params)
    }

    /// Without word times.
    fn hypothesis(&self, language: &str, tokens: &[Token]) -> Hypothesis {
        let eot = self.model.context.token_eot();
        let mut words = WordBuilder { words: Vec::new(), bytes: Vec::new(), plogs: Vec::new() };
        let unspaced = is_unspaced(language);
        let (mut sum, mut count) = (0.0, 0_u32);
        for token in tokens.iter().filter(|token| token.id < eot) {
            let plog = finite(token.plog);
            sum += plog;
            count += 1;
            let Ok(bytes) = self.model.context.token_to_bytes(token.id) else { continue };
            let whole = std::str::from_utf8(&words.bytes).is_ok();
            if bytes.first() == Some(&b' ') || (unspaced && whole) {
                words.finish();
            }
            words.push(bytes, plog);
        }
        words.finish();
        Hypothesis {
            words: words.words,
            avg_logprob: if count == 0 { 0.0 } else { sum / count as f32 },
            no_speech: None,
            language: language.to_owned(),
        }
    }
}

/// Weights that make no sense give probabilities that are no numbers; such a token is as unlikely as any.
fn finite(plog: f32) -> f32 {
    const NEVER: f32 = -100.0;
    if plog.is_finite() { plog.max(NEVER) } else { NEVER }
}

struct WordBuilder {
    words: Vec<HypothesisWord>,
    bytes: Vec<u8>,
    plogs: Vec<f32>,
}

impl WordBuilder {
    fn push(&mut self, bytes: &[u8], plog: f32) {
        self.bytes.extend_from_slice(bytes);
        self.plogs.push(plog);
    }

    fn finish(&mut self) {
        let text = String::from_utf8_lossy(&self.bytes).trim().to_owned();
        let plog = self.plogs.iter().sum::<f32>() / self.plogs.len().max(1) as f32;
        self.bytes.clear();
        self.plogs.clear();
        if text.is_empty() {
            return;
        }
        self.words.push(HypothesisWord { text, start: 0.0, end: 0.0, p: plog.exp().clamp(0.0, 1.0) });
    }
}

#[cfg(test)]
mod tests;

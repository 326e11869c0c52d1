//! The next token, again and again: greedy decoding with OpenAI's rules of what may follow what (openai/whisper, `decoding.py`), as
//! whisper.cpp has them, to the token. Without its price: of some 50,000 logits most are so unlikely that nothing
//! has to be computed for them.

use std::ops::Range;

use whisper_rs::{WhisperContext, WhisperError, WhisperState, WhisperTokenId};

/// What is so much less likely than the likeliest (a natural logarithm) adds nothing to a sum that an `f32` could show: 50,000 times
/// e^-25 is 7e-7.
const NEGLIGIBLE: f32 = 25.0;
/// Speech begins within a second of the start, in encoder positions.
const LATEST_START: usize = 50;
/// Frames of 10 ms that are not worth another token: there ends what a stamp this close to the end has been given to.
const REST: usize = 10;
/// Compared at a time.
const LANES: usize = 16;

/// A token that was said, and its log probability.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Token {
    pub id: WhisperTokenId,
    pub plog: f32,
}

/// Where a model's tokens lie: text, the end, special ones, then a stamp for every encoder position.
#[derive(Clone, Copy, Debug)]
pub(super) struct Vocabulary {
    blank: usize,
    end: usize,
    stamps: usize,
    size: usize,
    /// Tokens of one answer.
    most: usize,
}

impl Vocabulary {
    /// `None` if the model has no token for a space, which all have that passed [`crate::speech::ggml::check`].
    pub fn of(context: &WhisperContext) -> Option<Self> {
        let blank = context.tokenize(" ", 2).ok()?;
        let place = |id: WhisperTokenId| usize::try_from(id).ok();
        let found = Self {
            blank: place(*blank.first()?)?,
            end: place(context.token_eot())?,
            stamps: place(context.token_beg())?,
            size: place(context.n_vocab())?,
            most: (place(context.n_text_ctx())? / 2).checked_sub(4)?,
        };
        (found.blank < found.end && found.end < found.stamps && found.stamps <= found.size).then_some(found)
    }

    /// The likeliest of what may follow `said`, whose newest stamp is `reached`. One of the stamps if these, taken together, are likelier than any text.
    fn next(&self, logits: &[f32], said: &[Token], reached: Option<usize>) -> Token {
        let is_stamp = |token: &Token| token.id as usize >= self.stamps;
        let after_stamp = said.last().is_some_and(is_stamp);
        let after_pair = after_stamp && said.len().checked_sub(2).is_none_or(|at| is_stamp(&said[at]));
        let text = match said.is_empty() {
            // Neither nothing at all nor a space.
            true => [0..self.blank, self.blank + 1..self.end],
            // Stamps come in pairs, unless the end follows.
            false if after_stamp && !after_pair => [self.end..self.end + 1, 0..0],
            false => [0..self.end + 1, 0..0],
        };
        let stamps = match said.is_empty() {
            _ if after_pair => 0..0,
            true => self.stamps..self.size.min(self.stamps + LATEST_START + 1),
            // Time does not go back.
            false => (self.stamps + reached.unwrap_or(0)).min(self.size)..self.size,
        };
        let [first, second] = text;
        let words = likeliest(logits, &first).max_by(likeliest(logits, &second));
        let times = likeliest(logits, &stamps);
        let best = words.max_by(times);
        let Some(most) = best.logit() else {
            // Not one of them is a number: there is nothing to say.
            return Token { id: self.end as WhisperTokenId, plog: f32::NEG_INFINITY };
        };
        let of_times = sum(logits, &stamps, most);
        let all = of_times + sum(logits, &first, most) + sum(logits, &second, most);
        let likelier = words.logit().is_none_or(|logit| most + of_times.ln() > logit);
        let chosen = if likelier { times } else { words };
        let logit = chosen.logit().unwrap_or(most);
        Token { id: chosen.at as WhisperTokenId, plog: logit - most - all.ln() }
    }
}

/// A logit and its place.
#[derive(Clone, Copy)]
struct Likely {
    at: usize,
    logit: f32,
}

impl Likely {
    fn logit(self) -> Option<f32> {
        (self.logit > f32::NEG_INFINITY).then_some(self.logit)
    }

    fn max_by(self, other: Self) -> Self {
        if other.logit > self.logit { other } else { self }
    }
}

/// The first of the greatest in `range`; what is no number is less than any.
fn likeliest(logits: &[f32], range: &Range<usize>) -> Likely {
    let part = &logits[range.clone()];
    let (lanes, rest) = part.as_chunks::<LANES>();
    let mut most = [f32::NEG_INFINITY; LANES];
    for lane in lanes {
        for (most, &logit) in most.iter_mut().zip(lane) {
            *most = if logit > *most { logit } else { *most };
        }
    }
    let logit = most
        .iter()
        .chain(rest)
        .fold(f32::NEG_INFINITY, |most, &logit| if logit > most { logit } else { most });
    let at = part.iter().position(|&other| other == logit).unwrap_or(0);
    Likely { at: range.start + at, logit }
}

/// Of the probabilities in `range`, as multiples of that of `most`.
fn sum(logits: &[f32], range: &Range<usize>, most: f32) -> f32 {
    let near = logits[range.clone()].iter().filter(|&&logit| logit > most - NEGLIGIBLE);
    near.map(|logit| (logit - most).exp()).sum()
}

/// What `state`, which has encoded `frames` of 10 ms of audio, says after `prompt`: `most` tokens or a few more, text, stamps and the end.
///
/// # Errors
/// The library's.
pub(super) fn greedy(
    state: &mut WhisperState,
    vocabulary: &Vocabulary,
    prompt: &[WhisperTokenId],
    frames: usize,
    most: usize,
) -> Result<Vec<Token>, WhisperError> {
    let mut said: Vec<Token> = Vec::new();
    // The library gives the logits of a single token only.
    let Some((last, before)) = prompt.split_last() else { return Ok(said) };
    if !before.is_empty() {
        state.decode(before, 0, 1)?;
    }
    state.decode(&[*last], before.len(), 1)?;
    let mut reached = None;
    loop {
        let token = vocabulary.next(state.get_logits()?, &said, reached);
        said.push(token);
        let at = token.id as usize;
        if at > vocabulary.stamps {
            reached = Some(at - vocabulary.stamps);
        }
        // A position is two frames.
        let is_told = reached.is_some_and(|position| 2 * position + REST >= frames);
        if at == vocabulary.end || is_told || said.len() > most || said.len() >= vocabulary.most {
            return Ok(said);
        }
        state.decode(&[token.id], prompt.len() + said.len() - 1, 1)?;
    }
}

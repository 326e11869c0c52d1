//! What a session makes of hypotheses: partials and finals, words in their places.

use super::{Asked, Closed, EDGE, Session};
use crate::speech::RATE;
use crate::speech::agreement::Revision;
use crate::speech::event::{TranscriptEvent, TranscriptKind, Word, join_words, to_millis};
use crate::speech::recogniser::{Evidence, Hypothesis, RecogniseError};

impl Session {
    /// `hypothesis` covers the utterance up to the end of what was asked about; words of it that end at `certain` or behind it are not agreed
    /// on yet.
    pub(super) fn publish_partial(
        &mut self,
        index: usize,
        asked: &Asked,
        certain: u64,
        hypothesis: &Hypothesis,
    ) {
        let end = asked.end;
        // Numbers go up in the order in which utterances were spoken.
        let before_unnumbered = self.pending.iter().take(index).any(|p| p.number.is_none());
        let (offset, pending) = (self.offset, &mut self.pending[index]);
        let seconds = (end - pending.audio_start) as f64 / f64::from(RATE);
        let speech = self.segmenter.speech().filter(|_| pending.closed.is_none());
        let voiced = self.segmenter.voiced();
        let evidence =
            Evidence { seconds, voiced: voiced.as_secs_f64(), unclear: self.segmenter.is_unclear() };
        let (Some((start, speech_end)), None) = (speech, hypothesis.doubt(&evidence)) else { return };
        if !hypothesis.words.is_empty() {
            self.language.partial(&hypothesis.language, asked.detects);
        }
        if end <= pending.heard_end || before_unnumbered {
            return;
        }
        pending.heard_end = end;
        let mut words = placed(hypothesis, pending.audio_start, (start, speech_end.min(end)), offset);
        self.lost.doubt(&mut words);
        let Some(revision) = pending.agreement.partial(words, seconds_at(certain, offset)) else { return };
        pending.language.clone_from(&hypothesis.language);
        self.tally.partials += 1;
        self.publish(
            index,
            TranscriptKind::Partial,
            revision,
            (start, speech_end.min(end)),
            &hypothesis.language,
        );
    }

    /// Finals leave in the order of their utterances, whatever the order in which workers are done.
    pub(super) fn publish_finals(&mut self) {
        while let Some(outcome) =
            self.pending.front_mut().and_then(|p| p.closed.as_mut()).and_then(|closed| closed.outcome.take())
        {
            self.publish_final(outcome);
            self.pending.pop_front();
        }
    }

    fn publish_final(&mut self, outcome: Result<Hypothesis, RecogniseError>) {
        let Some(pending) = self.pending.front_mut() else { return };
        let Some(closed) = &pending.closed else { return };
        let span = (closed.utterance.speech_start, closed.utterance.speech_end);
        let evidence = Evidence {
            seconds: closed.utterance.audio.len() as f64 / f64::from(RATE),
            voiced: closed.utterance.voiced.as_secs_f64(),
            unclear: closed.utterance.unclear,
        };
        let (words, language) = match outcome {
            Ok(hypothesis) => {
                let doubt = hypothesis.doubt(&evidence);
                let is_other = !hypothesis.words.is_empty()
                    && self.language.last_word(&hypothesis.language, hypothesis.avg_logprob, doubt.is_none());
                if let Some(carry) = &mut self.carry {
                    match doubt {
                        None if !is_other => carry.take(&hypothesis, seconds_at(span.1, self.offset)),
                        _ => carry.forget(),
                    }
                }
                let words = match doubt {
                    None => {
                        let mut words = placed(&hypothesis, pending.audio_start, span, self.offset);
                        self.lost.doubt(&mut words);
                        words
                    }
                    Some(reason) => {
                        tracing::debug!(
                            leg = self.leg.name(),
                            reason = reason.name(),
                            start = seconds_at(span.0, self.offset),
                            logprob = hypothesis.avg_logprob,
                            "words are not believed"
                        );
                        self.suppressed.add(reason);
                        Vec::new()
                    }
                };
                (words, hypothesis.language)
            }
            Err(_) => {
                self.tally.failed += 1;
                if self.caught_up {
                    self.owe_front();
                    return;
                }
                (Vec::new(), self.language.of_partials().to_owned())
            }
        };
        let agreement = std::mem::take(&mut pending.agreement);
        // Nothing was ever said about it, so that nobody waits for its final.
        if words.is_empty() && !agreement.has_revisions() {
            return;
        }
        self.tally.finals += 1;
        self.publish(0, TranscriptKind::Final, agreement.finish(words), span, &language);
    }

    pub(super) fn publish_as_shown(&mut self) {
        let Some(pending) = self.pending.front_mut().filter(|p| p.agreement.has_revisions()) else { return };
        let Some(Closed { utterance, .. }) = &pending.closed else { return };
        let span = (utterance.speech_start, utterance.speech_end);
        let (agreement, language) =
            (std::mem::take(&mut pending.agreement), std::mem::take(&mut pending.language));
        self.tally.finals += 1;
        self.publish(0, TranscriptKind::Final, agreement.finish_as_shown(), span, &language);
    }

    fn publish(
        &mut self,
        index: usize,
        kind: TranscriptKind,
        revision: Revision,
        span: (u64, u64),
        language: &str,
    ) {
        let number = *self.pending[index].number.get_or_insert_with(|| {
            self.next_utterance += 1;
            self.next_utterance - 1
        });
        // Words may lie a little outside of what the detector saw.
        let first = revision.words.first().map_or(f64::MAX, |w| w.start);
        let last = revision.words.last().map_or(0.0, |w| w.end);
        let start = seconds_at(span.0, self.offset).min(first).max(0.0);
        let end = seconds_at(span.1, self.offset).max(last).max(start);
        self.events.push(TranscriptEvent {
            kind,
            leg: self.leg,
            utterance: number,
            revision: revision.number,
            start: to_millis(start),
            end: to_millis(end),
            text: join_words(&revision.words, language),
            language: language.to_owned(),
            words: revision.words,
        });
    }
}

pub(in crate::speech) fn seconds_at(position: u64, offset: f64) -> f64 {
    offset + position as f64 / f64::from(RATE)
}

/// The words of a hypothesis on the recording's clock, within the speech that was seen.
pub(in crate::speech) fn placed(
    hypothesis: &Hypothesis,
    audio_start: u64,
    speech: (u64, u64),
    offset: f64,
) -> Vec<Word> {
    let base = seconds_at(audio_start, offset);
    let from = (seconds_at(speech.0, offset) - EDGE).max(0.0);
    let to = (seconds_at(speech.1, offset) + EDGE).max(from);
    let words = hypothesis.words.iter().map(|word| Word {
        text: word.text.clone(),
        start: to_millis((base + word.start).clamp(from, to)),
        end: to_millis((base + word.end).clamp(from, to)),
        confidence: to_millis(f64::from(word.p)),
        stable: false,
    });
    words.collect()
}

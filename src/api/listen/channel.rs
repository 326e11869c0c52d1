//! From an utterance's revisions to results that are final piece by piece. Sans-IO.
//!
//! Deepgram has two ends: `is_final` says that these words stand and that the next results begin behind them, `speech_final`
//! that the speaker is done. Words stand when the recogniser has agreed on them ([`crate::speech::agreement`]), so that a long
//! utterance is given out in pieces, which put together are its final to the letter.

use super::options::ListenOptions;
use super::shape::{ChannelIndex, Reply, Results};
use crate::api::live::{confidence, plain};
use crate::speech::engine::Progress;
use crate::speech::event::{TranscriptEvent, TranscriptKind, Word, is_unspaced, to_millis};

/// A piece of an utterance that stands is given out once it is this long, seconds: Deepgram does so after three to five.
const PIECE: f64 = 3.0;

/// One channel's results.
#[derive(Debug)]
pub(super) struct Channel {
    index: ChannelIndex,
    interim: bool,
    endpointing: bool,
    punctuated: bool,
    vad_events: bool,
    /// Seconds.
    utterance_end: Option<f64>,
    /// The utterance that the rest is about, and whether its final is still to come.
    utterance: u64,
    open: bool,
    /// Words of it that were given out as final.
    given: usize,
    /// Where its next piece begins.
    from: f64,
    /// Where the utterance before it ended.
    ended: f64,
    /// The last word that was given out as final, and whether the end behind it has been told.
    last_word: Option<(f64, bool)>,
    speaking: bool,
    /// Where speech was last said to start.
    announced: f64,
    /// What came since [`Channel::begin_finalize`], without the last one of it, which is held.
    finalizing: Option<Option<Results>>,
}

impl Channel {
    /// Number `n` of a stream with these options.
    pub(super) fn new(n: usize, options: &ListenOptions) -> Self {
        Self {
            index: [n, options.lanes()],
            interim: options.interim,
            endpointing: options.endpointing,
            punctuated: options.punctuated,
            vad_events: options.vad_events,
            utterance_end: options.utterance_end.map(|gap| gap.as_secs_f64()),
            utterance: 0,
            open: false,
            given: 0,
            from: 0.0,
            ended: 0.0,
            last_word: None,
            speaking: false,
            announced: -1.0,
            finalizing: None,
        }
    }

    /// A revision of an utterance.
    pub(super) fn said(&mut self, event: &TranscriptEvent, replies: &mut Vec<Reply>) {
        if event.utterance != self.utterance {
            if self.open {
                // Its words follow once the utterance before has its final: results are in the order of speech.
                return;
            }
            (self.utterance, self.given, self.from) = (event.utterance, 0, event.start);
            self.open = true;
            // Audio may come so fast that an utterance is over before it was seen to begin.
            if self.announced < self.ended {
                self.announce(event.start, replies);
            }
        }
        match event.kind {
            TranscriptKind::Partial => self.partial(event, replies),
            TranscriptKind::Final => self.conclude(event, replies),
        }
    }

    fn partial(&mut self, event: &TranscriptEvent, replies: &mut Vec<Reply>) {
        let stable = event.words.iter().take_while(|word| word.stable).count();
        if let [first, .., last] = event.words.get(self.given..stable).unwrap_or_default()
            && last.end - first.start >= PIECE
        {
            let end = last.end;
            let piece = self.results(event, self.given..stable, end);
            self.give(Results { is_final: true, ..piece }, replies);
            (self.given, self.from) = (stable, end);
        }
        if self.interim {
            let rest = self.results(event, self.given..event.words.len(), event.end);
            replies.push(Reply::Results(rest));
        }
    }

    fn conclude(&mut self, event: &TranscriptEvent, replies: &mut Vec<Reply>) {
        let rest = self.results(event, self.given..event.words.len(), event.end);
        (self.open, self.ended) = (false, event.end);
        // Nothing was ever shown of it.
        if event.words.is_empty() && !self.interim {
            return;
        }
        self.give(Results { is_final: true, speech_final: self.endpointing, ..rest }, replies);
    }

    /// Give out what is final.
    fn give(&mut self, results: Results, replies: &mut Vec<Reply>) {
        if let Some(last) = results.words.last() {
            self.last_word = Some((last.end, false));
        }
        match &mut self.finalizing {
            None => replies.push(Reply::Results(results)),
            Some(held) => replies.extend(held.replace(results).map(Reply::Results)),
        }
    }

    fn results(&self, event: &TranscriptEvent, which: std::ops::Range<usize>, end: f64) -> Results {
        let words = event.words.get(which).unwrap_or_default().to_vec();
        Results {
            channel: self.index,
            start: to_millis(self.from),
            end: end.max(self.from),
            is_final: false,
            speech_final: false,
            from_finalize: false,
            transcript: self.text(&words, &event.language),
            confidence: confidence(&words),
            words,
        }
    }

    fn text(&self, words: &[Word], language: &str) -> String {
        let separator = if is_unspaced(language) { "" } else { " " };
        let text = |word: &Word| if self.punctuated { word.text.clone() } else { plain(&word.text) };
        words.iter().map(text).collect::<Vec<_>>().join(separator)
    }

    /// The engine has come so far.
    pub(super) fn come(&mut self, progress: &Progress, replies: &mut Vec<Reply>) {
        let began = progress.speaking.filter(|_| !self.speaking);
        self.speaking = progress.speaking.is_some();
        if let Some(start) = began {
            self.announce(start, replies);
        }
        if let (Some(gap), Some((end, told))) = (self.utterance_end, &mut self.last_word)
            && !*told
            && progress.settled - *end >= gap
        {
            *told = true;
            replies.push(Reply::UtteranceEnd { channel: self.index, last_word_end: *end });
        }
    }

    fn announce(&mut self, start: f64, replies: &mut Vec<Reply>) {
        self.announced = start;
        if self.vad_events {
            replies.push(Reply::SpeechStarted { channel: self.index, timestamp: to_millis(start) });
        }
    }

    /// The client wants the finals of all that it sent.
    pub(super) fn begin_finalize(&mut self) {
        self.finalizing.get_or_insert(None);
    }

    /// They are all there: the last one says so, or one without words, so that the client knows in any case. `now`: seconds of audio
    /// that came.
    pub(super) fn end_finalize(&mut self, now: f64) -> Option<Reply> {
        let held = self.finalizing.take()?;
        let none = || Results {
            channel: self.index,
            start: to_millis(now),
            end: now,
            is_final: true,
            speech_final: false,
            from_finalize: false,
            transcript: String::new(),
            confidence: 0.0,
            words: Vec::new(),
        };
        Some(Reply::Results(Results { from_finalize: true, ..held.unwrap_or_else(none) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::leg::Leg;

    fn channel(query: &[(&str, &str)]) -> Channel {
        let query: Vec<_> = query.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Channel::new(0, &ListenOptions::of(&query, "m", "en").unwrap())
    }

    /// An utterance whose words are a second long each; those in brackets stand.
    fn event(kind: TranscriptKind, utterance: u64, start: f64, text: &str) -> TranscriptEvent {
        let word = |(n, text): (usize, &str)| Word {
            text: text.trim_matches(['[', ']']).into(),
            start: start + n as f64,
            end: start + n as f64 + 1.0,
            confidence: 0.5,
            stable: kind == TranscriptKind::Final || text.starts_with('['),
        };
        let words: Vec<Word> = text.split_whitespace().enumerate().map(word).collect();
        TranscriptEvent {
            kind,
            leg: Leg::Caller,
            utterance,
            revision: 1,
            start,
            end: words.last().map_or(start, |word| word.end),
            text: String::new(),
            language: "en".into(),
            words,
        }
    }

    fn shown(replies: &[Reply]) -> Vec<String> {
        let show = |reply: &Reply| match reply {
            Reply::Results(results) => {
                let marks =
                    [(results.is_final, "F"), (results.speech_final, "S"), (results.from_finalize, "Z")];
                let marks: String = marks.iter().filter(|(set, _)| *set).map(|(_, mark)| *mark).collect();
                format!("{marks}{}-{} {}", results.start, results.end, results.transcript)
            }
            Reply::SpeechStarted { timestamp, .. } => format!("started {timestamp}"),
            Reply::UtteranceEnd { last_word_end, .. } => format!("end {last_word_end}"),
        };
        replies.iter().map(show).collect()
    }

    fn said(channel: &mut Channel, events: &[TranscriptEvent]) -> Vec<String> {
        let mut replies = Vec::new();
        events.iter().for_each(|event| channel.said(event, &mut replies));
        shown(&replies)
    }

    use TranscriptKind::{Final, Partial};

    #[test]
    fn pieces_that_stand_put_together_are_the_final() {
        let mut channel = channel(&[("interim_results", "true")]);
        let events = [
            event(Partial, 1, 2.0, "One, two"),
            event(Partial, 1, 2.0, "[One,] [two] [three] four five"),
            event(Partial, 1, 2.0, "[One,] [two] [three] [four] for"),
            event(Final, 1, 2.0, "One, two three four. Five"),
            event(Final, 2, 9.0, "Six"),
        ];
        assert_eq!(
            said(&mut channel, &events),
            [
                "2-4 one two",
                "F2-5 one two three",
                "5-7 four five",
                "5-7 four for",
                "FS5-7 four five",
                "FS9-10 six"
            ]
        );
    }

    #[test]
    fn nothing_of_an_utterance_is_told_before_the_final_of_the_one_before() {
        let mut channel = channel(&[("interim_results", "true")]);
        let events = [
            event(Partial, 1, 0.0, "[one] [two] [three] four"),
            event(Partial, 2, 9.0, "[five] [six] [seven]"),
            event(Final, 1, 0.0, "one two three four"),
            event(Final, 2, 9.0, "five six seven"),
        ];
        assert_eq!(
            said(&mut channel, &events),
            ["F0-3 one two three", "3-4 four", "FS3-4 four", "FS9-12 five six seven"]
        );
    }

    #[test]
    fn without_interim_results_only_what_stands_is_told_and_without_endpointing_no_end() {
        let mut channel = channel(&[("endpointing", "false"), ("punctuate", "true")]);
        let events = [
            event(Partial, 1, 0.0, "[One,] [two] [three]"),
            event(Final, 1, 0.0, "One, two three Four."),
            event(Partial, 2, 9.0, "no"),
            event(Final, 2, 9.0, ""),
        ];
        assert_eq!(said(&mut channel, &events), ["F0-3 One, two three", "F3-4 Four."]);
    }

    #[test]
    fn the_last_result_of_a_finalize_says_so_and_there_always_is_one() {
        let mut channel = channel(&[]);
        channel.begin_finalize();
        assert_eq!(
            said(&mut channel, &[event(Final, 1, 0.0, "one"), event(Final, 2, 3.0, "two")]),
            ["FS0-1 one"]
        );
        assert_eq!(shown(&[channel.end_finalize(5.0).unwrap()]), ["FSZ3-4 two"]);
        channel.begin_finalize();
        assert_eq!(shown(&[channel.end_finalize(5.0).unwrap()]), ["FZ5-5 "]);
        assert_eq!(channel.end_finalize(5.0), None);
    }

    #[test]
    fn starts_and_ends_of_speech_are_told_once() {
        let mut channel =
            channel(&[("vad_events", "true"), ("utterance_end_ms", "1000"), ("interim_results", "true")]);
        let come = |channel: &mut Channel, speaking, settled| {
            let mut replies = Vec::new();
            channel.come(&Progress { settled, speaking, ..Progress::default() }, &mut replies);
            shown(&replies)
        };
        assert_eq!(come(&mut channel, Some(0.5), 0.4), ["started 0.5"]);
        assert!(come(&mut channel, Some(0.6), 0.4).is_empty());
        assert_eq!(said(&mut channel, &[event(Partial, 1, 0.5, "one")]), ["0.5-1.5 one"]);
        assert!(come(&mut channel, None, 9.0).is_empty(), "no word is final yet");
        assert_eq!(said(&mut channel, &[event(Final, 1, 0.5, "one")]), ["FS0.5-1.5 one"]);
        assert!(come(&mut channel, None, 2.4).is_empty());
        assert_eq!(come(&mut channel, None, 2.5), ["end 1.5"]);
        assert!(come(&mut channel, None, 9.5).is_empty());
        // One that was over before it was seen.
        assert_eq!(said(&mut channel, &[event(Final, 2, 9.0, "two")]), ["started 9", "FS9-10 two"]);
    }
}

//! One leg whose speech a service elsewhere recognises, beside its [`Session`]. Sans-IO: what the service is to be sent comes out as
//! [`StreamOrder`]s, what it says goes in as [`StreamNews`].
//!
//! The session cuts, numbers, guards and publishes as for any engine; this machine takes its orders, has the open utterance
//! streamed while it is spoken, and hands the service's words back. A stream that breaks is opened anew, from behind what the service had called
//! final, for as long as [`RemoteConfig::retry_for`]; then the utterance is given back to the model in this process, or its place is owed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::words::{TimedWords, words_of};
use super::{Fallback, RemoteConfig, StreamError, StreamHeard, StreamNews, StreamResult};
use crate::media::time::MediaInstant;
use crate::speech::RATE;
use crate::speech::event::primary;
use crate::speech::recogniser::{Hypothesis, HypothesisWord, RecogniseError};
use crate::speech::scheduler::Class;
use crate::speech::segment::samples_in;
use crate::speech::session::{ClosedSpeech, Order, Session};

/// Voiced audio that a stream is opened for: what has less is dropped by the segmenter anyway.
const WORTH_A_STREAM: Duration = Duration::from_millis(200);
/// The second attempt comes at once, the next after this; it doubles from there.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// The agreement waits for words that end this close to the end of what was heard; final ones need not wait. Seconds.
const NO_DOUBT: f64 = 0.25;
/// Samples sent in one message: what is sent late is not sent in one lump.
const LARGEST: usize = RATE as usize;
/// What services leave of a word behind its end. Seconds.
const REST: f64 = 0.1;
/// A word belongs to the side of a cut that its middle lies on.
const HALF: f64 = 0.5;

/// What is to be done with streams.
#[derive(Clone, Debug, PartialEq)]
pub enum StreamOrder {
    /// Open it.
    Open {
        /// Its number within the leg.
        stream: u64,
    },
    /// Send more audio.
    Audio {
        /// The stream.
        stream: u64,
        /// Mono, 16 bit, 16 kHz.
        pcm: Vec<i16>,
    },
    /// No more audio follows; the answers are waited for.
    Close {
        /// The stream.
        stream: u64,
    },
    /// Nobody is interested any more.
    Drop {
        /// The stream.
        stream: u64,
    },
}

/// What came of streams.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RemoteTally {
    /// Streams opened.
    pub opened: u64,
    /// Utterances that the service recognised to their end.
    pub completed: u64,
    /// Streams that broke, were refused or not answered.
    pub failed: u64,
    /// Utterances that the model in this process took over.
    pub taken_over: u64,
    /// Utterances that nobody recognised.
    pub owed: u64,
    /// Why streams failed.
    pub errors: Vec<StreamError>,
}

/// Where an utterance's stream is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Link {
    /// There is none; to be opened then.
    Waiting(MediaInstant),
    Open(u64),
    /// All audio is sent; answers are waited for until then.
    Closing(u64, MediaInstant),
    /// Given up; its final will say so.
    Dead,
}

struct Spoken {
    audio_start: u64,
    link: Link,
    /// Position of the stream's first sample.
    base: u64,
    /// Position up to which audio is sent.
    sent: u64,
    /// Position up to which the service is done: behind its last final words.
    done: u64,
    /// What the service has called final. Seconds from `audio_start`, as `tail`.
    fixed: Vec<HypothesisWord>,
    /// What it last said behind that.
    tail: TimedWords,
    /// Final words for all audio have come; the end of the stream has not.
    is_said: bool,
    language: Option<String>,
    /// A claimed order that will be the final one, unless the speaker goes on.
    speculative: Option<u64>,
    closed: Option<(u64, ClosedSpeech)>,
    /// Since the service last got on.
    failing_since: Option<MediaInstant>,
    tries: u32,
    last_error: Option<StreamError>,
}

impl Spoken {
    fn new(audio_start: u64, now: MediaInstant) -> Self {
        Self {
            audio_start,
            link: Link::Waiting(now),
            base: audio_start,
            sent: audio_start,
            done: audio_start,
            fixed: Vec::new(),
            tail: TimedWords::default(),
            is_said: false,
            language: None,
            speculative: None,
            closed: None,
            failing_since: None,
            tries: 0,
            last_error: None,
        }
    }

    fn stream(&self) -> Option<u64> {
        match self.link {
            Link::Open(stream) | Link::Closing(stream, _) => Some(stream),
            Link::Waiting(_) | Link::Dead => None,
        }
    }

    fn final_ticket(&self) -> Option<u64> {
        self.closed.as_ref().map(|(ticket, _)| *ticket)
    }

    /// Position behind all of the utterance, once it is over.
    fn end(&self) -> Option<u64> {
        self.closed.as_ref().map(|(_, whole)| self.audio_start + whole.audio.len() as u64)
    }

    fn seconds(&self, position: u64) -> f64 {
        position.saturating_sub(self.audio_start) as f64 / f64::from(RATE)
    }

    fn position(&self, seconds: f64) -> u64 {
        self.audio_start + (seconds.max(0.0) * f64::from(RATE)) as u64
    }

    /// What has been said, the times from the utterance's first sample.
    fn hypothesis(&self, language: &str) -> Hypothesis {
        Hypothesis {
            words: self.fixed.iter().chain(&self.tail.words).cloned().collect(),
            // Its confidences are on no scale that thresholds could be set on.
            avg_logprob: 0.0,
            no_speech: None,
            language: self.language.clone().unwrap_or_else(|| language.to_owned()),
        }
    }

    /// Take in an answer.
    fn hear(&mut self, heard: &StreamHeard, language: &str) {
        let shift = self.seconds(self.base);
        let sent = self.seconds(self.sent);
        let to = heard.processed.map_or(sent, |processed| (shift + processed).min(sent));
        let mut tail = TimedWords { words: Vec::new(), is_timed: true };
        for result in &heard.results {
            self.language = result.language.clone().or_else(|| self.language.take());
            let from = tail.words.last().map_or(self.seconds(self.done), |word| word.end);
            let mut said = self.timed(result, (from, to), shift, language);
            if result.is_final {
                let end = said.words.last().map_or(to, |word| (word.end + REST).min(to.max(word.end)));
                self.done = self.done.max(self.position(end)).min(self.sent);
                let is_all = heard.processed.is_some() && to + REST >= sent;
                self.is_said |= is_all && matches!(self.link, Link::Closing(..));
                self.fixed.append(&mut said.words);
                tail.words.clear();
                (self.failing_since, self.tries) = (None, 0);
            } else {
                tail.is_timed &= said.is_timed;
                tail.words.append(&mut said.words);
            }
        }
        if !tail.is_timed {
            tail.keep_places_of(&self.tail.words, to);
        }
        self.tail = tail;
    }

    /// The words of a result, from the utterance's first sample.
    fn timed(&self, result: &StreamResult, (from, to): (f64, f64), shift: f64, language: &str) -> TimedWords {
        let mut said = words_of(result, (from - shift, to - shift), language);
        for word in &mut said.words {
            (word.start, word.end) = (word.start + shift, word.end + shift);
        }
        said
    }

    /// The stream is gone: what was not final will be said again.
    fn rewind(&mut self) {
        (self.base, self.sent) = (self.done, self.done);
    }
}

impl TimedWords {
    /// Leave words that were said before where they were; what is new lies between them and `to`.
    fn keep_places_of(&mut self, before: &[HypothesisWord], to: f64) {
        let same = self.words.iter().zip(before).take_while(|(new, old)| new.text == old.text).count();
        for (new, old) in self.words.iter_mut().zip(before).take(same) {
            (new.start, new.end) = (old.start, old.end);
        }
        let Some(from) = same.checked_sub(1).map(|last| self.words[last].end) else { return };
        let rest = &mut self.words[same..];
        let letters: usize = rest.iter().map(|word| word.text.chars().count()).sum();
        let mut at = from;
        for word in rest {
            word.start = at;
            at += (to - from).max(0.0) * word.text.chars().count() as f64 / letters.max(1) as f64;
            word.end = at;
        }
    }
}

/// The machine of one leg.
pub struct RemoteLeg {
    config: RemoteConfig,
    /// For errors.
    name: &'static str,
    /// In the order in which they were spoken.
    spoken: VecDeque<Spoken>,
    /// The open utterance is left to the model in this process; its position.
    local: Option<u64>,
    /// Orders that it is to carry out.
    given_back: Vec<u64>,
    next_stream: u64,
    orders: Vec<StreamOrder>,
    tally: RemoteTally,
}

impl RemoteLeg {
    /// The machine of a leg that the service `name` hears.
    pub fn new(config: RemoteConfig, name: &'static str) -> Self {
        Self {
            config,
            name,
            spoken: VecDeque::new(),
            local: None,
            given_back: Vec::new(),
            next_stream: 1,
            orders: Vec::new(),
            tally: RemoteTally::default(),
        }
    }

    /// Nothing of before is of interest any more: another session begins. Streams that are open have to be dropped.
    pub fn forget(&mut self) {
        self.spoken.clear();
        self.local = None;
        self.given_back.clear();
        self.orders.clear();
    }

    /// Orders since the last call.
    pub fn take_orders(&mut self) -> Vec<StreamOrder> {
        std::mem::take(&mut self.orders)
    }

    /// What came of streams since the last call.
    pub fn take_tally(&mut self) -> RemoteTally {
        std::mem::take(&mut self.tally)
    }

    /// See what the session has new, and how late it is. To be called whenever either changes, before the session's orders are
    /// carried out. `is_up`: the service is not known to be out of reach.
    pub fn follow(&mut self, session: &mut Session, now: MediaInstant, is_up: bool) {
        // A service that is known to be away is not tried where there is something better to do.
        let is_wanted = is_up || self.config.fallback == Fallback::None;
        self.let_go(session);
        self.begin(session, now, is_wanted);
        self.claim(session, now, is_wanted);
        self.keep_time(session, now, is_wanted);
        self.send(session, now);
        let open = session.open_speech().map(|open| open.audio_start);
        session.set_elsewhere(open.is_some_and(|at| self.spoken.iter().any(|s| s.audio_start == at)));
    }

    /// Take in what came of `stream`.
    pub fn on_news(&mut self, session: &mut Session, stream: u64, news: StreamNews, now: MediaInstant) {
        // Of one that was given up meanwhile nothing is of interest.
        let Some(index) = self.spoken.iter().position(|spoken| spoken.stream() == Some(stream)) else {
            return;
        };
        match news {
            StreamNews::Heard(heard) => self.hear(session, index, &heard),
            StreamNews::Ended if matches!(self.spoken[index].link, Link::Closing(..)) => {
                self.complete(session, index);
            }
            StreamNews::Ended => {
                let reason = "the service ended the stream before the speaker had ended".to_owned();
                self.fail(session, index, StreamError { is_passing: true, reason }, now);
            }
            StreamNews::Failed(error) => self.fail(session, index, error, now),
        }
    }

    /// What the session has dropped is of no interest any more.
    fn let_go(&mut self, session: &Session) {
        let open = session.open_speech().map(|open| open.audio_start);
        let orders = &mut self.orders;
        self.spoken.retain(|spoken| {
            let is_wanted = match spoken.final_ticket() {
                Some(ticket) => session.closed_speech(ticket).is_some(),
                // Over, with its order for the final not claimed yet.
                None => open == Some(spoken.audio_start) || session.is_pending(spoken.audio_start),
            };
            if let (false, Some(stream)) = (is_wanted, spoken.stream()) {
                orders.push(StreamOrder::Drop { stream });
            }
            is_wanted
        });
        self.local = self.local.filter(|at| session.is_pending(*at));
        self.given_back.retain(|ticket| session.closed_speech(*ticket).is_some());
    }

    fn begin(&mut self, session: &Session, now: MediaInstant, is_wanted: bool) {
        let Some(open) = session.open_speech() else { return };
        let is_known = self.spoken.iter().any(|spoken| spoken.audio_start == open.audio_start);
        if is_known || self.local == Some(open.audio_start) {
            return;
        }
        if open.voiced >= WORTH_A_STREAM && !open.is_unclear {
            match is_wanted {
                true => self.spoken.push_back(Spoken::new(open.audio_start, now)),
                false => self.leave(open.audio_start),
            }
        }
    }

    fn leave(&mut self, audio_start: u64) {
        self.local = Some(audio_start);
        self.tally.taken_over += 1;
    }

    /// The session's orders for what the service has are answered from there.
    fn claim(&mut self, session: &mut Session, now: MediaInstant, is_wanted: bool) {
        let claimed = session.claim_orders(|session, order| match order {
            Order::Recognise { ticket, class: Class::Final, .. } => {
                let at = session.waits_at(*ticket);
                let is_local = self.given_back.contains(ticket) || at == self.local && at.is_some();
                let is_known = self.spoken.iter().any(|spoken| Some(spoken.audio_start) == at);
                !is_local && (is_known || is_wanted)
            }
            Order::Recognise { ticket, class: Class::Speculative, .. } => {
                let at = session.waits_at(*ticket);
                self.spoken.iter().any(|spoken| Some(spoken.audio_start) == at)
            }
            Order::Recognise { .. } => false,
            Order::Promote { ticket } | Order::Cancel { ticket } => {
                self.spoken.iter().any(|spoken| spoken.speculative == Some(*ticket))
            }
        });
        for order in claimed {
            match order {
                Order::Recognise { ticket, class: Class::Final, .. } => self.close(session, ticket, now),
                Order::Promote { ticket } => self.close(session, ticket, now),
                Order::Recognise { ticket, .. } => {
                    let at = session.waits_at(ticket);
                    if let Some(spoken) = self.spoken.iter_mut().find(|s| Some(s.audio_start) == at) {
                        spoken.speculative = Some(ticket);
                    }
                }
                Order::Cancel { ticket } => {
                    let theirs = |spoken: &&mut Spoken| spoken.speculative == Some(ticket);
                    if let Some(spoken) = self.spoken.iter_mut().find(theirs) {
                        spoken.speculative = None;
                    }
                }
            }
        }
    }

    /// An utterance is over; `ticket` waits for its last words.
    fn close(&mut self, session: &mut Session, ticket: u64, now: MediaInstant) {
        let Some(whole) = session.closed_speech(ticket) else { return };
        let index = match self.spoken.iter().position(|s| s.audio_start == whole.audio_start) {
            Some(index) => index,
            None => {
                // Too short, or too much like music, to be streamed while it was spoken.
                self.spoken.push_back(Spoken::new(whole.audio_start, now));
                self.spoken.len() - 1
            }
        };
        let spoken = &mut self.spoken[index];
        spoken.speculative = None;
        spoken.closed = Some((ticket, whole));
        if spoken.link == Link::Dead {
            self.give_up(session, index);
        }
    }

    fn send(&mut self, session: &Session, now: MediaInstant) {
        for spoken in &mut self.spoken {
            if matches!(spoken.link, Link::Waiting(at) if at <= now) {
                let stream = self.next_stream;
                self.next_stream += 1;
                self.tally.opened += 1;
                self.orders.push(StreamOrder::Open { stream });
                spoken.link = Link::Open(stream);
            }
            let Link::Open(stream) = spoken.link else { continue };
            let audio = match &spoken.closed {
                Some((_, whole)) => {
                    let from = (spoken.sent - spoken.audio_start) as usize;
                    Arc::from(whole.audio.get(from..).unwrap_or_default())
                }
                None => session.audio_from(spoken.sent),
            };
            if !audio.is_empty()
                && (spoken.closed.is_some() || audio.len() as u64 >= samples_in(self.config.chunk))
            {
                spoken.sent += audio.len() as u64;
                for part in audio.chunks(LARGEST) {
                    let pcm = part.iter().map(|&sample| (sample * 32_768.0).round() as i16).collect();
                    self.orders.push(StreamOrder::Audio { stream, pcm });
                }
            }
            if spoken.closed.is_some() {
                self.orders.push(StreamOrder::Close { stream });
                spoken.link = Link::Closing(stream, now + self.config.final_timeout);
            }
        }
    }

    fn keep_time(&mut self, session: &mut Session, now: MediaInstant, is_wanted: bool) {
        let mut index = 0;
        while index < self.spoken.len() {
            let spoken = &self.spoken[index];
            let before = self.spoken.len();
            match spoken.link {
                Link::Closing(stream, deadline) if deadline <= now => {
                    self.orders.push(StreamOrder::Drop { stream });
                    let waited = self.config.final_timeout.as_millis();
                    let reason = format!("no final words within {waited} ms of the end of the utterance");
                    // Who has waited for so long does not begin to wait again.
                    self.fail(session, index, StreamError { is_passing: false, reason }, now);
                }
                Link::Waiting(_) if spoken.tries > 0 && !is_wanted => self.give_up(session, index),
                _ => {}
            }
            index += usize::from(self.spoken.len() == before);
        }
    }

    fn hear(&mut self, session: &mut Session, index: usize, heard: &StreamHeard) {
        let language = primary(session.language(Class::Partial)).to_owned();
        let spoken = &mut self.spoken[index];
        spoken.hear(heard, &language);
        if spoken.closed.is_some() {
            return;
        }
        let heard_end = heard.processed.map_or(spoken.sent, |processed| {
            (spoken.base + (processed * f64::from(RATE)) as u64).min(spoken.sent)
        });
        let certain = match spoken.tail.is_timed {
            true => heard_end.max(spoken.position(spoken.seconds(spoken.done) + NO_DOUBT)),
            false => spoken.position(spoken.fixed.last().map_or(-1.0, |word| word.end) + NO_DOUBT),
        };
        session.on_heard(spoken.audio_start, heard_end, certain, &spoken.hypothesis(&language));
    }

    /// The service has said all that there was to say.
    fn complete(&mut self, session: &mut Session, index: usize) {
        let Some(spoken) = self.spoken.remove(index) else { return };
        let mut hypothesis = spoken.hypothesis(primary(session.language(Class::Partial)));
        let Some((ticket, whole)) = &spoken.closed else { return };
        // What was sent beyond a cut is said again by the stream that follows.
        if let (true, Some(end)) = (whole.is_cut, spoken.end()) {
            let end = spoken.seconds(end);
            hypothesis.words.retain(|word| word.start + HALF * (word.end - word.start) < end);
        }
        self.tally.completed += 1;
        session.on_result(*ticket, Some(Ok(hypothesis)));
    }

    fn fail(&mut self, session: &mut Session, index: usize, error: StreamError, now: MediaInstant) {
        let spoken = &mut self.spoken[index];
        self.tally.failed += 1;
        self.tally.errors.push(error.clone());
        if spoken.is_said || spoken.end().is_some_and(|end| spoken.done >= end) {
            return self.complete(session, index);
        }
        let is_passing = error.is_passing;
        spoken.last_error = Some(error);
        spoken.rewind();
        let since = *spoken.failing_since.get_or_insert(now);
        let pause = match spoken.tries {
            0 => Duration::ZERO,
            n => (FIRST_PAUSE * 2_u32.pow(n.min(8) - 1)).min(LONGEST_PAUSE),
        };
        spoken.tries += 1;
        if is_passing && now.saturating_since(since) + pause <= self.config.retry_for {
            spoken.link = Link::Waiting(now + pause);
        } else {
            self.give_up(session, index);
        }
    }

    /// The service does not get the utterance done.
    fn give_up(&mut self, session: &mut Session, index: usize) {
        let spoken = &mut self.spoken[index];
        let Some(ticket) = spoken.final_ticket() else {
            // An order that was claimed for a pause is not waited for any more.
            if let Some(ticket) = spoken.speculative.take() {
                session.on_result(ticket, None);
            }
            match self.config.fallback {
                Fallback::Local => {
                    let audio_start = spoken.audio_start;
                    self.spoken.remove(index);
                    self.leave(audio_start);
                }
                Fallback::None => spoken.link = Link::Dead,
            }
            return;
        };
        let Some(spoken) = self.spoken.remove(index) else { return };
        match self.config.fallback {
            Fallback::Local => {
                self.tally.taken_over += 1;
                self.given_back.push(ticket);
                session.give_back(ticket);
            }
            Fallback::None => {
                self.tally.owed += 1;
                let reason =
                    spoken.last_error.as_ref().map_or("given up", |error| error.reason.as_str()).to_owned();
                let seconds = spoken.end().map_or(0.0, |end| spoken.seconds(end));
                let error = RecogniseError::Failed { model: self.name.to_owned(), seconds, reason };
                session.on_result(ticket, Some(Err(error)));
            }
        }
    }
}

#[cfg(test)]
mod tests;

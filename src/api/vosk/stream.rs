//! One client's connection.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::ws::{WebSocket, close_code};
use futures_util::future::BoxFuture;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::message::{Config, Message};
use super::shape::{Said, Shape};
use crate::api::live::{
    BadAudio, End, Inbound, Intake, LAST_WORDS, LiveSpeech, MOST_MESSAGE, Manner, News, Packing, Place,
    Unpacker, Wire, all_final, request_id,
};
use crate::api::state::AppState;
use crate::audio::wav::Encoding;
use crate::speech::engine::Progress;
use crate::speech::event::{TranscriptEvent, TranscriptKind};

/// vosk-server's own default.
const RATE_HZ: u32 = 8_000;

/// Answers that are owed at a time: small messages come no faster than they are heard.
const MOST_OWED: usize = 1_000;

/// An answer that is owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owed {
    /// Once the engine has come to this sample: a final, or a partial.
    Audio(u64),
    /// Once all is final: all of it.
    All { then_done: bool },
}

struct Stream {
    wire: Wire,
    service: Arc<LiveSpeech>,
    name: String,
    config: Config,
    shape: Shape,
    /// There from the first audio on.
    ear: Option<Ear>,
    owed: VecDeque<Owed>,
}

/// What is heard, and has been.
struct Ear {
    intake: Intake,
    news: UnboundedReceiver<News>,
    rate_hz: u32,
    progress: Progress,
    finals: VecDeque<Said>,
    /// Of the utterance that is open.
    partial: Option<(u64, Said)>,
    /// What is final once this resolves, for [`Owed::All`].
    all_final: Option<BoxFuture<'static, ()>>,
    /// It has.
    is_all_final: bool,
    /// The last message of audio has not been taken in to its end.
    offered: bool,
}

/// Hear the client out.
pub(super) async fn run(socket: WebSocket, state: AppState, service: Arc<LiveSpeech>, place: Place) {
    let name = format!("vosk {}", request_id());
    tracing::info!(name, "a client is being heard");
    let mut stream = Stream {
        wire: Wire::new(socket, &state.sockets),
        service,
        name,
        config: Config::default(),
        shape: Shape::default(),
        ear: None,
        owed: VecDeque::new(),
    };
    let mut end = stream.hear(Some(&state.closing)).await;
    if matches!(end, End::Stopping) && stream.ear.is_some() {
        end = stream.last_words().await;
    }
    let Stream { wire, name, .. } = stream;
    tracing::info!(name, "a client has been heard");
    match end {
        End::Done => wire.close(close_code::NORMAL, "").await,
        // A client of this protocol may be silent for as long as it likes.
        End::Gone | End::Silence => {}
        End::TooLong => wire.close_too_long(MOST_MESSAGE).await,
        End::Bad(words) => wire.close(close_code::POLICY, &words).await,
        End::Stopping => wire.close(close_code::AWAY, "the server stops: come again").await,
    }
    drop(place);
}

impl Stream {
    async fn hear(&mut self, closing: Option<&CancellationToken>) -> End {
        End::of(self.listen(closing).await)
    }

    /// The server stops: the client gets the final of all that came, as if it had asked for it.
    async fn last_words(&mut self) -> End {
        if let Err(end) = self.ask_for_all(true) {
            return end;
        }
        match timeout(LAST_WORDS, self.hear(None)).await {
            Ok(End::Gone) => End::Gone,
            _ => End::Stopping,
        }
    }

    async fn listen(&mut self, closing: Option<&CancellationToken>) -> Result<Infallible, End> {
        loop {
            let may_read = self.owed.len() < MOST_OWED && self.ear.as_ref().is_none_or(Ear::may_read);
            if !may_read {
                self.wire.held_up();
            }
            tokio::select! {
                news = next(&mut self.ear) => if let Some(ear) = &mut self.ear {
                    ear.learn(news)?;
                    ear.settle_offer(&mut self.owed);
                },
                inbound = self.wire.receive(), if may_read => self.take(inbound)?,
                () = cancelled(closing) => return Err(End::Stopping),
            }
            self.answer().await?;
        }
    }

    fn take(&mut self, inbound: Inbound) -> Result<(), End> {
        match inbound {
            Inbound::Binary(bytes) => {
                let ear = match &mut self.ear {
                    Some(ear) => ear,
                    none => none.insert(Ear::open(&self.service, &self.name, &self.config)?),
                };
                ear.offered = true;
                ear.intake.offer(bytes)?;
                ear.settle_offer(&mut self.owed);
                Ok(())
            }
            Inbound::Text(text) => self.obey(&text),
            Inbound::Alive => Ok(()),
            Inbound::Gone => Err(End::Gone),
            Inbound::TooLong => Err(End::TooLong),
        }
    }

    fn obey(&mut self, text: &str) -> Result<(), End> {
        match Message::parse(text).map_err(End::Bad)? {
            Message::Config(config) => self.configure(*config),
            Message::Eof => self.ask_for_all(true),
            Message::Reset => self.ask_for_all(false),
        }
    }

    fn configure(&mut self, config: Config) -> Result<(), End> {
        self.shape = Shape {
            words: config.words.unwrap_or(self.shape.words),
            partial_words: config.partial_words.unwrap_or(self.shape.partial_words),
            alternatives: config.max_alternatives.map_or(self.shape.alternatives, |most| most > 0),
        };
        if let (Some(ear), Some(rate_hz)) = (&mut self.ear, config.sample_rate)
            && rate_hz != ear.rate_hz
        {
            ear.rate_hz = rate_hz;
            ear.intake.unpack_anew(unpacker(rate_hz)?);
        }
        self.config.sample_rate = config.sample_rate.or(self.config.sample_rate);
        if config.vocabulary.is_some() {
            self.config.vocabulary = config.vocabulary;
        }
        Ok(())
    }

    fn ask_for_all(&mut self, then_done: bool) -> Result<(), End> {
        if let Some(ear) = &mut self.ear {
            if then_done {
                ear.intake.close();
            }
            ear.all_final = Some(ear.intake.flush(None));
        }
        self.owed.push_back(Owed::All { then_done });
        Ok(())
    }

    /// Give the answers that are due.
    async fn answer(&mut self) -> Result<(), End> {
        while let Some(owed) = self.owed.front() {
            let text = match (owed, &mut self.ear) {
                (Owed::Audio(end), Some(ear)) => {
                    if !ear.has_heard(*end) {
                        break;
                    }
                    match ear.finals.pop_front() {
                        Some(said) => self.shape.last(&said),
                        None => self
                            .shape
                            .partial(ear.partial.as_ref().map_or(&Said::default(), |(_, said)| said)),
                    }
                }
                (Owed::All { .. }, Some(ear)) => {
                    if !ear.is_all_final {
                        break;
                    }
                    ear.is_all_final = false;
                    self.shape.last(&ear.finals.drain(..).fold(Said::default(), Said::and))
                }
                (_, None) => self.shape.last(&Said::default()),
            };
            let is_done = *owed == Owed::All { then_done: true };
            self.owed.pop_front();
            self.wire.send(text).await?;
            if is_done {
                return Err(End::Done);
            }
        }
        Ok(())
    }
}

fn unpacker(rate_hz: u32) -> Result<Unpacker, BadAudio> {
    Unpacker::new(Packing::Samples { encoding: Encoding::Pcm16, rate_hz }, 1, false)
}

async fn cancelled(token: Option<&CancellationToken>) {
    match token {
        Some(token) => token.cancelled().await,
        None => std::future::pending().await,
    }
}

/// What the engine says next; `None`: all that was asked for is final.
async fn next(ear: &mut Option<Ear>) -> Option<News> {
    let Some(ear) = ear else { return std::future::pending().await };
    tokio::select! {
        biased;
        Some(news) = ear.news.recv() => Some(news),
        () = all_final(ear.all_final.as_mut()) => None,
    }
}

impl Ear {
    fn open(service: &LiveSpeech, name: &str, config: &Config) -> Result<Self, BadAudio> {
        let rate_hz = config.sample_rate.unwrap_or(RATE_HZ);
        let manner = Manner {
            name: name.to_owned(),
            language: service.policy.language.clone(),
            vocabulary: config.vocabulary.clone(),
            hangover: None,
        };
        let (intake, news) = Intake::open(&service.engine, unpacker(rate_hz)?, &manner);
        Ok(Self {
            intake,
            news,
            rate_hz,
            progress: Progress::default(),
            finals: VecDeque::new(),
            partial: None,
            all_final: None,
            is_all_final: false,
            offered: false,
        })
    }

    /// Whether all that came has been taken in, and nothing waits for all of it to be final.
    fn may_read(&self) -> bool {
        self.intake.is_idle() && self.all_final.is_none() && !self.is_all_final
    }

    fn learn(&mut self, news: Option<News>) -> Result<(), BadAudio> {
        match news {
            Some(News::Said(_, event)) => self.said(event),
            Some(News::Come(lane, progress)) => {
                self.progress = progress;
                self.intake.come(lane, progress)?;
            }
            None => {
                self.all_final = None;
                self.is_all_final = true;
                while let Ok(news) = self.news.try_recv() {
                    self.learn(Some(news))?;
                }
            }
        }
        Ok(())
    }

    fn said(&mut self, event: TranscriptEvent) {
        let TranscriptEvent { kind, utterance, words, language, .. } = event;
        let said = Said::new(words, &language);
        match kind {
            TranscriptKind::Partial => self.partial = Some((utterance, said)),
            TranscriptKind::Final => {
                self.partial.take_if(|(open, _)| *open <= utterance);
                if !said.words.is_empty() {
                    self.finals.push_back(said);
                }
            }
        }
    }

    /// The message that was offered last has been taken in: its answer is owed.
    fn settle_offer(&mut self, owed: &mut VecDeque<Owed>) {
        if self.offered && self.intake.is_idle() {
            self.offered = false;
            owed.push_back(Owed::Audio(self.intake.audible()));
        }
    }

    /// Whether the engine has heard all before sample `end`, and the finals of what ended there are in.
    fn has_heard(&self, end: u64) -> bool {
        self.progress.heard >= end && self.progress.closed == 0
    }
}

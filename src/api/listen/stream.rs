//! One client's stream, from its upgrade to its close.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{WebSocket, close_code};
use futures_util::future::BoxFuture;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Sleep, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::channel::Channel;
use super::control::Control;
use super::options::ListenOptions;
use super::shape::{Reply, Shape};
use crate::api::live::{
    End, Gone, Inbound, Intake, LAST_WORDS, LiveSpeech, MOST_MESSAGE, Manner, News, Place, Unpacker, Wire,
    all_final,
};
use crate::api::state::AppState;
use crate::clock;

/// What has to be final before more is read.
struct Finalize {
    channel: Option<usize>,
    all_final: BoxFuture<'static, ()>,
}

struct Stream {
    wire: Wire,
    intake: Intake,
    news: UnboundedReceiver<News>,
    channels: Vec<Channel>,
    shape: Shape,
    finalize: Option<Finalize>,
}

/// Hear the client out.
pub(super) async fn run(
    socket: WebSocket,
    state: AppState,
    service: Arc<LiveSpeech>,
    options: ListenOptions,
    id: String,
    place: Place,
) {
    let wire = Wire::new(socket, &state.sockets);
    let (created, began) = (clock::timestamp(), clock::now());
    let unpacker = match Unpacker::new(options.packing, options.channels, options.multichannel) {
        Ok(unpacker) => unpacker,
        Err(bad) => return wire.close(close_code::ERROR, &bad.to_string()).await,
    };
    let manner = Manner {
        name: format!("listen {id}"),
        language: options.language.clone(),
        vocabulary: options.vocabulary.clone(),
        hangover: options.hangover,
    };
    let (intake, news) = Intake::open(&service.engine, unpacker, &manner);
    tracing::info!(id, channels = options.lanes(), tags = options.tags.join(","), "a client is being heard");
    let channels = (0..options.lanes()).map(|n| Channel::new(n, &options)).collect();
    let shape = Shape {
        request_id: id.clone(),
        model: service.engine.model().to_owned(),
        punctuated: options.punctuated,
    };
    let mut stream = Stream { wire, intake, news, channels, shape, finalize: None };
    let end = stream.hear(service.policy.silence, &state.closing).await;
    tracing::info!(id, seconds = stream.intake.seconds(), took = ?clock::since(began), ?end, "a client has been heard");
    stream.conclude(end, &created.to_string()).await;
    drop(place);
}

impl Stream {
    async fn hear(&mut self, silence: Duration, closing: &CancellationToken) -> End {
        End::of(self.listen(silence, closing).await)
    }

    async fn listen(&mut self, silence: Duration, closing: &CancellationToken) -> Result<Infallible, End> {
        let mut quiet = Box::pin(sleep(silence));
        loop {
            let may_read = self.intake.is_idle() && self.finalize.is_none();
            if !may_read {
                // What is not asked for cannot come.
                self.hold_up(quiet.as_mut(), silence);
            }
            tokio::select! {
                Some(news) = self.news.recv() => self.pass_on(news).await?,
                () = all_final(self.finalize.as_mut().map(|finalize| &mut finalize.all_final)) => self.finalized().await?,
                inbound = self.wire.receive(), if may_read => {
                    if !matches!(inbound, Inbound::Alive) {
                        quiet.set(sleep(silence));
                    }
                    self.take(inbound).await?;
                }
                () = &mut quiet, if may_read => return Err(End::Silence),
                () = closing.cancelled() => return Err(End::Stopping),
            }
        }
    }

    fn hold_up(&mut self, mut quiet: Pin<&mut Sleep>, silence: Duration) {
        self.wire.held_up();
        quiet.set(sleep(silence));
    }

    async fn take(&mut self, inbound: Inbound) -> Result<(), End> {
        match inbound {
            // What clients of old say when they are done.
            Inbound::Binary(bytes) if bytes.is_empty() => Err(End::Done),
            Inbound::Binary(bytes) => Ok(self.intake.offer(bytes)?),
            Inbound::Text(text) => self.obey(&text).await,
            Inbound::Alive => Ok(()),
            Inbound::Gone => Err(End::Gone),
            Inbound::TooLong => Err(End::TooLong),
        }
    }

    async fn obey(&mut self, text: &str) -> Result<(), End> {
        match Control::parse(text, self.channels.len()) {
            Ok(Control::KeepAlive) => {}
            Ok(Control::CloseStream) => return Err(End::Done),
            Ok(Control::Configure) => self.wire.send(self.shape.configure_failure()).await?,
            Ok(Control::Finalize { channel }) => {
                self.chosen(channel).for_each(Channel::begin_finalize);
                self.finalize = Some(Finalize { channel, all_final: self.intake.flush(channel) });
            }
            Err(words) => self.wire.send(Shape::schema_error(&words, text)).await?,
        }
        Ok(())
    }

    /// What was asked for by [`Control::Finalize`] is final, and the news of it are in.
    async fn finalized(&mut self) -> Result<(), End> {
        let Some(Finalize { channel, .. }) = self.finalize.take() else { return Ok(()) };
        while let Ok(news) = self.news.try_recv() {
            self.pass_on(news).await?;
        }
        let now = self.intake.seconds();
        let replies: Vec<Reply> =
            self.chosen(channel).filter_map(|channel| channel.end_finalize(now)).collect();
        Ok(self.send(&replies).await?)
    }

    fn chosen(&mut self, channel: Option<usize>) -> impl Iterator<Item = &mut Channel> {
        let all = self.channels.iter_mut().enumerate();
        all.filter(move |(n, _)| channel.is_none_or(|channel| channel == *n)).map(|(_, channel)| channel)
    }

    async fn pass_on(&mut self, news: News) -> Result<(), End> {
        let mut replies = Vec::new();
        match news {
            News::Said(lane, event) => {
                if let Some(channel) = self.channels.get_mut(lane) {
                    channel.said(&event, &mut replies);
                }
            }
            News::Come(lane, progress) => {
                if let Some(channel) = self.channels.get_mut(lane) {
                    channel.come(&progress, &mut replies);
                }
                self.intake.come(lane, progress)?;
            }
        }
        Ok(self.send(&replies).await?)
    }

    async fn send(&mut self, replies: &[Reply]) -> Result<(), Gone> {
        for reply in replies {
            self.wire.send(self.shape.reply(reply)).await?;
        }
        Ok(())
    }

    /// Give the client what is still to come, and say why it is over.
    async fn conclude(mut self, end: End, created: &str) {
        let told = match end {
            End::Gone => return,
            End::Stopping => timeout(LAST_WORDS, self.last_words()).await.unwrap_or(Ok(())),
            End::Done | End::Silence | End::TooLong | End::Bad(_) => self.last_words().await,
        };
        if told.is_err() {
            return;
        }
        let (code, reason) = match end {
            End::Done => {
                let (seconds, channels) = (self.intake.seconds(), self.channels.len());
                let metadata = self.shape.metadata(created, seconds, channels, &self.intake.digest());
                if self.wire.send(metadata).await.is_err() {
                    return;
                }
                (close_code::NORMAL, String::new())
            }
            End::Silence => (
                close_code::ERROR,
                "NET-0001: neither audio nor a message came for too long; send KeepAlive in pauses"
                    .to_owned(),
            ),
            End::Bad(words) => {
                if self.wire.send(Shape::data_error(&words)).await.is_err() {
                    return;
                }
                (close_code::POLICY, format!("DATA-0000: {words}"))
            }
            End::TooLong => return self.wire.close_too_long(MOST_MESSAGE).await,
            End::Stopping | End::Gone => (close_code::AWAY, "the server stops: come again".to_owned()),
        };
        self.wire.close(code, &reason).await;
    }

    /// Everything that came is final, and sent. What a client still says is not heard, only whether it is still there.
    async fn last_words(&mut self) -> Result<(), Gone> {
        // Part of a message may be waiting: the client sent it before it was done.
        while !self.intake.is_idle() {
            let Some(news) = self.news.recv().await else { break };
            match self.pass_on(news).await {
                Ok(()) => {}
                Err(End::Gone) => return Err(Gone),
                Err(_) => break,
            }
        }
        self.intake.close();
        let mut all_final = self.intake.flush(None);
        loop {
            tokio::select! {
                biased;
                Some(news) = self.news.recv() => if let Err(End::Gone) = self.pass_on(news).await {
                    return Err(Gone);
                },
                () = &mut all_final => break,
                inbound = self.wire.receive() => if matches!(inbound, Inbound::Gone) {
                    return Err(Gone);
                },
            }
        }
        while let Ok(news) = self.news.try_recv() {
            if let Err(End::Gone) = self.pass_on(news).await {
                return Err(Gone);
            }
        }
        let now = self.intake.seconds();
        let rest: Vec<Reply> =
            self.channels.iter_mut().filter_map(|channel| channel.end_finalize(now)).collect();
        self.send(&rest).await
    }
}

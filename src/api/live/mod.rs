//! Live recognition of audio that clients push over sockets: what the protocols have in common.

mod end;
mod intake;
mod unpack;
mod wire;
mod words;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use futures_util::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub(super) use end::End;
pub(super) use intake::{Intake, Manner, News};
pub(super) use unpack::{BadAudio, Packing, Unpacker};
pub(super) use wire::{Gone, Inbound, Wire};
pub(super) use words::{confidence, plain};

use super::problem::Problem;
use crate::speech::SpeechEngine;
use crate::telemetry::metric;

/// Longest message that a client may send.
pub(super) const MOST_MESSAGE: usize = 4 << 20;
/// Resolves once all that was asked for is final; never, where nothing was.
pub(super) async fn all_final(asked: Option<&mut BoxFuture<'static, ()>>) {
    match asked {
        Some(asked) => asked.await,
        None => std::future::pending().await,
    }
}

/// When the server stops, clients get what is still to come within this time.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(5);
/// Rates that are taken, samples a second; the filter that converts them needs a common measure with 16 000.
pub(super) const RATES: std::ops::RangeInclusive<u32> = 8_000..=48_000;
const RATE_STEP: u32 = 25;

/// Whether audio of `hz` samples a second is taken.
pub(super) fn is_rate(hz: u32) -> bool {
    RATES.contains(&hz) && hz.is_multiple_of(RATE_STEP)
}

/// What is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LivePolicy {
    /// Channels that are heard at a time.
    pub most_channels: usize,
    /// Language of clients that name none.
    pub language: String,
    /// A client of `/v1/listen` that sends neither audio nor a message for this long is closed.
    pub silence: Duration,
}

impl LivePolicy {
    /// At most `most_channels` at a time, in `language`; the rest as Deepgram does.
    pub fn new(most_channels: usize, language: impl Into<String>) -> Self {
        Self { most_channels, language: language.into(), silence: Duration::from_secs(10) }
    }
}

/// Audio that is being transcribed while clients send it.
pub struct LiveSpeech {
    pub(super) engine: Arc<SpeechEngine>,
    pub(super) policy: LivePolicy,
    places: Arc<Semaphore>,
}

impl fmt::Debug for LiveSpeech {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveSpeech")
            .field("policy", &self.policy)
            .field("channels", &self.channels())
            .finish_non_exhaustive()
    }
}

/// The right to be heard, for so many channels. Given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    channels: usize,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        metric::LISTEN_CHANNELS.add(-(self.channels as f64));
    }
}

impl LiveSpeech {
    /// On `engine`.
    pub fn new(engine: Arc<SpeechEngine>, policy: LivePolicy) -> Self {
        let places = Arc::new(Semaphore::new(policy.most_channels));
        Self { engine, policy, places }
    }

    /// Channels that are being heard.
    pub fn channels(&self) -> usize {
        self.policy.most_channels - self.places.available_permits()
    }

    /// Room for `channels` more.
    pub(super) fn admit(&self, channels: usize) -> Result<Place, Problem> {
        let wanted = u32::try_from(channels).unwrap_or(u32::MAX);
        let permit =
            Arc::clone(&self.places).try_acquire_many_owned(wanted).map_err(|_| self.full(channels))?;
        if !self.engine.admits() {
            return Err(overloaded());
        }
        metric::LISTEN_CHANNELS.add(channels as f64);
        Ok(Place { channels, _permit: permit })
    }

    fn full(&self, channels: usize) -> Problem {
        metric::LISTEN_REFUSED.add(1);
        let most = self.policy.most_channels;
        if channels > most {
            return Problem::bad_request(
                format!("{channels} channels are more than this server ever hears at a time ({most})."),
                "Send fewer, or raise `http.max_live_channels`.",
            );
        }
        Problem::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too-many-channels",
            "Too many channels are being heard",
            format!("{most} channels of live audio are being heard, or nearly."),
            "Come again in a while, or raise `http.max_live_channels`.",
        )
        .with_header(header::RETRY_AFTER, HeaderValue::from_static("5"))
    }
}

/// 503: what those who are heard cost leaves no room.
fn overloaded() -> Problem {
    metric::LISTEN_REFUSED.add(1);
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "overloaded",
        "There is no room to transcribe more",
        "Speech to text has all that it can do.",
        "Come again in a while; a smaller `speech.model` leaves more room, and /ready says how things stand.",
    )
    .with_header(header::RETRY_AFTER, HeaderValue::from_static("5"))
}

/// 503 where nothing is transcribed.
pub(super) fn no_model() -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "no-model",
        "Nothing is transcribed here",
        "This server has no speech model.",
        "Set `speech.model`.",
    )
}

/// A new id for a client's stream.
pub(super) fn request_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

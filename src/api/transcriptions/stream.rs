//! `stream=true`: server-sent events while the file is recognised. `transcript.text.delta` as utterances are done, each with
//! the text that it adds, then `transcript.text.done` with all of it; with `verbose_json` a `transcript.text.segment` before each
//! delta. An error is an event with `error`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::ask::ResponseFormat;
use super::error::Failure;
use super::{Turn, Work, shape};
use crate::audio::PcmSource;
use crate::speech::batch::{BatchError, BatchNews};

/// A comment is sent this often while nobody speaks, so that neither end takes the connection for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Events that wait for a client that reads slowly; then its file waits too.
const WAITING: usize = 64;

/// What the body is made of. Dropped with it, when the client has gone.
struct Told {
    events: mpsc::Receiver<Value>,
    _guard: DropGuard,
}

/// The answer.
pub(super) fn events(work: Work) -> Response {
    let (sender, events) = mpsc::channel(WAITING);
    let cancel = CancellationToken::new();
    let told = Told { events, _guard: cancel.clone().drop_guard() };
    let turn = Arc::clone(&work.service).turn();
    tokio::spawn(async move {
        let turn = tokio::select! {
            turn = turn => turn,
            () = cancel.cancelled() => return,
        };
        let outcome = tokio::task::spawn_blocking(move || run(work, &cancel, &sender, turn)).await;
        if let Err(error) = outcome {
            tracing::warn!(%error, "transcribing failed");
        }
    });
    let body = stream::unfold(told, |mut told| async move {
        let value = told.events.recv().await?;
        Some((Ok::<_, Infallible>(Event::default().data(value.to_string())), told))
    });
    Sse::new(body).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}

fn run(work: Work, cancel: &CancellationToken, sender: &mpsc::Sender<Value>, turn: Turn) {
    let (mut count, verbose) = (0, work.ask.format == ResponseFormat::VerboseJson);
    let speakers = work.audio.spec().channels;
    // A client that has gone takes nothing: `cancel` says so as well.
    let tell = |value: Value| drop(sender.blocking_send(value));
    let mut news = |news: BatchNews| {
        let BatchNews::Final(event) = news else { return };
        if event.words.is_empty() {
            return;
        }
        if verbose {
            tell(shape::streamed(count, &event, speakers));
        }
        let text = format!("{}{}", shape::separator(&event.language, count == 0), event.text);
        tell(json!({ "type": "transcript.text.delta", "delta": text }));
        count += 1;
    };
    match work.run(cancel, &mut news, turn) {
        Ok(done) => {
            let (text, usage) = (shape::text(&done.transcript), shape::usage(&done.transcript));
            tell(json!({ "type": "transcript.text.done", "text": text, "usage": usage }));
        }
        // Nobody is there to be told.
        Err(BatchError::Cancelled) => {}
        Err(error) => tell(Failure::from(error).body()),
    }
}

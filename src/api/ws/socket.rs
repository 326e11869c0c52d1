//! One subscriber's connection.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use futures_util::SinkExt;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::follow::{Follow, Next};
use crate::api::state::AppState;
use crate::telemetry::metric;

/// Pings without an answer after which the other side is taken for dead.
const UNANSWERED: u32 = 2;

/// Send what `source` has until it ends, the client goes, or the server stops.
pub(super) async fn run(mut socket: WebSocket, state: AppState, mut source: impl Follow) {
    let _counted = Counted::new();
    let mut ping = interval(state.sockets.ping);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ping.reset();
    let mut unanswered = 0;
    let end = loop {
        let sent = tokio::select! {
            sent = send_all(&mut socket, &mut source, state.sockets.send_timeout) => sent,
            () = state.closing.cancelled() => break End::Close(close_code::AWAY, "the server stops"),
        };
        if let Err(end) = sent {
            break end;
        }
        tokio::select! {
            () = source.changed() => {}
            () = state.closing.cancelled() => break End::Close(close_code::AWAY, "the server stops"),
            message = socket.recv() => match message {
                Some(Ok(Message::Close(_)) | Err(_)) | None => break End::Gone,
                Some(Ok(_)) => unanswered = 0,
            },
            _ = ping.tick() => {
                if unanswered >= UNANSWERED {
                    break End::Dead;
                }
                unanswered += 1;
                let sent = timeout(state.sockets.send_timeout, socket.send(Message::Ping(Default::default()))).await;
                if !matches!(sent, Ok(Ok(()))) {
                    break End::Dead;
                }
            }
        }
    };
    match end {
        End::Close(code, reason) => {
            let close = Message::Close(Some(CloseFrame { code, reason: reason.into() }));
            let farewell = async {
                // The other side's close is waited for: a connection reset before would take the last events with it.
                if socket.send(close).await.is_ok() {
                    while let Some(Ok(_)) = socket.recv().await {}
                }
            };
            let _ = timeout(Duration::from_secs(2), farewell).await;
        }
        End::Slow => tracing::info!("a subscriber took nothing for too long and was dropped"),
        End::Dead => tracing::debug!("a subscriber does not answer pings and was dropped"),
        End::Gone => {}
    }
}

/// Why a connection ends.
enum End {
    Close(u16, &'static str),
    Slow,
    Dead,
    Gone,
}

/// Send everything there is now.
async fn send_all(socket: &mut WebSocket, source: &mut impl Follow, patience: Duration) -> Result<(), End> {
    loop {
        let messages = match source.next().await {
            Next::Messages(messages) => messages,
            Next::Wait => return Ok(()),
            Next::End(code, reason) => return Err(End::Close(code, reason)),
        };
        for message in messages {
            in_time(patience, socket.feed(Message::Text(message.into()))).await?;
        }
        in_time(patience, socket.flush()).await?;
    }
}

async fn in_time(
    patience: Duration,
    sending: impl Future<Output = Result<(), axum::Error>>,
) -> Result<(), End> {
    match timeout(patience, sending).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(End::Gone),
        Err(_) => Err(End::Slow),
    }
}

/// Counts an open subscription while it lives.
struct Counted;

impl Counted {
    fn new() -> Self {
        metric::WS_SUBSCRIBERS.add(1.0);
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        metric::WS_SUBSCRIBERS.add(-1.0);
    }
}

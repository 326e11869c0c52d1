//! One client's connection: what it sends, and what it is sent, each with a limit to the patience.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, close_code};
use bytes::Bytes;
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};

use crate::api::state::SocketPolicy;

/// Pings without an answer after which the other side is taken for dead.
const UNANSWERED: u32 = 2;
/// A client has this long to answer our close.
const FAREWELL: Duration = Duration::from_secs(2);
/// What a close frame has room for besides its code (RFC 6455, 5.5).
const MOST_REASON: usize = 123;

/// What a client sends.
#[derive(Debug)]
pub(in crate::api) enum Inbound {
    Text(Utf8Bytes),
    Binary(Bytes),
    /// It is still there.
    Alive,
    /// It has gone, or is taken for dead.
    Gone,
    /// A message longer than is taken.
    TooLong,
}

/// Why nothing can be sent any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::api) struct Gone;

/// The connection.
pub(in crate::api) struct Wire {
    socket: WebSocket,
    ping: Interval,
    unanswered: u32,
    patience: Duration,
}

impl Wire {
    pub(in crate::api) fn new(socket: WebSocket, policy: &SocketPolicy) -> Self {
        let mut ping = interval(policy.ping);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ping.reset();
        Self { socket, ping, unanswered: 0, patience: policy.send_timeout }
    }

    /// The next message. May be dropped at any time; a connection that is not asked for a while is not taken for dead.
    pub(in crate::api) async fn receive(&mut self) -> Inbound {
        loop {
            tokio::select! {
                message = self.socket.recv() => {
                    self.unanswered = 0;
                    return match message {
                        Some(Ok(Message::Text(text))) => Inbound::Text(text),
                        Some(Ok(Message::Binary(bytes))) => Inbound::Binary(bytes),
                        Some(Ok(Message::Ping(_) | Message::Pong(_))) => Inbound::Alive,
                        Some(Err(error)) if is_too_long(&error) => Inbound::TooLong,
                        Some(Ok(Message::Close(_)) | Err(_)) | None => Inbound::Gone,
                    };
                }
                _ = self.ping.tick() => {
                    if self.unanswered >= UNANSWERED || self.pass(Message::Ping(Bytes::new())).await.is_err() {
                        return Inbound::Gone;
                    }
                    self.unanswered += 1;
                }
            }
        }
    }

    /// Nobody asked for messages meanwhile, so that nothing follows from their absence.
    pub(in crate::api) fn held_up(&mut self) {
        self.unanswered = 0;
        self.ping.reset();
    }

    /// Send a text.
    ///
    /// # Errors
    /// [`Gone`] if the client has, or takes nothing.
    pub(in crate::api) async fn send(&mut self, text: String) -> Result<(), Gone> {
        self.pass(Message::Text(text.into())).await
    }

    async fn pass(&mut self, message: Message) -> Result<(), Gone> {
        match timeout(self.patience, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Gone),
            Err(_) => {
                tracing::info!("a client took nothing for too long and was dropped");
                Err(Gone)
            }
        }
    }

    /// Close with `code` and as much of `reason` as there is room for, and wait a little until the client does so as well: a
    /// connection that is reset takes the last messages with it.
    pub(in crate::api) async fn close(mut self, code: u16, reason: &str) {
        let mut end = reason.len().min(MOST_REASON);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        let frame = CloseFrame { code, reason: reason[..end].into() };
        let farewell = async {
            if self.socket.send(Message::Close(Some(frame))).await.is_ok() {
                while let Some(Ok(_)) = self.socket.recv().await {}
            }
        };
        let _ = timeout(FAREWELL, farewell).await;
    }

    /// Close because a message was longer than `most` bytes.
    pub(in crate::api) async fn close_too_long(self, most: usize) {
        self.close(
            close_code::SIZE,
            &format!("a message has {} KiB at most: send audio in pieces", most >> 10),
        )
        .await;
    }
}

fn is_too_long(error: &axum::Error) -> bool {
    use tokio_tungstenite::tungstenite::Error;
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(cause) = source {
        if matches!(cause.downcast_ref::<Error>(), Some(Error::Capacity(_))) {
            return true;
        }
        source = cause.source();
    }
    false
}

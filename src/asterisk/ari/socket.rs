//! The event socket: kept open, watched, and read without ever waiting for whoever uses the events.
//!
//! Asterisk closes a socket whose reader does not take an event within 100 ms. So the task here does nothing but read, parse
//! and queue. If the queue runs full, events would be lost one by one and the state built from them wrong without a sign:
//! then the whole connection is given up and made anew, and its user compares with what Asterisk says, as after any loss.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

use super::client::{AriClient, AriConfig, install_tls_provider};
use super::error::AriError;
use super::event::AriEvent;
use super::guard::{PROBE_PREFIX, ensure_app_is_free};
use crate::asterisk::backoff::Backoff;
use crate::clock;
use crate::telemetry::metric;

/// Pings without an answer, or any other sign of life, that end a connection.
const UNANSWERED_PINGS: u32 = 2;

/// How the event socket is kept.
#[derive(Clone, Debug)]
pub struct SocketConfig {
    /// Time between pings; a connection is given up after two to three of them in silence.
    pub ping_interval: Duration,
    /// First pause before another attempt to connect.
    pub backoff_min: Duration,
    /// Longest pause.
    pub backoff_max: Duration,
    /// Events that may wait to be taken.
    pub queue: usize,
}

impl Default for SocketConfig {
    fn default() -> Self {
        Self {
            ping_interval: Duration::from_secs(5),
            backoff_min: Duration::from_millis(250),
            backoff_max: Duration::from_secs(10),
            queue: 16_384,
        }
    }
}

/// What the event socket has to tell.
#[derive(Debug)]
pub enum AriNotice {
    /// Events come from now on. With `first: false` some were missed: compare with what Asterisk has.
    Connected {
        /// The first connection of this stream.
        first: bool,
    },
    /// An event.
    Event(Box<AriEvent>),
    /// No events come until the next `Connected`; attempts to connect go on. Told once an outage, and again when the reason
    /// changes.
    Disconnected {
        /// Why.
        reason: Disconnect,
    },
    /// Another client took the application. The stream ends here: to fight for it would cut both off for ever.
    Replaced,
}

/// Why there is no event socket.
#[derive(Debug, Error)]
pub enum Disconnect {
    /// Asterisk closed it: it stops, reloads, or found our side too slow.
    #[error("Asterisk closed the event socket ({0})")]
    Closed(String),
    /// The connection broke.
    #[error("the event socket broke: {0}")]
    Broken(String),
    /// Nothing came from Asterisk, not even answers to pings.
    #[error("the event socket is dead: {UNANSWERED_PINGS} pings without an answer")]
    Silent,
    /// Events came faster than they were taken, until the queue was full.
    #[error("the event queue ({0}) overflowed: events were lost, starting over")]
    Overflow(usize),
    /// An attempt to connect that we had given up was carried out by Asterisk later, and took the application from the socket
    /// that succeeded. Nobody is at its other end.
    #[error("a late attempt to connect of our own took the application")]
    Ghost,
    /// It could not be opened.
    #[error(transparent)]
    Failed(#[from] AriError),
}

/// Events of our application. Dropping it closes the socket.
#[derive(Debug)]
pub struct EventStream {
    notices: mpsc::Receiver<AriNotice>,
    task: JoinHandle<()>,
}

impl EventStream {
    /// The next notice; `None` after [`AriNotice::Replaced`]. Cancel-safe.
    pub async fn next(&mut self) -> Option<AriNotice> {
        self.notices.recv().await
    }

    /// Close the socket in an orderly way: Asterisk knows at once that nobody holds the application.
    pub async fn close(self) {
        let Self { notices, task } = self;
        drop(notices);
        let _ = task.await;
    }
}

/// Open the event socket of `client`'s application and keep it open. Returns at once. No events but those of channels in
/// the application and of [`AriClient::subscribe`] come.
pub fn connect(client: &AriClient, config: SocketConfig) -> EventStream {
    let (tx, notices) = mpsc::channel(config.queue.max(1));
    let task = tokio::spawn(keep_open(client.clone(), config, tx));
    EventStream { notices, task }
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

enum End {
    Lost(Disconnect),
    Replaced,
    Unwanted,
}

async fn keep_open(client: AriClient, config: SocketConfig, tx: mpsc::Sender<AriNotice>) {
    let ari = client.config();
    let mut backoff = Backoff::new(config.backoff_min, config.backoff_max);
    let mut first = true;
    let mut told = None;
    let mut abandoned = false;
    loop {
        // Room for `Connected` is made sure of before there is a socket that must be read.
        let Ok(room) = tx.reserve().await else { return };
        let opened = tokio::select! {
            opened = open(ari) => opened,
            () = tx.closed() => return,
        };
        let reason = match opened {
            Ok(socket) => {
                tracing::debug!(app = ari.app, url = ari.url, first, "ARI event socket open");
                if !first {
                    metric::ARI_RECONNECTS.add(1);
                }
                room.send(AriNotice::Connected { first });
                (first, told) = (false, None);
                let since = clock::now();
                let end = read(socket, &config, &tx).await;
                backoff.connected_for(clock::since(since));
                match end {
                    End::Lost(reason) => reason,
                    End::Unwanted => return,
                    End::Replaced if abandoned && was_a_ghost(&client).await => Disconnect::Ghost,
                    End::Replaced => {
                        tracing::error!(app = ari.app, "another client took our Stasis application");
                        let _ = tx.send(AriNotice::Replaced).await;
                        return;
                    }
                }
            }
            Err(error) => {
                drop(room);
                abandoned |= matches!(error, AriError::Timeout { .. });
                Disconnect::Failed(error)
            }
        };
        // Whoever takes the notices tells people, once an outage.
        tracing::debug!(app = ari.app, %reason, "no ARI events");
        let text = reason.to_string();
        if told.as_ref() != Some(&text) {
            told = Some(text);
            if tx.send(AriNotice::Disconnected { reason }).await.is_err() {
                return;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.pause()) => {}
            () = tx.closed() => return,
        }
    }
}

async fn was_a_ghost(client: &AriClient) -> bool {
    // Asterisk finds out that nobody is there when it first reads.
    tokio::time::sleep(Duration::from_millis(250)).await;
    ensure_app_is_free(client).await.is_ok()
}

async fn open(ari: &AriConfig) -> Result<Socket, AriError> {
    const REQUEST: &str = "GET /events (WebSocket)";
    let bad_url = |reason: String| AriError::BadUrl { url: ari.url.clone(), reason };
    let mut url = ari.base()?;
    let scheme = if url.scheme() == "https" { "wss" } else { "ws" };
    url.set_scheme(scheme).map_err(|()| bad_url("no WebSocket address can be made of it".to_owned()))?;
    url.set_path(&format!("{}/events", url.path()));
    url.query_pairs_mut().append_pair("app", &ari.app).append_pair("subscribeAll", "false");
    let mut request = url.as_str().into_client_request().map_err(|error| bad_url(error.to_string()))?;
    request.headers_mut().insert("authorization", ari.authorization());

    install_tls_provider();
    let after = ari.request_timeout;
    match timeout(after, connect_async_with_config(request, None, true)).await {
        Ok(Ok((socket, _))) => Ok(socket),
        Ok(Err(WsError::Http(response))) => {
            let status = response.status().as_u16();
            let body = response.body().as_deref().unwrap_or_default();
            let message = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
            Err(AriError::from_status(REQUEST.to_owned(), status, message, ari))
        }
        Ok(Err(error)) => {
            let (request, url) = (REQUEST.to_owned(), ari.url.clone());
            Err(AriError::Unreachable { request, url, reason: error.to_string() })
        }
        Err(_) => Err(AriError::Timeout { request: REQUEST.to_owned(), after }),
    }
}

async fn read(mut socket: Socket, config: &SocketConfig, tx: &mpsc::Sender<AriNotice>) -> End {
    let mut pings = interval(config.ping_interval);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pings.reset();
    let mut unanswered = 0;
    let mut crowded = false;
    loop {
        tokio::select! {
            // Reading first: what has arrived counts as a sign of life even if this task was held up.
            biased;
            frame = socket.next() => match frame {
                Some(Ok(Message::Text(text))) => {
                    unanswered = 0;
                    match queue(AriEvent::parse(&text), tx) {
                        Ok(()) => watch(tx, &mut crowded),
                        Err(end) => return end,
                    }
                }
                Some(Ok(Message::Close(frame))) => {
                    let _ = timeout(config.ping_interval, socket.flush()).await;
                    let why = frame.map_or_else(|| "no reason given".to_owned(), |frame| frame.to_string());
                    return End::Lost(Disconnect::Closed(why));
                }
                Some(Ok(_)) => unanswered = 0,
                Some(Err(WsError::ConnectionClosed)) | None => {
                    return End::Lost(Disconnect::Closed("without a word".to_owned()));
                }
                Some(Err(error)) => return End::Lost(Disconnect::Broken(error.to_string())),
            },
            () = tx.closed() => {
                let _ = timeout(config.ping_interval, socket.close(None)).await;
                return End::Unwanted;
            }
            _ = pings.tick() => {
                if unanswered >= UNANSWERED_PINGS {
                    return End::Lost(Disconnect::Silent);
                }
                unanswered += 1;
                match timeout(config.ping_interval, socket.send(Message::Ping(Default::default()))).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => return End::Lost(Disconnect::Broken(error.to_string())),
                    Err(_) => return End::Lost(Disconnect::Silent),
                }
            }
        }
    }
}

fn queue(event: AriEvent, tx: &mpsc::Sender<AriNotice>) -> Result<(), End> {
    if event == AriEvent::ApplicationReplaced {
        return Err(End::Replaced);
    }
    if event.channel().is_some_and(|channel| channel.id.starts_with(PROBE_PREFIX)) {
        return Ok(());
    }
    tx.try_send(AriNotice::Event(Box::new(event))).map_err(|error| match error {
        TrySendError::Full(_) => End::Lost(Disconnect::Overflow(tx.max_capacity())),
        TrySendError::Closed(_) => End::Unwanted,
    })
}

fn watch(tx: &mpsc::Sender<AriNotice>, crowded: &mut bool) {
    let half = tx.max_capacity() / 2;
    if tx.capacity() < half && !*crowded {
        *crowded = true;
        tracing::warn!(waiting = tx.max_capacity() - tx.capacity(), "ARI events are not taken fast enough");
    } else if tx.capacity() > half + half / 2 {
        *crowded = false;
    }
}

//! Where Asterisk connects to: AudioSocket's port, and that of media WebSockets. Only who is expected comes in, once.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use super::link::{AudioSocketLink, Link};
use super::{StreamError, Way, websocket};
use crate::media::audiosocket::{Decoder, Frame};
use crate::telemetry::metric;

/// Connections at once, a port, of which nobody knows yet whose they are. Asterisk says so in its first packet, within a
/// round trip.
const STRANGERS: usize = 64;
/// How long one of them has to say it. Asterisk sends the UUID at once; TCP's first two retransmissions come within 1 s.
const SAY_WITHIN: Duration = Duration::from_secs(2);
/// Pause after the system had no descriptor for a connection.
const OUT_OF_DESCRIPTORS: Duration = Duration::from_millis(100);

/// Which ports are opened: `audiosocket.*`, `websocket.*`.
#[derive(Clone, Debug, Default)]
pub struct DoorSettings {
    /// For AudioSocket.
    pub audiosocket: Option<SocketAddr>,
    /// For media WebSockets that Asterisk opens.
    pub websocket: Option<SocketAddr>,
    /// User and password that these must bring, if any.
    pub credentials: Option<(String, String)>,
}

/// The open ports. Dropping it closes them; connections of legs go on.
pub struct Doors {
    audiosocket: Option<Door>,
    websocket: Option<Door>,
    _closing: DropGuard,
}

struct Door {
    address: SocketAddr,
    expected: Arc<Expected>,
}

/// Who may come in: a UUID each.
#[derive(Default)]
pub(super) struct Expected(Mutex<HashMap<Uuid, oneshot::Sender<Link>>>);

impl Doors {
    /// Open the ports. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`StreamError::Bind`].
    pub async fn open(settings: DoorSettings) -> Result<Self, StreamError> {
        let stop = CancellationToken::new();
        let audiosocket = match settings.audiosocket {
            Some(address) => Some(open(address, "audiosocket.bind", &stop, audiosocket).await?),
            None => None,
        };
        let credentials = Arc::new(settings.credentials);
        let welcome = move |stream, expected| websocket::accept(stream, expected, credentials.clone());
        let websocket = match settings.websocket {
            Some(address) => Some(open(address, "websocket.bind", &stop, welcome).await?),
            None => None,
        };
        Ok(Self { audiosocket, websocket, _closing: stop.drop_guard() })
    }

    /// The port for AudioSocket, if it is open.
    pub fn audiosocket(&self) -> Option<SocketAddr> {
        self.audiosocket.as_ref().map(|door| door.address)
    }

    /// The port for media WebSockets, if it is open.
    pub fn websocket(&self) -> Option<SocketAddr> {
        self.websocket.as_ref().map(|door| door.address)
    }

    /// Let in, once, the AudioSocket connection that brings `id`; until the way is dropped.
    ///
    /// # Errors
    /// [`StreamError::Closed`].
    pub fn expect_audiosocket(&self, id: Uuid) -> Result<Way, StreamError> {
        expect(self.audiosocket.as_ref(), id, "audiosocket")
    }

    /// Let in, once, the media WebSocket whose address has `leg=<id>` in its query; until the way is dropped.
    ///
    /// # Errors
    /// [`StreamError::Closed`].
    pub fn expect_websocket(&self, id: Uuid) -> Result<Way, StreamError> {
        expect(self.websocket.as_ref(), id, "websocket")
    }
}

fn expect(door: Option<&Door>, id: Uuid, transport: &'static str) -> Result<Way, StreamError> {
    let expected = door.ok_or(StreamError::Closed { transport })?.expected.clone();
    let (sender, link) = oneshot::channel();
    expected.0.lock().insert(id, sender);
    let place = Place { expected, id };
    Ok(Way {
        link: Box::pin(async move {
            let link = link.await.map_err(|_| StreamError::Withdrawn);
            drop(place);
            link
        }),
    })
}

/// Takes the UUID off the list when nobody waits for it any more.
struct Place {
    expected: Arc<Expected>,
    id: Uuid,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.expected.0.lock().remove(&self.id);
    }
}

impl Expected {
    /// Whether `id` is waited for; it is no longer then.
    pub(super) fn take(&self, id: Uuid) -> Option<oneshot::Sender<Link>> {
        self.0.lock().remove(&id)
    }
}

/// Why a connection was not let in: the value of the metric's label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Crowded,
    Late,
    Protocol,
    Unknown,
}

impl Refusal {
    const fn name(self) -> &'static str {
        match self {
            Self::Crowded => "crowded",
            Self::Late => "late",
            Self::Protocol => "protocol",
            Self::Unknown => "unknown",
        }
    }
}

async fn open<F>(
    address: SocketAddr,
    setting: &'static str,
    stop: &CancellationToken,
    welcome: impl Fn(TcpStream, Arc<Expected>) -> F + Send + 'static,
) -> Result<Door, StreamError>
where
    F: Future<Output = Result<(), Refusal>> + Send + 'static,
{
    let failed = |source| StreamError::Bind { address, setting, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let expected = Arc::<Expected>::default();
    tracing::info!(%address, setting, "waiting for Asterisk's media connections");
    let (guests, stop) = (expected.clone(), stop.clone());
    tokio::spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = let_in(listener, guests, welcome) => {}
        }
    });
    Ok(Door { address, expected })
}

async fn let_in<F>(
    listener: TcpListener,
    expected: Arc<Expected>,
    welcome: impl Fn(TcpStream, Arc<Expected>) -> F,
) where
    F: Future<Output = Result<(), Refusal>> + Send + 'static,
{
    let strangers = Arc::new(Semaphore::new(STRANGERS));
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a media connection could not be accepted");
                tokio::time::sleep(OUT_OF_DESCRIPTORS).await;
                continue;
            }
        };
        let Ok(turn) = strangers.clone().try_acquire_owned() else {
            refused(peer, Refusal::Crowded);
            continue;
        };
        // Without it a frame may wait for the one before to be acknowledged; nothing else depends on it.
        let _ = stream.set_nodelay(true);
        let saying = welcome(stream, expected.clone());
        tokio::spawn(async move {
            let said = tokio::time::timeout(SAY_WITHIN, saying).await.unwrap_or(Err(Refusal::Late));
            drop(turn);
            if let Err(refusal) = said {
                refused(peer, refusal);
            }
        });
    }
}

fn refused(peer: SocketAddr, refusal: Refusal) {
    metric::STREAMS_REFUSED.add_labelled("reason", refusal.name(), 1);
    tracing::debug!(%peer, reason = refusal.name(), "a media connection was refused");
}

/// Read the UUID that an AudioSocket connection begins with.
async fn audiosocket(stream: TcpStream, expected: Arc<Expected>) -> Result<(), Refusal> {
    let mut decoder = Decoder::default();
    let id = loop {
        match decoder.next_frame() {
            Ok(Some(Frame::Id(id))) => break Uuid::from_bytes(id),
            Ok(None) => {}
            Ok(Some(_)) | Err(_) => return Err(Refusal::Protocol),
        }
        stream.readable().await.map_err(|_| Refusal::Protocol)?;
        match stream.try_read(decoder.space()) {
            Ok(0) => return Err(Refusal::Protocol),
            Ok(bytes) => decoder.filled(bytes),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return Err(Refusal::Protocol),
        }
    };
    let place = expected.take(id).ok_or(Refusal::Unknown)?;
    // A leg that has been given up at this very moment has no use for it.
    let _ = place.send(Link::AudioSocket(AudioSocketLink::new(stream, decoder)));
    Ok(())
}

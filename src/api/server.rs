//! Routes, and the server around them.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post, put};
use axum::serve::ListenerExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::problem::Problem;
use super::state::AppState;
use super::{
    auth, calls, events, health, jobs, listen, observe, page, play, recording, speech, transcript,
    transcriptions, unread, vosk, ws,
};

/// Connections that are still busy this long after the server was told to stop are cut.
const GRACE: Duration = Duration::from_secs(10);
/// Histogram samples are folded into their buckets this often, whether or not anyone scrapes.
const UPKEEP: Duration = Duration::from_secs(5);

/// Why the server does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be had.
    #[error("cannot listen on `http.bind` = {bind}: {source}; {}", remedy(.source))]
    Bind {
        /// As configured.
        bind: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The address of vosk-server's protocol cannot be had.
    #[error(
        "cannot listen on `vosk.bind` = {bind}: {source}; leave it out, or set it to a free address and port of this machine"
    )]
    BindVosk {
        /// As configured.
        bind: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The listener failed.
    #[error("the HTTP server stopped: {0}")]
    Serve(#[from] io::Error),
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another process has this port: stop it, or set `http.bind` to a free one"
        }
        io::ErrorKind::AddrNotAvailable => {
            "this machine does not have that address: set `http.bind` to one of its own"
        }
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need CAP_NET_BIND_SERVICE: set `http.bind` to a higher one"
        }
        _ => "set `http.bind` to an address and port of this machine",
    }
}

/// Take the address.
///
/// # Errors
/// [`ServeError::Bind`], which names the setting and what to do.
pub async fn bind(bind: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(bind).await.map_err(|source| ServeError::Bind { bind, source })
}

/// Take the address for vosk-server's protocol.
///
/// # Errors
/// [`ServeError::BindVosk`], which names the setting and what to do.
pub async fn bind_vosk(bind: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(bind).await.map_err(|source| ServeError::BindVosk { bind, source })
}

/// All routes.
pub fn router(state: AppState) -> Router {
    let keyed = Router::new()
        .route("/api/calls", get(calls::list))
        .route("/api/calls/{id}", get(calls::show).delete(calls::remove))
        .route("/api/calls/{id}/report", get(calls::report))
        .route("/api/calls/{id}/events", get(events::list))
        .route("/api/calls/{id}/transcript", get(transcript::negotiated))
        .route("/api/calls/{id}/transcript.json", get(transcript::json))
        .route("/api/calls/{id}/transcript.txt", get(transcript::text))
        .route("/api/calls/{id}/transcript.srt", get(transcript::srt))
        .route("/api/calls/{id}/transcript.vtt", get(transcript::vtt))
        .route("/api/calls/{id}/recording", get(recording::show))
        .route("/api/calls/{id}/hangup", post(calls::hangup))
        .route("/api/calls/{id}/play", post(play::play).layer(DefaultBodyLimit::max(play::MOST_BYTES)))
        .route("/api/calls/{id}/play/stop", post(play::stop))
        .route("/api/calls/{id}/say", post(speech::say).layer(DefaultBodyLimit::max(speech::MOST_BYTES)))
        .route("/api/calls/{id}/recording/pause", post(calls::pause_recording))
        .route("/api/calls/{id}/recording/resume", post(calls::resume_recording))
        .route("/ws/events", get(ws::all))
        .route("/ws/calls/{id}/events", get(ws::call))
        .route("/api/jobs", get(jobs::list))
        .route("/api/jobs/{id}", get(jobs::show))
        .route("/api/jobs/{id}/transcript", get(jobs::transcript))
        .route("/api/jobs/{id}/cancel", post(jobs::cancel))
        .route("/api/jobs/{id}/retry", post(jobs::retry))
        .route("/api/conversions", post(jobs::convert).layer(DefaultBodyLimit::max(jobs::MOST_BYTES)))
        // It counts by itself: a file goes to the disk.
        .route("/api/transcriptions", post(jobs::transcribe).layer(DefaultBodyLimit::disable()))
        .route("/api/workers/{kind}", put(jobs::set_workers))
        .route("/tts/call", post(jobs::call).layer(DefaultBodyLimit::max(jobs::MOST_BYTES)))
        .route("/tts/status/{job_id}", get(jobs::status))
        .route("/queue/stats", get(jobs::stats))
        .route("/v1/listen", get(listen::open).fallback(listen::method_not_allowed))
        .route_layer(from_fn_with_state(state.clone(), auth::require));
    let openai = Router::new()
        .route(
            "/v1/audio/transcriptions",
            post(transcriptions::create).fallback(transcriptions::method_not_allowed),
        )
        // It counts by itself, as it writes to the disk.
        .layer(DefaultBodyLimit::disable())
        .route(
            "/v1/audio/speech",
            post(speech::create)
                .fallback(transcriptions::method_not_allowed)
                .layer(DefaultBodyLimit::max(speech::MOST_BYTES)),
        )
        .route_layer(from_fn_with_state(state.clone(), transcriptions::require));
    Router::new()
        .route("/", get(page::index))
        .route("/health", get(health::health))
        .route("/api/health", get(health::health))
        .route("/ready", get(health::ready))
        .route("/metrics", get(health::metrics))
        .route("/api/schema/events.json", get(page::event_schema))
        .merge(keyed)
        .merge(openai)
        .fallback(async || {
            Problem::new(
                StatusCode::NOT_FOUND,
                "no-such-path",
                "No such path",
                "Nothing is served at this path.",
                "Calls are at /api/calls, events at /ws/events.",
            )
        })
        .method_not_allowed_fallback(async || {
            Problem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method-not-allowed",
                "Not with this method",
                "This path does not take this method.",
                "Use one of those in the `Allow` header.",
            )
        })
        .layer(from_fn(observe::observe))
        .layer(from_fn(unread::read_on))
        .with_state(state)
}

/// Results are small and far between: one must not wait until the one before it is acknowledged.
fn at_once(connection: &mut TcpStream) {
    if let Err(error) = connection.set_nodelay(true) {
        tracing::debug!(%error, "a connection does not send at once");
    }
}

/// Serve until `shutdown` is cancelled; then requests under way are finished and WebSockets closed with 1001, for at
/// most ten seconds.
///
/// # Errors
/// [`ServeError::Serve`].
pub async fn serve(
    listener: TcpListener,
    mut state: AppState,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    state.closing = shutdown.clone();
    let (open, metrics) = (state.open.clone(), state.metrics.clone());
    let upkeep = async {
        loop {
            tokio::time::sleep(UPKEEP).await;
            metrics.run_upkeep();
        }
    };
    let server = axum::serve(listener.tap_io(at_once), router(state))
        .with_graceful_shutdown(shutdown.clone().cancelled_owned());
    tokio::select! {
        done = until_stopped(server, &open, &shutdown) => done,
        () = upkeep => Ok(()),
    }
}

/// Serve vosk-server's protocol until `shutdown` is cancelled; then connections are closed with 1001.
///
/// # Errors
/// [`ServeError::Serve`].
pub async fn serve_vosk(
    listener: TcpListener,
    mut state: AppState,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    state.closing = shutdown.clone();
    let open = state.open.clone();
    let server = axum::serve(listener.tap_io(at_once), vosk::router(state))
        .with_graceful_shutdown(shutdown.clone().cancelled_owned());
    until_stopped(server, &open, &shutdown).await
}

/// `server` comes to its end once it was told to stop, and its WebSockets to theirs; or they are cut.
async fn until_stopped(
    server: impl IntoFuture<Output = io::Result<()>>,
    open: &TaskTracker,
    shutdown: &CancellationToken,
) -> Result<(), ServeError> {
    let stopped = async {
        server.await?;
        open.close();
        open.wait().await;
        Ok(())
    };
    let overdue = async {
        shutdown.cancelled().await;
        tokio::time::sleep(GRACE).await;
        tracing::warn!("some connections were still busy and have been cut");
    };
    tokio::select! {
        done = stopped => done,
        () = overdue => Ok(()),
    }
}

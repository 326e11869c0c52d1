//! What handlers share.

use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::auth::Auth;
use super::jobs::JobsApi;
use super::live::LiveSpeech;
use super::transcriptions::Transcriptions;
use crate::calls::archive::Archive;
use crate::calls::control::CallControl;
use crate::calls::directory::CallDirectory;
use crate::calls::hub::EventHub;
use crate::speech::synthesis::Synthesiser;
use crate::telemetry::readiness::ReadinessBoard;

/// What handlers share; cheap to clone.
#[derive(Clone)]
pub struct AppState {
    /// Events.
    pub hub: Arc<EventHub>,
    /// Calls, as they are in memory and on disk.
    pub directory: Arc<CallDirectory>,
    /// Calls, as they are listed.
    pub archive: Arc<Archive>,
    /// Commands to live calls.
    pub control: Arc<dyn CallControl>,
    /// What `/ready` shows.
    pub readiness: Arc<ReadinessBoard>,
    /// What `/metrics` shows.
    pub metrics: PrometheusHandle,
    /// Who may come in.
    pub auth: Arc<Auth>,
    /// Name of the speech model; empty without one.
    pub model: Arc<str>,
    /// Files to text; `None` without a speech model.
    pub transcriptions: Option<Arc<Transcriptions>>,
    /// What speaks; `None` without an engine.
    pub synthesiser: Option<Arc<Synthesiser>>,
    /// Audio that clients push, to text; `None` without a speech model.
    pub live: Option<Arc<LiveSpeech>>,
    /// Work that is done later; `None` where none is.
    pub jobs: Option<Arc<JobsApi>>,
    /// How WebSockets are kept.
    pub sockets: SocketPolicy,
    /// Cancelled when the server stops.
    pub(super) closing: CancellationToken,
    /// Open WebSockets.
    pub(super) open: TaskTracker,
}

/// How WebSockets are kept, and when they are given up.
#[derive(Clone, Debug)]
pub struct SocketPolicy {
    /// A ping is sent this often; two unanswered ones end the connection.
    pub ping: Duration,
    /// A subscriber that takes no data for this long is dropped.
    pub send_timeout: Duration,
    /// Events read at once.
    pub batch: usize,
    /// A call that an earlier process had is waited for this long; then its subscribers are told to come again.
    pub taken_up_within: Duration,
}

impl Default for SocketPolicy {
    fn default() -> Self {
        Self {
            ping: Duration::from_secs(15),
            send_timeout: Duration::from_secs(20),
            batch: 256,
            // Taking up needs a second where Asterisk is there; no client has to know that it was not.
            taken_up_within: Duration::from_secs(60),
        }
    }
}

impl AppState {
    /// The state of a server that is not serving yet, with the default [`SocketPolicy`] and no speech model.
    pub fn new(
        hub: Arc<EventHub>,
        archive: Arc<Archive>,
        control: Arc<dyn CallControl>,
        readiness: Arc<ReadinessBoard>,
        metrics: PrometheusHandle,
        auth: Auth,
    ) -> Self {
        Self {
            hub,
            directory: Arc::clone(archive.directory()),
            archive,
            control,
            readiness,
            metrics,
            auth: Arc::new(auth),
            model: Arc::default(),
            transcriptions: None,
            synthesiser: None,
            live: None,
            jobs: None,
            sockets: SocketPolicy::default(),
            closing: CancellationToken::new(),
            open: TaskTracker::new(),
        }
    }
}

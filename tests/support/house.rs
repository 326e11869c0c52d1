//! The server in the test's own process, with a model of the test's own: the binary has only real ones.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use sidetone::api::{self, AppState, Auth};
use sidetone::asterisk::ari::{self, AriClient, AriConfig, SocketConfig};
use sidetone::calls::archive::Archive;
use sidetone::calls::catch_up::CatchUp;
use sidetone::calls::directory::CallDirectory;
use sidetone::calls::hub::{EventHub, HubConfig};
use sidetone::calls::overload;
use sidetone::calls::server::{CallServer, End};
use sidetone::calls::services::Services;
use sidetone::calls::sessions::SessionStore;
use sidetone::calls::speech::Expectations;
use sidetone::calls::transport::Transport;
use sidetone::config::Settings;
use sidetone::media::codec::Codec;
use sidetone::net::plane::{PlaneConfig, RtpPlane};
use sidetone::net::stream::Doors;
use sidetone::recording::{Recorder, RecorderConfig};
use sidetone::speech::recogniser::SpeechModel;
use sidetone::speech::{SpeechConfig, SpeechEngine};
use sidetone::store::Store;
use sidetone::telemetry::metric;
use sidetone::telemetry::readiness::{Dependency, Health, ReadinessBoard};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A running server. Ends when dropped.
pub struct House {
    pub services: Arc<Services>,
    pub http: SocketAddr,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
    _folder: TempDir,
}

impl Drop for House {
    fn drop(&mut self) {
        self.stop.cancel();
        self.services.catch_up.stop();
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl House {
    /// Beside the Asterisk at `ari_url`, once it takes calls; `speech` is how its engine works.
    pub async fn start(
        ari_url: &str,
        ari_password: &str,
        speech: SpeechConfig,
        model: Arc<dyn SpeechModel>,
    ) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::Builder::new().prefix("sidetone-data-").tempdir().expect("a temporary folder");
        let data = folder.path().to_owned();
        let mut settings = Settings::default();
        settings.node.data = data.clone();
        settings.rtp.bind = SocketAddr::from(([127, 0, 0, 1], 0));
        let engine = Arc::new(SpeechEngine::start(speech, model).expect("an engine"));
        let directory = Arc::new(CallDirectory::open(&data, 100).expect("a directory"));
        let hub = Arc::new(EventHub::new(HubConfig::default(), Some(directory.clone())).expect("a hub"));
        let readiness = Arc::new(ReadinessBoard::expecting(["speech"]));
        let known = Dependency::new(Health::Ok, "transcribing").with("rung", 0);
        readiness.put("speech", known.clone());
        overload::tell(&engine, hub.clone(), readiness.clone(), known);
        let ari = AriClient::new(AriConfig {
            url: ari_url.to_owned(),
            user: settings.ari.user.clone(),
            password: ari_password.to_owned(),
            app: settings.ari.app.clone(),
            request_timeout: Duration::from_secs(5),
            media_address: None,
        });
        let transport = Transport::of(&settings);
        let plane = RtpPlane::start(PlaneConfig {
            bind: settings.rtp.bind,
            shards: 1,
            receive_buffer: settings.receive_buffer(),
            cpus: settings.rtp.cpus.parse().expect("processors"),
        });
        let expected = Expectations::of(&settings);
        let services = Arc::new(Services {
            node: settings.node.name.parse().expect("a name"),
            codec: Codec::Ulaw,
            ari: ari.expect("a client"),
            transport,
            plane: plane.expect("a socket"),
            doors: Doors::open(transport.doors(&settings)).await.expect("no doors"),
            recorder: Recorder::start(RecorderConfig::default()).expect("writers"),
            speech: Some(engine.clone()),
            riva: None,
            hub: hub.clone(),
            directory: directory.clone(),
            sessions: SessionStore::open(&data).expect("a folder"),
            catch_up: CatchUp::start(&data, hub.clone(), directory.clone(), Some(engine), expected)
                .expect("a folder"),
            settings,
        });
        let server = Arc::new(CallServer::new(services.clone()));
        let stop = CancellationToken::new();
        let auth = Auth::from_keys(&[] as &[&str]).expect("no keys");
        let metrics = metric::install().expect("metrics");
        let store = Store::open("", &data).await.expect("a database");
        let archive = Arc::new(Archive::new(directory, &store, services.settings.node.name.as_str()));
        let state = AppState::new(hub, archive, server.clone(), readiness, metrics, auth);
        let listener = api::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a free port");
        let http = listener.local_addr().expect("its address");
        let serving = api::serve(listener, state, stop.clone());
        let events = ari::connect(&services.ari, SocketConfig::default());
        let mut connection = server.connection();
        let stopped = stop.clone().cancelled_owned();
        let tasks = vec![
            tokio::spawn(async move { serving.await.expect("it serves") }),
            tokio::spawn(async move { assert_eq!(server.run(events, stopped).await, End::Stopped) }),
        ];
        let up = connection
            .wait_for(|connection| matches!(connection, sidetone::calls::server::Connection::Up(_)));
        tokio::time::timeout(Duration::from_secs(20), up).await.expect("in time").expect("Asterisk answers");
        Self { services, http, stop, tasks, _folder: folder }
    }

    /// All events of a call, from its journal.
    pub fn events(&self, call: &Value) -> Vec<Value> {
        let id = call["call_id"].as_str().expect("its id");
        let record = self.services.directory.get(id).expect("its record");
        let journal = self.services.directory.files(&record).expect("its files").events();
        let text = std::fs::read_to_string(journal).expect("its events");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}

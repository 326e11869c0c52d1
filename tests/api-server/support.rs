use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use reqwest::{Client, RequestBuilder, Response};
use serde_json::Value;
use sidetone::api::{self, AppState, Auth, LiveSpeech, SocketPolicy, Transcriptions};
use sidetone::calls::archive::Archive;
use sidetone::calls::control::{Audio, CallControl, ControlError, Playback};
use sidetone::calls::directory::CallDirectory;
use sidetone::calls::hub::{EventHub, HubConfig, Journals};
use sidetone::calls::record::{CallMode, CallRecord, CallState};
use sidetone::speech::synthesis::Synthesiser;
use sidetone::store::Store;
use sidetone::telemetry::metric;
use sidetone::telemetry::readiness::ReadinessBoard;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use tokio_util::sync::CancellationToken;

pub type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

pub struct Server {
    pub addr: SocketAddr,
    pub hub: Arc<EventHub>,
    pub directory: Arc<CallDirectory>,
    pub readiness: Arc<ReadinessBoard>,
    pub control: Arc<Recorded>,
    pub client: Client,
    pub vosk: Option<SocketAddr>,
    /// Calls whose streams were opened.
    opened: Mutex<Vec<String>>,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
pub struct Setup {
    /// Where to listen; a free port without.
    pub at: Option<SocketAddr>,
    pub keys: Vec<&'static str>,
    pub hub: HubConfig,
    pub sockets: SocketPolicy,
    pub transcriptions: Option<Arc<Transcriptions>>,
    pub synthesiser: Option<Arc<Synthesiser>>,
    /// With it, vosk's protocol is served as well.
    pub live: Option<Arc<LiveSpeech>>,
}

impl Server {
    pub async fn start(data: &Path) -> Self {
        Self::with(data, Setup::default()).await
    }

    pub async fn with(data: &Path, setup: Setup) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let directory = Arc::new(CallDirectory::open(data, 100).unwrap());
        let journals = Arc::clone(&directory) as Arc<dyn Journals>;
        let hub = Arc::new(EventHub::new(setup.hub, Some(journals)).unwrap());
        let readiness = Arc::new(ReadinessBoard::expecting(["ari", "model"]));
        let control = Arc::new(Recorded::default());
        let store = Store::open("", data).await.unwrap();
        let archive = Arc::new(Archive::new(Arc::clone(&directory), &store, "node1"));
        let shutdown = CancellationToken::new();
        tokio::spawn(Arc::clone(&archive).keep_filing(shutdown.clone()));
        let mut state = AppState::new(
            Arc::clone(&hub),
            archive,
            Arc::clone(&control) as Arc<dyn CallControl>,
            Arc::clone(&readiness),
            metric::install().unwrap(),
            Auth::from_keys(&setup.keys).unwrap(),
        );
        state.sockets = setup.sockets;
        state.model = "base.en".into();
        state.transcriptions = setup.transcriptions;
        state.synthesiser = setup.synthesiser;
        state.live = setup.live;
        let listener =
            api::bind(setup.at.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)))).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let mut vosk = None;
        let mut serving_vosk = None;
        if state.live.is_some() {
            let listener = api::bind_vosk(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
            vosk = listener.local_addr().ok();
            serving_vosk = Some(api::serve_vosk(listener, state.clone(), shutdown.clone()));
        }
        let serving = api::serve(listener, state, shutdown.clone());
        let task = tokio::spawn(async move {
            let serving_vosk = async {
                if let Some(serving) = serving_vosk {
                    serving.await.unwrap();
                }
            };
            let (done, ()) = tokio::join!(serving, serving_vosk);
            done.unwrap();
        });
        let client = Client::builder().no_proxy().build().unwrap();
        Self {
            addr,
            hub,
            directory,
            readiness,
            control,
            client,
            vosk,
            opened: Mutex::default(),
            shutdown,
            task,
        }
    }

    /// Stop as a process does: afterwards the files are complete and can be opened by the next server.
    pub async fn stop(mut self) {
        self.shutdown.cancel();
        tokio::time::timeout(Duration::from_secs(8), &mut self.task).await.expect("stops in time").unwrap();
    }

    pub fn begin_shutdown(&self) {
        self.shutdown.cancel();
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    pub fn request(&self, method: &str, path: &str) -> RequestBuilder {
        self.client.request(method.parse().unwrap(), self.url(path))
    }

    pub async fn get(&self, path: &str) -> Response {
        self.request("GET", path).send().await.unwrap()
    }

    pub async fn json(&self, path: &str) -> Value {
        let response = self.get(path).await;
        assert!(response.status().is_success(), "{path}: {}", response.status());
        response.json().await.unwrap()
    }

    pub async fn socket(&self, path: &str) -> Socket {
        tokio_tungstenite::connect_async(format!("ws://{}{path}", self.addr)).await.unwrap().0
    }

    /// A call in the directory, its stream open with a journal.
    pub fn live_call(&self, tenant: &str, call_id: &str) -> Arc<CallRecord> {
        let mut record = CallRecord::new(call_id, tenant, CallMode::Tap, sidetone::clock::timestamp());
        record.state = CallState::Live;
        record.channel.caller.number = format!("+49{call_id}");
        let record = self.directory.insert(record).unwrap();
        let journal = self.directory.files(&record).unwrap().events();
        self.hub.open_call(tenant, call_id, Some(journal)).unwrap();
        self.opened.lock().push(call_id.to_owned());
        record
    }

    pub fn end_call(&self, call_id: &str) {
        self.directory.update(call_id, |record| record.state = CallState::Ended).unwrap();
        self.hub.close_call(call_id);
    }
}

/// Tests remove the folder next: what is still being written must not make it anew.
impl Drop for Server {
    fn drop(&mut self) {
        self.shutdown.cancel();
        for call_id in self.opened.get_mut() {
            self.hub.close_call(call_id);
            self.hub.until_released(call_id, Duration::from_secs(5));
        }
        self.directory.flush();
    }
}

/// The next event of a socket; `None` when it is closed, however.
pub async fn next(socket: &mut Socket) -> Option<Value> {
    loop {
        let message = tokio::time::timeout(Duration::from_secs(20), socket.next()).await.expect("in time")?;
        match message {
            Ok(Message::Text(text)) => return Some(serde_json::from_str(&text).unwrap()),
            Ok(Message::Close(_)) | Err(_) => return None,
            Ok(_) => {}
        }
    }
}

/// The code with which the socket is closed next.
pub async fn close_code(socket: &mut Socket) -> Option<u16> {
    loop {
        match tokio::time::timeout(Duration::from_secs(20), socket.next()).await.expect("in time")? {
            Ok(Message::Close(frame)) => return frame.map(|frame| frame.code.into()),
            Ok(_) => {}
            Err(_) => return None,
        }
    }
}

pub async fn problem(response: Response, status: u16) -> Value {
    assert_eq!(response.status(), status);
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let problem: Value = response.json().await.unwrap();
    assert_eq!(problem["status"], status);
    for field in ["type", "title", "detail", "remedy"] {
        assert!(problem[field].as_str().is_some_and(|text| !text.is_empty()), "{field}: {problem}");
    }
    problem
}

/// Remembers what it was asked, and does what the call's id says.
#[derive(Default)]
pub struct Recorded {
    pub asked: Mutex<Vec<String>>,
}

impl Recorded {
    fn ask(&self, what: &str, call_id: &str) -> BoxFuture<'_, Result<(), ControlError>> {
        self.asked.lock().push(format!("{what} {call_id}"));
        let done = match call_id {
            "gone" => Err(ControlError::NotLive),
            "waiting" => Err(ControlError::NotTakenUp),
            "unrecorded" => Err(ControlError::NotPossible("The call is not recorded.".into())),
            "broken" => Err(ControlError::Failed("Asterisk does not answer.".into())),
            _ => Ok(()),
        };
        Box::pin(async { done })
    }
}

impl CallControl for Recorded {
    fn hangup<'a>(&'a self, call_id: &'a str) -> BoxFuture<'a, Result<(), ControlError>> {
        self.ask("hangup", call_id)
    }

    fn pause_recording<'a>(&'a self, call_id: &'a str) -> BoxFuture<'a, Result<(), ControlError>> {
        self.ask("pause", call_id)
    }

    fn play<'a>(&'a self, call_id: &'a str, audio: Audio) -> BoxFuture<'a, Result<Playback, ControlError>> {
        let duration = Duration::from_secs_f64(audio.pcm.len() as f64 / f64::from(audio.rate_hz));
        let done = self.ask("play", call_id);
        Box::pin(async move { done.await.map(|()| Playback { id: 1, duration }) })
    }

    fn stop_playing<'a>(&'a self, call_id: &'a str) -> BoxFuture<'a, Result<(), ControlError>> {
        self.ask("stop playing", call_id)
    }

    fn resume_recording<'a>(&'a self, call_id: &'a str) -> BoxFuture<'a, Result<(), ControlError>> {
        self.ask("resume", call_id)
    }
}

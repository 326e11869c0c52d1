//! NVIDIA Riva: speech recognition, and voices, on GPUs elsewhere, by gRPC.
//!
//! [`RivaService`] is a [`StreamingService`]: a `StreamingRecognize` call an utterance, over a few HTTP/2 connections that all legs share. The calls are
//! tasks on the runtime it was made on; nothing of it blocks the thread that listens to the legs.

mod answer;
mod config;
mod language;
mod link;
pub mod proto;
mod status;
mod stream;
mod voice;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::uri::PathAndQuery;
use thiserror::Error;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tonic::client::Grpc;
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue};
use tonic::transport::Channel;
use tonic_prost::ProstCodec;

pub use config::RivaConfig;
pub use link::RivaState;

use self::proto::{ConfigRequest, ConfigResponse, GET_CONFIG};
use super::remote::{AudioStream, Engine, NewsSink, RemoteConfig, StreamRequest, StreamingService};

/// The longest answer: five minutes of speech at 22.05 kHz. A text's piece is half a minute.
const MOST_BYTES: usize = 16 << 20;

/// Why a client could not be made.
#[derive(Debug, Error)]
pub enum RivaError {
    /// The address is none.
    #[error("riva.url is `{url}`: write it as http://host:50051, or https://… ({reason})")]
    Url {
        /// As set.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// A file could not be read.
    #[error("{setting} = {}: {source}", .path.display())]
    File {
        /// The setting that names it.
        setting: &'static str,
        /// The file.
        path: std::path::PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Certificates or keys are none.
    #[error("TLS to {url} cannot be set up: {reason}; see riva.ca_file, riva.cert_file and riva.key_file")]
    Tls {
        /// The address.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// An entry of the metadata cannot be sent.
    #[error("riva.metadata: `{name}` is not a name with a value that gRPC can carry")]
    Metadata {
        /// Its name.
        name: String,
    },
    /// The server cannot be reached, or refuses.
    #[error("{0}")]
    Refused(String),
}

/// A model that the server has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RivaModel {
    /// Its name.
    pub name: String,
    /// Tags of the languages it knows; none if the server does not say.
    pub languages: Vec<String>,
    /// Whether it takes audio as it is spoken; `true` if the server does not say.
    pub is_streaming: bool,
}

/// The client. Cheap to clone.
#[derive(Clone)]
pub struct RivaService(Arc<Inner>);

impl std::fmt::Debug for RivaService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RivaService").field("url", &self.0.config.url).finish_non_exhaustive()
    }
}

struct Inner {
    config: RivaConfig,
    metadata: Vec<(AsciiMetadataKey, AsciiMetadataValue)>,
    channels: Vec<Channel>,
    turn: AtomicUsize,
    runtime: Handle,
    link: link::Link,
}

impl RivaService {
    /// A client that connects when it is first used. Its tasks run on `runtime`.
    ///
    /// # Errors
    /// [`RivaError`]: an address, certificate or header that cannot be.
    pub fn new(config: RivaConfig, runtime: Handle) -> Result<Self, RivaError> {
        let endpoint = config.endpoint()?;
        let _entered = runtime.enter();
        let channels = (0..config.connections.max(1)).map(|_| endpoint.connect_lazy()).collect();
        let metadata = config.headers()?;
        let (turn, link) = (AtomicUsize::new(0), link::Link::default());
        Ok(Self(Arc::new(Inner { config, metadata, channels, turn, runtime: runtime.clone(), link })))
    }

    /// Find out whether the server is there, now and whenever it seems not to be.
    pub fn watch(&self) -> watch::Receiver<RivaState> {
        self.0.look_for();
        self.0.link.watch()
    }

    /// The models that the server has.
    ///
    /// # Errors
    /// [`RivaError::Refused`]: it is not there, or refuses.
    pub async fn models(&self) -> Result<Vec<RivaModel>, RivaError> {
        let response = self
            .0
            .ask()
            .await
            .map_err(|status| RivaError::Refused(status::in_words(&status, &self.0.config)))?;
        let model = |config: proto::ModelConfig| {
            let parameter = |name| config.parameters.get(name).map(String::as_str);
            let tags = parameter("language_code").unwrap_or_default().split(',');
            RivaModel {
                languages: tags.map(str::trim).filter(|tag| !tag.is_empty()).map(str::to_owned).collect(),
                is_streaming: parameter("type").is_none_or(|kind| kind != "offline"),
                name: config.model_name,
            }
        };
        Ok(response.model_config.into_iter().map(model).collect())
    }

    /// The tag by which the server is asked for a language of Whisper's.
    ///
    /// # Errors
    /// What to set.
    pub fn tag_of(&self, code: &str) -> Result<String, String> {
        language::tag_of(code, &self.0.config.languages)
    }
}

impl StreamingService for RivaService {
    fn engine(&self) -> Engine {
        Engine::Riva
    }

    fn config(&self) -> RemoteConfig {
        self.0.config.remote
    }

    fn is_up(&self) -> bool {
        self.0.link.is_up()
    }

    fn open(&self, request: &StreamRequest, news: NewsSink) -> Box<dyn AudioStream> {
        stream::open(&self.0, request, news)
    }
}

impl Inner {
    /// A client for one call, on the connection whose turn it is.
    fn client(&self) -> Grpc<Channel> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.channels.len();
        Grpc::new(self.channels[turn].clone())
    }

    fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        for (name, value) in &self.metadata {
            request.metadata_mut().insert(name.clone(), value.clone());
        }
        request
    }

    async fn ask(&self) -> Result<ConfigResponse, tonic::Status> {
        let limit = self.config.connect_timeout + self.config.remote.final_timeout;
        self.unary(GET_CONFIG, ConfigRequest { model_name: String::new() }, limit).await
    }

    /// One question, one answer, within `limit`.
    async fn unary<Q, A>(
        &self,
        method: &'static str,
        question: Q,
        limit: Duration,
    ) -> Result<A, tonic::Status>
    where
        Q: prost::Message + Default + 'static,
        A: prost::Message + Default + 'static,
    {
        let mut request = self.request(question);
        request.set_timeout(limit);
        let asked = async {
            let mut client = self.client().max_decoding_message_size(MOST_BYTES);
            client.ready().await.map_err(|error| tonic::Status::from_error(Box::new(error)))?;
            let codec = ProstCodec::<Q, A>::default();
            client.unary(request, PathAndQuery::from_static(method), codec).await
        };
        let answer = tokio::time::timeout(limit, asked).await;
        answer
            .map_err(|_| tonic::Status::deadline_exceeded(format!("no answer within {limit:?}")))?
            .map(tonic::Response::into_inner)
    }
}

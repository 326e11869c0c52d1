//! A Riva of our own: gRPC and the same protobufs, with exact words at exact times of the audio, and faults to order.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prost::Message;
use sidetone::speech::riva::proto::{
    ConfigRequest, ConfigResponse, GET_CONFIG, ModelConfig, STREAMING_RECOGNIZE,
    SpeechRecognitionAlternative, StreamingRecognitionConfig, StreamingRecognitionResult,
    StreamingRecognizeRequest, StreamingRecognizeResponse, StreamingRequest, WordInfo,
};
use sidetone::speech::scripted::{Script, ScriptedWord};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tonic::codec::{Codec, EncodeBuf, Encoder};
use tonic::codegen::{BoxFuture, Service, http};
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

const RATE: f64 = 16_000.0;
/// A stream that has heard this much more answers.
const STEP: f64 = 0.1;

/// What a stream is answered, one after the other; the rest is [`Act::Serve`].
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// Interim results as audio comes, the final one at its end.
    Serve,
    /// The same, each answer so much later.
    Late(Duration),
    /// Refused before anything is heard.
    Refuse(Code, &'static str),
    /// It ends with this once so much audio has come, seconds.
    FailAt(f64, Code),
    /// Words up to the first number of seconds are final on the way; it ends with UNAVAILABLE at the second.
    FinalThenFail(f64, f64),
    /// Nothing is ever answered.
    Hush,
    /// What is answered is no protobuf.
    Garbage,
}

/// How the server knows what is said.
pub enum Knows {
    /// It finds the audio in this recording.
    Recording(Script),
    /// The same words in every stream, at these seconds of it.
    ByHeart(Vec<ScriptedWord>),
}

/// What a stream brought.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub config: StreamingRecognitionConfig,
    pub metadata: HashMap<String, String>,
    /// 16 kHz.
    pub audio: Vec<i16>,
    /// The client had no more to send.
    pub is_closed: bool,
}

struct State {
    knows: Knows,
    acts: Mutex<VecDeque<Act>>,
    seen: Mutex<Vec<Seen>>,
    models: Mutex<Vec<(String, String)>>,
}

/// A running server. Dropping it closes its port and all connections.
pub struct RivaServer {
    address: SocketAddr,
    state: Arc<State>,
    task: tokio::task::JoinHandle<()>,
    scheme: &'static str,
}

impl RivaServer {
    /// On a port of its own.
    pub async fn start(knows: Knows) -> RivaServer {
        Self::start_on("127.0.0.1:0".parse().unwrap(), knows, None).await
    }

    /// With TLS: its certificate and key, and whose certificates clients must have (all PEM).
    pub async fn start_secure(knows: Knows, identity: (&str, &str), clients: &str) -> RivaServer {
        let tls = ServerTlsConfig::new()
            .identity(Identity::from_pem(identity.0, identity.1))
            .client_ca_root(Certificate::from_pem(clients));
        Self::start_on("127.0.0.1:0".parse().unwrap(), knows, Some(tls)).await
    }

    /// On this port.
    pub async fn start_on(address: SocketAddr, knows: Knows, tls: Option<ServerTlsConfig>) -> RivaServer {
        let listener = TcpListener::bind(address).await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let models = Mutex::new(vec![("parakeet-en-US".to_owned(), "en-US".to_owned())]);
        let state = Arc::new(State { knows, acts: Mutex::default(), seen: Mutex::default(), models });
        let service = Recognition(state.clone());
        let mut server = Server::builder();
        let scheme = if tls.is_some() { "https" } else { "http" };
        if let Some(tls) = tls {
            server = server.tls_config(tls).expect("certificates");
        }
        let task = tokio::spawn(async move {
            let incoming = tonic::transport::server::TcpIncoming::from(listener);
            server.add_service(service).serve_with_incoming(incoming).await.expect("it serves");
        });
        RivaServer { address, state, task, scheme }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// What the next streams are answered.
    pub fn act(&self, acts: &[Act]) {
        self.state.acts.lock().unwrap().extend(acts.iter().cloned());
    }

    /// Name and languages of the models it says to have.
    pub fn has(&self, models: &[(&str, &str)]) {
        *self.state.models.lock().unwrap() =
            models.iter().map(|(name, tag)| ((*name).to_owned(), (*tag).to_owned())).collect();
    }

    /// The streams so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }
}

impl Drop for RivaServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Clone)]
struct Recognition(Arc<State>);

impl tonic::server::NamedService for Recognition {
    const NAME: &'static str = "nvidia.riva.asr.RivaSpeechRecognition";
}

impl Service<http::Request<tonic::body::Body>> for Recognition {
    type Response = http::Response<tonic::body::Body>;
    type Error = std::convert::Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let state = self.0.clone();
        Box::pin(async move {
            Ok(match request.uri().path() {
                STREAMING_RECOGNIZE => {
                    tonic::server::Grpc::new(Raw).streaming(Recognise(state), request).await
                }
                GET_CONFIG => {
                    let codec = ProstCodec::<ConfigResponse, ConfigRequest>::default();
                    tonic::server::Grpc::new(codec).unary(Configured(state), request).await
                }
                other => Status::unimplemented(other).into_http(),
            })
        })
    }
}

struct Configured(Arc<State>);

impl tonic::server::UnaryService<ConfigRequest> for Configured {
    type Response = ConfigResponse;
    type Future = BoxFuture<Response<ConfigResponse>, Status>;

    fn call(&mut self, _: Request<ConfigRequest>) -> Self::Future {
        let model = |(name, tag): &(String, String)| ModelConfig {
            model_name: name.clone(),
            parameters: HashMap::from([
                ("language_code".to_owned(), tag.clone()),
                ("type".to_owned(), "online".to_owned()),
            ]),
        };
        let model_config = self.0.models.lock().unwrap().iter().map(model).collect();
        Box::pin(async move { Ok(Response::new(ConfigResponse { model_config })) })
    }
}

struct Recognise(Arc<State>);

type Answers = mpsc::UnboundedSender<Result<Vec<u8>, Status>>;

impl tonic::server::StreamingService<StreamingRecognizeRequest> for Recognise {
    type Response = Vec<u8>;
    type ResponseStream = std::pin::Pin<Box<dyn futures_util::Stream<Item = Result<Vec<u8>, Status>> + Send>>;
    type Future = BoxFuture<Response<Self::ResponseStream>, Status>;

    fn call(&mut self, request: Request<Streaming<StreamingRecognizeRequest>>) -> Self::Future {
        let state = self.0.clone();
        Box::pin(async move {
            let act = state.acts.lock().unwrap().pop_front().unwrap_or(Act::Serve);
            if let Act::Refuse(code, message) = act {
                return Err(Status::new(code, message));
            }
            let metadata = request.metadata().clone().into_headers();
            let metadata =
                metadata.iter().map(|(k, v)| (k.to_string(), v.to_str().unwrap_or_default().to_owned()));
            let number = {
                let mut seen = state.seen.lock().unwrap();
                seen.push(Seen { metadata: metadata.collect(), ..Seen::default() });
                seen.len() - 1
            };
            let (answers, mut given) = mpsc::unbounded_channel();
            tokio::spawn(async move {
                let outcome = hear(&state, number, &act, request.into_inner(), &answers).await;
                if let Err(status) = outcome {
                    let _ = answers.send(Err(status));
                }
            });
            let stream = futures_util::stream::poll_fn(move |context| given.poll_recv(context));
            Ok(Response::new(Box::pin(stream) as Self::ResponseStream))
        })
    }
}

async fn hear(
    state: &State,
    number: usize,
    act: &Act,
    mut requests: Streaming<StreamingRecognizeRequest>,
    answers: &Answers,
) -> Result<(), Status> {
    let change = |change: &mut dyn FnMut(&mut Seen)| change(&mut state.seen.lock().unwrap()[number]);
    let (mut done, mut told) = (0.0, 0.0);
    while let Some(request) = requests.message().await? {
        match request.streaming_request {
            Some(StreamingRequest::StreamingConfig(config)) => {
                change(&mut |seen| seen.config = config.clone())
            }
            Some(StreamingRequest::AudioContent(bytes)) => change(&mut |seen| {
                seen.audio.extend(bytes.as_chunks().0.iter().map(|pair| i16::from_le_bytes(*pair)));
            }),
            None => return Err(Status::invalid_argument("a request without anything in it")),
        }
        let audio = state.seen.lock().unwrap()[number].audio.clone();
        let length = audio.len() as f64 / RATE;
        match act {
            Act::Hush => continue,
            Act::FailAt(at, code) if length >= *at => return Err(Status::new(*code, "as scripted")),
            Act::FinalThenFail(_, at) if length >= *at => return Err(Status::unavailable("as scripted")),
            Act::FinalThenFail(at, _) if length >= *at && done == 0.0 => {
                answer(state, &audio, (done, *at), true, act, answers).await;
                done = *at;
            }
            _ => {}
        }
        if length - told >= STEP {
            told = length;
            answer(state, &audio, (done, length), false, act, answers).await;
        }
    }
    change(&mut |seen| seen.is_closed = true);
    if *act == Act::Hush {
        return std::future::pending().await;
    }
    let audio = state.seen.lock().unwrap()[number].audio.clone();
    answer(state, &audio, (done, audio.len() as f64 / RATE), true, act, answers).await;
    Ok(())
}

async fn answer(
    state: &State,
    audio: &[i16],
    (from, to): (f64, f64),
    is_final: bool,
    act: &Act,
    answers: &Answers,
) {
    if let Act::Late(delay) = act {
        tokio::time::sleep(*delay).await;
    }
    if *act == Act::Garbage {
        let _ = answers.send(Ok(vec![0xff; 40]));
        return;
    }
    let words: Vec<WordInfo> = state
        .said(audio, from, to)
        .into_iter()
        .map(|(word, start, end)| WordInfo {
            word,
            start_time: (start * 1_000.0).round() as i32,
            end_time: (end * 1_000.0).round() as i32,
            confidence: 0.9,
        })
        .collect();
    let transcript = words.iter().map(|word| word.word.as_str()).collect::<Vec<_>>().join(" ");
    let best = SpeechRecognitionAlternative { transcript, words, ..Default::default() };
    let result = StreamingRecognitionResult {
        alternatives: vec![best],
        is_final,
        stability: if is_final { 0.0 } else { 0.5 },
        audio_processed: to as f32,
    };
    let _ = answers.send(Ok(StreamingRecognizeResponse { results: vec![result] }.encode_to_vec()));
}

impl State {
    /// The words that are said between two times of a stream.
    fn said(&self, audio: &[i16], from: f64, to: f64) -> Vec<ScriptedWord> {
        match &self.knows {
            Knows::ByHeart(words) => {
                words.iter().filter(|(_, start, end)| *start >= from && *end <= to).cloned().collect()
            }
            Knows::Recording(script) => {
                let audio: Vec<f32> = audio.iter().map(|&s| f32::from(s) / 32_768.0).collect();
                let Some(place) = script.place_of(&audio) else { return Vec::new() };
                let words = script.recite(place + from, to - from).into_iter();
                // Such as are not over are marked.
                words
                    .filter(|word| !word.text.ends_with('~'))
                    .map(|word| (word.text, word.start + from, word.end + from))
                    .collect()
            }
        }
    }
}

/// Requests are read, answers are bytes already.
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = StreamingRecognizeRequest;
    type Encoder = RawEncoder;
    type Decoder = <ProstCodec<ConfigResponse, StreamingRecognizeRequest> as Codec>::Decoder;

    fn encoder(&mut self) -> RawEncoder {
        RawEncoder
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<ConfigResponse, StreamingRecognizeRequest>::default().decoder()
    }
}

struct RawEncoder;

impl Encoder for RawEncoder {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        bytes::BufMut::put_slice(to, &item);
        Ok(())
    }
}

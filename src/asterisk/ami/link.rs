//! The connection: made, logged in to, watched, and made anew.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use md5::{Digest as _, Md5};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_rustls::TlsConnector;

use super::action::AmiAction;
use super::client::AmiConfig;
use super::decode::{AmiDecoder, AmiInput};
use super::error::AmiError;
use super::message::AmiMessage;
use crate::asterisk::backoff::Backoff;
use crate::clock;
use crate::telemetry::metric;
use crate::tls::{self, Distrust};

/// Read at once: some fifty events.
const READ: usize = 16 << 10;
/// Of ActionIDs, so that those of other clients of the same user are none of ours.
const PREFIX: &str = "st";
/// Intervals without a word after which the connection is given up; a ping goes out in between.
const SILENT_INTERVALS: u32 = 2;

/// What the connection has to tell.
#[derive(Debug)]
pub enum AmiNotice {
    /// Actions can be sent, and events come. With `first: false` some were missed: compare with what Asterisk has.
    Connected {
        /// The first connection.
        first: bool,
        /// Version of the interface, such as `11.0.0`.
        version: String,
    },
    /// An event of the classes asked for, or one that an action brought about.
    Event(Box<AmiMessage>),
    /// There is no connection until the next `Connected`; attempts go on. Told once an outage, and again when the reason changes.
    Disconnected {
        /// Why.
        reason: AmiError,
    },
}

/// What the connection tells. Dropped, nobody is told, and the connection goes on as long as there is an [`super::AmiClient`].
#[derive(Debug)]
pub struct AmiNotices {
    notices: mpsc::Receiver<AmiNotice>,
    task: JoinHandle<()>,
}

impl AmiNotices {
    /// The next notice; `None` once all clients are gone. Cancel-safe.
    pub async fn next(&mut self) -> Option<AmiNotice> {
        self.notices.recv().await
    }

    /// After the last client was dropped: wait until the connection is closed.
    pub async fn closed(self) {
        let Self { notices, task } = self;
        drop(notices);
        let _ = task.await;
    }
}

/// An action to be sent.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) action: AmiAction,
    pub(super) want: Want,
}

type Reply<T> = oneshot::Sender<Result<T, AmiError>>;

/// What is waited for.
#[derive(Debug)]
pub(super) enum Want {
    Response(Reply<AmiMessage>),
    List(Reply<Vec<AmiMessage>>, Vec<AmiMessage>),
}

impl Want {
    // Whoever waited may have given up meanwhile: nobody is to be told then.
    fn fail(self, error: AmiError) {
        match self {
            Self::Response(reply) => drop(reply.send(Err(error))),
            Self::List(reply, _) => drop(reply.send(Err(error))),
        }
    }

    fn is_given_up(&self) -> bool {
        match self {
            Self::Response(reply) => reply.is_closed(),
            Self::List(reply, _) => reply.is_closed(),
        }
    }
}

struct Pending {
    action: String,
    want: Want,
}

/// Where Asterisk is, and how it is spoken to.
pub(super) struct Endpoint {
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Endpoint {
    pub(super) fn new(config: &AmiConfig) -> Result<Self, AmiError> {
        let bad = |reason: String| AmiError::BadUrl { url: config.url.clone(), reason };
        let url = reqwest::Url::parse(&config.url).map_err(|error| bad(error.to_string()))?;
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| bad("no host".into()))?;
        // An address of IPv6 is in brackets there, and nowhere else.
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let is_tls = match url.scheme() {
            "tcp" => false,
            "tls" => true,
            other => return Err(bad(format!("there is no {other}://"))),
        };
        let port = url.port().unwrap_or(if is_tls { 5_039 } else { 5_038 });
        let tls = if is_tls { Some(tls(config, &host).map_err(bad)?) } else { None };
        Ok(Self { host, port, tls })
    }
}

fn tls(config: &AmiConfig, host: &str) -> Result<(TlsConnector, ServerName<'static>), String> {
    let mut roots = rustls::RootCertStore::empty();
    match &config.tls.ca_file {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(file) => {
            let bad = |error: &dyn std::fmt::Display| format!("`ami.ca_file` {}: {error}", file.display());
            for certificate in CertificateDer::pem_file_iter(file).map_err(|error| bad(&error))? {
                let certificate = certificate.map_err(|error| bad(&error))?;
                roots.add(certificate).map_err(|error| bad(&error))?;
            }
            if roots.is_empty() {
                return Err(bad(&"no certificate in it"));
            }
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
    Ok((TlsConnector::from(Arc::new(client)), name))
}

/// Why TLS did not come about, with the remedy where one is known.
fn refused_by_tls(error: &str) -> String {
    let remedy = match tls::distrust(error) {
        Some(Distrust::Authority) => {
            " (its certificate is signed by nobody known here: name the authority's certificates in `ami.ca_file`)"
        }
        Some(Distrust::Name) => " (`ami.url` must name Asterisk as its certificate does)",
        None => " (TLS: `tlsbindaddr` in manager.conf is another port than `bindaddr`)",
    };
    format!("{error}{remedy}")
}

pub(super) fn keep(config: AmiConfig, endpoint: Endpoint, inbox: mpsc::Receiver<Request>) -> AmiNotices {
    let (tx, notices) = mpsc::channel(config.queue.max(1));
    let task = tokio::spawn(Link { config, endpoint, inbox, tx, next_id: 0 }.run());
    AmiNotices { notices, task }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

struct Link {
    config: AmiConfig,
    endpoint: Endpoint,
    inbox: mpsc::Receiver<Request>,
    tx: mpsc::Sender<AmiNotice>,
    next_id: u64,
}

/// A connection that is logged in.
struct Open {
    stream: Box<dyn Stream>,
    decoder: AmiDecoder,
    version: String,
}

enum End {
    Lost(AmiError),
    Unwanted,
}

impl Link {
    async fn run(mut self) {
        let mut backoff = Backoff::new(self.config.backoff_min, self.config.backoff_max);
        let (mut first, mut told) = (true, None);
        loop {
            let reason = match timeout(self.config.request_timeout, self.open()).await {
                Ok(Ok(open)) => {
                    let since = clock::now();
                    if !first {
                        metric::AMI_RECONNECTS.add(1);
                    }
                    let version = open.version.clone();
                    tracing::debug!(url = self.config.url, version, first, "AMI connection open");
                    let end = match self.tell(AmiNotice::Connected { first, version }) {
                        Ok(()) => self.talk(open).await,
                        Err(end) => end,
                    };
                    (first, told) = (false, None);
                    backoff.connected_for(clock::since(since));
                    match end {
                        End::Lost(reason) => reason,
                        End::Unwanted => return,
                    }
                }
                Ok(Err(error)) => error,
                Err(_) => self.unreachable("no answer in time"),
            };
            tracing::debug!(url = self.config.url, %reason, "no AMI connection");
            if told.as_ref() != Some(&reason) {
                told = Some(reason.clone());
                // Without room nobody takes notices, and this one will not be missed.
                let _ = self.tx.try_send(AmiNotice::Disconnected { reason: reason.clone() });
            }
            // One that is refused is not tried every moment: whoever watches for intruders would shut us out.
            let pause = if matches!(reason, AmiError::Unauthorised { .. }) {
                self.config.backoff_max
            } else {
                backoff.pause()
            };
            if self.refuse_during(pause, &reason).await.is_err() {
                return;
            }
        }
    }

    fn unreachable(&self, reason: &str) -> AmiError {
        AmiError::Unreachable {
            action: "connect".into(),
            url: self.config.url.clone(),
            reason: reason.into(),
        }
    }

    /// Whatever is asked for while there is no connection fails at once. `Err` once nobody can ask any more.
    async fn refuse_during(&mut self, pause: Duration, reason: &AmiError) -> Result<(), ()> {
        let pause = sleep(pause);
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => return Ok(()),
                request = self.inbox.recv() => {
                    let Request { action, want } = request.ok_or(())?;
                    want.fail(match reason {
                        AmiError::Unauthorised { .. } => reason.clone(),
                        AmiError::Unreachable { url, reason, .. } => {
                            AmiError::Unreachable { action: action.name().into(), url: url.clone(), reason: reason.clone() }
                        }
                        other => AmiError::Unreachable {
                            action: action.name().into(),
                            url: self.config.url.clone(),
                            reason: other.to_string(),
                        },
                    });
                }
            }
        }
    }

    async fn open(&self) -> Result<Open, AmiError> {
        let failed = |error: std::io::Error| self.unreachable(&error.to_string());
        let Endpoint { host, port, tls } = &self.endpoint;
        let tcp = TcpStream::connect((host.as_str(), *port)).await.map_err(failed)?;
        // Actions are small, and somebody waits for each.
        tcp.set_nodelay(true).map_err(failed)?;
        let stream: Box<dyn Stream> = match tls {
            None => Box::new(tcp),
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), tcp).await;
                Box::new(stream.map_err(|error| self.unreachable(&refused_by_tls(&error.to_string())))?)
            }
        };
        let mut open = Open { stream, decoder: AmiDecoder::default(), version: String::new() };
        match open.read().await.map_err(|reason| self.unreachable(&reason))? {
            AmiInput::Greeting(version) => open.version = version,
            AmiInput::Message(_) => return Err(self.unreachable("no greeting")),
        }
        self.log_in(&mut open).await?;
        Ok(open)
    }

    async fn log_in(&self, open: &mut Open) -> Result<(), AmiError> {
        let challenge = AmiAction::new("Challenge").with("AuthType", "MD5");
        let response = self.ask(open, &challenge, "challenge").await?;
        let challenge = response.get("Challenge").unwrap_or_default();
        let key = Md5::digest(format!("{challenge}{}", self.config.password));
        let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        let login = AmiAction::new("Login")
            .with("AuthType", "MD5")
            .with("Username", &self.config.user)
            .with("Key", key)
            .with("Events", &self.config.events);
        self.ask(open, &login, "login").await.map(drop)
    }

    /// Before anybody else can ask: events of before the response are none yet.
    async fn ask(&self, open: &mut Open, action: &AmiAction, id: &str) -> Result<AmiMessage, AmiError> {
        let bytes = action.encode(id)?;
        open.stream.write_all(&bytes).await.map_err(|error| self.unreachable(&error.to_string()))?;
        loop {
            let AmiInput::Message(message) = open.read().await.map_err(|reason| self.unreachable(&reason))?
            else {
                continue;
            };
            match message.response() {
                Some("Success") => return Ok(message),
                Some(_) => {
                    let (url, user) = (self.config.url.clone(), self.config.user.clone());
                    return Err(AmiError::Unauthorised { url, user, message: message.message().to_owned() });
                }
                None => {}
            }
        }
    }

    async fn talk(&mut self, mut open: Open) -> End {
        let mut pending = HashMap::new();
        let end = self.serve(&mut open, &mut pending).await;
        for (_, Pending { action, want }) in pending {
            let reason = match &end {
                End::Lost(reason) => reason.to_string(),
                End::Unwanted => "the client is being stopped".into(),
            };
            want.fail(AmiError::Broken { action, reason });
        }
        if matches!(end, End::Unwanted) {
            // In an orderly way, if Asterisk is quick about it; it makes do with less.
            let logoff = AmiAction::new("Logoff").encode("logoff").unwrap_or_default();
            let _ = timeout(self.config.ping_interval, open.stream.write_all(&logoff)).await;
            let _ = timeout(self.config.ping_interval, open.stream.shutdown()).await;
        }
        end
    }

    async fn serve(&mut self, open: &mut Open, pending: &mut HashMap<String, Pending>) -> End {
        let mut ticks = interval(self.config.ping_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.reset();
        let mut silent = 0;
        let mut buffer = vec![0; READ];
        loop {
            tokio::select! {
                // Reading first: Asterisk drops a client that does not take an event within `writetimeout`, 100 ms by default.
                biased;
                read = open.stream.read(&mut buffer) => {
                    silent = 0;
                    match read {
                        Ok(0) => return self.lost("Asterisk closed the connection"),
                        Ok(count) => open.decoder.push(&buffer[..count]),
                        Err(error) => return self.lost(&error.to_string()),
                    }
                    loop {
                        match open.decoder.take() {
                            Ok(Some(AmiInput::Message(message))) => {
                                if let Err(end) = self.take(message, pending) {
                                    return end;
                                }
                            }
                            Ok(Some(AmiInput::Greeting(_))) => {}
                            Ok(None) => break,
                            Err(error) => return self.lost(&error.to_string()),
                        }
                    }
                }
                request = self.inbox.recv() => {
                    let Some(request) = request else { return End::Unwanted };
                    if let Err(end) = self.write(open, request, pending).await {
                        return end;
                    }
                }
                _ = ticks.tick() => {
                    pending.retain(|_, pending| !pending.want.is_given_up());
                    if silent >= SILENT_INTERVALS {
                        return self.lost("not a word from Asterisk, not even in answer to a ping");
                    }
                    silent += 1;
                    let bytes = AmiAction::new("Ping").encode("ping").unwrap_or_default();
                    if let Err(end) = self.put(open, &bytes).await {
                        return end;
                    }
                }
            }
        }
    }

    async fn write(
        &mut self,
        open: &mut Open,
        request: Request,
        pending: &mut HashMap<String, Pending>,
    ) -> Result<(), End> {
        let Request { action, want } = request;
        if want.is_given_up() {
            return Ok(());
        }
        self.next_id += 1;
        let id = format!("{PREFIX}-{}", self.next_id);
        match action.encode(&id) {
            Ok(bytes) => {
                pending.insert(id, Pending { action: action.name().to_owned(), want });
                self.put(open, &bytes).await
            }
            Err(error) => {
                want.fail(error);
                Ok(())
            }
        }
    }

    async fn put(&self, open: &mut Open, bytes: &[u8]) -> Result<(), End> {
        match timeout(self.config.request_timeout, open.stream.write_all(bytes)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.lost(&error.to_string())),
            Err(_) => Err(self.lost("Asterisk takes nothing")),
        }
    }

    fn lost(&self, reason: &str) -> End {
        End::Lost(self.unreachable(reason))
    }

    /// Hand a message to whoever waits for it, and an event to whoever takes events.
    fn take(&self, message: AmiMessage, pending: &mut HashMap<String, Pending>) -> Result<(), End> {
        let id = message.action_id().unwrap_or_default();
        if let Some(waiting) = pending.remove(id) {
            let id = id.to_owned();
            if let Some(still) = waiting.take(&message) {
                pending.insert(id, still);
            }
        }
        if message.event().is_some() { self.tell(AmiNotice::Event(Box::new(message))) } else { Ok(()) }
    }

    fn tell(&self, notice: AmiNotice) -> Result<(), End> {
        match self.tx.try_send(notice) {
            // A closed channel: nobody wants to know.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => {
                Err(self.lost("the event queue overflowed: events were lost, starting over"))
            }
        }
    }
}

impl Pending {
    /// Take in a message with this action's id; gives itself back while there is more to come.
    fn take(self, message: &AmiMessage) -> Option<Self> {
        let Self { action, want } = self;
        let refused =
            message.response().is_some_and(|response| response != "Success" && response != "Goodbye");
        if refused {
            // Of a command that failed, the reason is its output.
            let said: Vec<&str> = message.output().map(str::trim).filter(|line| !line.is_empty()).collect();
            let message = if said.is_empty() { message.message().to_owned() } else { said.join(" ") };
            want.fail(AmiError::Refused { action, message });
            return None;
        }
        let want = match want {
            Want::Response(reply) if message.response().is_some() => {
                let _ = reply.send(Ok(message.clone()));
                return None;
            }
            Want::List(reply, events) if message.ends_list() => {
                let _ = reply.send(Ok(events));
                return None;
            }
            Want::List(reply, events) if message.response().is_some() && !message.starts_list() => {
                // No list at all: an action that has none to give.
                let _ = reply.send(Ok(events));
                return None;
            }
            Want::List(reply, mut events) => {
                if message.event().is_some() {
                    events.push(message.clone());
                }
                Want::List(reply, events)
            }
            other => other,
        };
        Some(Self { action, want })
    }
}

impl Open {
    async fn read(&mut self) -> Result<AmiInput, String> {
        loop {
            if let Some(input) = self.decoder.take().map_err(|error| error.to_string())? {
                return Ok(input);
            }
            let mut buffer = [0; 4_096];
            match self.stream.read(&mut buffer).await {
                Ok(0) => return Err("Asterisk closed the connection".into()),
                Ok(count) => self.decoder.push(&buffer[..count]),
                Err(error) => return Err(error.to_string()),
            }
        }
    }
}

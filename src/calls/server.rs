//! All calls of this node: takes new ones in, hands each what Asterisk says of it, takes up what an earlier process left.

mod greet;
mod reconcile;
mod restart;

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc::unbounded_channel;
use tokio::sync::{oneshot, watch};
use tokio_util::task::TaskTracker;

use crate::asterisk::ari::{AriEvent, AriNotice, CallerId, Channel, EventStream, PROBE_PREFIX};
use crate::asterisk::version::AsteriskVersion;
use crate::clock;
use crate::media::clock::CallClock;
use crate::media::codec::Codec;
use crate::telemetry::metric;

use super::adoption::Orphan;
use super::control::{Audio, CallControl, ControlError, Playback};
use super::detect::Detector;
use super::hub::EventKind;
use super::ids::{CallId, ObjectId, ObjectKind};
use super::machine::{CallConfig, CallMachine, ChannelView, Command, Input};
use super::media::{CallMedia, Resumption};
use super::mode::{CallOptions, Mode};
use super::record::{CallFiles, CallMode, CallRecord, ChannelInfo, Party};
use super::services::Services;
use super::session::{Message, Session, Start};
use super::sweep::Sweeper;
use super::table::CallTable;
use super::translate;
use restart::Left;

/// How the connection to Asterisk stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Connection {
    /// Not yet, or no longer; the reason. Whoever follows the connection tells people.
    Down(String),
    /// Events come, but this Asterisk cannot send what is configured: every call is let go unheard. Why, and the remedy.
    Unfit(String),
    /// Events come, from an Asterisk of this version.
    Up(AsteriskVersion),
}

/// Why [`CallServer::run`] returned.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// It was asked to.
    Stopped,
    /// Another client took the application: we hear of no calls any more.
    Replaced,
}

/// All calls of this node.
pub struct CallServer {
    services: Arc<Services>,
    table: Arc<CallTable>,
    tasks: TaskTracker,
    sweeper: Arc<Sweeper>,
    connection: watch::Sender<Connection>,
    left: Left,
    /// What it left has been compared with Asterisk: calls of its that live are in the table.
    compared: AtomicBool,
    /// What the Manager tells of channels before they come.
    detector: OnceLock<Arc<Detector>>,
}

/// Pause between two attempts to list what Asterisk has.
const LIST_AGAIN: Duration = Duration::from_millis(500);
/// Calls get this long to write their records when the process ends.
const LEAVE_WITHIN: Duration = Duration::from_secs(3);

impl CallServer {
    /// A server without calls. Looks through the data folder: call it where blocking is allowed, within the runtime. What
    /// an earlier process left and no session record claims is mended from now on, whether Asterisk is there or not.
    pub fn new(services: Arc<Services>) -> Self {
        let (left, unclaimed) = Left::find(&services);
        let tasks = TaskTracker::new();
        let sweeper = Arc::new(Sweeper::new(services.ari.clone(), tasks.clone()));
        let mending = services.clone();
        tasks.spawn_blocking(move || unclaimed.mend(&mending));
        Self {
            services,
            table: Arc::default(),
            tasks,
            sweeper,
            connection: watch::Sender::new(Connection::Down("not connected yet".into())),
            left,
            compared: AtomicBool::new(false),
            detector: OnceLock::new(),
        }
    }

    /// Have `detector` say since when channels are there. Once.
    pub fn detect_by(&self, detector: Arc<Detector>) {
        // A second one would be a mistake of the start, and costs nothing.
        let _ = self.detector.set(detector);
    }

    /// How the connection to Asterisk stands, now and as it changes.
    pub fn connection(&self) -> watch::Receiver<Connection> {
        self.connection.subscribe()
    }

    /// Serve until `stop` resolves or the application is taken from us. Running calls are left in Asterisk, for the next
    /// process to go on with; their media is held until the server is dropped, which is to be after
    /// [`Recorder::suspend`](crate::recording::Recorder::suspend).
    pub async fn run(&self, mut events: EventStream, stop: impl Future<Output = ()>) -> End {
        // Also while an Asterisk that does not answer is being compared with.
        let end = tokio::select! {
            () = stop => End::Stopped,
            end = self.follow(&mut events) => end,
        };
        self.let_go_late(&mut events);
        events.close().await;
        tracing::info!(
            calls = self.table.len(),
            "leaving; running calls wait in Asterisk for the next start"
        );
        self.sweeper.stop();
        self.table.broadcast(|| Message::Leave);
        self.tasks.close();
        if tokio::time::timeout(LEAVE_WITHIN, self.tasks.wait()).await.is_err() {
            tracing::warn!(
                calls = self.table.len(),
                "some calls did not stop in time; their records are on disk"
            );
        }
        end
    }

    async fn follow(&self, events: &mut EventStream) -> End {
        loop {
            match events.next().await {
                Some(AriNotice::Replaced) | None => return End::Replaced,
                Some(notice) => self.notice(notice).await,
            }
        }
    }

    /// Channels that came in too late to be heard go on at once: until the next start there is nobody to let them go.
    fn let_go_late(&self, events: &mut EventStream) {
        while let Some(Some(notice)) = events.next().now_or_never() {
            let AriNotice::Event(event) = notice else { continue };
            match self.newcomer(&event) {
                Some((channel, _)) if is_caller(&channel.id) => self.let_go(channel.id.clone()),
                Some(_) => {}
                None => self.event(&event),
            }
        }
    }

    async fn play(&self, call_id: &str, audio: Audio) -> Result<Playback, ControlError> {
        let rate = self.services.spoken().sample_rate();
        // Minutes of audio take the filter a moment.
        let pcm = tokio::task::spawn_blocking(move || audio.at(rate)).await;
        let pcm = pcm.map_err(|_| ControlError::Failed("the audio could not be converted".into()))?;
        let pcm = pcm.map_err(|error| ControlError::NotPossible(error.to_string()))?;
        let (reply, done) = oneshot::channel();
        let duration = rate.duration_of(pcm.len() as u64);
        self.command(call_id, Message::Play { pcm, reply })?;
        let id = done.await.map_err(|_| ControlError::NotLive)?.map_err(ControlError::NotPossible)?;
        Ok(Playback { id, duration })
    }

    async fn stop_playing(&self, call_id: &str) -> Result<(), ControlError> {
        let (reply, done) = oneshot::channel();
        self.command(call_id, Message::StopPlaying { reply })?;
        done.await.map_err(|_| ControlError::NotLive)?.map_err(ControlError::NotPossible)
    }

    async fn pause(&self, call_id: &str, on: bool) -> Result<(), ControlError> {
        let (reply, done) = oneshot::channel();
        self.command(call_id, Message::Pause { on, reply })?;
        done.await.map_err(|_| ControlError::NotLive)?.map_err(ControlError::NotPossible)
    }

    fn command(&self, call_id: &str, message: Message) -> Result<(), ControlError> {
        // Before the table is looked at: a call is there by the time this says so.
        let compared = self.compared.load(Ordering::Acquire);
        if call_id.parse().is_ok_and(|call| self.table.send(&call, message)) {
            return Ok(());
        }
        let known = self.services.directory.get_recent(call_id);
        match !compared && known.is_some_and(|record| !record.is_ended()) {
            true => Err(ControlError::NotTakenUp),
            false => Err(ControlError::NotLive),
        }
    }

    async fn notice(&self, notice: AriNotice) {
        match notice {
            AriNotice::Connected { first } => {
                tracing::debug!(first, "connected to Asterisk");
                self.services
                    .hub
                    .publish_node(EventKind::AriConnected, serde_json::json!({ "first": first }));
                self.sweeper.give_up();
                let version = self.greet().await;
                self.reconcile(first).await;
                self.compared.store(true, Ordering::Release);
                if let Some(version) = version {
                    self.connection.send_replace(Connection::Up(version));
                }
            }
            AriNotice::Disconnected { reason } => {
                tracing::debug!(%reason, "no connection to Asterisk");
                self.sweeper.give_up();
                let body = serde_json::json!({ "reason": reason.to_string() });
                self.services.hub.publish_node(EventKind::AriDisconnected, body);
                self.connection.send_replace(Connection::Down(reason.to_string()));
                self.table.broadcast(|| Message::Machine(Input::Disconnected));
            }
            AriNotice::Event(event) => self.event(&event),
            AriNotice::Replaced => {}
        }
    }

    fn event(&self, raw: &AriEvent) {
        if let Some((channel, args)) = self.newcomer(raw) {
            return self.arrived(channel, args);
        }
        let Some((event, subjects)) = translate::event(raw) else { return };
        let owners: BTreeSet<_> = subjects.iter().filter_map(|id| self.table.owner(id)).collect();
        for call in owners {
            self.table.send(&call, Message::Machine(Input::Event(event.clone())));
        }
    }

    /// The channel, and its arguments, that enters our application with this event and is no call's yet.
    fn newcomer<'a>(&self, raw: &'a AriEvent) -> Option<(&'a Channel, &'a [String])> {
        let AriEvent::StasisStart { channel, args, replace_channel } = raw else { return None };
        let is_known = |channel: &Channel| self.table.owner(&channel.id).is_some();
        (!is_known(channel) && !replace_channel.as_ref().is_some_and(is_known)).then_some((channel, args))
    }

    /// A channel that is nobody's yet entered our application.
    fn arrived(&self, channel: &Channel, args: &[String]) {
        if channel.id.starts_with(PROBE_PREFIX) {
            return;
        }
        if self.services.node.owns(&channel.id) {
            let reason = "it entered the application, but its call is over".to_owned();
            self.sweeper.remove(vec![Orphan { id: channel.id.clone(), kind: ObjectKind::Channel, reason }]);
            return;
        }
        if ObjectId::parse(&channel.id).is_some() {
            // Another node's, by a name of the application shared against advice.
            tracing::warn!(
                channel = channel.id,
                "a leg of another node's entered our application: ari.app must be its own"
            );
            return;
        }
        self.begin(translate::view(channel), info(channel), args);
    }

    fn begin(&self, view: ChannelView, channel: ChannelInfo, args: &[String]) {
        let call = CallId::from_uuid(uuid::Uuid::now_v7());
        let now = clock::now();
        let started_at_nanos = clock::realtime_nanos();
        let parsed = CallOptions::parse(args);
        let unfit = match &*self.connection.borrow() {
            Connection::Unfit(reason) => Some(reason.clone()),
            _ => None,
        };
        let refused = match &parsed {
            Err(error) => {
                Some(format!("Stasis({},{}): {error}", self.services.settings.ari.app, args.join(",")))
            }
            Ok(_) if self.table.len() >= self.services.settings.calls.max => {
                Some(format!("calls.max is reached: {} calls run", self.services.settings.calls.max))
            }
            Ok(_) if self.services.is_overloaded() => {
                Some("speech to text has more to do than it can, and speech.refuse_calls is set".into())
            }
            Ok(_) => unfit,
        };
        let options = parsed.unwrap_or_else(|_| CallOptions::new(Mode::Tap));
        let tenant = options.tenant.clone().unwrap_or_else(|| self.services.settings.calls.tenant.clone());
        let codec = self.services.codec;
        let clock = Arc::new(CallClock::new(now, codec.sample_rate(), 2));
        let resume = [Resumption::default(), Resumption::default()];
        let media = match refused {
            Some(_) => None,
            // Without a port to take up there is none to be missing.
            None => CallMedia::prepare(&self.services, options.mode, codec, clock, &resume).ok(),
        };
        let cfg = self.config(&call, options.mode, codec, media.as_ref());
        let Ok(files) = CallFiles::new(
            self.services.directory.data(),
            &tenant,
            timestamp(started_at_nanos),
            call.as_str(),
        ) else {
            tracing::error!(%call, tenant, "not a name that files can have");
            return self.let_go(view.id);
        };
        let mut record =
            CallRecord::new(call.as_str(), &tenant, call_mode(options.mode), timestamp(started_at_nanos));
        record.label = options.label.clone();
        record.channel = channel;
        record.detected_at = self.detector.get().and_then(|detector| detector.enters(&view.id));
        let machine = match refused {
            Some(reason) => {
                tracing::warn!(%call, channel = view.name, reason, "call not taken");
                CallMachine::rejected(cfg, view.clone(), reason, now)
            }
            None => CallMachine::new(cfg, view.clone(), now),
        };
        let record_it = options.record.unwrap_or(self.services.settings.calls.record);
        let start = Start {
            machine,
            media,
            resume,
            options,
            codec,
            record: record_it,
            paused: false,
            tenant,
            files,
            started_at_nanos,
            adopted: false,
        };
        self.spawn(view.id, record, start);
    }

    fn config(&self, call: &CallId, mode: Mode, codec: Codec, media: Option<&CallMedia>) -> CallConfig {
        let ports = media.map(CallMedia::ports).unwrap_or_default();
        CallConfig {
            call: call.clone(),
            node: self.services.node.clone(),
            mode,
            format: codec.name().to_owned(),
            external_host: ports.map(|port| self.services.told_to_asterisk(port)),
            voice: media.and_then(|media| media.voice.as_ref()).map(|voice| voice.config(&self.services)),
            timing: self.services.timing(),
        }
    }

    fn spawn(&self, channel: String, record: CallRecord, start: Start) {
        let (tx, inbox) = unbounded_channel();
        let call = start.machine.call().clone();
        self.table.insert(call.clone(), channel, tx.clone());
        metric::CALLS_ACTIVE.add(1.0);
        let (services, table, sweeper) = (self.services.clone(), self.table.clone(), self.sweeper.clone());
        self.tasks.spawn(async move {
            let session = Session::new(services.clone(), table.clone(), sweeper, start, record, tx, inbox);
            let done = AssertUnwindSafe(session.run()).catch_unwind().await;
            metric::CALLS_ACTIVE.add(-1.0);
            let channel = table.forget(&call);
            if let (Err(_), Some(channel)) = (done, channel) {
                // The panic itself is in the log. What is left of the call goes with the sweep after the next connect.
                tracing::error!(%call, channel, "a call's task broke off: its channel goes on unheard");
                if let Err(error) = services.ari.continue_in_dialplan(&channel).await {
                    tracing::warn!(channel, %error, "it was not held");
                }
            }
        });
    }

    fn let_go(&self, channel: String) {
        let ari = self.services.ari.clone();
        self.tasks.spawn(async move {
            tracing::warn!(channel, "a channel waited in our application for nobody: it goes on");
            if let Err(error) = ari.continue_in_dialplan(&channel).await {
                tracing::warn!(channel, %error, "it could not");
            }
        });
    }
}

impl CallControl for CallServer {
    fn hangup<'a>(&'a self, call_id: &'a str) -> BoxFuture<'a, Result<(), ControlError>> {
        let message = Message::Machine(Input::Command(Command::Hangup));
        Box::pin(std::future::ready(self.command(call_id, message)))
    }

    fn pause_recording<'a>(&'a self, call_id: &'a str) -> BoxFuture<'a, Result<(), ControlError>> {
        Box::pin(self.pause(call_id, true))
    }

    fn resume_recording<'a>(&'a self, call_id: &'a str) -> BoxFuture<'a, Result<(), ControlError>> {
        Box::pin(self.pause(call_id, false))
    }

    fn play<'a>(&'a self, call_id: &'a str, audio: Audio) -> BoxFuture<'a, Result<Playback, ControlError>> {
        Box::pin(self.play(call_id, audio))
    }

    fn stop_playing<'a>(&'a self, call_id: &'a str) -> BoxFuture<'a, Result<(), ControlError>> {
        Box::pin(self.stop_playing(call_id))
    }

    fn forget<'a>(&'a self, call_id: &'a str) -> BoxFuture<'a, ()> {
        let (services, call) = (self.services.clone(), call_id.to_owned());
        Box::pin(async move {
            // It only waits: a fault in it is in the log.
            let _ = tokio::task::spawn_blocking(move || services.catch_up.forget(&call)).await;
        })
    }
}

/// Neither a leg of any node's nor a channel of `sidetone check`.
fn is_caller(id: &str) -> bool {
    !id.starts_with(PROBE_PREFIX) && ObjectId::parse(id).is_none()
}

fn timestamp(realtime_nanos: u64) -> jiff::Timestamp {
    jiff::Timestamp::from_nanosecond(i128::from(realtime_nanos)).unwrap_or_default()
}

fn call_mode(mode: Mode) -> CallMode {
    match mode {
        Mode::Answer => CallMode::Answer,
        Mode::Tap => CallMode::Tap,
    }
}

fn info(channel: &Channel) -> ChannelInfo {
    let party = |id: &CallerId| Party { name: id.name.clone(), number: id.number.clone() };
    ChannelInfo {
        id: channel.id.clone(),
        name: channel.name.clone(),
        caller: party(&channel.caller),
        connected: party(&channel.connected),
        context: channel.dialplan.context.clone(),
        exten: channel.dialplan.exten.clone(),
    }
}

/// A channel as far as events and listings of a call's tell of it.
pub(super) fn info_of(view: &ChannelView) -> ChannelInfo {
    ChannelInfo {
        id: view.id.clone(),
        name: view.name.clone(),
        caller: Party { name: view.caller_name.clone(), number: view.caller_number.clone() },
        exten: view.dialled.clone(),
        ..ChannelInfo::default()
    }
}

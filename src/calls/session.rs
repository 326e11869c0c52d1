//! One call's task: feeds its machine, carries out what it says, and keeps its media, its events and its record.

mod end;
mod keep;
mod play;
mod tell;
mod unheard;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::clock;
use crate::media::clock::CallClock;
use crate::media::codec::Codec;
use crate::media::leg::Leg;
use crate::media::report::{LegEvent, LegStats, Segment};
use crate::media::time::MediaInstant;
use crate::net::plane::LegSink;
use crate::speech::TranscriptEvent;

use super::adoption::Orphan;
use super::catch_up::owed::OwedCall;
use super::finish::Heard;
use super::ids::{CallId, ObjectId};
use super::machine::{Action, CallMachine, Input, MediaEnd, Outcome, Phase, Request};
use super::media::{CallMedia, Resumption};
use super::mode::{CallOptions, Mode};
use super::record::{CallFiles, CallRecord, CallState, FileStatus};
use super::services::Services;
use super::speech::SpeechPlan;
use super::sweep::Sweeper;
use super::table::CallTable;
use super::translate;
use keep::COUNT_EVERY;

/// What reaches a call's task.
#[derive(Debug)]
pub(super) enum Message {
    /// For the machine.
    Machine(Input),
    /// Something happened on a leg.
    Leg(Leg, LegEvent),
    /// Someone spoke.
    Transcript(TranscriptEvent),
    /// The recording broke.
    RecordingFailed(String),
    /// Mark silence in the recording, or stop doing so.
    Pause {
        /// Silence from now on, or audio again.
        on: bool,
        /// How that went.
        reply: oneshot::Sender<Result<(), String>>,
    },
    /// Play to the caller.
    Play {
        /// At the rate of the voice.
        pcm: Vec<i16>,
        /// Its number, or why not.
        reply: oneshot::Sender<Result<u64, String>>,
    },
    /// Play nothing more of what there is to play.
    StopPlaying {
        /// Or why not.
        reply: oneshot::Sender<Result<(), String>>,
    },
    /// The process ends: write the record and leave the call in Asterisk to the next one.
    Leave,
}

/// What a session is made with.
pub(super) struct Start {
    pub(super) machine: CallMachine,
    pub(super) media: Option<CallMedia>,
    pub(super) resume: [Resumption; 2],
    pub(super) options: CallOptions,
    /// Of both legs.
    pub(super) codec: Codec,
    /// There is to be a recording.
    pub(super) record: bool,
    /// It is paused.
    pub(super) paused: bool,
    pub(super) tenant: String,
    pub(super) files: CallFiles,
    pub(super) started_at_nanos: u64,
    /// Not the first process to have this call.
    pub(super) adopted: bool,
}

pub(super) struct Session {
    services: Arc<Services>,
    table: Arc<CallTable>,
    sweeper: Arc<Sweeper>,
    machine: CallMachine,
    call: CallId,
    /// Until it is in the directory.
    record: Option<CallRecord>,
    adopted: bool,
    media: Option<CallMedia>,
    ports: [u16; 2],
    /// Of its media, also when that is over; none without media.
    clock: Option<Arc<CallClock>>,
    /// The recording's final path, if there is to be one.
    recording: Option<PathBuf>,
    options: CallOptions,
    codec: Codec,
    tenant: String,
    files: CallFiles,
    started_at_nanos: u64,
    begun: MediaInstant,
    segments: [Option<Segment>; 2],
    /// As counted last, for a process that takes the call up.
    counts: [Option<LegStats>; 2],
    count_at: MediaInstant,
    /// Numbers of the first utterances that this process is to hear.
    next_utterance: [u64; 2],
    /// Whether each leg was heard or failed; `None`: still being made.
    legs_heard: [Option<bool>; 2],
    setting_up: bool,
    /// Legs for which nothing of use has come since they were attached: datagrams that were of none.
    unheard: [Option<u64>; 2],
    /// Silence is recorded.
    paused: bool,
    outcome: Option<Outcome>,
    ended: Option<Map<String, Value>>,
    finishing: Option<tokio::task::JoinHandle<Heard>>,
    /// What was said in words, and what is not; known once the media is finished.
    heard: Heard,
    /// What processes before this one owe of it.
    owed_before: Option<OwedCall>,
    /// Something that a process before this one heard has no words, and nothing to take them from.
    lacks_before: bool,
    recording_broken: Option<String>,
    /// Everything is told and written.
    closed: bool,
    tx: UnboundedSender<Message>,
    inbox: UnboundedReceiver<Message>,
    /// Why nothing can be played to the caller.
    voice_broken: Option<String>,
    /// When to look after what is played.
    play_at: Option<MediaInstant>,
    /// When to write the record again: the origin is decided a little after the first packet.
    save_at: Option<MediaInstant>,
}

/// The origin is decided 250 ms after the first anchor at the latest.
const SAVE_AFTER_ANCHOR: Duration = Duration::from_millis(300);

impl Session {
    pub(super) fn new(
        services: Arc<Services>,
        table: Arc<CallTable>,
        sweeper: Arc<Sweeper>,
        start: Start,
        record: CallRecord,
        tx: UnboundedSender<Message>,
        inbox: UnboundedReceiver<Message>,
    ) -> Self {
        let call = start.machine.call().clone();
        let recording = (start.record && start.media.is_some()).then(|| start.files.recording());
        Self {
            clock: start.media.as_ref().map(|media| media.clock().clone()),
            recording,
            call,
            adopted: start.adopted,
            ports: start.media.as_ref().map(CallMedia::ports).unwrap_or_default(),
            media: start.media,
            machine: start.machine,
            counts: start.resume.each_ref().map(|r| r.resumed.as_ref().and_then(|r| r.counts.clone())),
            segments: start.resume.map(|r| r.segment),
            next_utterance: [1; 2],
            options: start.options,
            codec: start.codec,
            tenant: start.tenant,
            files: start.files,
            started_at_nanos: start.started_at_nanos,
            begun: clock::now(),
            count_at: clock::now() + COUNT_EVERY,
            legs_heard: [None; 2],
            unheard: [None; 2],
            paused: start.paused,
            setting_up: record.state == CallState::SettingUp,
            record: Some(record),
            outcome: None,
            ended: None,
            finishing: None,
            heard: Heard::default(),
            owed_before: None,
            lacks_before: false,
            recording_broken: None,
            closed: false,
            save_at: None,
            voice_broken: None,
            play_at: None,
            services,
            table,
            sweeper,
            tx,
            inbox,
        }
    }

    /// Until the call is over in Asterisk and its files are complete.
    pub(super) async fn run(mut self) {
        if self.adopted {
            // Its packets are on their way: every millisecond without a route is audio held back, or lost.
            self.attach_adopted();
        }
        self.open_events();
        self.open_media();
        self.save();
        self.drain().await;
        while !self.is_over() {
            let now = clock::now();
            let count_at = self.media.as_ref().map(|_| self.count_at);
            let due = [self.machine.next_deadline(), self.save_at, self.play_at, count_at];
            let due = due.into_iter().flatten().min();
            let wait = due.map(|at| at.saturating_since(now));
            tokio::select! {
                message = self.inbox.recv() => match message {
                    Some(Message::Leave) if self.leave().await => break,
                    None => break,
                    Some(Message::Pause { on, reply }) => self.pause(on, reply).await,
                    Some(message) => self.take(message),
                },
                () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => self.time_passed().await,
                done = async { self.finishing.as_mut().expect("polled only if it is there").await },
                    if self.finishing.is_some() => self.finished(done),
            }
            self.drain().await;
            self.feed();
        }
    }

    /// The process ends. A call that is still heard is left to the next one: true. Of one that is over, the files are
    /// finished first.
    async fn leave(&mut self) -> bool {
        if self.media.is_none() {
            return false;
        }
        self.count().await;
        self.interrupt_playing();
        // Its legs and its recording go on until the recorder has stopped.
        self.table.keep(self.media.take());
        if self.options.mode == Mode::Tap && self.machine.phase() == Phase::Setup {
            // Nobody would let it go before the next start.
            let channel = &self.machine.channel().id;
            if let Err(error) = self.services.ari.continue_in_dialplan(channel).await {
                tracing::warn!(call = %self.call, channel, %error, "it could not go on");
            }
        }
        true
    }

    /// The recording and the listeners.
    fn open_media(&mut self) {
        let (record, transcribe) = (self.recording.clone(), self.transcribe());
        let plan = self.speech_plan();
        let Some(media) = &mut self.media else { return };
        let call = self.call.as_str();
        let is_recorded = record.is_some();
        if let Some(path) = record {
            let tx = self.tx.clone();
            let failed = move |error: crate::recording::RecordingError| {
                let _ = tx.send(Message::RecordingFailed(error.to_string()));
            };
            let resume = self.adopted.then_some(self.paused);
            media.record(&self.services, call, path, resume, failed);
        }
        if transcribe && is_recorded && !self.services.settings.speech.live {
            media.postpone();
        } else if transcribe {
            let tx = self.tx.clone();
            let sink: Arc<dyn Fn(TranscriptEvent) + Send + Sync> = Arc::new(move |event| {
                let _ = tx.send(Message::Transcript(event));
            });
            media.transcribe(&self.services, call, &plan, self.next_utterance, &sink);
        }
    }

    fn transcribe(&self) -> bool {
        let wanted = self.options.transcribe.unwrap_or(self.services.settings.calls.transcribe);
        wanted && self.services.speech.is_some() && self.media.is_some()
    }

    fn speech_plan(&self) -> SpeechPlan {
        self.services.speech_plan(&self.tenant, &self.options)
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Machine(input) => self.machine.handle(clock::now(), input),
            Message::Leg(leg, event) => self.leg_event(leg, event),
            Message::Transcript(event) => self.spoken(&event),
            Message::RecordingFailed(error) => self.recording_failed(error),
            Message::Play { pcm, reply } => drop(reply.send(self.play(pcm))),
            Message::StopPlaying { reply } => drop(reply.send(self.stop_playing())),
            // Handled where it can be waited for.
            Message::Pause { .. } | Message::Leave => {}
        }
    }

    async fn pause(&mut self, on: bool, reply: oneshot::Sender<Result<(), String>>) {
        let done = match (&mut self.media, &self.recording_broken) {
            (Some(_), Some(error)) => Err(format!("the recording has failed: {error}")),
            (Some(media), None) => media.pause(on).await,
            (None, _) => Err("the call is over".into()),
        };
        if done.is_ok() {
            self.paused = on;
            self.save();
            let status = if on { FileStatus::Paused } else { FileStatus::Open };
            self.update(|record| record.recording.status = status);
        }
        // Who asked may have gone.
        let _ = reply.send(done);
    }

    async fn time_passed(&mut self) {
        let now = clock::now();
        if self.count_at <= now {
            self.count().await;
        }
        if self.save_at.is_some_and(|at| at <= now) {
            self.save_at = None;
            self.save();
        }
        if self.machine.next_deadline().is_some_and(|at| at <= now) {
            self.machine.handle_timeout(now);
        }
    }

    async fn drain(&mut self) {
        while let Some(action) = self.machine.poll_action() {
            match action {
                Action::Claim { channel } => self.table.claim(channel, &self.call),
                Action::Request { op, request } => {
                    let stream = match &request {
                        Request::ExternalMedia { id, .. } => self.announce(id),
                        _ => None,
                    };
                    let (services, tx) = (self.services.clone(), self.tx.clone());
                    tokio::spawn(async move {
                        let kind = services.stream_kind(stream);
                        let reply = translate::carry_out(&services.ari, &request, kind).await;
                        tracing::debug!(?request, ?reply, "ARI");
                        // The task may be over: then nobody needs the reply.
                        let _ = tx.send(Message::Machine(Input::Reply { op, reply }));
                    });
                }
                Action::AttachMedia { leg, source } => {
                    let sink = self.sink(leg);
                    let done = match &mut self.media {
                        Some(media) => media.attach(&self.services, leg, source, sink),
                        None => Err("the call's media is over".into()),
                    };
                    self.confirm(leg, done);
                }
                Action::MoveMedia { leg, source } => {
                    let done = match &mut self.media {
                        Some(media) => media.move_to(&self.services, leg, source),
                        None => Err("the call's media is over".into()),
                    };
                    self.confirm(leg, done);
                }
                Action::AttachVoice { source } => {
                    let input = match self.attach_voice(source) {
                        Ok(()) => Input::VoiceAttached,
                        Err(reason) => Input::VoiceRefused { reason },
                    };
                    self.machine.handle(clock::now(), input);
                }
                Action::VoiceFailed { reason } => self.voice_failed(&reason),
                Action::StopMedia { end } => self.stop_media(end),
                Action::Emit(event) => self.emit(event),
                Action::Save => self.save(),
                Action::Finished { outcome, left_behind } => {
                    self.leave_behind(&left_behind);
                    self.outcome = Some(outcome);
                    // Its files may take a while yet. Whatever Asterisk says of its ids now is news to nobody here: a
                    // late leg is an orphan, and the channel, should it come in again, another call.
                    self.table.forget(&self.call);
                    // A rejected call gets no StopMedia.
                    self.stop_media(MediaEnd::At(clock::now()));
                }
            }
        }
    }

    /// Let the connection of the leg that `id` is for come in, and name it.
    fn announce(&mut self, id: &ObjectId) -> Option<Uuid> {
        let media = self.media.as_mut()?;
        let announced = match id.role.leg() {
            Some(leg) => media.announce(&self.services, leg),
            None => media.voice.as_mut()?.announce(&self.services),
        };
        // Without it Asterisk's connection is refused, and the attempt fails with a reason.
        announced
            .inspect_err(|error| tracing::error!(call = %self.call, %error, "a leg has no way in"))
            .ok()?
    }

    fn leave_behind(&self, objects: &[ObjectId]) {
        let orphan = |object: &ObjectId| Orphan {
            id: object.to_string(),
            kind: object.role.kind(),
            reason: "its call is over and could not remove it".into(),
        };
        self.sweeper.remove(objects.iter().map(orphan).collect());
    }

    fn confirm(&mut self, leg: Leg, done: Result<(), String>) {
        let input = match done {
            Ok(()) => Input::MediaAttached { leg },
            Err(reason) => Input::MediaRefused { leg, reason },
        };
        self.machine.handle(clock::now(), input);
    }

    fn sink(&self, leg: Leg) -> LegSink {
        let tx = self.tx.clone();
        Arc::new(move |event| {
            let _ = tx.send(Message::Leg(leg, event));
        })
    }

    /// The legs of an adopted call never stopped: receive them before anything else.
    fn attach_adopted(&mut self) {
        for leg in Leg::BOTH.into_iter().filter(|leg| self.segments[leg.index()].is_some()) {
            self.machine.handle(clock::now(), Input::MediaHeard { leg });
        }
        for (leg, source) in Leg::BOTH.into_iter().zip(self.machine.wired_sources()) {
            let sink = self.sink(leg);
            let (Some(source), Some(media)) = (source, &mut self.media) else { continue };
            let done = media.attach(&self.services, leg, source, sink);
            self.legs_heard[leg.index()] = done.is_ok().then_some(true);
            self.confirm(leg, done);
        }
    }
}

//! The media of one call: two legs on one clock, the recording and the listeners that read them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::media::clock::CallClock;
use crate::media::codec::Codec;
use crate::media::leg::Leg;
use crate::media::pace::{FRAME, playout};
use crate::media::receiver::{LegConfig, LegReceiver};
use crate::media::report::{LegStats, Segment};
use crate::media::ring::Ring;
use crate::media::stream::{StreamConfig, StreamReceiver};
use crate::media::time::MediaInstant;
use crate::net::plane::{LegHandle, LegSink, Refused, Seat};
use crate::net::stream::{StreamError, StreamLeg};
use crate::recording::{Finished, RecordingError, RecordingHandle, RecordingSpec};
use crate::speech::{FinishReport, LegAudio, LegListener, OwedSpan, TranscriptEvent};

use super::catch_up::owed::Owed;
use super::finish::Heard;
use super::machine::MediaSource;
use super::mode::Mode;
use super::services::Services;
use super::speech::SpeechPlan;
use super::transport::{Transport, Ways};
use super::voice::CallVoice;

/// Where a leg's receiver is.
enum Reception {
    /// Nobody knows yet where its packets come from.
    Waiting(Box<LegReceiver>),
    /// On its shard.
    Attached(LegHandle),
    /// Its connection is not made yet.
    WaitingStream(Box<StreamReceiver>),
    /// In the task of its connection.
    Streaming(StreamLeg),
    /// Being changed over, or finished.
    Gone,
}

struct LegMedia {
    seat: Option<Seat>,
    ways: Ways,
    codec: Codec,
    /// 0 without a port of its own.
    port: u16,
    reception: Reception,
    ring: Arc<Ring>,
    resumed: Option<Resumed>,
}

/// The media of one call.
pub(super) struct CallMedia {
    clock: Arc<CallClock>,
    legs: [LegMedia; 2],
    recording: Recording,
    listeners: Vec<LegListener>,
    /// Nobody listens: all of it is owed.
    postponed: bool,
    /// Of a call that is answered.
    pub(super) voice: Option<CallVoice>,
}

/// How far a call's recording is.
enum Recording {
    /// There is to be none.
    Off,
    /// Its file is being made.
    Opening(JoinHandle<Result<RecordingHandle, RecordingError>>),
    /// It runs.
    Open(RecordingHandle),
    /// It never began.
    Failed(RecordingError),
}

impl Recording {
    /// Whether there is to be one.
    fn is_on(&self) -> bool {
        !matches!(self, Self::Off)
    }

    /// Wait until it runs or has failed.
    async fn settled(self) -> Self {
        let Self::Opening(task) = self else { return self };
        match task.await {
            Ok(Ok(handle)) => Self::Open(handle),
            Ok(Err(error)) => Self::Failed(error),
            // The task only calls `begin`, and is never cancelled: it panicked.
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }
}

/// What is left when the media of a call is over.
pub(super) struct MediaResult {
    pub(super) stats: [LegStats; 2],
    /// `None`: there was to be no recording.
    pub(super) recording: Option<Result<Finished, RecordingError>>,
    /// What there is in words.
    pub(super) heard: Heard,
}

/// What a leg takes up after a restart.
#[derive(Clone, Default)]
pub(super) struct Resumption {
    pub(super) segment: Option<Segment>,
    pub(super) port: Option<u16>,
    pub(super) resumed: Option<Resumed>,
}

/// A leg was received before a restart; what had been counted of it, where that was kept.
#[derive(Clone)]
pub(super) struct Resumed {
    pub(super) counts: Option<LegStats>,
}

/// A leg's port is not among those bound now: its RTP cannot reach us.
#[derive(Debug, thiserror::Error)]
#[error("the {} leg's RTP goes to port {port}, which is not bound any more (rtp.bind, rtp.shards)", .leg.name())]
pub(super) struct PortGone {
    leg: Leg,
    port: u16,
}

impl CallMedia {
    /// Seats (of RTP) and receivers for both legs, on `clock`, whose rate is that of `codec`, and a voice for a call that is answered.
    pub(super) fn prepare(
        services: &Services,
        mode: Mode,
        codec: Codec,
        clock: Arc<CallClock>,
        resume: &[Resumption; 2],
    ) -> Result<Self, PortGone> {
        let leg = |leg: Leg| {
            let resume = &resume[leg.index()];
            if services.transport != Transport::Rtp {
                return Ok(stream_leg(services, codec, &clock, resume));
            }
            let seat = match resume.port {
                Some(port) => services.plane.seat_on(port).ok_or(PortGone { leg, port })?,
                None => services.plane.seat(),
            };
            let mut config = LegConfig::new(codec, clock.clone());
            config.ring_slots = services.ring_slots();
            config.repair_window = Duration::from_millis(services.settings.rtp.repair_ms);
            config.live_lag = Duration::from_millis(services.settings.rtp.live_lag_ms);
            config.conceal = services.settings.rtp.conceal;
            config.stall_after = Duration::from_millis(services.settings.rtp.stall_ms);
            config.resume = resume.segment.clone();
            let (receiver, ring) = LegReceiver::new(config);
            let port = seat.port();
            let reception = Reception::Waiting(Box::new(receiver));
            let (seat, resumed) = (Some(seat), resume.resumed.clone());
            Ok(LegMedia { seat, ways: Ways::default(), codec, port, reception, ring, resumed })
        };
        let legs = [leg(Leg::Caller)?, leg(Leg::Callee)?];
        let voice = (mode == Mode::Answer).then(|| CallVoice::new(services));
        Ok(Self { clock, legs, recording: Recording::Off, listeners: Vec::new(), postponed: false, voice })
    }

    pub(super) fn clock(&self) -> &Arc<CallClock> {
        &self.clock
    }

    /// The ports the legs are received on, caller first.
    pub(super) fn ports(&self) -> [u16; 2] {
        [self.legs[0].port, self.legs[1].port]
    }

    /// What is counted of the legs by now, before a restart and after it.
    pub(super) async fn counts(&mut self) -> [LegStats; 2] {
        let [caller, callee] = &mut self.legs;
        tokio::join!(caller.counts(), callee.counts()).into()
    }

    /// Begin the recording, off this task: a slow disk delays nothing, the rings hold what comes meanwhile. `resume`: go on
    /// with the file of an earlier process, paused or not.
    pub(super) fn record(
        &mut self,
        services: &Arc<Services>,
        call_id: &str,
        path: PathBuf,
        resume: Option<bool>,
        on_failure: impl Fn(RecordingError) + Send + Sync + 'static,
    ) {
        let spec = RecordingSpec {
            call_id: call_id.to_owned(),
            path,
            clock: self.clock.clone(),
            legs: [Some(self.legs[0].ring.clone()), Some(self.legs[1].ring.clone())],
            resume: resume.is_some(),
            on_failure: Arc::new(on_failure),
        };
        let (services, failed) = (services.clone(), spec.on_failure.clone());
        self.recording = Recording::Opening(tokio::task::spawn_blocking(move || {
            let start = spec.clock.start();
            // Told at once, not when the call is over.
            let handle = services.recorder.begin(spec).inspect_err(|error| failed(error.clone()))?;
            if resume == Some(true) {
                handle.pause_from(start);
            }
            Ok(handle)
        }));
    }

    /// Have both legs transcribed, each with its utterances numbered from `next_utterance`.
    pub(super) fn transcribe(
        &mut self,
        services: &Services,
        call_id: &str,
        plan: &SpeechPlan,
        next_utterance: [u64; 2],
        sink: &Arc<dyn Fn(TranscriptEvent) + Send + Sync>,
    ) {
        let Some(engine) = &services.speech else { return };
        for leg in Leg::BOTH {
            let audio = LegAudio {
                call_id: call_id.to_owned(),
                leg,
                ring: self.legs[leg.index()].ring.clone(),
                clock: self.clock.clone(),
                language: plan.language.clone(),
                live_lag: Duration::from_millis(services.settings.rtp.live_lag_ms),
                first_utterance: next_utterance[leg.index()],
                vocabulary: plan.vocabulary.clone(),
                service: plan.service.clone(),
                caught_up: self.recording.is_on(),
                pushed: None,
            };
            self.listeners.push(engine.listen(audio, sink.clone()));
        }
    }

    /// Have nobody listen: all is put into words later, from the recording.
    pub(super) fn postpone(&mut self) {
        self.postponed = true;
    }

    /// Write silence from now on, or audio again.
    ///
    /// # Errors
    /// There is no recording; why.
    pub(super) async fn pause(&mut self, on: bool) -> Result<(), String> {
        self.recording = std::mem::replace(&mut self.recording, Recording::Off).settled().await;
        match &self.recording {
            Recording::Open(handle) if on => handle.pause(),
            Recording::Open(handle) => handle.resume(),
            Recording::Failed(error) => return Err(error.to_string()),
            Recording::Off | Recording::Opening(_) => return Err("the call is not recorded".into()),
        }
        Ok(())
    }

    /// Asterisk is about to be asked for `leg`: let its connection in, where Asterisk makes one, and name it.
    pub(super) fn announce(&mut self, services: &Services, leg: Leg) -> Result<Option<Uuid>, StreamError> {
        self.legs[leg.index()].ways.announce(services)
    }

    /// Receive `leg` from `source`, for the first time. What is refused may be tried again, with another sender.
    pub(super) fn attach(
        &mut self,
        services: &Services,
        leg: Leg,
        source: MediaSource,
        sink: LegSink,
    ) -> Result<(), String> {
        let source = match source {
            MediaSource::Rtp(source) => source,
            MediaSource::Stream(id) => return self.attach_stream(services, leg, id, sink),
        };
        let media = &mut self.legs[leg.index()];
        match (std::mem::replace(&mut media.reception, Reception::Gone), media.seat.take()) {
            (Reception::Waiting(receiver), Some(seat)) => match seat.attach(source, receiver, sink) {
                Ok(handle) => {
                    media.reception = Reception::Attached(handle);
                    Ok(())
                }
                Err(Refused { error, seat, receiver }) => {
                    (media.reception, media.seat) = (Reception::Waiting(receiver), Some(seat));
                    Err(error.to_string())
                }
            },
            (reception, seat) => {
                media.reception = reception;
                media.seat = seat;
                Err("the leg is received already".into())
            }
        }
    }

    fn attach_stream(
        &mut self,
        services: &Services,
        leg: Leg,
        id: Uuid,
        sink: LegSink,
    ) -> Result<(), String> {
        let media = &mut self.legs[leg.index()];
        let way = media.ways.take(services, id)?;
        match std::mem::replace(&mut media.reception, Reception::Gone) {
            Reception::WaitingStream(receiver) => {
                // Nothing is ever said to a snoop, but Asterisk is to be sent something all the same.
                let (_, pacer) = playout(media.codec.sample_rate(), FRAME);
                media.reception =
                    Reception::Streaming(StreamLeg::attach(way, receiver, media.codec, pacer, sink));
                Ok(())
            }
            reception => {
                media.reception = reception;
                Err("the leg is received already, or not over TCP".into())
            }
        }
    }

    /// Receive `leg` from `source` from now on.
    pub(super) fn move_to(
        &mut self,
        services: &Services,
        leg: Leg,
        source: MediaSource,
    ) -> Result<(), String> {
        if let MediaSource::Stream(id) = source {
            let media = &mut self.legs[leg.index()];
            let way = media.ways.take(services, id)?;
            return match &media.reception {
                Reception::Streaming(handle) => {
                    handle.move_to(way);
                    Ok(())
                }
                _ => Err("the leg is not received over TCP".into()),
            };
        }
        match (&mut self.legs[leg.index()].reception, source) {
            (Reception::Attached(handle), MediaSource::Rtp(source)) => {
                handle.move_to(source).map_err(|e| e.to_string())
            }
            _ => Err("the leg is not received".into()),
        }
    }

    /// The media is over at `end`: legs, then listeners and recording, to their last sample.
    pub(super) async fn finish(self, end: MediaInstant) -> MediaResult {
        let Self { legs: [caller, callee], recording, listeners, postponed, clock, voice } = self;
        // Nobody hears it any more.
        drop(voice);
        let (first, second) = tokio::join!(caller.finish(end), callee.finish(end));
        // Neither recording nor speech looked yet, if the call was short; and one without media begins all the same.
        clock.settle_origin();
        let speech = futures_util::future::join_all(listeners.into_iter().map(LegListener::finish));
        let recorded = async {
            match recording.settled().await {
                Recording::Open(handle) => Some(handle.finish().await),
                Recording::Failed(error) => Some(Err(error)),
                Recording::Off | Recording::Opening(_) => None,
            }
        };
        let (heard, recording) = tokio::join!(speech, recorded);
        let heard = if postponed { all_owed(recording.as_ref()) } else { heard_of(heard) };
        MediaResult { stats: [first, second], recording, heard }
    }
}

/// Nobody listened.
fn all_owed(recording: Option<&Result<Finished, RecordingError>>) -> Heard {
    let end = match recording {
        Some(Ok(finished)) => finished.frames as f64 / f64::from(finished.sample_rate),
        // There is nothing to take it from, which is for whoever tries to find out, and to say.
        _ => 1.0,
    };
    let owed = |leg| Owed::new(leg, OwedSpan { start: 0.0, end, utterance: None });
    Heard { whole: true, owed: Leg::BOTH.into_iter().map(owed).collect() }
}

/// What the legs' reports say, caller first.
fn heard_of(reports: Vec<FinishReport>) -> Heard {
    let mut heard = Heard { whole: true, owed: Vec::new() };
    for (leg, report) in Leg::BOTH.into_iter().zip(reports) {
        let lacks = !report.complete || report.unfinished > 0 || report.failed > 0;
        // What has no words is owed, where there is a recording of it.
        heard.whole &= !lacks || !report.owed.is_empty();
        heard.owed.extend(report.owed.into_iter().map(|span| Owed::new(leg, span)));
    }
    heard
}

fn stream_leg(services: &Services, codec: Codec, clock: &Arc<CallClock>, resume: &Resumption) -> LegMedia {
    let mut config = StreamConfig::new(codec, clock.clone());
    config.ring_slots = services.ring_slots();
    config.live_lag = Duration::from_millis(services.settings.rtp.live_lag_ms);
    config.repair_window = Duration::from_millis(services.settings.rtp.repair_ms);
    config.stall_after = Duration::from_millis(services.settings.rtp.stall_ms);
    config.resume = resume.segment.iter().cloned().collect();
    let (receiver, ring) = StreamReceiver::new(config);
    LegMedia {
        seat: None,
        ways: Ways::default(),
        codec,
        port: 0,
        reception: Reception::WaitingStream(Box::new(receiver)),
        ring,
        resumed: resume.resumed.clone(),
    }
}

impl LegMedia {
    async fn counts(&mut self) -> LegStats {
        let stats = match &mut self.reception {
            Reception::Attached(handle) => handle.stats().await,
            Reception::Waiting(receiver) => receiver.stats(),
            Reception::Streaming(handle) => handle.stats().await,
            Reception::WaitingStream(receiver) => receiver.stats(),
            Reception::Gone => LegStats::default(),
        };
        with_before(self.resumed.as_ref(), stats)
    }

    async fn finish(self, end: MediaInstant) -> LegStats {
        let stats = match self.reception {
            Reception::Attached(handle) => handle.finish(end).await,
            Reception::Waiting(receiver) => receiver.finish(end),
            Reception::Streaming(handle) => handle.finish(end).await,
            Reception::WaitingStream(receiver) => receiver.finish(end),
            Reception::Gone => LegStats::default(),
        };
        with_before(self.resumed.as_ref(), stats)
    }
}

/// `stats` of this process, and what was counted before it.
fn with_before(resumed: Option<&Resumed>, stats: LegStats) -> LegStats {
    match resumed {
        Some(Resumed { counts }) => stats.resumed_after(counts.as_ref()),
        None => stats,
    }
}

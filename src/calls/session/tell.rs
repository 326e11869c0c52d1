//! What a call tells: its events, and the record that others see.

use serde_json::{Value, json};

use super::{SAVE_AFTER_ANCHOR, Session};
use crate::calls::catch_up::owed::OwedCall;
use crate::calls::hub::{EventKind, ReadError};
use crate::calls::machine::CallEvent;
use crate::calls::mode::Mode;
use crate::calls::record::{CallRecord, CallState, FileStatus};
use crate::calls::server::info_of;
use crate::calls::services::Services;
use crate::calls::transcript::{self, Told};
use crate::clock;
use crate::media::leg::Leg;
use crate::media::report::LegEvent;
use crate::media::slot::SlotState;
use crate::speech::{TranscriptEvent, TranscriptKind};
use crate::telemetry::metric;

impl Session {
    /// The stream of events and the record that others see.
    pub(super) fn open_events(&mut self) {
        let call = self.call.as_str();
        let (hub, journal) = (&self.services.hub, self.files.events());
        let opened = if self.adopted {
            tokio::task::block_in_place(|| hub.open_call(&self.tenant, call, Some(journal)).map(drop))
        } else {
            // Its channel waits in Stasis: not for a disk, too.
            hub.begin_call(&self.tenant, call, journal)
        };
        if let Err(error) = opened {
            tracing::error!(call, %error, "the call's events are not kept on disk");
            // Whoever follows the call live still hears of it; an open stream stays as it is.
            let _ = hub.open_call(&self.tenant, call, None);
        }
        let Some(mut record) = self.record.take() else { return };
        if self.transcribe() {
            let plan = self.speech_plan();
            if let Some(complaint) = &plan.complaint {
                tracing::warn!(call, complaint, "the dialplan asks for what is not there");
                record.add_error(complaint);
            }
            record.engine = Some(plan.engine().name().to_owned());
            record.language = Some(plan.language);
            record.transcript.status = FileStatus::Open;
        }
        // Also where nobody listens any more now: what was told of is waited for.
        if self.adopted && record.language.is_some() {
            let known = tokio::task::block_in_place(|| self.take_up_words());
            if let Err(error) = known {
                tracing::error!(call = %self.call, %error, "utterances are numbered from 1 again");
                self.lacks_before = true;
            }
        }
        if self.recording.is_some() {
            record.recording.status = if self.paused { FileStatus::Paused } else { FileStatus::Open };
            record.report.status = FileStatus::Open;
        }
        if let Err(error) = self.services.directory.insert(record) {
            tracing::error!(call = %self.call, %error, "the call cannot be listed");
        }
        if self.adopted && self.options.mode == Mode::Answer {
            let taken_up = tokio::task::block_in_place(|| self.take_up_playing());
            if let Err(error) = taken_up {
                tracing::error!(call = %self.call, %error, "what is played is numbered from 1 again");
            }
        }
        self.legs_settled();
    }

    /// What a process before this one heard and has no words is owed, if there is a recording to take it from. Otherwise what was told
    /// of gets its final now, with the words last shown.
    fn take_up_words(&mut self) -> Result<(), ReadError> {
        let call = self.call.as_str();
        let Services { hub, speech, catch_up, .. } = &*self.services;
        let told = Told::read(hub, call)?;
        self.next_utterance = told.next;
        // Where it got to: nothing was heard where the origin is not known yet.
        let until = self.clock.as_ref().and_then(|clock| {
            let origin = clock.decided_origin()?;
            Some(clock.seconds_from(origin, clock.sample_at(clock::now())))
        });
        match until {
            Some(until) if self.recording.is_some() => {
                let model = speech.as_ref().map_or("", |engine| engine.model());
                let owed = OwedCall::cut_off(call, model, catch_up.kept(call), &told, until);
                if let Err(error) = catch_up.keep(&owed) {
                    tracing::error!(call, %error, "what was cut off cannot be kept: another crash would lose it");
                }
                self.owed_before = Some(owed);
            }
            _ => {
                self.lacks_before = until.is_some();
                transcript::close_as_shown(hub, call, told.open);
            }
        }
        Ok(())
    }

    pub(super) fn emit(&mut self, event: CallEvent) {
        let kind = event.kind();
        let body = event.body();
        tracing::info!(call = %self.call, kind, body = %json!(body), "call");
        match &event {
            CallEvent::Answered => {
                self.update(|record| record.answered_at = Some(clock::timestamp()));
            }
            CallEvent::Moved { channel } => {
                let channel = info_of(channel);
                self.update(|record| record.channel = channel);
            }
            CallEvent::LegStarted { leg } => {
                self.legs_heard[leg.index()] = Some(true);
                self.legs_settled();
            }
            CallEvent::Ended { .. } => {
                self.note_unheard();
                // Held back until the files are complete, so that it is the last event of its call.
                let now = clock::timestamp();
                self.update(|record| {
                    record.state = CallState::Ending;
                    record.ended_at = Some(now);
                });
                self.ended = Some(body);
                self.conclude();
                return;
            }
            CallEvent::Rejected { reason } => {
                self.update(|record| record.add_error(reason));
            }
            CallEvent::LegFailed { leg, reason } => {
                let text = format!("{} leg: {reason}", leg.name());
                self.update(|record| record.add_error(&text));
                self.legs_heard[leg.index()] = Some(false);
                self.legs_settled();
            }
            _ => {}
        }
        self.publish(EventKind::from_name(kind), Value::Object(body));
    }

    /// Once each leg is heard, or will not be, the call is no longer being set up; one that is made again later changes
    /// nothing about that.
    fn legs_settled(&mut self) {
        if !self.setting_up || self.legs_heard.contains(&None) {
            return;
        }
        self.setting_up = false;
        if self.legs_heard == [Some(true); 2] && !self.adopted {
            metric::CALL_SETUP.record(clock::since(self.begun).as_secs_f64());
        }
        self.update(|record| record.state = CallState::Live);
    }

    pub(super) fn leg_event(&mut self, leg: Leg, event: LegEvent) {
        match event {
            LegEvent::Anchored { segment } | LegEvent::Resegmented { segment } => {
                tracing::debug!(call = %self.call, leg = leg.name(), ?segment, "segment");
                self.segments[leg.index()] = Some(segment);
                self.heard(leg);
                self.save_at.get_or_insert(clock::now() + SAVE_AFTER_ANCHOR);
            }
            LegEvent::Stalled => {
                tracing::warn!(call = %self.call, leg = leg.name(), "no packets for the stall time");
                self.publish(EventKind::LegStalled, json!({ "leg": leg }));
            }
            LegEvent::Unheard { invalid } => self.not_heard(leg, invalid),
            LegEvent::Resumed { silent_ms } => {
                self.heard(leg);
                self.publish(EventKind::LegResumed, json!({ "leg": leg, "silent_ms": silent_ms }));
            }
            // The sender's own pauses are no news; the report lists them.
            LegEvent::Gap { kind: SlotState::Silence | SlotState::ComfortNoise, .. } => {}
            LegEvent::Gap { start, samples, kind } => {
                let Some(clock) = &self.clock else { return };
                let origin = clock.decided_origin().unwrap_or_default();
                let body = json!({
                    "leg": leg, "kind": kind,
                    "start": clock.seconds_from(origin, start),
                    "duration": clock.rate().duration_of(samples).as_secs_f64(),
                });
                self.publish(EventKind::LegGap, body);
            }
            LegEvent::Dtmf { digit, duration_ms } => {
                self.publish(
                    EventKind::Dtmf,
                    json!({ "leg": leg, "digit": digit, "duration_ms": duration_ms }),
                );
            }
        }
    }

    pub(super) fn spoken(&mut self, event: &TranscriptEvent) {
        let kind = match event.kind {
            TranscriptKind::Partial => EventKind::TranscriptPartial,
            TranscriptKind::Final => EventKind::TranscriptFinal,
        };
        self.publish(kind, json!(event));
    }

    pub(super) fn recording_failed(&mut self, error: String) {
        if self.recording_broken.is_some() {
            return;
        }
        self.publish(EventKind::RecordingFailed, json!({ "error": error }));
        self.update(|record| {
            record.recording.status = FileStatus::Failed;
            // Of what was written before there may still be one: the end tells.
            if record.report.status == FileStatus::Open {
                record.report.status = FileStatus::Failed;
            }
            record.add_error(&error);
        });
        self.recording_broken = Some(error);
    }

    pub(super) fn publish(&self, kind: EventKind, body: Value) {
        self.services.hub.publish(self.call.as_str(), kind, body);
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut CallRecord)) {
        self.services.directory.update(self.call.as_str(), change);
    }
}

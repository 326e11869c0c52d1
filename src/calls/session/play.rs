//! What is played to the caller, as the call's task sees to it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::Session;
use crate::calls::hub::{EventKind, ReadError};
use crate::calls::machine::MediaSource;
use crate::calls::mode::Mode;
use crate::calls::playlist::{Played, Why};
use crate::calls::voice::CallVoice;
use crate::clock;

/// Events read at once.
const PAGE: usize = 512;

impl Session {
    /// What an earlier process began to play is over, and its numbers are taken.
    pub(super) fn take_up_playing(&mut self) -> Result<(), ReadError> {
        let (mut open, mut last, mut after) = (BTreeSet::new(), 0, 0);
        loop {
            let events = self.services.hub.call_events(self.call.as_str(), after, PAGE)?;
            let Some(newest) = events.last() else { break };
            after = newest.seq;
            let of_playbacks = [EventKind::PlaybackStarted, EventKind::PlaybackFinished];
            for event in events.iter().filter(|event| of_playbacks.contains(&event.kind)) {
                // What this program wrote it can read.
                let body: Value = serde_json::from_str(&event.json).unwrap_or_default();
                let Some(number) = body["playback"].as_u64() else { continue };
                match event.kind {
                    EventKind::PlaybackStarted => open.insert(number),
                    _ => open.remove(&number),
                };
                last = last.max(number);
            }
        }
        if let Some(voice) = self.voice() {
            voice.list.number_after(last);
        }
        let reason = Why::Interrupted.name();
        for number in open {
            let body = json!({ "playback": number, "played": null, "reason": reason });
            self.publish(EventKind::PlaybackFinished, body);
        }
        Ok(())
    }

    fn voice(&mut self) -> Option<&mut CallVoice> {
        self.media.as_mut()?.voice.as_mut()
    }

    pub(super) fn attach_voice(&mut self, source: MediaSource) -> Result<(), String> {
        let services = self.services.clone();
        let voice = self.voice().ok_or("the call's media is over")?;
        voice.attach(&services, source)?;
        self.voice_broken = None;
        Ok(())
    }

    /// Nothing can be played to the caller: the call goes on.
    pub(super) fn voice_failed(&mut self, reason: &str) {
        let error = format!("nothing can be played to the caller: {reason}");
        self.update(|record| record.add_error(&error));
        self.voice_broken = Some(error);
        if let Some(voice) = self.voice() {
            let stopped = voice.list.stop(Why::Failed);
            self.tell_played(stopped);
        }
    }

    /// Play `pcm` after what plays already.
    pub(super) fn play(&mut self, pcm: Vec<i16>) -> Result<u64, String> {
        self.may_play()?;
        let voice = self.voice().ok_or("the call is over")?;
        voice.list.add(pcm).map_err(|full| full.to_string())
    }

    pub(super) fn stop_playing(&mut self) -> Result<(), String> {
        self.may_play()?;
        let stopped = self.voice().ok_or("the call is over")?.list.stop(Why::Stopped);
        self.tell_played(stopped);
        Ok(())
    }

    fn may_play(&self) -> Result<(), String> {
        match &self.voice_broken {
            _ if self.options.mode == Mode::Tap => {
                Err("the call is tapped, not answered: its caller hears whom it calls, and never us".into())
            }
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    /// Hand on what is to be played, once the caller hears it, and tell what was.
    pub(super) fn feed(&mut self) {
        self.play_at = None;
        if !self.machine.voice_is_heard() {
            return;
        }
        let Some(voice) = self.voice() else { return };
        let played = voice.list.feed();
        self.play_at = voice.list.next_feed().map(|pause| clock::now() + pause);
        self.tell_played(played);
    }

    /// The process ends: who takes the call up does not know what was to be played.
    pub(super) fn interrupt_playing(&mut self) {
        if let Some(voice) = self.voice() {
            let stopped = voice.list.stop(Why::Interrupted);
            self.tell_played(stopped);
        }
    }

    /// The call is over.
    pub(super) fn end_playing(&mut self) {
        if let Some(mut voice) = self.media.as_mut().and_then(|media| media.voice.take()) {
            let stopped = voice.list.stop(Why::Ended);
            self.tell_played(stopped);
        }
    }

    fn tell_played(&self, played: Vec<Played>) {
        for played in played {
            let (kind, body) = match played {
                Played::Started { clip, duration } => (
                    EventKind::PlaybackStarted,
                    json!({ "playback": clip, "duration": duration.as_secs_f64() }),
                ),
                Played::Finished { clip, played, why } => (
                    EventKind::PlaybackFinished,
                    json!({ "playback": clip, "played": played.as_secs_f64(), "reason": why.name() }),
                ),
            };
            self.publish(kind, body);
        }
    }
}

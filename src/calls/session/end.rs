//! The end of a call: its media finished, then its last event, unless its transcript is still to be caught up.

use serde_json::Value;

use super::Session;
use crate::calls::finish::{self, Ending, Heard};
use crate::calls::hub::EventKind;
use crate::calls::machine::{MediaEnd, Outcome, Phase};
use crate::calls::record::CallState;
use crate::media::time::MediaInstant;
use crate::telemetry::metric;

impl Session {
    pub(super) fn is_over(&self) -> bool {
        self.machine.phase() == Phase::Finished
            && self.outcome.is_some()
            && self.finishing.is_none()
            && self.ended.is_none()
    }

    pub(super) fn stop_media(&mut self, end: MediaEnd) {
        self.end_playing();
        let Some(media) = self.media.take() else {
            self.conclude();
            return;
        };
        let end = match end {
            MediaEnd::At(at) => at,
            // Before any packet: each leg ends where its packets do.
            MediaEnd::LastPacket => MediaInstant::from_nanos(0),
        };
        let ending = Ending {
            services: self.services.clone(),
            call: self.call.clone(),
            tenant: self.tenant.clone(),
            files: self.files.clone(),
            tx: self.tx.clone(),
        };
        self.finishing = Some(tokio::spawn(finish::media(ending, media, end)));
    }

    pub(super) fn finished(&mut self, done: Result<Heard, tokio::task::JoinError>) {
        self.finishing = None;
        match done {
            Ok(heard) => self.heard = Heard { whole: heard.whole && !self.lacks_before, ..heard },
            Err(error) => {
                tracing::error!(call = %self.call, %error, "finishing the call's files broke off");
            }
        }
        self.conclude();
    }

    /// When the call is over, its media finished and everything said: the last event.
    pub(super) fn conclude(&mut self) {
        if self.closed || self.media.is_some() || self.finishing.is_some() {
            return;
        }
        // What finishing sent before it ended comes first.
        while let Ok(message) = self.inbox.try_recv() {
            self.take(message);
        }
        if self.ended.is_none() && self.outcome != Some(Outcome::Rejected) {
            return;
        }
        let body = self.ended.take();
        let outcome = self.outcome.unwrap_or(Outcome::Completed).name();
        let outcome = body
            .as_ref()
            .and_then(|b| b.get("outcome"))
            .and_then(Value::as_str)
            .unwrap_or(outcome)
            .to_owned();
        let (heard, before) = (std::mem::take(&mut self.heard), self.owed_before.take());
        let owed = tokio::task::block_in_place(|| {
            finish::transcript(&self.services, self.call.as_str(), &self.files, heard, before)
        });
        metric::CALLS.add_labelled("outcome", &outcome, 1);
        if let Some(mut body) = body {
            if owed.is_some() {
                body.insert("transcript".into(), "pending".into());
            }
            self.publish(EventKind::CallEnded, Value::Object(body));
        }
        match &owed {
            Some(_) => self.services.hub.rest_call(self.call.as_str()),
            None => self.services.hub.close_call(self.call.as_str()),
        }
        // Last: an ended call may be removed, and nothing is to be written for it then.
        self.update(|record| {
            record.state = CallState::Ended;
            record.outcome = Some(outcome);
            record.close_files();
        });
        self.closed = true;
        self.services.sessions.remove(self.call.clone());
        if let Some(owed) = owed {
            self.services.catch_up.hand_over(owed);
        }
    }
}

//! What a later process finds of the call, should this one not see its end.

use std::time::Duration;

use super::Session;
use crate::calls::adoption::{LegRecord, SESSION_VERSION, SessionRecord};
use crate::clock;
use crate::media::leg::Leg;

/// How old the counts are that a crash leaves. One file of 2 KB a call each time.
pub(super) const COUNT_EVERY: Duration = Duration::from_secs(2);

impl Session {
    /// Keep what the legs have counted by now.
    pub(super) async fn count(&mut self) {
        self.count_at = clock::now() + COUNT_EVERY;
        if let Some(media) = &mut self.media {
            self.counts = media.counts().await.map(Some);
            self.save();
        }
    }

    /// Write the session record; also of a call that is over, until its books are closed.
    pub(super) fn save(&self) {
        let Some(clock) = self.clock.as_ref().filter(|_| !self.closed) else { return };
        let leg = |leg: Leg| LegRecord {
            external_host: self.services.told_to_asterisk(self.ports[leg.index()]),
            local_port: self.ports[leg.index()],
            segment: self.segments[leg.index()].clone(),
            counts: self.counts[leg.index()].clone(),
        };
        self.services.sessions.save(SessionRecord {
            v: SESSION_VERSION,
            call: self.call.clone(),
            node: self.services.node.clone(),
            tenant: self.tenant.clone(),
            options: self.options.clone(),
            started_at: self.started_at_nanos as i64,
            sample_rate: clock.rate(),
            format: self.codec.name().to_owned(),
            asterisk: self.machine.asterisk_side(),
            legs: [leg(Leg::Caller), leg(Leg::Callee)],
            origin: clock.origin(clock::now()),
            recording: self.recording.clone(),
            paused: self.paused,
        });
    }
}

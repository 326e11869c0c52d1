//! Calls of an earlier process: looked for in the data folder at the start, and taken up or closed once Asterisk has said which of
//! them live.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use super::{CallServer, call_mode, info_of, timestamp};
use crate::calls::adoption::{Ended, SessionRecord};
use crate::calls::ids::CallId;
use crate::calls::machine::{CallMachine, Snapshot};
use crate::calls::media::{CallMedia, Resumed, Resumption};
use crate::calls::record::{CallFiles, CallRecord, recordings_root};
use crate::calls::recover::{self, Lost};
use crate::calls::services::Services;
use crate::calls::session::Start;
use crate::clock;
use crate::media::clock::CallClock;
use crate::media::codec::Codec;
use crate::recording::repair;

/// What an earlier process left, and Asterisk has to be asked about.
pub(super) struct Left {
    /// Calls that it did not bring to their end, by its session records.
    pub(super) sessions: Vec<SessionRecord>,
    /// Recordings of these that it left open (finished paths); found before any of ours begins.
    unfinished: Vec<PathBuf>,
}

/// What it left and no session record claims: over for certain.
pub(super) struct Unclaimed {
    lost: Vec<Lost>,
    unfinished: Vec<PathBuf>,
}

impl Left {
    /// Look through the data folder, which blocks.
    pub(super) fn find(services: &Services) -> (Self, Unclaimed) {
        let sessions = services.sessions.load();
        let claimed: BTreeSet<&str> = sessions.iter().map(|session| session.call.as_str()).collect();
        // By name: the data folder may be spelt otherwise than it was then.
        let is_claimed =
            |wav: &PathBuf| wav.file_stem().is_some_and(|call| claimed.contains(&*call.to_string_lossy()));
        let leftovers = repair::leftovers(&recordings_root(services.directory.data()));
        let (unfinished, unclaimed): (Vec<_>, Vec<_>) = leftovers.into_iter().partition(is_claimed);
        let mut cut_off = services.directory.unfinished();
        cut_off.retain(|record| !claimed.contains(record.call_id.as_str()));
        let lost = cut_off.iter().map(|record| Lost {
            record: (**record).clone(),
            reason: "the process that had it was cut off, and left nothing to go on with".into(),
        });
        let unclaimed = Unclaimed { lost: lost.collect(), unfinished: unclaimed };
        (Self { sessions, unfinished }, unclaimed)
    }
}

impl Unclaimed {
    /// Mend it and close its books, which blocks for as long as that takes.
    pub(super) fn mend(self, services: &Services) {
        recover::after_crash(services, self.lost, &self.unfinished);
    }
}

impl CallServer {
    /// Calls of an earlier process that nobody goes on with.
    pub(super) fn close_books(&self, adopt: &[CallId], end: &[Ended]) {
        let by_call = |call: &CallId| self.left.sessions.iter().find(|r| r.call == *call);
        let of_session = |ended: &Ended| {
            let session = by_call(&ended.call)?;
            Some(Lost::of_session(&self.services, session, fresh_record(session), &ended.reason))
        };
        let lost: Vec<_> = end.iter().filter_map(of_session).collect();
        let kept: BTreeSet<&str> = adopt.iter().map(CallId::as_str).collect();
        let is_kept = |path: &&PathBuf| {
            path.file_stem().and_then(|stem| stem.to_str()).is_some_and(|call| kept.contains(call))
        };
        let left: Vec<_> = self.left.unfinished.iter().filter(|path| !is_kept(path)).cloned().collect();
        let services = self.services.clone();
        self.tasks.spawn_blocking(move || recover::after_crash(&services, lost, &left));
    }

    /// Go on with a call of an earlier process, on the same clock and in the same recording.
    pub(super) fn adopt(&self, record: &SessionRecord, snapshot: &Snapshot) {
        let call = &record.call;
        // As its legs send it, whatever the settings say now.
        let codec = Codec::from_name(&record.format).unwrap_or(self.services.codec);
        let codec = self.services.transport.carried(codec);
        let start = clock::instant_of_realtime(record.started_at.max(0) as u64);
        let clock = Arc::new(match record.origin {
            Some(origin) => CallClock::resumed(start, codec.sample_rate(), origin),
            None => CallClock::new(start, codec.sample_rate(), 2),
        });
        let mut resume = [0, 1].map(|i| Resumption {
            segment: record.legs[i].segment.clone(),
            port: Some(record.legs[i].local_port),
            resumed: Some(Resumed { counts: record.legs[i].counts.clone() }),
        });
        let mut side = record.asterisk.clone();
        let mode = record.options.mode;
        let media = CallMedia::prepare(&self.services, mode, codec, clock.clone(), &resume)
            .or_else(|error| {
                tracing::error!(%call, %error, "the call's legs are made anew");
                for (leg, resume) in side.legs.iter_mut().zip(&mut resume) {
                    (leg.source, resume.port) = (None, None);
                }
                CallMedia::prepare(&self.services, mode, codec, clock, &resume)
            })
            .ok();
        let now = clock::now();
        let cfg = self.config(call, mode, codec, media.as_ref());
        let machine = CallMachine::adopted(cfg, &side, snapshot, now);
        let started_at = timestamp(record.started_at.max(0) as u64);
        let Ok(files) =
            CallFiles::new(self.services.directory.data(), &record.tenant, started_at, call.as_str())
        else {
            return;
        };
        let known = self.services.directory.get(call.as_str());
        let known = known.map_or_else(|| fresh_record(record), |r| (*r).clone());
        tracing::info!(%call, channel = record.asterisk.channel.name, "going on with a call of before");
        let start = Start {
            machine,
            media,
            resume,
            options: record.options.clone(),
            codec,
            // As decided when it began, whatever the settings say now.
            record: record.recording.is_some(),
            paused: record.paused,
            tenant: record.tenant.clone(),
            files,
            started_at_nanos: record.started_at.max(0) as u64,
            adopted: true,
        };
        self.spawn(record.asterisk.channel.id.clone(), known, start);
    }
}

/// The call record that there would be, had it been written.
fn fresh_record(session: &SessionRecord) -> CallRecord {
    let started_at = timestamp(session.started_at.max(0) as u64);
    let mode = call_mode(session.options.mode);
    let mut fresh = CallRecord::new(session.call.as_str(), &session.tenant, mode, started_at);
    fresh.channel = info_of(&session.asterisk.channel);
    fresh
}

//! What there is in Asterisk against what we know: calls of an earlier process are taken up, what nobody owns goes.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use super::{CallServer, LIST_AGAIN, call_mode, info_of, timestamp};
use crate::calls::adoption::{self, Ended, Plan, SessionRecord, Stranded};
use crate::calls::ids::CallId;
use crate::calls::machine::{CallMachine, Input, Snapshot};
use crate::calls::media::{CallMedia, Resumed, Resumption};
use crate::calls::record::{CallFiles, CallRecord};
use crate::calls::recover::{self, Lost};
use crate::calls::session::{Message, Start};
use crate::calls::translate;
use crate::clock;
use crate::media::clock::CallClock;
use crate::media::codec::Codec;

impl CallServer {
    /// Compare what Asterisk has with what we know, and make them agree.
    pub(super) async fn reconcile(&self, first: bool) {
        let snapshot = loop {
            match translate::snapshot(&self.services.ari).await {
                Ok(snapshot) => break snapshot,
                Err(error) => {
                    tracing::debug!(%error, "cannot list Asterisk's channels yet");
                    tokio::time::sleep(LIST_AGAIN).await;
                }
            }
        };
        let records: &[SessionRecord] = if first { &self.sessions } else { &[] };
        let (running, channels) = self.table.running();
        self.table.broadcast(|| Message::Machine(Input::Reconnected(snapshot.clone())));
        let Plan { adopt, end, stranded, orphans } =
            adoption::plan(&snapshot, &self.services.node, &running, &channels, records);
        tracing::info!(
            adopt = adopt.len(),
            ended = end.len(),
            stranded = stranded.len(),
            orphans = orphans.len(),
            "compared with Asterisk"
        );
        let by_call = |call: &CallId| records.iter().find(|r| r.call == *call);
        for record in adopt.iter().filter_map(by_call) {
            self.adopt(record, &snapshot);
        }
        if first {
            self.close_books(&adopt, &end);
        }
        for Stranded { channel, args } in stranded {
            match args {
                Some(args) => self.begin(channel.clone(), info_of(&channel), &args),
                None => self.let_go(channel.id),
            }
        }
        self.sweeper.remove(orphans);
    }

    /// Calls of an earlier process that nobody goes on with.
    fn close_books(&self, adopt: &[CallId], end: &[Ended]) {
        let by_call = |call: &CallId| self.sessions.iter().find(|r| r.call == *call);
        let of_session = |ended: &Ended| {
            let session = by_call(&ended.call)?;
            Some(Lost::of_session(&self.services, session, fresh_record(session), &ended.reason))
        };
        let lost: Vec<_> = end.iter().filter_map(of_session).collect();
        let kept: BTreeSet<&str> = adopt.iter().map(CallId::as_str).collect();
        let is_kept = |path: &&PathBuf| {
            path.file_stem().and_then(|stem| stem.to_str()).is_some_and(|call| kept.contains(call))
        };
        let left: Vec<_> = self.unfinished.iter().filter(|path| !is_kept(path)).cloned().collect();
        let services = self.services.clone();
        self.tasks.spawn_blocking(move || recover::after_crash(&services, lost, &left));
    }

    fn adopt(&self, record: &SessionRecord, snapshot: &Snapshot) {
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

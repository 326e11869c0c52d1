//! What a call owes, on disk from before the call is let go until its transcript is written: `<data>/owed/<call>.json`.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::calls::record::{OWED, owed_path};
use crate::calls::transcript::Told;
use crate::files;
use crate::media::leg::Leg;
use crate::speech::{OwedSpan, TranscriptEvent};

/// Version of [`OwedCall`]; one of another version is left alone.
const VERSION: u32 = 1;
/// Audio of an utterance begins at most so long before its speech is seen (pre-roll): seconds.
const PRE_ROLL: f64 = 0.25;
/// What is shorter than an utterance can be holds none. Seconds.
const SHORTEST: f64 = 0.2;
/// Two stretches that lie so close are one: the utterance was cut where live transcription gave up. Seconds.
const JOINED: f64 = 0.02;

/// What a call owes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::calls) struct OwedCall {
    pub(in crate::calls) v: u32,
    pub(in crate::calls) call_id: String,
    /// The call is over, and all that it owes is here. Until then: what processes owe that had the call before.
    pub(in crate::calls) ended: bool,
    /// While the call runs: up to where it is known what is owed, seconds on the recording's clock.
    pub(in crate::calls) known_to: f64,
    /// Whatever is not owed has its words.
    pub(in crate::calls) whole: bool,
    /// The model that was to put it into words.
    pub(in crate::calls) model: String,
    /// The first number of each leg that live transcription has not given, caller first. Of these are those that are given here,
    /// and none else.
    pub(in crate::calls) first_free: Option<[u64; 2]>,
    /// Times that this was begun since anything came of it.
    #[serde(default)]
    pub(in crate::calls) attempts: u32,
    /// Finals of the call that were told of then: if there are more now, something has come of it that the process did not live to note.
    #[serde(default)]
    pub(in crate::calls) finals: Option<usize>,
    /// By time.
    pub(in crate::calls) spans: Vec<Owed>,
}

/// A stretch of a leg that is owed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::calls) struct Owed {
    pub(in crate::calls) leg: Leg,
    #[serde(flatten)]
    pub(in crate::calls) span: OwedSpan,
    /// What lies before this is done. Seconds on the recording's clock.
    #[serde(default)]
    pub(in crate::calls) done_to: f64,
}

impl Owed {
    pub(in crate::calls) fn new(leg: Leg, span: OwedSpan) -> Self {
        Self { leg, done_to: span.start, span }
    }

    /// Seconds that are still to be done.
    pub(in crate::calls) fn seconds(&self) -> f64 {
        (self.span.end - self.done_to.max(self.span.start)).max(0.0)
    }
}

impl OwedCall {
    /// Of a call that is over: what processes before this one owe (`before`) and what its legs' reports say.
    pub(in crate::calls) fn at_end(
        call_id: &str,
        model: &str,
        before: Option<Self>,
        owed: Vec<Owed>,
        whole: bool,
    ) -> Self {
        let (mut spans, whole_before) = before.map_or((Vec::new(), true), |b| (b.spans, b.whole));
        spans.extend(owed);
        Self {
            v: VERSION,
            call_id: call_id.to_owned(),
            ended: true,
            known_to: 0.0,
            whole: whole && whole_before,
            model: model.to_owned(),
            first_free: None,
            attempts: 0,
            finals: None,
            spans: joined(spans),
        }
    }

    /// Of a call whose process was cut off at `until` (seconds on the recording's clock), by its events: utterances that were told of
    /// and have no final, and all time that no utterance covers. That one is silence as a rule, and nothing comes of it then; but
    /// what had been left out for want of time nobody knows any more.
    pub(in crate::calls) fn cut_off(
        call_id: &str,
        model: &str,
        before: Option<Self>,
        told: &Told,
        until: f64,
    ) -> Self {
        let known_to = before.as_ref().map_or(0.0, |before| before.known_to);
        let mut spans = before.as_ref().map_or_else(Vec::new, |before| before.spans.clone());
        for leg in Leg::BOTH {
            let is_owed = |event: &&TranscriptEvent| {
                let of = |owed: &Owed| owed.leg == leg && owed.span.utterance == Some(event.utterance);
                before.as_ref().is_some_and(|before| before.spans.iter().any(of))
            };
            let of_leg = |event: &&TranscriptEvent| event.leg == leg;
            let open = told.open.iter().filter(of_leg).filter(|event| !is_owed(event));
            let finals = told.finals.iter().filter(of_leg).filter(|event| event.end > known_to);
            let mut known: Vec<_> = open.map(|e| (e, true)).chain(finals.map(|e| (e, false))).collect();
            known.sort_by(|(a, _), (b, _)| a.start.total_cmp(&b.start));
            spans.extend(not_covered(&known, known_to, until).into_iter().map(|span| Owed::new(leg, span)));
        }
        Self {
            v: VERSION,
            call_id: call_id.to_owned(),
            ended: false,
            known_to: until,
            whole: before.is_none_or(|before| before.whole),
            model: model.to_owned(),
            first_free: None,
            attempts: 0,
            finals: None,
            spans: joined(spans),
        }
    }

    /// Seconds that are still to be done.
    pub(in crate::calls) fn seconds(&self) -> f64 {
        self.spans.iter().map(Owed::seconds).sum()
    }
}

/// What the events of a leg leave of the time from `from` to `until`; those marked have no final, and each is owed, with what follows
/// it: how far its speaker went on nobody knows.
fn not_covered(known: &[(&TranscriptEvent, bool)], from: f64, until: f64) -> Vec<OwedSpan> {
    let mut spans = Vec::new();
    let (mut at, mut utterance) = (from, None);
    for (event, is_open) in known {
        let begin = if *is_open { (event.start - PRE_ROLL).max(at) } else { event.start.max(at) };
        spans.push(OwedSpan { start: at, end: begin, utterance });
        (at, utterance) = match is_open {
            true => (begin, Some(event.utterance)),
            false => (event.end.max(at), None),
        };
    }
    // An utterance that was told of is owed even where its process heard further than what the recording kept.
    let end = if utterance.is_some() { until.max(at + SHORTEST) } else { until };
    spans.push(OwedSpan { start: at, end, utterance });
    spans.retain(|span| span.utterance.is_some() || span.end - span.start >= SHORTEST);
    spans
}

/// By time, and what follows closely, of the same leg and without a number of its own, as part of what goes before.
fn joined(mut spans: Vec<Owed>) -> Vec<Owed> {
    let order = |o: &Owed| (o.leg, o.span.start);
    spans.sort_by(|a, b| order(a).0.cmp(&order(b).0).then(order(a).1.total_cmp(&order(b).1)));
    spans.dedup_by(|next, last| {
        let follows = next.leg == last.leg && next.span.start - last.span.end <= JOINED;
        let is_one = follows && next.span.utterance.is_none();
        if is_one {
            last.span.end = last.span.end.max(next.span.end);
        }
        is_one
    });
    spans.sort_by(|a, b| a.span.start.total_cmp(&b.span.start).then(a.leg.cmp(&b.leg)));
    spans
}

/// Where it is kept.
#[derive(Debug)]
pub(in crate::calls) struct OwedStore {
    data: PathBuf,
}

impl OwedStore {
    /// Make the folder under `data`.
    pub(in crate::calls) fn open(data: &Path) -> io::Result<Self> {
        let store = Self { data: data.to_owned() };
        std::fs::create_dir_all(store.folder())?;
        Ok(store)
    }

    /// All there is. What is none is reported and left where it is.
    pub(in crate::calls) fn load_all(&self) -> io::Result<Vec<OwedCall>> {
        let paths = std::fs::read_dir(self.folder())?.filter_map(|entry| Some(entry.ok()?.path()));
        Ok(paths
            .filter(|path| path.extension().is_some_and(|e| e == "json"))
            .filter_map(|p| read(&p))
            .collect())
    }

    /// What `call_id` owes.
    pub(in crate::calls) fn load(&self, call_id: &str) -> Option<OwedCall> {
        let path = self.path(call_id);
        path.exists().then(|| read(&path)).flatten()
    }

    /// Have it survive a power cut.
    pub(in crate::calls) fn save(&self, owed: &OwedCall) -> io::Result<()> {
        files::replace_durably(&self.path(&owed.call_id), &serde_json::to_vec(owed)?)
    }

    /// How far it has come: after a power cut, what was noted before may count again.
    pub(super) fn note(&self, owed: &OwedCall) -> io::Result<()> {
        files::replace(&self.path(&owed.call_id), &serde_json::to_vec(owed)?)
    }

    /// Nothing is owed any more.
    pub(in crate::calls) fn remove(&self, call_id: &str) -> io::Result<()> {
        match std::fs::remove_file(self.path(call_id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn folder(&self) -> PathBuf {
        self.data.join(OWED)
    }

    fn path(&self, call_id: &str) -> PathBuf {
        owed_path(&self.data, call_id)
    }
}

fn read(path: &Path) -> Option<OwedCall> {
    let text = std::fs::read(path).map_err(|error| error.to_string());
    let owed = text.and_then(|text| serde_json::from_slice::<OwedCall>(&text).map_err(|e| e.to_string()));
    match owed {
        Ok(owed) if owed.v == VERSION => Some(owed),
        Ok(owed) => {
            tracing::error!(path = %path.display(), version = owed.v, "what a call owes is of another version: left alone");
            None
        }
        Err(error) => {
            tracing::error!(path = %path.display(), error, "what a call owes cannot be read: left alone");
            None
        }
    }
}

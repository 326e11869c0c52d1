//! Text-to-speech calls as jobs: the text spoken to a file, the call placed and followed, tried again as its cause deserves.
//!
//! What must survive a crash is in the job's memo: which attempt was about to be placed, what it came to, and how often each cause was met.

mod leftovers;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::call::{
    CallAudio, CallError, CallId, CallRequest, Caller, Journal, JournalError, Limits, Outcome, Pace,
    Progress, Turn, Verdict, next_attempt,
};
use super::error::JobError;
use super::message::TtsAsked;
use super::worker::{Attempt, Handler};
use crate::clock;
use crate::crash::{self, Step};
use crate::speech::synthesis::{SpeechRequest, Synthesiser};
use crate::store::jobs::{Job, JobKey, JobKind};

pub use leftovers::sweep;

/// What every telephone has.
const RATE_HZ: u32 = 8_000;
/// While Asterisk is away calls wait, and it is asked again this often: being away is no attempt.
const AWAY: Duration = Duration::from_secs(5);
/// A worker waits for a tenant's next turn so long; beyond, it does others' calls meanwhile.
const TURN: Duration = Duration::from_secs(3);

/// What is kept across a crash.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Memo {
    /// The attempt that was placed, or may have been.
    #[serde(skip_serializing_if = "Option::is_none")]
    intended: Option<Intended>,
    /// What it came to.
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<Outcome>,
    /// Attempts before it, by what they came to.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    failures: BTreeMap<String, u32>,
    /// The next attempt is not made before: should the process die before the job waits for that itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    not_before: Option<Timestamp>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Intended {
    attempt: u32,
    at: Timestamp,
}

/// What does text-to-speech calls.
pub struct TtsCalls {
    caller: Caller,
    synthesiser: Arc<Synthesiser>,
    pace: Pace,
    /// Whose calls' channels have the job's id alone.
    tenant: Arc<str>,
}

impl TtsCalls {
    /// Placed by `caller`, spoken by `synthesiser`. Calls of `tenant` have channels of the job's id, others' have their tenant before it.
    pub fn new(caller: Caller, synthesiser: Arc<Synthesiser>, tenant: Arc<str>) -> Self {
        Self { caller, synthesiser, pace: Pace::default(), tenant }
    }

    fn limits(&self, tenant: &str) -> Limits {
        let rules = self.caller.rules(tenant);
        Limits { at_once: rules.at_once, per_second: rules.per_second }
    }

    fn call_id(&self, key: &JobKey, attempt: u32) -> Result<CallId, JobError> {
        let job = match *key.tenant == *self.tenant {
            true => key.id.to_string(),
            false => format!("{}-{}", key.tenant, key.id),
        };
        CallId::new(&job, attempt).map_err(JobError::permanent)
    }
}

impl Handler for TtsCalls {
    fn kind(&self) -> JobKind {
        JobKind::TtsCall
    }

    fn run<'a>(&'a self, job: &'a Job, attempt: &'a Attempt) -> BoxFuture<'a, Result<Value, JobError>> {
        async move {
            let asked = TtsAsked::deserialize(&job.payload).map_err(JobError::permanent)?;
            let memo: Memo = match &job.memo {
                Some(memo) => Memo::deserialize(memo).map_err(JobError::permanent)?,
                None => Memo::default(),
            };
            let pause = memo.not_before.map(|at| at.duration_since(clock::timestamp()));
            if let Some(after) = pause.and_then(|pause| Duration::try_from(pause).ok()) {
                let reason = "its next attempt is not due yet".to_owned();
                return Err(JobError::Again { after, reason, counts: false });
            }
            let notes = Notes { attempt, memo: Mutex::new(memo.clone()), number: job.attempts };
            let outcome = match (memo.outcome, memo.intended) {
                (Some(outcome), intended) => {
                    // What a call leaves goes once its outcome is kept; the process may have died in between.
                    if let Some(intended) = intended {
                        self.caller.tidy(&self.call_id(&job.key, intended.attempt)?).await;
                    }
                    outcome
                }
                (None, Some(intended)) => self.resumed(job, &intended, attempt, &notes).await?,
                (None, None) => self.placed(job, &asked, attempt, &notes).await?,
            };
            self.verdict(job, outcome, attempt, &notes).await
        }
        .boxed()
    }

    fn saturated(&self) -> Vec<String> {
        self.pace.full(|tenant| self.limits(tenant))
    }
}

impl TtsCalls {
    async fn placed(
        &self,
        job: &Job,
        asked: &TtsAsked,
        attempt: &Attempt,
        notes: &Notes<'_>,
    ) -> Result<Outcome, JobError> {
        let tenant = &*job.key.tenant;
        // Before anything is spoken: most of what is wrong is wrong with the number.
        self.caller.check(tenant, &asked.phone_number).map_err(error)?;
        let _place = self.turn(tenant, attempt).await?;
        if job.attempts > 1 {
            // Of an attempt that the process did not live to make.
            self.caller.remove_audio(&self.call_id(&job.key, job.attempts - 1)?);
        }
        let request = SpeechRequest {
            text: asked.text.clone(),
            voice: asked.voice.clone(),
            language: asked.language.clone(),
            speed: asked.speed,
        };
        let spoken = tokio::select! {
            spoken = self.synthesiser.speak(&request) => spoken,
            reason = attempt.given_up() => return Err(reason),
        };
        let spoken = spoken.map_err(|error| match error.is_transient() {
            true => JobError::transient(error),
            false => JobError::permanent(error),
        })?;
        let samples = tokio::task::spawn_blocking(move || spoken.at(RATE_HZ));
        let samples = samples.await.map_err(JobError::transient)?.map_err(JobError::permanent)?;
        let request = CallRequest {
            id: self.call_id(&job.key, job.attempts)?,
            tenant: tenant.to_owned(),
            number: asked.phone_number.clone(),
            audio: CallAudio::Samples(samples),
        };
        tokio::select! {
            outcome = self.caller.call(&request, notes, &attempt.cancel) => notes.unless_not_placed(outcome).await,
            // It goes on in Asterisk, and the next start takes it up.
            () = attempt.stop.cancelled() => Err(JobError::Stopped),
        }
    }

    async fn resumed(
        &self,
        job: &Job,
        intended: &Intended,
        attempt: &Attempt,
        notes: &Notes<'_>,
    ) -> Result<Outcome, JobError> {
        let tenant = &*job.key.tenant;
        let _place = self.pace.occupy(tenant);
        let id = self.call_id(&job.key, intended.attempt)?;
        tokio::select! {
            outcome = self.caller.resume(&id, tenant, Some(intended.at), notes, &attempt.cancel) => {
                notes.unless_not_placed(outcome).await
            }
            () = attempt.stop.cancelled() => Err(JobError::Stopped),
        }
    }

    /// A place among the tenant's calls, waited for.
    async fn turn(&self, tenant: &str, attempt: &Attempt) -> Result<super::call::Place, JobError> {
        let reason =
            || "other calls of this tenant go first (tts_calls.at_once, tts_calls.per_second)".to_owned();
        loop {
            let pause = match self.pace.ask(tenant, self.limits(tenant), clock::now()) {
                Turn::Go(place) => return Ok(place),
                Turn::Full => {
                    return Err(JobError::Again {
                        after: Duration::from_millis(200),
                        reason: reason(),
                        counts: false,
                    });
                }
                Turn::Later(at) => at.saturating_since(clock::now()),
            };
            if pause > TURN {
                return Err(JobError::Again { after: pause, reason: reason(), counts: false });
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                reason = attempt.given_up() => return Err(reason),
            }
        }
    }

    /// What the job comes to by what its call came to.
    async fn verdict(
        &self,
        job: &Job,
        outcome: Outcome,
        attempt: &Attempt,
        notes: &Notes<'_>,
    ) -> Result<Value, JobError> {
        let name = outcome.outcome.name();
        let result = result(&outcome);
        if outcome.outcome == Verdict::Answered {
            return Ok(result);
        }
        if outcome.outcome == Verdict::Cancelled {
            return Err(JobError::Cancelled);
        }
        let failures = notes.memo.lock().failures.get(name).copied().unwrap_or(0) + 1;
        let now = clock::timestamp();
        let next = next_attempt(&outcome, failures, &self.caller.rules(&job.key.tenant), now);
        match next.filter(|_| !attempt.cancel.is_cancelled()) {
            Some(at) => {
                notes
                    .keep(|memo| {
                        memo.failures.insert(name.to_owned(), failures);
                        (memo.intended, memo.outcome) = (None, None);
                        memo.not_before = Some(at);
                    })
                    .await?;
                crash::here(Step::CallAgain);
                let after = Duration::try_from(at.duration_since(now)).unwrap_or_default();
                Err(JobError::Again { after, reason: in_words(&outcome), counts: true })
            }
            // A machine that was found is what was asked to be found.
            None if outcome.outcome == Verdict::Machine => Ok(result),
            None => Err(JobError::Permanent { reason: in_words(&outcome), result: Some(result) }),
        }
    }
}

fn result(outcome: &Outcome) -> Value {
    let mut result = json!(outcome);
    // Results have all their fields side by side; `outcome` is the one word.
    if let Some(fields) = result.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    result
}

fn in_words(outcome: &Outcome) -> String {
    let name = outcome.outcome.name().replace('_', " ");
    let cause = outcome.cause.as_ref().map(|cause| format!(" (cause {}, {})", cause.code, cause.text));
    let detail = outcome.detail.as_ref().map(|detail| format!(": {detail}"));
    format!("{name}{}{}", cause.unwrap_or_default(), detail.unwrap_or_default())
}

fn error(error: CallError) -> JobError {
    let reason = error.to_string();
    match &error {
        CallError::Hours { next } => {
            let after = Duration::try_from(next.duration_since(clock::timestamp())).unwrap_or_default();
            JobError::Again { after, reason, counts: false }
        }
        error if error.is_transient() => JobError::Again { after: AWAY, reason, counts: false },
        _ => JobError::permanent(reason),
    }
}

/// The journal of one attempt: the job's memo.
struct Notes<'a> {
    attempt: &'a Attempt,
    memo: Mutex<Memo>,
    number: u32,
}

impl Notes<'_> {
    async fn keep(&self, change: impl FnOnce(&mut Memo)) -> Result<(), JobError> {
        let mut memo = self.memo.lock().clone();
        change(&mut memo);
        self.attempt.note(&json!(memo)).await?;
        *self.memo.lock() = memo;
        Ok(())
    }
}

impl Notes<'_> {
    /// Of a call that Asterisk certainly never had nothing is to be looked for.
    async fn unless_not_placed(&self, outcome: Result<Outcome, CallError>) -> Result<Outcome, JobError> {
        if matches!(outcome, Err(CallError::NotPlaced { .. })) {
            self.keep(|memo| memo.intended = None).await?;
        }
        outcome.map_err(error)
    }
}

impl Journal for Notes<'_> {
    fn intends<'a>(&'a self, _: &'a CallId, at: Timestamp) -> BoxFuture<'a, Result<(), JournalError>> {
        async move {
            let intended = Intended { attempt: self.number, at };
            self.keep(|memo| memo.intended = Some(intended)).await.map_err(Into::into)
        }
        .boxed()
    }

    fn concluded<'a>(
        &'a self,
        _: &'a CallId,
        outcome: &'a Outcome,
    ) -> BoxFuture<'a, Result<(), JournalError>> {
        async move { self.keep(|memo| memo.outcome = Some(outcome.clone())).await.map_err(Into::into) }
            .boxed()
    }

    fn progress(&self, _: &CallId, progress: Progress) {
        self.attempt.progress(match progress {
            Progress::Placed => 0.1,
            Progress::Ringing => 0.3,
            Progress::Answered => 0.5,
            Progress::Speaking => 0.7,
        });
    }
}

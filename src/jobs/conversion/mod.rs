//! Conversion of files: by our own codecs, by Asterisk's (`file convert`), or by a dialplan context of the user's.
//!
//! Whoever converts, what counts is the output: it is read back to its end before the job is done.

mod by_asterisk;

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::background;
use super::error::JobError;
use super::message::ConversionAsked;
use super::roots::{PathError, Roots};
use super::worker::{Attempt, Handler};
use crate::asterisk::ami::AmiClient;
use crate::audio::convert::{Channels, Conversion, ConvertError, Converted, Target, convert};
use crate::audio::{AudioError, AudioFile, Format, Limits};
use crate::store::jobs::{Job, JobKind};

/// Who converts.
pub enum By {
    /// We do.
    Sidetone,
    /// Asterisk, by `file convert`.
    Asterisk(AmiClient),
    /// A dialplan context, to which the paths are given as `ARG1` and `ARG2`.
    Dialplan {
        /// The connection.
        ami: AmiClient,
        /// Where it begins.
        place: DialplanPlace,
        /// It has so long.
        timeout: Duration,
    },
}

/// A place in the dialplan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DialplanPlace {
    /// Context.
    pub context: String,
    /// Extension in it; the first priority.
    pub extension: String,
}

/// What is allowed.
#[derive(Clone, Debug)]
pub struct ConversionPolicy {
    /// Folders that inputs and outputs lie in.
    pub roots: Roots,
    /// Largest input, bytes.
    pub most_bytes: u64,
    /// Longest audio: a few bytes of silence may stand for hours.
    pub most_duration: Duration,
}

/// What does conversions.
pub struct Conversions {
    by: By,
    policy: Arc<ConversionPolicy>,
}

impl Conversions {
    /// By whom, and what is allowed.
    pub fn new(by: By, policy: ConversionPolicy) -> Self {
        Self { by, policy: Arc::new(policy) }
    }
}

impl Handler for Conversions {
    fn kind(&self) -> JobKind {
        JobKind::Conversion
    }

    fn run<'a>(&'a self, job: &'a Job, attempt: &'a Attempt) -> BoxFuture<'a, Result<Value, JobError>> {
        async move {
            let asked = ConversionAsked::deserialize(&job.payload).map_err(JobError::permanent)?;
            let target = target(&asked)?;
            let done = match &self.by {
                By::Sidetone => self.ours(job, &asked, target, attempt).await?,
                By::Asterisk(ami) => {
                    by_asterisk::file_convert(ami, &self.policy, job, &asked, target).await?
                }
                By::Dialplan { ami, place, timeout } => {
                    let dialplan = by_asterisk::Dialplan { ami, place, timeout: *timeout };
                    dialplan.convert(&self.policy, job, &asked, target, attempt).await?
                }
            };
            Ok(json!({
                "input": asked.input,
                "output": asked.output,
                "seconds": done.seconds,
                "bytes": done.bytes,
                "cut_off": done.flaws.cut_off,
                "damaged": done.flaws.damaged,
            }))
        }
        .boxed()
    }
}

/// The kind of the output.
///
/// # Errors
/// [`JobError::Permanent`] for a name that says none.
pub fn target(asked: &ConversionAsked) -> Result<Target, JobError> {
    match &asked.format {
        Some(format) => Target::of_name(format),
        None => Target::of_path(&asked.output),
    }
    .map_err(JobError::permanent)
}

impl Conversions {
    async fn ours(
        &self,
        job: &Job,
        asked: &ConversionAsked,
        target: Target,
        attempt: &Attempt,
    ) -> Result<Converted, JobError> {
        let (policy, tenant, asked) = (self.policy.clone(), job.key.tenant.clone(), asked.clone());
        let (cancel, stop, progress) =
            (attempt.cancel.clone(), attempt.stop.clone(), attempt.progress_teller());
        let work = move || {
            let mut go_on = |share| {
                progress.send_replace(share);
                !cancel.is_cancelled() && !stop.is_cancelled()
            };
            let done = convert_file(&policy, &tenant, &asked, target, &mut go_on);
            match done {
                Err(ConversionFailed::Convert(ConvertError::Cancelled)) if stop.is_cancelled() => {
                    Err(JobError::Stopped)
                }
                done => done.map_err(|error| error.into_job_error(&asked)),
            }
        };
        background::run("convert", work).await?
    }
}

enum ConversionFailed {
    Path(PathError),
    Convert(ConvertError),
}

fn convert_file(
    policy: &ConversionPolicy,
    tenant: &str,
    asked: &ConversionAsked,
    target: Target,
    go_on: &mut dyn FnMut(f64) -> bool,
) -> Result<Converted, ConversionFailed> {
    let input = policy.roots.open(tenant, &asked.input, policy.most_bytes).map_err(ConversionFailed::Path)?;
    let output = policy.roots.place(tenant, &asked.output).map_err(ConversionFailed::Path)?;
    let limits = Limits { duration: policy.most_duration };
    let mut source = AudioFile::open(&input.path(), Format::of_name(&asked.input), limits)
        .map_err(|error| ConversionFailed::Convert(error.into()))?;
    let conversion = Conversion { target, rate_hz: asked.rate, channels: Channels::Keep };
    convert(&mut source, &output.path(), conversion, go_on).map_err(ConversionFailed::Convert)
}

impl ConversionFailed {
    fn into_job_error(self, asked: &ConversionAsked) -> JobError {
        let (input, output) = (asked.input.display(), asked.output.display());
        match self {
            Self::Path(error) => error.into(),
            Self::Convert(ConvertError::Cancelled) => JobError::Cancelled,
            Self::Convert(ConvertError::Source(error @ (AudioError::Open(_) | AudioError::Io(_)))) => {
                JobError::transient(format!("{input}: {error}"))
            }
            Self::Convert(ConvertError::Source(error)) => JobError::permanent(format!("{input}: {error}")),
            Self::Convert(ConvertError::Write { source, .. }) => {
                JobError::transient(format!("cannot write {output}: {source}"))
            }
            Self::Convert(ConvertError::Unverified { reason, .. }) => {
                JobError::transient(format!("{output} was written and cannot be read back: {reason}"))
            }
            Self::Convert(error) => JobError::permanent(format!("{input} to {output}: {error}")),
        }
    }
}

/// What can be known of a job before it is taken in: a request is refused then, where a message would lie among the dead letters.
///
/// # Errors
/// [`JobError::Permanent`] for what can never be done.
pub fn check(policy: &ConversionPolicy, tenant: &str, asked: &ConversionAsked) -> Result<(), JobError> {
    target(asked)?;
    if asked.input == asked.output {
        return Err(JobError::permanent("input and output are the same file"));
    }
    policy.roots.open(tenant, &asked.input, policy.most_bytes).map_err(JobError::permanent)?;
    Ok(())
}

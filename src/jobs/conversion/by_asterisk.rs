//! Conversion by Asterisk: its paths are those of its machine, so both ends lie in folders that it and we share under one name.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{ConversionPolicy, DialplanPlace};
use crate::asterisk::ami::{self, AmiAction, AmiClient, AmiError, FileConvertError};
use crate::audio::Format;
use crate::audio::convert::{Converted, Target, read_back};
use crate::jobs::error::JobError;
use crate::jobs::message::ConversionAsked;
use crate::jobs::worker::Attempt;
use crate::store::jobs::Job;

/// A dialplan that writes does so at the latest this often; whether the output is whole is looked at then.
const LOOK: Duration = Duration::from_millis(100);
/// Whether it is back is asked this often.
const AWAY: Duration = Duration::from_secs(5);
/// The output may be so much shorter or longer than the input: a frame of GSM at either end, and rounding.
const TOLERANCE_SECONDS: f64 = 0.05;

/// Have Asterisk convert into a file beside the output, read it back, and give it its name.
pub(super) async fn file_convert(
    ami: &AmiClient,
    policy: &ConversionPolicy,
    job: &Job,
    asked: &ConversionAsked,
    target: Target,
) -> Result<Converted, JobError> {
    let seconds = length_of(policy, job, asked)?;
    let place = policy.roots.place(&job.key.tenant, &asked.output)?;
    let draft_name = format!(".sidetone-{}.{}", uuid::Uuid::now_v7(), extension_for_asterisk(target));
    // Asterisk cannot be given our descriptor; it gets the name, and what we use afterwards is in the folder that we opened.
    let folder = asked.output.parent().unwrap_or(Path::new("/"));
    let draft = place.folder_path().join(&draft_name);
    let remove = Removed(draft.clone());
    ami::file_convert(ami, &asked.input, &folder.join(&draft_name)).await.map_err(|error| match error {
        FileConvertError::Path(_) => JobError::permanent(error),
        FileConvertError::Ami(error) => ami_error(error),
        FileConvertError::Refused(_) => JobError::transient(error),
    })?;
    let done = verified(draft.clone(), None, seconds).await.map_err(|reason| {
        JobError::transient(format!(
            "Asterisk's output for {} is not right: {reason}",
            asked.output.display()
        ))
    })?;
    std::fs::rename(&draft, place.path())
        .map_err(|error| JobError::transient(format!("cannot name {}: {error}", asked.output.display())))?;
    drop(remove);
    Ok(done)
}

/// Of an Originate into the dialplan.
pub(super) struct Dialplan<'a> {
    pub(super) ami: &'a AmiClient,
    pub(super) place: &'a DialplanPlace,
    pub(super) timeout: Duration,
}

impl Dialplan<'_> {
    pub(super) async fn convert(
        &self,
        policy: &ConversionPolicy,
        job: &Job,
        asked: &ConversionAsked,
        target: Target,
        attempt: &Attempt,
    ) -> Result<Converted, JobError> {
        let seconds = length_of(policy, job, asked)?;
        let place = policy.roots.place(&job.key.tenant, &asked.output)?;
        let arguments = [argument("ARG1", &asked.input)?, argument("ARG2", &asked.output)?];
        // What lies there from before must not be taken for what this conversion wrote.
        match std::fs::remove_file(place.path()) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(JobError::transient(format!(
                    "cannot replace {}: {error}",
                    asked.output.display()
                )));
            }
        }
        let DialplanPlace { context, extension } = self.place;
        // One half of the Local channel runs the context; the other waits until it hangs up.
        let action = AmiAction::new("Originate")
            .with("Channel", format!("Local/{extension}@{context}"))
            .with("Application", "Wait")
            .with("Data", self.timeout.as_secs().to_string())
            .with("Timeout", self.timeout.as_millis().to_string())
            .with("CallerID", "Sidetone")
            .with("Async", "true")
            .with("Variable", format!("{},{}", arguments[0], arguments[1]));
        match self.ami.send(action).await {
            Ok(_) => {}
            Err(error @ AmiError::Refused { .. }) => {
                return Err(JobError::permanent(format!(
                    "Asterisk refuses to begin {extension}@{context}: {error} (is it in the dialplan, and may the AMI user `originate`?)"
                )));
            }
            Err(error) => return Err(ami_error(error)),
        }
        let format = target.format(asked.rate.unwrap_or_else(|| target.rate_for(8_000)));
        let deadline = tokio::time::sleep(self.timeout);
        tokio::pin!(deadline);
        let mut last = "it wrote nothing".to_owned();
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                reason = attempt.given_up() => return Err(reason),
                () = &mut deadline => {
                    return Err(JobError::transient(format!(
                        "the dialplan at {extension}@{context} did not write {} within {} s: {last} (stock Asterisk has no Convert(); see \
                         asterisk-conf/extensions.conf)",
                        asked.output.display(), self.timeout.as_secs()
                    )));
                }
            }
            match verified(place.path(), Some(format), seconds).await {
                Ok(done) => return Ok(done),
                Err(reason) => last = reason,
            }
        }
    }
}

/// A variable as Originate takes it; `,` would begin the next one, and the dialplan evaluates the rest.
fn argument(name: &str, path: &Path) -> Result<String, JobError> {
    let harmless =
        |c: char| c.is_alphanumeric() || matches!(c, '/' | '.' | '-' | '_' | ' ' | '+' | '@' | '=');
    match path.to_str().filter(|text| text.chars().all(harmless)) {
        Some(text) => Ok(format!("{name}={text}")),
        None => Err(JobError::permanent(format!(
            "{} cannot be given to the dialplan: use letters, digits, spaces and `/ . - _ + @ =` alone",
            path.display()
        ))),
    }
}

/// An Asterisk that is away is waited for: that is no attempt.
fn ami_error(error: AmiError) -> JobError {
    match error.is_transient() {
        true => JobError::Again { after: AWAY, reason: error.to_string(), counts: false },
        false => JobError::permanent(error),
    }
}

/// How long the input is, seconds; it is opened as for our own codecs, so that the same inputs are refused.
fn length_of(policy: &ConversionPolicy, job: &Job, asked: &ConversionAsked) -> Result<f64, JobError> {
    let input = policy.roots.open(&job.key.tenant, &asked.input, policy.most_bytes)?;
    let wrong = |error| JobError::permanent(format!("{}: {error}", asked.input.display()));
    let done = read_back(&input.path(), Format::of_name(&asked.input)).map_err(wrong)?;
    Ok(done.seconds)
}

async fn verified(output: PathBuf, format: Option<Format>, seconds: f64) -> Result<Converted, String> {
    let read = tokio::task::spawn_blocking(move || read_back(&output, format))
        .await
        .map_err(|error| error.to_string())?;
    let done = read.map_err(|error| error.to_string())?;
    if (done.seconds - seconds).abs() > TOLERANCE_SECONDS {
        return Err(format!("{:.2} s where the input has {seconds:.2}", done.seconds));
    }
    Ok(done)
}

/// Asterisk knows GSM in WAV by `WAV` alone.
fn extension_for_asterisk(target: Target) -> &'static str {
    if target == Target::Wav49 { "WAV" } else { target.extension() }
}

/// Removed when dropped, if it is there.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        // It has its name by now, or Asterisk never made it.
        let _ = std::fs::remove_file(&self.0);
    }
}

//! Places a call and follows it to its end, whatever happens to the connection or to this process in between.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::audio::{AudioFolder, CallAudio};
use super::do_not_call::DoNotCall;
use super::error::{CallError, JournalError};
use super::events::{Line, Link, Switchboard};
use super::follow::Follow;
use super::number::Number;
use super::outcome::{Outcome, Verdict};
use super::place::{Order, Placed, Spool, last_word};
use super::window;
use crate::asterisk::ami::{AmiAction, AmiClient, AmiError, AmiNotices};
use crate::asterisk::ari::AriClient;
use crate::clock;
use crate::config::Settings;
use crate::config::tts_calls::{CallRules, PlacedBy};
use crate::crash::{self, Step};

mod pursue;

/// Classes of events that calls are followed by: what the connection's `events` must name, and manager.conf's `read`.
pub const AMI_EVENTS: &str = "call,user";

/// Longest id of a job. Asterisk takes 149 characters for a channel's, and an attempt is added.
const MOST_ID: usize = 100;

/// A call to be placed.
#[derive(Clone, Debug, PartialEq)]
pub struct CallRequest {
    /// Which attempt of which job.
    pub id: CallId,
    /// Whose.
    pub tenant: String,
    /// Whom to call, as it was given.
    pub number: String,
    /// What to say.
    pub audio: CallAudio,
}

/// An attempt of a job. Its channel's id is made of it, and so a call is never placed twice under it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CallId {
    job: String,
    attempt: u32,
}

impl CallId {
    /// `job` is 1 to 100 letters, digits, `-` and `_`.
    ///
    /// # Errors
    /// [`CallError::BadId`].
    pub fn new(job: &str, attempt: u32) -> Result<Self, CallError> {
        let is_good = (1..=MOST_ID).contains(&job.len())
            && job.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
        if is_good {
            Ok(Self { job: job.to_owned(), attempt })
        } else {
            Err(CallError::BadId { id: job.chars().take(MOST_ID).collect() })
        }
    }

    /// The job.
    pub fn job(&self) -> &str {
        &self.job
    }

    /// Counted as the jobs do.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }
}

/// The channel's id.
impl std::fmt::Display for CallId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.job, self.attempt)
    }
}

/// How far a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Asterisk has it.
    Placed,
    /// It rings.
    Ringing,
    /// It is answered.
    Answered,
    /// The text is being spoken.
    Speaking,
}

/// Keeps what must not be forgotten if this process dies. Both are waited for.
pub trait Journal: Send + Sync {
    /// The call is about to be placed: from now on it may have been, and after a restart [`Caller::resume`] is asked about it.
    fn intends<'a>(&'a self, id: &'a CallId, at: Timestamp) -> BoxFuture<'a, Result<(), JournalError>>;

    /// This became of it. Only then it is removed from Asterisk's database.
    fn concluded<'a>(
        &'a self,
        id: &'a CallId,
        outcome: &'a Outcome,
    ) -> BoxFuture<'a, Result<(), JournalError>>;

    /// How far it is, for whom that interests.
    fn progress(&self, _id: &CallId, _progress: Progress) {}
}

/// What a call leaves until it is told of: of the call with this channel id.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Leftover {
    /// The dialplan's report in Asterisk's database.
    Report(String),
    /// Its audio in the folder.
    Audio(String),
    /// A call file that Asterisk was not given, beside the spool.
    CallFile(String),
}

impl Leftover {
    /// Id of the call's channel.
    pub fn channel(&self) -> &str {
        match self {
            Self::Report(channel) | Self::Audio(channel) | Self::CallFile(channel) => channel,
        }
    }
}

/// Places calls and follows them. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Caller {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    client: AmiClient,
    ari: Option<AriClient>,
    board: Arc<Switchboard>,
    rules: Arc<CallRules>,
    tenants: HashMap<String, Arc<CallRules>>,
    lists: DoNotCall,
    audio: AudioFolder,
    spool: Spool,
}

impl Caller {
    /// `notices` are those of `client`, whose connection has [`AMI_EVENTS`]; they are read from now on. `ari`: for tenants whose calls
    /// are placed by it.
    ///
    /// # Errors
    /// What is wrong with `tts_calls`, as of [`Settings::call_rules`].
    pub fn new(
        settings: &Settings,
        client: AmiClient,
        notices: AmiNotices,
        ari: Option<AriClient>,
    ) -> Result<Self, Vec<String>> {
        let rules = Arc::new(settings.call_rules("")?);
        let tenants = settings.tts_calls.tenants.keys();
        let tenants = tenants
            .map(|tenant| Ok((tenant.clone(), Arc::new(settings.call_rules(tenant)?))))
            .collect::<Result<_, Vec<String>>>()?;
        let inner = Inner {
            client,
            ari,
            board: Switchboard::start(notices),
            rules,
            tenants,
            lists: DoNotCall::default(),
            audio: AudioFolder::new(&settings.call_audio_folder()),
            spool: Spool::new(Path::new(&settings.tts_calls.spool)),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Returns once the Manager is connected. Without it no call is placed.
    pub async fn connected(&self) {
        self.inner.board.connected().await;
    }

    /// A tenant's rules.
    pub fn rules(&self, tenant: &str) -> Arc<CallRules> {
        self.inner.tenants.get(tenant).unwrap_or(&self.inner.rules).clone()
    }

    /// Whether a number may be called by that tenant, and as what: to refuse a request at the door.
    ///
    /// # Errors
    /// [`CallError::Number`], [`CallError::DoNotCall`], [`CallError::DoNotCallList`].
    pub fn check(&self, tenant: &str, number: &str) -> Result<Number, CallError> {
        let rules = self.rules(tenant);
        let number = Number::parse(number, &rules)?;
        if self.inner.lists.has(&number, &rules)? {
            return Err(CallError::DoNotCall { number: number.to_string() });
        }
        Ok(number)
    }

    /// Place a call and follow it to its end. Cancelled, it is hung up, and its end is waited for all the same. Dropped, it goes on
    /// in Asterisk, and [`Self::resume`] takes it up again.
    ///
    /// # Errors
    /// [`CallError`]: nobody was called; or, of [`CallError::Journal`], see there.
    pub async fn call(
        &self,
        request: &CallRequest,
        journal: &dyn Journal,
        cancel: &CancellationToken,
    ) -> Result<Outcome, CallError> {
        let rules = self.rules(&request.tenant);
        let number = self.check(&request.tenant, &request.number)?;
        let now = clock::timestamp();
        let next = window::next_allowed(&rules.hours, now);
        if next > now {
            return Err(CallError::Hours { next });
        }
        if rules.by == PlacedBy::Ari && self.inner.ari.is_none() {
            return Err(CallError::NoAri);
        }
        let id = request.id.to_string();
        let line = self.line(&id)?;
        // Without it the call could be placed by ARI or file, and not be followed.
        if let Link::Down(reason) = &*line.link.borrow() {
            let reason = reason.clone().unwrap_or_else(|| "the Manager is not connected yet".into());
            return Err(CallError::NotPlaced { reason, is_transient: true });
        }
        let file = self.put_audio(&id, &request.audio).await?;
        let order = Order::new(&id, number.channel(&rules.channel), file, &rules);
        crash::here(Step::CallPrepared);
        let kept = journal.intends(&request.id, now).await;
        if let Err(source) = kept {
            self.inner.audio.remove(&id);
            return Err(CallError::Journal { id, source });
        }
        if cancel.is_cancelled() {
            let outcome = Outcome { placed_at: None, ..Outcome::of(Verdict::Cancelled) };
            return self.conclude(&request.id, outcome, journal).await;
        }
        crash::here(Step::CallIntended);
        tracing::info!(call = id, tenant = request.tenant, channel = order.channel, "a call is placed");
        let placed_at = clock::timestamp();
        let placed = match rules.by {
            PlacedBy::Ami => order.by_ami(&self.inner.client).await,
            PlacedBy::Ari => match &self.inner.ari {
                Some(ari) => order.by_ari(ari).await,
                None => Err(CallError::NoAri),
            },
            PlacedBy::File => order.by_file(&self.inner.spool).await,
        };
        crash::here(Step::CallPlaced);
        let placed = placed.inspect_err(|_| self.inner.audio.remove(&id))?;
        if let Placed::NoChannel(reason) = &placed {
            let detail = Some(format!("Asterisk could make no channel: {reason} (tts_calls.channel)"));
            let ended_at = Some(clock::timestamp());
            let outcome =
                Outcome { placed_at: Some(placed_at), ended_at, detail, ..Outcome::of(Verdict::Failed) };
            return self.conclude(&request.id, outcome, journal).await;
        }
        journal.progress(&request.id, Progress::Placed);
        let follow = Follow::new(last_word(rules.by), Some(placed_at), rules.longest);
        let doubt = if matches!(placed, Placed::Perhaps) { Doubt::Perhaps } else { Doubt::None };
        let outcome = self.pursue(&request.id, line, follow, doubt, &rules, journal, cancel).await?;
        self.conclude(&request.id, outcome, journal).await
    }

    /// After a restart, for a call that was intended and not concluded: a live one is followed, one that has ended meanwhile told of,
    /// and one that Asterisk knows nothing of is [`Verdict::Unknown`]. Waits for the connection.
    ///
    /// # Errors
    /// [`CallError::UnderWay`], [`CallError::Journal`]; and [`CallError::NotPlaced`] for a call file that Asterisk never took.
    pub async fn resume(
        &self,
        id: &CallId,
        tenant: &str,
        placed_at: Option<Timestamp>,
        journal: &dyn Journal,
        cancel: &CancellationToken,
    ) -> Result<Outcome, CallError> {
        let rules = self.rules(tenant);
        let line = self.line(&id.to_string())?;
        let follow = Follow::new(last_word(rules.by), placed_at, rules.longest);
        tracing::info!(call = %id, "a call of before is looked for");
        let outcome = self.pursue(id, line, follow, Doubt::Perhaps, &rules, journal, cancel).await?;
        self.conclude(id, outcome, journal).await
    }

    /// What calls have left: reports in Asterisk's database, audio, and files that were not placed.
    ///
    /// # Errors
    /// [`AmiError`].
    pub async fn leftovers(&self) -> Result<Vec<Leftover>, AmiError> {
        let reports = pursue::reported(&self.inner.client).await?.into_iter().map(Leftover::Report);
        let (folder, spool) = (self.inner.audio.clone(), self.inner.spool.clone());
        let files = move || (folder.all(), spool.withheld());
        let (audio, withheld) = tokio::task::spawn_blocking(files).await.unwrap_or_default();
        let files = audio.into_iter().map(Leftover::Audio);
        Ok(reports.chain(files).chain(withheld.into_iter().map(Leftover::CallFile)).collect())
    }

    /// Remove one; it is well if it is gone.
    ///
    /// # Errors
    /// [`AmiError`].
    pub async fn remove(&self, leftover: &Leftover) -> Result<(), AmiError> {
        match leftover {
            Leftover::Report(channel) => pursue::forget(&self.inner.client, channel).await,
            Leftover::Audio(channel) => {
                self.inner.audio.remove(channel);
                Ok(())
            }
            Leftover::CallFile(channel) => {
                self.discard(channel).await;
                Ok(())
            }
        }
    }

    /// Remove what a call leaves whose outcome is kept.
    pub async fn tidy(&self, id: &CallId) {
        self.remove_audio(id);
        let channel_id = id.to_string();
        if let Err(error) = pursue::forget(&self.inner.client, &channel_id).await {
            // It stays until it is swept.
            tracing::debug!(call = channel_id, %error, "a call's report stays in Asterisk's database");
        }
    }

    /// Remove the audio of a call that is not made.
    pub fn remove_audio(&self, id: &CallId) {
        self.inner.audio.remove(&id.to_string());
    }

    fn line(&self, id: &str) -> Result<Line, CallError> {
        self.inner.board.open(id).ok_or_else(|| CallError::UnderWay { id: id.to_owned() })
    }

    async fn put_audio(&self, id: &str, audio: &CallAudio) -> Result<String, CallError> {
        let (folder, own, audio) = (self.inner.audio.clone(), id.to_owned(), audio.clone());
        let put = tokio::task::spawn_blocking(move || folder.put(&own, &audio)).await;
        put.unwrap_or_else(|error| {
            Err(CallError::NotPlaced { reason: error.to_string(), is_transient: true })
        })
    }

    async fn conclude(
        &self,
        id: &CallId,
        outcome: Outcome,
        journal: &dyn Journal,
    ) -> Result<Outcome, CallError> {
        let channel_id = id.to_string();
        tracing::info!(call = channel_id, outcome = outcome.outcome.name(), "a call is over");
        crash::here(Step::CallOver);
        journal
            .concluded(id, &outcome)
            .await
            .map_err(|source| CallError::Journal { id: channel_id.clone(), source })?;
        crash::here(Step::CallNoted);
        self.tidy(id).await;
        Ok(outcome)
    }

    async fn hang_up(&self, channel: &str) {
        let action = AmiAction::new("Hangup").with("Channel", channel).with("Cause", "16");
        if let Err(error) = self.inner.client.send(action).await {
            // Not there yet, or no longer; it is tried again while the call goes on.
            tracing::debug!(channel, %error, "a call is not hung up");
        }
    }
}

/// Whether Asterisk has the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doubt {
    /// It said so.
    None,
    /// It has to be looked for.
    Perhaps,
}

/// So long a line waits for the next look, a last word, and the like.
mod pause {
    use super::Duration;

    /// A last word comes within milliseconds of the channel's end.
    pub(super) const LAST_WORD: Duration = Duration::from_secs(2);
    /// A call is looked at so often, should an event have been lost.
    pub(super) const LOOK: Duration = Duration::from_secs(30);
    /// What was not found is looked for a second time: between a channel's end and the dialplan's report of a failure is a moment
    /// in which there is neither.
    pub(super) const AGAIN: Duration = Duration::from_secs(2);
    /// A hangup is asked for so often until the channel is gone.
    pub(super) const HANGUP: Duration = Duration::from_secs(1);
    /// A call file that Asterisk has not taken by then is taken back. It looks once a second.
    pub(super) const SPOOL: Duration = Duration::from_secs(15);
    /// Beyond all that a call may last: then nobody will know what became of it.
    pub(super) const LOST: Duration = Duration::from_secs(600);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_one_that_asterisk_and_files_take() {
        assert_eq!(CallId::new("0197-ab_c", 3).unwrap().to_string(), "0197-ab_c-3");
        for bad in ["", "a/b", "a b", "a\nb", "ä", &"a".repeat(101)] {
            assert!(matches!(CallId::new(bad, 1), Err(CallError::BadId { .. })), "{bad}");
        }
    }
}

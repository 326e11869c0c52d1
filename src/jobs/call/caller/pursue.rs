//! A call on its way: told of by events, looked for where events may be missing.

use tokio_util::sync::CancellationToken;

use super::{CallId, Caller, Doubt, Journal, Progress, pause};
use crate::asterisk::ami::{AmiAction, AmiClient, AmiError, AmiMessage};
use crate::clock;
use crate::config::tts_calls::{CallRules, PlacedBy};
use crate::crash::{self, Step};
use crate::jobs::call::error::CallError;
use crate::jobs::call::events::{Line, Link, is_main, state};
use crate::jobs::call::follow::{Fact, Follow};
use crate::jobs::call::outcome::{Outcome, Verdict};
use crate::jobs::call::place::{Filed, Spool};
use crate::jobs::call::report::{At, FAMILY, Report};
use crate::media::time::MediaInstant;

/// Where a call was found.
enum Found {
    /// Its channel lives.
    Live { channel: String, fact: Option<Fact> },
    /// Its call file is there.
    Filed(Filed),
    /// It has ended, and this is what the dialplan kept.
    Report(Report),
    /// Nowhere.
    Nowhere,
}

/// What is to be done when.
struct Agenda {
    look: MediaInstant,
    settle: Option<MediaInstant>,
    hangup: Option<MediaInstant>,
    take_back: Option<MediaInstant>,
    lost: MediaInstant,
}

impl Caller {
    /// Follow a call to its outcome.
    #[expect(clippy::too_many_arguments, reason = "all of a call and all who have to do with it")]
    pub(super) async fn pursue(
        &self,
        id: &CallId,
        mut line: Line,
        mut follow: Follow,
        doubt: Doubt,
        rules: &CallRules,
        journal: &dyn Journal,
        cancel: &CancellationToken,
    ) -> Result<Outcome, CallError> {
        let channel_id = id.to_string();
        let begun = clock::now();
        let is_filed = rules.by == PlacedBy::File;
        let mut agenda = Agenda {
            look: if doubt == Doubt::Perhaps { begun } else { begun + pause::LOOK },
            settle: None,
            hangup: None,
            take_back: is_filed.then(|| begun + pause::SPOOL),
            lost: begun + rules.ring + rules.longest + pause::LOST,
        };
        let mut link = line.link.clone();
        let (mut nowhere, mut told, mut is_cancelled) = (0, Progress::Placed, false);
        loop {
            if let Some(outcome) = follow.outcome() {
                return Ok(outcome);
            }
            let now = clock::now();
            if follow.is_ending() {
                agenda.settle.get_or_insert(now + pause::LAST_WORD);
            }
            if line.has_missed() {
                agenda.look = now;
            }
            let is_up = matches!(&*link.borrow_and_update(), Link::Up(_));
            if agenda.settle.is_some_and(|at| at <= now) {
                if follow.wants_report()
                    && let Ok(Some(report)) = kept(&self.inner.client, &channel_id).await
                {
                    follow.take(clock::timestamp(), Fact::Report(report));
                }
                return Ok(follow.settle());
            }
            if agenda.lost <= now {
                return Ok(lost(
                    &follow,
                    is_cancelled,
                    "it was not seen to end in the time that it may last",
                ));
            }
            if agenda.take_back.is_some_and(|at| at <= now) {
                agenda.take_back = None;
                if self.take_back(&channel_id).await {
                    self.inner.audio.remove(&channel_id);
                    return Err(CallError::NotPlaced {
                        reason: "Asterisk does not take call files: is pbx_spool.so loaded, and is tts_calls.spool its folder?".into(),
                        is_transient: true,
                    });
                }
            }
            if is_up && agenda.hangup.is_some_and(|at| at <= now) {
                agenda.hangup = Some(now + pause::HANGUP);
                if is_filed && self.take_back(&channel_id).await {
                    return Ok(lost(&follow, true, "Asterisk had not begun to call"));
                }
                self.hang_up(&line.channel()).await;
            }
            if is_up && agenda.look <= now {
                agenda.look = clock::now() + pause::LOOK;
                match find(&self.inner.client, is_filed.then_some(&self.inner.spool), &channel_id).await {
                    Ok(Found::Live { channel, fact }) => {
                        (nowhere, agenda.take_back) = (0, None);
                        line.found(&channel);
                        if let Some(fact) = fact {
                            follow.take(clock::timestamp(), fact);
                        }
                    }
                    Ok(Found::Filed(Filed::Begun)) => (nowhere, agenda.take_back) = (0, None),
                    Ok(Found::Filed(Filed::Withheld)) => {
                        self.discard(&channel_id).await;
                        self.inner.audio.remove(&channel_id);
                        return Err(CallError::NotPlaced {
                            reason: "its call file had not come into tts_calls.spool when Sidetone ended"
                                .into(),
                            is_transient: true,
                        });
                    }
                    Ok(Found::Filed(_)) => nowhere = 0,
                    Ok(Found::Report(report)) => follow.take(clock::timestamp(), Fact::Report(report)),
                    Ok(Found::Nowhere) if nowhere == 0 => {
                        nowhere = 1;
                        agenda.look = clock::now() + pause::AGAIN;
                    }
                    // Its last words may have come meanwhile, and wait to be heard.
                    Ok(Found::Nowhere) if !follow.is_ending() && line.is_quiet() => {
                        return Ok(lost(
                            &follow,
                            is_cancelled,
                            "Asterisk has neither its channel nor a report on it",
                        ));
                    }
                    Ok(Found::Nowhere) => {}
                    Err(error) if error.is_transient() => agenda.look = clock::now() + pause::AGAIN,
                    Err(error) => {
                        tracing::warn!(call = channel_id, %error, "a call cannot be looked for");
                    }
                }
                continue;
            }
            tokio::select! {
                (at, fact) = line.next() => {
                    agenda.take_back = None;
                    nowhere = 0;
                    if let Some(progress) = progress(&fact).filter(|progress| *progress as u8 > told as u8) {
                        told = progress;
                        journal.progress(id, progress);
                        match progress {
                            Progress::Ringing => crash::here(Step::CallRinging),
                            Progress::Speaking => crash::here(Step::CallSpeaking),
                            Progress::Placed | Progress::Answered => {}
                        }
                    }
                    follow.take(at, fact);
                }
                changed = link.changed() => {
                    // What happened while there was no connection, nobody tells.
                    agenda.look = clock::now();
                    if changed.is_err() {
                        return Ok(lost(&follow, is_cancelled, "the connection to Asterisk was given up"));
                    }
                }
                () = cancel.cancelled(), if !is_cancelled => {
                    is_cancelled = true;
                    follow.cancel();
                    agenda.hangup = Some(clock::now());
                }
                () = tokio::time::sleep(agenda.next(is_up).saturating_since(clock::now())) => {}
            }
        }
    }

    /// Remove the file of a call that was not placed by it.
    pub(super) async fn discard(&self, id: &str) {
        let (spool, own) = (self.inner.spool.clone(), id.to_owned());
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || spool.discard(&own)).await {
            tracing::warn!(call = id, %error, "a call file that was not placed cannot be removed");
        }
    }

    /// Whether a call file was taken back, and nobody is called by it.
    async fn take_back(&self, id: &str) -> bool {
        let (spool, own) = (self.inner.spool.clone(), id.to_owned());
        match tokio::task::spawn_blocking(move || spool.take_back(&own)).await {
            Ok(Ok(taken)) => taken,
            Ok(Err(error)) => {
                tracing::warn!(call = id, %error, "a call file cannot be taken back");
                false
            }
            Err(_) => false,
        }
    }
}

impl Agenda {
    /// The next thing to do. Without a connection nothing can be looked for or hung up.
    fn next(&self, is_up: bool) -> MediaInstant {
        let asked = [Some(self.look), self.hangup].into_iter().filter(|_| is_up).flatten();
        let own = [self.settle, self.take_back, Some(self.lost)].into_iter().flatten();
        asked.chain(own).min().unwrap_or(self.lost)
    }
}

fn progress(fact: &Fact) -> Option<Progress> {
    match fact {
        Fact::Ringing => Some(Progress::Ringing),
        Fact::Up => Some(Progress::Answered),
        Fact::Report(report) if report.at == At::Speaking => Some(Progress::Speaking),
        _ => None,
    }
}

/// The outcome of a call that is nowhere to be found.
fn lost(follow: &Follow, is_cancelled: bool, why: &str) -> Outcome {
    let outcome = follow.settle();
    let verdict = if is_cancelled { Verdict::Cancelled } else { Verdict::Unknown };
    Outcome { outcome: verdict, detail: Some(why.into()), ..outcome }
}

/// Look for a call: its channel, its file, its report.
async fn find(client: &AmiClient, spool: Option<&Spool>, id: &str) -> Result<Found, AmiError> {
    let channels = client.list(AmiAction::new("CoreShowChannels")).await?;
    let is_own = |channel: &&AmiMessage| {
        let by_account = spool.is_some() && channel.get("AccountCode") == Some(id) && is_main(channel);
        channel.get("Uniqueid") == Some(id) || by_account
    };
    if let Some(channel) = channels.iter().find(is_own) {
        let fact = channel.get("ChannelState").and_then(state);
        let fact = fact.map(|fact| Fact::Seen { is_up: fact == Fact::Up });
        let channel = channel.get("Uniqueid").unwrap_or(id).to_owned();
        return Ok(Found::Live { channel, fact });
    }
    if let Some(spool) = spool {
        let (spool, own) = (spool.clone(), id.to_owned());
        match tokio::task::spawn_blocking(move || spool.look(&own)).await {
            Ok(Ok(Filed::Gone)) | Err(_) => {}
            Ok(Ok(filed)) => return Ok(Found::Filed(filed)),
            Ok(Err(error)) => tracing::warn!(call = id, %error, "a call file cannot be read"),
        }
    }
    Ok(kept(client, id).await?.map_or(Found::Nowhere, Found::Report))
}

/// What the dialplan kept in Asterisk's database.
async fn kept(client: &AmiClient, id: &str) -> Result<Option<Report>, AmiError> {
    let action = AmiAction::new("DBGet").with("Family", FAMILY).with("Key", id);
    match client.list(action).await {
        Ok(values) => Ok(values.iter().find_map(|value| Report::parse(value.get("Val")?))),
        Err(AmiError::Refused { message, .. }) if message.contains("not found") => Ok(None),
        Err(error) => Err(error),
    }
}

/// Channel ids of all reports kept there.
pub(super) async fn reported(client: &AmiClient) -> Result<Vec<String>, AmiError> {
    let shown = client.send(command(&format!("database show {FAMILY}"))).await?;
    let prefix = format!("/{FAMILY}/");
    let entries = shown.output().filter_map(|line| line.trim().strip_prefix(&prefix)?.split(':').next());
    Ok(entries.map(|id| id.trim().to_owned()).collect())
}

/// By its command line: `DBDel` would need the class `system`, with which one may do anything on Asterisk's machine.
pub(super) async fn forget(client: &AmiClient, id: &str) -> Result<(), AmiError> {
    match client.send(command(&format!("database del {FAMILY} {id}"))).await {
        Ok(_) => Ok(()),
        Err(AmiError::Refused { message, .. }) if message.contains("does not exist") => Ok(()),
        Err(error) => Err(error),
    }
}

fn command(text: &str) -> AmiAction {
    AmiAction::new("Command").with("Command", text)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn without_a_connection_only_what_needs_none_is_waited_for() {
        let at = |seconds: u64| MediaInstant::from_nanos(seconds * 1_000_000_000);
        let agenda =
            Agenda { look: at(1), settle: None, hangup: Some(at(2)), take_back: Some(at(15)), lost: at(900) };
        assert_eq!((agenda.next(true), agenda.next(false)), (at(1), at(15)));
        let agenda = Agenda { take_back: None, settle: Some(at(30)), ..agenda };
        assert_eq!(agenda.next(false), at(30));
    }

    #[test]
    fn a_call_that_is_nowhere_is_unknown_unless_it_was_called_off() {
        let placed = Timestamp::from_second(1_795_978_297).unwrap();
        let mut follow = Follow::new(
            crate::jobs::call::follow::LastWord::Response,
            Some(placed),
            std::time::Duration::from_secs(600),
        );
        follow.take(placed, Fact::Up);
        let outcome = lost(&follow, false, "gone");
        assert_eq!((outcome.outcome, outcome.answered_at), (Verdict::Unknown, Some(placed)));
        assert_eq!(outcome.detail.as_deref(), Some("gone"));
        assert_eq!(lost(&follow, true, "gone").outcome, Verdict::Cancelled);
    }
}

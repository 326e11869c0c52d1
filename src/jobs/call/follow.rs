//! From what Asterisk tells of a call to its outcome. Sans-IO.

use std::time::Duration;

use jiff::Timestamp;

use super::outcome::{Cause, EndedBy, Outcome, Playback, Played, Verdict, unanswered};
use super::report::{At, Report};

/// An `OriginateResponse`'s reason, and the dialplan's `REASON`: the control frame that came last (frame.h).
mod reason {
    pub(super) const RINGING: u8 = 3;
    pub(super) const BUSY: u8 = 5;
    pub(super) const CONGESTION: u8 = 8;
}

/// What happened to the call.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Fact {
    /// It rings.
    Ringing,
    /// It is answered.
    Up,
    /// It was found like that, since when is not known.
    Seen {
        /// Answered; else it rings.
        is_up: bool,
    },
    /// The Originate failed.
    Refused {
        /// The last control frame.
        reason: u8,
    },
    /// Its channel ended.
    Ended(Cause),
    /// The dialplan's word.
    Report(Report),
}

/// What comes besides a channel's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LastWord {
    /// `OriginateResponse`, about when a channel that was not answered ends.
    Response,
    /// Nothing.
    None,
    /// The dialplan's `failed`, at the same time.
    Report,
}

/// A call that is followed.
#[derive(Clone, Debug)]
pub(super) struct Follow {
    last_word: LastWord,
    placed_at: Option<Timestamp>,
    ringing_at: Option<Timestamp>,
    answered_at: Option<Timestamp>,
    report: Option<Report>,
    refused: Option<(Timestamp, u8)>,
    ended: Option<(Timestamp, Cause)>,
    seen_ringing: bool,
    seen_up: bool,
    cancelled: bool,
    longest: Duration,
}

impl Follow {
    /// `placed_at`: when Asterisk was told, if that is known. `longest`: when Asterisk hangs up by itself.
    pub(super) fn new(last_word: LastWord, placed_at: Option<Timestamp>, longest: Duration) -> Self {
        Self {
            last_word,
            placed_at,
            ringing_at: None,
            answered_at: None,
            report: None,
            refused: None,
            ended: None,
            seen_ringing: false,
            seen_up: false,
            cancelled: false,
            longest,
        }
    }

    /// It was called off, and is being hung up.
    pub(super) fn cancel(&mut self) {
        self.cancelled = true;
    }

    /// Whether its channel has ended, or never was: nothing but last words can come.
    pub(super) fn is_ending(&self) -> bool {
        self.ended.is_some() || self.refused.is_some() || self.report.as_ref().is_some_and(Report::is_last)
    }

    /// Whether what the dialplan has to say is missing.
    pub(super) fn wants_report(&self) -> bool {
        self.is_answered() && !self.report.as_ref().is_some_and(Report::is_last)
    }

    /// Take a fact in.
    pub(super) fn take(&mut self, at: Timestamp, fact: Fact) {
        match fact {
            Fact::Ringing => drop(self.ringing_at.get_or_insert(at)),
            Fact::Up => drop(self.answered_at.get_or_insert(at)),
            Fact::Seen { is_up: true } => self.seen_up = true,
            Fact::Seen { is_up: false } => self.seen_ringing = true,
            Fact::Refused { reason } => drop(self.refused.get_or_insert((at, reason))),
            Fact::Ended(cause) => drop(self.ended.get_or_insert((at, cause))),
            Fact::Report(report) => {
                // Events come in order; what is read from the database may be older than the last.
                if self.report.as_ref().is_none_or(|known| !known.is_last()) {
                    self.report = Some(report);
                }
            }
        }
    }

    /// The outcome, once nothing more can change it.
    pub(super) fn outcome(&self) -> Option<Outcome> {
        let has_report = self.report.as_ref().is_some_and(Report::is_last);
        let has_last_word = if self.is_answered() {
            has_report
        } else {
            match self.last_word {
                LastWord::Response => self.refused.is_some(),
                LastWord::Report => has_report,
                LastWord::None => true,
            }
        };
        // They come from different threads of Asterisk's, and now and then the last word is first: the cause is still to come.
        (self.ended.is_some() && has_last_word).then(|| self.settle())
    }

    /// The outcome by what is known now.
    pub(super) fn settle(&self) -> Outcome {
        let report = self.report.as_ref();
        let is_ending = self.is_ending();
        let ended_at = self.ended.as_ref().map(|(at, _)| *at);
        let ended_at = ended_at.or(report.and_then(|report| report.ended)).or(self.refused.map(|(at, _)| at));
        let mut outcome = Outcome {
            placed_at: self.placed_at,
            ringing_at: self.ringing_at,
            answered_at: self.answered_at.or(report.and_then(|report| report.answered)),
            ended_at,
            cause: self.cause(),
            machine: report.and_then(|report| report.machine.clone()),
            ..Outcome::of(Verdict::Unknown)
        };
        if self.is_answered() {
            self.settle_answered(&mut outcome);
        } else if is_ending {
            outcome.outcome = self.unanswered();
        }
        if self.cancelled && is_ending {
            outcome.outcome = Verdict::Cancelled;
        }
        outcome
    }

    fn settle_answered(&self, outcome: &mut Outcome) {
        outcome.outcome = match outcome.machine {
            Some(_) => Verdict::Machine,
            None => Verdict::Answered,
        };
        let Some(report) = self.report.as_ref().filter(|report| report.is_last()) else {
            if !self.is_ending() {
                outcome.outcome = Verdict::Unknown;
            }
            outcome.playback = Some(Playback { played: Played::NotReported, seconds: 0.0 });
            outcome.detail = Some(
                "the dialplan did not report how far the text was spoken: compare tts_calls.context with asterisk-conf/extensions.conf"
                    .into(),
            );
            return;
        };
        let seconds = report.seconds();
        let played = match report.at {
            _ if report.is_unplayable => Played::Unplayable,
            At::Spoken => Played::ToTheEnd,
            At::Speaking => Played::InPart,
            At::Failed | At::Answered | At::Machine => Played::NotBegun,
        };
        outcome.playback = Some(Playback { played, seconds });
        if played == Played::Unplayable {
            outcome.outcome = Verdict::Failed;
            outcome.detail = Some(
                "Asterisk could not play the audio: tts_calls.audio_folder must have the same path on its machine and be readable for its \
                 user; its log says more"
                    .into(),
            );
        }
        let lasted = report.answered.zip(report.ended).map(|(from, until)| until.duration_since(from));
        let is_done = matches!(report.at, At::Spoken | At::Machine);
        let timed_out = lasted
            .filter(|_| !is_done)
            .and_then(|lasted| Duration::try_from(lasted).ok())
            .is_some_and(|lasted| lasted + Duration::from_millis(500) >= self.longest);
        outcome.ended_by = Some(if is_done || timed_out {
            EndedBy::Us
        } else if self.cancelled {
            EndedBy::Cancel
        } else {
            EndedBy::Party
        });
        if timed_out {
            outcome.detail = Some("it was as long as tts_calls.longest_seconds allows".into());
        }
    }

    fn is_answered(&self) -> bool {
        self.answered_at.is_some()
            || self.seen_up
            || self.report.as_ref().is_some_and(|report| report.at != At::Failed)
    }

    fn cause(&self) -> Option<Cause> {
        let of_report = || {
            let code = self.report.as_ref()?.cause?;
            Some(Cause { code, text: String::new() })
        };
        self.ended.as_ref().map(|(_, cause)| cause.clone()).or_else(of_report)
    }

    fn unanswered(&self) -> Verdict {
        let code = self.cause().map_or(0, |cause| cause.code);
        let of_report = self.report.as_ref().and_then(|report| report.reason);
        match self.refused.map(|(_, reason)| reason).or(of_report) {
            // Asterisk 16 has no cause where it gave up itself.
            Some(reason::RINGING) if code == 0 => Verdict::NoAnswer,
            Some(reason::BUSY) if code == 0 => Verdict::Busy,
            Some(reason::CONGESTION) if code == 0 => Verdict::Congestion,
            _ => unanswered(code, self.seen_ringing || self.ringing_at.is_some()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(1_795_978_297_000 + millis).unwrap()
    }

    fn ended(code: u16) -> Fact {
        Fact::Ended(Cause { code, text: "words".into() })
    }

    fn report(text: &str) -> Fact {
        Fact::Report(Report::parse(text).unwrap())
    }

    fn follow(last_word: LastWord) -> Follow {
        Follow::new(last_word, Some(at(0)), Duration::from_secs(600))
    }

    /// Takes facts a second apart; the outcome must not be there before the last.
    fn outcome_of(mut call: Follow, facts: &[Fact]) -> Outcome {
        for (n, fact) in facts.iter().enumerate() {
            assert_eq!(call.outcome(), None, "before {fact:?}");
            call.take(at(1_000 * (n as i64 + 1)), fact.clone());
        }
        call.outcome().expect("an outcome")
    }

    const SPOKEN: &str = "at=spoken answered=1795978298000 began=1795978299000 spoken=1795978302500 ended=1795978303000 status=SUCCESS cause=16";

    #[test]
    fn a_text_that_was_heard_to_its_end() {
        let facts = [
            Fact::Ringing,
            Fact::Up,
            report("at=answered answered=1795978298000"),
            report(SPOKEN),
            ended(16),
        ];
        let outcome = outcome_of(follow(LastWord::Response), &facts);
        assert_eq!(outcome.outcome, Verdict::Answered);
        assert_eq!(outcome.playback, Some(Playback { played: Played::ToTheEnd, seconds: 3.5 }));
        assert_eq!(outcome.ended_by, Some(EndedBy::Us));
        assert_eq!(
            [outcome.placed_at, outcome.ringing_at, outcome.answered_at, outcome.ended_at],
            [0, 1_000, 2_000, 5_000].map(|millis| Some(at(millis)))
        );
    }

    #[test]
    fn a_hangup_in_the_middle_has_its_second() {
        let hung_up = "at=speaking answered=1795978298000 began=1795978299000 spoken= ended=1795978301250 status=FAILED cause=16";
        let outcome = outcome_of(follow(LastWord::Response), &[Fact::Up, report(hung_up), ended(16)]);
        assert_eq!(outcome.playback, Some(Playback { played: Played::InPart, seconds: 2.25 }));
        assert_eq!((outcome.outcome, outcome.ended_by), (Verdict::Answered, Some(EndedBy::Party)));
        let before = "at=answered answered=1795978298000 began= spoken= ended=1795978298250 cause=16";
        let outcome = outcome_of(follow(LastWord::Response), &[Fact::Up, report(before), ended(16)]);
        assert_eq!(outcome.playback, Some(Playback { played: Played::NotBegun, seconds: 0.0 }));
    }

    #[test]
    fn calls_that_nobody_answers_wait_for_their_last_word() {
        let refused = |reason| Fact::Refused { reason };
        let by = |facts: &[Fact]| outcome_of(follow(LastWord::Response), facts).outcome;
        assert_eq!(by(&[ended(17), refused(0)]), Verdict::Busy);
        assert_eq!(by(&[ended(1), report("at=failed reason=0"), refused(0)]), Verdict::InvalidNumber);
        assert_eq!(by(&[Fact::Ringing, ended(0), refused(3)]), Verdict::NoAnswer, "as Asterisk 16 has it");
        assert_eq!(by(&[Fact::Ringing, ended(19), refused(3)]), Verdict::NoAnswer);
        assert_eq!(by(&[refused(0), ended(17)]), Verdict::Busy, "the other way round");
        let mut none = follow(LastWord::Response);
        none.take(at(1_000), refused(0));
        assert!(none.outcome().is_none() && none.is_ending());
        assert_eq!(none.settle().outcome, Verdict::Failed, "there is no such trunk: no channel was made");
        assert_eq!(outcome_of(follow(LastWord::None), &[ended(34)]).outcome, Verdict::Congestion);
        let file = [Fact::Ringing, ended(17), report("at=failed reason=0")];
        assert_eq!(outcome_of(follow(LastWord::Report), &file).outcome, Verdict::Busy);
    }

    #[test]
    fn a_report_alone_tells_what_happened_while_we_were_away() {
        let settled = |text| {
            let mut call = Follow::new(LastWord::Response, None, Duration::from_secs(600));
            call.take(at(60_000), report(text));
            assert!(call.is_ending());
            call.settle()
        };
        let spoken = settled(SPOKEN);
        assert_eq!((spoken.outcome, spoken.playback.unwrap().played), (Verdict::Answered, Played::ToTheEnd));
        assert_eq!(spoken.answered_at, Some(at(1_000)));
        assert_eq!((spoken.placed_at, spoken.cause.unwrap().code), (None, 16));
        assert_eq!(settled("at=failed reason=3").outcome, Verdict::NoAnswer);
        assert_eq!(settled("at=failed reason=5").outcome, Verdict::Busy);
        assert_eq!(settled("at=failed reason=8").outcome, Verdict::Congestion);
        assert_eq!(settled("at=failed reason=0").outcome, Verdict::Failed);
    }

    #[test]
    fn machines_are_told_from_people() {
        let hung_up = "at=machine answered=1000 ended=4000 machine=LONGGREETING-1500-1500 cause=16";
        let outcome = outcome_of(follow(LastWord::Response), &[Fact::Up, report(hung_up), ended(16)]);
        assert_eq!((outcome.outcome, outcome.ended_by), (Verdict::Machine, Some(EndedBy::Us)));
        assert_eq!(outcome.playback.unwrap().played, Played::NotBegun);
        assert_eq!(outcome.machine.as_deref(), Some("LONGGREETING-1500-1500"));
        let spoken_to = format!("{SPOKEN} machine=TOOLONG-5000");
        let outcome = outcome_of(follow(LastWord::Response), &[Fact::Up, report(&spoken_to), ended(16)]);
        assert_eq!((outcome.outcome, outcome.playback.unwrap().played), (Verdict::Machine, Played::ToTheEnd));
    }

    #[test]
    fn a_call_that_is_called_off_is_cancelled_whatever_the_channel_says() {
        let mut ringing = follow(LastWord::Response);
        ringing.take(at(1_000), Fact::Ringing);
        ringing.cancel();
        assert_eq!(
            outcome_of(ringing, &[ended(16), Fact::Refused { reason: 1 }]).outcome,
            Verdict::Cancelled
        );
        let mut speaking = follow(LastWord::Response);
        speaking.take(at(1_000), Fact::Up);
        speaking.cancel();
        let hung_up = "at=speaking answered=1795978298000 began=1795978299000 ended=1795978300000 cause=16";
        let outcome = outcome_of(speaking, &[report(hung_up), ended(16)]);
        assert_eq!((outcome.outcome, outcome.ended_by), (Verdict::Cancelled, Some(EndedBy::Cancel)));
        assert_eq!(outcome.playback.unwrap().seconds, 1.0);
    }

    #[test]
    fn what_is_missing_is_said_to_be_missing() {
        let mut silent = follow(LastWord::Response);
        silent.take(at(1_000), Fact::Up);
        silent.take(at(5_000), ended(16));
        assert!(silent.outcome().is_none() && silent.wants_report());
        let outcome = silent.settle();
        assert_eq!(
            (outcome.outcome, outcome.playback.unwrap().played),
            (Verdict::Answered, Played::NotReported)
        );
        assert!(outcome.detail.unwrap().contains("tts_calls.context"));
        let mut lost = follow(LastWord::Response);
        lost.take(at(1_000), Fact::Ringing);
        assert_eq!(lost.settle().outcome, Verdict::Unknown);
        let unplayable = "at=spoken answered=1000 began=2000 spoken=2001 ended=2500 status=FAILED";
        let mut call = follow(LastWord::Response);
        call.take(at(0), report(unplayable));
        let outcome = call.settle();
        assert_eq!(
            (outcome.outcome, outcome.playback.unwrap().played),
            (Verdict::Failed, Played::Unplayable)
        );
        assert!(outcome.detail.unwrap().contains("audio_folder"));
    }

    #[test]
    fn a_call_that_asterisk_cut_off_was_not_ended_by_the_party() {
        let mut call = Follow::new(LastWord::Response, None, Duration::from_secs(5));
        call.take(at(0), report("at=speaking answered=1000 began=2000 ended=6010 cause=16"));
        let outcome = call.settle();
        assert_eq!(outcome.ended_by, Some(EndedBy::Us));
        assert!(outcome.detail.unwrap().contains("longest_seconds"));
    }
}

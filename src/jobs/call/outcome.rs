//! What became of a call.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// In one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Somebody answered; how much they heard, [`Outcome::playback`] says.
    Answered,
    /// An answering machine did.
    Machine,
    /// Busy.
    Busy,
    /// Nobody answered.
    NoAnswer,
    /// No way to carry the call: all lines of a trunk taken, a network overloaded.
    Congestion,
    /// Nobody has that number.
    InvalidNumber,
    /// The party, or its network, does not want the call.
    Rejected,
    /// Anything else; [`Outcome::cause`] says what.
    Failed,
    /// It was called off.
    Cancelled,
    /// It was placed, or may have been, and what became of it cannot be told. It is not placed again by itself: who has heard the
    /// text should not be called twice.
    Unknown,
}

impl Verdict {
    /// Its name in results, settings and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Machine => "machine",
            Self::Busy => "busy",
            Self::NoAnswer => "no_answer",
            Self::Congestion => "congestion",
            Self::InvalidNumber => "invalid_number",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Unknown => "unknown",
        }
    }
}

/// How far the text was spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Played {
    /// To its end.
    ToTheEnd,
    /// The call ended in the middle of it.
    InPart,
    /// Not at all: the call ended before.
    NotBegun,
    /// Asterisk could not play the file.
    Unplayable,
    /// The dialplan did not say (`tts_calls.context` is not as in asterisk-conf/extensions.conf).
    NotReported,
}

/// How far the text was spoken, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Playback {
    /// How far.
    pub played: Played,
    /// Seconds of it.
    pub seconds: f64,
}

/// Who ended a call that was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndedBy {
    /// Asterisk, once the text was spoken or the machine found.
    Us,
    /// The called party.
    Party,
    /// Whoever called it off.
    Cancel,
}

/// Why a channel ended, by Q.850 as Asterisk tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// Q.850's number; 0 where Asterisk has none.
    pub code: u16,
    /// Asterisk's words.
    pub text: String,
}

/// What became of a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// In one word.
    pub outcome: Verdict,
    /// When Asterisk was told to place it; unknown after some restarts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placed_at: Option<Timestamp>,
    /// When it began to ring.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ringing_at: Option<Timestamp>,
    /// When it was answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answered_at: Option<Timestamp>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// How far the text was spoken, if it was answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub playback: Option<Playback>,
    /// Who ended it, if it was answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_by: Option<EndedBy>,
    /// What `AMD()` went by, if it found a machine: `TOOLONG`, `LONGGREETING`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// Why it ended, as far as the network said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// What else there is to know, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl Outcome {
    /// One of which nothing else is known.
    pub fn of(outcome: Verdict) -> Self {
        Self {
            outcome,
            placed_at: None,
            ringing_at: None,
            answered_at: None,
            ended_at: None,
            playback: None,
            ended_by: None,
            machine: None,
            cause: None,
            detail: None,
        }
    }
}

/// What a call that nobody answered came to. `rang`: it was ringing before.
pub(super) fn unanswered(code: u16, rang: bool) -> Verdict {
    match code {
        17 => Verdict::Busy,
        // No user responding, alerting without an answer, subscriber absent (a phone that is off).
        18..=20 => Verdict::NoAnswer,
        // No circuit, switching equipment congestion, circuit not available, resource unavailable.
        34 | 42 | 44 | 47 => Verdict::Congestion,
        // Unallocated, changed, not a complete number.
        1 | 22 | 28 => Verdict::InvalidNumber,
        21 => Verdict::Rejected,
        // An end without a reason, as Asterisk has it when it gives up itself.
        0 | 16 | 31 if rang => Verdict::NoAnswer,
        _ => Verdict::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_told_apart_by_what_is_done_about_them() {
        for (code, rang, verdict) in [
            (17, true, Verdict::Busy),
            (19, true, Verdict::NoAnswer),
            (20, false, Verdict::NoAnswer),
            (0, true, Verdict::NoAnswer),
            (16, true, Verdict::NoAnswer),
            (16, false, Verdict::Failed),
            (0, false, Verdict::Failed),
            (34, false, Verdict::Congestion),
            (42, true, Verdict::Congestion),
            (1, false, Verdict::InvalidNumber),
            (28, false, Verdict::InvalidNumber),
            (21, true, Verdict::Rejected),
            (38, false, Verdict::Failed),
            (127, true, Verdict::Failed),
        ] {
            assert_eq!(unanswered(code, rang), verdict, "{code} {rang}");
        }
    }

    #[test]
    fn results_say_what_is_known_and_no_more() {
        let outcome = Outcome {
            answered_at: "2026-11-29T12:00:00Z".parse().ok(),
            playback: Some(Playback { played: Played::InPart, seconds: 1.5 }),
            ended_by: Some(EndedBy::Party),
            cause: Some(Cause { code: 16, text: "Normal Clearing".into() }),
            ..Outcome::of(Verdict::Answered)
        };
        let json = serde_json::to_value(&outcome).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "outcome": "answered",
                "answered_at": "2026-11-29T12:00:00Z",
                "playback": { "played": "in_part", "seconds": 1.5 },
                "ended_by": "party",
                "cause": { "code": 16, "text": "Normal Clearing" },
            })
        );
        assert_eq!(serde_json::from_value::<Outcome>(json).unwrap(), outcome);
        let unknown = serde_json::to_value(Outcome::of(Verdict::Unknown)).unwrap();
        assert_eq!(unknown, serde_json::json!({ "outcome": "unknown" }));
        for verdict in crate::config::tts_calls::RETRIED {
            assert!(serde_json::from_value::<Verdict>(verdict.into()).is_ok(), "{verdict}");
        }
    }
}

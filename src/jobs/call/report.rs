//! What the dialplan says of a call: in an event while it goes on, and in Asterisk's own database until it is asked for.

use jiff::Timestamp;

/// Name of the event, and family in the database: as in asterisk-conf/extensions.conf.
pub(super) const EVENT: &str = "SidetoneTts";
pub(super) const FAMILY: &str = "sidetone-tts";

/// How far the call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum At {
    /// Nobody answered; the dialplan knows no more than that.
    Failed,
    /// Answered; nothing is spoken yet.
    Answered,
    /// It is a machine, and nothing is spoken to it.
    Machine,
    /// The text is being spoken.
    Speaking,
    /// The text is spoken.
    Spoken,
}

/// A report: `key=value` with spaces between.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Report {
    pub(super) at: At,
    pub(super) answered: Option<Timestamp>,
    /// When speaking began.
    pub(super) began: Option<Timestamp>,
    /// When the text was over.
    pub(super) spoken: Option<Timestamp>,
    /// When the call ended; without it, it goes on.
    pub(super) ended: Option<Timestamp>,
    /// Whether the file could not be played.
    pub(super) is_unplayable: bool,
    /// What `AMD()` went by.
    pub(super) machine: Option<String>,
    /// Q.850's number.
    pub(super) cause: Option<u16>,
    /// Why nobody answered: the control frame that Asterisk saw last (`pbx_outgoing_attempt`).
    pub(super) reason: Option<u8>,
}

impl Report {
    /// Read one; `None` if it is none.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let value = |key: &str| {
            let values = text.split_ascii_whitespace().filter_map(|pair| pair.split_once('='));
            values.filter(|(name, value)| *name == key && !value.is_empty()).map(|(_, value)| value).next()
        };
        let millis = |key| Timestamp::from_millisecond(value(key)?.parse().ok()?).ok();
        let at = match value("at")? {
            "failed" => At::Failed,
            "answered" => At::Answered,
            "machine" => At::Machine,
            "speaking" => At::Speaking,
            "spoken" => At::Spoken,
            _ => return None,
        };
        Some(Self {
            at,
            answered: millis("answered"),
            began: millis("began"),
            spoken: millis("spoken"),
            ended: millis("ended"),
            // A hangup in the middle is a failure to Asterisk 16, too.
            is_unplayable: at == At::Spoken && value("status") == Some("FAILED"),
            machine: value("machine").map(str::to_owned),
            cause: value("cause").and_then(|code| code.parse().ok()),
            reason: value("reason").and_then(|reason| reason.parse().ok()),
        })
    }

    /// Whether nothing comes after it.
    pub(super) fn is_last(&self) -> bool {
        self.at == At::Failed || self.ended.is_some()
    }

    /// Seconds of the text that were spoken.
    pub(super) fn seconds(&self) -> f64 {
        let end = self.spoken.or(self.ended);
        let spoken = self.began.zip(end).map(|(began, end)| end.duration_since(began).as_secs_f64());
        spoken.unwrap_or_default().max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_as_the_dialplan_writes_it() {
        let report = Report::parse(
            "at=speaking answered=1795978297372 began=1795978298373 spoken= ended=1795978300373 status=FAILED machine= cause=16",
        )
        .unwrap();
        assert_eq!((report.at, report.cause, report.is_last()), (At::Speaking, Some(16), true));
        assert_eq!((report.seconds(), report.is_unplayable, report.machine), (2.0, false, None));
        let report = Report::parse("at=spoken began=1000 spoken=1000 ended=1500 status=FAILED").unwrap();
        assert!(report.is_unplayable && report.seconds() == 0.0);
        let report = Report::parse("at=failed reason=3").unwrap();
        assert_eq!((report.at, report.reason, report.is_last()), (At::Failed, Some(3), true));
        assert!(!Report::parse("at=answered answered=1").unwrap().is_last());
    }

    #[test]
    fn what_is_none_is_none() {
        for text in ["", "at=", "at=elsewhere", "reason=3", "answered"] {
            assert_eq!(Report::parse(text), None, "{text}");
        }
        let strange =
            Report::parse("at=spoken began=x ended=99999999999999999999 cause=-1 reason=300").unwrap();
        assert_eq!((strange.began, strange.ended, strange.cause, strange.reason), (None, None, None, None));
        let backwards = Report::parse("at=spoken began=2000 spoken=1000").unwrap();
        assert_eq!(backwards.seconds(), 0.0);
    }
}

//! A call's words from its events, which outlive a crash of the process.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::hub::{EventHub, EventKind, ReadError, StoredEvent};
use crate::speech::transcript::Transcript;
use crate::speech::{TranscriptEvent, TranscriptKind, catch_up};

/// Events read at once.
const PAGE: usize = 4_096;
/// Both legs, also of a call of which one was never heard: its subtitles are not to change their form when it is.
pub(super) const SPEAKERS: u16 = 2;

/// What was said in the call so far, as a transcript that is not complete. May read a file: call it where blocking is
/// allowed.
///
/// # Errors
/// The events cannot be read.
pub fn so_far(hub: &EventHub, call_id: &str, model: &str) -> Result<Transcript, ReadError> {
    let Told { finals, .. } = Told::read(hub, call_id)?;
    let heard = finals.iter().map(|event| event.end).fold(0.0, f64::max);
    Ok(Transcript {
        complete: false,
        ..Transcript::new(Some(call_id.to_owned()), heard, SPEAKERS, model, finals)
    })
}

/// What a call's events say of its words, and of its end.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Finals, as they were published.
    pub(super) finals: Vec<TranscriptEvent>,
    /// The last partial of each utterance without a final, caller first, by number.
    pub(super) open: Vec<TranscriptEvent>,
    /// The number of each leg's next utterance, caller first.
    pub(super) next: [u64; 2],
    /// `call.ended` is out.
    pub(super) ended: bool,
    /// `transcript.saved` is out: whether it says that the transcript is complete.
    pub(super) saved: Option<bool>,
}

impl Told {
    /// Read a call's events. May read its journal: call it where blocking is allowed.
    ///
    /// # Errors
    /// The events cannot be read.
    pub(super) fn read(hub: &EventHub, call_id: &str) -> Result<Self, ReadError> {
        let mut told = Self { next: [1; 2], ..Self::default() };
        let mut open = BTreeMap::new();
        for_each(hub, call_id, |stored| match stored.kind {
            EventKind::CallEnded => told.ended = true,
            EventKind::TranscriptSaved => told.saved = Some(says_complete(stored)),
            _ => {
                let Some(event) = transcribed(stored) else { return };
                let (leg, utterance) = (event.leg.index(), event.utterance);
                told.next[leg] = told.next[leg].max(utterance + 1);
                if event.kind == TranscriptKind::Final {
                    open.remove(&(leg, utterance));
                    told.finals.push(event);
                } else {
                    open.insert((leg, utterance), event);
                }
            }
        })?;
        told.open = open.into_values().collect();
        Ok(told)
    }
}

/// Of these utterances there will be no better words than those last shown: they are their finals.
pub(super) fn close_as_shown(hub: &EventHub, call_id: &str, open: Vec<TranscriptEvent>) {
    for last in open {
        hub.publish(call_id, EventKind::TranscriptFinal, json!(catch_up::as_shown(last)));
    }
}

fn for_each(hub: &EventHub, call_id: &str, mut each: impl FnMut(&StoredEvent)) -> Result<(), ReadError> {
    let mut after = 0;
    loop {
        let events = hub.call_events(call_id, after, PAGE)?;
        let Some(last) = events.last() else { return Ok(()) };
        after = last.seq;
        events.iter().for_each(|event| each(event));
    }
}

fn says_complete(stored: &StoredEvent) -> bool {
    let event = serde_json::from_str::<Value>(&stored.json);
    event.is_ok_and(|event| event["complete"] == true)
}

pub(super) fn transcribed(stored: &StoredEvent) -> Option<TranscriptEvent> {
    let kind = match stored.kind {
        EventKind::TranscriptPartial => TranscriptKind::Partial,
        EventKind::TranscriptFinal => TranscriptKind::Final,
        _ => return None,
    };
    // What this program wrote it can read; a line of a newer one that it cannot is left to that one.
    let event = serde_json::from_str::<TranscriptEvent>(&stored.json).ok()?;
    Some(TranscriptEvent { kind, ..event })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls::hub::HubConfig;
    use crate::media::leg::Leg;
    use crate::speech::Word;

    fn say(hub: &EventHub, leg: Leg, utterance: u64, revision: u64, kind: EventKind) {
        let word = Word { text: "hello".into(), start: 1.0, end: 1.4, confidence: 0.5, stable: false };
        let event = TranscriptEvent {
            kind: TranscriptKind::Partial,
            leg,
            utterance,
            revision,
            start: 1.0,
            end: 1.4,
            text: "hello".into(),
            language: "en".into(),
            words: vec![word],
        };
        hub.publish("c", kind, json!(event));
    }

    #[test]
    fn an_utterance_cut_off_gets_its_one_final_and_its_number_is_not_given_again() {
        use EventKind::{TranscriptFinal as Final, TranscriptPartial as Partial};
        let hub = EventHub::new(HubConfig::default(), None).unwrap();
        hub.open_call("default", "c", None).unwrap();
        say(&hub, Leg::Caller, 1, 1, Partial);
        say(&hub, Leg::Caller, 1, 2, Final);
        say(&hub, Leg::Callee, 1, 1, Partial);
        say(&hub, Leg::Caller, 2, 1, Partial);
        say(&hub, Leg::Caller, 2, 2, Partial);
        say(&hub, Leg::Caller, 3, 1, Final);

        let told = Told::read(&hub, "c").unwrap();
        assert_eq!((told.next, told.ended, told.saved), ([4, 2], false, None));
        let open: Vec<_> = told.open.iter().map(|e| (e.leg.index(), e.utterance, e.revision)).collect();
        assert_eq!(open, [(0, 2, 2), (1, 1, 1)]);
        close_as_shown(&hub, "c", told.open);
        let told = Told::read(&hub, "c").unwrap();
        let numbers: Vec<_> = told.finals.iter().map(|e| (e.leg.index(), e.utterance, e.revision)).collect();
        assert_eq!(numbers, [(0, 1, 2), (0, 3, 1), (0, 2, 3), (1, 1, 2)]);
        let cut = &told.finals[2..];
        assert!(cut.iter().all(|e| e.words.iter().all(|word| word.stable)), "a final's words do not change");
        assert!(told.open.is_empty() && told.next == [4, 2], "taken up twice, it says nothing twice");
    }
}

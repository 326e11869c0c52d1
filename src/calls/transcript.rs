//! A call's words from its events, which outlive a crash of the process.

use std::collections::BTreeMap;

use serde_json::json;

use super::hub::{EventHub, EventKind, ReadError};
use crate::speech::transcript::Transcript;
use crate::speech::{TranscriptEvent, TranscriptKind};

/// Events read at once.
const PAGE: usize = 4_096;
/// Both legs, also of a call of which one was never heard: its subtitles are not to change their form when it is.
const SPEAKERS: u16 = 2;

/// What was said in the call so far, as a transcript that is not complete. May read a file: call it where blocking is
/// allowed.
///
/// # Errors
/// The events cannot be read.
pub fn so_far(hub: &EventHub, call_id: &str, model: &str) -> Result<Transcript, ReadError> {
    let mut finals = said(hub, call_id)?;
    finals.retain(|event| event.kind == TranscriptKind::Final);
    let heard = finals.iter().map(|event| event.end).fold(0.0, f64::max);
    Ok(Transcript {
        complete: false,
        ..Transcript::new(Some(call_id.to_owned()), heard, SPEAKERS, model, finals)
    })
}

/// Take up a call that an earlier process was transcribing: what that one left without a final gets it, with the words
/// last shown. Returns the number of each leg's next utterance, caller first. The call's stream must be open; reads its
/// journal, so call it where blocking is allowed.
///
/// # Errors
/// The events cannot be read.
pub(super) fn take_up(hub: &EventHub, call_id: &str) -> Result<[u64; 2], ReadError> {
    let mut next = [1; 2];
    let mut open = BTreeMap::new();
    for event in said(hub, call_id)? {
        let leg = event.leg.index();
        next[leg] = next[leg].max(event.utterance + 1);
        match event.kind {
            TranscriptKind::Partial => open.insert((leg, event.utterance), event),
            TranscriptKind::Final => open.remove(&(leg, event.utterance)),
        };
    }
    for mut last in open.into_values() {
        last.revision += 1;
        last.words.iter_mut().for_each(|word| word.stable = true);
        hub.publish(call_id, EventKind::TranscriptFinal, json!(last));
    }
    Ok(next)
}

fn said(hub: &EventHub, call_id: &str) -> Result<Vec<TranscriptEvent>, ReadError> {
    let (mut said, mut after) = (Vec::new(), 0);
    loop {
        let events = hub.call_events(call_id, after, PAGE)?;
        let Some(last) = events.last() else { return Ok(said) };
        after = last.seq;
        said.extend(events.iter().filter_map(|stored| {
            let kind = match stored.kind {
                EventKind::TranscriptPartial => TranscriptKind::Partial,
                EventKind::TranscriptFinal => TranscriptKind::Final,
                _ => return None,
            };
            // What this program wrote it can read; a line of a newer one that it cannot is left to that one.
            let event = serde_json::from_str::<TranscriptEvent>(&stored.json).ok()?;
            Some(TranscriptEvent { kind, ..event })
        }));
    }
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

        assert_eq!(take_up(&hub, "c").unwrap(), [4, 2]);
        let mut finals = said(&hub, "c").unwrap();
        finals.retain(|e| e.kind == TranscriptKind::Final);
        let numbers: Vec<_> = finals.iter().map(|e| (e.leg.index(), e.utterance, e.revision)).collect();
        assert_eq!(numbers, [(0, 1, 2), (0, 3, 1), (0, 2, 3), (1, 1, 2)]);
        let cut = &finals[2..];
        assert!(cut.iter().all(|e| e.words.iter().all(|word| word.stable)), "a final's words do not change");

        let before = hub.position();
        assert_eq!(take_up(&hub, "c").unwrap(), [4, 2]);
        assert_eq!(hub.position(), before, "taken up twice, it says nothing twice");
    }
}

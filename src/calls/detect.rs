//! Calls from their first moment in Asterisk on, told of by the Manager (`Newchannel`): before they come to our application, and those that
//! never do. ARI tells an application of no channel before it enters.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::json;

use super::hub::{EventHub, EventKind};
use super::ids::ObjectId;
use crate::asterisk::ami::{AmiMessage, AmiNotice, AmiNotices};
use crate::asterisk::ari::PROBE_PREFIX;
use crate::clock;
use crate::media::time::MediaInstant;
use crate::telemetry::metric;

/// Classes of events that are needed: what the connection's `events` names, and manager.conf's `read`.
pub const AMI_EVENTS: &str = "call";
/// Channels that Asterisk's own parts make to hear or to carry media: nobody calls by them.
const NO_CALLS: [&str; 6] =
    ["Snoop/", "UnicastRTP/", "AudioSocket/", "WebSocket/", "Message/", "OutgoingSpoolFailed"];
/// Channels that are remembered; an Asterisk has no more.
const MOST: usize = 100_000;

/// A channel that is there.
#[derive(Clone, Debug)]
struct Seen {
    at: Timestamp,
    since: MediaInstant,
    /// The first channel of its call.
    first: String,
    /// Its call began with it, and is not known to have come to us.
    is_waiting: bool,
}

/// What is known of channels before they are calls of ours.
#[derive(Default)]
pub struct Detector {
    channels: Mutex<HashMap<String, Seen>>,
    hub: OnceLock<Arc<EventHub>>,
}

impl std::fmt::Debug for Detector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Detector").field("channels", &self.channels.lock().len()).finish_non_exhaustive()
    }
}

impl Detector {
    /// Events of calls that begin go to `hub`.
    pub fn new(hub: Arc<EventHub>) -> Self {
        Self { channels: Mutex::default(), hub: OnceLock::from(hub) }
    }

    /// Listen to `notices`, of a connection with [`AMI_EVENTS`], until it is given up.
    pub async fn run(self: Arc<Self>, mut notices: AmiNotices) {
        // One fact, one warning: each attempt to connect may have a reason of its own.
        let mut warned = false;
        while let Some(notice) = notices.next().await {
            match notice {
                AmiNotice::Connected { first, .. } => {
                    warned = false;
                    tracing::info!(first, "told of channels by the Manager")
                }
                AmiNotice::Disconnected { reason } => {
                    match std::mem::replace(&mut warned, true) {
                        false => {
                            tracing::warn!(%reason, "not told of channels: calls are known once they enter the application")
                        }
                        true => tracing::debug!(%reason, "still not told of channels"),
                    }
                    // Their ends would be missed.
                    self.channels.lock().clear();
                }
                AmiNotice::Event(event) => self.tell(&event, clock::timestamp(), clock::now()),
            }
        }
    }

    /// A channel enters our application; when it was there first, if that is known.
    pub fn enters(&self, channel: &str) -> Option<Timestamp> {
        let mut channels = self.channels.lock();
        let Seen { at, since, first, .. } = channels.get(channel)?.clone();
        metric::CALL_DETECTION_LEAD.record(clock::since(since).as_secs_f64());
        // It may be another channel of the call that comes: the other half of a `Local`, say.
        if channels.get_mut(&first).is_some_and(|first| std::mem::take(&mut first.is_waiting)) {
            metric::CALLS_DETECTED.add_labelled("outcome", "taken", 1);
        }
        Some(at)
    }

    fn tell(&self, event: &AmiMessage, at: Timestamp, now: MediaInstant) {
        let Some(id) = event.get("Uniqueid") else { return };
        match event.event() {
            Some("Newchannel") => {
                let name = event.get("Channel").unwrap_or_default();
                if !is_call(id, name) {
                    return;
                }
                let first = event.get("Linkedid").unwrap_or(id).to_owned();
                let is_first = first == id;
                let mut channels = self.channels.lock();
                if channels.len() < MOST {
                    channels.insert(id.to_owned(), Seen { at, since: now, first, is_waiting: is_first });
                }
                drop(channels);
                if is_first {
                    self.publish(event, id, name);
                }
            }
            Some("Hangup") => {
                let seen = self.channels.lock().remove(id);
                if seen.is_some_and(|seen| seen.is_waiting) {
                    metric::CALLS_DETECTED.add_labelled("outcome", "passed", 1);
                }
            }
            _ => {}
        }
    }

    fn publish(&self, event: &AmiMessage, id: &str, name: &str) {
        let text = |key| event.get(key).filter(|value| *value != "<unknown>").unwrap_or_default();
        let state = text("ChannelStateDesc").to_ascii_lowercase();
        let body = json!({ "channel": {
            "id": id,
            "name": name,
            "caller_number": text("CallerIDNum"),
            "caller_name": text("CallerIDName"),
            "dialled": text("Exten"),
            "context": text("Context"),
            "state": state,
        }});
        if let Some(hub) = self.hub.get() {
            hub.publish_node(EventKind::CallDetected, body);
        }
    }
}

/// Whether somebody calls or is called by a channel: neither a leg of ours or of another node's, nor one of Asterisk's own.
fn is_call(id: &str, name: &str) -> bool {
    let is_ours = id.starts_with(PROBE_PREFIX) || ObjectId::parse(id).is_some();
    let is_internal = NO_CALLS.iter().any(|prefix| name.starts_with(prefix));
    !is_ours && !is_internal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_known_from_their_first_moment_to_their_last() {
        let detector = Detector::default();
        let at = |second| Timestamp::from_second(second).unwrap();
        let tell = |lines: &str, second| detector.tell(&AmiMessage::read(lines), at(second), clock::now());
        tell("Event: Newchannel\nChannel: PJSIP/trunk-1\nUniqueid: 17.1\nLinkedid: 17.1", 5);
        tell("Event: Newchannel\nChannel: PJSIP/phone-2\nUniqueid: 17.2\nLinkedid: 17.1", 6);
        tell("Event: Newstate\nChannel: PJSIP/trunk-1\nUniqueid: 17.1\nLinkedid: 17.1\nChannelState: 6", 7);
        for (id, name) in
            [("17.3", "Snoop/17.1-1"), ("17.4", "UnicastRTP/127.0.0.1:9-1"), ("17.5", "OutgoingSpoolFailed")]
        {
            tell(&format!("Event: Newchannel\nChannel: {name}\nUniqueid: {id}\nLinkedid: {id}"), 8);
            assert_eq!(detector.enters(id), None, "{name}");
        }
        assert_eq!(detector.enters("17.2"), Some(at(6)));
        assert!(!detector.channels.lock()["17.1"].is_waiting, "it came, by its second channel");
        assert_eq!(detector.enters("17.1"), Some(at(5)));
        tell("Event: Hangup\nUniqueid: 17.1\nLinkedid: 17.1\nCause: 16", 9);
        assert_eq!(detector.enters("17.1"), None);
        assert_eq!(detector.channels.lock().len(), 1);
    }
}

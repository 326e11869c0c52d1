//! One reader of the Manager's events for all calls that are followed. It never waits: the link behind it drops a slow reader.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};

use super::follow::Fact;
use super::outcome::Cause;
use super::report::{EVENT, Report};
use crate::asterisk::ami::{AmiMessage, AmiNotice, AmiNotices};
use crate::clock;

/// Facts that a call may be behind with. A call has about ten.
const QUEUED: usize = 64;
/// The channel that Asterisk makes for the dialplan to be told of a failure; it is nobody's call.
const FAILED_CHANNEL: &str = "OutgoingSpoolFailed";

/// Whether the Manager is connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// Not yet, or no longer; why, if that is known.
    Down(Option<String>),
    /// Connected for the nth time.
    Up(u64),
}

#[derive(Debug)]
struct Entry {
    facts: mpsc::Sender<(Timestamp, Fact)>,
    missed: Arc<AtomicBool>,
    /// Uniqueid of its channel, where Asterisk chose it.
    channel: Option<String>,
}

#[derive(Debug, Default)]
struct Entries {
    calls: HashMap<String, Entry>,
    /// From Uniqueid to the call's id, where they differ.
    channels: HashMap<String, String>,
}

/// Who is told of what.
#[derive(Debug)]
pub(super) struct Switchboard {
    entries: Mutex<Entries>,
    link: watch::Sender<Link>,
}

/// A call that is told of.
#[derive(Debug)]
pub(super) struct Line {
    board: Arc<Switchboard>,
    id: String,
    facts: mpsc::Receiver<(Timestamp, Fact)>,
    missed: Arc<AtomicBool>,
    pub(super) link: watch::Receiver<Link>,
}

impl Switchboard {
    /// Read `notices` from now on.
    pub(super) fn start(notices: AmiNotices) -> Arc<Self> {
        let board = Arc::new(Self { entries: Mutex::default(), link: watch::Sender::new(Link::Down(None)) });
        tokio::spawn(board.clone().run(notices));
        board
    }

    /// Be told of the call with this id; `None` if somebody is.
    pub(super) fn open(self: &Arc<Self>, id: &str) -> Option<Line> {
        let (sender, facts) = mpsc::channel(QUEUED);
        let missed = Arc::<AtomicBool>::default();
        let mut entries = self.entries.lock();
        if entries.calls.contains_key(id) {
            return None;
        }
        let entry = Entry { facts: sender, missed: missed.clone(), channel: None };
        entries.calls.insert(id.to_owned(), entry);
        drop(entries);
        Some(Line { board: self.clone(), id: id.to_owned(), facts, missed, link: self.link.subscribe() })
    }

    /// Returns once there is a connection.
    pub(super) async fn connected(&self) {
        let mut link = self.link.subscribe();
        // The sender is this board's own, and so it is there.
        let _ = link.wait_for(|link| matches!(link, Link::Up(_))).await;
    }

    async fn run(self: Arc<Self>, mut notices: AmiNotices) {
        let mut connections = 0;
        while let Some(notice) = notices.next().await {
            match notice {
                AmiNotice::Connected { .. } => {
                    connections += 1;
                    self.link.send_replace(Link::Up(connections));
                }
                AmiNotice::Disconnected { reason } => {
                    self.link.send_replace(Link::Down(Some(reason.to_string())));
                }
                AmiNotice::Event(event) => self.tell(&event, clock::timestamp()),
            }
        }
        self.link.send_replace(Link::Down(Some("the client is being stopped".into())));
    }

    fn tell(&self, event: &AmiMessage, at: Timestamp) {
        let mut entries = self.entries.lock();
        if entries.calls.is_empty() {
            return;
        }
        if let Some((channel, id)) = named(event) {
            entries.name(channel, id);
        }
        let Some((whose, fact)) = read(event) else { return };
        let id = entries.channels.get(whose).map_or(whose, String::as_str);
        let Some(entry) = entries.calls.get(id) else { return };
        if entry.facts.try_send((at, fact)).is_err() {
            entry.missed.store(true, Ordering::Relaxed);
        }
    }
}

impl Entries {
    /// The first channel that says it is the call's is; others (a `Local`'s other half) inherit what it is known by.
    fn name(&mut self, channel: &str, id: &str) {
        if channel == id {
            return;
        }
        let Some(entry) = self.calls.get_mut(id).filter(|entry| entry.channel.is_none()) else { return };
        entry.channel = Some(channel.to_owned());
        self.channels.insert(channel.to_owned(), id.to_owned());
    }
}

impl Line {
    /// The next fact. Cancel-safe.
    pub(super) async fn next(&mut self) -> (Timestamp, Fact) {
        match self.facts.recv().await {
            Some(fact) => fact,
            // The sender is in the board until this is dropped.
            None => std::future::pending().await,
        }
    }

    /// Whether no fact waits to be taken.
    pub(super) fn is_quiet(&self) -> bool {
        self.facts.is_empty()
    }

    /// Whether facts were lost since this was asked last.
    pub(super) fn has_missed(&self) -> bool {
        self.missed.swap(false, Ordering::Relaxed)
    }

    /// What Asterisk knows the channel by.
    pub(super) fn channel(&self) -> String {
        let entries = self.board.entries.lock();
        let channel = entries.calls.get(&self.id).and_then(|entry| entry.channel.clone());
        channel.unwrap_or_else(|| self.id.clone())
    }

    /// It was found under that Uniqueid.
    pub(super) fn found(&self, channel: &str) {
        self.board.entries.lock().name(channel, &self.id);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let mut entries = self.board.entries.lock();
        if let Some(channel) = entries.calls.remove(&self.id).and_then(|entry| entry.channel) {
            entries.channels.remove(&channel);
        }
    }
}

/// Whether `message` is about the channel that was called, and not the other half of it (`Local`) or the one for failures. A
/// call's own is the first: its Uniqueid is that of the whole call.
pub(super) fn is_main(message: &AmiMessage) -> bool {
    message.get("Uniqueid").is_some_and(|id| Some(id) == message.get("Linkedid"))
        && message.get("Channel") != Some(FAILED_CHANNEL)
}

/// A channel and the call that it says to be: by its account code, where Asterisk chose its id, or by what the dialplan says.
fn named(event: &AmiMessage) -> Option<(&str, &str)> {
    let id = match event.event()? {
        "NewAccountCode" => event.get("AccountCode")?,
        "UserEvent" if event.get("UserEvent") == Some(EVENT) => event.get("Call")?,
        _ => return None,
    };
    is_main(event).then_some((event.get("Uniqueid")?, id))
}

/// Whose fact an event holds, and which: a Uniqueid or a call's id.
fn read(event: &AmiMessage) -> Option<(&str, Fact)> {
    let uniqueid = event.get("Uniqueid");
    match event.event()? {
        "Newstate" => {
            let fact = state(event.get("ChannelState")?)?;
            Some((uniqueid?, fact))
        }
        "OriginateResponse" => match event.get("Response") {
            Some("Failure") => {
                let reason = event.get("Reason").and_then(|reason| reason.parse().ok()).unwrap_or_default();
                Some((uniqueid?, Fact::Refused { reason }))
            }
            _ => None,
        },
        "Hangup" => {
            let code = event.get("Cause").and_then(|code| code.parse().ok()).unwrap_or_default();
            let text = event.get("Cause-txt").unwrap_or_default().to_owned();
            Some((uniqueid?, Fact::Ended(Cause { code, text })))
        }
        "UserEvent" if event.get("UserEvent") == Some(EVENT) => {
            Some((event.get("Call")?, Fact::Report(Report::parse(event.get("Report")?)?)))
        }
        _ => None,
    }
}

/// What a channel's state means to its caller (channelstate.h): 5 rings there, 6 is up.
pub(super) fn state(number: &str) -> Option<Fact> {
    match number {
        "5" => Some(Fact::Ringing),
        "6" => Some(Fact::Up),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board() -> Arc<Switchboard> {
        Arc::new(Switchboard { entries: Mutex::default(), link: watch::Sender::new(Link::Up(1)) })
    }

    fn told(line: &mut Line) -> Vec<Fact> {
        std::iter::from_fn(|| line.facts.try_recv().ok().map(|(_, fact)| fact)).collect()
    }

    #[test]
    fn each_call_is_told_its_own() {
        let board = board();
        let (mut one, mut two) = (board.open("job1-1").unwrap(), board.open("job2-1").unwrap());
        assert!(board.open("job1-1").is_none(), "nobody else");
        for event in [
            "Event: Newstate\nChannelState: 5\nUniqueid: job1-1\nLinkedid: job1-1",
            "Event: Newstate\nChannelState: 6\nUniqueid: job1-1;2\nLinkedid: job1-1",
            "Event: Newstate\nChannelState: 6\nUniqueid: 1795978316.25\nLinkedid: 1795978316.25",
            "Event: Hangup\nUniqueid: job2-1\nLinkedid: job2-1\nCause: 17\nCause-txt: User busy",
            "Event: OriginateResponse\nResponse: Failure\nUniqueid: job2-1\nReason: 0",
            "Event: OriginateResponse\nResponse: Success\nUniqueid: job1-1\nReason: 4",
            "Event: UserEvent\nUserEvent: SidetoneTts\nCall: job1-1\nUniqueid: job1-1\nLinkedid: job1-1\nReport: at=answered answered=1",
            "Event: UserEvent\nUserEvent: Other\nCall: job1-1\nReport: at=answered",
        ] {
            board.tell(&AmiMessage::read(event), Timestamp::UNIX_EPOCH);
        }
        let report = Report::parse("at=answered answered=1").unwrap();
        assert_eq!(told(&mut one), [Fact::Ringing, Fact::Report(report)]);
        let busy = Cause { code: 17, text: "User busy".into() };
        assert_eq!(told(&mut two), [Fact::Ended(busy), Fact::Refused { reason: 0 }]);
        drop(one);
        assert!(board.open("job1-1").is_some());
    }

    #[test]
    fn a_call_by_file_is_known_by_its_account_code() {
        let board = board();
        let mut line = board.open("job3-1").unwrap();
        for event in [
            "Event: NewAccountCode\nChannel: Local/1@a-0;1\nUniqueid: 17.25\nLinkedid: 17.25\nAccountCode: job3-1",
            "Event: NewAccountCode\nChannel: Local/1@a-0;2\nUniqueid: 17.26\nLinkedid: 17.25\nAccountCode: job3-1",
            "Event: Newstate\nChannelState: 6\nUniqueid: 17.26\nLinkedid: 17.25",
            "Event: Hangup\nUniqueid: 17.25\nCause: 17\nCause-txt: User busy",
            "Event: UserEvent\nUserEvent: SidetoneTts\nChannel: OutgoingSpoolFailed\nCall: job3-1\nUniqueid: 17.27\nLinkedid: 17.27\nReport: at=failed reason=0",
            "Event: Hangup\nUniqueid: 17.27\nCause: 0",
        ] {
            board.tell(&AmiMessage::read(event), Timestamp::UNIX_EPOCH);
        }
        let facts = told(&mut line);
        assert!(matches!(&facts[..], [Fact::Ended(cause), Fact::Report(_)] if cause.code == 17), "{facts:?}");
        assert_eq!(line.channel(), "17.25");
        drop(line);
        assert!(board.entries.lock().channels.is_empty());
        let line = board.open("job3-1").unwrap();
        line.found("18.1");
        assert_eq!(line.channel(), "18.1");
    }

    #[test]
    fn a_call_that_does_not_listen_learns_that_it_missed_something() {
        let board = board();
        let line = board.open("job4-1").unwrap();
        let ringing = AmiMessage::read("Event: Newstate\nChannelState: 5\nUniqueid: job4-1");
        (0..QUEUED).for_each(|_| board.tell(&ringing, Timestamp::UNIX_EPOCH));
        assert!(!line.has_missed());
        board.tell(&ringing, Timestamp::UNIX_EPOCH);
        assert!(line.has_missed() && !line.has_missed());
    }
}

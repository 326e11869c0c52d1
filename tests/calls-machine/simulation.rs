//! A call's machine against the model, with the driver's part played by the book: what is asked, carried out, answered and
//! told meets in any order, and anything may get lost. What must hold is asserted as it goes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sidetone::calls::adoption::{AsteriskSide, SESSION_VERSION, SessionRecord, plan};
use sidetone::calls::ids::{ObjectId, ObjectKind, Role};
use sidetone::calls::machine::*;
use sidetone::calls::mode::{CallOptions, Mode};
use sidetone::media::leg::Leg;
use sidetone::media::time::{MediaInstant, SampleRate};

use crate::model::Asterisk;

/// `ari.request_timeout_ms`.
const DRIVER_TIMEOUT: Duration = Duration::from_secs(5);

pub const MAIN: &str = "1700000000.1";

pub fn at(ms: u64) -> MediaInstant {
    MediaInstant::from_nanos(1_000_000_000 + ms * 1_000_000)
}

pub fn config(mode: Mode) -> CallConfig {
    CallConfig {
        call: "0190a5b2call".parse().unwrap(),
        node: "n1".parse().unwrap(),
        mode,
        format: "ulaw".into(),
        external_host: [([127, 0, 0, 1], 14_000).into(), ([127, 0, 0, 1], 14_002).into()],
        voice: (mode == Mode::Answer)
            .then(|| VoiceConfig { format: "ulaw".into(), external_host: ([127, 0, 0, 1], 14_004).into() }),
        timing: Timing::default(),
    }
}

/// What befalls a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Done,
    /// Carried out, the reply lost, the driver says so.
    ReplyLost,
    /// Never carried out, the driver says that it does not know.
    Lost,
    /// Never carried out, Asterisk says so.
    Refused,
    /// Carried out, and the driver forgets to say anything.
    Forgotten,
}

pub struct Simulation {
    pub mode: Mode,
    pub asterisk: Asterisk,
    pub machine: CallMachine,
    pub now: MediaInstant,
    pub main: String,
    saved: AsteriskSide,
    /// Sent, not carried out.
    pub requests: BTreeMap<OpId, Request>,
    /// Carried out or lost, not answered.
    pub replies: Vec<(OpId, Reply)>,
    /// When the driver sent it.
    sent: BTreeMap<OpId, MediaInstant>,
    deletes_under_way: BTreeSet<OpId>,
    /// Of legs, and of the voice (`None`).
    attaches: Vec<(Option<Leg>, MediaSource)>,
    attached: BTreeMap<Option<Leg>, MediaSource>,
    receivers: BTreeSet<Leg>,
    told_started: BTreeSet<String>,
    sources: BTreeMap<String, MediaSource>,
    pub events: Vec<CallEvent>,
    pub voice_failed: bool,
    pub stopped: Vec<MediaEnd>,
    pub finished: Option<(Outcome, Vec<ObjectId>)>,
    pub actions: usize,
    /// Since when the present main channel is in our application without a `Continue` having been sent.
    held_since: Option<MediaInstant>,
    pub faults: usize,
    pub delete_faults: bool,
    /// The call was over before anybody could adopt it.
    pub ended_on_disk: bool,
    pub log: Vec<String>,
}

impl Simulation {
    pub fn new(mode: Mode, state: ChannelState) -> Self {
        let asterisk = Asterisk::with_main(MAIN, state);
        let now = at(0);
        let machine = CallMachine::new(config(mode), asterisk.channels[MAIN].view.clone(), now);
        let saved = machine.asterisk_side();
        let mut simulation = Self {
            mode,
            asterisk,
            machine,
            now,
            main: MAIN.into(),
            saved,
            requests: BTreeMap::new(),
            replies: Vec::new(),
            sent: BTreeMap::new(),
            deletes_under_way: BTreeSet::new(),
            attaches: Vec::new(),
            attached: BTreeMap::new(),
            receivers: BTreeSet::new(),
            told_started: BTreeSet::new(),
            sources: BTreeMap::new(),
            events: Vec::new(),
            voice_failed: false,
            stopped: Vec::new(),
            finished: None,
            actions: 0,
            held_since: (mode == Mode::Tap).then_some(now),
            faults: 0,
            delete_faults: false,
            ended_on_disk: false,
            log: Vec::new(),
        };
        simulation.drain();
        simulation
    }

    pub fn input(&mut self, input: Input) {
        self.log.push(format!("{:?} <- {input:?}", self.now.saturating_since(at(0))));
        self.machine.handle(self.now, input);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(action) = self.machine.poll_action() {
            self.log.push(format!("{:?}    -> {action:?}", self.now.saturating_since(at(0))));
            assert!(self.finished.is_none(), "an action after Finished: {action:?}");
            self.actions += 1;
            self.act(action);
        }
        let deadline = self.machine.next_deadline();
        assert!(deadline.is_none_or(|deadline| deadline > self.now), "a deadline that does not pass");
        if let Some(since) = self.held_since {
            let is_held = self.asterisk.channels.get(&self.main).is_some_and(|channel| channel.in_app);
            let patience = config(self.mode).timing.patience;
            assert!(!is_held || self.now < since + patience, "held for longer than the patience");
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Claim { channel } => self.main = channel,
            Action::Request { op, request } => self.check_and_send(op, request),
            Action::AttachMedia { leg, source } => {
                assert!(self.receivers.insert(leg), "a second receiver for {leg:?}");
                self.attaches.push((Some(leg), source));
            }
            Action::MoveMedia { leg, source } => {
                assert!(self.receivers.contains(&leg), "no receiver to move for {leg:?}");
                self.attaches.push((Some(leg), source));
            }
            Action::AttachVoice { source } => {
                assert!(!self.attaches.iter().any(|(leg, _)| leg.is_none()), "two voices at a time");
                self.attaches.push((None, source));
            }
            Action::VoiceFailed { .. } => {
                assert!(self.faults > 0, "the voice failed for no reason");
                self.voice_failed = true;
            }
            Action::StopMedia { end } => self.stopped.push(end),
            Action::Emit(event) => self.events.push(event),
            Action::Save => self.saved = self.machine.asterisk_side(),
            Action::Finished { outcome, left_behind } => {
                let makes = |request: &Request| {
                    matches!(
                        request,
                        Request::CreateBridge { .. } | Request::Snoop { .. } | Request::ExternalMedia { .. }
                    )
                };
                assert!(!self.requests.values().any(makes), "finished while something may yet be made");
                self.finished = Some((outcome, left_behind));
            }
        }
    }

    fn check_and_send(&mut self, op: OpId, request: Request) {
        match &request {
            Request::Continue { .. } => self.held_since = None,
            Request::AddChannel { bridge, channel } => {
                if let Some(id) = ObjectId::parse(channel) {
                    assert!(self.told_started.contains(channel), "{channel} joins before its StasisStart");
                    assert_eq!(id.role == Role::MainMedia, bridge.role == Role::MainBridge);
                    assert!(id.role == Role::MainMedia || id.generation == bridge.generation);
                    if let Role::Media(_) | Role::MainMedia = id.role {
                        let leg = id.role.leg();
                        let attached = self.attached.get(&leg);
                        assert!(
                            attached.is_some() && attached == self.sources.get(channel),
                            "{channel} joins before its packets have their way"
                        );
                    }
                }
            }
            Request::Delete { id } => {
                assert!(self.deletes_under_way.is_empty(), "two DELETEs at a time");
                self.deletes_under_way.insert(op);
                let makes_it = |request: &Request| match request {
                    Request::CreateBridge { id: it }
                    | Request::Snoop { id: it, .. }
                    | Request::ExternalMedia { id: it, .. } => it == id,
                    Request::AddChannel { channel, .. } => *channel == id.to_string(),
                    _ => false,
                };
                assert!(!self.requests.values().any(makes_it), "{id} is deleted while it is being made");
            }
            _ => {}
        }
        self.sent.insert(op, self.now);
        assert!(self.requests.insert(op, request).is_none(), "an op twice");
    }

    /// Decide the n-th request's fate.
    pub fn carry_out(&mut self, n: usize, fate: Fate) {
        let Some(op) = nth(self.requests.keys(), n) else { return };
        let Some(request) = self.requests.remove(&op) else { return };
        self.log.push(format!("   {op:?} {fate:?}"));
        if fate != Fate::Done {
            self.faults += 1;
            self.delete_faults |= matches!(request, Request::Delete { .. });
        }
        let reply = match fate {
            Fate::Done | Fate::ReplyLost | Fate::Forgotten => {
                let reply = self.asterisk.carry_out(&request);
                if let (Request::ExternalMedia { id, .. }, Reply::Media { source }) = (&request, &reply) {
                    self.sources.insert(id.to_string(), *source);
                }
                reply
            }
            Fate::Lost => Reply::Unknown { reason: "lost".into() },
            Fate::Refused => Reply::Refused { status: 400, reason: "no".into() },
        };
        match fate {
            Fate::ReplyLost => self.replies.push((op, Reply::Unknown { reason: "reply lost".into() })),
            Fate::Forgotten => {
                self.deletes_under_way.remove(&op);
            }
            Fate::Done | Fate::Lost | Fate::Refused => self.replies.push((op, reply)),
        }
    }

    pub fn reply(&mut self, n: usize) {
        if !self.replies.is_empty() {
            let (op, reply) = self.replies.remove(n % self.replies.len());
            self.deletes_under_way.remove(&op);
            self.input(Input::Reply { op, reply });
        }
    }

    pub fn tell(&mut self, twice: bool) {
        let Some(event) = self.asterisk.events.pop_front() else { return };
        match &event {
            AriEvent::StasisStart { channel, replaces } => {
                self.told_started.insert(channel.id.clone());
                // By the driver's rule 6.
                let is_ours = channel.id.starts_with("sidetone-")
                    || channel.id == self.main
                    || replaces.as_ref() == Some(&self.main);
                assert!(is_ours, "an event of nobody's: {event:?}");
            }
            AriEvent::Destroyed { channel, .. } if *channel == self.main => self.held_since = None,
            _ => {}
        }
        if twice {
            self.input(Input::Event(event.clone()));
        }
        self.input(Input::Event(event));
    }

    pub fn enter(&mut self, n: usize) {
        let waiting = self.asterisk.channels.iter().filter(|(_, channel)| channel.to_enter).map(|(id, _)| id);
        if let Some(id) = nth(waiting, n) {
            self.asterisk.enter(&id);
        }
    }

    pub fn attach(&mut self, refuse: bool) {
        if self.attaches.is_empty() {
            return;
        }
        let (leg, source) = self.attaches.remove(0);
        if refuse {
            self.faults += 1;
            let reason = "no room".into();
            let input = match leg {
                Some(leg) => {
                    if !self.attached.contains_key(&Some(leg)) {
                        self.receivers.remove(&leg);
                    }
                    Input::MediaRefused { leg, reason }
                }
                None => Input::VoiceRefused { reason },
            };
            self.input(input);
        } else {
            self.attached.insert(leg, source);
            self.input(leg.map_or(Input::VoiceAttached, |leg| Input::MediaAttached { leg }));
        }
    }

    /// After a restart: `leg`, which is wired, cannot be received as it is.
    pub fn refuse_what_was_wired(&mut self, leg: Leg) {
        self.receivers.remove(&leg);
        self.attached.remove(&Some(leg));
        self.input(Input::MediaRefused { leg, reason: "its sender is another leg's".into() });
    }

    /// Time passes until the machine's next deadline, or for `most`.
    pub fn wait(&mut self, most: Option<Duration>) {
        let until = match (self.machine.next_deadline(), most) {
            (Some(deadline), Some(most)) => deadline.min(self.now + most),
            (Some(deadline), None) => deadline,
            (None, Some(most)) => self.now + most,
            (None, None) => return,
        };
        let unanswered = self.requests.keys().chain(self.replies.iter().map(|(op, _)| op));
        let timed_out = unanswered.map(|op| (self.sent[op] + DRIVER_TIMEOUT, *op)).min();
        if let Some((when, op)) = timed_out.filter(|(when, _)| *when <= until) {
            self.now = self.now.max(when);
            self.time_out(op);
            return;
        }
        self.now = until;
        // A DELETE without an answer is given up by the machine when its time is over.
        let overdue = self.machine.next_deadline().is_some_and(|deadline| deadline <= self.now);
        if overdue {
            self.log.push(format!("{:?} timeout", self.now.saturating_since(at(0))));
            self.deletes_under_way.retain(|op| self.requests.contains_key(op) && most.is_some());
            self.machine.handle_timeout(self.now);
        }
        self.drain();
    }

    /// The driver has waited long enough for the reply to `op`; half of such requests have been carried out.
    fn time_out(&mut self, op: OpId) {
        self.faults += 1;
        if let Some(n) = self.requests.keys().position(|it| *it == op) {
            self.carry_out(n, if op.0.is_multiple_of(2) { Fate::Lost } else { Fate::ReplyLost });
        }
        self.replies.retain(|(it, _)| *it != op);
        self.deletes_under_way.remove(&op);
        self.input(Input::Reply { op, reply: Reply::Unknown { reason: "timed out".into() } });
    }

    pub fn disconnect(&mut self) {
        if self.asterisk.listening {
            self.faults += 1;
            self.lose_connection();
            self.input(Input::Disconnected);
        }
    }

    fn lose_connection(&mut self) {
        self.asterisk.listening = false;
        self.asterisk.events.clear();
        self.asterisk.subscribed.clear();
    }

    pub fn reconnect(&mut self) {
        if !self.asterisk.listening {
            self.asterisk.listening = true;
            self.input(Input::Reconnected(self.asterisk.snapshot()));
        }
    }

    /// `kill -9` and a start.
    pub fn restart(&mut self) {
        self.faults += 1;
        self.log.push("restart".into());
        self.lose_connection();
        self.requests.clear();
        self.replies.clear();
        self.deletes_under_way.clear();
        self.attaches.clear();
        self.attached.clear();
        self.receivers.clear();
        self.held_since = None;
        self.asterisk.listening = true;
        let snapshot = self.asterisk.snapshot();
        let plan =
            plan(&snapshot, &config(self.mode).node, &BTreeSet::new(), &BTreeSet::new(), &[self.record()]);
        for orphan in &plan.orphans {
            assert!(orphan.id.starts_with("sidetone-n1-"));
            match orphan.kind {
                ObjectKind::Channel => self.asterisk.hang_up(&orphan.id, false),
                ObjectKind::Bridge => self.asterisk.destroy_bridge(&orphan.id),
            }
        }
        if plan.adopt.is_empty() {
            assert_eq!(self.asterisk.ours(), Vec::<String>::new(), "the sweep left something");
            self.ended_on_disk = true;
            let held = self.asterisk.channels.get(&self.main).is_some_and(|channel| channel.in_app);
            assert_eq!(held, plan.stranded.iter().any(|it| it.channel.id == self.main));
            return;
        }
        assert!(plan.orphans.is_empty(), "an adopted call's objects are its own business");
        self.asterisk.events.clear();
        self.machine = CallMachine::adopted(config(self.mode), &self.saved, &snapshot, self.now);
        for (leg, source) in Leg::BOTH.into_iter().zip(self.machine.wired_sources()) {
            if let Some(source) = source {
                self.receivers.insert(leg);
                self.attached.insert(Some(leg), source);
            }
        }
        self.stopped.clear();
        self.drain();
    }

    fn record(&self) -> SessionRecord {
        let config = config(self.mode);
        let leg = |i: usize| sidetone::calls::adoption::LegRecord {
            external_host: config.external_host[i],
            local_port: config.external_host[i].port(),
            segment: None,
            counts: None,
        };
        SessionRecord {
            v: SESSION_VERSION,
            call: config.call.clone(),
            node: config.node.clone(),
            tenant: "default".into(),
            options: CallOptions::new(self.mode),
            started_at: 1,
            sample_rate: SampleRate::NARROWBAND,
            format: "ulaw".into(),
            asterisk: self.saved.clone(),
            legs: [leg(0), leg(1)],
            origin: None,
            recording: None,
            paused: false,
        }
    }

    /// Everything goes well until nothing more happens.
    pub fn settle(&mut self) {
        for _ in 0..5_000 {
            if self.finished.is_some() || self.ended_on_disk {
                return;
            }
            self.reconnect();
            if !self.requests.is_empty() {
                self.carry_out(0, Fate::Done);
            } else if self.asterisk.channels.values().any(|channel| channel.to_enter) {
                self.enter(0);
            } else if !self.asterisk.events.is_empty() {
                self.tell(false);
            } else if !self.replies.is_empty() {
                self.reply(0);
            } else if !self.attaches.is_empty() {
                self.attach(false);
            } else if self.machine.next_deadline().is_some() {
                self.wait(None);
            } else {
                return;
            }
        }
        panic!("it never comes to rest:\n{}", self.log[self.log.len().saturating_sub(60)..].join("\n"));
    }

    pub fn count(&self, kind: &str) -> usize {
        self.events.iter().filter(|event| event.kind() == kind).count()
    }
}

pub fn nth<'a, T: Clone + 'a>(of: impl Iterator<Item = &'a T>, n: usize) -> Option<T> {
    let all: Vec<&T> = of.collect();
    (!all.is_empty()).then(|| all[n % all.len()].clone())
}

//! A model of Asterisk: what it has, what requests do to it, and what it tells. It knows no time and no faults; when a
//! request is carried out, and whether anyone hears of it, is the simulation's business.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use sidetone::calls::ids::{ObjectId, ObjectKind, Role};
use sidetone::calls::machine::{AriEvent, ChannelState, ChannelView, MediaSource, Reply, Request, Snapshot};

#[derive(Clone, Debug)]
pub struct Channel {
    pub view: ChannelView,
    /// In our application, StasisStart sent.
    pub in_app: bool,
    /// Will enter our application by itself.
    pub to_enter: bool,
    pub spies_on: Option<String>,
}

#[derive(Clone, Debug, Default)]
pub struct Asterisk {
    pub channels: BTreeMap<String, Channel>,
    pub bridges: BTreeMap<String, BTreeSet<String>>,
    pub subscribed: BTreeSet<String>,
    /// Somebody listens; otherwise events are dropped, as Asterisk does.
    pub listening: bool,
    pub events: VecDeque<AriEvent>,
    /// Times that a channel was continued in the dialplan.
    pub continued: usize,
    ports: u16,
}

impl Asterisk {
    pub fn with_main(id: &str, state: ChannelState) -> Self {
        let mut asterisk = Self { listening: true, ..Self::default() };
        asterisk.add_main(id, state);
        asterisk
    }

    pub fn add_main(&mut self, id: &str, state: ChannelState) {
        let view =
            ChannelView { id: id.into(), name: format!("PJSIP/{id}"), state, ..ChannelView::default() };
        self.channels.insert(id.into(), Channel { view, in_app: true, to_enter: false, spies_on: None });
    }

    fn tell(&mut self, event: AriEvent) {
        if self.listening {
            self.events.push_back(event);
        }
    }

    fn is_told_of(&self, id: &str) -> bool {
        self.subscribed.contains(id) || self.channels.get(id).is_some_and(|channel| channel.in_app)
    }

    pub fn ours(&self) -> Vec<String> {
        self.channels
            .keys()
            .chain(self.bridges.keys())
            .filter(|id| id.starts_with("sidetone-"))
            .cloned()
            .collect()
    }

    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            channels: self.channels.iter().map(|(id, channel)| (id.clone(), channel.view.clone())).collect(),
            in_app: self.channels.iter().filter(|(_, c)| c.in_app).map(|(id, _)| id.clone()).collect(),
            stasis_args: BTreeMap::new(),
            bridges: self.bridges.clone(),
        }
    }

    /// A new channel of ours reaches our application.
    pub fn enter(&mut self, id: &str) {
        let Some(channel) = self.channels.get_mut(id).filter(|channel| channel.to_enter) else { return };
        channel.to_enter = false;
        channel.in_app = true;
        let channel = channel.view.clone();
        self.tell(AriEvent::StasisStart { channel, replaces: None });
    }

    fn leave_bridges(&mut self, id: &str) {
        let left: Vec<String> = self
            .bridges
            .iter_mut()
            .filter_map(|(bridge, members)| members.remove(id).then(|| bridge.clone()))
            .collect();
        for bridge in left {
            self.tell(AriEvent::LeftBridge { channel: id.into(), bridge });
        }
    }

    /// A channel ends, with all that Asterisk does then.
    pub fn hang_up(&mut self, id: &str, with_request: bool) {
        let told = self.is_told_of(id);
        if !self.channels.contains_key(id) {
            return;
        }
        if told && with_request {
            self.tell(AriEvent::HangupRequested { channel: id.into(), cause: Some(16) });
        }
        let spies: Vec<String> = self
            .channels
            .iter()
            .filter(|(_, channel)| channel.spies_on.as_deref() == Some(id))
            .map(|(spy, _)| spy.clone())
            .collect();
        for spy in spies {
            self.hang_up(&spy, false);
        }
        self.leave_bridges(id);
        let Some(channel) = self.channels.remove(id) else { return };
        if channel.in_app {
            self.tell(AriEvent::StasisEnd { channel: id.into() });
        }
        if told && channel.spies_on.is_none() {
            self.tell(AriEvent::Destroyed {
                channel: id.into(),
                cause: Some(16),
                cause_text: "Normal Clearing".into(),
            });
        }
    }

    pub fn destroy_bridge(&mut self, id: &str) {
        if let Some(members) = self.bridges.get(id).cloned() {
            for member in members {
                self.leave_bridges(&member);
            }
            self.bridges.remove(id);
            self.tell(AriEvent::BridgeDestroyed { bridge: id.into() });
        }
    }

    /// The dialplan sends a continued channel to us a second time.
    pub fn enter_again(&mut self, id: &str) {
        if let Some(channel) = self.channels.get_mut(id)
            && !channel.in_app
            && self.listening
        {
            channel.in_app = true;
            let channel = channel.view.clone();
            self.tell(AriEvent::StasisStart { channel, replaces: None });
        }
    }

    /// A transfer puts `new` in the place of `old`, which is in our application.
    pub fn replace(&mut self, old: &str, new: &str) {
        let Some(state) =
            self.channels.get(old).filter(|channel| channel.in_app).map(|channel| channel.view.state)
        else {
            return;
        };
        self.add_main(new, state);
        let channel = self.channels[new].view.clone();
        self.tell(AriEvent::StasisStart { channel, replaces: Some(old.into()) });
        self.hang_up(old, false);
    }

    pub fn carry_out(&mut self, request: &Request) -> Reply {
        let refused = |status, reason: &str| Reply::Refused { status, reason: reason.into() };
        match request {
            Request::Subscribe { .. } if !self.listening => Reply::NotFound,
            Request::Subscribe { channel } if self.channels.contains_key(channel) => {
                self.subscribed.insert(channel.clone());
                Reply::Done
            }
            Request::Subscribe { .. } => refused(422, "no such event source"),
            Request::Probe { channel } => self
                .channels
                .get(channel)
                .map_or(Reply::NotFound, |channel| Reply::Channel(channel.view.clone())),
            Request::Answer { channel } | Request::Continue { channel }
                if !self.channels.contains_key(channel) =>
            {
                Reply::NotFound
            }
            Request::Answer { channel } | Request::Continue { channel } if !self.channels[channel].in_app => {
                refused(409, "Channel not in Stasis application")
            }
            Request::Answer { channel } => {
                if let Some(it) = self.channels.get_mut(channel) {
                    it.view.state = ChannelState::Up;
                }
                self.tell(AriEvent::StateChanged { channel: channel.clone(), state: ChannelState::Up });
                Reply::Done
            }
            Request::Continue { channel } => {
                self.continued += 1;
                self.leave_bridges(channel);
                if let Some(it) = self.channels.get_mut(channel) {
                    it.in_app = false;
                }
                self.tell(AriEvent::StasisEnd { channel: channel.clone() });
                Reply::Done
            }
            Request::Hangup { channel } => {
                let is_there = self.channels.contains_key(channel);
                self.hang_up(channel, true);
                if is_there { Reply::Done } else { Reply::NotFound }
            }
            Request::CreateBridge { id } => {
                if self.bridges.contains_key(&id.to_string()) {
                    return refused(409, "Bridge with id already exists");
                }
                self.bridges.insert(id.to_string(), BTreeSet::new());
                Reply::Done
            }
            Request::Snoop { target, .. } if !self.channels.contains_key(target) => Reply::NotFound,
            Request::Snoop { id, target, .. } => self.make_channel(id, Some(target.clone()), Reply::Done),
            Request::ExternalMedia { id, .. } => {
                self.ports += 2;
                let source = MediaSource::Rtp(([127, 0, 0, 1], 20_000 + self.ports).into());
                self.make_channel(id, None, Reply::Media { source })
            }
            Request::AddChannel { bridge, .. } if !self.bridges.contains_key(&bridge.to_string()) => {
                Reply::NotFound
            }
            Request::AddChannel { channel, .. } if !self.channels.contains_key(channel) => {
                refused(400, "Channel not found")
            }
            Request::AddChannel { channel, .. } if !self.channels[channel].in_app => {
                refused(422, "Channel not in Stasis application")
            }
            Request::AddChannel { bridge, channel } => {
                self.leave_bridges(channel);
                let bridge = bridge.to_string();
                self.bridges.entry(bridge.clone()).or_default().insert(channel.clone());
                self.tell(AriEvent::EnteredBridge { channel: channel.clone(), bridge });
                Reply::Done
            }
            Request::Delete { id } => {
                let name = id.to_string();
                let is_there = match id.role.kind() {
                    ObjectKind::Channel => self.channels.contains_key(&name),
                    ObjectKind::Bridge => self.bridges.contains_key(&name),
                };
                match id.role.kind() {
                    ObjectKind::Channel => self.hang_up(&name, true),
                    ObjectKind::Bridge => self.destroy_bridge(&name),
                }
                if is_there { Reply::Done } else { Reply::NotFound }
            }
        }
    }

    fn make_channel(&mut self, id: &ObjectId, spies_on: Option<String>, reply: Reply) -> Reply {
        if self.channels.contains_key(&id.to_string()) {
            return Reply::Refused {
                status: 409,
                reason: "Channel with given unique ID already exists".into(),
            };
        }
        let view = ChannelView { id: id.to_string(), state: ChannelState::Up, ..ChannelView::default() };
        self.channels.insert(id.to_string(), Channel { view, in_app: false, to_enter: true, spies_on });
        reply
    }

    /// Whether the voice, of whatever generation, is in one bridge with the channel that it speaks to.
    pub fn is_spoken_to(&self, main: &str) -> bool {
        let is_voice = |id: &String| ObjectId::parse(id).is_some_and(|id| id.role == Role::MainMedia);
        self.bridges
            .values()
            .any(|members| members.len() == 2 && members.contains(main) && members.iter().any(is_voice))
    }

    /// Whether a leg's snoop and media channel, of whatever generation, are in one bridge.
    pub fn is_wired(&self, snoop: Role) -> bool {
        self.bridges.values().any(|members| {
            let roles: Vec<Role> =
                members.iter().filter_map(|id| ObjectId::parse(id)).map(|id| id.role).collect();
            let leg = snoop.leg();
            roles.len() == 2 && roles.contains(&snoop) && roles.iter().all(|role| role.leg() == leg)
        })
    }
}

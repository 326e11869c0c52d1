//! What exists: channels, bridges, applications, and who is told of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::Method;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::Fault;
use super::media::{FakeMedia, Rtp};

/// What happens to an open event socket.
#[derive(Clone, Debug)]
pub(super) enum Act {
    Send(String),
    Flood(usize),
    Freeze,
    Cut,
    Close(u16),
}

#[derive(Default)]
pub(super) struct World {
    pub(super) version: String,
    pub(super) password: String,
    pub(super) modules: BTreeSet<String>,
    pub(super) channels: BTreeMap<String, FakeChannel>,
    pub(super) bridges: BTreeMap<String, (String, BTreeSet<String>)>,
    pub(super) apps: BTreeMap<String, App>,
    pub(super) faults: Vec<(String, Fault)>,
    pub(super) requests: Vec<String>,
    pub(super) sockets_opened: usize,
    pub(super) connections: BTreeSet<SocketAddr>,
    pub(super) next_port: u16,
    /// StasisStart of channels that requests make comes this much after the reply; `None`: before it.
    pub(super) stasis_start_after: Option<Duration>,
    pub(super) media: Option<FakeMedia>,
    pub(super) removing: usize,
    pub(super) most_removing: usize,
}

#[derive(Clone, Default)]
pub(super) struct FakeChannel {
    pub(super) name: String,
    pub(super) state: &'static str,
    pub(super) app: Option<String>,
    pub(super) args: Vec<String>,
    pub(super) spies_on: Option<String>,
    pub(super) variables: BTreeMap<String, String>,
    pub(super) rtp: Option<Arc<Rtp>>,
}

#[derive(Default)]
pub(super) struct App {
    pub(super) socket: Option<mpsc::UnboundedSender<Act>>,
    pub(super) channels: BTreeSet<String>,
    pub(super) bridges: BTreeSet<String>,
}

pub(super) type Shared = Arc<Mutex<World>>;
pub(super) type Reply = (u16, Value);

pub(super) fn no(status: u16, message: &str) -> Reply {
    (status, json!({ "message": message }))
}

impl App {
    pub(super) fn json(&self, name: &str) -> Value {
        json!({"name": name, "channel_ids": self.channels, "bridge_ids": self.bridges, "endpoint_ids": []})
    }
}

impl World {
    pub(super) fn channel(&self, id: &str) -> Value {
        let channel = &self.channels[id];
        let mut app_name = "";
        let mut app_data = String::new();
        if let Some(app) = &channel.app {
            app_name = "Stasis";
            app_data = std::iter::once(app).chain(&channel.args).cloned().collect::<Vec<_>>().join(",");
        }
        let nobody = json!({"name": "", "number": ""});
        json!({
            "id": id, "name": channel.name, "state": channel.state, "protocol_id": "", "caller": nobody,
            "connected": nobody, "accountcode": "", "language": "en",
            "creationtime": "2026-11-20T10:00:00.000+0000",
            "dialplan": {"context": "default", "exten": "s", "priority": 1, "app_name": app_name, "app_data": app_data},
        })
    }

    pub(super) fn bridge(&self, id: &str) -> Value {
        let (name, channels) = &self.bridges[id];
        json!({
            "id": id, "technology": "simple_bridge", "bridge_type": "mixing", "bridge_class": "stasis",
            "creator": "Stasis", "name": name, "channels": channels,
        })
    }

    pub(super) fn send(&self, app: &str, event: &Value) {
        if let Some(socket) = self.apps.get(app).and_then(|app| app.socket.as_ref()) {
            let _ = socket.send(Act::Send(event.to_string()));
        }
    }

    /// Tell every application that gets events about channel `id`.
    pub(super) fn tell(&self, id: &str, kind: &str, mut event: Value) {
        event["type"] = json!(kind);
        event["channel"] = self.channel(id);
        for (name, app) in &self.apps {
            if app.channels.contains(id) {
                self.send(name, &event);
            }
        }
    }

    /// `Stasis(app)` by channel `id`: fails where no client is connected; a leg of ours then ends.
    pub(super) fn enter(&mut self, app: &str, id: &str) -> bool {
        if self.apps.get(app).is_none_or(|app| app.socket.is_none()) || !self.channels.contains_key(id) {
            self.channels.remove(id);
            return false;
        }
        let channel = self.channels.get_mut(id).unwrap();
        channel.app = Some(app.to_owned());
        if channel.name.starts_with("UnicastRTP/") || channel.name.starts_with("Local/") {
            channel.state = "Up";
        }
        let args = channel.args.clone();
        self.apps.get_mut(app).unwrap().channels.insert(id.to_owned());
        self.tell(id, "StasisStart", json!({ "args": args }));
        true
    }

    pub(super) fn leave(&mut self, id: &str) {
        self.tell(id, "StasisEnd", json!({}));
        if let Some(app) = self.channels.get_mut(id).and_then(|channel| channel.app.take()) {
            self.apps.get_mut(&app).unwrap().channels.remove(id);
        }
    }

    pub(super) fn destroy(&mut self, id: &str) {
        self.tell(id, "ChannelHangupRequest", json!({"cause": 16}));
        let spies = self.channels.iter().filter(|(_, spy)| spy.spies_on.as_deref() == Some(id));
        for spy in spies.map(|(spy, _)| spy.clone()).collect::<Vec<_>>() {
            self.take_out(&spy);
            self.leave(&spy);
            self.channels.remove(&spy);
        }
        self.take_out(id);
        if self.channels[id].app.is_some() {
            self.tell(id, "StasisEnd", json!({}));
        }
        self.tell(id, "ChannelDestroyed", json!({"cause": 16, "cause_txt": "Normal Clearing"}));
        self.channels.remove(id);
        for app in self.apps.values_mut() {
            app.channels.remove(id);
        }
    }

    pub(super) fn take_out(&mut self, id: &str) {
        let within = self.bridges.iter().find(|(_, (_, channels))| channels.contains(id));
        if let Some(bridge) = within.map(|(bridge, _)| bridge.clone()) {
            self.bridges.get_mut(&bridge).unwrap().1.remove(id);
            self.tell(id, "ChannelLeftBridge", json!({ "bridge": self.bridge(&bridge) }));
        }
    }

    pub(super) fn add_channel(&mut self, bridge: &str, id: &str) -> Reply {
        if !self.bridges.contains_key(bridge) {
            return no(404, "Bridge not found");
        }
        match self.channels.get(id) {
            None => no(400, "Channel not found"),
            Some(FakeChannel { app: None, .. }) => no(422, "Channel not in Stasis application"),
            Some(FakeChannel { app: Some(app), .. }) => {
                self.apps.get_mut(app).unwrap().bridges.insert(bridge.to_owned());
                self.bridges.get_mut(bridge).unwrap().1.insert(id.to_owned());
                self.tell(id, "ChannelEnteredBridge", json!({ "bridge": self.bridge(bridge) }));
                (204, Value::Null)
            }
        }
    }

    pub(super) fn subscription(&mut self, method: &Method, name: &str, source: &str) -> Reply {
        let known = match source.split_once(':') {
            Some(("channel", id)) => self.channels.contains_key(id),
            Some(("bridge", id)) => self.bridges.contains_key(id),
            _ => false,
        };
        let Some(app) = self.apps.get_mut(name) else { return no(404, "Application not found") };
        let (kind, id) = source.split_once(':').unwrap_or_default();
        let set = if kind == "channel" { &mut app.channels } else { &mut app.bridges };
        match *method {
            Method::DELETE if set.remove(id) => {}
            Method::DELETE => return no(422, "Event source was not subscribed to"),
            _ if known => {
                set.insert(id.to_owned());
            }
            _ => return no(422, "Event source does not exist"),
        }
        (200, app.json(name))
    }
}

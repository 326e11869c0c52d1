//! What each request does to the world, and its reply.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use axum::http::Method;
use serde_json::{Value, json};

use super::media::{FakeMedia, Rtp, send_rtp};
use super::world::{FakeChannel, Reply, Shared, World, no};

pub(super) type Query = BTreeMap<String, String>;

pub(super) fn route(shared: &Shared, method: &Method, segments: &[&str], query: &Query) -> Reply {
    let mut world = shared.lock();
    let get = |name: &str| query.get(name).cloned().unwrap_or_default();
    match (method.as_str(), segments) {
        ("GET", ["asterisk", "info"]) => {
            let system = json!({"version": world.version, "entity_id": "02:00:00:00:00:01"});
            (200, json!({"system": system, "status": {"startup_time": "2026-11-20T10:00:00.000+0000"}}))
        }
        ("GET", ["asterisk", "modules"]) => (200, world.modules.iter().map(|name| module(name)).collect()),
        ("GET", ["asterisk", "modules", name]) => match world.modules.contains(*name) {
            true => (200, module(name)),
            false => no(404, "Module could not be found in running modules"),
        },
        ("GET", ["applications"]) => {
            let apps: Vec<_> = world.apps.iter().map(|(name, app)| app.json(name)).collect();
            (200, json!(apps))
        }
        ("GET", ["applications", name]) => match world.apps.get(*name) {
            Some(app) => (200, app.json(name)),
            None => no(404, "Application not found"),
        },
        (_, ["applications", name, "subscription"]) => world.subscription(method, name, &get("eventSource")),
        ("GET", ["channels"]) => {
            let all: Vec<_> = world.channels.keys().map(|id| world.channel(id)).collect();
            (200, json!(all))
        }
        ("POST", ["channels"]) => {
            let app = query.get("app").cloned();
            let channel = FakeChannel {
                name: get("endpoint"),
                state: "Down",
                args: args(&get("appArgs")),
                ..Default::default()
            };
            make(shared, &mut world, &get("channelId"), app, channel, BTreeMap::new())
        }
        ("POST", ["channels", "externalMedia"]) => external_media(shared, &mut world, query),
        ("GET", ["bridges"]) => {
            let all: Vec<_> = world.bridges.keys().map(|id| world.bridge(id)).collect();
            (200, json!(all))
        }
        ("POST", ["bridges"]) => {
            let id = get("bridgeId");
            if world.bridges.contains_key(&id) {
                return no(409, &format!("Bridge with id '{id}' already exists"));
            }
            world.bridges.insert(id.clone(), (get("name"), BTreeSet::new()));
            (200, world.bridge(&id))
        }
        ("DELETE", ["bridges", id]) => match world.bridges.remove(*id) {
            Some(_) => {
                for app in world.apps.values_mut() {
                    app.bridges.remove(*id);
                }
                (204, Value::Null)
            }
            None => no(404, "Bridge not found"),
        },
        ("POST", ["bridges", id, "play", playback]) if world.bridges.contains_key(*id) => {
            let legs = world.bridges[*id].1.iter().filter_map(|leg| world.channels[leg].rtp.clone());
            legs.for_each(|leg| drop(tokio::spawn(send_rtp(leg))));
            (201, json!({"id": playback, "media_uri": get("media"), "state": "queued"}))
        }
        ("POST", ["bridges", id, "addChannel"]) => world.add_channel(id, &get("channel")),
        (_, ["channels", id]) if !world.channels.contains_key(*id) => no(404, "Channel not found"),
        (_, ["channels", id, ..]) if !world.channels.contains_key(*id) => {
            let ours = matches!(segments.get(2), Some(&"snoop" | &"variable"));
            no(404, if ours { "Provided channel was not found" } else { "Channel not found" })
        }
        ("GET", ["channels", id]) => (200, world.channel(id)),
        ("DELETE", ["channels", id]) => {
            world.destroy(id);
            (204, Value::Null)
        }
        ("POST", ["channels", id, "snoop", snoop]) => {
            if world.channels.contains_key(*snoop) {
                return no(500, "Snoop channel could not be created");
            }
            let channel = FakeChannel {
                name: format!("Snoop/{id}-00000001"),
                state: "Up",
                args: args(&get("appArgs")),
                spies_on: Some((*id).to_owned()),
                ..Default::default()
            };
            make(shared, &mut world, snoop, query.get("app").cloned(), channel, BTreeMap::new())
        }
        ("GET", ["channels", id, "variable"]) => match world.channels[*id].variables.get(&get("variable")) {
            Some(value) => (200, json!({ "value": value })),
            None => no(404, "Provided variable was not found"),
        },
        ("POST", ["channels", id, ..]) if world.channels[*id].app.is_none() => {
            no(409, "Channel not in Stasis application")
        }
        ("POST", ["channels", id, "variable"]) => {
            let channel = world.channels.get_mut(*id).unwrap();
            channel.variables.insert(get("variable"), get("value"));
            (204, Value::Null)
        }
        ("POST", ["channels", id, "answer"]) => {
            world.channels.get_mut(*id).unwrap().state = "Up";
            world.tell(id, "ChannelStateChange", json!({}));
            (204, Value::Null)
        }
        ("POST", ["channels", id, "continue"]) => {
            world.leave(id);
            (204, Value::Null)
        }
        ("POST", ["channels", id, "play", playback]) => {
            let body = json!({"id": playback, "media_uri": get("media"), "target_uri": format!("channel:{id}"), "state": "queued"});
            (201, body)
        }
        _ => no(404, "Resource not found"),
    }
}

fn module(name: &str) -> Value {
    json!({"name": name, "description": "RTP Media Channel", "use_count": 0, "status": "Running", "support_level": "core"})
}

fn args(text: &str) -> Vec<String> {
    text.split(',').filter(|arg| !arg.is_empty()).map(str::to_owned).collect()
}

fn external_media(shared: &Shared, world: &mut World, query: &Query) -> Reply {
    let get = |name: &str| query.get(name).cloned().unwrap_or_default();
    let id = get("channelId");
    let known = ["ulaw", "alaw", "slin", "slin16", "g722", "gsm", "opus"].contains(&get("format").as_str());
    if !known || world.channels.contains_key(&id) {
        return no(500, "An internal error prevented this request from being handled");
    }
    let mut port = world.next_port;
    world.next_port += 2;
    let mut address = IpAddr::from([127, 0, 0, 1]);
    let rtp = world.media.map(|FakeMedia { payload_type, told_address }| {
        let socket = std::net::UdpSocket::bind((address, 0)).expect("a port");
        port = socket.local_addr().expect("its port").port();
        address = told_address;
        Arc::new(Rtp { socket, to: get("external_host").parse().expect("an address"), payload_type })
    });
    let variables = BTreeMap::from([
        ("UNICASTRTP_LOCAL_PORT".to_owned(), port.to_string()),
        ("UNICASTRTP_LOCAL_ADDRESS".to_owned(), address.to_string()),
    ]);
    let channel = FakeChannel {
        name: format!("UnicastRTP/{}-0x{port:x}", get("external_host")),
        state: "Down",
        args: args(&get("data")),
        variables: variables.clone(),
        rtp,
        ..FakeChannel::default()
    };
    make(shared, world, &id, query.get("app").cloned(), channel, variables)
}

fn make(
    shared: &Shared,
    world: &mut World,
    id: &str,
    app: Option<String>,
    channel: FakeChannel,
    variables: BTreeMap<String, String>,
) -> Reply {
    world.channels.insert(id.to_owned(), channel);
    let mut body = world.channel(id);
    if !variables.is_empty() {
        body["channelvars"] = json!(variables);
    }
    let Some(app) = app else { return (200, body) };
    let id = id.to_owned();
    match world.stasis_start_after {
        None => {
            world.enter(&app, &id);
        }
        Some(delay) => {
            let shared = shared.clone();
            tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                shared.lock().enter(&app, &id);
            });
        }
    }
    (200, body)
}

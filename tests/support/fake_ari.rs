//! A fake ARI for what a real Asterisk cannot be made to do on demand: replies delayed or lost, events early or late, sockets cut
//! or half dead. What it does otherwise is held to the real one by `ari-contract.rs`.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{ConnectInfo, FromRequestParts, Request, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// What goes wrong with a request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// It is carried out and the reply comes late.
    Late(Duration),
    /// It is carried out and the reply never comes.
    Lost,
    /// It is not carried out; this is the reply.
    Refuse(u16, &'static str),
    /// It is carried out and the reply is this text.
    Garbled(&'static str),
}

/// What happens to an open event socket.
#[derive(Clone, Debug)]
enum Act {
    Send(String),
    Flood(usize),
    Freeze,
    Cut,
    Close(u16),
}

#[derive(Default)]
struct World {
    version: String,
    password: String,
    channels: BTreeMap<String, FakeChannel>,
    bridges: BTreeMap<String, (String, BTreeSet<String>)>,
    apps: BTreeMap<String, App>,
    faults: Vec<(String, Fault)>,
    requests: Vec<String>,
    sockets_opened: usize,
    connections: BTreeSet<SocketAddr>,
    next_port: u16,
    /// StasisStart of channels that requests make comes this much after the reply; `None`: before it.
    stasis_start_after: Option<Duration>,
    media: Option<FakeMedia>,
    removing: usize,
    most_removing: usize,
}

/// What legs send once something is played to them.
#[derive(Clone, Copy)]
struct FakeMedia {
    payload_type: u8,
    told_address: IpAddr,
}

#[derive(Clone, Default)]
struct FakeChannel {
    name: String,
    state: &'static str,
    app: Option<String>,
    args: Vec<String>,
    spies_on: Option<String>,
    variables: BTreeMap<String, String>,
    rtp: Option<Arc<Rtp>>,
}

/// A leg's way out.
struct Rtp {
    socket: std::net::UdpSocket,
    to: SocketAddr,
    payload_type: u8,
}

#[derive(Default)]
struct App {
    socket: Option<mpsc::UnboundedSender<Act>>,
    channels: BTreeSet<String>,
    bridges: BTreeSet<String>,
}

type Shared = Arc<Mutex<World>>;
type Query = BTreeMap<String, String>;
type Reply = (u16, Value);

/// The fake. Ends when dropped.
pub struct FakeAri {
    /// For `ari.url`.
    pub url: String,
    world: Shared,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for FakeAri {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FakeAri {
    /// An Asterisk 22 on a free port; user `sidetone`, password `change-me`.
    pub async fn start() -> Self {
        Self::start_at("127.0.0.1:0").await
    }

    /// The same at a given address.
    pub async fn start_at(address: &str) -> Self {
        let world = Arc::new(Mutex::new(World {
            version: "22.10.1".to_owned(),
            password: "change-me".to_owned(),
            next_port: 20_000,
            ..World::default()
        }));
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(serve).with_state(world.clone());
        let task = tokio::spawn(async move {
            let service = router.into_make_service_with_connect_info::<SocketAddr>();
            axum::serve(listener, service).await.unwrap()
        });
        Self { url, world, task }
    }

    /// The next request whose `METHOD /path` (path without `/ari`) starts with `prefix` meets this fault. Once.
    pub fn fault(&self, prefix: &str, fault: Fault) {
        self.world.lock().faults.push((prefix.to_owned(), fault));
    }

    /// When StasisStart of channels that requests make comes: before the reply (`None`) or that long after it.
    pub fn stasis_start_after(&self, delay: Option<Duration>) {
        self.world.lock().stasis_start_after = delay;
    }

    /// The next media channel sends from this port of 127.0.0.1.
    pub fn media_comes_from(&self, port: u16) {
        self.world.lock().next_port = port;
    }

    /// Every request so far, `METHOD /path`.
    pub fn requests(&self) -> Vec<String> {
        self.world.lock().requests.clone()
    }

    /// Event sockets opened so far.
    pub fn sockets_opened(&self) -> usize {
        self.world.lock().sockets_opened
    }

    /// Most DELETEs that were ever under way at once.
    pub fn most_removals_at_once(&self) -> usize {
        self.world.lock().most_removing
    }

    /// Ids of the channels and bridges that exist.
    pub fn ids(&self) -> Vec<String> {
        let world = self.world.lock();
        world.channels.keys().chain(world.bridges.keys()).cloned().collect()
    }

    /// Whether a client holds `app`; `None` if the application is not known.
    pub fn socket_is_open(&self, app: &str) -> Option<bool> {
        self.world.lock().apps.get(app).map(|app| app.socket.is_some())
    }

    /// TCP connections taken so far.
    pub fn connections(&self) -> usize {
        self.world.lock().connections.len()
    }

    /// Change the password it asks for.
    pub fn set_password(&self, password: &str) {
        self.world.lock().password = password.to_owned();
    }

    /// Change the version it tells.
    pub fn set_version(&self, version: &str) {
        self.world.lock().version = version.to_owned();
    }

    /// Legs made from now on send RTP of `payload_type`, from 127.0.0.1, once something is played to their bridge; Asterisk
    /// says that they send from `told_address`.
    pub fn sends_media(&self, payload_type: u8, told_address: &str) {
        let told_address = told_address.parse().expect("an address");
        self.world.lock().media = Some(FakeMedia { payload_type, told_address });
    }

    /// Everything that is in a bridge gets something to send.
    pub fn plays_on_all_bridges(&self) {
        let world = self.world.lock();
        let bridged = world.bridges.values().flat_map(|(_, channels)| channels);
        let legs = bridged.filter_map(|leg| world.channels[leg].rtp.clone());
        legs.for_each(|leg| drop(tokio::spawn(send_rtp(leg))));
    }

    /// A call from the dialplan enters `app` with `args`. False if no client is connected.
    pub fn call(&self, app: &str, id: &str, args: &[&str]) -> bool {
        let mut world = self.world.lock();
        let channel = FakeChannel {
            name: format!("PJSIP/{id}"),
            state: "Ring",
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            ..FakeChannel::default()
        };
        world.channels.insert(id.to_owned(), channel);
        world.enter(app, id)
    }

    /// The far end of a channel hangs up.
    pub fn far_end_hangs_up(&self, id: &str) {
        self.world.lock().destroy(id);
    }

    /// Send any text as an event.
    pub fn emit(&self, app: &str, text: &str) {
        self.act(app, Act::Send(text.to_owned()));
    }

    /// Send that many events in one go.
    pub fn flood(&self, app: &str, events: usize) {
        self.act(app, Act::Flood(events));
    }

    /// The event socket stays open, but nothing is read from it or written to it any more.
    pub fn freeze_socket(&self, app: &str) {
        self.act(app, Act::Freeze);
    }

    /// The event socket ends without a word.
    pub fn cut_socket(&self, app: &str) {
        self.act(app, Act::Cut);
    }

    /// The event socket is closed in an orderly way.
    pub fn close_socket(&self, app: &str, code: u16) {
        self.act(app, Act::Close(code));
    }

    /// Another client took the application and was gone at once.
    pub fn replaced_by_a_ghost(&self, app: &str) {
        self.emit(app, &json!({"type": "ApplicationReplaced", "application": app}).to_string());
        self.world.lock().apps.get_mut(app).expect("an application").socket = None;
    }

    fn act(&self, app: &str, act: Act) {
        let world = self.world.lock();
        let socket = world.apps.get(app).and_then(|app| app.socket.as_ref());
        socket.expect("an open event socket").send(act).expect("a socket task");
    }
}

async fn serve(state: State<Shared>, peer: ConnectInfo<SocketAddr>, request: Request) -> Response {
    let shared = state.0.clone();
    let removals = usize::from(request.method() == Method::DELETE);
    {
        let mut world = shared.lock();
        world.removing += removals;
        world.most_removing = world.most_removing.max(world.removing);
    }
    let response = answer(state, peer, request).await;
    shared.lock().removing -= removals;
    response
}

async fn answer(
    State(shared): State<Shared>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let (mut parts, _body) = request.into_parts();
    let path = parts.uri.path().strip_prefix("/ari/").map(str::to_owned).unwrap_or_default();
    let query: Query = match axum::extract::Query::try_from_uri(&parts.uri) {
        Ok(axum::extract::Query(query)) => query,
        Err(_) => return error(400, "Bad query").into_response(),
    };
    let line = format!("{} /{path}", parts.method);
    let fault = {
        let mut world = shared.lock();
        world.requests.push(line.clone());
        world.connections.insert(peer);
        let hit = world.faults.iter().position(|(prefix, _)| line.starts_with(prefix));
        hit.map(|index| world.faults.remove(index).1)
    };
    if let Some(Fault::Refuse(status, message)) = fault {
        return error(status, message).into_response();
    }
    if !authorised(&parts.headers, &shared.lock().password) {
        return error(401, "Authentication required").into_response();
    }
    if path == "events" {
        if let Some(Fault::Lost) = fault {
            std::future::pending::<()>().await;
        }
        let Some(app) = query.get("app").filter(|app| !app.is_empty()).cloned() else {
            return error(400, "HTTP request is missing param: [app]").into_response();
        };
        return match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
            Ok(upgrade) => upgrade.on_upgrade(move |socket| hold(socket, shared, app)),
            Err(rejection) => rejection.into_response(),
        };
    }
    let segments: Vec<String> = path.split('/').map(decode).collect();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let (status, body) = route(&shared, &parts.method, &segments, &query);
    match fault {
        Some(Fault::Late(delay)) => tokio::time::sleep(delay).await,
        Some(Fault::Lost) => std::future::pending().await,
        Some(Fault::Garbled(text)) => return (StatusCode::OK, text).into_response(),
        _ => {}
    }
    let body = if status == 204 { Body::empty() } else { Body::from(body.to_string()) };
    (StatusCode::from_u16(status).unwrap(), body).into_response()
}

fn authorised(headers: &HeaderMap, password: &str) -> bool {
    use base64::Engine as _;
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("sidetone:{password}"));
    headers.get("authorization").is_some_and(|value| value.as_bytes() == format!("Basic {pair}").as_bytes())
}

// As Asterisk does it: a plus sign is a space, in paths too.
fn decode(segment: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = segment.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let hex = [rest.next().unwrap_or(b'0'), rest.next().unwrap_or(b'0')];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap_or(b'?'));
            }
            b'+' => bytes.push(b' '),
            other => bytes.push(other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn hold(mut socket: WebSocket, shared: Shared, app: String) {
    let (tx, mut acts) = mpsc::unbounded_channel();
    {
        let mut world = shared.lock();
        world.sockets_opened += 1;
        let replaced = world.apps.entry(app.clone()).or_default().socket.replace(tx.clone());
        if let Some(old) = replaced {
            let event = json!({"type": "ApplicationReplaced", "application": app});
            let _ = old.send(Act::Send(event.to_string()));
        }
    }
    loop {
        tokio::select! {
            act = acts.recv() => match act {
                Some(Act::Send(text)) => {
                    if socket.send(Message::text(text)).await.is_err() { break }
                }
                Some(Act::Flood(events)) => {
                    for _ in 0..events {
                        if socket.send(Message::text(r#"{"type":"Flood"}"#)).await.is_err() { break }
                    }
                }
                Some(Act::Freeze) => std::future::pending().await,
                Some(Act::Cut) | None => break,
                Some(Act::Close(code)) => {
                    let _ = socket.send(Message::Close(Some(CloseFrame { code, reason: "".into() }))).await;
                    break;
                }
            },
            frame = socket.recv() => match frame {
                Some(Ok(_)) => {}
                _ => break,
            },
        }
    }
    let mut world = shared.lock();
    let leave = world.apps.get_mut(&app).is_some_and(|held| {
        if held.socket.as_ref().is_some_and(|socket| socket.same_channel(&tx)) {
            held.socket = None;
        }
        held.socket.is_none() && held.channels.is_empty() && held.bridges.is_empty()
    });
    if leave {
        world.apps.remove(&app);
    }
}

fn error(status: u16, message: &str) -> (StatusCode, String) {
    (StatusCode::from_u16(status).unwrap(), json!({ "message": message }).to_string())
}

fn no(status: u16, message: &str) -> Reply {
    (status, json!({ "message": message }))
}

fn route(shared: &Shared, method: &Method, segments: &[&str], query: &Query) -> Reply {
    let mut world = shared.lock();
    let get = |name: &str| query.get(name).cloned().unwrap_or_default();
    match (method.as_str(), segments) {
        ("GET", ["asterisk", "info"]) => {
            let system = json!({"version": world.version, "entity_id": "02:00:00:00:00:01"});
            (200, json!({"system": system, "status": {"startup_time": "2026-11-20T10:00:00.000+0000"}}))
        }
        ("GET", ["asterisk", "modules"]) => (200, json!([module("chan_rtp.so")])),
        ("GET", ["asterisk", "modules", name]) => match *name {
            "chan_rtp.so" => (200, module(name)),
            _ => no(404, "Module could not be found in running modules"),
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
    let known = ["ulaw", "alaw", "slin", "slin16", "g722"].contains(&get("format").as_str());
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

/// A second of it, faster than it would be played.
async fn send_rtp(leg: Arc<Rtp>) {
    for sequence in 0..50_u16 {
        let mut packet = vec![0x80, leg.payload_type];
        packet.extend(sequence.to_be_bytes());
        packet.extend((u32::from(sequence) * 160).to_be_bytes());
        packet.extend([0, 0, 0, 1]);
        packet.resize(12 + 160, 0xff);
        let _ = leg.socket.send_to(&packet, leg.to);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
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

impl App {
    fn json(&self, name: &str) -> Value {
        json!({"name": name, "channel_ids": self.channels, "bridge_ids": self.bridges, "endpoint_ids": []})
    }
}

impl World {
    fn channel(&self, id: &str) -> Value {
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

    fn bridge(&self, id: &str) -> Value {
        let (name, channels) = &self.bridges[id];
        json!({
            "id": id, "technology": "simple_bridge", "bridge_type": "mixing", "bridge_class": "stasis",
            "creator": "Stasis", "name": name, "channels": channels,
        })
    }

    fn send(&self, app: &str, event: &Value) {
        if let Some(socket) = self.apps.get(app).and_then(|app| app.socket.as_ref()) {
            let _ = socket.send(Act::Send(event.to_string()));
        }
    }

    /// Tell every application that gets events about channel `id`.
    fn tell(&self, id: &str, kind: &str, mut event: Value) {
        event["type"] = json!(kind);
        event["channel"] = self.channel(id);
        for (name, app) in &self.apps {
            if app.channels.contains(id) {
                self.send(name, &event);
            }
        }
    }

    /// `Stasis(app)` by channel `id`: fails where no client is connected; a leg of ours then ends.
    fn enter(&mut self, app: &str, id: &str) -> bool {
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

    fn leave(&mut self, id: &str) {
        self.tell(id, "StasisEnd", json!({}));
        if let Some(app) = self.channels.get_mut(id).and_then(|channel| channel.app.take()) {
            self.apps.get_mut(&app).unwrap().channels.remove(id);
        }
    }

    fn destroy(&mut self, id: &str) {
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

    fn take_out(&mut self, id: &str) {
        let within = self.bridges.iter().find(|(_, (_, channels))| channels.contains(id));
        if let Some(bridge) = within.map(|(bridge, _)| bridge.clone()) {
            self.bridges.get_mut(&bridge).unwrap().1.remove(id);
            self.tell(id, "ChannelLeftBridge", json!({ "bridge": self.bridge(&bridge) }));
        }
    }

    fn add_channel(&mut self, bridge: &str, id: &str) -> Reply {
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

    fn subscription(&mut self, method: &Method, name: &str, source: &str) -> Reply {
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

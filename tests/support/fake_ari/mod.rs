//! A fake ARI for what a real Asterisk cannot be made to do on demand: replies delayed or lost, events early or late, sockets cut
//! or half dead. What it does otherwise is held to the real one by `ari-contract.rs`.

#![allow(dead_code, reason = "each test uses a part of it")]

mod http;
mod media;
mod routes;
mod world;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use parking_lot::Mutex;
use serde_json::json;

use media::{FakeMedia, send_rtp};
use world::{Act, FakeChannel, Shared, World};

/// The modules of a new fake.
const MODULES: [&str; 4] = ["chan_rtp.so", "codec_g722.so", "codec_gsm.so", "codec_opus_open_source.so"];

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
            modules: MODULES.map(str::to_owned).into(),
            next_port: 20_000,
            ..World::default()
        }));
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(http::serve).with_state(world.clone());
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

    /// It has no module of this name any more.
    pub fn unload(&self, module: &str) {
        assert!(self.world.lock().modules.remove(module), "there is no {module}");
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

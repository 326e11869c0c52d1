//! Every setting, typed, with its default. Nothing else in the house reads a file, a flag or the environment.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// All settings. Each section is a table of `config/sidetone.toml`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// This process among its peers.
    pub node: Node,
    /// The Asterisk REST Interface.
    pub ari: Ari,
    /// Where media comes in.
    pub rtp: Rtp,
    /// Calls: what is done with them by default, and how many.
    pub calls: Calls,
    /// Files.
    pub recording: Recording,
    /// Speech to text.
    pub speech: Speech,
    /// HTTP and WebSocket.
    pub http: Http,
    /// What is written about it all.
    pub log: Log,
}

/// This process among its peers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Node {
    /// Name of this node: part of every id it gives to Asterisk. Letters and digits, at most 32.
    pub name: String,
    /// Where recordings, transcripts and the state of running calls are kept.
    pub data: PathBuf,
}

/// The Asterisk REST Interface.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ari {
    /// `http://host:port`, as in Asterisk's http.conf, with its `prefix` if it has one.
    pub url: String,
    /// User in ari.conf.
    pub user: String,
    /// Its password. Better: `password_file`.
    pub password: String,
    /// File that holds the password.
    pub password_file: Option<PathBuf>,
    /// Name of the Stasis application, as in `Stasis(sidetone,tap)`. One running Sidetone a name.
    pub app: String,
    /// Start even though another client holds the application: it is cut off.
    pub takeover: bool,
    /// Longest wait for one REST reply, milliseconds.
    pub request_timeout_ms: u64,
    /// A WebSocket ping is sent this often, milliseconds; two unanswered ones end the connection.
    pub ping_interval_ms: u64,
    /// First and longest pause between attempts to connect, milliseconds.
    pub backoff_min_ms: u64,
    /// See `backoff_min_ms`.
    pub backoff_max_ms: u64,
}

/// Where media comes in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rtp {
    /// Address and first UDP port to receive on; shard n takes port + 2n.
    pub bind: SocketAddr,
    /// The address told to Asterisk, where it differs from the one bound (another host, a container, NAT).
    pub advertise: Option<IpAddr>,
    /// Receive threads, 1 to 16, each with a socket of its own.
    pub shards: usize,
    /// Format of the media: `ulaw`, `alaw`, `slin`, `slin16`; `auto` takes the channel's own law, `slin16` if it is wideband.
    pub format: String,
    /// Socket receive buffer asked of the kernel, bytes.
    pub receive_buffer: usize,
    /// Ring of a leg, seconds of audio.
    pub ring_seconds: u32,
    /// Late packets mend the recording for this long, milliseconds.
    pub repair_ms: u64,
    /// Live readers (speech, subscribers) stay this far behind the head, milliseconds, so that reordering is over.
    pub live_lag_ms: u64,
    /// A leg without packets for this long is stalled, milliseconds.
    pub stall_ms: u64,
}

/// Calls: what is done with them by default, and how many.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Calls {
    /// Tenant of calls whose Stasis arguments name none.
    pub tenant: String,
    /// Record calls whose arguments do not say.
    pub record: bool,
    /// Transcribe calls whose arguments do not say.
    pub transcribe: bool,
    /// Calls handled at once; more go on unrecorded, counted and reported.
    pub max: usize,
    /// Longest time from StasisStart until media is wired, milliseconds; then the call goes on without us.
    pub setup_timeout_ms: u64,
}

/// Files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recording {
    /// Writer threads.
    pub writers: usize,
    /// The header of an open recording is brought up to date, and the disk told to keep it, this often, milliseconds.
    pub checkpoint_ms: u64,
    /// Refuse to start a recording with less free disk than this, MiB.
    pub min_free_mib: u64,
}

/// Speech to text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Speech {
    /// `auto`, the name of a pulled model, or the path of a ggml file; `off` for no transcription.
    pub model: String,
    /// Language code, or `auto`.
    pub language: String,
    /// Decoder threads; 0 = as many as cores.
    pub workers: usize,
    /// Longest time between partials while someone speaks, milliseconds.
    pub partial_ms: u64,
    /// Silence that ends an utterance, milliseconds.
    pub hangover_ms: u64,
    /// Longest utterance, milliseconds; cut at its quietest place then.
    pub max_utterance_ms: u64,
}

/// HTTP and WebSocket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Address and port. With no key configured, other than loopback is refused.
    pub bind: SocketAddr,
    /// API keys (`st_<tenant>_<secret>`), or their SHA-256 as `sha256:<hex>`.
    pub keys: Vec<String>,
}

/// What is written about it all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `sidetone::net=debug,info`.
    pub level: String,
    /// `text` or `json`.
    pub format: String,
}

impl Default for Node {
    fn default() -> Self {
        Self { name: "node1".into(), data: "data".into() }
    }
}

impl Default for Ari {
    fn default() -> Self {
        Self {
            url: "http://127.0.0.1:8088".into(),
            user: "sidetone".into(),
            password: String::new(),
            password_file: None,
            app: "sidetone".into(),
            takeover: false,
            request_timeout_ms: 5_000,
            ping_interval_ms: 5_000,
            backoff_min_ms: 250,
            backoff_max_ms: 10_000,
        }
    }
}

impl Default for Rtp {
    fn default() -> Self {
        Self {
            bind: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 14_000),
            advertise: None,
            shards: 1,
            format: "auto".into(),
            receive_buffer: 8 << 20,
            ring_seconds: 10,
            repair_ms: 2_000,
            live_lag_ms: 60,
            stall_ms: 2_000,
        }
    }
}

impl Default for Calls {
    fn default() -> Self {
        Self { tenant: "default".into(), record: true, transcribe: true, max: 1_000, setup_timeout_ms: 5_000 }
    }
}

impl Default for Recording {
    fn default() -> Self {
        Self { writers: 2, checkpoint_ms: 1_000, min_free_mib: 64 }
    }
}

impl Default for Speech {
    fn default() -> Self {
        Self {
            model: "auto".into(),
            language: "en".into(),
            workers: 0,
            partial_ms: 500,
            hangover_ms: 400,
            max_utterance_ms: 12_000,
        }
    }
}

impl Default for Http {
    fn default() -> Self {
        Self { bind: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8_090), keys: Vec::new() }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".into(), format: "text".into() }
    }
}

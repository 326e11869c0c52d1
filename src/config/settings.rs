//! Every setting, once: its type, default and help. The structs, `config/sidetone.toml`, `sidetone config example` and
//! the check for unknown keys all come from this table. Nothing else in the house reads a file, a flag or the
//! environment for its settings.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A section of the settings, for help and the example file.
#[derive(Debug)]
pub struct SectionDoc {
    /// Table name in the file.
    pub name: &'static str,
    /// Help, a line each.
    pub doc: &'static [&'static str],
    /// Its settings, in order.
    pub fields: &'static [FieldDoc],
}

/// One setting, for help and the example file.
#[derive(Debug)]
pub struct FieldDoc {
    /// Key in the file.
    pub name: &'static str,
    /// Help, a line each.
    pub doc: &'static [&'static str],
}

macro_rules! sections {
    ($(#[doc = $all_doc:literal])* $ALL:ident:
    $($(#[doc = $section_doc:literal])* $Section:ident $name:literal {
        $($(#[doc = $doc:literal])* $field:ident: $type:ty = $default:expr;)*
    })*) => {
        $($(#[doc = $section_doc])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $Section {
            $($(#[doc = $doc])* pub $field: $type,)*
        }

        impl Default for $Section {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        })*

        $(#[doc = $all_doc])*
        pub const $ALL: &[SectionDoc] = &[$(SectionDoc {
            name: $name,
            doc: &[$($section_doc),*],
            fields: &[$(FieldDoc { name: stringify!($field), doc: &[$($doc),*] }),*],
        }),*];
    };
}

/// All settings. Each section is a table of `config/sidetone.toml`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// This process among its peers.
    pub node: Node,
    /// The Asterisk REST Interface.
    pub ari: Ari,
    /// The Asterisk Manager Interface.
    pub ami: Ami,
    /// How media travels between Asterisk and us.
    pub media: Media,
    /// Where media comes in.
    pub rtp: Rtp,
    /// Media over AudioSocket.
    pub audiosocket: AudioSocket,
    /// Media over WebSocket.
    pub websocket: WebSocket,
    /// Calls: what is done with them by default, and how many.
    pub calls: Calls,
    /// Files.
    pub recording: Recording,
    /// Speech to text.
    pub speech: Speech,
    /// NVIDIA Riva.
    pub riva: Riva,
    /// Text to speech.
    pub tts: Tts,
    /// The database.
    pub store: StoreSettings,
    /// Jobs.
    pub jobs: JobSettings,
    /// RabbitMQ.
    pub rabbitmq: RabbitMq,
    /// Redis.
    pub redis: RedisSettings,
    /// Files converted.
    pub conversions: ConversionSettings,
    /// Files transcribed.
    pub transcriptions: TranscriptionSettings,
    /// Text-to-speech calls.
    pub tts_calls: TtsCalls,
    /// HTTP and WebSocket.
    pub http: Http,
    /// vosk-server's protocol.
    pub vosk: Vosk,
    /// What is written about it all.
    pub log: Log,
}

sections! {
    /// Every section with its settings and their help.
    SECTIONS:
    /// This process among its peers.
    Node "node" {
        /// Name of this node: part of every id it gives to Asterisk. Letters and digits, at most 32.
        name: String = "node1".into();
        /// Where recordings, transcripts and the state of running calls are kept. Best absolute: a relative path counts from
        /// the folder that the process is started in.
        data: PathBuf = PathBuf::from("data");
    }
    /// The Asterisk REST Interface.
    Ari "ari" {
        /// `http://host:port`, as in Asterisk's http.conf, with its `prefix` if it has one.
        url: String = "http://127.0.0.1:8088".into();
        /// User in ari.conf.
        user: String = "sidetone".into();
        /// Its password. Better: `password_file`.
        password: String = String::new();
        /// File that holds the password.
        password_file: Option<PathBuf> = None;
        /// Name of the Stasis application, as in `Stasis(sidetone,tap)`. One running Sidetone a name.
        app: String = "sidetone".into();
        /// Start even though another client holds the application: it is cut off.
        takeover: bool = false;
        /// Longest wait for one REST reply, milliseconds.
        request_timeout_ms: u64 = 5_000;
        /// A WebSocket ping is sent this often, milliseconds; two unanswered ones end the connection.
        ping_interval_ms: u64 = 5_000;
        /// First pause between attempts to connect, milliseconds; it doubles, with jitter.
        backoff_min_ms: u64 = 250;
        /// Longest pause between attempts to connect, milliseconds.
        backoff_max_ms: u64 = 10_000;
    }
    /// The Asterisk Manager Interface: for text-to-speech calls, for conversions by Asterisk, and to be told of calls from their first
    /// moment on (`detect`). To hear, record and transcribe calls it is not needed.
    Ami "ami" {
        /// `tcp://host:port` or `tls://host:port`, as in Asterisk's manager.conf.
        url: String = "tcp://127.0.0.1:5038".into();
        /// User in manager.conf; empty: it is not used.
        user: String = String::new();
        /// Its secret. Better: `password_file`.
        password: String = String::new();
        /// File that holds the secret.
        password_file: Option<PathBuf> = None;
        /// For `tls://`: file with the certificates (PEM) of whoever signed Asterisk's; without it, the public authorities.
        ca_file: Option<PathBuf> = None;
        /// Longest wait for a connection and for a response, milliseconds.
        request_timeout_ms: u64 = 5_000;
        /// Be told of calls when their channels come to be (`Newchannel`), before they reach the application or without that they ever do:
        /// event `call.detected`, `detected_at` of a call. Needs `call` in manager.conf's `read`.
        detect: bool = true;
    }
    /// How media travels between Asterisk and us.
    Media "media" {
        /// `rtp`: every Asterisk from 16.6 on, exact to the sample, also over a network that loses packets, and calls live through a
        /// restart of Sidetone. `audiosocket` (TCP; Asterisk 18) and `websocket` (chan_websocket; Asterisk 20.18, 22.8, 23.2) pass
        /// firewalls and NAT that RTP does not; a restart cuts a hole into their calls.
        transport: String = "rtp".into();
    }
    /// Where media comes in.
    Rtp "rtp" {
        /// Address and first UDP port to receive on; shard n takes port + 2n, and the port above it for RTCP.
        bind: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 14_000);
        /// The address told to Asterisk, where it differs from the one bound (another host, a container, NAT).
        advertise: Option<IpAddr> = None;
        /// The address that Asterisk's media comes from, where that is not the one Asterisk believes to have (a container, NAT).
        /// `sidetone check` tells which it is.
        asterisk_address: Option<IpAddr> = None;
        /// Receive threads, 1 to 16, each with a socket of its own.
        shards: usize = 1;
        /// Format in which Asterisk sends us the media: `ulaw`, `alaw`, `gsm`, `slin` (8 kHz), `g722`, `slin16` (16 kHz), `slin12`,
        /// `slin24`, `slin48`, or `opus` (recorded at 16 kHz; Asterisk needs codec_opus.so or codec_opus_open_source.so for it).
        /// The higher the rate of its clock, the less an Asterisk short of time keeps to it: one that is 640 ticks late (80 ms with `ulaw`,
        /// 13 ms with `slin48` and `opus`) moves the audio that follows, and the recording has a gap of silence there.
        /// Callers of answered calls are spoken to in it as well, or in `g722` where Asterisk takes none of it (`opus`,
        /// `slin12` and the like).
        format: String = "ulaw".into();
        /// Processors that the receive threads stay on: `auto` (one for each, where there are four or more), `off`, or which,
        /// as in `2,4-7`.
        cpus: String = "auto".into();
        /// Socket receive buffer asked of the kernel for each shard, bytes; 0 = what the packets of `calls.max` calls need in
        /// 100 ms. The log says what was granted.
        receive_buffer: usize = 0;
        /// Ring of a leg, seconds of audio.
        ring_seconds: u32 = 10;
        /// Late packets mend the recording for this long, milliseconds; 1000 or more.
        repair_ms: u64 = 2_000;
        /// Live readers (speech, subscribers) stay this far behind the head, milliseconds, so that reordering is over.
        live_lag_ms: u64 = 60;
        /// Fill losses of up to 60 ms with what was probably said. `false` leaves silence there, for recordings that are to
        /// be evidence. Either way the report lists them, and no received sample is altered.
        conceal: bool = true;
        /// A leg without packets for this long is stalled, milliseconds.
        stall_ms: u64 = 2_000;
    }
    /// Media over AudioSocket, with `media.transport = "audiosocket"`: Asterisk connects to us.
    AudioSocket "audiosocket" {
        /// Address and TCP port to wait on. Nothing but an id that nobody can guess tells a connection's call: keep it on a
        /// network that is yours.
        bind: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 14_100);
        /// The address told to Asterisk, where it differs from the one bound (another host, a container, NAT).
        advertise: Option<SocketAddr> = None;
        /// `slin` (8 kHz), or `slin16` (16 kHz; Asterisk 20.17, 21.12, 22.7, 23.1).
        format: String = "slin".into();
    }
    /// Media over WebSocket, with `media.transport = "websocket"`.
    WebSocket "websocket" {
        /// Who opens the connection, as Asterisk sees it. `incoming`: we do, at Asterisk's HTTP server (`ari.url`). `outgoing`:
        /// Asterisk does, by the entry `client` of its websocket_client.conf, at `bind`.
        direction: String = "incoming".into();
        /// Format of the media: `ulaw`, `alaw`, `slin` (8 kHz), `slin12`, `slin16` (wideband), `slin24`, `slin48`.
        format: String = "ulaw".into();
        /// Outgoing: address and TCP port to wait on.
        bind: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 14_200);
        /// Outgoing: name of the entry in websocket_client.conf, with `connection_type = per_call_config`, `protocols = media` and
        /// `uri = ws://<this machine>:14200/`.
        client: String = "sidetone".into();
        /// Outgoing: user that Asterisk must bring (`username` there); empty for none.
        user: String = String::new();
        /// Outgoing: its password.
        password: String = String::new();
        /// Outgoing: file that holds the password.
        password_file: Option<PathBuf> = None;
    }
    /// Calls: what is done with them by default, and how many.
    Calls "calls" {
        /// Tenant of calls whose Stasis arguments name none.
        tenant: String = "default".into();
        /// Record calls whose arguments do not say.
        record: bool = true;
        /// Transcribe calls whose arguments do not say.
        transcribe: bool = true;
        /// Calls handled at once; more go on unrecorded, counted and reported.
        max: usize = 1_000;
        /// Longest time until a leg is wired, milliseconds: half of it for the first attempt, half for the second; then the
        /// call goes on without that leg. The caller is held for 1 s of it at most.
        setup_timeout_ms: u64 = 5_000;
    }
    /// Files.
    Recording "recording" {
        /// Writer threads.
        writers: usize = 2;
        /// The header of an open recording is brought up to date, and the disk told to keep it, this often, milliseconds.
        checkpoint_ms: u64 = 1_000;
        /// Refuse to start a recording with less free disk than this, MiB.
        min_free_mib: u64 = 64;
    }
    /// Speech to text.
    Speech "speech" {
        /// `auto`, the name of a pulled model (`sidetone models list`), or the path of a ggml file; `off` for no transcription.
        /// `auto` takes, of the pulled models that are whole and fit into half of the machine's memory, one that knows
        /// `language`, and of those the one that errs least; without any, the small one in the binary, which is for the demo.
        model: String = "auto".into();
        /// Folder of the pulled models; without it, `models` in `node.data`.
        models_dir: Option<PathBuf> = None;
        /// Where models are pulled from: a URL below which they lie as `ggml-NAME.bin`, or a folder. What is pulled is held
        /// against the checksums of the catalogue, wherever it is from.
        models_url: String =
            "https://huggingface.co/ggerganov/whisper.cpp/resolve/5359861c739e955e79d9a303bcbc70fb988958b1".into();
        /// Language code of Whisper, such as `en` or `de`, or `auto`.
        language: String = "en".into();
        /// Put calls into words while they run. `false`: once they are over, from their recordings; what is not recorded is still
        /// transcribed while it runs.
        live: bool = true;
        /// Decoder threads; 0 = as many as cores.
        workers: usize = 0;
        /// Longest time between partials while someone speaks, milliseconds.
        partial_ms: u64 = 500;
        /// Silence that ends an utterance, milliseconds.
        hangover_ms: u64 = 400;
        /// Longest utterance, milliseconds; cut at its quietest place then.
        max_utterance_ms: u64 = 12_000;
        /// Finals that come later than this, milliseconds, have the calls that began last transcribed from their recordings instead,
        /// after they are over. Calls that are not recorded stay, however late their words come.
        max_lag_ms: u64 = 15_000;
        /// Refuse new calls when even that does not help: they go on in Asterisk, neither heard nor recorded. `false` takes and
        /// records them all, and transcribes later.
        refuse_calls: bool = false;
        /// Tell the model with each utterance what the same party said last: names are spelt alike, sentences go on. The model in
        /// the binary is never told: it gains nothing by it.
        carry_text: bool = true;
        /// What recognises calls whose tenant and arguments do not say: `whisper`, in this process (`model`), or `riva`, a server of
        /// NVIDIA's elsewhere (`riva.url`). Files are always whisper's.
        engine: String = "whisper".into();
        /// Names and words of the trade to expect, such as `["Sidetone", "Ms. Okafor"]`. Whisper gets them as the text that went before, at
        /// most 48 tokens of it, some 30 words (the log says what is left out); Riva gets each as a phrase to favour (`riva.boost`).
        vocabulary: Vec<String> = Vec::new();
        /// File with more of them, one a line; empty lines and those that begin with `#` do not count.
        vocabulary_file: Option<PathBuf> = None;
        /// What is different for some tenants, in a table for each.
        tenants: BTreeMap<String, TenantSpeech> = BTreeMap::new();
    }
    /// NVIDIA Riva, the other speech engine: a server for speech recognition on GPUs, spoken to by gRPC.
    Riva "riva" {
        /// `http://host:50051`, or `https://host:port` for TLS; empty for none.
        url: String = String::new();
        /// TLS: file with the certificates of whom to trust (PEM); without it, the usual authorities.
        ca_file: Option<PathBuf> = None;
        /// TLS: file with our own certificate (PEM), where the server asks for one.
        cert_file: Option<PathBuf> = None;
        /// TLS: file with its key (PEM).
        key_file: Option<PathBuf> = None;
        /// TLS: the name in the server's certificate, where it is not that in `url`.
        tls_name: Option<String> = None;
        /// Sent with every call, each as `name=value`. NVIDIA's cloud wants `function-id=…` and `authorization=Bearer …`.
        metadata: Vec<String> = Vec::new();
        /// File that holds more of it, one a line: the place for secrets.
        metadata_file: Option<PathBuf> = None;
        /// Name of the model; empty for what the server has for the language.
        model: String = String::new();
        /// Riva's tags for languages, each as `code=tag`: `["en=en-GB", "auto=multi"]`. Known without it are ar, de, en, es, fr, hi, it, ja, ko, nl,
        /// pt, ru and zh, each in its most usual variety, and `multi` for `auto`.
        languages: Vec<String> = Vec::new();
        /// Have it write capitals and punctuation.
        punctuation: bool = true;
        /// Have it write numbers as they are spoken ("twenty one").
        verbatim: bool = false;
        /// How much the vocabulary is favoured, 0 to 100: 20 is a lot.
        boost: f32 = 10.0;
        /// Silence after which it calls words final while an utterance goes on, milliseconds; 0 = as it is configured.
        endpointing_ms: u64 = 0;
        /// Connections that all calls share, 1 to 64. Many servers and proxies let 100 people speak at once on one.
        connections: usize = 4;
        /// Longest wait for a connection, milliseconds.
        connect_timeout_ms: u64 = 2_000;
        /// After the end of an utterance its last words are waited for this long, milliseconds.
        final_timeout_ms: u64 = 3_000;
        /// An utterance that broke off is sent again for this long, milliseconds.
        retry_ms: u64 = 3_000;
        /// A connection is asked for a sign of life after this long without one, milliseconds.
        keepalive_ms: u64 = 30_000;
        /// What becomes of speech that it does not recognise, because it is away or refuses: `whisper` (`speech.model` takes it at once), or
        /// `none`.
        fallback: String = "whisper".into();
    }
    /// Text to speech: `sidetone say`, `/v1/audio/speech`, `/api/calls/{id}/say`.
    Tts "tts" {
        /// `espeak` (espeak-ng, on this machine), `piper` (Piper, on this machine, with voices of yours), `openai` (a server with OpenAI's
        /// `/v1/audio/speech`), `riva` (NVIDIA Riva's voices, at `riva.url`), `google` (Google Translate's voice: unofficial, for trials), or `off`.
        engine: String = "espeak".into();
        /// Voice of requests that name none, as the engine calls it; empty: the engine's own for the language.
        voice: String = String::new();
        /// Language of requests that name none.
        language: String = "en".into();
        /// espeak, piper: the program, where it is not found by its name.
        program: Option<PathBuf> = None;
        /// piper: folder of the voices (`NAME.onnx` and `NAME.onnx.json`); without it, `voices` in `node.data`.
        voices_dir: Option<PathBuf> = None;
        /// openai, google: the address, where it is not their own; of openai up to and with `/v1`.
        url: String = String::new();
        /// openai: model.
        model: String = "tts-1".into();
        /// openai: key. Better: `api_key_file`.
        api_key: String = String::new();
        /// openai: file that holds the key.
        api_key_file: Option<PathBuf> = None;
        /// Longest text, characters.
        max_chars: usize = 4_096;
        /// Longest wait for the engine, milliseconds.
        timeout_ms: u64 = 30_000;
        /// Level that texts are spoken at, dB below full scale while somebody speaks (ITU-T P.56): -26 is what networks are made for,
        /// -20 what prompts have.
        level_dbov: f64 = -20.0;
        /// What was spoken is kept in `tts` in `node.data`, the least used going first beyond so many MiB; 0 keeps nothing.
        cache_mib: u64 = 256;
        /// Texts spoken at a time; more wait.
        at_once: usize = 4;
    }
    /// The database.
    StoreSettings "store" {
        /// `postgres://user:password@host/database`; empty: SQLite, the file `sidetone.db` in `node.data`, which needs nothing.
        url: String = String::new();
        /// File that holds the URL.
        url_file: Option<PathBuf> = None;
    }
    /// Jobs: what is done besides calls (files converted and transcribed, texts spoken to telephones).
    JobSettings "jobs" {
        /// What brings jobs to workers: `embedded` (the database alone), or `rabbitmq` (messages in RabbitMQ's queues).
        engine: String = "embedded".into();
        /// Folders that the files lie in which jobs name, each absolute; `{tenant}` stands for the tenant's name. None: jobs name no files.
        roots: Vec<String> = Vec::new();
        /// Largest file that a job may name, MiB.
        max_file_mib: u64 = 2_048;
        /// So often a job is tried in all, where trying again may help.
        attempts: u32 = 5;
        /// Pause before the second attempt, milliseconds; each further one is four times as long, up to an hour.
        retry_ms: u64 = 5_000;
        /// Jobs that are over are forgotten after so many days; 0 keeps them.
        keep_days: u32 = 30;
    }
    /// RabbitMQ, where `jobs.engine` is `rabbitmq`.
    RabbitMq "rabbitmq" {
        /// `amqp://user:password@host:port/vhost` or `amqps://…`; the vhost `/` is written `%2f`.
        url: String = "amqp://guest:guest@127.0.0.1:5672/%2f".into();
        /// File that holds the URL.
        url_file: Option<PathBuf> = None;
        /// For `amqps://`: file with the certificates (PEM) of whoever signed the broker's; without it, the public authorities.
        ca_file: Option<PathBuf> = None;
        /// Whose the jobs are that producers put into the queues.
        tenant: String = "default".into();
        /// Queues that are not there are declared so: `classic` (durable; producers of other systems that declare them go on working) or
        /// `quorum` (kept by several brokers). Queues that are there are taken as they are.
        queue_type: String = "classic".into();
        /// First pause between attempts to connect, milliseconds; it doubles, up to 30 s.
        backoff_ms: u64 = 500;
    }
    /// Redis: audio of texts that one node has spoken serves the others, and other programs read the state of jobs there. Nothing depends on
    /// it: while it is away, slow or full, all goes on without (docs/redis.md).
    RedisSettings "redis" {
        /// `redis://user:password@host:port/database` or `rediss://…` (TLS); empty: it is not used.
        url: String = String::new();
        /// File that holds the URL.
        url_file: Option<PathBuf> = None;
        /// For `rediss://`: file with the certificates (PEM) of whoever signed the server's; without it, the public authorities.
        ca_file: Option<PathBuf> = None;
        /// Longest wait for an answer, milliseconds.
        timeout_ms: u64 = 300;
        /// What the keys of audio begin with.
        prefix: String = "sidetone:".into();
        /// Largest audio of a text that is shared, KiB.
        max_audio_kib: u64 = 4_096;
        /// Audio stays for so many days after its last use.
        audio_days: u32 = 7;
        /// Key of a job's state, a string of JSON as `GET /api/jobs/{id}` has it; `{tenant}`, `{kind}` and `{id}` stand for the job's. Empty: no
        /// states.
        job_key: String = "sidetone:job:{tenant}:{id}".into();
        /// A state stays for so many hours after the job's last change.
        job_hours: u32 = 168;
    }
    /// Files converted.
    ConversionSettings "conversions" {
        /// Who converts: `sidetone` (codecs of its own), `asterisk` (its `file convert`, over AMI), or `dialplan` (a context that AMI Originate
        /// runs with the paths in ARG1 and ARG2).
        by: String = "sidetone".into();
        /// Conversions at a time; 0 = as many as there are processors.
        workers: usize = 0;
        /// RabbitMQ's queue of messages `{"gsm_path", "wav_path"}` or `{"id", "input", "output"}`.
        queue: String = "Asterisk.Transcoding".into();
        /// RabbitMQ's queue of results, for messages without `reply_to`; empty: none.
        results: String = String::new();
        /// by = "dialplan": context.
        context: String = "convert-audio".into();
        /// by = "dialplan": extension in it.
        extension: String = "convert".into();
        /// by = "dialplan": it has so long for a file, seconds.
        timeout_s: u64 = 60;
    }
    /// Files transcribed.
    TranscriptionSettings "transcriptions" {
        /// Files at a time; each uses as many recognisers as calls leave free.
        workers: usize = 1;
        /// RabbitMQ's queue of messages `{"id", "path" or "url", "language", "format"}`.
        queue: String = "transcriptions".into();
        /// RabbitMQ's queue of results, for messages without `reply_to`; empty: none.
        results: String = "transcriptions.results".into();
        /// Files may be fetched from these addresses: each the beginning of a URL, such as `https://files.example/`; `*`: from anywhere but
        /// this machine and private networks. None: `url` is refused.
        fetch_from: Vec<String> = Vec::new();
    }
    /// Text-to-speech calls: how Asterisk is made to place them, whom they may reach, and when (docs/tts-calls.md).
    TtsCalls "tts_calls" {
        /// `ami` (Originate; says most of what became of a call), `ari` (`POST /channels`), or `file` (a call file in Asterisk's spool).
        /// Whichever it is, calls are followed over AMI (`ami.user`).
        by: String = "ami".into();
        /// What is dialled, with the number in it: `{e164}` (+573005050149), `{national}` (as dialled within the country) or `{digits}`
        /// (573005050149). `PJSIP/{e164}@trunk` calls by a trunk, `Local/{national}@from-internal` by your dialplan.
        channel: String = "Local/{national}@from-internal".into();
        /// The dialplan's context that speaks the text, as in asterisk-conf/extensions.conf.
        context: String = "sidetone-tts".into();
        /// What called parties are shown, as `"name" <number>`; empty: what the trunk says.
        caller_id: String = String::new();
        /// Country (ISO 3166, two letters, such as `CO`) of numbers that do not begin with `+`; empty: all have to.
        region: String = String::new();
        /// Countries that may be called, `["*"]` for all; empty: `region` alone, or all if that is empty.
        countries: Vec<String> = Vec::new();
        /// Call extensions (2 to 8 digits, `*` and `#`) as well. Numbers for emergencies are never called.
        allow_extensions: bool = false;
        /// Longest ringing, seconds.
        ring_seconds: u64 = 30;
        /// Longest call after the answer, seconds: then Asterisk hangs up.
        longest_seconds: u64 = 600;
        /// What to do with answering machines: `off` (not looked for), `hang_up`, or `speak` (once it is silent). The others hold every answer up
        /// for the seconds that `AMD()` listens.
        amd: String = "off".into();
        /// Further attempts: by cause, the pauses before them in seconds. Causes are `busy`, `no_answer`, `congestion`, `rejected`, `failed` and
        /// `machine`; what is not named here is not tried again.
        retry: Vec<String> =
            ["busy=120,300,900", "no_answer=600,3600", "congestion=30,120,600", "failed=120"].map(str::to_owned).to_vec();
        /// Hours in which calls are placed, such as `08:00-20:00` or `09:00-12:00,14:00-18:00`.
        hours: String = "00:00-24:00".into();
        /// Days on which calls are placed, such as `mon-fri` or `mon,wed,sat`.
        days: String = "mon-sun".into();
        /// Time zone of `hours` and `days`, such as `America/Bogota`.
        time_zone: String = "UTC".into();
        /// RabbitMQ's queue of messages `{"id", "text", "phone_number", "language"}`.
        queue: String = "tts_calls".into();
        /// RabbitMQ's queue of those that go first.
        priority_queue: String = "tts_priority".into();
        /// RabbitMQ's queue of results, for messages without `reply_to`; empty: none.
        results: String = "tts_results".into();
        /// Calls at a time of all tenants together.
        workers: usize = 10;
        /// Calls at a time, from placing to hangup.
        at_once: usize = 10;
        /// Calls placed a second at most; 0 for no limit.
        per_second: f64 = 1.0;
        /// File of numbers that are never called, one a line; `#` begins a remark. It is read again when it changes.
        do_not_call: Option<PathBuf> = None;
        /// Folder where audio is put for Asterisk, on its machine by the same path, and readable for its user; without it, `tts-calls` in `node.data`.
        audio_folder: Option<PathBuf> = None;
        /// `file`: the folder that Asterisk takes call files from. A folder beside it, on the same disk, is written to as well.
        spool: PathBuf = PathBuf::from("/var/spool/asterisk/outgoing");
        /// What is different for some tenants, in a table for each.
        tenants: BTreeMap<String, TenantTtsCalls> = BTreeMap::new();
    }
    /// HTTP and WebSocket.
    Http "http" {
        /// Address and port. With no key configured, other than loopback is refused.
        bind: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8_090);
        /// API keys (`st_<tenant>_<secret>`), or their SHA-256 as `sha256:<hex>`. Better: `keys_file`. SIGHUP applies them anew.
        keys: Vec<String> = Vec::new();
        /// File that holds more keys, one a line; empty lines and those that begin with `#` do not count.
        keys_file: Option<PathBuf> = None;
        /// Largest file that is taken to be transcribed (`/v1/audio/transcriptions`), MiB. It is kept below `node.data` while it is worked
        /// on.
        max_upload_mib: u64 = 512;
        /// Longest audio in it, minutes: a few bytes of silence may stand for hours.
        max_audio_minutes: u64 = 600;
        /// Channels of live audio (`/v1/listen`, and vosk's protocol) that are transcribed at once; more are told to come again.
        max_live_channels: usize = 64;
    }
    /// vosk-server's protocol: live transcription for Asterisk's speech module and whoever else speaks it.
    Vosk "vosk" {
        /// Address and port (vosk-server's is 2700); without it nobody is served. With no key configured (`http.keys`), other than
        /// loopback is refused; with keys, clients bring theirs as `?token=st_…` in the URL.
        bind: Option<SocketAddr> = None;
    }
    /// What is written about it all.
    Log "log" {
        /// `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `sidetone::net=debug,info`. SIGHUP applies it anew.
        level: String = "info".into();
        /// `text` or `json`.
        format: String = "text".into();
    }
}

sections! {
    /// Tables of which there may be several, each with a name of its own in the place of `NAME`.
    TABLES:
    /// Speech to text for the calls of one tenant. What is not said here is as in `speech`; what the dialplan says of a call wins
    /// over both.
    TenantSpeech "speech.tenants.NAME" {
        /// `whisper` or `riva`.
        engine: Option<String> = None;
        /// Language code, or `auto`.
        language: Option<String> = None;
        /// Names and words of the trade to expect, a list in the place of `speech.vocabulary`.
        vocabulary: Option<Vec<String>> = None;
        /// File with more of them, one a line.
        vocabulary_file: Option<PathBuf> = None;
    }
    /// Text-to-speech calls of one tenant. What is not said here is as in `tts_calls`.
    TenantTtsCalls "tts_calls.tenants.NAME" {
        /// `ami`, `ari` or `file`.
        by: Option<String> = None;
        /// What is dialled.
        channel: Option<String> = None;
        /// The dialplan's context that speaks the text.
        context: Option<String> = None;
        /// What called parties are shown.
        caller_id: Option<String> = None;
        /// Country of numbers that do not begin with `+`.
        region: Option<String> = None;
        /// Countries that may be called.
        countries: Option<Vec<String>> = None;
        /// Call extensions as well.
        allow_extensions: Option<bool> = None;
        /// Longest ringing, seconds.
        ring_seconds: Option<u64> = None;
        /// Longest call after the answer, seconds.
        longest_seconds: Option<u64> = None;
        /// `off`, `hang_up` or `speak`.
        amd: Option<String> = None;
        /// Further attempts, in the place of `tts_calls.retry`.
        retry: Option<Vec<String>> = None;
        /// Hours in which calls are placed.
        hours: Option<String> = None;
        /// Days on which calls are placed.
        days: Option<String> = None;
        /// Time zone of both.
        time_zone: Option<String> = None;
        /// Calls at a time.
        at_once: Option<usize> = None;
        /// Calls placed a second at most.
        per_second: Option<f64> = None;
        /// File of numbers that are never called, in the place of `tts_calls.do_not_call`.
        do_not_call: Option<PathBuf> = None;
    }
}

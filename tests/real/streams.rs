//! AudioSocket and chan_websocket as the real Asterisk speaks them: each quirk that our side relies on, or works around.
//! Channels are put straight into the dialplan; nothing of calls is in between.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use sidetone::media::audiosocket::{Decoder, Frame, HANGUP_FRAME};
use sidetone::media::chan_websocket::{Command, Direction, Event, Form, MediaStart, XOFF_FRAMES, XON_FRAMES};
use sidetone::media::clock::CallClock;
use sidetone::media::codec::Codec;
use sidetone::media::pace::{Player, playout};
use sidetone::media::ring::{RingReader, SlotRead};
use sidetone::media::stream::{StreamConfig, StreamReceiver};
use sidetone::media::time::SampleRate;
use sidetone::net::stream::{DoorSettings, Doors, StreamLeg, Way, connect};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use uuid::Uuid;

use crate::audio::follow;
use crate::support::lab::{FRAME, Lab, Version};

const SOON: Duration = Duration::from_secs(10);

/// Originates `endpoint` into the lab's dialplan, and returns the channel as Asterisk tells of it.
async fn originate(
    lab: &Lab,
    endpoint: &str,
    (context, exten): (&str, &str),
    variables: &[(&str, &str)],
) -> Value {
    let id = format!("stream-{}", Uuid::now_v7().simple());
    let query = [
        ("endpoint", endpoint),
        ("channelId", &id),
        ("context", context),
        ("extension", exten),
        ("priority", "1"),
        ("timeout", "30"),
    ];
    let variables: BTreeMap<_, _> = variables.iter().copied().collect();
    lab.ari_post("/channels", &query, Some(json!({ "variables": variables }))).await.ok()
}

async fn variable(lab: &Lab, channel: &Value, name: &str) -> String {
    let path = format!("/channels/{}/variable?variable={name}", channel["id"].as_str().expect("an id"));
    lab.ari_get(&path).await.ok()["value"].as_str().expect("a value").to_owned()
}

async fn until_gone(lab: &Lab, channel: &Value) {
    let deadline = Instant::now() + SOON;
    let path = format!("/channels/{}", channel["id"].as_str().expect("an id"));
    while lab.ari_get(&path).await.status != 404 {
        assert!(Instant::now() < deadline, "{path} is still there");
        sleep(Duration::from_millis(20)).await;
    }
}

// ---- AudioSocket -------------------------------------------------------------------------------------------------------

/// What came over an AudioSocket, as it came.
#[derive(Debug, PartialEq)]
enum Came {
    Audio(u32, Vec<u8>),
    Digit(char),
    Hangup,
    Id(Uuid),
}

struct Socket {
    stream: TcpStream,
    decoder: Decoder,
}

impl Socket {
    /// The next frame; `None` at the end.
    async fn next(&mut self) -> Option<Came> {
        loop {
            if let Some(frame) = self.decoder.next_frame().expect("frames") {
                return Some(match frame {
                    Frame::Audio { rate, payload } => Came::Audio(rate.hz(), payload.to_vec()),
                    Frame::Dtmf(digit) => Came::Digit(digit),
                    Frame::Hangup => Came::Hangup,
                    Frame::Id(id) => Came::Id(Uuid::from_bytes(id)),
                    Frame::Error(code) => panic!("error {code}"),
                });
            }
            let bytes = timeout(SOON, self.stream.read(self.decoder.space())).await.expect("something");
            match bytes {
                // Asterisk may close without having read all that we sent.
                Ok(0) | Err(_) => return None,
                Ok(bytes) => self.decoder.filled(bytes),
            }
        }
    }
}

/// An AudioSocket channel in the dialplan, and its socket.
async fn audiosocket(
    lab: &Lab,
    format: &str,
    to: (&str, &str),
    variables: &[(&str, &str)],
) -> (Value, Uuid, Socket) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (address, id) = (listener.local_addr().expect("its address"), Uuid::new_v4());
    let endpoint = format!("AudioSocket/{address}/{id}/c({format})");
    let channel = originate(lab, &endpoint, to, variables).await;
    let (stream, _) = timeout(SOON, listener.accept()).await.expect("Asterisk comes").expect("a connection");
    (channel, id, Socket { stream, decoder: Decoder::default() })
}

#[tokio::test(flavor = "multi_thread")]
async fn real_audiosocket_begins_with_its_uuid_and_sends_20_ms_frames_of_little_endian_samples() {
    let lab = Lab::start(Version::V22);
    let say = [("PROMPTS_A", "vm-goodbye")];
    let (_, id, mut socket) = audiosocket(&lab, "slin", ("lab-party", "a"), &say).await;
    assert_eq!(socket.next().await, Some(Came::Id(id)));
    let mut heard = Vec::new();
    let mut short = 0;
    let mut last = None;
    while let Some(came) = socket.next().await {
        if let Came::Audio(rate, payload) = &came {
            assert_eq!(*rate, 8_000);
            assert!(payload.len() <= 2 * FRAME, "{} bytes", payload.len());
            short += usize::from(payload.len() < 2 * FRAME);
            heard.extend(payload.chunks_exact(2).map(|b| i16::from_le_bytes([b[0], b[1]])));
        }
        last = Some(came);
    }
    let followed = follow(&heard, &lab.prompt_samples("vm-goodbye"));
    assert!(followed.found * 100 >= followed.sounding * 95, "{followed:?}");
    assert!(short <= 1, "only the end of a prompt is no whole frame: {short}");
    assert!(!matches!(last, Some(Came::Hangup)), "at the end of the call it just closes");
}

#[tokio::test(flavor = "multi_thread")]
async fn real_audiosocket_tags_wideband_with_a_kind_of_its_own() {
    let lab = Lab::start(Version::V22);
    let say = [("PROMPTS_A", "vm-goodbye")];
    let (_, id, mut socket) = audiosocket(&lab, "slin16", ("lab-party", "a"), &say).await;
    assert_eq!(socket.next().await, Some(Came::Id(id)));
    let Some(Came::Audio(rate, payload)) = socket.next().await else { panic!("audio") };
    assert_eq!((rate, payload.len()), (16_000, 4 * FRAME));
}

#[tokio::test(flavor = "multi_thread")]
async fn real_audiosocket_tells_keys_in_frames_of_kind_3() {
    let lab = Lab::start(Version::V22);
    let (_, _, mut socket) = audiosocket(&lab, "slin", ("lab-pbx", "digits"), &[]).await;
    let mut digits = String::new();
    while let Some(came) = socket.next().await {
        if let Came::Digit(digit) = came {
            digits.push(digit);
        }
    }
    assert_eq!(digits, "12#");
}

#[tokio::test(flavor = "multi_thread")]
async fn real_audiosocket_hangs_up_at_a_hangup_frame_a_foreign_frame_and_an_empty_one() {
    let lab = Lab::start(Version::V22);
    for bytes in [&HANGUP_FRAME[..], &[0x03, 0, 1, b'1'], &[0x10, 0, 0]] {
        let (channel, _, mut socket) = audiosocket(&lab, "slin", ("lab-pbx", "echo"), &[]).await;
        let mut frame = vec![0x10, 1, 64];
        frame.resize(323, 0);
        socket.stream.write_all(&frame).await.expect("a frame");
        socket.stream.write_all(bytes).await.expect("the last frame");
        while socket.next().await.is_some() {}
        until_gone(&lab, &channel).await;
    }
}

// ---- chan_websocket ----------------------------------------------------------------------------------------------------

type Ws = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A WebSocket channel in the dialplan, and its socket, opened by us.
async fn websocket(
    lab: &Lab,
    options: &str,
    to: (&str, &str),
    variables: &[(&str, &str)],
) -> (Value, Uuid, Ws) {
    let channel = originate(lab, &format!("WebSocket/INCOMING/{options}"), to, variables).await;
    let id = variable(lab, &channel, "MEDIA_WEBSOCKET_CONNECTION_ID").await;
    let (socket, _) = connect_async(media_request(lab, &id)).await.expect("Asterisk's media WebSocket");
    (channel, id.parse().expect("Asterisk chooses a UUID"), socket)
}

fn media_request(lab: &Lab, id: &str) -> tokio_tungstenite::tungstenite::handshake::client::Request {
    let url = format!("{}/media/{id}", lab.ari_url().replacen("http", "ws", 1));
    let mut request = url.into_client_request().expect("a request");
    request.headers_mut().insert("sec-websocket-protocol", "media".parse().expect("a header"));
    request
}

/// The next event; media before it is counted, in bytes.
async fn event(socket: &mut Ws, media: &mut usize) -> Option<Event> {
    loop {
        match timeout(SOON, socket.next()).await.expect("something")?.expect("a message") {
            Message::Text(text) => {
                return Some(Event::parse(&text).unwrap_or_else(|e| panic!("{e}: {text}")));
            }
            Message::Binary(payload) => *media += payload.len(),
            Message::Close(_) => return None,
            _ => {}
        }
    }
}

async fn tell(socket: &mut Ws, command: Command<'_>, form: Form) {
    socket.send(Message::text(command.encode(form).expect("a command"))).await.expect("sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn real_websocket_begins_with_media_start_in_both_forms() {
    let lab = Lab::start(Version::V22);
    for (options, form) in [("c(slin)", Form::Plain), ("c(slin)f(json)", Form::Json)] {
        let (channel, id, mut socket) = websocket(&lab, options, ("lab-pbx", "echo"), &[]).await;
        let Some(Event::MediaStart(start)) = event(&mut socket, &mut 0).await else { panic!("MEDIA_START") };
        let expected = MediaStart {
            connection_id: id.to_string(),
            channel: start.channel.clone(),
            channel_id: channel["id"].as_str().expect("an id").to_owned(),
            format: "slin".into(),
            optimal_frame_size: 2 * FRAME as u32,
            ptime_ms: 20,
        };
        assert_eq!(start, expected);
        assert!(start.channel.starts_with("WebSocket/INCOMING/"), "{start:?}");
        tell(&mut socket, Command::GetStatus, form).await;
        let Some(Event::Status(status)) = event(&mut socket, &mut 0).await else { panic!("STATUS") };
        assert_eq!((status.xon_level, status.xoff_level), (XON_FRAMES as u32, XOFF_FRAMES as u32));
        tell(&mut socket, Command::Hangup, form).await;
        while event(&mut socket, &mut 0).await.is_some() {}
        until_gone(&lab, &channel).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn real_websocket_says_xoff_at_900_frames_xon_below_800_and_nothing_that_was_flushed() {
    let lab = Lab::start(Version::V22);
    let (_, _, mut socket) = websocket(&lab, "c(slin)f(json)", ("lab-pbx", "echo"), &[]).await;
    let frames = |count: usize| Message::binary(vec![0_u8; count * 2 * FRAME]);
    // Under 65,500 bytes a message.
    for _ in 0..8 {
        socket.send(frames(100)).await.expect("sent");
    }
    tell(&mut socket, Command::GetStatus, Form::Json).await;
    let mut events = Vec::new();
    let waiting = loop {
        match event(&mut socket, &mut 0).await.expect("an event") {
            Event::Status(status) => break status,
            other => events.push(other),
        }
    };
    assert!((700..=800).contains(&waiting.queue_length) && !waiting.queue_full, "{waiting:?} {events:?}");
    for _ in 0..2 {
        socket.send(frames(75)).await.expect("sent");
    }
    assert_eq!(event(&mut socket, &mut 0).await, Some(Event::Xoff));
    let began = Instant::now();
    assert_eq!(event(&mut socket, &mut 0).await, Some(Event::Xon));
    // From 900 and more down to 799, at 20 ms each.
    assert!(began.elapsed() > Duration::from_millis(1_500), "{:?}", began.elapsed());
    tell(&mut socket, Command::MarkMedia { correlation_id: "never" }, Form::Json).await;
    tell(&mut socket, Command::FlushMedia, Form::Json).await;
    tell(&mut socket, Command::MarkMedia { correlation_id: "at once" }, Form::Json).await;
    let mark = event(&mut socket, &mut 0).await;
    assert_eq!(mark, Some(Event::MarkProcessed { correlation_id: "at once".into() }));
    tell(&mut socket, Command::ReportQueueDrained, Form::Json).await;
    assert_eq!(event(&mut socket, &mut 0).await, Some(Event::QueueDrained));
}

#[tokio::test(flavor = "multi_thread")]
async fn real_websocket_joins_what_is_buffered_and_drops_what_is_no_whole_frame_otherwise() {
    let lab = Lab::start(Version::V22);
    let (_, _, mut socket) = websocket(&lab, "c(slin)f(json)", ("lab-pbx", "echo"), &[]).await;
    let odd = || Message::binary(vec![0_u8; 3 * 2 * FRAME + 100]);
    let mut waiting = Vec::new();
    for buffering in [false, true] {
        tell(&mut socket, Command::PauseMedia, Form::Json).await;
        if buffering {
            tell(&mut socket, Command::StartMediaBuffering, Form::Json).await;
        }
        for _ in 0..8 {
            socket.send(odd()).await.expect("sent");
        }
        tell(&mut socket, Command::GetStatus, Form::Json).await;
        loop {
            if let Some(Event::Status(status)) = event(&mut socket, &mut 0).await {
                assert_eq!(status.bulk_media, buffering);
                waiting.push(status.queue_length);
                break;
            }
        }
        tell(&mut socket, Command::FlushMedia, Form::Json).await;
    }
    // 800 bytes of rests are two whole frames.
    assert_eq!(waiting, [24, 26]);
}

#[tokio::test(flavor = "multi_thread")]
async fn real_websocket_tells_keys_and_takes_an_id_once() {
    let lab = Lab::start(Version::V22);
    let (_, id, mut socket) = websocket(&lab, "c(ulaw)f(json)", ("lab-pbx", "digits"), &[]).await;
    let again = connect_async(media_request(&lab, &id.to_string())).await;
    assert!(again.is_err_and(|e| e.to_string().contains("409")), "a second connection is refused");
    let unknown = connect_async(media_request(&lab, &Uuid::new_v4().to_string())).await;
    assert!(unknown.is_err_and(|e| e.to_string().contains("404")));
    let mut digits = String::new();
    while let Some(event) = event(&mut socket, &mut 0).await {
        if let Event::Dtmf { digit } = event {
            digits.push(digit);
        }
    }
    assert_eq!(digits, "12#");
}

/// Bytes of media that come within `time`; events on the way are kept.
async fn media_within(socket: &mut Ws, time: Duration, events: &mut Vec<Event>) -> usize {
    let (until, mut bytes) = (Instant::now() + time, 0);
    while let Ok(Some(message)) = tokio::time::timeout_at(until, socket.next()).await {
        match message.expect("a message") {
            Message::Binary(payload) => bytes += payload.len(),
            Message::Text(text) => events.push(Event::parse(&text).expect("an event")),
            Message::Close(_) => break,
            _ => {}
        }
    }
    bytes
}

/// The direction is the application's: `in` is what comes to us.
#[tokio::test(flavor = "multi_thread")]
async fn real_websocket_changes_the_direction_of_media_when_it_is_told_to() {
    use Direction::{Both, In, Out};
    let lab = Lab::start(Version::V22);
    let say = [("PROMPTS_A", "demo-congrats"), ("HANGUP_BY", "none")];
    // Frames that come in the second after half a second of ours was sent: from an echo, and from one that speaks all the time.
    for (to, expected) in [
        (("lab-pbx", "echo"), [(Both, 23..=25), (In, 0..=0), (Out, 0..=0), (Both, 23..=25)]),
        (("lab-party", "a"), [(Both, 40..=60), (In, 40..=60), (Out, 0..=0), (Both, 40..=60)]),
    ] {
        let (_, _, mut socket) = websocket(&lab, "c(slin)f(json)", to, &say).await;
        let Some(Event::MediaStart(_)) = event(&mut socket, &mut 0).await else { panic!("MEDIA_START") };
        for (direction, frames) in expected {
            tell(&mut socket, Command::SetMediaDirection(direction), Form::Json).await;
            let mut events = Vec::new();
            // What is on its way.
            media_within(&mut socket, Duration::from_millis(200), &mut events).await;
            socket.send(Message::binary(vec![7_u8; 25 * 2 * FRAME])).await.expect("sent");
            let came = media_within(&mut socket, Duration::from_secs(1), &mut events).await / (2 * FRAME);
            assert!(frames.contains(&came), "{to:?} {direction:?}: {came} frames");
            tell(&mut socket, Command::MarkMedia { correlation_id: "mark" }, Form::Json).await;
            tell(&mut socket, Command::GetStatus, Form::Json).await;
            media_within(&mut socket, Duration::from_millis(300), &mut events).await;
            println!("{to:?} {direction:?}: {came} frames, {events:?}");
            let is_answered = events.iter().any(|event| matches!(event, Event::Status(_)));
            assert!(is_answered, "commands are taken whatever the direction: {events:?}");
            let is_played = events.contains(&Event::MarkProcessed { correlation_id: "mark".into() });
            let refused = "MARK_MEDIA not supported while media direction is 'in'";
            let is_refused = events.contains(&Event::Error { text: refused.into() });
            assert_eq!((is_played, is_refused), (direction != In, direction == In), "{events:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn real_websocket_channel_ends_when_our_end_closes_orderly_or_not() {
    let lab = Lab::start(Version::V22);
    for orderly in [true, false] {
        let (channel, id, mut socket) = websocket(&lab, "c(slin)f(json)", ("lab-pbx", "echo"), &[]).await;
        let Some(Event::MediaStart(_)) = event(&mut socket, &mut 0).await else { panic!("MEDIA_START") };
        if orderly {
            socket.close(None).await.expect("closed");
        } else {
            // As a process that is killed leaves it: the connection is reset, or just ends.
            drop(socket);
        }
        until_gone(&lab, &channel).await;
        let again = connect_async(media_request(&lab, &id.to_string())).await;
        assert!(again.is_err_and(|e| e.to_string().contains("404")), "its id is gone with it");
    }
}

// ---- both ways ---------------------------------------------------------------------------------------------------------

/// A leg of our own on `way`, as calls have them.
fn leg(way: Way, codec: Codec) -> (StreamLeg, Player, RingReader) {
    let clock = Arc::new(CallClock::new(sidetone::clock::now(), codec.sample_rate(), 1));
    let mut config = StreamConfig::new(codec, clock);
    config.ring_slots = 4_096;
    let (receiver, ring) = StreamReceiver::new(config);
    let (player, pacer) = playout(SampleRate::NARROWBAND, Duration::from_secs(20));
    let leg = StreamLeg::attach(way, Box::new(receiver), codec, pacer, Arc::new(|_| ()));
    (leg, player, ring.reader())
}

/// Plays a track in which every frame is unlike any other to an echo, and tells what became of its frames on the way there
/// and back: how many came, and in how many places the order or the distance was not as sent.
async fn echoed(leg: StreamLeg, mut player: Player, mut reader: RingReader) -> (usize, usize, usize) {
    const FRAMES: usize = 400;
    sleep(Duration::from_millis(500)).await;
    // A frame is recognised by its level; all are far from silence.
    let level = |frame: usize| 2_000 + 40 * frame as i16;
    for frame in 0..FRAMES {
        assert_eq!(player.push(&[level(frame); FRAME]), FRAME);
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    while player.played() < (FRAMES * FRAME) as u64 {
        assert!(Instant::now() < deadline, "{} samples played", player.played());
        sleep(Duration::from_millis(50)).await;
    }
    sleep(Duration::from_millis(500)).await;
    let stats = leg.finish(sidetone::clock::now()).await;
    assert_eq!(stats.packets_invalid, 0);
    let (mut samples, mut slot) = (Vec::new(), [0; FRAME / 2]);
    loop {
        match reader.read_slot(0, &mut slot) {
            SlotRead::Ready { len, .. } => samples.extend_from_slice(&slot[..len]),
            SlotRead::End => break,
            other => panic!("{other:?}"),
        }
    }
    let mut runs: Vec<(i16, usize)> = Vec::new();
    for sample in samples.into_iter().filter(|&s| s >= 2_000) {
        match runs.last_mut() {
            Some((of, length)) if *of == sample => *length += 1,
            _ => runs.push((sample, 1)),
        }
    }
    let doubled = runs.iter().filter(|(_, length)| *length != FRAME).count();
    let disordered = runs.windows(2).filter(|pair| pair[1].0 != pair[0].0 + 40).count();
    println!("{} of {FRAMES} frames came back, {doubled} of another length, {disordered} seams", runs.len());
    (runs.len(), doubled, disordered)
}

#[tokio::test(flavor = "multi_thread")]
async fn real_audiosocket_carries_every_frame_that_we_send_once_and_in_order() {
    let lab = Lab::start(Version::V22);
    let bind = Some("127.0.0.1:0".parse().expect("an address"));
    let doors =
        Doors::open(DoorSettings { audiosocket: bind, ..DoorSettings::default() }).await.expect("a port");
    let id = Uuid::new_v4();
    let (leg, player, reader) = leg(doors.expect_audiosocket(id).expect("an open door"), Codec::Slin);
    let endpoint = format!("AudioSocket/{}/{id}/c(slin)", doors.audiosocket().expect("its address"));
    originate(&lab, &endpoint, ("lab-pbx", "echo"), &[]).await;
    assert_eq!(echoed(leg, player, reader).await, (400, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn real_websocket_carries_every_frame_that_we_send_once_and_in_order() {
    let lab = Lab::start(Version::V22);
    let channel = originate(&lab, "WebSocket/INCOMING/c(slin)f(json)", ("lab-pbx", "echo"), &[]).await;
    let id = variable(&lab, &channel, "MEDIA_WEBSOCKET_CONNECTION_ID").await;
    let way = connect(&lab.ari_url().replacen("http", "ws", 1), &id);
    let (leg, player, reader) = leg(way, Codec::Slin);
    assert_eq!(echoed(leg, player, reader).await, (400, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_refused_at_the_door_and_hurt_nobody() {
    let bind = Some("127.0.0.1:0".parse().expect("an address"));
    let settings = DoorSettings { audiosocket: bind, websocket: bind, ..DoorSettings::default() };
    let doors = Doors::open(settings).await.expect("ports");
    let address = doors.audiosocket().expect("its address");
    let id = Uuid::new_v4();
    let hello = |id: Uuid| [&[1, 0, 16][..], id.as_bytes()].concat();
    let (leg, _player, _) = leg(doors.expect_audiosocket(id).expect("an open door"), Codec::Slin);
    for bytes in [hello(Uuid::new_v4()), b"GET / HTTP/1.1\r\n\r\n".to_vec(), vec![0x10, 0, 2, 0, 0]] {
        let mut stranger = TcpStream::connect(address).await.expect("a connection");
        stranger.write_all(&bytes).await.expect("sent");
        let mut buffer = [0; 16];
        let end = timeout(SOON, stranger.read(&mut buffer)).await.expect("an end");
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    }
    // Those who say nothing are waited for, and the others come in meanwhile.
    let mut silent = TcpStream::connect(address).await.expect("a connection");
    let mut expected = TcpStream::connect(address).await.expect("a connection");
    expected.write_all(&hello(id)).await.expect("sent");
    let mut frame = [0; 323];
    timeout(SOON, expected.read_exact(&mut frame)).await.expect("silence, at once").expect("a frame");
    assert_eq!(frame[..3], [0x10, 1, 64]);
    let again = TcpStream::connect(address).await.expect("a connection");
    let mut again = again;
    again.write_all(&hello(id)).await.expect("sent");
    assert!(
        matches!(timeout(SOON, again.read(&mut frame)).await.expect("an end"), Ok(0) | Err(_)),
        "an id is taken once"
    );
    assert!(matches!(timeout(SOON, silent.read(&mut frame)).await.expect("an end"), Ok(0) | Err(_)));
    leg.finish(sidetone::clock::now()).await;
}

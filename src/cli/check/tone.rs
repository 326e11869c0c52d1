//! A tone through the media path: Asterisk plays it to a port of ours, in the format that calls come in.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use crate::asterisk::ari::{
    self, AriClient, AriError, BridgeKind, ExternalMedia, HangupReason, SocketConfig,
};
use crate::config::Settings;
use crate::media::codec::Codec;
use crate::media::rtp::RtpPacket;

/// The tone is listened to for this long at most; half a second of packets is proof enough.
const LISTEN: Duration = Duration::from_secs(3);
const PACKETS_OF_PROOF: usize = 25;

/// Have Asterisk play a tone, and judge what comes. Both outcomes are for users.
pub(super) async fn arrives(settings: &Settings, client: &AriClient) -> Result<String, String> {
    let codec = Codec::from_name(&settings.rtp.format).ok_or("rtp.format is unknown")?;
    // Sidetone itself may be running on the configured port: another one on the same address shows the same path.
    let socket = UdpSocket::bind((settings.rtp.bind.ip(), 0)).map_err(|e| format!("rtp.bind: {e}"))?;
    let port = socket.local_addr().map_err(|e| e.to_string())?.port();
    let host = SocketAddr::new(settings.rtp.advertise.unwrap_or(settings.rtp.bind.ip()), port);
    let events = ari::connect(client, SocketConfig::default());
    let id = format!("sidetone-check-{}", uuid::Uuid::now_v7().simple());
    let leg = ExternalMedia { channel_id: &id, external_host: host, format: codec.name(), data: "check" };
    let outcome = listen(client, &leg, socket, codec).await;
    // Whatever was made goes, in this order; 404 counts as done.
    let gone = [client.hangup(&id, HangupReason::Normal).await, client.delete_bridge(&id).await];
    events.close().await;
    let (sender, heard) = outcome.map_err(|e| e.to_string())?;
    if let Some(error) = gone.into_iter().find_map(Result::err) {
        return Err(format!("the check's own leg {id} could not be removed: {error}"));
    }
    judge(host, sender, codec, &heard)
}

/// RTP packets that came, by sender and payload type.
type Heard = BTreeMap<(SocketAddr, u8), usize>;

/// Where the leg's RTP is to come from, and what came.
async fn listen(
    client: &AriClient,
    leg: &ExternalMedia<'_>,
    socket: UdpSocket,
    codec: Codec,
) -> Result<(SocketAddr, Heard), AriError> {
    let id = leg.channel_id;
    // The application exists once our event socket is open; Asterisk drops a leg that comes before.
    let opened = crate::clock::now();
    while client.application(&client.config().app).await?.is_none() && crate::clock::since(opened) < LISTEN {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    client.create_bridge(id, id, BridgeKind::Mixing).await?;
    let sender = client.external_media(leg).await?.local;
    let entering = crate::clock::now();
    loop {
        match client.add_channel(id, id).await {
            // Not in Stasis yet: its start is a matter of milliseconds.
            Err(AriError::NotInStasis { .. }) if crate::clock::since(entering) < LISTEN => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            other => break other?,
        }
    }
    client.play_on_bridge(id, "tone:dial", &format!("{id}-tone")).await?;
    let counted = tokio::task::spawn_blocking(move || count(&socket, (sender, codec.payload_type())));
    Ok((sender, counted.await.unwrap_or_default()))
}

/// Listen until enough has come as `expected`, or for [`LISTEN`].
fn count(socket: &UdpSocket, expected: (SocketAddr, u8)) -> Heard {
    let begun = crate::clock::now();
    let mut heard = Heard::new();
    let mut buffer = [0; 2_048];
    loop {
        let left = LISTEN.saturating_sub(crate::clock::since(begun));
        let proven = heard.get(&expected).is_some_and(|packets| *packets >= PACKETS_OF_PROOF);
        if proven || left.is_zero() || socket.set_read_timeout(Some(left)).is_err() {
            return heard;
        }
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        if let Ok(packet) = RtpPacket::parse(&buffer[..length]) {
            let from = SocketAddr::new(from.ip().to_canonical(), from.port());
            *heard.entry((from, packet.payload_type())).or_default() += 1;
        }
    }
}

fn judge(host: SocketAddr, sender: SocketAddr, codec: Codec, heard: &Heard) -> Result<String, String> {
    let (name, asked) = (codec.name(), codec.payload_type());
    // Whoever sends less than that is not the tone.
    let mut streams = heard.iter().filter(|(_, packets)| **packets >= PACKETS_OF_PROOF).map(|(key, _)| *key);
    if heard.get(&(sender, asked)).is_some_and(|packets| *packets >= PACKETS_OF_PROOF) {
        return Ok(format!("a tone from Asterisk ({sender}) arrives at {host} as {name}"));
    }
    match streams.next() {
        Some((from, kind)) if from == sender => Err(format!(
            "Asterisk was asked for {name} (RTP payload type {asked}) and sends payload type {kind}: use another rtp.format"
        )),
        Some((from, _)) if from.port() == sender.port() => Err(format!(
            "the tone comes from {}, but is expected from {}, by which calls are told apart: set rtp.asterisk_address = \"{}\"",
            from.ip(),
            sender.ip(),
            from.ip()
        )),
        Some((from, _)) => Err(format!(
            "the tone comes from {from}, but is expected from {sender}, by which calls are told apart: something between \
             rewrites the port of Asterisk's media; let it reach this machine without (for a container: the host's network)"
        )),
        None => Err(format!(
            "Asterisk was told to send RTP to {host}, {} packets came: is rtp.advertise the address at which Asterisk reaches \
             this machine, does a firewall stand between?",
            heard.values().sum::<usize>()
        )),
    }
}

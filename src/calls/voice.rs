//! What is played to the caller of an answered call: the list of it, and the stream that takes it there.

use uuid::Uuid;

use crate::media::codec::Codec;
use crate::media::pace::{Pacer, playout};
use crate::net::plane::Seat;
use crate::net::stream::{StreamError, StreamVoice};
use crate::net::voice::VoiceHandle;

use super::machine::{MediaSource, VoiceConfig};
use super::playlist::{AHEAD, Playlist};
use super::services::Services;
use super::transport::{Transport, Ways};

/// Where the stream goes.
enum Stream {
    /// Nobody knows yet; over RTP from that seat.
    Waiting(Option<Seat>, Pacer),
    /// To Asterisk's RTP port.
    Rtp(VoiceHandle),
    /// Over a connection.
    Connected(StreamVoice),
    /// It could not be started.
    Gone,
}

/// The voice of one call.
pub(super) struct CallVoice {
    codec: Codec,
    /// 0 without a port of its own.
    port: u16,
    ways: Ways,
    stream: Stream,
    pub(super) list: Playlist,
}

impl CallVoice {
    /// One that has a seat (of RTP), and nothing to say.
    pub(super) fn new(services: &Services) -> Self {
        let codec = services.spoken();
        let (player, pacer) = playout(codec.sample_rate(), AHEAD);
        let seat = (services.transport == Transport::Rtp).then(|| services.plane.seat());
        Self {
            codec,
            port: seat.as_ref().map_or(0, Seat::port),
            ways: Ways::default(),
            stream: Stream::Waiting(seat, pacer),
            list: Playlist::new(player, codec.sample_rate()),
        }
    }

    /// What Asterisk is to be asked for.
    pub(super) fn config(&self, services: &Services) -> VoiceConfig {
        VoiceConfig {
            format: self.codec.name().to_owned(),
            external_host: services.told_to_asterisk(self.port),
        }
    }

    /// See [`Ways::announce`].
    pub(super) fn announce(&mut self, services: &Services) -> Result<Option<Uuid>, StreamError> {
        self.ways.announce(services)
    }

    /// Send to `to` from now on.
    pub(super) fn attach(&mut self, services: &Services, to: MediaSource) -> Result<(), String> {
        match to {
            MediaSource::Rtp(to) => match std::mem::replace(&mut self.stream, Stream::Gone) {
                Stream::Waiting(Some(seat), pacer) => {
                    let handle = seat.speak(to, self.codec, pacer).map_err(|error| error.to_string())?;
                    self.stream = Stream::Rtp(handle);
                    return Ok(());
                }
                Stream::Rtp(handle) => {
                    handle.move_to(to);
                    self.stream = Stream::Rtp(handle);
                    return Ok(());
                }
                other => self.stream = other,
            },
            MediaSource::Stream(id) => {
                let way = self.ways.take(services, id)?;
                match std::mem::replace(&mut self.stream, Stream::Gone) {
                    Stream::Waiting(None, pacer) => {
                        self.stream = Stream::Connected(StreamVoice::speak(way, self.codec, pacer));
                        return Ok(());
                    }
                    Stream::Connected(handle) => {
                        handle.move_to(way);
                        self.stream = Stream::Connected(handle);
                        return Ok(());
                    }
                    other => self.stream = other,
                }
            }
        }
        Err("the voice has no stream of this transport".into())
    }
}

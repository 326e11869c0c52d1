//! How media travels between Asterisk and us: what the settings choose, and what an Asterisk has to be able to do for it.

use uuid::Uuid;

use crate::asterisk::ari::StreamKind;
use crate::asterisk::version::{Capabilities, Missing};
use crate::config::Settings;
use crate::media::codec::Codec;
use crate::media::rtp_send::sendable;
use crate::net::stream::{DoorSettings, StreamError, Way, connect};

use super::services::Services;

/// The transport of all legs: `media.transport`, and for WebSockets `websocket.direction`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Asterisk connects to us by TCP.
    AudioSocket,
    /// Datagrams; the only one that is exact whatever the network does, and that goes on over a restart.
    Rtp,
    /// We connect to Asterisk's HTTP server.
    WebSocketIncoming,
    /// Asterisk connects to us, by its websocket_client.conf.
    WebSocketOutgoing,
}

impl Transport {
    /// What valid settings choose.
    pub fn of(settings: &Settings) -> Self {
        match (settings.media.transport.as_str(), settings.websocket.direction.as_str()) {
            ("audiosocket", _) => Self::AudioSocket,
            ("websocket", "outgoing") => Self::WebSocketOutgoing,
            ("websocket", _) => Self::WebSocketIncoming,
            _ => Self::Rtp,
        }
    }

    /// Asterisk's name of the format that valid settings choose for it, and the setting.
    pub fn format(self, settings: &Settings) -> (&str, &'static str) {
        match self {
            Self::AudioSocket => (&settings.audiosocket.format, "audiosocket.format"),
            Self::Rtp => (&settings.rtp.format, "rtp.format"),
            Self::WebSocketIncoming | Self::WebSocketOutgoing => {
                (&settings.websocket.format, "websocket.format")
            }
        }
    }

    /// The ports that have to be open for it.
    pub fn doors(self, settings: &Settings) -> DoorSettings {
        let socket = &settings.websocket;
        DoorSettings {
            audiosocket: (self == Self::AudioSocket).then_some(settings.audiosocket.bind),
            websocket: (self == Self::WebSocketOutgoing).then_some(socket.bind),
            credentials: (!socket.user.is_empty()).then(|| (socket.user.clone(), socket.password.clone())),
        }
    }

    /// Whether an Asterisk that `can` so much brings legs in `format` as asked.
    ///
    /// # Errors
    /// [`Missing`], with what to do.
    pub fn works_with(self, can: &Capabilities, format: &str) -> Result<(), Missing> {
        can.external_media.clone()?;
        match self {
            Self::AudioSocket => can.audiosocket_in(format),
            Self::Rtp => can.legs_in(format),
            Self::WebSocketIncoming | Self::WebSocketOutgoing => can.chan_websocket.clone(),
        }
    }

    /// The codec for a call that began with `codec`, perhaps over another transport: of the same rate, and one that this carries.
    pub fn carried(self, codec: Codec) -> Codec {
        match self {
            Self::AudioSocket => codec.linear(),
            Self::WebSocketIncoming | Self::WebSocketOutgoing if codec.is_stateful() => codec.linear(),
            _ => codec,
        }
    }

    /// The codec in which callers are spoken to, where their legs are heard in `codec`.
    pub const fn spoken(self, codec: Codec) -> Codec {
        match self {
            Self::Rtp => sendable(codec),
            _ => codec,
        }
    }

    /// The modules of Asterisk that it takes.
    pub const fn modules(self) -> &'static [&'static str] {
        match self {
            Self::AudioSocket => &["chan_audiosocket.so"],
            Self::Rtp => &["chan_rtp.so"],
            Self::WebSocketIncoming | Self::WebSocketOutgoing => &["chan_websocket.so"],
        }
    }
}

/// Connections over TCP that are waited for, by their names: one an attempt to make a channel.
#[derive(Debug, Default)]
pub(super) struct Ways(Vec<(Uuid, Way)>);

impl Ways {
    /// Asterisk is about to be asked for a channel: let its connection in, where Asterisk makes one, and name it.
    pub(super) fn announce(&mut self, services: &Services) -> Result<Option<Uuid>, StreamError> {
        let id = Uuid::new_v4();
        let way = match services.transport {
            Transport::AudioSocket => services.doors.expect_audiosocket(id)?,
            Transport::WebSocketOutgoing => services.doors.expect_websocket(id)?,
            Transport::Rtp | Transport::WebSocketIncoming => return Ok(None),
        };
        // An attempt before it has been given up, but for one whose reply is on its way.
        self.0.drain(..self.0.len().saturating_sub(1));
        self.0.push((id, way));
        Ok(Some(id))
    }

    /// The connection of that name.
    pub(super) fn take(&mut self, services: &Services, id: Uuid) -> Result<Way, String> {
        if services.transport == Transport::WebSocketIncoming {
            return Ok(connect(&services.settings.ari.url.replacen("http", "ws", 1), &id.to_string()));
        }
        let at = self.0.iter().position(|(of, _)| *of == id);
        at.map(|at| self.0.swap_remove(at).1)
            .ok_or_else(|| "nobody waits for this connection any more".into())
    }
}

impl Services {
    /// What to ask Asterisk for, for a leg whose connection is named `id`; `None`: RTP.
    pub(super) fn stream_kind(&self, id: Option<Uuid>) -> Option<StreamKind<'_>> {
        match (self.transport, id) {
            (Transport::AudioSocket, Some(id)) => {
                Some(StreamKind::AudioSocket { host: self.told_to_asterisk(0), id })
            }
            (Transport::WebSocketOutgoing, Some(leg)) => {
                Some(StreamKind::WebSocketOutgoing { client: &self.settings.websocket.client, leg })
            }
            (Transport::WebSocketIncoming, _) => Some(StreamKind::WebSocketIncoming),
            _ => None,
        }
    }
}

//! What every call needs of the house.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::asterisk::ari::AriClient;
use crate::config::Settings;
use crate::media::codec::Codec;
use crate::net::plane::RtpPlane;
use crate::net::stream::Doors;
use crate::recording::Recorder;
use crate::speech::SpeechEngine;
use crate::speech::ladder::Rung;
use crate::speech::remote::StreamingService;

use super::catch_up::CatchUp;
use super::directory::CallDirectory;
use super::hub::EventHub;
use super::ids::NodeName;
use super::machine::Timing;
use super::sessions::SessionStore;
use super::transport::Transport;

/// The parts that calls are wired from; shared by all of them.
pub struct Services {
    /// All settings.
    pub settings: Settings,
    /// This node, as its ids spell it.
    pub node: NodeName,
    /// Format of the media.
    pub codec: Codec,
    /// Requests to Asterisk.
    pub ari: AriClient,
    /// How media travels.
    pub transport: Transport,
    /// Where RTP comes in.
    pub plane: RtpPlane,
    /// Where media over TCP comes in.
    pub doors: Doors,
    /// Where recordings are written.
    pub recorder: Recorder,
    /// Speech to text, unless it is off.
    pub speech: Option<Arc<SpeechEngine>>,
    /// NVIDIA Riva, if there is one.
    pub riva: Option<Arc<dyn StreamingService>>,
    /// Events.
    pub hub: Arc<EventHub>,
    /// Calls, live and past.
    pub directory: Arc<CallDirectory>,
    /// Records of running calls.
    pub sessions: SessionStore,
    /// Transcripts that are caught up after their calls.
    pub catch_up: CatchUp,
}

impl Services {
    /// The address to tell Asterisk for media that comes in on `port`.
    pub fn advertised(&self, port: u16) -> SocketAddr {
        let ip: IpAddr = self.settings.rtp.advertise.unwrap_or(self.settings.rtp.bind.ip());
        SocketAddr::new(ip, port)
    }

    /// Where Asterisk is to send a leg's media: its RTP to `port`, its AudioSocket connection to our port for those.
    pub fn told_to_asterisk(&self, port: u16) -> SocketAddr {
        let settings = &self.settings.audiosocket;
        match self.transport {
            Transport::AudioSocket => settings.advertise.unwrap_or(settings.bind),
            _ => self.advertised(port),
        }
    }

    /// Whether new calls are to be refused for want of time to recognise them.
    pub fn is_overloaded(&self) -> bool {
        self.speech.as_ref().is_some_and(|engine| engine.rung() == Rung::CallsRefused)
    }

    /// The codec in which callers are spoken to.
    pub fn spoken(&self) -> Codec {
        self.transport.spoken(self.codec)
    }

    /// How long a call's steps may take.
    pub fn timing(&self) -> Timing {
        let request = Duration::from_millis(self.settings.ari.request_timeout_ms);
        Timing {
            setup: Duration::from_millis(self.settings.calls.setup_timeout_ms),
            request: request + Duration::from_secs(1),
            removal: request * 2 + Duration::from_secs(1),
            ..Timing::default()
        }
    }

    /// Slots of a leg's ring.
    pub fn ring_slots(&self) -> usize {
        // 100 slots of 10 ms a second.
        self.settings.rtp.ring_seconds as usize * 100
    }
}

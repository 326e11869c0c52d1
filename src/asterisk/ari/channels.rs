//! Requests about channels.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use reqwest::Method;
use serde::Deserialize;
use uuid::Uuid;

use super::client::AriClient;
use super::error::AriError;
use super::model::{Channel, Playback};

/// Which direction of a channel a snoop hears. There is no `Both`: a snoop that mixes loses and garbles audio (asterisk#851,
/// #1276), and two apart tell the speakers apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spy {
    /// What Asterisk receives from the endpoint: what that party says.
    In,
    /// What Asterisk sends to the endpoint: what that party hears.
    Out,
}

/// An RTP leg from Asterisk to us. Always UDP, and we are at a literal address: Asterisk would resolve a name while it holds
/// locks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalMedia<'a> {
    /// Id of the new channel, ours, unused, at most 149 characters. An id in use is refused with 409 by old and 500 by new
    /// Asterisks.
    pub channel_id: &'a str,
    /// Where Asterisk sends its RTP; what comes back from there is played.
    pub external_host: SocketAddr,
    /// Asterisk's name of the format: `ulaw`, `alaw`, `slin`, `slin16`, …
    pub format: &'a str,
    /// Arguments of the channel's StasisStart, where this Asterisk passes them on: 16 does not, 22 does. Tell legs by their id.
    pub data: &'a str,
}

/// The leg that was made.
#[derive(Clone, Debug, PartialEq)]
pub struct ExternalMediaReply {
    /// The new channel.
    pub channel: Channel,
    /// Where its RTP comes from.
    pub local: SocketAddr,
}

/// A leg from Asterisk to us over TCP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamMedia<'a> {
    /// Id of the new channel, ours, unused, at most 149 characters.
    pub channel_id: &'a str,
    /// Asterisk's name of the format.
    pub format: &'a str,
    /// Which transport.
    pub kind: StreamKind<'a>,
}

/// A transport over TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamKind<'a> {
    /// Asterisk connects to `host` at once, within 2 s, and sends `id` first.
    AudioSocket {
        /// Where we wait.
        host: SocketAddr,
        /// What names the connection.
        id: Uuid,
    },
    /// Asterisk waits for a media WebSocket at its HTTP server; the channel enters the application once it is open.
    WebSocketIncoming,
    /// Asterisk opens a media WebSocket at once, by an entry of its websocket_client.conf, with `leg=<uuid>` in its query.
    WebSocketOutgoing {
        /// The entry.
        client: &'a str,
        /// What names the connection.
        leg: Uuid,
    },
}

/// Why a channel is hung up, told to its far end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HangupReason {
    /// The call is over.
    #[default]
    Normal,
    /// Busy.
    Busy,
    /// No way to carry the call.
    Congestion,
    /// Nobody answered.
    NoAnswer,
}

/// A new call.
#[derive(Clone, Debug)]
pub struct Originate<'a> {
    /// Whom to call: `PJSIP/alice`, `Local/100@default/n`.
    pub endpoint: &'a str,
    /// Id of the new channel, ours. A `Local` channel's other half gets the same with `;2` behind it.
    pub channel_id: &'a str,
    /// Where it goes once answered.
    pub then: Then<'a>,
    /// `"name" <number>`; empty for none.
    pub caller_id: &'a str,
    /// Formats it offers, such as `slin` or `ulaw,alaw`; empty for the endpoint's own. A `Local` channel without any takes
    /// slin192, and its audio comes out resampled and at half its level.
    pub formats: &'a str,
    /// Longest ringing.
    pub timeout: Duration,
    /// Channel variables.
    pub variables: BTreeMap<String, String>,
}

/// Where an originated channel goes.
#[derive(Clone, Copy, Debug)]
pub enum Then<'a> {
    /// Into our application, with these arguments.
    App {
        /// Comma-separated.
        args: &'a str,
    },
    /// Into the dialplan, at priority 1.
    Dialplan {
        /// Context.
        context: &'a str,
        /// Extension.
        exten: &'a str,
    },
}

#[derive(Deserialize)]
struct Value {
    value: String,
}

const LOCAL_ADDRESS: &str = "UNICASTRTP_LOCAL_ADDRESS";
const LOCAL_PORT: &str = "UNICASTRTP_LOCAL_PORT";
const CONNECTION_ID: &str = "MEDIA_WEBSOCKET_CONNECTION_ID";

impl AriClient {
    /// One channel.
    ///
    /// # Errors
    /// [`AriError::NotFound`] once it is gone, or any other.
    pub async fn channel(&self, id: &str) -> Result<Channel, AriError> {
        self.json(Method::GET, &["channels", id], &[], None).await
    }

    /// Listen to one direction of `channel`, which need not be in Stasis. The new channel `snoop_id` gets a StasisStart with
    /// `app_args` (comma-separated) and may join a bridge only after that. It ends with the channel it hears.
    ///
    /// # Errors
    /// [`AriError::NotFound`] if the channel is gone; an id in use is [`AriError::Refused`] with 500; or any other.
    pub async fn snoop(
        &self,
        channel: &str,
        snoop_id: &str,
        spy: Spy,
        app_args: &str,
    ) -> Result<Channel, AriError> {
        let spy = match spy {
            Spy::In => "in",
            Spy::Out => "out",
        };
        let query = [("app", self.config().app.as_str()), ("spy", spy), ("appArgs", app_args)];
        self.json(Method::POST, &["channels", channel, "snoop", snoop_id], &query, None).await
    }

    /// Make an RTP leg to us. Its StasisStart may come before this returns. Nothing ends it but a hangup: not the end of what
    /// it hears, not silence.
    ///
    /// # Errors
    /// Any [`AriError`]. After [`AriError::Timeout`] or [`AriError::BadReply`] the leg may exist.
    pub async fn external_media(&self, leg: &ExternalMedia<'_>) -> Result<ExternalMediaReply, AriError> {
        let host = leg.external_host.to_string();
        let query = [
            ("app", self.config().app.as_str()),
            ("channelId", leg.channel_id),
            ("external_host", &host),
            ("format", leg.format),
            ("data", leg.data),
        ];
        let channel: Channel = self.json(Method::POST, &["channels", "externalMedia"], &query, None).await?;
        let port = match channel.channelvars.get(LOCAL_PORT) {
            Some(port) => port.clone(),
            None => self.required_variable(leg.channel_id, LOCAL_PORT).await?,
        };
        let ip = match (self.config().media_address, channel.channelvars.get(LOCAL_ADDRESS)) {
            (Some(ip), _) => ip.to_string(),
            (None, Some(ip)) => ip.clone(),
            (None, None) => self.required_variable(leg.channel_id, LOCAL_ADDRESS).await?,
        };
        match (ip.parse::<IpAddr>(), port.parse::<u16>()) {
            (Ok(ip), Ok(port)) if port != 0 => {
                Ok(ExternalMediaReply { channel, local: SocketAddr::new(ip, port) })
            }
            _ => Err(AriError::BadReply {
                request: "POST /channels/externalMedia".to_owned(),
                reason: format!("the leg's RTP address {ip:?} port {port:?} is none"),
            }),
        }
    }

    /// Make a leg to us over TCP. Its connection, and its StasisStart, may come before this returns. It ends with its
    /// connection. Returns what names that: for [`StreamKind::WebSocketIncoming`] Asterisk's choice, else ours.
    ///
    /// # Errors
    /// Any [`AriError`]. After [`AriError::Timeout`] or [`AriError::BadReply`] the leg may exist.
    pub async fn stream_media(&self, leg: &StreamMedia<'_>) -> Result<Uuid, AriError> {
        let mut query = vec![
            ("app", self.config().app.clone()),
            ("channelId", leg.channel_id.to_owned()),
            ("format", leg.format.to_owned()),
        ];
        match leg.kind {
            StreamKind::AudioSocket { host, id } => query.extend([
                ("encapsulation", "audiosocket".to_owned()),
                ("transport", "tcp".to_owned()),
                ("external_host", host.to_string()),
                ("data", id.to_string()),
            ]),
            StreamKind::WebSocketIncoming => query.extend([
                ("encapsulation", "none".to_owned()),
                ("transport", "websocket".to_owned()),
                ("connection_type", "server".to_owned()),
                ("external_host", "INCOMING".to_owned()),
                ("data", leg.channel_id.to_owned()),
                ("transport_data", "f(json)".to_owned()),
            ]),
            StreamKind::WebSocketOutgoing { client, leg: id } => query.extend([
                ("encapsulation", "none".to_owned()),
                ("transport", "websocket".to_owned()),
                ("connection_type", "client".to_owned()),
                ("external_host", client.to_owned()),
                ("data", leg.channel_id.to_owned()),
                ("transport_data", format!("f(json)v(leg={id})")),
            ]),
        }
        let query: Vec<_> = query.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let channel: Channel = self.json(Method::POST, &["channels", "externalMedia"], &query, None).await?;
        let connection = match leg.kind {
            StreamKind::AudioSocket { id, .. } | StreamKind::WebSocketOutgoing { leg: id, .. } => {
                return Ok(id);
            }
            StreamKind::WebSocketIncoming => {
                channel.channelvars.get(CONNECTION_ID).cloned().unwrap_or_default()
            }
        };
        connection.parse().map_err(|_| AriError::BadReply {
            request: "POST /channels/externalMedia".to_owned(),
            reason: format!(
                "{CONNECTION_ID} is {connection:?}, and not a UUID; is chan_websocket.so loaded?"
            ),
        })
    }

    /// Answer a channel.
    ///
    /// # Errors
    /// [`AriError::NotInStasis`], [`AriError::NotFound`], or any other.
    pub async fn answer(&self, channel: &str) -> Result<(), AriError> {
        self.done(Method::POST, &["channels", channel, "answer"], &[]).await
    }

    /// Let a channel leave our application and go on in the dialplan, at the priority after `Stasis()`.
    ///
    /// # Errors
    /// [`AriError::NotInStasis`], [`AriError::NotFound`], or any other.
    pub async fn continue_in_dialplan(&self, channel: &str) -> Result<(), AriError> {
        self.done(Method::POST, &["channels", channel, "continue"], &[]).await
    }

    /// Hang a channel up; one that is gone is a success. One removal at a time: it may wait `request_timeout` for its turn, and
    /// as long again for its reply.
    ///
    /// # Errors
    /// Any [`AriError`] but [`AriError::NotFound`].
    pub async fn hangup(&self, channel: &str, reason: HangupReason) -> Result<(), AriError> {
        let reason = match reason {
            HangupReason::Normal => "normal",
            HangupReason::Busy => "busy",
            HangupReason::Congestion => "congestion",
            HangupReason::NoAnswer => "no_answer",
        };
        self.remove(&["channels", channel], &[("reason", reason)]).await
    }

    /// A variable or function (`CHANNEL(audioreadformat)`) of a channel; `None` if it is not set.
    ///
    /// # Errors
    /// [`AriError::NotFound`] if the channel is gone, or any other.
    pub async fn get_variable(&self, channel: &str, name: &str) -> Result<Option<String>, AriError> {
        let parts = ["channels", channel, "variable"];
        match self.json(Method::GET, &parts, &[("variable", name)], None).await {
            Ok(Value { value }) => Ok(Some(value)),
            Err(AriError::NotFound { message, .. }) if message.contains("variable") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Play `media` (`sound:demo-congrats`) to a channel; a PlaybackFinished with `playback_id`, ours, tells its end.
    ///
    /// # Errors
    /// [`AriError::NotInStasis`], [`AriError::NotFound`], or any other.
    pub async fn play(&self, channel: &str, media: &str, playback_id: &str) -> Result<Playback, AriError> {
        let parts = ["channels", channel, "play", playback_id];
        self.json(Method::POST, &parts, &[("media", media)], None).await
    }

    /// Place a call.
    ///
    /// # Errors
    /// Any [`AriError`]. An endpoint that cannot be called may well be accepted here and destroyed at once.
    pub async fn originate(&self, call: &Originate<'_>) -> Result<Channel, AriError> {
        let timeout = call.timeout.as_secs().max(1).to_string();
        let mut query =
            vec![("endpoint", call.endpoint), ("channelId", call.channel_id), ("timeout", &timeout)];
        match call.then {
            Then::App { args } => query.extend([("app", self.config().app.as_str()), ("appArgs", args)]),
            Then::Dialplan { context, exten } => {
                query.extend([("context", context), ("extension", exten), ("priority", "1")]);
            }
        }
        let optional = [("callerId", call.caller_id), ("formats", call.formats)];
        query.extend(optional.into_iter().filter(|(_, value)| !value.is_empty()));
        let body = serde_json::json!({ "variables": call.variables });
        self.json(Method::POST, &["channels"], &query, Some(&body)).await
    }

    async fn required_variable(&self, channel: &str, name: &str) -> Result<String, AriError> {
        self.get_variable(channel, name).await?.ok_or_else(|| AriError::BadReply {
            request: "POST /channels/externalMedia".to_owned(),
            reason: format!("neither the reply nor the channel has {name}; is chan_rtp.so loaded?"),
        })
    }
}

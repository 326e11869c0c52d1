//! One connection: what comes over it, and frames of audio to it. Nothing here waits for the other side to take anything.

use std::io;

use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::media::audiosocket::{self, Decoder, Frame};
use crate::media::chan_websocket::Event;
use crate::media::codec::Codec;
use crate::media::stream::encode;

/// Something that came.
#[derive(Debug)]
pub(super) enum Item<'a> {
    Audio(&'a [u8]),
    Digit(char),
    /// Nothing that a leg has a use for.
    Invalid,
    /// Send no audio from now on, or do so again.
    Hold(bool),
}

/// How a connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkEnd {
    #[error("Asterisk hung up")]
    Closed,
    #[error("it broke: {0}")]
    Broken(String),
    #[error("{0}")]
    Protocol(String),
}

impl LinkEnd {
    /// Say so of `whose` connection.
    pub(super) fn log(&self, whose: &str) {
        match self {
            Self::Closed => tracing::debug!(whose, "a connection was closed"),
            _ => tracing::warn!(whose, reason = %self, "a connection is closed"),
        }
    }
}

#[derive(Debug)]
pub(in crate::net) enum Link {
    AudioSocket(AudioSocketLink),
    WebSocket(Box<WebSocketLink>),
}

impl Link {
    /// Wait until something comes, and hand it on. Nothing is lost if this is dropped while it waits.
    pub(super) async fn receive(&mut self, codec: Codec, take: impl FnMut(Item<'_>)) -> Result<(), LinkEnd> {
        match self {
            Self::AudioSocket(link) => link.receive(codec, take).await,
            Self::WebSocket(link) => link.receive(codec, take).await,
        }
    }

    /// Send a frame, unless what was sent before is not taken yet: then it is dropped, and false returned.
    pub(super) fn send(&mut self, codec: Codec, pcm: &[i16]) -> Result<bool, LinkEnd> {
        match self {
            Self::AudioSocket(link) => link.send(pcm, codec),
            Self::WebSocket(link) => link.send(codec, pcm),
        }
    }
}

/// An AudioSocket connection whose UUID has been read.
#[derive(Debug)]
pub(in crate::net) struct AudioSocketLink {
    pub(super) stream: TcpStream,
    pub(super) decoder: Decoder,
    /// The frame being sent, and what of it the system has taken.
    pub(super) out: Vec<u8>,
    pub(super) sent: usize,
}

impl AudioSocketLink {
    pub(super) fn new(stream: TcpStream, decoder: Decoder) -> Self {
        Self { stream, decoder, out: Vec::with_capacity(audiosocket::MAX_PAYLOAD), sent: 0 }
    }

    async fn receive(&mut self, codec: Codec, mut take: impl FnMut(Item<'_>)) -> Result<(), LinkEnd> {
        // What came with the UUID waits already.
        if self.hand_on(codec, &mut take)? {
            return Ok(());
        }
        self.stream.readable().await.map_err(broken)?;
        match self.stream.try_read(self.decoder.space()) {
            Ok(0) => return Err(LinkEnd::Closed),
            Ok(bytes) => self.decoder.filled(bytes),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(broken(error)),
        }
        self.hand_on(codec, &mut take).map(drop)
    }

    fn hand_on(&mut self, codec: Codec, take: &mut impl FnMut(Item<'_>)) -> Result<bool, LinkEnd> {
        let mut any = false;
        while let Some(frame) = self.decoder.next_frame().map_err(|e| LinkEnd::Protocol(e.to_string()))? {
            any = true;
            match frame {
                Frame::Audio { rate, payload } if rate == codec.sample_rate() => take(Item::Audio(payload)),
                Frame::Dtmf(digit) => take(Item::Digit(digit)),
                Frame::Hangup => return Err(LinkEnd::Closed),
                Frame::Audio { .. } | Frame::Error(_) | Frame::Id(_) => take(Item::Invalid),
            }
        }
        Ok(any)
    }

    /// One write a frame: Asterisk hangs up if a payload is not there within 5 ms of its header.
    fn send(&mut self, pcm: &[i16], codec: Codec) -> Result<bool, LinkEnd> {
        let is_free = self.sent == self.out.len();
        if is_free {
            let Some(kind) = audiosocket::audio_kind(codec.sample_rate()) else { return Ok(false) };
            self.out.clear();
            self.sent = 0;
            audiosocket::write_audio(kind, pcm, &mut self.out);
        }
        match self.stream.try_write(&self.out[self.sent..]) {
            Ok(bytes) => self.sent += bytes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(broken(error)),
        }
        Ok(is_free)
    }
}

/// A media WebSocket, whichever side opened it.
#[derive(Debug)]
pub(in crate::net) struct WebSocketLink {
    pub(super) socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// What was sent before has been taken by the system.
    is_free: bool,
    /// Asterisk named another format than that of the leg.
    is_foreign: bool,
}

impl WebSocketLink {
    pub(super) fn new(socket: WebSocketStream<MaybeTlsStream<TcpStream>>) -> Self {
        Self { socket, is_free: true, is_foreign: false }
    }

    async fn receive(&mut self, codec: Codec, mut take: impl FnMut(Item<'_>)) -> Result<(), LinkEnd> {
        let Some(message) = self.socket.next().await else { return Err(LinkEnd::Closed) };
        match message.map_err(broken)? {
            Message::Binary(_) if self.is_foreign => take(Item::Invalid),
            // Also before MEDIA_START, which it may overtake (asterisk#1712): the format is the one that was asked for.
            Message::Binary(payload) => take(Item::Audio(&payload)),
            Message::Text(text) => match Event::parse(&text) {
                Ok(event) => self.told(event, codec, take),
                Err(error) => return Err(LinkEnd::Protocol(error.to_string())),
            },
            Message::Close(_) => return Err(LinkEnd::Closed),
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
        }
        Ok(())
    }

    fn told(&mut self, event: Event, codec: Codec, mut take: impl FnMut(Item<'_>)) {
        match event {
            Event::MediaStart(start) => {
                tracing::debug!(?start, "media WebSocket");
                self.is_foreign = !start.format.is_empty() && start.format != codec.name();
                if self.is_foreign {
                    tracing::error!(
                        format = start.format,
                        asked = codec.name(),
                        "a leg has another format than asked"
                    );
                }
            }
            Event::Dtmf { digit } => take(Item::Digit(digit)),
            Event::Xoff => take(Item::Hold(true)),
            Event::Xon => take(Item::Hold(false)),
            Event::Error { text } => tracing::warn!(text, "chan_websocket refused a command"),
            other => tracing::debug!(?other, "media WebSocket"),
        }
    }

    fn send(&mut self, codec: Codec, pcm: &[i16]) -> Result<bool, LinkEnd> {
        if !self.is_free {
            self.flush()?;
        }
        if !self.is_free {
            return Ok(false);
        }
        let mut payload = Vec::with_capacity(2 * pcm.len());
        encode(codec, pcm, &mut payload);
        let fed = self.socket.feed(Message::Binary(payload.into())).now_or_never();
        let taken = fed.transpose().map_err(broken)?.is_some();
        self.flush()?;
        Ok(taken)
    }

    /// Also sends the answers to pings, which nothing else does.
    fn flush(&mut self) -> Result<(), LinkEnd> {
        self.is_free = self.socket.flush().now_or_never().transpose().map_err(broken)?.is_some();
        Ok(())
    }
}

fn broken(error: impl std::fmt::Display) -> LinkEnd {
    LinkEnd::Broken(error.to_string())
}

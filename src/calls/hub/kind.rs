//! The types of events.

/// What happened: the envelope's `type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EventKind {
    /// The node lost Asterisk's event socket. No call.
    AriDisconnected,
    /// The node has Asterisk's event socket (again). No call.
    AriConnected,
    /// The call was answered.
    CallAnswered,
    /// A call began in Asterisk; whether it comes to us is not known. No call.
    CallDetected,
    /// The call is over and its files are complete but for a transcript that is `pending`.
    CallEnded,
    /// A transfer put another channel in the place of the call's own.
    CallMoved,
    /// The call is not taken: it goes on in Asterisk, unheard. The only event of it.
    CallRejected,
    /// The first event of a call that is taken.
    CallStarted,
    /// A key was pressed.
    Dtmf,
    /// The call goes on without this leg.
    LegFailed,
    /// Audio of a leg is missing.
    LegGap,
    /// A leg's way from Asterisk broke; another one is being made.
    LegInterrupted,
    /// Packets again after a stall.
    LegResumed,
    /// A leg's way from Asterisk to us is complete.
    LegStarted,
    /// No packets for the stall time.
    LegStalled,
    /// Something is done later, or not at all, for want of capacity. Of a call or of the node.
    Overload,
    /// The caller hears no more of a piece of audio.
    PlaybackFinished,
    /// The caller hears the beginning of a piece of audio.
    PlaybackStarted,
    /// A recording could not be made or finished.
    RecordingFailed,
    /// A recording is complete.
    RecordingSaved,
    /// The last word on an utterance.
    TranscriptFinal,
    /// An utterance as understood so far.
    TranscriptPartial,
    /// The transcript is written: nothing will be said of its words any more.
    TranscriptSaved,
    /// Read from the journal of a newer Sidetone; never published.
    Unknown,
}

impl EventKind {
    /// Every kind that is published.
    pub const ALL: [Self; 23] = [
        Self::AriDisconnected,
        Self::AriConnected,
        Self::CallAnswered,
        Self::CallDetected,
        Self::CallEnded,
        Self::CallMoved,
        Self::CallRejected,
        Self::CallStarted,
        Self::Dtmf,
        Self::LegFailed,
        Self::LegGap,
        Self::LegInterrupted,
        Self::LegResumed,
        Self::LegStarted,
        Self::LegStalled,
        Self::Overload,
        Self::PlaybackFinished,
        Self::PlaybackStarted,
        Self::RecordingFailed,
        Self::RecordingSaved,
        Self::TranscriptFinal,
        Self::TranscriptPartial,
        Self::TranscriptSaved,
    ];

    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AriDisconnected => "ari.disconnected",
            Self::AriConnected => "ari.connected",
            Self::CallAnswered => "call.answered",
            Self::CallDetected => "call.detected",
            Self::CallEnded => "call.ended",
            Self::CallMoved => "call.moved",
            Self::CallRejected => "call.rejected",
            Self::CallStarted => "call.started",
            Self::Dtmf => "dtmf",
            Self::LegFailed => "leg.failed",
            Self::LegGap => "leg.gap",
            Self::LegInterrupted => "leg.interrupted",
            Self::LegResumed => "leg.resumed",
            Self::LegStarted => "leg.started",
            Self::LegStalled => "leg.stalled",
            Self::Overload => "overload",
            Self::PlaybackFinished => "playback.finished",
            Self::PlaybackStarted => "playback.started",
            Self::RecordingFailed => "recording.failed",
            Self::RecordingSaved => "recording.saved",
            Self::TranscriptFinal => "transcript.final",
            Self::TranscriptPartial => "transcript.partial",
            Self::TranscriptSaved => "transcript.saved",
            Self::Unknown => "unknown",
        }
    }

    /// The kind of this name; [`EventKind::Unknown`] if there is none.
    pub fn from_name(name: &str) -> Self {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name).unwrap_or(Self::Unknown)
    }
}

//! Between Asterisk's REST interface and the machine: requests out, replies and events in.

use crate::asterisk::ari::{
    self, AriClient, AriError, AriEvent as Raw, BridgeKind, ExternalMedia, HangupReason, Spy, StreamKind,
    StreamMedia,
};
use crate::media::leg::Leg;

use super::ids::ObjectKind;
use super::machine::{AriEvent, ChannelState, ChannelView, MediaSource, Reply, Request, Snapshot};

/// Send `request` and tell what became of it; a leg is made of the kind `stream`, or RTP without one. Never fails: an error
/// is a reply as well.
pub async fn carry_out(client: &AriClient, request: &Request, stream: Option<StreamKind<'_>>) -> Reply {
    let done = match request {
        Request::Subscribe { channel } => client.subscribe(&format!("channel:{channel}")).await.map(drop),
        Request::Answer { channel } => client.answer(channel).await,
        Request::Continue { channel } => client.continue_in_dialplan(channel).await,
        Request::Hangup { channel } => client.hangup(channel, HangupReason::Normal).await,
        Request::Probe { channel } => {
            return client.channel(channel).await.map_or_else(unanswered, |c| Reply::Channel(view(&c)));
        }
        Request::CreateBridge { id } => {
            let id = id.to_string();
            client.create_bridge(&id, &id, BridgeKind::Mixing).await.map(drop)
        }
        Request::Snoop { id, target, leg } => {
            let spy = match leg {
                Leg::Caller => Spy::In,
                Leg::Callee => Spy::Out,
            };
            let id = id.to_string();
            client.snoop(target, &id, spy, &id).await.map(drop)
        }
        Request::ExternalMedia { id, external_host, format } => {
            let id = id.to_string();
            if let Some(kind) = stream {
                let leg = StreamMedia { channel_id: &id, format, kind };
                return match client.stream_media(&leg).await {
                    Ok(connection) => Reply::Media { source: MediaSource::Stream(connection) },
                    Err(error) => unanswered(error),
                };
            }
            let leg = ExternalMedia { channel_id: &id, external_host: *external_host, format, data: &id };
            return match client.external_media(&leg).await {
                Ok(reply) => Reply::Media { source: MediaSource::Rtp(reply.local) },
                Err(error) => unanswered(error),
            };
        }
        Request::AddChannel { bridge, channel } => client.add_channel(&bridge.to_string(), channel).await,
        Request::Delete { id } => match id.role.kind() {
            ObjectKind::Channel => client.hangup(&id.to_string(), HangupReason::Normal).await,
            ObjectKind::Bridge => client.delete_bridge(&id.to_string()).await,
        },
    };
    done.map_or_else(unanswered, |()| Reply::Done)
}

/// The reply that an error amounts to: was it not done, or does nobody know?
fn unanswered(error: AriError) -> Reply {
    let reason = error.to_string();
    match error {
        AriError::NotFound { .. } => Reply::NotFound,
        AriError::Conflict { .. } => Reply::Refused { status: 409, reason },
        AriError::NotInStasis { .. } => Reply::Refused { status: 422, reason },
        AriError::Unauthorised { .. } => Reply::Refused { status: 401, reason },
        AriError::Refused { status, .. } if status < 500 => Reply::Refused { status, reason },
        _ => Reply::Unknown { reason },
    }
}

/// The channel as the machine sees it.
pub fn view(channel: &ari::Channel) -> ChannelView {
    let state = match channel.state {
        ari::ChannelState::Up => ChannelState::Up,
        ari::ChannelState::Ring | ari::ChannelState::Ringing => ChannelState::Ringing,
        _ => ChannelState::Down,
    };
    ChannelView {
        id: channel.id.clone(),
        name: channel.name.clone(),
        state,
        caller_number: channel.caller.number.clone(),
        caller_name: channel.caller.name.clone(),
        dialled: channel.dialplan.exten.clone(),
    }
}

/// The event as the machine sees it, and the ids that it is about; `None` if no machine has a use for it.
pub fn event(raw: &Raw) -> Option<(AriEvent, Vec<String>)> {
    let cause = |cause: i32| u32::try_from(cause).ok().filter(|&c| c != 0);
    let event = match raw {
        Raw::StasisStart { channel, replace_channel, .. } => AriEvent::StasisStart {
            channel: view(channel),
            replaces: replace_channel.as_ref().map(|c| c.id.clone()),
        },
        Raw::StasisEnd { channel } => AriEvent::StasisEnd { channel: channel.id.clone() },
        Raw::ChannelStateChange { channel } => {
            AriEvent::StateChanged { channel: channel.id.clone(), state: view(channel).state }
        }
        Raw::ChannelHangupRequest { channel, cause: c, .. } => {
            AriEvent::HangupRequested { channel: channel.id.clone(), cause: c.and_then(cause) }
        }
        Raw::ChannelDestroyed { channel, cause: c, cause_txt } => AriEvent::Destroyed {
            channel: channel.id.clone(),
            cause: cause(*c),
            cause_text: cause_txt.clone(),
        },
        Raw::ChannelDtmfReceived { channel, digit, duration_ms } => AriEvent::Dtmf {
            channel: channel.id.clone(),
            digit: digit.chars().next()?,
            duration_ms: *duration_ms,
        },
        Raw::ChannelEnteredBridge { bridge, channel: Some(channel) } => {
            AriEvent::EnteredBridge { channel: channel.id.clone(), bridge: bridge.id.clone() }
        }
        Raw::ChannelLeftBridge { bridge, channel } => {
            AriEvent::LeftBridge { channel: channel.id.clone(), bridge: bridge.id.clone() }
        }
        Raw::BridgeDestroyed { bridge } => AriEvent::BridgeDestroyed { bridge: bridge.id.clone() },
        _ => return None,
    };
    let subjects = match &event {
        AriEvent::StasisStart { channel, replaces } => {
            std::iter::once(channel.id.clone()).chain(replaces.clone()).collect()
        }
        AriEvent::StasisEnd { channel }
        | AriEvent::StateChanged { channel, .. }
        | AriEvent::HangupRequested { channel, .. }
        | AriEvent::Destroyed { channel, .. }
        | AriEvent::Dtmf { channel, .. } => vec![channel.clone()],
        AriEvent::EnteredBridge { channel, bridge } | AriEvent::LeftBridge { channel, bridge } => {
            vec![channel.clone(), bridge.clone()]
        }
        AriEvent::BridgeDestroyed { bridge } => vec![bridge.clone()],
    };
    Some((event, subjects))
}

/// List what there is, in the order that makes the listing safe: application, channels, bridges.
///
/// # Errors
/// The first request that failed.
pub async fn snapshot(client: &AriClient) -> Result<Snapshot, AriError> {
    let app = client.config().app.clone();
    let in_app = client.application(&app).await?.map(|a| a.channel_ids).unwrap_or_default();
    let channels = client.channels().await?;
    let bridges = client.bridges().await?;
    let stasis_args = channels
        .iter()
        .filter(|c| c.dialplan.app_name == "Stasis")
        .filter_map(|c| {
            let mut data = c.dialplan.app_data.split(',').map(str::to_owned);
            (data.next()? == app).then(|| (c.id.clone(), data.collect()))
        })
        .collect();
    Ok(Snapshot {
        channels: channels.iter().map(|c| (c.id.clone(), view(c))).collect(),
        in_app: in_app.into_iter().collect(),
        stasis_args,
        bridges: bridges.into_iter().map(|b| (b.id, b.channels.into_iter().collect())).collect(),
    })
}

//! Is the application free? Whoever opens an event socket takes the application from whoever has it, so this is asked first.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::channels::{ExternalMedia, HangupReason};
use super::client::AriClient;
use super::error::AriError;

/// Ids of probe channels start with this. Our own event socket leaves out what happens to them.
pub const PROBE_PREFIX: &str = "sidetone-probe-";

/// A probe that is still in Stasis after this long is held by a client.
const HELD_AFTER: Duration = Duration::from_millis(150);
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// Make sure that no client holds our application. For the first connection only: Asterisk may take our own broken socket for
/// a live one for a while.
///
/// An application that Asterisk does not know is free. One that it knows may be held, or have no client but channels or
/// bridges left over from one that crashed; the ARI shows no difference. So a short-lived channel is sent into it: `Stasis()`
/// fails at once where no client is connected, and the channel is gone; otherwise it stays, and is removed. Seen on 16.28
/// and 22.10. Its holder sees a StasisStart of a channel named [`PROBE_PREFIX`]….
///
/// # Errors
/// [`AriError::AppTaken`], or any other.
pub async fn ensure_app_is_free(client: &AriClient) -> Result<(), AriError> {
    let app = &client.config().app;
    if client.application(app).await?.is_none() {
        return Ok(());
    }
    let probe = format!("{PROBE_PREFIX}{}", uuid::Uuid::now_v7().simple());
    let held = is_held(client, &probe).await;
    // Also after an error: the probe may have been made.
    let removed = client.hangup(&probe, HangupReason::Normal).await;
    if held? {
        return Err(AriError::AppTaken { app: app.clone() });
    }
    removed
}

async fn is_held(client: &AriClient, probe: &str) -> Result<bool, AriError> {
    // Port 9 (discard): nobody need listen for the moment that the leg lives.
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
    let leg = ExternalMedia { channel_id: probe, external_host: nowhere, format: "ulaw", data: "probe" };
    match client.external_media(&leg).await {
        // A leg that is gone before Asterisk has written its reply makes the reply an error: the look below decides.
        Ok(_) | Err(AriError::NotFound { .. } | AriError::Refused { status: 500, .. }) => {}
        Err(error) => return Err(error),
    }
    let deadline = client.config().request_timeout;
    let mut waited = Duration::ZERO;
    let mut in_stasis = Duration::ZERO;
    loop {
        match client.channel(probe).await {
            Err(AriError::NotFound { .. }) => return Ok(false),
            Err(error) => return Err(error),
            Ok(channel) if channel.dialplan.app_name == "Stasis" => {
                if in_stasis >= HELD_AFTER {
                    return Ok(true);
                }
                in_stasis += LOOK_EVERY;
            }
            Ok(_) => {}
        }
        if waited >= deadline {
            let request = "POST /channels/externalMedia (probe)".to_owned();
            return Err(AriError::Timeout { request, after: deadline });
        }
        tokio::time::sleep(LOOK_EVERY).await;
        waited += LOOK_EVERY;
    }
}

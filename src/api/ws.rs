//! Live events over WebSocket: `/ws/events` for all calls, `/ws/calls/{id}/events` for one.
//!
//! A subscriber is a cursor: nothing is queued for it, and nobody waits for it.

mod follow;
mod socket;

use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::Deserialize;

use super::access::{Params, VisibleCall};
use super::auth::Principal;
use super::problem::Problem;
use super::state::AppState;
use follow::{AllCalls, Follow, OneCall};

/// Longest message that a client may send: it has nothing to say.
const MAX_INBOUND: usize = 4 << 10;

type Upgrade = Result<WebSocketUpgrade, WebSocketUpgradeRejection>;

#[derive(Deserialize)]
pub(super) struct AfterParams {
    after: Option<u64>,
}

/// Events of all calls that the caller may see, and of the node. Each has its `position` in front; `?after=POSITION`
/// goes on there, `?after=0` begins with all that the log still has, without it the subscriber gets what comes.
pub(super) async fn all(
    State(state): State<AppState>,
    principal: Principal,
    Params(params): Params<AfterParams>,
    upgrade: Upgrade,
) -> Result<Response, Problem> {
    let after = params.after.unwrap_or_else(|| state.hub.position());
    let source = AllCalls::new(&state, principal, after);
    upgraded(state, upgrade, source)
}

/// Events of one call with numbers above `?after=SEQ`, from its first without. After the last event of a call that is
/// over the connection is closed with 1000. A call that an earlier process had is waited for; one that is not taken up
/// in time is closed with 1013.
pub(super) async fn call(
    State(state): State<AppState>,
    VisibleCall(record): VisibleCall,
    Params(params): Params<AfterParams>,
    upgrade: Upgrade,
) -> Result<Response, Problem> {
    let source = OneCall::new(&state, record.call_id.clone(), params.after.unwrap_or(0));
    upgraded(state, upgrade, source)
}

fn upgraded(state: AppState, upgrade: Upgrade, source: impl Follow) -> Result<Response, Problem> {
    let upgrade = upgrade.map_err(|rejection| {
        Problem::new(
            StatusCode::UPGRADE_REQUIRED,
            "websocket-needed",
            "This is a WebSocket",
            rejection.body_text(),
            "Connect with ws:// or wss://.",
        )
        .with_header(header::UPGRADE, HeaderValue::from_static("websocket"))
    })?;
    let open = state.open.clone();
    Ok(upgrade
        .max_message_size(MAX_INBOUND)
        .on_upgrade(move |socket| open.track_future(socket::run(socket, state, source))))
}

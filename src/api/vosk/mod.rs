//! vosk-server's protocol, on a port of its own: what Asterisk's speech module and many clients speak (docs/listen.md).
//!
//! Every message of audio has one answer, in their order: what has become final, or what seems to be said at the moment. It
//! comes when the audio has been heard, and the final of an utterance that ended in it is there.

mod message;
mod shape;
mod stream;

use axum::Router;
use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use axum::routing::get;

pub use message::{Config, Message};

use super::auth;
use super::live::{MOST_MESSAGE, no_model};
use super::problem::Problem;
use super::state::AppState;

type Upgrade = Result<WebSocketUpgrade, WebSocketUpgradeRejection>;

/// All paths are the same.
pub(super) fn router(state: AppState) -> Router {
    Router::new()
        .route("/", get(open))
        .route("/{*path}", get(open))
        .route_layer(from_fn_with_state(state.clone(), auth::require))
        .with_state(state)
}

async fn open(State(state): State<AppState>, upgrade: Upgrade) -> Result<Response, Problem> {
    let service = state.live.clone().ok_or_else(no_model)?;
    let upgrade = upgrade.map_err(|rejection| {
        Problem::new(
            StatusCode::UPGRADE_REQUIRED,
            "websocket-needed",
            "This is a WebSocket",
            rejection.body_text(),
            "Connect with ws://; pages and files are at the port of `http.bind`.",
        )
    })?;
    let place = service.admit(1)?;
    let open = state.open.clone();
    // Asterisk offers `ws` as the protocol.
    Ok(upgrade
        .protocols(["ws"])
        .max_message_size(MOST_MESSAGE)
        .max_frame_size(MOST_MESSAGE)
        .on_upgrade(move |socket| open.track_future(stream::run(socket, state, service, place))))
}

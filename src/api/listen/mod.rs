//! `GET /v1/listen`: live transcription in Deepgram's shape, so that existing clients work unchanged (docs/listen.md).

mod channel;
mod control;
mod options;
mod shape;
mod stream;

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};

pub use control::Control;
pub use options::ListenOptions;

use super::access::Params;
use super::live::{MOST_MESSAGE, no_model, request_id};
use super::problem::Problem;
use super::state::AppState;

/// Deepgram's headers: which stream this is, and why there is none.
const REQUEST_ID: HeaderName = HeaderName::from_static("dg-request-id");
const ERROR: HeaderName = HeaderName::from_static("dg-error");

type Upgrade = Result<WebSocketUpgrade, WebSocketUpgradeRejection>;

/// Hear a client, whose query says how.
pub(super) async fn open(State(state): State<AppState>, uri: Uri, upgrade: Upgrade) -> Response {
    let id = request_id();
    let mut response = match accept(state, &uri, upgrade, &id) {
        Ok(response) => response,
        Err(problem) => {
            let words = problem.in_words().1;
            let mut response = problem.into_response();
            response.headers_mut().extend(HeaderValue::from_str(&words).ok().map(|words| (ERROR, words)));
            response
        }
    };
    response.headers_mut().extend(HeaderValue::from_str(&id).ok().map(|id| (REQUEST_ID, id)));
    response
}

fn accept(state: AppState, uri: &Uri, upgrade: Upgrade, id: &str) -> Result<Response, Problem> {
    let service = state.live.clone().ok_or_else(no_model)?;
    let Params(query) = Params(Query::<Vec<(String, String)>>::try_from_uri(uri)?.0);
    let options = ListenOptions::of(&query, service.engine.model(), &service.policy.language)?;
    if let (Some(words), true) = (service.engine.deaf_to(&options.language), options.language_asked) {
        return Err(Problem::bad_request(
            format!("`language`: {words}"),
            "Leave it out, or use another model.",
        ));
    }
    let upgrade = upgrade.map_err(not_a_websocket)?;
    let place = service.admit(options.lanes())?;
    let (open, id) = (state.open.clone(), id.to_owned());
    // Browsers cannot send headers: they bring the key as a protocol, of which one has to be chosen.
    Ok(upgrade
        .protocols(["token", "bearer"])
        .max_message_size(MOST_MESSAGE)
        .max_frame_size(MOST_MESSAGE)
        .on_upgrade(move |socket| open.track_future(stream::run(socket, state, service, options, id, place))))
}

fn not_a_websocket(rejection: WebSocketUpgradeRejection) -> Problem {
    Problem::new(
        StatusCode::UPGRADE_REQUIRED,
        "websocket-needed",
        "This is a WebSocket",
        rejection.body_text(),
        "Connect with ws:// or wss://; files are transcribed by POST /v1/audio/transcriptions.",
    )
    .with_header(header::UPGRADE, HeaderValue::from_static("websocket"))
}

/// Deepgram transcribes files here.
pub(super) async fn method_not_allowed() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method-not-allowed",
        "Only as a WebSocket",
        "Files are not transcribed at this path.",
        "Post them to /v1/audio/transcriptions; audio that is still being spoken goes to ws://…/v1/listen.",
    )
    .with_header(header::ALLOW, HeaderValue::from_static("GET"))
}

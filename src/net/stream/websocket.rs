//! Media WebSockets: opened by us at Asterisk's HTTP server, or by Asterisk at our port.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{MaybeTlsStream, accept_hdr_async_with_config, connect_async_with_config};
use uuid::Uuid;

use super::door::{Expected, Refusal};
use super::link::{Link, WebSocketLink};
use super::{StreamError, Way};
use crate::media::chan_websocket::{MAX_MESSAGE, SUBPROTOCOL};

/// Asterisk's HTTP server is on the same network, or on the same machine.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);

/// No message of Asterisk's is longer than what it takes itself; and of what it does not take, some seconds at the most wait.
fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE))
        .read_buffer_size(4_096)
        .write_buffer_size(0)
        .max_write_buffer_size(MAX_MESSAGE)
}

/// Open the media WebSocket `connection_id` at Asterisk's HTTP server, whose address is `base` (`ws://host:port`, with
/// http.conf's prefix if it has one). It is opened when the way is waited for.
pub fn connect(base: &str, connection_id: &str) -> Way {
    let base = format!("{}/media", base.trim_end_matches('/'));
    let url = format!("{base}/{connection_id}");
    Way {
        link: Box::pin(async move {
            let failed = |reason: String| StreamError::Connect { url: base.clone(), reason };
            let mut request = url.into_client_request().map_err(|error| failed(error.to_string()))?;
            let protocol = HeaderValue::from_static(SUBPROTOCOL);
            request.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
            let connecting = connect_async_with_config(request, Some(config()), true);
            match tokio::time::timeout(CONNECT_WITHIN, connecting).await {
                Ok(Ok((socket, _))) => Ok(Link::WebSocket(Box::new(WebSocketLink::new(socket)))),
                Ok(Err(error)) => Err(failed(error.to_string())),
                Err(_) => Err(failed(format!("no answer within {CONNECT_WITHIN:?}"))),
            }
        }),
    }
}

/// Take the WebSocket that Asterisk opens, if it is one that is expected.
#[expect(clippy::result_large_err, reason = "the library says what its callback returns")]
pub(super) async fn accept(
    stream: TcpStream,
    expected: Arc<Expected>,
    credentials: Arc<Option<(String, String)>>,
) -> Result<(), Refusal> {
    let mut place = Err(Refusal::Protocol);
    let check = |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
        if !offers_media(request.headers()) {
            return Err(refusal(StatusCode::BAD_REQUEST, "the sub-protocol must be `media`"));
        }
        if !may_come(request.headers(), credentials.as_ref().as_ref()) {
            place = Err(Refusal::Unknown);
            return Err(refusal(StatusCode::UNAUTHORIZED, "user and password are wrong"));
        }
        place = leg_of(request).and_then(|id| expected.take(id)).ok_or(Refusal::Unknown);
        if place.is_err() {
            return Err(refusal(StatusCode::NOT_FOUND, "no leg of that id is expected"));
        }
        let protocol = HeaderValue::from_static(SUBPROTOCOL);
        response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
        Ok(response)
    };
    let stream = MaybeTlsStream::Plain(stream);
    let accepted = accept_hdr_async_with_config(stream, check, Some(config())).await;
    let place = place?;
    let socket = accepted.map_err(|_| Refusal::Protocol)?;
    // A leg that has been given up at this very moment has no use for it.
    let _ = place.send(Link::WebSocket(Box::new(WebSocketLink::new(socket))));
    Ok(())
}

fn offers_media(headers: &HeaderMap) -> bool {
    let offered =
        headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    offered.flat_map(|value| value.split(',')).any(|protocol| protocol.trim() == SUBPROTOCOL)
}

fn may_come(headers: &HeaderMap, credentials: Option<&(String, String)>) -> bool {
    let Some((user, password)) = credentials else { return true };
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    let given = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
    is_equal(given, format!("Basic {pair}").as_bytes())
}

/// In a time that depends on the lengths alone.
fn is_equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |all, (a, b)| all | (a ^ b)) == 0
}

fn leg_of(request: &Request) -> Option<Uuid> {
    let mut pairs = request.uri().query()?.split('&');
    pairs.find_map(|pair| pair.strip_prefix("leg="))?.parse().ok()
}

fn refusal(status: StatusCode, words: &str) -> ErrorResponse {
    let mut response = ErrorResponse::new(Some(format!("{words}\n")));
    *response.status_mut() = status;
    response
}

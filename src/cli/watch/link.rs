//! The way to the server: its address, its WebSocket, and what it says when it refuses.

use std::time::Duration;

use reqwest::Url;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Error as WsError;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderValue, Response};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// Longest wait for what a call is, while its events wait to be shown.
const LOOK_UP: Duration = Duration::from_secs(2);

pub(super) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    /// Not an address that can be used.
    #[error("{0} is not an address of a server: write it as http://HOST:PORT")]
    Address(String),
    /// Not a key that can be sent.
    #[error("the key given with --key or SIDETONE_KEY has characters that no key has")]
    Key,
    /// The server says no, and would say it again.
    #[error("cannot follow {url}: {why}")]
    Refused {
        /// What was asked for.
        url: Url,
        /// In the server's words, and what to do.
        why: String,
    },
    /// Nobody answers, or not for now.
    #[error("cannot follow {url}: {why}: is `sidetone serve` running there?")]
    Away {
        /// What was asked for.
        url: Url,
        /// What the system said.
        why: String,
    },
}

/// Where events come from.
pub(super) struct Link {
    base: Url,
    call: Option<String>,
    key: Option<HeaderValue>,
    http: reqwest::Client,
}

impl Link {
    /// To the server at `address`, for the events of `call` or of all of them.
    pub(super) fn new(address: &str, call: Option<&str>, key: Option<&str>) -> Result<Self, LinkError> {
        let bad = || LinkError::Address(address.to_owned());
        let key = key.map(|key| format!("Bearer {key}").parse()).transpose().map_err(|_| LinkError::Key)?;
        let http = reqwest::Client::builder().no_proxy().timeout(LOOK_UP).build().map_err(|_| bad())?;
        Ok(Self { base: base(address).ok_or_else(bad)?, call: call.map(ToOwned::to_owned), key, http })
    }

    /// Name of the number in each event that says how far one has come.
    pub(super) fn cursor(&self) -> &'static str {
        if self.call.is_some() { "seq" } else { "position" }
    }

    /// Open the WebSocket; events after the cursor `after`, without it as the server has it.
    pub(super) async fn open(&self, after: Option<u64>) -> Result<Socket, LinkError> {
        let mut url = match &self.call {
            Some(call) => self.at(&["ws", "calls", call, "events"]),
            None => self.at(&["ws", "events"]),
        };
        // Between schemes of the web this cannot fail.
        let _ = url.set_scheme(if self.base.scheme() == "https" { "wss" } else { "ws" });
        if let Some(after) = after {
            url.query_pairs_mut().append_pair("after", &after.to_string());
        }
        let bad = |_| LinkError::Address(url.to_string());
        let mut request = url.as_str().into_client_request().map_err(bad)?;
        if let Some(key) = &self.key {
            request.headers_mut().insert("authorization", key.clone());
        }
        match timeout(CONNECT, tokio_tungstenite::connect_async(request)).await {
            Ok(Ok((socket, _))) => Ok(socket),
            Ok(Err(WsError::Http(reply))) if reply.status().is_server_error() => {
                Err(LinkError::Away { why: format!("HTTP {}", reply.status()), url })
            }
            Ok(Err(WsError::Http(reply))) => Err(LinkError::Refused { why: refusal(&reply), url }),
            Ok(Err(error)) => Err(LinkError::Away { why: error.to_string(), url }),
            Err(_) => Err(LinkError::Away { why: format!("no answer within {CONNECT:?}"), url }),
        }
    }

    /// The record of the call `id`, if the server shows it.
    pub(super) async fn record(&self, id: &str) -> Option<Value> {
        let mut request = self.http.get(self.at(&["api", "calls", id]));
        if let Some(key) = &self.key {
            request = request.header("authorization", key.clone());
        }
        request.send().await.ok()?.error_for_status().ok()?.json().await.ok()
    }

    fn at(&self, path: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url
    }
}

/// The address with the scheme of HTTP; those of WebSockets mean the same server.
fn base(address: &str) -> Option<Url> {
    let url = match address.split_once("://") {
        Some(("ws" | "http", rest)) => format!("http://{rest}"),
        Some(("wss" | "https", rest)) => format!("https://{rest}"),
        Some(_) => return None,
        None => format!("http://{address}"),
    };
    Url::parse(&url).ok().filter(Url::has_host)
}

/// The problem's own words (RFC 9457), with the remedy in terms of this command.
fn refusal(reply: &Response<Option<Vec<u8>>>) -> String {
    let body = reply.body().as_deref().unwrap_or_default();
    let problem: Value = serde_json::from_slice(body).unwrap_or_default();
    let said = |name: &str| problem[name].as_str().filter(|words| !words.is_empty());
    let key = "Give one with --key, or in the environment as SIDETONE_KEY.";
    match (reply.status().as_u16(), said("detail"), said("remedy")) {
        (401, detail, _) => format!("{} {key}", detail.unwrap_or("An API key is needed.")),
        (_, Some(detail), Some(remedy)) => format!("{detail} {remedy}"),
        (_, Some(detail), None) => detail.to_owned(),
        (status, None, _) => format!("HTTP {status}: is this the address of a Sidetone?"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_http_and_of_websockets_mean_the_same_server() {
        for (address, expected) in [
            ("ws://127.0.0.1:8090", "http://127.0.0.1:8090/"),
            ("http://127.0.0.1:8090/", "http://127.0.0.1:8090/"),
            ("127.0.0.1:8090", "http://127.0.0.1:8090/"),
            ("localhost:8090", "http://localhost:8090/"),
            ("wss://pbx.example/voice", "https://pbx.example/voice"),
            ("https://pbx.example", "https://pbx.example/"),
        ] {
            assert_eq!(base(address).map(String::from).as_deref(), Some(expected), "{address}");
        }
        for bad in ["ftp://h", "http://", "", "::"] {
            assert_eq!(base(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_refusal_that_is_no_problem_of_ours_shows_its_status() {
        let reply = Response::builder().status(404).body(Some(b"<html>".to_vec())).unwrap();
        assert_eq!(refusal(&reply), "HTTP 404: is this the address of a Sidetone?");
    }
}

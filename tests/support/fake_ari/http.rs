//! Requests and event sockets as they come in, and the faults that they meet.

use std::net::SocketAddr;

use axum::body::Body;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{ConnectInfo, FromRequestParts, Request, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio::sync::mpsc;

use super::Fault;
use super::routes::{Query, route};
use super::world::{Act, Shared};

pub(super) async fn serve(state: State<Shared>, peer: ConnectInfo<SocketAddr>, request: Request) -> Response {
    let shared = state.0.clone();
    let removals = usize::from(request.method() == Method::DELETE);
    {
        let mut world = shared.lock();
        world.removing += removals;
        world.most_removing = world.most_removing.max(world.removing);
    }
    let response = answer(state, peer, request).await;
    shared.lock().removing -= removals;
    response
}

async fn answer(
    State(shared): State<Shared>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let (mut parts, _body) = request.into_parts();
    let path = parts.uri.path().strip_prefix("/ari/").map(str::to_owned).unwrap_or_default();
    let query: Query = match axum::extract::Query::try_from_uri(&parts.uri) {
        Ok(axum::extract::Query(query)) => query,
        Err(_) => return error(400, "Bad query").into_response(),
    };
    let line = format!("{} /{path}", parts.method);
    let fault = {
        let mut world = shared.lock();
        world.requests.push(line.clone());
        world.connections.insert(peer);
        let hit = world.faults.iter().position(|(prefix, _)| line.starts_with(prefix));
        hit.map(|index| world.faults.remove(index).1)
    };
    if let Some(Fault::Refuse(status, message)) = fault {
        return error(status, message).into_response();
    }
    if !authorised(&parts.headers, &shared.lock().password) {
        return error(401, "Authentication required").into_response();
    }
    if path == "events" {
        if let Some(Fault::Lost) = fault {
            std::future::pending::<()>().await;
        }
        let Some(app) = query.get("app").filter(|app| !app.is_empty()).cloned() else {
            return error(400, "HTTP request is missing param: [app]").into_response();
        };
        return match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
            Ok(upgrade) => upgrade.on_upgrade(move |socket| hold(socket, shared, app)),
            Err(rejection) => rejection.into_response(),
        };
    }
    let segments: Vec<String> = path.split('/').map(decode).collect();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let (status, body) = route(&shared, &parts.method, &segments, &query);
    match fault {
        Some(Fault::Late(delay)) => tokio::time::sleep(delay).await,
        Some(Fault::Lost) => std::future::pending().await,
        Some(Fault::Garbled(text)) => return (StatusCode::OK, text).into_response(),
        _ => {}
    }
    let body = if status == 204 { Body::empty() } else { Body::from(body.to_string()) };
    (StatusCode::from_u16(status).unwrap(), body).into_response()
}

fn authorised(headers: &HeaderMap, password: &str) -> bool {
    use base64::Engine as _;
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("sidetone:{password}"));
    headers.get("authorization").is_some_and(|value| value.as_bytes() == format!("Basic {pair}").as_bytes())
}

// As Asterisk does it: a plus sign is a space, in paths too.
fn decode(segment: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = segment.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let hex = [rest.next().unwrap_or(b'0'), rest.next().unwrap_or(b'0')];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap_or(b'?'));
            }
            b'+' => bytes.push(b' '),
            other => bytes.push(other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn hold(mut socket: WebSocket, shared: Shared, app: String) {
    let (tx, mut acts) = mpsc::unbounded_channel();
    {
        let mut world = shared.lock();
        world.sockets_opened += 1;
        let replaced = world.apps.entry(app.clone()).or_default().socket.replace(tx.clone());
        if let Some(old) = replaced {
            let event = json!({"type": "ApplicationReplaced", "application": app});
            let _ = old.send(Act::Send(event.to_string()));
        }
    }
    loop {
        tokio::select! {
            act = acts.recv() => match act {
                Some(Act::Send(text)) => {
                    if socket.send(Message::text(text)).await.is_err() { break }
                }
                Some(Act::Flood(events)) => {
                    for _ in 0..events {
                        if socket.send(Message::text(r#"{"type":"Flood"}"#)).await.is_err() { break }
                    }
                }
                Some(Act::Freeze) => std::future::pending().await,
                Some(Act::Cut) | None => break,
                Some(Act::Close(code)) => {
                    let _ = socket.send(Message::Close(Some(CloseFrame { code, reason: "".into() }))).await;
                    break;
                }
            },
            frame = socket.recv() => match frame {
                Some(Ok(_)) => {}
                _ => break,
            },
        }
    }
    let mut world = shared.lock();
    let leave = world.apps.get_mut(&app).is_some_and(|held| {
        if held.socket.as_ref().is_some_and(|socket| socket.same_channel(&tx)) {
            held.socket = None;
        }
        held.socket.is_none() && held.channels.is_empty() && held.bridges.is_empty()
    });
    if leave {
        world.apps.remove(&app);
    }
}

fn error(status: u16, message: &str) -> (StatusCode, String) {
    (StatusCode::from_u16(status).unwrap(), json!({ "message": message }).to_string())
}

//! Who may come in: API keys, and without any of them only this machine.
//!
//! A key is `st_<tenant>_<secret>`; the tenant is what stands before the second `_`, so it has none itself. The key of
//! tenant `*` sees the calls of all. Keys are kept as SHA-256, and may be configured so.

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::problem::Problem;
use super::state::AppState;
use crate::calls::record::is_valid_name;

/// What may stand before a key: Deepgram's clients say `Token`.
const SCHEMES: [&str; 2] = ["bearer", "token"];
/// Shortest secret that is taken.
const MIN_SECRET: usize = 16;

/// The keys. They may be replaced while requests come in.
#[derive(Debug, Default)]
pub struct Auth {
    keys: ArcSwap<Vec<[u8; 32]>>,
}

/// An entry of `http.keys`, where those of `http.keys_file` come last, that is no key. Shows at most the key's tenant,
/// never its secret.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Neither form.
    #[error(
        "entry {0} of `http.keys` (those of `http.keys_file` come last) is neither `st_<tenant>_<secret>` nor \
         `sha256:<64 hex digits>`; make a secret with `openssl rand -hex 32`"
    )]
    Form(usize),
    /// A secret that can be guessed.
    #[error(
        "the secret of entry {0} of `http.keys` (those of `http.keys_file` come last) is shorter than 16 characters; make \
         one with `openssl rand -hex 32`"
    )]
    Short(usize),
}

/// An address that must not be served without keys.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`http.bind` is {0}, which others can reach, and `http.keys` is empty: set a key, or bind to 127.0.0.1"
)]
pub struct BindRefused(pub SocketAddr);

/// Who asks: what a handler may show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Principal {
    /// `None`: all tenants.
    pub(super) tenant: Option<Arc<str>>,
}

impl Principal {
    pub(super) fn may_see(&self, tenant: &str) -> bool {
        self.tenant.as_deref().is_none_or(|own| own == tenant)
    }
}

impl Auth {
    /// From the entries of `http.keys`; none lets in whoever reaches the loopback address.
    ///
    /// # Errors
    /// [`KeyError`] for the first entry that is no key.
    pub fn from_keys<S: AsRef<str>>(keys: &[S]) -> Result<Self, KeyError> {
        let parse = |(n, key): (usize, &S)| {
            let key = key.as_ref().trim();
            match key.strip_prefix("sha256:") {
                Some(hex) => digest_from_hex(hex).ok_or(KeyError::Form(n + 1)),
                None => match split(key).ok_or(KeyError::Form(n + 1))? {
                    (_, secret) if secret.len() < MIN_SECRET => Err(KeyError::Short(n + 1)),
                    _ => Ok(Sha256::digest(key).into()),
                },
            }
        };
        let keys: Vec<_> = keys.iter().enumerate().map(parse).collect::<Result<_, _>>()?;
        Ok(Self { keys: ArcSwap::from_pointee(keys) })
    }

    /// Take the keys of `other` instead, for whatever is asked from now on. WebSockets that are open stay.
    pub fn replace(&self, other: Self) {
        self.keys.store(other.keys.into_inner());
    }

    /// Whether there are no keys, so that everyone on this machine may do everything.
    pub fn is_open(&self) -> bool {
        self.keys.load().is_empty()
    }

    fn principal(&self, key: &str) -> Option<Principal> {
        let (tenant, _) = split(key)?;
        let digest: [u8; 32] = Sha256::digest(key).into();
        // All are compared, and each to its end: time tells neither which key is near nor how near.
        let known = self.keys.load().iter().fold(false, |found, key| found | equal(key, &digest));
        known.then(|| Principal { tenant: (tenant != "*").then(|| tenant.into()) })
    }
}

/// Refuse to serve others without keys.
///
/// # Errors
/// [`BindRefused`] for an address other than loopback, if `auth` has no keys.
pub fn check_bind(bind: SocketAddr, auth: &Auth) -> Result<(), BindRefused> {
    if auth.is_open() && !bind.ip().to_canonical().is_loopback() {
        return Err(BindRefused(bind));
    }
    Ok(())
}

/// Lets in who has a key, or, where there are none, who is on this machine; handlers find a [`Principal`].
pub(super) async fn require(State(state): State<AppState>, mut request: Request, next: Next) -> Response {
    match admit(&state, &mut request) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// Note on the request who asks, or refuse it.
pub(super) fn admit(state: &AppState, request: &mut Request) -> Result<(), Problem> {
    let principal = if state.auth.is_open() {
        check_local(request.headers(), request.uri())?;
        Principal { tenant: None }
    } else {
        let key = presented(request.headers(), request.uri());
        key.and_then(|key| state.auth.principal(&key)).ok_or_else(unauthorized)?
    };
    request.extensions_mut().insert(principal);
    Ok(())
}

fn unauthorized() -> Problem {
    Problem::new(
        StatusCode::UNAUTHORIZED,
        "unauthorized",
        "An API key is needed",
        "The request has no API key that is known here.",
        "Send `Authorization: Bearer st_…`, `X-API-Key: st_…`, or, for WebSockets, `?token=st_…`.",
    )
    .with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"sidetone\""))
}

/// Without keys, a web page of anyone that is open in a browser on this machine must not read calls: neither by a
/// cross-site request (a foreign `Origin`) nor by a name of its own that leads here (a foreign `Host`).
fn check_local(headers: &HeaderMap, uri: &Uri) -> Result<(), Problem> {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .or_else(|| uri.authority().map(|a| a.as_str()));
    let origin = headers.get(header::ORIGIN).map(|origin| origin.to_str().unwrap_or_default());
    let origin = origin.map(|origin| origin.split_once("://").map_or("", |(_, host)| host));
    if [host, origin].into_iter().flatten().all(is_local_name) {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::FORBIDDEN,
        "not-local",
        "Only for this machine",
        "Without API keys only requests to and from localhost are answered.",
        "Use http://localhost, or configure `http.keys`.",
    ))
}

/// Whether `host`, with or without a port, names this machine.
fn is_local_name(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, _)) => v6,
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn presented(headers: &HeaderMap, uri: &Uri) -> Option<String> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let is_scheme = |name: &str| SCHEMES.iter().any(|scheme| name.trim().eq_ignore_ascii_case(scheme));
    if let Some(value) = text(header::AUTHORIZATION) {
        let (scheme, key) = value.split_once(' ')?;
        return is_scheme(scheme).then(|| key.trim().to_owned());
    }
    // A page's WebSocket has no headers to say it with.
    if let Some((scheme, key)) = text(header::SEC_WEBSOCKET_PROTOCOL).and_then(|value| value.split_once(','))
        && is_scheme(scheme)
    {
        return Some(key.trim().to_owned());
    }
    if let Some(key) = text(header::HeaderName::from_static("x-api-key")) {
        return Some(key.trim().to_owned());
    }
    let Query(token) = Query::<TokenParam>::try_from_uri(uri).ok()?;
    token.token
}

#[derive(Deserialize)]
struct TokenParam {
    token: Option<String>,
}

/// Tenant and secret.
fn split(key: &str) -> Option<(&str, &str)> {
    let (tenant, secret) = key.strip_prefix("st_")?.split_once('_')?;
    ((tenant == "*" || is_valid_name(tenant)) && !secret.is_empty()).then_some((tenant, secret))
}

fn equal(a: &[u8; 32], b: &[u8; 32]) -> bool {
    std::hint::black_box(a.iter().zip(b).fold(0, |differs, (a, b)| differs | (a ^ b))) == 0
}

fn digest_from_hex(hex: &str) -> Option<[u8; 32]> {
    let hex = hex.as_bytes();
    let mut digest = [0; 32];
    if hex.len() != 64 {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(hex.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *byte = (high << 4 | low) as u8;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "st_acme_0123456789abcdef";

    #[test]
    fn a_key_names_its_tenant_in_the_clear_and_as_a_hash() {
        let hex: String = Sha256::digest(KEY).iter().map(|byte| format!("{byte:02X}")).collect();
        for auth in [Auth::from_keys(&[KEY]).unwrap(), Auth::from_keys(&[format!("sha256:{hex}")]).unwrap()] {
            let acme = auth.principal(KEY).unwrap();
            assert!(acme.may_see("acme") && !acme.may_see("other"));
            assert!(auth.principal("st_other_0123456789abcdef").is_none());
            assert!(auth.principal("st_acme_0123456789abcdeF").is_none());
            assert!(auth.principal("").is_none());
        }
        let all = Auth::from_keys(&["st_*_0123456789abcdef"]).unwrap();
        assert!(all.principal("st_*_0123456789abcdef").unwrap().may_see("anyone"));
    }

    #[test]
    fn what_is_no_key_is_refused_without_showing_it() {
        for bad in [
            "secret",
            "st_acme",
            "st_a/b_0123456789abcdef",
            "sha256:12",
            &format!("sha256:{}", "x".repeat(64)),
        ] {
            assert_eq!(Auth::from_keys(&[KEY, bad]).unwrap_err(), KeyError::Form(2), "{bad}");
        }
        assert_eq!(Auth::from_keys(&["st_acme_short"]).unwrap_err(), KeyError::Short(1));
    }

    #[test]
    fn without_keys_only_loopback_is_served() {
        let (open, keyed) = (Auth::default(), Auth::from_keys(&[KEY]).unwrap());
        for local in ["127.0.0.1:80", "[::1]:80", "[::ffff:127.0.0.1]:80"] {
            assert!(check_bind(local.parse().unwrap(), &open).is_ok(), "{local}");
        }
        let public = "0.0.0.0:80".parse().unwrap();
        assert!(check_bind(public, &open).unwrap_err().to_string().contains("http.bind"));
        assert!(check_bind(public, &keyed).is_ok());
    }

    #[test]
    fn a_key_is_found_wherever_clients_put_it() {
        let found = |name: header::HeaderName, value: &str| {
            let headers = HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())]);
            presented(&headers, &Uri::from_static("/x?token=query"))
        };
        for value in ["Bearer st_a_b", "token st_a_b", "Token  st_a_b "] {
            assert_eq!(found(header::AUTHORIZATION, value).as_deref(), Some("st_a_b"), "{value}");
        }
        assert_eq!(found(header::AUTHORIZATION, "Basic st_a_b"), None);
        for value in ["token, st_*_b", "Token,st_*_b", "bearer, st_*_b"] {
            assert_eq!(found(header::SEC_WEBSOCKET_PROTOCOL, value).as_deref(), Some("st_*_b"), "{value}");
        }
        for value in ["ws", "chat, st_a_b"] {
            assert_eq!(found(header::SEC_WEBSOCKET_PROTOCOL, value).as_deref(), Some("query"), "{value}");
        }
    }

    #[test]
    fn names_of_this_machine_are_told_from_others() {
        for local in ["localhost:8090", "LOCALHOST", "127.0.0.1:1", "127.9.9.9", "[::1]:8090"] {
            assert!(is_local_name(local), "{local}");
        }
        for other in ["", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", "10.0.0.1"] {
            assert!(!is_local_name(other), "{other}");
        }
    }
}

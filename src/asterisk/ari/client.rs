//! Requests: one HTTP client, deadlines, and errors that say what to do.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Method, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;

use super::error::AriError;
use super::path;
use crate::cause;

/// Requests under way at once. Asterisk's http.conf allows 100 sessions by default and everything that speaks HTTP to it
/// shares them.
const MAX_IN_FLIGHT: usize = 32;

/// Asterisk closes an idle connection after 15 s (http.conf `session_keep_alive`). We must be first: a request sent while it
/// closes is lost.
const KEEP_IDLE: Duration = Duration::from_secs(10);

/// Where Asterisk is and who we are.
#[derive(Clone)]
pub struct AriConfig {
    /// `http://host:port`, with http.conf's `prefix` if it has one.
    pub url: String,
    /// User in ari.conf.
    pub user: String,
    /// Its password. Never logged.
    pub password: String,
    /// Name of the Stasis application.
    pub app: String,
    /// Longest wait for one reply.
    pub request_timeout: Duration,
    /// Where Asterisk's RTP comes from as seen from here, if that is not the address Asterisk believes to have (another host
    /// behind NAT, a container).
    pub media_address: Option<IpAddr>,
}

impl fmt::Debug for AriConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AriConfig")
            .field("url", &self.url)
            .field("user", &self.user)
            .field("app", &self.app)
            .field("request_timeout", &self.request_timeout)
            .field("media_address", &self.media_address)
            .finish_non_exhaustive()
    }
}

impl AriConfig {
    /// `http(s)://host:port/prefix/ari`.
    pub(super) fn base(&self) -> Result<Url, AriError> {
        let bad = |reason: &str| AriError::BadUrl { url: self.url.clone(), reason: reason.to_owned() };
        let mut url = Url::parse(&self.url).map_err(|error| bad(&error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(bad("the scheme must be http or https"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(bad("user and password belong into `ari.user` and `ari.password_file`"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(bad("it must end with the host, the port or http.conf's prefix"));
        }
        let prefix = url.path().trim_end_matches('/');
        let path = if prefix.ends_with("/ari") { prefix.to_owned() } else { format!("{prefix}/ari") };
        url.set_path(&path);
        Ok(url)
    }

    /// The header that says who we are; sensitive, so that nothing prints it.
    pub(super) fn authorization(&self) -> HeaderValue {
        let pair = format!("{}:{}", self.user, self.password);
        let text = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair));
        let mut value = HeaderValue::from_str(&text).expect("base64 is a valid header value");
        value.set_sensitive(true);
        value
    }
}

/// Sends requests to Asterisk. Clones share connections.
#[derive(Clone, Debug)]
pub struct AriClient {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: AriConfig,
    base: String,
    http: reqwest::Client,
    in_flight: Semaphore,
    removals: Semaphore,
}

/// Asterisk's words about a refusal.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Words {
    message: String,
    error: String,
}

impl AriClient {
    /// A client for the Asterisk at `config.url`. Nothing is sent yet.
    ///
    /// # Errors
    /// [`AriError::BadUrl`].
    pub fn new(config: AriConfig) -> Result<Self, AriError> {
        let base = config.base()?;
        install_tls_provider();
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, config.authorization());
        let mut builder = reqwest::Client::builder()
            .default_headers(headers)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .tcp_nodelay(true)
            .pool_idle_timeout(KEEP_IDLE);
        if base.scheme() == "http" {
            // Machines without any CA certificate exist; they need none for http, and the client would not start there.
            builder = builder.tls_certs_only([]);
        }
        let http = builder.build().map_err(|error| AriError::BadUrl {
            url: config.url.clone(),
            reason: cause::innermost(&error),
        })?;
        let base = base.as_str().trim_end_matches('/').to_owned();
        let (in_flight, removals) = (Semaphore::new(MAX_IN_FLIGHT), Semaphore::new(1));
        Ok(Self { inner: Arc::new(Inner { config, base, http, in_flight, removals }) })
    }

    /// What it was made with.
    pub fn config(&self) -> &AriConfig {
        &self.inner.config
    }

    /// Send a request and read the reply's JSON.
    pub(super) async fn json<T: DeserializeOwned>(
        &self,
        method: Method,
        parts: &[&str],
        query: &[(&str, &str)],
        body: Option<&serde_json::Value>,
    ) -> Result<T, AriError> {
        let (request, bytes) = self.send(method, parts, query, body).await?;
        serde_json::from_slice(&bytes).map_err(|error| {
            let start = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
            AriError::BadReply { request, reason: format!("{error}; it starts with {start:?}") }
        })
    }

    /// Send a request whose reply says nothing but yes.
    pub(super) async fn done(
        &self,
        method: Method,
        parts: &[&str],
        query: &[(&str, &str)],
    ) -> Result<(), AriError> {
        self.send(method, parts, query, None).await.map(drop)
    }

    /// Remove a channel or a bridge; what is gone already is as good as removed. One at a time for all clones, in the order in
    /// which they are asked: Asterisk has crashed over parallel removals (asterisk#1201). A removal whose turn does not come
    /// within the time that a reply has is not sent, and that is a timeout too.
    pub(super) async fn remove(&self, parts: &[&str], query: &[(&str, &str)]) -> Result<(), AriError> {
        let after = self.inner.config.request_timeout;
        let Ok(_turn) = tokio::time::timeout(after, self.inner.removals.acquire()).await else {
            return Err(AriError::Timeout { request: format!("DELETE /{}", parts.join("/")), after });
        };
        self.delete(parts, query).await
    }

    /// Send a `DELETE`; what is gone already is as good as deleted.
    pub(super) async fn delete(&self, parts: &[&str], query: &[(&str, &str)]) -> Result<(), AriError> {
        match self.done(Method::DELETE, parts, query).await {
            Err(AriError::NotFound { .. }) => Ok(()),
            other => other,
        }
    }

    async fn send(
        &self,
        method: Method,
        parts: &[&str],
        query: &[(&str, &str)],
        body: Option<&serde_json::Value>,
    ) -> Result<(String, bytes::Bytes), AriError> {
        let inner = &*self.inner;
        let Some(path) = path::join(parts) else {
            let request = format!("{method} /{}", parts.join("/"));
            return Err(AriError::NotFound { request, message: "no id can be like that".to_owned() });
        };
        let request = format!("{method} {path}");
        let mut builder = inner.http.request(method, format!("{}{path}", inner.base));
        if !query.is_empty() {
            builder = builder.query(query);
        }
        if let Some(body) = body {
            builder = builder.json(body);
        }
        let exchange = async {
            let _turn = inner.in_flight.acquire().await;
            let response = builder.send().await?;
            let status = response.status().as_u16();
            Ok::<_, reqwest::Error>((status, response.bytes().await?))
        };
        let after = inner.config.request_timeout;
        let (status, bytes) = match tokio::time::timeout(after, exchange).await {
            Err(_) => return Err(AriError::Timeout { request, after }),
            Ok(Err(error)) => {
                let reason = cause::innermost(&error);
                return Err(AriError::Unreachable { request, url: inner.config.url.clone(), reason });
            }
            Ok(Ok(reply)) => reply,
        };
        tracing::debug!(%request, status, "ARI request");
        if (200..300).contains(&status) {
            return Ok((request, bytes));
        }
        let words: Words = serde_json::from_slice(&bytes).unwrap_or_default();
        let message = if words.message.is_empty() { words.error } else { words.message };
        Err(AriError::from_status(request, status, message, &inner.config))
    }
}

/// The TLS library takes its cryptography from a process-wide provider; whoever comes first installs it.
pub(super) fn install_tls_provider() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(url: &str) -> AriConfig {
        AriConfig {
            url: url.into(),
            user: "sidetone".into(),
            password: "hunter2".into(),
            app: "sidetone".into(),
            request_timeout: Duration::from_secs(1),
            media_address: None,
        }
    }

    #[test]
    fn base_takes_prefixes_and_trailing_slashes() {
        for (url, base) in [
            ("http://127.0.0.1:8088", "http://127.0.0.1:8088/ari"),
            ("http://127.0.0.1:8088/", "http://127.0.0.1:8088/ari"),
            ("https://pbx/asterisk/", "https://pbx/asterisk/ari"),
            ("http://[::1]:8088/ari", "http://[::1]:8088/ari"),
        ] {
            assert_eq!(config(url).base().unwrap().as_str(), base);
        }
        for bad in ["127.0.0.1:8088", "ftp://pbx", "http://a:b@pbx", "http://pbx/?x=1", "", "http://"] {
            assert!(matches!(config(bad).base(), Err(AriError::BadUrl { .. })), "{bad}");
        }
    }

    #[test]
    fn nothing_prints_the_password() {
        let config = config("http://127.0.0.1:8088");
        let client = AriClient::new(config.clone()).unwrap();
        let printed = format!("{config:?} {client:?} {:?}", config.authorization());
        assert!(!printed.contains("hunter2"), "{printed}");
        assert!(!printed.contains("aHVudGVy") && !printed.contains("c2lkZXRvbmU6"), "{printed}");
    }
}

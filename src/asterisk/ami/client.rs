//! Actions, and what comes of them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::action::AmiAction;
use super::error::AmiError;
use super::link::{self, AmiNotices, Endpoint, Request, Want};
use super::message::AmiMessage;

/// Actions that may wait to be written. They are small, and Asterisk reads at once.
const QUEUED: usize = 1_024;

/// Whom a TLS connection trusts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AmiTls {
    /// Certificates in PEM of whoever signed Asterisk's; without it, the public authorities.
    pub ca_file: Option<PathBuf>,
}

/// How to reach the Manager Interface.
#[derive(Clone, PartialEq, Eq)]
pub struct AmiConfig {
    /// `tcp://host:port` or `tls://host:port`.
    pub url: String,
    /// User in manager.conf.
    pub user: String,
    /// Its secret. It does not go over the wire: Asterisk is shown its MD5 with a challenge.
    pub password: String,
    /// For `tls://`.
    pub tls: AmiTls,
    /// Classes of events to be told of, as in manager.conf (`call,system`), or `off`.
    pub events: String,
    /// Longest wait for a connection, and for a response.
    pub request_timeout: Duration,
    /// After so long without a word from Asterisk it is asked for one; after twice that the connection is given up.
    pub ping_interval: Duration,
    /// First pause before another attempt to connect.
    pub backoff_min: Duration,
    /// Longest pause.
    pub backoff_max: Duration,
    /// Events that may wait to be taken.
    pub queue: usize,
}

impl Default for AmiConfig {
    fn default() -> Self {
        Self {
            url: "tcp://127.0.0.1:5038".into(),
            user: "sidetone".into(),
            password: String::new(),
            tls: AmiTls::default(),
            events: "off".into(),
            request_timeout: Duration::from_secs(5),
            ping_interval: Duration::from_secs(5),
            backoff_min: Duration::from_millis(250),
            backoff_max: Duration::from_secs(10),
            queue: 16_384,
        }
    }
}

impl std::fmt::Debug for AmiConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AmiConfig").field("url", &self.url).field("user", &self.user).finish_non_exhaustive()
    }
}

/// The Manager Interface; cheap to clone. The connection is closed once all clones are gone.
#[derive(Clone, Debug)]
pub struct AmiClient {
    requests: mpsc::Sender<Request>,
    url: Arc<str>,
    after: Duration,
}

impl AmiClient {
    /// Keep a connection to Asterisk from now on. Returns at once: whether there is one, the notices say. They have to be taken,
    /// or dropped.
    ///
    /// # Errors
    /// [`AmiError::BadUrl`], for the file of certificates too.
    pub fn connect(config: AmiConfig) -> Result<(Self, AmiNotices), AmiError> {
        let endpoint = Endpoint::new(&config)?;
        let (requests, inbox) = mpsc::channel(QUEUED);
        let (url, after) = (config.url.as_str().into(), config.request_timeout);
        let notices = link::keep(config, endpoint, inbox);
        Ok((Self { requests, url, after }, notices))
    }

    /// Have `action` carried out; its response.
    ///
    /// # Errors
    /// [`AmiError`]; [`AmiError::is_undone`] tells whether it may be tried again.
    pub async fn send(&self, action: AmiAction) -> Result<AmiMessage, AmiError> {
        let (reply, response) = oneshot::channel();
        self.ask(action, Want::Response(reply), response).await
    }

    /// Have `action` carried out that answers with a list (`CoreShowChannels`); its events, without the last, which only says
    /// that it is.
    ///
    /// # Errors
    /// [`AmiError`].
    pub async fn list(&self, action: AmiAction) -> Result<Vec<AmiMessage>, AmiError> {
        let (reply, events) = oneshot::channel();
        self.ask(action, Want::List(reply, Vec::new()), events).await
    }

    async fn ask<T>(
        &self,
        action: AmiAction,
        want: Want,
        answer: oneshot::Receiver<Result<T, AmiError>>,
    ) -> Result<T, AmiError> {
        let name = action.name().to_owned();
        let stopped = |action: String| AmiError::Unreachable {
            action,
            url: self.url.to_string(),
            reason: "the client is being stopped".into(),
        };
        let asked = async {
            if self.requests.send(Request { action, want }).await.is_err() {
                return Err(stopped(name.clone()));
            }
            answer.await.unwrap_or_else(|_| Err(stopped(name.clone())))
        };
        timeout(self.after, asked)
            .await
            .unwrap_or_else(|_| Err(AmiError::Timeout { action: name.clone(), after: self.after }))
    }
}

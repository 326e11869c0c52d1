//! Requests about bridges, applications and Asterisk itself.

use reqwest::Method;

use super::client::AriClient;
use super::error::AriError;
use super::model::{Application, AsteriskInfo, Bridge, Channel, Module, Playback, RawInfo};
use crate::asterisk::version::AsteriskVersion;

/// What a bridge does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BridgeKind {
    /// Everyone hears everyone.
    Mixing,
    /// Channels wait in it, apart.
    Holding,
}

impl BridgeKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Mixing => "mixing",
            Self::Holding => "holding",
        }
    }
}

impl AriClient {
    /// Version and start of this Asterisk; also the request that tells whether URL, user and password are right.
    ///
    /// # Errors
    /// Any [`AriError`]; a web server without ARI at `ari.url` is [`AriError::Unreachable`].
    pub async fn asterisk_info(&self) -> Result<AsteriskInfo, AriError> {
        let raw: RawInfo = match self.json(Method::GET, &["asterisk", "info"], &[], None).await {
            Err(AriError::NotFound { request, .. }) => {
                let reason = "a web server is there, but no ARI under that address".to_owned();
                return Err(AriError::Unreachable { request, url: self.config().url.clone(), reason });
            }
            other => other?,
        };
        Ok(AsteriskInfo {
            version: AsteriskVersion::parse(&raw.system.version),
            entity_id: raw.system.entity_id,
            startup_time: raw.status.startup_time,
        })
    }

    /// Every module of this Asterisk.
    ///
    /// # Errors
    /// Any [`AriError`].
    pub async fn modules(&self) -> Result<Vec<Module>, AriError> {
        self.json(Method::GET, &["asterisk", "modules"], &[], None).await
    }

    /// One module, such as `chan_rtp.so`; `None` if it is not loaded.
    ///
    /// # Errors
    /// Any [`AriError`].
    pub async fn module(&self, name: &str) -> Result<Option<Module>, AriError> {
        match self.json(Method::GET, &["asterisk", "modules", name], &[], None).await {
            // 409: known, but it could not be looked at; it is not running.
            Err(AriError::NotFound { .. } | AriError::Conflict { .. }) => Ok(None),
            other => other.map(Some),
        }
    }

    /// Every channel of this Asterisk, whoever owns it.
    ///
    /// # Errors
    /// Any [`AriError`].
    pub async fn channels(&self) -> Result<Vec<Channel>, AriError> {
        self.json(Method::GET, &["channels"], &[], None).await
    }

    /// Every bridge of this Asterisk, whoever owns it.
    ///
    /// # Errors
    /// Any [`AriError`].
    pub async fn bridges(&self) -> Result<Vec<Bridge>, AriError> {
        self.json(Method::GET, &["bridges"], &[], None).await
    }

    /// Make a bridge with an id of ours.
    ///
    /// # Errors
    /// [`AriError::Conflict`] if the id is in use, or any other.
    pub async fn create_bridge(&self, id: &str, name: &str, kind: BridgeKind) -> Result<Bridge, AriError> {
        let query = [("bridgeId", id), ("name", name), ("type", kind.as_str())];
        self.json(Method::POST, &["bridges"], &query, None).await
    }

    /// Remove a bridge of ours; one that is gone is a success. The channels in it stay. It may still be listed for a moment
    /// afterwards. One removal at a time, as with [`AriClient::hangup`].
    ///
    /// # Errors
    /// Any [`AriError`] but [`AriError::NotFound`].
    pub async fn delete_bridge(&self, id: &str) -> Result<(), AriError> {
        match self.remove(&["bridges", id], &[]).await {
            // So Asterisk calls a bridge that is being removed.
            Err(AriError::NotInStasis { .. }) => Ok(()),
            other => other,
        }
    }

    /// `POST /bridges/{bridge}/play/{playback_id}`: play `media` (`sound:hello-world`, `tone:dial`) to all in it.
    ///
    /// # Errors
    /// [`AriError`].
    pub async fn play_on_bridge(
        &self,
        bridge: &str,
        media: &str,
        playback_id: &str,
    ) -> Result<Playback, AriError> {
        let parts = ["bridges", bridge, "play", playback_id];
        self.json(Method::POST, &parts, &[("media", media)], None).await
    }

    /// Put a channel into a bridge.
    ///
    /// # Errors
    /// [`AriError::NotInStasis`] before the channel's StasisStart, [`AriError::NotFound`] if either is gone, or any other.
    pub async fn add_channel(&self, bridge: &str, channel: &str) -> Result<(), AriError> {
        match self.done(Method::POST, &["bridges", bridge, "addChannel"], &[("channel", channel)]).await {
            // A channel that is gone is a bad parameter in Asterisk's eyes.
            Err(AriError::Refused { request, status: 400, message }) if message.contains("not found") => {
                Err(AriError::NotFound { request, message })
            }
            other => other,
        }
    }

    /// Every application that Asterisk knows.
    ///
    /// # Errors
    /// Any [`AriError`].
    pub async fn applications(&self) -> Result<Vec<Application>, AriError> {
        self.json(Method::GET, &["applications"], &[], None).await
    }

    /// One application; `None` if Asterisk does not know it, which means that no client holds it. The reverse is not true: one
    /// that left channels behind is still known. See [`super::ensure_app_is_free`].
    ///
    /// # Errors
    /// Any [`AriError`].
    pub async fn application(&self, app: &str) -> Result<Option<Application>, AriError> {
        match self.json(Method::GET, &["applications", app], &[], None).await {
            Err(AriError::NotFound { .. }) => Ok(None),
            other => other.map(Some),
        }
    }

    /// Get events about `source` (`channel:<id>`, `bridge:<id>`, `endpoint:<tech>/<resource>`), until the socket closes.
    ///
    /// # Errors
    /// [`AriError::NotFound`] if our application has no socket open; the source that does not exist is
    /// [`AriError::Refused`] with 422.
    pub async fn subscribe(&self, source: &str) -> Result<Application, AriError> {
        let app = self.config().app.as_str();
        let query = [("eventSource", source)];
        self.json(Method::POST, &["applications", app, "subscription"], &query, None).await
    }
}

//! Who answers at Asterisk's address: after a reconnect it may be another version.

use super::{CallServer, Connection, LIST_AGAIN};
use crate::asterisk::ari::AriError;
use crate::asterisk::version::AsteriskVersion;
use crate::calls::fitness::Unfit;

impl CallServer {
    /// Asterisk's version, if it can send what is configured and has the codec for it. Else the connection is [`Connection::Unfit`] from here on, before
    /// any call is taken: legs in another format than asked would be recorded as silence.
    pub(super) async fn greet(&self) -> Option<AsteriskVersion> {
        let (version, unfit) = loop {
            match self.look_at_asterisk().await {
                Ok(seen) => break seen,
                Err(error) => {
                    tracing::warn!(%error, "cannot ask Asterisk for its version and modules yet");
                    tokio::time::sleep(LIST_AGAIN).await;
                }
            }
        };
        let Some(unfit) = unfit else { return Some(version) };
        tracing::error!(%unfit, "no call can be heard from this Asterisk");
        self.connection.send_replace(Connection::Unfit(unfit.to_string()));
        None
    }

    async fn look_at_asterisk(&self) -> Result<(AsteriskVersion, Option<Unfit>), AriError> {
        let services = &self.services;
        let version = services.ari.asterisk_info().await?.version;
        let unfit = services.transport.unfit(&services.ari, &version, services.codec.name()).await?;
        Ok((version, unfit))
    }
}

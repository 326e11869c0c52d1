//! Who answers at Asterisk's address: after a reconnect it may be another version.

use super::{CallServer, Connection, LIST_AGAIN};
use crate::asterisk::version::AsteriskVersion;

impl CallServer {
    /// Asterisk's version, if it can send what is configured. Else the connection is [`Connection::Unfit`] from here on, before
    /// any call is taken: legs in another format than asked would be recorded as silence.
    pub(super) async fn greet(&self) -> Option<AsteriskVersion> {
        let version = loop {
            match self.services.ari.asterisk_info().await {
                Ok(info) => break info.version,
                Err(error) => {
                    tracing::warn!(%error, "cannot ask Asterisk for its version yet");
                    tokio::time::sleep(LIST_AGAIN).await;
                }
            }
        };
        let services = &self.services;
        match services.transport.works_with(&version.capabilities(), services.codec.name()) {
            Ok(()) => Some(version),
            Err(missing) => {
                tracing::error!(%missing, "no call can be heard from this Asterisk");
                self.connection.send_replace(Connection::Unfit(missing.to_string()));
                None
            }
        }
    }
}

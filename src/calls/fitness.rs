//! Whether an Asterisk can do what is configured: its version, and its modules.

use thiserror::Error;

use super::transport::Transport;
use crate::asterisk::ari::{AriClient, AriError};
use crate::asterisk::codecs::NoCodec;
use crate::asterisk::version::{AsteriskVersion, Missing};

/// Why no call can be heard from an Asterisk as configured. Says what to do.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(transparent)]
pub enum Unfit {
    /// Its version cannot.
    Version(#[from] Missing),
    /// It has no codec for the format.
    Codec(#[from] NoCodec),
}

impl Transport {
    /// What keeps an Asterisk of `version` from bringing legs in `format`; `None`: nothing.
    ///
    /// # Errors
    /// Any [`AriError`]: it could not be asked.
    pub async fn unfit(
        self,
        ari: &AriClient,
        version: &AsteriskVersion,
        format: &str,
    ) -> Result<Option<Unfit>, AriError> {
        match self.works_with(&version.capabilities(), format) {
            Err(missing) => Ok(Some(missing.into())),
            Ok(()) => Ok(ari.lacks_codec(format).await?.map(Unfit::from)),
        }
    }
}

//! What can go wrong between us and Asterisk, told apart by what the caller does about it.

use std::time::Duration;

use thiserror::Error;

use super::client::AriConfig;

/// A request to Asterisk, or the opening of its event socket, failed. `request` is its method and path.
#[derive(Debug, Error)]
pub enum AriError {
    /// There is no such channel, bridge, …: it has ended, or never was.
    #[error("{request}: not found ({message})")]
    NotFound {
        /// Method and path.
        request: String,
        /// Asterisk's words.
        message: String,
    },
    /// The id is in use, or the thing is in a state that forbids the request (409).
    #[error("{request}: conflict ({message})")]
    Conflict {
        /// Method and path.
        request: String,
        /// Asterisk's words.
        message: String,
    },
    /// The channel is not (or not yet, or no longer) in a Stasis application (409 or 422): wait for its StasisStart.
    #[error("{request}: the channel is not in Stasis ({message}); its StasisStart must come first")]
    NotInStasis {
        /// Method and path.
        request: String,
        /// Asterisk's words.
        message: String,
    },
    /// Asterisk said no, for any other reason.
    #[error("{request}: Asterisk refused with {status} ({message}){}", remedy(*.status))]
    Refused {
        /// Method and path.
        request: String,
        /// HTTP status.
        status: u16,
        /// Asterisk's words.
        message: String,
    },
    /// User or password is wrong.
    #[error(
        "{request}: Asterisk does not accept user {user:?} {}: {} that user's section in Asterisk's ari.conf (then \
         `module reload res_ari.so`)",
        if *.no_password { "without a password, and `ari.password` is empty" } else { "with its password" },
        if *.no_password {
            "set it with `ari.password_file`, or in the environment as SIDETONE__ARI__PASSWORD, to that in"
        } else {
            "compare `ari.user` and `ari.password` or `ari.password_file` with"
        }
    )]
    Unauthorised {
        /// Method and path.
        request: String,
        /// The user as configured.
        user: String,
        /// The password as configured is empty.
        no_password: bool,
    },
    /// No reply in time. The request may have been carried out all the same.
    #[error(
        "{request}: no reply within {after:?}; Asterisk is overloaded or stuck (`ari.request_timeout_ms`)"
    )]
    Timeout {
        /// Method and path.
        request: String,
        /// How long we waited.
        after: Duration,
    },
    /// No connection, or it broke.
    #[error(
        "{request}: cannot reach Asterisk at {url}: {reason}. Is it running, is `enabled=yes` in http.conf and ari.conf, \
         is `ari.url` right?"
    )]
    Unreachable {
        /// Method and path.
        request: String,
        /// Where Asterisk should be.
        url: String,
        /// What the operating system or the HTTP layer said.
        reason: String,
    },
    /// A reply that is not what this request should bring.
    #[error("{request}: unexpected reply: {reason}")]
    BadReply {
        /// Method and path.
        request: String,
        /// What is wrong with it.
        reason: String,
    },
    /// `ari.url` cannot be used.
    #[error("`ari.url` {url:?} is not a usable http:// or https:// address: {reason}")]
    BadUrl {
        /// As configured.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Another client holds the Stasis application; connecting would cut it off.
    #[error(
        "another client holds the Stasis application {app:?}. If it is another Sidetone, give each a name of its own in \
         `ari.app` (and in the dialplan); to cut the other one off, or if it died without closing its connection, set \
         `ari.takeover = true`"
    )]
    AppTaken {
        /// Name of the application.
        app: String,
    },
}

impl AriError {
    /// The thing is gone: nothing is left to undo.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// The same request may well succeed later: Asterisk was away, busy or starting.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Timeout { .. } | Self::Unreachable { .. } => true,
            Self::Refused { status, .. } => *status >= 500,
            _ => false,
        }
    }

    /// The error that an HTTP status other than 2xx stands for.
    pub(super) fn from_status(request: String, status: u16, message: String, config: &AriConfig) -> Self {
        match status {
            401 => {
                let (user, no_password) = (config.user.clone(), config.password.is_empty());
                Self::Unauthorised { request, user, no_password }
            }
            404 => Self::NotFound { request, message },
            409 | 422 if message.contains("not in Stasis") => Self::NotInStasis { request, message },
            409 => Self::Conflict { request, message },
            _ => Self::Refused { request, status, message },
        }
    }
}

fn remedy(status: u16) -> &'static str {
    match status {
        403 => "; the user may be read_only in ari.conf, or kept out by an ACL",
        500 => "; Asterisk's own log says why, a missing module is the usual cause",
        501 => "; this Asterisk lacks the module for it",
        503 => "; Asterisk is starting or at its http.conf sessionlimit",
        _ => "",
    }
}

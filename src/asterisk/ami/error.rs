//! What can go wrong between us and Asterisk's Manager Interface, told apart by what the caller does about it.

use std::time::Duration;

use thiserror::Error;

/// What came is not the Manager Interface's language.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum AmiProtocolError {
    /// The first line is another program's.
    #[error(
        "it greets with {line:?}, which no Asterisk Manager Interface does: `ami.url` names the wrong port"
    )]
    Greeting {
        /// What it said, at most 80 characters.
        line: String,
    },
    /// A line or message without an end.
    #[error("a {what} of more than {most} bytes")]
    TooLong {
        /// Line or message.
        what: &'static str,
        /// The longest that is taken, bytes.
        most: usize,
    },
}

/// An action failed, or the connection did.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum AmiError {
    /// `ami.url` cannot be used.
    #[error("`ami.url` {url:?} is not usable: {reason}; use tcp://host:port or tls://host:port")]
    BadUrl {
        /// As configured.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No connection now: it is being made anew.
    #[error(
        "{action}: no connection to the Asterisk Manager Interface at {url}: {reason}. Is Asterisk running, is `enabled=yes` in \
         manager.conf, is `ami.url` right?"
    )]
    Unreachable {
        /// The action, or `connect`.
        action: String,
        /// Where Asterisk should be.
        url: String,
        /// Why there is none.
        reason: String,
    },
    /// User or password is wrong, or this address may not come in.
    #[error(
        "Asterisk's Manager Interface at {url} does not accept user {user:?} ({message}): compare `ami.user` and `ami.password` or \
         `ami.password_file` with that user's section in manager.conf, its permit and deny lines too"
    )]
    Unauthorised {
        /// Where.
        url: String,
        /// The user as configured.
        user: String,
        /// Asterisk's words.
        message: String,
    },
    /// The connection broke while the action was under way: it may have been carried out.
    #[error(
        "{action}: the connection broke before Asterisk answered ({reason}); it may have been carried out"
    )]
    Broken {
        /// The action.
        action: String,
        /// Why.
        reason: String,
    },
    /// No response in time: the action may have been carried out.
    #[error(
        "{action}: no response within {after:?}; it may have been carried out (`ami.request_timeout_ms`)"
    )]
    Timeout {
        /// The action.
        action: String,
        /// How long we waited.
        after: Duration,
    },
    /// Asterisk said no.
    #[error("{action}: Asterisk refused ({message}){}", remedy(.message))]
    Refused {
        /// The action.
        action: String,
        /// Asterisk's words.
        message: String,
    },
    /// Asterisk would not take so much.
    #[error("{action}: {what} is too long: Asterisk takes {most} {unit}")]
    TooLong {
        /// The action.
        action: String,
        /// The header, or the whole.
        what: &'static str,
        /// The most that it takes.
        most: usize,
        /// Of what.
        unit: &'static str,
    },
}

impl AmiError {
    /// Whether the action was certainly not carried out, so that it may be tried again.
    pub fn is_undone(&self) -> bool {
        !matches!(self, Self::Broken { .. } | Self::Timeout { .. })
    }

    /// Whether the same action may well succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Broken { .. } | Self::Timeout { .. })
    }
}

fn remedy(message: &str) -> &'static str {
    if message.eq_ignore_ascii_case("Permission denied") {
        "; give the user the class for it in its `write` line in manager.conf"
    } else {
        ""
    }
}

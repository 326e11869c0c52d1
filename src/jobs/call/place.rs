//! A call is placed: by AMI, by ARI, or by a call file.

mod spool;

use std::collections::BTreeMap;
use std::time::Duration;

use super::error::CallError;
use super::follow::LastWord;
use crate::asterisk::ami::{AmiAction, AmiClient, AmiError};
use crate::asterisk::ari::{AriClient, AriError, Originate, Then};
use crate::config::tts_calls::{Amd, CallRules, PlacedBy};

pub(super) use spool::{Filed, Spool};

/// Where in its context the dialplan begins.
const EXTEN: &str = "s";
/// Variables of the dialplan, as in asterisk-conf/extensions.conf.
mod variable {
    pub(super) const ID: &str = "SIDETONE_TTS_ID";
    pub(super) const FILE: &str = "SIDETONE_TTS_FILE";
    pub(super) const AMD: &str = "SIDETONE_TTS_AMD";
    pub(super) const LONGEST: &str = "SIDETONE_TTS_LONGEST";
}

/// All that Asterisk has to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Order {
    /// Id of the channel.
    pub(super) id: String,
    /// Whom to call.
    pub(super) channel: String,
    pub(super) context: String,
    pub(super) caller_id: String,
    pub(super) ring: Duration,
    pub(super) longest: Duration,
    pub(super) amd: Amd,
    /// What `Playback` is told.
    pub(super) file: String,
}

/// What Asterisk said to it.
#[derive(Debug)]
pub(super) enum Placed {
    /// It took it.
    Taken,
    /// It may have taken it: the connection broke, or no reply came.
    Perhaps,
    /// It tried, and could make no channel of it.
    NoChannel(String),
}

impl Order {
    pub(super) fn new(id: &str, channel: String, file: String, rules: &CallRules) -> Self {
        Self {
            id: id.to_owned(),
            channel,
            context: rules.context.clone(),
            caller_id: rules.caller_id.clone(),
            ring: rules.ring,
            longest: rules.longest,
            amd: rules.amd,
            file,
        }
    }

    fn variables(&self) -> [(&'static str, String); 4] {
        [
            (variable::ID, self.id.clone()),
            (variable::FILE, self.file.clone()),
            (variable::AMD, self.amd.name().to_owned()),
            (variable::LONGEST, self.longest.as_secs().to_string()),
        ]
    }

    fn action(&self) -> AmiAction {
        let mut action = AmiAction::new("Originate")
            .with("Channel", &self.channel)
            .with("Context", &self.context)
            .with("Exten", EXTEN)
            .with("Priority", "1")
            .with("Timeout", self.ring.as_millis().to_string())
            .with("ChannelId", &self.id)
            // Without it, nothing else is done on the connection until somebody answers.
            .with("Async", "true");
        if !self.caller_id.is_empty() {
            action = action.with("CallerID", &self.caller_id);
        }
        self.variables()
            .into_iter()
            .fold(action, |action, (name, value)| action.with("Variable", format!("{name}={value}")))
    }

    /// Place it by AMI. `Taken`: an `OriginateResponse` will come.
    ///
    /// # Errors
    /// [`CallError::NotPlaced`]: certainly not.
    pub(super) async fn by_ami(&self, client: &AmiClient) -> Result<Placed, CallError> {
        match client.send(self.action()).await {
            Ok(_) => Ok(Placed::Taken),
            Err(error) if error.is_undone() => Err(CallError::not_placed(&error)),
            Err(AmiError::Broken { .. } | AmiError::Timeout { .. }) => Ok(Placed::Perhaps),
            Err(error) => Err(CallError::not_placed(&error)),
        }
    }

    /// Place it by ARI, outside of Stasis.
    ///
    /// # Errors
    /// [`CallError::NotPlaced`]: certainly not.
    pub(super) async fn by_ari(&self, client: &AriClient) -> Result<Placed, CallError> {
        let originate = Originate {
            endpoint: &self.channel,
            channel_id: &self.id,
            then: Then::Dialplan { context: &self.context, exten: EXTEN },
            caller_id: &self.caller_id,
            // As AMI does it by itself; Asterisk translates for the endpoint.
            formats: "slin",
            timeout: self.ring,
            variables: self
                .variables()
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect::<BTreeMap<_, _>>(),
        };
        match client.originate(&originate).await {
            Ok(_) => Ok(Placed::Taken),
            // "Allocation failed": no such endpoint, no such technology. AMI says so with a call that failed.
            Err(AriError::Refused { status: 500, message, .. }) => Ok(Placed::NoChannel(message)),
            Err(AriError::Timeout { .. } | AriError::Unreachable { .. } | AriError::BadReply { .. }) => {
                Ok(Placed::Perhaps)
            }
            Err(error) => {
                Err(CallError::NotPlaced { reason: error.to_string(), is_transient: error.is_transient() })
            }
        }
    }

    /// Place it by a call file.
    ///
    /// # Errors
    /// [`CallError::NotPlaced`]: the file could not be put there.
    pub(super) async fn by_file(&self, spool: &Spool) -> Result<Placed, CallError> {
        let (spool, id, text) = (spool.clone(), self.id.clone(), self.call_file());
        let put = tokio::task::spawn_blocking(move || spool.put(&id, &text)).await;
        let put = put.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        put.map(|()| Placed::Taken).map_err(|error| CallError::NotPlaced {
            reason: format!("the call file cannot be written: {error} (tts_calls.spool)"),
            is_transient: true,
        })
    }

    /// The account code is the id: of calls by file it is the one thing that Asterisk's events have in common with the file.
    fn call_file(&self) -> String {
        let mut lines = vec![
            format!("Channel: {}", self.channel),
            format!("Context: {}", self.context),
            format!("Extension: {EXTEN}"),
            "Priority: 1".to_owned(),
            "MaxRetries: 0".to_owned(),
            format!("WaitTime: {}", self.ring.as_secs()),
            format!("Account: {}", self.id),
        ];
        if !self.caller_id.is_empty() {
            lines.push(format!("CallerID: {}", self.caller_id));
        }
        lines.extend(self.variables().map(|(name, value)| format!("Setvar: {name}={value}")));
        lines.push(String::new());
        lines.join("\n")
    }
}

/// What comes after the end of a channel that nobody answered.
pub(super) fn last_word(by: PlacedBy) -> LastWord {
    match by {
        PlacedBy::Ami => LastWord::Response,
        PlacedBy::Ari => LastWord::None,
        PlacedBy::File => LastWord::Report,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(caller_id: &str) -> Order {
        Order {
            id: "job-1".into(),
            channel: "Local/100@lab-phones/n".into(),
            context: "sidetone-tts".into(),
            caller_id: caller_id.into(),
            ring: Duration::from_secs(30),
            longest: Duration::from_secs(600),
            amd: Amd::HangUp,
            file: "/var/lib/sidetone/tts-calls/job-1".into(),
        }
    }

    #[test]
    fn a_call_file_is_as_pbx_spool_reads_it() {
        assert_eq!(
            order("\"Acme\" <6015550100>").call_file(),
            "Channel: Local/100@lab-phones/n\nContext: sidetone-tts\nExtension: s\nPriority: 1\nMaxRetries: 0\nWaitTime: 30\n\
             Account: job-1\nCallerID: \"Acme\" <6015550100>\nSetvar: SIDETONE_TTS_ID=job-1\n\
             Setvar: SIDETONE_TTS_FILE=/var/lib/sidetone/tts-calls/job-1\nSetvar: SIDETONE_TTS_AMD=hang_up\n\
             Setvar: SIDETONE_TTS_LONGEST=600\n"
        );
        assert!(!order("").call_file().contains("CallerID"));
    }

    #[test]
    fn an_originate_has_its_id_and_does_not_hold_the_connection_up() {
        let action = order("").action();
        let wanted = AmiAction::new("Originate")
            .with("Channel", "Local/100@lab-phones/n")
            .with("Context", "sidetone-tts")
            .with("Exten", "s")
            .with("Priority", "1")
            .with("Timeout", "30000")
            .with("ChannelId", "job-1")
            .with("Async", "true")
            .with("Variable", "SIDETONE_TTS_ID=job-1")
            .with("Variable", "SIDETONE_TTS_FILE=/var/lib/sidetone/tts-calls/job-1")
            .with("Variable", "SIDETONE_TTS_AMD=hang_up")
            .with("Variable", "SIDETONE_TTS_LONGEST=600");
        assert_eq!(action, wanted);
    }
}

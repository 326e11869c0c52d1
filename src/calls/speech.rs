//! How one call is transcribed: what the dialplan says of it, else its tenant's table in the settings, else the section `speech`.

use std::sync::Arc;

use crate::speech::Engine;
use crate::speech::remote::StreamingService;

use super::mode::CallOptions;
use super::services::Services;

/// The words as both engines take them.
pub fn vocabulary(words: &[String]) -> String {
    words.join(", ")
}

/// What a call's legs are transcribed with.
pub(super) struct SpeechPlan {
    /// Language code, or `auto`.
    pub(super) language: String,
    /// Words and phrases to expect, separated by commas.
    pub(super) vocabulary: Option<Arc<str>>,
    /// The service elsewhere; `None`: the model in this process.
    pub(super) service: Option<Arc<dyn StreamingService>>,
    /// The dialplan asked for an engine that is not there: what to tell.
    pub(super) complaint: Option<String>,
}

impl SpeechPlan {
    /// Name of the engine.
    pub(super) fn engine(&self) -> Engine {
        self.service.as_ref().map_or(Engine::Whisper, |service| service.engine())
    }
}

impl Services {
    /// How to transcribe a call of `tenant`.
    pub(super) fn speech_plan(&self, tenant: &str, options: &CallOptions) -> SpeechPlan {
        let of = self.settings.speech_of(tenant);
        let (engine, complaint) = match options.engine.as_deref() {
            None => (of.engine, None),
            Some(asked) => match self.complaint_of(asked) {
                None => (asked, None),
                Some(complaint) => (of.engine, Some(format!("{complaint}; {} is used", of.engine))),
            },
        };
        SpeechPlan {
            language: options.language.as_deref().unwrap_or(of.language).to_owned(),
            vocabulary: (!of.vocabulary.is_empty()).then(|| vocabulary(of.vocabulary).into()),
            service: self.riva.clone().filter(|_| engine == Engine::Riva.name()),
            complaint,
        }
    }

    /// Why calls cannot have the engine `asked` for.
    fn complaint_of(&self, asked: &str) -> Option<String> {
        match asked.parse() {
            Err(error) => Some(format!("engine={asked}: {error}")),
            Ok(Engine::Riva) if self.riva.is_none() => {
                Some(format!("engine={asked}: there is no Riva: set riva.url"))
            }
            Ok(_) => None,
        }
    }
}

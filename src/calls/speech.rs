//! How one call is transcribed: what the dialplan says of it, else its tenant's table in the settings, else the section `speech`.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::Settings;
use crate::speech::Engine;
use crate::speech::remote::StreamingService;

use super::mode::CallOptions;
use super::services::Services;

/// The words as both engines take them.
pub fn vocabulary(words: &[String]) -> String {
    words.join(", ")
}

/// What is to be expected of a tenant's speech.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// Language code, or `auto`.
    pub language: String,
    /// Words and phrases, separated by commas.
    pub vocabulary: Option<Arc<str>>,
}

/// What is to be expected of each tenant's speech, by the settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expectations {
    all: Expected,
    tenants: BTreeMap<String, Expected>,
}

impl Expectations {
    /// As the section `speech` and the tenants' tables in it say.
    pub fn of(settings: &Settings) -> Self {
        let of = |tenant: &str| {
            let of = settings.speech_of(tenant);
            let words = (!of.vocabulary.is_empty()).then(|| vocabulary(of.vocabulary).into());
            Expected { language: of.language.to_owned(), vocabulary: words }
        };
        let tenants = settings.speech.tenants.keys().map(|tenant| (tenant.clone(), of(tenant))).collect();
        let language = settings.speech.language.clone();
        let words = &settings.speech.vocabulary;
        let words = (!words.is_empty()).then(|| vocabulary(words).into());
        Self { all: Expected { language, vocabulary: words }, tenants }
    }

    /// Of `tenant`; without one, and of those that have no table of their own, what holds for all.
    pub fn of_tenant(&self, tenant: Option<&str>) -> &Expected {
        tenant.and_then(|tenant| self.tenants.get(tenant)).unwrap_or(&self.all)
    }
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

//! NVIDIA Riva, as `serve` starts it and `check` looks at it.

use std::sync::Arc;

use crate::config::Settings;
use crate::speech::remote::StreamingService;
use crate::speech::synthesis::RemoteVoice;
use crate::telemetry::readiness::ReadinessBoard;

#[cfg(feature = "riva")]
pub(super) use with::{look, start, voice};
#[cfg(not(feature = "riva"))]
pub(super) use without::{look, start, voice};

type Started = Option<Arc<dyn StreamingService>>;
type Voice = Option<anyhow::Result<Arc<dyn RemoteVoice>>>;

#[cfg(feature = "riva")]
mod with {
    use super::{Arc, ReadinessBoard, Settings, Started, Voice};
    use crate::speech::riva::{RivaConfig, RivaModel, RivaService, RivaState};
    use crate::telemetry::readiness::{Dependency, Health};

    /// The client, if the settings name a server, with what is known of it on `readiness`.
    pub(crate) fn start(settings: &Settings, readiness: &Arc<ReadinessBoard>) -> anyhow::Result<Started> {
        let Some(config) = RivaConfig::of(settings)? else { return Ok(None) };
        let url = config.url.clone();
        let service = RivaService::new(config, tokio::runtime::Handle::current())?;
        let (mut state, readiness) = (service.watch(), readiness.clone());
        let without = match settings.riva.fallback.as_str() {
            "none" => "its calls are not transcribed meanwhile",
            _ => "the model in this process takes its calls meanwhile",
        };
        tokio::spawn(async move {
            loop {
                let now = match &*state.borrow_and_update() {
                    RivaState::Untried => Dependency::new(Health::Ok, format!("asking {url}")),
                    RivaState::Up => Dependency::new(Health::Ok, format!("answers at {url}")),
                    RivaState::Down(reason) => {
                        Dependency::new(Health::Degraded, format!("{reason}; {without}"))
                    }
                };
                readiness.put("riva", now);
                if state.changed().await.is_err() {
                    return;
                }
            }
        });
        Ok(Some(Arc::new(service)))
    }

    /// What it speaks with, if the settings name a server. On a runtime.
    pub(crate) fn voice(settings: &Settings) -> Voice {
        let config = RivaConfig::of(settings).transpose()?;
        Some(
            config
                .and_then(|config| RivaService::new(config, tokio::runtime::Handle::current()))
                .map_or_else(|error| Err(error.into()), |service| Ok(Arc::new(service) as _)),
        )
    }

    /// Whether the server is there and has a model for every language that may be asked for: `None` if the settings name none.
    pub(crate) async fn look(settings: &Settings) -> Option<Result<String, String>> {
        let config = match RivaConfig::of(settings) {
            Ok(config) => config?,
            Err(error) => return Some(Err(error.to_string())),
        };
        Some(models(settings, config).await)
    }

    async fn models(settings: &Settings, config: RivaConfig) -> Result<String, String> {
        let url = config.url.clone();
        let service =
            RivaService::new(config, tokio::runtime::Handle::current()).map_err(|error| error.to_string())?;
        let models = service.models().await.map_err(|error| error.to_string())?;
        let streaming: Vec<&RivaModel> = models.iter().filter(|model| model.is_streaming).collect();
        if streaming.is_empty() {
            return Err(format!("Riva at {url} has no model for streaming recognition: deploy one"));
        }
        let names: Vec<&str> = streaming.iter().map(|model| model.name.as_str()).collect();
        let wanted = settings.riva.model.as_str();
        let named: Vec<&&RivaModel> =
            streaming.iter().filter(|model| wanted.is_empty() || model.name == wanted).collect();
        if named.is_empty() {
            return Err(format!("riva.model is `{wanted}`: Riva at {url} has {}", names.join(", ")));
        }
        let languages = std::iter::once(settings.speech.language.as_str())
            .chain(settings.speech.tenants.values().filter_map(|tenant| tenant.language.as_deref()));
        for code in languages {
            let tag = service.tag_of(code)?;
            // One that does not say what it is for may be for anything.
            if !named.iter().any(|model| model.languages.is_empty() || model.languages.contains(&tag)) {
                let known: Vec<&str> =
                    named.iter().flat_map(|model| &model.languages).map(String::as_str).collect();
                return Err(format!(
                    "Riva at {url} has no model for {tag} (language `{code}`), only for {}: deploy one, or see riva.languages",
                    known.join(", ")
                ));
            }
        }
        Ok(format!("{url}: {}", names.join(", ")))
    }
}

#[cfg(not(feature = "riva"))]
mod without {
    use super::{Arc, ReadinessBoard, Settings, Started, Voice};

    const MISSING: &str =
        "riva.url is set, but this Sidetone was built without Riva: build it with the feature `riva`";

    pub(crate) fn start(settings: &Settings, _: &Arc<ReadinessBoard>) -> anyhow::Result<Started> {
        anyhow::ensure!(settings.riva.url.is_empty(), MISSING);
        Ok(None)
    }

    pub(crate) fn voice(_: &Settings) -> Voice {
        None
    }

    pub(crate) async fn look(settings: &Settings) -> Option<Result<String, String>> {
        (!settings.riva.url.is_empty()).then(|| Err(MISSING.into()))
    }
}

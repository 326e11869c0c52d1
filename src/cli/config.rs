//! `sidetone config`: what can be set, and what is set.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{SettingsArgs, output};

#[derive(Debug, Args)]
pub(super) struct ConfigArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Every setting with its help and default, as a file to start from.
    Example,
    /// The settings in force, secrets left out.
    Show,
}

pub(super) fn run(args: &ConfigArgs, settings: &SettingsArgs) -> anyhow::Result<ExitCode> {
    match args.what {
        What::Example => output::text(&crate::config::example())?,
        What::Show => {
            let mut settings = settings.load()?;
            let mut secrets = vec![
                &mut settings.ari.password,
                &mut settings.ami.password,
                &mut settings.websocket.password,
                &mut settings.tts.api_key,
                // They have passwords in them.
                &mut settings.store.url,
                &mut settings.rabbitmq.url,
            ];
            secrets.extend(settings.http.keys.iter_mut());
            for secret in secrets.into_iter().filter(|secret| !secret.is_empty()) {
                *secret = "(set)".into();
            }
            output::text(&toml::to_string_pretty(&settings)?)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

//! `sidetone config`: what can be set, and what is set.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};

use super::{SettingsArgs, output};
use crate::config::{Settings, import};
use crate::files;

/// What is shown in the place of a secret.
const HIDDEN: &str = "(set)";

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
    /// Take over the settings of a system that Sidetone takes the place of: the `transcoding.conf` of a conversion worker. Prints
    /// ours; says what has no meaning here.
    Import {
        /// The file.
        file: PathBuf,
        /// File to write the secret for Asterisk's Manager Interface to, for `ami.password_file`.
        #[arg(long, value_name = "FILE")]
        secret: Option<PathBuf>,
    },
}

pub(super) fn run(args: &ConfigArgs, settings: &SettingsArgs) -> anyhow::Result<ExitCode> {
    match &args.what {
        What::Example => output::text(&crate::config::example())?,
        What::Import { file, secret } => import(file, secret.as_deref())?,
        What::Show => {
            let mut settings = settings.load()?;
            hide_secrets(&mut settings);
            output::text(&toml::to_string_pretty(&settings)?)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn hide_secrets(settings: &mut Settings) {
    let mut secrets = vec![
        &mut settings.ari.password,
        &mut settings.ami.password,
        &mut settings.websocket.password,
        &mut settings.tts.api_key,
        // They have passwords in them.
        &mut settings.store.url,
        &mut settings.rabbitmq.url,
        &mut settings.redis.url,
    ];
    secrets.extend(settings.http.keys.iter_mut());
    for secret in secrets.into_iter().filter(|secret| !secret.is_empty()) {
        *secret = HIDDEN.into();
    }
    // NVIDIA's cloud has its key there.
    for entry in &mut settings.riva.metadata {
        *entry = format!("{}={HIDDEN}", entry.split_once('=').map_or("", |(name, _)| name));
    }
}

fn import(file: &Path, secret: Option<&Path>) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let imported = import::transcoding(&text).with_context(|| file.display().to_string())?;
    let mut settings: toml::Table = imported.settings.parse()?;
    match (imported.secret, secret) {
        (Some(words), Some(path)) => {
            files::replace_durably(path, words.as_bytes())
                .with_context(|| format!("cannot write {}", path.display()))?;
            let path = std::path::absolute(path)?.display().to_string();
            if let Some(ami) = settings.get_mut("ami").and_then(toml::Value::as_table_mut) {
                ami.insert("password_file".into(), path.into());
            }
        }
        (Some(_), None) => output::tell(
            "the secret for Asterisk is left out: put it into the file that ami.password_file names (--secret FILE writes it)",
        ),
        (None, _) => {}
    }
    for left_out in imported.left_out {
        output::tell(format_args!("{left_out} has no meaning here and is left out"));
    }
    output::text(&settings.to_string())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_shown() {
        let mut settings: Settings = toml::from_str(
            r#"
            ari.password = "secret"
            ami.password = "secret"
            websocket.password = "secret"
            tts.api_key = "secret"
            store.url = "postgres://sidetone:secret@db/sidetone"
            rabbitmq.url = "amqp://sidetone:secret@broker:5672/%2f"
            redis.url = "redis://:secret@cache:6379/0"
            http.keys = ["st_default_secret"]
            riva.metadata = ["function-id=secret", "authorization=Bearer secret"]
            "#,
        )
        .unwrap();
        hide_secrets(&mut settings);
        let shown = toml::to_string_pretty(&settings).unwrap();
        assert!(!shown.contains("secret"), "{shown}");
        assert!(shown.contains("\"authorization=(set)\""), "{shown}");
        assert_eq!(shown.matches(HIDDEN).count(), 10);
    }
}

//! SIGHUP: the settings are read again. What can change while calls run does; what cannot is named.

use std::sync::Arc;

use tokio::signal::unix::Signal;

use super::SettingsArgs;
use crate::api::{self, Auth};
use crate::config::{Settings, changed};
use crate::telemetry::log::LogLevel;

/// Settings that need no restart.
const APPLIED: [&str; 2] = ["http.keys", "log.level"];

pub(super) struct Reloader {
    pub(super) source: SettingsArgs,
    pub(super) in_force: Settings,
    pub(super) level: LogLevel,
    pub(super) auth: Arc<Auth>,
}

impl Reloader {
    /// Read the settings again at each of `hangups`.
    pub(super) async fn run(mut self, mut hangups: Signal) {
        while hangups.recv().await.is_some() {
            if let Err(error) = self.reload() {
                let error = super::in_words(&error);
                tracing::error!(error, "the settings were not reloaded: those in force stay");
            }
        }
    }

    /// All of it or nothing.
    fn reload(&mut self) -> anyhow::Result<()> {
        let new = self.source.load()?;
        let auth = Auth::from_keys(&new.http.keys)?;
        // The address stays until a restart, whatever the settings say now.
        api::check_bind(self.in_force.http.bind, &auth)?;
        self.level.set(&new.log.level)?;
        self.auth.replace(auth);
        let (applied, waiting): (Vec<_>, Vec<_>) =
            changed(&self.in_force, &new).into_iter().partition(|name| APPLIED.contains(&name.as_str()));
        tracing::info!(applied = applied.join(" "), "settings reloaded");
        for setting in waiting {
            tracing::warn!(setting, "this setting has changed and needs a restart");
        }
        self.in_force.http.keys = new.http.keys;
        self.in_force.log.level = new.log.level;
        Ok(())
    }
}

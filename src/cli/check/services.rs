//! The servers that jobs and lists of calls use, where they are configured: whether they answer and let us in.

use super::{Findings, Verdict};
use crate::cli::serve::{jobs, redis};
use crate::config::Settings;
use crate::store::Store;

pub(super) async fn look(settings: &Settings, findings: &mut Findings) {
    // SQLite lies in the data folder, and a server that runs may be writing to it.
    if !settings.store.url.is_empty() {
        let outcome = Store::look(&settings.store.url).await;
        findings.result("database", outcome.map(|()| "PostgreSQL".into()).map_err(|error| error.to_string()));
    }
    match jobs::rabbit(settings) {
        Ok(None) => {}
        Ok(Some(rabbit)) => match rabbit.look().await {
            Ok(()) => findings.add("broker", Verdict::Good, "RabbitMQ"),
            Err(error) => findings.add("broker", Verdict::Bad, error.to_string()),
        },
        Err(error) => findings.add("broker", Verdict::Bad, format!("{error:#}")),
    }
    match redis::config(settings) {
        Ok(None) => {}
        Ok(Some(config)) => match config.look().await {
            Ok(()) => findings.add("redis", Verdict::Good, "answers"),
            // Nothing depends on it.
            Err(error) => findings.add("redis", Verdict::Warning, error.to_string()),
        },
        Err(error) => findings.add("redis", Verdict::Bad, format!("{error:#}")),
    }
}

//! What a server keeps its rows, its queues and its copies in, where they are configured.

use super::Findings;
use crate::cli::serve;
use crate::config::Settings;
use crate::jobs::broker;
use crate::store::{self, Dialect, Tables};

pub(super) async fn look(settings: &Settings, findings: &mut Findings) {
    findings.result("database", database(settings).await);
    if let Some(outcome) = message_broker(settings).await {
        findings.result("broker", outcome);
    }
    if let Some(outcome) = redis(settings).await {
        findings.result("redis", outcome);
    }
}

async fn database(settings: &Settings) -> Result<String, String> {
    let seen =
        store::look(&settings.store.url, &settings.node.data).await.map_err(|error| error.to_string())?;
    let kind = match seen.dialect {
        Dialect::Sqlite => "SQLite",
        Dialect::Postgres => "PostgreSQL",
    };
    let tables = match seen.tables {
        Tables::None => "its tables are made when the server starts",
        Tables::Earlier => "its tables are brought up to date when the server starts",
        Tables::Current => "its tables are up to date",
    };
    Ok(format!("{kind} at {}: {tables}", seen.url))
}

async fn message_broker(settings: &Settings) -> Option<Result<String, String>> {
    let config = match serve::jobs::rabbit(settings) {
        Ok(config) => config?,
        Err(error) => return Some(Err(format!("{error:#}"))),
    };
    let seen = broker::look(&config).await;
    Some(seen.map(|()| format!("RabbitMQ at {}", host(&config.url))).map_err(|error| error.to_string()))
}

async fn redis(settings: &Settings) -> Option<Result<String, String>> {
    let config = match serve::redis::config(settings) {
        Ok(config) => config?,
        Err(error) => return Some(Err(format!("{error:#}"))),
    };
    let seen = config.look().await;
    Some(seen.map(|()| format!("Redis at {}", host(&config.url))).map_err(|error| error.to_string()))
}

/// For people: without user and password.
fn host(url: &str) -> &str {
    url.rsplit(['@', '/']).find(|part| part.contains(':')).unwrap_or(url)
}

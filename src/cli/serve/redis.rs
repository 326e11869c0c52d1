//! The part of `sidetone serve` that shares by way of Redis.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use crate::config::Settings;
use crate::jobs::shared::{Mirror, SharedSpeech};
use crate::speech::synthesis::SharedCache;
use crate::store::redis::{Redis, RedisConfig};
use crate::telemetry::readiness::ReadinessBoard;

const HOUR: Duration = Duration::from_secs(3_600);

/// How to reach Redis, where one is configured.
pub(in crate::cli) fn config(settings: &Settings) -> anyhow::Result<Option<RedisConfig>> {
    let own = &settings.redis;
    if own.url.is_empty() {
        return Ok(None);
    }
    let read = |path: &std::path::PathBuf| {
        std::fs::read(path).with_context(|| format!("cannot read redis.ca_file = {}", path.display()))
    };
    let ca = own.ca_file.as_ref().map(read).transpose()?;
    Ok(Some(RedisConfig { url: own.url.clone(), ca, timeout: Duration::from_millis(own.timeout_ms) }))
}

/// A connection, where one is configured. It need not come about.
pub(super) fn start(settings: &Settings, readiness: &Arc<ReadinessBoard>) -> anyhow::Result<Option<Redis>> {
    let start = |config| Redis::start(config, readiness.clone());
    Ok(config(settings)?.map(start).transpose()?)
}

/// What other nodes have spoken.
pub(super) fn speech(settings: &Settings, redis: &Redis) -> Arc<dyn SharedCache> {
    let own = &settings.redis;
    let most_bytes = usize::try_from(own.max_audio_kib << 10).unwrap_or(usize::MAX);
    Arc::new(SharedSpeech::new(redis.clone(), &own.prefix, most_bytes, HOUR * 24 * own.audio_days))
}

/// What tells Redis of jobs, if that is wanted.
pub(super) fn mirror(settings: &Settings) -> Option<Mirror> {
    let own = &settings.redis;
    (!own.job_key.is_empty()).then(|| Mirror::new(&own.job_key, HOUR * own.job_hours))
}

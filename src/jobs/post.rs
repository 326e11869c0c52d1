//! Webhooks: what came of a job, POSTed to whoever asked for that, until they have it.
//!
//! The letter was written in the commit that ended the job, so no crash loses it; it is sent again until it is taken, and may so come
//! twice: `Idempotency-Key` is the same then.

use std::time::Duration;

use reqwest::Client;
use tokio_util::sync::CancellationToken;

use super::queue::{Queue, now_ms};
use crate::cause;
use crate::crash::{self, Step};
use crate::store::StoreError;
use crate::store::jobs::{Letter, Transport};
use crate::telemetry::metric;

/// A server that does not answer for this long is tried again later.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Letters read at a time; as many are under way at once.
const AT_ONCE: i64 = 16;
/// First pause; each is twice the one before.
const FIRST_PAUSE_MS: i64 = 1_000;
const LONGEST_PAUSE_MS: i64 = 3_600_000;
/// Given up after as many: that is a day and a half after the first.
const ATTEMPTS: u32 = 45;
/// While the database does not answer it is asked this often.
const PAUSE: Duration = Duration::from_secs(5);

/// Deliver webhooks until `stop` is cancelled.
pub async fn deliver(queue: Queue, client: Client, stop: CancellationToken) {
    loop {
        let written = queue.letters_written();
        tokio::pin!(written);
        let pause = match round(&queue, &client).await {
            Ok(pause) => pause,
            Err(error) => {
                tracing::warn!(%error, "webhooks cannot be looked for");
                PAUSE
            }
        };
        tokio::select! {
            () = &mut written => {}
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Send what is due; says when to come again.
async fn round(queue: &Queue, client: &Client) -> Result<Duration, StoreError> {
    let letters = queue.jobs().letters(Transport::Webhook, AT_ONCE, now_ms()).await?;
    if letters.is_empty() {
        let due = queue.jobs().next_letter(Transport::Webhook).await?;
        let pause = due.map_or(60_000, |due| (due - now_ms()).clamp(10, 60_000));
        return Ok(Duration::from_millis(pause.unsigned_abs()));
    }
    let sent = letters.iter().map(|letter| async move { (letter, send(client, letter).await) });
    let mut arrived = Vec::new();
    for (letter, outcome) in futures_util::future::join_all(sent).await {
        match outcome {
            Ok(()) => {
                crash::here(Step::Told);
                metric::LETTERS.add_labelled("outcome", "sent", 1);
                arrived.push(letter.place);
            }
            Err(reason) if letter.attempts + 1 >= ATTEMPTS => {
                tracing::warn!(job = %letter.key, url = letter.letter.address, reason, "a webhook is given up");
                metric::LETTERS.add_labelled("outcome", "given_up", 1);
                arrived.push(letter.place);
            }
            Err(reason) => {
                let pause = (FIRST_PAUSE_MS << letter.attempts.min(20)).min(LONGEST_PAUSE_MS);
                tracing::info!(job = %letter.key, url = letter.letter.address, reason, pause_ms = pause, "a webhook is sent again later");
                metric::LETTERS.add_labelled("outcome", "failed", 1);
                queue.jobs().send_later(letter.place, now_ms() + pause).await?;
            }
        }
    }
    queue.jobs().arrived(&arrived).await?;
    Ok(Duration::ZERO)
}

async fn send(client: &Client, letter: &Letter) -> Result<(), String> {
    let request = client
        .post(&letter.letter.address)
        .timeout(TIMEOUT)
        .header("content-type", "application/json")
        .header("idempotency-key", &*letter.key.id)
        .body(letter.letter.body.clone());
    let response = request.send().await.map_err(|error| cause::innermost(&error))?;
    match response.status() {
        status if status.is_success() => Ok(()),
        status => Err(format!("the server answers {status}")),
    }
}

//! Letters to messages: published with confirmation, then struck off.

use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection};

use super::Rabbit;
use super::session::SessionError;
use crate::crash::{self, Step};
use crate::jobs::queue::{Queue, now_ms};
use crate::store::StoreError;
use crate::store::jobs::{Letter, Transport};
use crate::telemetry::metric;

/// Letters under way at once.
const AT_ONCE: i64 = 256;
/// While the database does not answer it is asked this often.
const PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE_MS: i64 = 30_000;

/// Publish what is due, until the connection breaks.
pub(super) async fn publish(
    rabbit: &Rabbit,
    queue: &Queue,
    connection: &Connection,
) -> Result<(), SessionError> {
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    loop {
        let pause = match round(queue, &channel).await? {
            Ok(pause) => pause,
            Err(error) => {
                tracing::warn!(%error, "what is to be published cannot be read");
                PAUSE
            }
        };
        tokio::select! {
            () = rabbit.letters.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn round(queue: &Queue, channel: &Channel) -> Result<Result<Duration, StoreError>, SessionError> {
    let letters = match queue.jobs().letters(Transport::Queue, AT_ONCE, now_ms()).await {
        Ok(letters) => letters,
        Err(error) => return Ok(Err(error)),
    };
    if letters.is_empty() {
        let due = match queue.jobs().next_letter(Transport::Queue).await {
            Ok(due) => due,
            Err(error) => return Ok(Err(error)),
        };
        let pause = due.map_or(LONGEST_PAUSE_MS, |due| (due - now_ms()).clamp(1, LONGEST_PAUSE_MS));
        return Ok(Ok(Duration::from_millis(pause.unsigned_abs())));
    }
    let mut under_way = Vec::with_capacity(letters.len());
    for letter in &letters {
        let Ok(address) = ShortString::try_new(&*letter.letter.address) else {
            tracing::warn!(job = %letter.key, queue = letter.letter.address, "no queue can have this name: its message is given up");
            metric::LETTERS.add_labelled("outcome", "given_up", 1);
            under_way.push((letter, None));
            continue;
        };
        let options = BasicPublishOptions { mandatory: true, immediate: false };
        let sent = channel
            .basic_publish("".into(), address, options, letter.letter.body.as_bytes(), properties(letter))
            .await?;
        under_way.push((letter, Some(sent)));
        crash::here(Step::Sent);
    }
    let mut arrived = Vec::with_capacity(letters.len());
    for (letter, sent) in under_way {
        let Some(sent) = sent else {
            arrived.push(letter.place);
            continue;
        };
        let confirmed = sent.await?;
        let (is_ack, returned) = (confirmed.is_ack(), confirmed.take_message().is_some());
        match (is_ack, returned) {
            (true, false) => {
                metric::LETTERS.add_labelled("outcome", "sent", 1);
                arrived.push(letter.place);
            }
            // Nobody has a queue of that name: whoever asked for an answer there is gone.
            (_, true) => {
                tracing::warn!(job = %letter.key, queue = letter.letter.address, "there is no such queue: its message is given up");
                metric::LETTERS.add_labelled("outcome", "given_up", 1);
                arrived.push(letter.place);
            }
            (false, false) => metric::LETTERS.add_labelled("outcome", "failed", 1),
        }
    }
    crash::here(Step::Confirmed);
    if let Err(error) = queue.jobs().arrived(&arrived).await {
        return Ok(Err(error));
    }
    Ok(Ok(Duration::ZERO))
}

fn properties(letter: &Letter) -> BasicProperties {
    let mut properties =
        BasicProperties::default().with_delivery_mode(2).with_content_type("application/json".into());
    let mut headers = FieldTable::default();
    for (name, value) in &letter.letter.headers {
        let short = || ShortString::try_new(value.as_str()).ok();
        properties = match name.as_str() {
            "message_id" => short().map_or(properties.clone(), |id| properties.with_message_id(id)),
            "correlation_id" => short().map_or(properties.clone(), |id| properties.with_correlation_id(id)),
            other => {
                if let Ok(name) = ShortString::try_new(other) {
                    headers.insert(name, AMQPValue::LongString(value.as_str().into()));
                }
                properties
            }
        };
    }
    properties.with_headers(headers)
}

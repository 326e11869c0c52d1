//! Messages to jobs.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicPublishOptions,
    BasicQosOptions, ConfirmSelectOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use super::session::SessionError;
use super::{Rabbit, WorkQueue};
use crate::calls::record::is_valid_name;
use crate::config::is_tenant;
use crate::crash::{self, Step};
use crate::jobs::message::Message;
use crate::jobs::queue::{Queue, dead, now_ms};
use crate::store::StoreError;
use crate::store::jobs::{Job, JobKey, JobKind, JobState, NewJob, Route};

/// So many messages are taken for each worker: the next is here when it is done with one.
const PER_WORKER: usize = 2;
/// Messages whose job somebody else has, or has had, are looked after this often.
const LOOK: Duration = Duration::from_secs(5);
/// While the database takes nothing, a message is given back after this long, so that others may take it.
const PAUSE: Duration = Duration::from_secs(2);

/// Take messages of one queue, as many as the workers have room for, until the connection breaks.
pub(super) async fn consume(
    rabbit: &Rabbit,
    queue: &Queue,
    connection: &Connection,
    work: &WorkQueue,
    mut numbers: watch::Receiver<usize>,
) -> Result<(), SessionError> {
    let graves = connection.create_channel().await?;
    graves.confirm_select(ConfirmSelectOptions::default()).await?;
    // Dropped, a channel is closed, and what came by it goes back.
    let mut channels = Vec::new();
    loop {
        let number = *numbers.borrow_and_update();
        if number == 0 {
            // Without workers it is for others.
            if numbers.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            continue;
        }
        let channel = connection.create_channel().await?;
        channels.push(channel.clone());
        let prefetch = u16::try_from(number * PER_WORKER).unwrap_or(u16::MAX);
        channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
        let tag = format!("{}:{}", queue.owner(), work.name);
        let options = BasicConsumeOptions::default();
        let name = work.name.as_str();
        let mut messages =
            channel.basic_consume(name.into(), tag.as_str().into(), options, FieldTable::default()).await?;
        loop {
            let delivery = tokio::select! {
                delivery = messages.next() => delivery,
                // It cannot be told otherwise than by beginning anew; what came by this channel is acknowledged by it.
                Ok(()) = numbers.changed() => {
                    channel.basic_cancel(tag.as_str().into(), BasicCancelOptions::default()).await?;
                    break;
                }
            };
            let delivery = delivery.ok_or_else(|| SessionError::Cancelled(work.name.clone()))??;
            take(rabbit, queue, work, &graves, delivery).await?;
        }
    }
}

async fn take(
    rabbit: &Rabbit,
    queue: &Queue,
    work: &WorkQueue,
    graves: &Channel,
    delivery: Delivery,
) -> Result<(), SessionError> {
    let message = match Message::parse(work.kind, &delivery.data) {
        Ok(message) => message,
        Err(reason) => {
            let reason = reason.to_string();
            tracing::warn!(
                queue = work.name,
                reason,
                "a message is no job: it lies in the queue of dead letters"
            );
            return bury(graves, work, &delivery, &reason).await;
        }
    };
    crash::here(Step::Delivered);
    match accept(rabbit, queue, work, &message, &delivery).await {
        Ok(Some(job)) if job.state.is_final() => {
            // It came again after all was done.
            delivery.acker.ack(BasicAckOptions::default()).await?;
            Ok(())
        }
        Ok(Some(job)) => {
            rabbit.receipt(&job.key, delivery.acker);
            crash::here(Step::Kept);
            // It may have ended between the look and the note.
            settle_if_over(rabbit, queue, &job.key).await;
            queue.ring(job.kind);
            Ok(())
        }
        Ok(None) => {
            delivery.acker.nack(BasicNackOptions { requeue: true, multiple: false }).await?;
            Ok(())
        }
        Err(error) => {
            tracing::warn!(queue = work.name, %error, "a message cannot be taken in: RabbitMQ keeps it");
            tokio::time::sleep(PAUSE).await;
            delivery.acker.nack(BasicNackOptions { requeue: true, multiple: false }).await?;
            Ok(())
        }
    }
}

/// The row of a message; `None` if it was forgotten this moment.
async fn accept(
    rabbit: &Rabbit,
    queue: &Queue,
    work: &WorkQueue,
    message: &Message,
    delivery: &Delivery,
) -> Result<Option<Job>, StoreError> {
    let properties = &delivery.properties;
    let tenant = header(properties, "x-sidetone-tenant").filter(|tenant| is_tenant(tenant));
    let tenant: Arc<str> = tenant.map_or_else(|| rabbit.config.tenant.clone(), Into::into);
    let text =
        |short: &Option<lapin::types::ShortString>| short.as_ref().map(|text| text.as_str().to_owned());
    let message_id = text(properties.message_id()).filter(|id| is_valid_name(id)).map(Arc::from);
    let id = match message.id.clone().or(message_id) {
        Some(id) => id,
        None => nameless(queue, &tenant, work.kind, &delivery.data, delivery.redelivered).await?,
    };
    let key = JobKey { tenant, id };
    let route = Route {
        queue: Some(work.name.clone()),
        results: text(properties.reply_to()).or_else(|| work.results.clone()),
        webhook: message.webhook.clone(),
        correlation_id: text(properties.correlation_id()),
    };
    let now = now_ms();
    let job = NewJob {
        key: key.clone(),
        kind: work.kind,
        priority: message.priority.max(work.priority),
        payload: message.payload.clone(),
        route,
        run_after: now,
        holder: queue.owner().to_owned(),
        letter: None,
    };
    queue.jobs().insert(job, now).await?;
    crash::here(Step::Stored);
    queue.changed(&key);
    queue.jobs().hold(&key, queue.owner(), now).await
}

/// The id of a message that has none: the same for the same text, as long as what it asked for is not done, or if the broker says that it
/// comes again. A producer that publishes the same once more later wants it done once more.
async fn nameless(
    queue: &Queue,
    tenant: &str,
    kind: JobKind,
    body: &[u8],
    redelivered: bool,
) -> Result<Arc<str>, StoreError> {
    let digest = Sha256::new().chain_update(kind.name()).chain_update([0]).chain_update(body).finalize();
    let prefix: String = "m-"
        .chars()
        .chain(digest[..12].iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).map(char::from))
        .collect();
    if let Some(known) = queue.jobs().latest_of(tenant, &prefix).await?
        && (redelivered || !known.state.is_final())
    {
        return Ok(known.key.id);
    }
    let own = uuid::Uuid::now_v7().simple().to_string();
    Ok(format!("{prefix}-{}", &own[own.len() - 12..]).into())
}

/// What is no job lies where somebody looks, before it is gone from where it was.
async fn bury(
    channel: &Channel,
    work: &WorkQueue,
    delivery: &Delivery,
    reason: &str,
) -> Result<(), SessionError> {
    let mut headers = delivery.properties.headers().clone().unwrap_or_default();
    headers.insert("x-sidetone-reason".into(), AMQPValue::LongString(reason.into()));
    let properties = delivery.properties.clone().with_headers(headers).with_delivery_mode(2);
    let place = dead(&work.name);
    let confirmed = channel
        .basic_publish(
            "".into(),
            place.as_str().into(),
            BasicPublishOptions::default(),
            &delivery.data,
            properties,
        )
        .await?
        .await?;
    crash::here(Step::Buried);
    match confirmed.is_ack() {
        true => delivery.acker.ack(BasicAckOptions::default()).await?,
        false => delivery.acker.nack(BasicNackOptions { requeue: true, multiple: false }).await?,
    };
    Ok(())
}

fn header<'a>(properties: &'a BasicProperties, name: &str) -> Option<&'a str> {
    match properties.headers().as_ref()?.inner().get(name)? {
        AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok(),
        AMQPValue::ShortString(text) => Some(text.as_str()),
        _ => None,
    }
}

/// Messages whose job another process has, or had: acknowledged once it is over, ours to do once it is free.
pub(super) async fn look_after(rabbit: &Rabbit, queue: &Queue) -> Result<(), SessionError> {
    loop {
        tokio::time::sleep(LOOK).await;
        for key in rabbit.held() {
            settle_if_over(rabbit, queue, &key).await;
        }
    }
}

async fn settle_if_over(rabbit: &Rabbit, queue: &Queue, key: &JobKey) {
    use crate::jobs::queue::Engine as _;
    match queue.jobs().hold(key, queue.owner(), now_ms()).await {
        Ok(Some(job)) if job.state.is_final() => rabbit.over(key),
        // Forgotten, and so over.
        Ok(None) => rabbit.over(key),
        Ok(Some(job)) if job.state == JobState::Queued => queue.ring(job.kind),
        Ok(Some(_)) => {}
        Err(error) => tracing::debug!(%error, job = %key, "a job cannot be looked after"),
    }
}

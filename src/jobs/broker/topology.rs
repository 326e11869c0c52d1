//! Queues: declared where they are not, taken as they are where somebody else declared them.

use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ErrorKind};

use super::RabbitConfig;
use crate::jobs::queue::dead;

/// A queue cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "RabbitMQ's queue `{queue}` cannot be used: {reason}; give this user configure, read and write on it, or name another queue"
)]
pub(super) struct TopologyError {
    pub(super) queue: String,
    pub(super) reason: String,
}

/// AMQP 0-9-1: the queue is there with other properties.
const PRECONDITION_FAILED: u16 = 406;

/// All queues that are used.
pub(super) async fn declare(connection: &Connection, config: &RabbitConfig) -> Result<(), TopologyError> {
    for work in &config.work {
        one(connection, &work.name, config.quorum).await?;
        one(connection, &dead(&work.name), config.quorum).await?;
        if let Some(results) = &work.results {
            one(connection, results, config.quorum).await?;
        }
    }
    Ok(())
}

/// One queue.
pub(super) async fn one(connection: &Connection, queue: &str, quorum: bool) -> Result<(), TopologyError> {
    let failed = |reason: String| TopologyError { queue: queue.to_owned(), reason };
    // A refusal closes the channel it came by.
    let channel: Channel = connection.create_channel().await.map_err(|error| failed(error.to_string()))?;
    let mut arguments = FieldTable::default();
    if quorum {
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    }
    let name = lapin::types::ShortString::try_new(queue).map_err(|error| failed(error.to_string()))?;
    match channel.queue_declare(name, QueueDeclareOptions::durable(), arguments).await {
        Ok(_) => {
            // Nothing else goes by it.
            let _ = channel.close(200, "declared".into()).await;
            Ok(())
        }
        Err(error) => match error.kind() {
            ErrorKind::ProtocolError(refusal) if refusal.get_id() == PRECONDITION_FAILED => {
                let said = refusal.get_message().to_string();
                if said.contains("'durable'") {
                    tracing::warn!(
                        queue,
                        said,
                        "this queue loses its messages when RabbitMQ restarts: whoever declares it should say `durable`"
                    );
                } else {
                    tracing::info!(queue, said, "this queue is somebody else's and used as it is");
                }
                Ok(())
            }
            _ => Err(failed(error.to_string())),
        },
    }
}

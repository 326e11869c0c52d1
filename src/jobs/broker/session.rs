//! One connection, from its beginning to its end.

use std::collections::HashMap;

use lapin::tcp::OwnedTLSConfig;
use lapin::{Connection, ConnectionProperties, DefaultConnectionBuilder};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::topology::TopologyError;
use super::{Rabbit, RabbitConfig, intake, outgoing, topology};
use crate::jobs::queue::Queue;
use crate::store::jobs::JobKind;
use crate::tls::{self, Distrust};

/// Why there is no connection any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    #[error("RabbitMQ at {address}: {source} ({})", remedy(&.source.to_string()))]
    Connect { address: String, source: lapin::Error },
    #[error(transparent)]
    Topology(#[from] TopologyError),
    #[error("the connection to RabbitMQ broke off: {0}")]
    Broken(#[from] lapin::Error),
    #[error("RabbitMQ ended the delivery of `{0}`: was the queue deleted?")]
    Cancelled(String),
}

fn remedy(error: &str) -> &'static str {
    match tls::distrust(error) {
        Some(Distrust::Authority) => {
            "its certificate is signed by nobody known here: name the authority's file in rabbitmq.ca_file"
        }
        Some(Distrust::Name) => "rabbitmq.url must name the broker as its certificate does",
        None if error.contains("ACCESS_REFUSED") => "correct user and password in rabbitmq.url",
        None => "see whether it runs and rabbitmq.url is right",
    }
}

/// Says `connected`, and runs until something breaks or `stop` is cancelled.
pub(super) async fn run(
    rabbit: &Rabbit,
    queue: &Queue,
    workers: &HashMap<JobKind, watch::Receiver<usize>>,
    connected: &mut (dyn FnMut() + Send),
    stop: &CancellationToken,
) -> Result<(), SessionError> {
    let connection = tokio::select! {
        connection = connect(&rabbit.config) => connection?,
        () = stop.cancelled() => return Ok(()),
    };
    topology::declare(&connection, &rabbit.config).await?;
    connected();
    let consume = rabbit.config.work.iter().filter_map(|work| {
        let numbers = workers.get(&work.kind)?.clone();
        Some(intake::consume(rabbit, queue, &connection, work, numbers))
    });
    let consume = futures_util::future::try_join_all(consume.collect::<Vec<_>>());
    let outcome = tokio::select! {
        outcome = consume => outcome.map(drop),
        outcome = intake::look_after(rabbit, queue) => outcome,
        outcome = outgoing::publish(rabbit, queue, &connection) => outcome,
        () = stop.cancelled() => Ok(()),
    };
    // What was delivered and not acknowledged is the broker's again with this; it may be gone already.
    let _ = connection.close(200, "Sidetone stops or begins anew".into()).await;
    outcome
}

/// Connect once, with the permission to open a channel, and let go again.
pub(super) async fn look(config: &RabbitConfig) -> Result<(), SessionError> {
    let connection = connect(config).await?;
    let channel = connection.create_channel().await?;
    // All that was to be known is known.
    let _ = channel.close(200, "it was only looked at".into()).await;
    let _ = connection.close(200, "it was only looked at".into()).await;
    Ok(())
}

async fn connect(config: &RabbitConfig) -> Result<Connection, SessionError> {
    let address = config.url.rsplit('@').next().unwrap_or_default().to_owned();
    let failed = |source| SessionError::Connect { address: address.clone(), source };
    let properties = ConnectionProperties::default().with_connection_name("sidetone".into());
    let tls = OwnedTLSConfig { identity: None, cert_chain: config.ca.clone() };
    let builder = DefaultConnectionBuilder::new().map_err(failed)?;
    builder
        .with_uri_str(config.url.clone())
        .with_properties(properties)
        .with_tls_config(tls)
        .connect()
        .await
        .map_err(failed)
}

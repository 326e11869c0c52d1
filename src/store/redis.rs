//! Redis, where it is configured: what nodes share to save each other work, and what other programs read.
//!
//! Nothing depends on it. Whoever asks gets an answer within [`RedisConfig::timeout`] or goes on without one; while there is no connection
//! nobody waits at all. A connection that breaks or does not answer is made anew behind everybody's back, after pauses that grow.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError, RedisResult,
};
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::telemetry::metric;
use crate::telemetry::readiness::{Health, ReadinessBoard};
use crate::tls::{self, Distrust};

/// Name on `/ready`.
const NAME: &str = "redis";
/// First pause between attempts to connect; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A connection is made within this time: name, TCP, TLS and login.
const CONNECT: Duration = Duration::from_secs(5);
/// A connection that nobody uses is tried this often.
const LOOK: Duration = Duration::from_secs(5);

/// Which Redis.
#[derive(Clone)]
pub struct RedisConfig {
    /// `redis://[user:password@]host[:port][/database]` or `rediss://…` for TLS.
    pub url: String,
    /// Certificates (PEM) of whoever signed the server's; without it, the public authorities.
    pub ca: Option<Vec<u8>>,
    /// Longest wait for an answer.
    pub timeout: Duration,
}

impl RedisConfig {
    fn client(&self) -> Result<Client, BadRedis> {
        let client = match &self.ca {
            Some(ca) => {
                let tls = redis::TlsCertificates { client_tls: None, root_cert: Some(ca.clone()) };
                Client::build_with_tls(self.url.as_str(), tls)
            }
            None => Client::open(self.url.as_str()),
        };
        client.map_err(BadRedis)
    }

    /// Look whether it answers and lets us in.
    ///
    /// # Errors
    /// [`NoRedis`].
    pub async fn look(&self) -> Result<(), NoRedis> {
        let client = self.client().map_err(|error| NoRedis(error.to_string()))?;
        connect(&client, self.timeout).await.map(drop)
    }
}

impl std::fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The URL may hold a password.
        f.debug_struct("RedisConfig").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

/// A URL or certificate that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("redis.url cannot be used: {0}; write it as redis://user:password@host:6379/0, or rediss:// for TLS")]
pub struct BadRedis(RedisError);

/// Why there is no connection, in words, with the remedy.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NoRedis(String);

/// Why there is no answer. Each is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// No connection, or it broke.
    Away,
    /// Not in time.
    Slow,
    /// The server will not: it is full, the key is of another type, the user may not.
    Refused,
}

impl NoAnswer {
    const fn name(self) -> &'static str {
        match self {
            Self::Away => "away",
            Self::Slow => "slow",
            Self::Refused => "refused",
        }
    }
}

/// A connection to Redis, or none; cheap to clone. It is kept as long as there is one of these.
#[derive(Clone)]
pub struct Redis {
    shared: Arc<Shared>,
    _keeper: Arc<DropGuard>,
}

struct Shared {
    timeout: Duration,
    link: watch::Sender<Link>,
    broken: Notify,
    /// Whether this connection was of any use yet.
    worked: AtomicBool,
    /// Whether a refusal of this connection was told of.
    refused: AtomicBool,
}

#[derive(Clone, Default)]
struct Link {
    /// So many connections were made.
    made: u64,
    /// The last of them, while it is good.
    open: Option<MultiplexedConnection>,
}

impl std::fmt::Debug for Redis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redis").field("connected", &self.shared.link.borrow().open.is_some()).finish()
    }
}

impl Redis {
    /// Keep a connection from now on; returns at once. `readiness` is told how it stands.
    ///
    /// # Errors
    /// [`BadRedis`].
    pub fn start(config: RedisConfig, readiness: Arc<ReadinessBoard>) -> Result<Self, BadRedis> {
        let client = config.client()?;
        let shared = Arc::new(Shared {
            timeout: config.timeout,
            link: watch::Sender::default(),
            broken: Notify::new(),
            worked: AtomicBool::new(false),
            refused: AtomicBool::new(false),
        });
        let stop = CancellationToken::new();
        let (kept, until) = (shared.clone(), stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = keep(&client, &kept, &readiness) => {}
                () = until.cancelled() => {}
            }
        });
        Ok(Self { shared, _keeper: Arc::new(stop.drop_guard()) })
    }

    /// Returns once there is a connection, and not before more than `after` were made; says how many were. What was kept there may be gone
    /// with each new one.
    pub async fn connected(&self, after: u64) -> u64 {
        let mut link = self.shared.link.subscribe();
        // The sender is here, and so it is not gone.
        let found = link.wait_for(|link| link.open.is_some() && link.made > after).await;
        found.map_or(after, |link| link.made)
    }

    /// The answer to a command.
    ///
    /// # Errors
    /// [`NoAnswer`].
    pub async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, NoAnswer> {
        self.shared.within(async |mut link| command.query_async(&mut link).await).await
    }

    /// The answers to several commands.
    ///
    /// # Errors
    /// [`NoAnswer`], also if one of them is refused.
    pub async fn ask_all<T: FromRedisValue>(&self, commands: &Pipeline) -> Result<T, NoAnswer> {
        self.shared.within(async |mut link| commands.query_async(&mut link).await).await
    }
}

impl Shared {
    async fn within<T, F>(&self, ask: impl FnOnce(MultiplexedConnection) -> F) -> Result<T, NoAnswer>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let Link { made, open } = self.link.borrow().clone();
        let Some(link) = open else { return Err(count(NoAnswer::Away)) };
        let why = match timeout(self.timeout, ask(link)).await {
            Ok(Ok(answer)) => {
                self.worked.store(true, Ordering::Relaxed);
                return Ok(answer);
            }
            Err(_) => NoAnswer::Slow,
            Ok(Err(error)) if error.is_timeout() => NoAnswer::Slow,
            Ok(Err(error)) if error.is_io_error() || error.is_unrecoverable_error() => NoAnswer::Away,
            Ok(Err(error)) => {
                // One fact, one warning: others may work meanwhile (to ask, to look whether it is there), and say nothing of this.
                if !self.refused.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "Redis refuses: what it would have kept is not shared, and all else goes on");
                }
                return Err(count(NoAnswer::Refused));
            }
        };
        // Whoever comes next is not to wait for it as well.
        self.link.send_if_modified(|link| {
            // There may be another one by now.
            let is_this = link.made == made && link.open.is_some();
            if is_this {
                link.open = None;
            }
            is_this
        });
        self.broken.notify_one();
        Err(count(why))
    }
}

fn count(why: NoAnswer) -> NoAnswer {
    metric::REDIS_UNANSWERED.add_labelled("why", why.name(), 1);
    why
}

/// Connect, watch, and connect again, for ever.
async fn keep(client: &Client, shared: &Shared, readiness: &ReadinessBoard) {
    let mut pause = FIRST_PAUSE;
    loop {
        let reason = match connect(client, shared.timeout).await {
            Ok(link) => {
                shared.worked.store(false, Ordering::Relaxed);
                shared.refused.store(false, Ordering::Relaxed);
                shared.link.send_modify(|known| *known = Link { made: known.made + 1, open: Some(link) });
                readiness.set(NAME, Health::Ok, "Redis");
                watch(shared).await;
                if shared.worked.load(Ordering::Relaxed) {
                    pause = FIRST_PAUSE;
                }
                "Redis does not answer any more".to_owned()
            }
            Err(NoRedis(reason)) => reason,
        };
        readiness.set(
            NAME,
            Health::Degraded,
            format!("{reason}; nothing is shared meanwhile, all else goes on"),
        );
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn connect(client: &Client, answers_within: Duration) -> Result<MultiplexedConnection, NoRedis> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT))
        .set_response_timeout(Some(answers_within));
    let connected = timeout(CONNECT, async {
        let mut link = client.get_multiplexed_async_connection_with_config(&config).await?;
        // A server that hangs takes connections, too, and so does one that wants a password.
        match redis::cmd("PING").query_async::<()>(&mut link).await {
            // What the user may do without is for the commands to find out.
            Err(error) if error.code() != Some("NOPERM") => Err(error),
            _ => Ok(link),
        }
    });
    match connected.await {
        Ok(Ok(link)) => Ok(link),
        Ok(Err(error)) => Err(NoRedis(format!("no connection to Redis: {}", remedy(&error)))),
        Err(_) => Err(NoRedis(format!("no connection to Redis within {} s (redis.url)", CONNECT.as_secs()))),
    }
}

/// Returns when the connection is gone.
async fn watch(shared: &Shared) {
    loop {
        tokio::select! {
            () = shared.broken.notified() => {}
            () = sleep(LOOK) => {
                let _ = shared.within(async |mut link| redis::cmd("PING").query_async::<()>(&mut link).await).await;
            }
        }
        if shared.link.borrow().open.is_none() {
            return;
        }
    }
}

fn remedy(error: &RedisError) -> String {
    let remedy = match error.kind() {
        ErrorKind::AuthenticationFailed => "the user or password in redis.url is wrong",
        _ if error.code() == Some("NOAUTH") => "it wants a password in redis.url",
        _ => match tls::distrust(&error.to_string()) {
            Some(Distrust::Authority) => {
                "its certificate is signed by nobody known: name the authority's file in redis.ca_file"
            }
            Some(Distrust::Name) => "redis.url must name it as its certificate does",
            None => "see whether it runs and redis.url is right",
        },
    };
    format!("{error} ({remedy})")
}

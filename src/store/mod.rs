//! The database: SQLite in the data folder, or PostgreSQL by URL. The same statements run on both.
//!
//! SQLite has one writer at a time, whoever asks: so one connection writes, and waiting for it is in order; others read. What is
//! answered for is on the disk (`synchronous = FULL`), and jobs that come at the same time share a commit
//! ([`jobs::Jobs::insert`]).

pub mod calls;
mod error;
pub mod jobs;
mod migrations;
pub mod redis;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions, install_default_drivers};
use sqlx::{AnyConnection, AnyPool, ConnectOptions as _, Connection as _};

pub use error::StoreError;

/// Connections that read SQLite, and all of PostgreSQL's.
const CONNECTIONS: u32 = 4;
/// A statement waits this long for a connection; then the database is too slow to promise anything.
const ACQUIRE: Duration = Duration::from_secs(30);
/// Who has not answered within this is away: calls wait at the start for no longer.
const ANSWERS: Duration = Duration::from_secs(5);

/// Which database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// A file of this machine.
    Sqlite,
    /// A server, which others may use as well.
    Postgres,
}

/// An open database with the tables of this version; cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    write: AnyPool,
    read: AnyPool,
    dialect: Dialect,
    was_there: bool,
    place: std::sync::Arc<AtomicI64>,
}

impl Store {
    /// Open `url` (`postgres://…`), or without one `sidetone.db` in `data`, and bring its tables up to date. A PostgreSQL that is away is
    /// none to wait for: its first connection does that, whenever it comes about.
    ///
    /// # Errors
    /// [`StoreError`]: it cannot be opened, or its tables are of a later version.
    pub async fn open(url: &str, data: &Path) -> Result<Self, StoreError> {
        install_default_drivers();
        let (url, dialect) = match url {
            "" => (sqlite_url(&data.join("sidetone.db")), Dialect::Sqlite),
            url if url.starts_with("postgres://") || url.starts_with("postgresql://") => {
                (url.to_owned(), Dialect::Postgres)
            }
            _ => return Err(StoreError::Url),
        };
        let shown = without_password(&url);
        let failed = |source| StoreError::Open { url: shown.clone(), source };
        let options: AnyConnectOptions = url.parse().map_err(failed)?;
        let first = match connect(&options).await {
            Err(error) if dialect == Dialect::Postgres && is_away(&error) => {
                tracing::warn!(database = shown, %error, "the database is away: calls are heard without it, jobs and lists wait for it");
                None
            }
            first => Some(first.map_err(failed)?),
        };
        let was_there = first.is_some();
        if let Some(mut first) = first {
            if dialect == Dialect::Sqlite {
                sqlx::raw_sql(SQLITE).execute(&mut first).await.map_err(failed)?;
            }
            migrations::run(&mut first)
                .await
                .map_err(|source| StoreError::Tables { url: shown.clone(), source })?;
            first.close().await.map_err(failed)?;
        }
        let (write, read) = match dialect {
            Dialect::Sqlite => {
                let write = sqlite(1).connect_with(options.clone()).await.map_err(failed)?;
                (write, sqlite(CONNECTIONS).connect_lazy_with(options))
            }
            Dialect::Postgres => {
                let pool = postgres().connect_lazy_with(options);
                (pool.clone(), pool)
            }
        };
        Ok(Self { write, read, dialect, was_there, place: std::sync::Arc::default() })
    }

    /// Look whether the database at `url` lets us in; its tables are left alone.
    ///
    /// # Errors
    /// [`StoreError::Open`].
    pub async fn look(url: &str) -> Result<(), StoreError> {
        install_default_drivers();
        let failed = |source| StoreError::Open { url: without_password(url), source };
        let options: AnyConnectOptions = url.parse().map_err(failed)?;
        connect(&options).await.map_err(failed)?.close().await.map_err(failed)
    }

    /// Which database it is.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Whether it answered when it was opened.
    pub fn was_there(&self) -> bool {
        self.was_there
    }

    /// The jobs.
    pub fn jobs(&self) -> jobs::Jobs {
        jobs::Jobs::of(self.clone())
    }

    /// The calls that are over.
    pub fn calls(&self) -> calls::Calls {
        calls::Calls::of(self.clone())
    }

    /// Whether it answers within five seconds.
    ///
    /// # Errors
    /// [`StoreError::Query`].
    pub async fn ping(&self) -> Result<(), StoreError> {
        let answer = tokio::time::timeout(ANSWERS, sqlx::query("SELECT 1").execute(&self.write)).await;
        let answer = answer.unwrap_or(Err(sqlx::Error::PoolTimedOut));
        answer.map(drop).map_err(StoreError::of("looking whether it answers"))
    }

    /// Have SQLite's file grow no more: a full disk, for tests.
    #[doc(hidden)]
    pub async fn limit_pages_for_tests(&self) {
        let limit = "PRAGMA max_page_count = 1;";
        // It is clamped to the pages that there are.
        sqlx::raw_sql(limit).execute(&self.write).await.expect("SQLite takes the pragma");
    }

    /// Close it; what runs is waited for.
    pub async fn close(&self) {
        self.read.close().await;
        self.write.close().await;
    }

    /// A number that is higher than all before it, of this process at any time and of others by their clocks: microseconds since
    /// 1970, unless there are more than one in each.
    fn next_place(&self, now_ms: i64) -> i64 {
        let at = now_ms.saturating_mul(1_000);
        let before =
            self.place.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(at.max(last + 1)));
        before.map_or(at, |last| at.max(last + 1))
    }
}

/// One connection, within [`ANSWERS`]. A pool would try until its time is up, and hide the reason.
async fn connect(options: &AnyConnectOptions) -> Result<AnyConnection, sqlx::Error> {
    let first = tokio::time::timeout(ANSWERS, options.connect()).await;
    first.unwrap_or(Err(sqlx::Error::PoolTimedOut))
}

/// FULL: with NORMAL a power cut takes back what was answered for. A file under way elsewhere (a backup) is waited for.
const SQLITE: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 10000; \
                      PRAGMA foreign_keys = ON; PRAGMA journal_size_limit = 67108864;";

fn sqlite(connections: u32) -> AnyPoolOptions {
    AnyPoolOptions::new().max_connections(connections).acquire_timeout(ACQUIRE).after_connect(
        |connection, _| Box::pin(async move { sqlx::raw_sql(SQLITE).execute(connection).await.map(drop) }),
    )
}

/// Each process brings the tables up to date before it asks anything of them, also if the database was away at its start.
fn postgres() -> AnyPoolOptions {
    let is_up_to_date = std::sync::Arc::new(AtomicBool::new(false));
    AnyPoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(ACQUIRE).after_connect(
        move |connection, _| {
            let is_up_to_date = is_up_to_date.clone();
            Box::pin(async move {
                if !is_up_to_date.load(Ordering::Acquire) {
                    migrations::run(connection).await?;
                    is_up_to_date.store(true, Ordering::Release);
                }
                Ok(())
            })
        },
    )
}

/// Whether nobody answers, or only to say that it starts, stops or is full of others (PostgreSQL's classes 08 and 57P, and 53300): not a
/// mistake in the URL.
fn is_away(error: &sqlx::Error) -> bool {
    match error {
        // What TLS has against somebody comes as bad data.
        sqlx::Error::Io(error) => {
            !matches!(error.kind(), std::io::ErrorKind::InvalidData | std::io::ErrorKind::InvalidInput)
        }
        sqlx::Error::PoolTimedOut => true,
        sqlx::Error::Database(error) => {
            let code = error.code().unwrap_or_default();
            code.starts_with("08") || code.starts_with("57P") || code == "53300"
        }
        _ => false,
    }
}

fn sqlite_url(path: &Path) -> String {
    use std::fmt::Write as _;
    use std::os::unix::ffi::OsStrExt;
    let mut url = "sqlite://".to_owned();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'/' | b'-' | b'_' | b'.' | b'~' => url.push(char::from(*byte)),
            byte if byte.is_ascii_alphanumeric() => url.push(char::from(*byte)),
            byte => write!(url, "%{byte:02X}").expect("a String takes everything"),
        }
    }
    url + "?mode=rwc"
}

/// For people: whoever reads a log need not know the password.
fn without_password(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, rest)), Some((_, host))) => match rest.split_once([':', '@']) {
            Some((user, _)) => format!("{scheme}://{user}@{host}"),
            None => url.to_owned(),
        },
        _ => url.trim_end_matches("?mode=rwc").to_owned(),
    }
}

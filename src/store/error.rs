//! What can go wrong with the database.

use crate::tls::{self, Distrust};

/// Why the database did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No database that is known.
    #[error(
        "`store.url` is neither empty nor `postgres://user:password@host/database`: leave it out for SQLite in `node.data`"
    )]
    Url,
    /// It cannot be opened.
    #[error("cannot open the database {url}: {source}; {}", remedy(.source))]
    Open {
        /// Which, without its password.
        url: String,
        /// What the driver says.
        source: sqlx::Error,
    },
    /// Its tables are not what they should be.
    #[error(
        "the tables of the database {url} cannot be brought up to date: {source}; a database that a later version has used needs that version \
         (or a backup from before it)"
    )]
    Tables {
        /// Which, without its password.
        url: String,
        /// What the driver says.
        source: sqlx::migrate::MigrateError,
    },
    /// The server stops.
    #[error("the database is being closed: nothing more is taken in; try again once the server is back")]
    Closed,
    /// The disk is full.
    #[error("the database cannot grow while {doing}: its disk is full; make room where node.data lies")]
    Full {
        /// What was under way.
        doing: &'static str,
    },
    /// A statement failed.
    #[error("the database failed while {doing}: {source}")]
    Query {
        /// What was under way.
        doing: &'static str,
        /// What the driver says.
        source: sqlx::Error,
    },
    /// A row does not hold what this program writes.
    #[error("the database holds a {what} that this version does not know: `{value}`")]
    Unknown {
        /// Of what kind.
        what: &'static str,
        /// As it stands there.
        value: String,
    },
}

/// SQLite's and PostgreSQL's codes for a full disk (SQLITE_FULL, disk_full).
const FULL: [&str; 2] = ["13", "53100"];

impl StoreError {
    pub(super) fn of(doing: &'static str) -> impl Fn(sqlx::Error) -> Self {
        move |source| {
            let code = source.as_database_error().and_then(|error| error.code());
            match code.as_deref() {
                Some(code) if FULL.contains(&code) => Self::Full { doing },
                _ => Self::Query { doing, source },
            }
        }
    }
}

fn remedy(error: &sqlx::Error) -> &'static str {
    match tls::distrust(&error.to_string()) {
        Some(Distrust::Authority) => {
            return "its certificate is signed by nobody known here: name the authority's file in `store.url`, …?sslmode=verify-full&sslrootcert=/path/ca.pem";
        }
        Some(Distrust::Name) => return "`store.url` must name it as its certificate does",
        None => {}
    }
    match error {
        sqlx::Error::Configuration(_) => "correct `store.url`",
        sqlx::Error::Database(error) => match error.code().as_deref() {
            // SQLITE_CANTOPEN, and of PostgreSQL invalid_password, invalid_authorization_specification and invalid_catalog_name.
            Some("14") => "this user must be able to write to node.data",
            Some("28P01" | "28000") => "correct user and password in `store.url`",
            Some("3D000") => "make it (`createdb`), or correct `store.url`",
            _ => "see whether the file is a database, or what the server's log says",
        },
        _ => "see whether the server runs and `store.url` is right",
    }
}

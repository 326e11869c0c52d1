//! The tables, in the order in which they came to be.

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{AnyConnection, SqlSafeStr};

/// Each once written is never changed: databases remember its checksum.
const ALL: [(i64, &str, &str); 3] = [
    (1, "jobs", include_str!("../../migrations/0001_jobs.sql")),
    (2, "calls", include_str!("../../migrations/0002_calls.sql")),
    (3, "jobs_counted", include_str!("../../migrations/0003_jobs_counted.sql")),
];

/// All of them.
pub(super) fn versions() -> impl Iterator<Item = i64> {
    ALL.iter().map(|(version, ..)| *version)
}

/// Do what a database has not had yet.
///
/// # Errors
/// What the driver says; also where the database has had something that is not here.
pub(super) async fn run(connection: &mut AnyConnection) -> Result<(), MigrateError> {
    let of = |(version, name, sql): (i64, &'static str, &'static str)| {
        Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
    };
    // `run` is not general enough for a pool's new connection, as sqlx itself says of it.
    Migrator::with_migrations(ALL.map(of).to_vec()).run_direct(None, connection, false).await
}

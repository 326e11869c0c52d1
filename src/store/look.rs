//! What a database is like, without a change to it: for whoever wants to know before a server is started, or beside one that runs.

use std::path::Path;

use sqlx::any::{AnyConnectOptions, install_default_drivers};
use sqlx::migrate::MigrateError;
use sqlx::{AnyConnection, ConnectOptions as _, Connection as _, Row as _};

use super::{ANSWERS, Dialect, StoreError, migrations, place_of};

/// A database that answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// Which, without its password.
    pub url: String,
    /// Of what kind.
    pub dialect: Dialect,
    /// How its tables stand.
    pub tables: Tables,
}

/// How the tables of a database stand to this version of Sidetone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tables {
    /// There are none: a server makes them when it starts.
    None,
    /// Of an earlier version: a server brings them up to date when it starts.
    Earlier,
    /// As they should be.
    Current,
}

/// Look at the database that [`Store::open`](super::Store::open) would open. A file that is not there is not made.
///
/// # Errors
/// [`StoreError`]: it does not answer within five seconds, or its tables are of a later version.
pub async fn look(url: &str, data: &Path) -> Result<Look, StoreError> {
    install_default_drivers();
    let (url, dialect, shown) = place_of(url, data)?;
    if dialect == Dialect::Sqlite && !super::sqlite_file(data).exists() {
        return Ok(Look { url: shown, dialect, tables: Tables::None });
    }
    let failed = |source| StoreError::Open { url: shown.clone(), source };
    // Nothing is to be made, also if the file goes meanwhile.
    let url = if dialect == Dialect::Sqlite { url.replace("?mode=rwc", "?mode=rw") } else { url };
    let options: AnyConnectOptions = url.parse().map_err(failed)?;
    let asked = async {
        let mut connection = options.connect().await?;
        let done = done(&mut connection, dialect).await?;
        connection.close().await?;
        Ok(done)
    };
    let done = tokio::time::timeout(ANSWERS, asked).await.unwrap_or(Err(sqlx::Error::PoolTimedOut));
    let done = done.map_err(failed)?;
    if let Some(later) = done.iter().find(|version| !migrations::versions().any(|own| own == **version)) {
        return Err(StoreError::Tables { url: shown, source: MigrateError::VersionMissing(*later) });
    }
    let tables = match done.len() {
        0 => Tables::None,
        some if some < migrations::versions().count() => Tables::Earlier,
        _ => Tables::Current,
    };
    Ok(Look { url: shown, dialect, tables })
}

/// The steps that its tables have had, as sqlx notes them.
async fn done(connection: &mut AnyConnection, dialect: Dialect) -> Result<Vec<i64>, sqlx::Error> {
    let tables = match dialect {
        Dialect::Sqlite => "SELECT count(*) FROM sqlite_master WHERE name = '_sqlx_migrations'",
        Dialect::Postgres => {
            "SELECT count(*) FROM pg_tables WHERE tablename = '_sqlx_migrations' AND schemaname = ANY (current_schemas(false))"
        }
    };
    let noted: i64 = sqlx::query(tables).fetch_one(&mut *connection).await?.try_get(0)?;
    if noted == 0 {
        return Ok(Vec::new());
    }
    let rows =
        sqlx::query("SELECT version FROM _sqlx_migrations ORDER BY version").fetch_all(connection).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

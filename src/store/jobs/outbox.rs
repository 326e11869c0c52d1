//! What has to leave this machine because of a job. It is written in the commit of what caused it and removed once it has arrived: a
//! crash in between sends it twice, never not at all. Whoever gets it tells by its id.

use std::collections::BTreeMap;

use sqlx::any::AnyRow;
use sqlx::{Any, Row as _, Transaction};

use super::row::{json, known};
use super::{JobKey, Jobs, Millis};
use crate::store::{Store, StoreError};

names! {
    /// By what it goes.
    Transport {
        /// To a broker's queue.
        Queue = "queue",
        /// To a URL.
        Webhook = "webhook",
    }
}

/// A letter to be.
#[derive(Clone, Debug, PartialEq)]
pub struct NewLetter {
    /// By what it goes.
    pub transport: Transport,
    /// Where to: a queue, or a URL.
    pub address: String,
    /// What is written on the envelope.
    pub headers: BTreeMap<String, String>,
    /// What is in it, JSON.
    pub body: String,
    /// Not before this time.
    pub run_after: Millis,
}

/// A letter that waits.
#[derive(Clone, Debug, PartialEq)]
pub struct Letter {
    /// What it is known by.
    pub place: i64,
    /// Because of which job.
    pub key: JobKey,
    /// As it was written.
    pub letter: NewLetter,
    /// How often it was tried.
    pub attempts: u32,
}

pub(super) async fn write(
    store: &Store,
    commit: &mut Transaction<'static, Any>,
    key: &JobKey,
    letter: &NewLetter,
    now: Millis,
) -> Result<(), StoreError> {
    let statement = "INSERT INTO outbox (place, tenant, job_id, transport, address, headers, body, attempts, run_after) \
                     VALUES ($1, $2, $3, $4, $5, $6, $7, 0, $8)";
    sqlx::query(statement)
        .bind(store.next_place(now))
        .bind(&*key.tenant)
        .bind(&*key.id)
        .bind(letter.transport.name())
        .bind(&*letter.address)
        .bind(serde_json::to_string(&letter.headers).unwrap_or_else(|_| "{}".into()))
        .bind(&*letter.body)
        .bind(letter.run_after)
        .execute(&mut **commit)
        .await
        .map_err(StoreError::of("writing what is to be sent"))?;
    Ok(())
}

impl Jobs {
    /// Letters that are due, the oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn letters(
        &self,
        transport: Transport,
        most: i64,
        now: Millis,
    ) -> Result<Vec<Letter>, StoreError> {
        let statement = "SELECT place, tenant, job_id, transport, address, headers, body, attempts, run_after FROM outbox \
                         WHERE transport = $1 AND run_after <= $2 ORDER BY place LIMIT $3";
        let rows = sqlx::query(statement)
            .bind(transport.name())
            .bind(now)
            .bind(most)
            .fetch_all(&self.store.read)
            .await
            .map_err(StoreError::of("looking what is to be sent"))?;
        rows.iter().map(letter).collect()
    }

    /// When the next letter is due that is not yet.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn next_letter(&self, transport: Transport) -> Result<Option<Millis>, StoreError> {
        sqlx::query_scalar::<_, Option<i64>>("SELECT MIN(run_after) FROM outbox WHERE transport = $1")
            .bind(transport.name())
            .fetch_one(&self.store.read)
            .await
            .map_err(StoreError::of("looking when something is to be sent"))
    }

    /// These have arrived.
    ///
    /// # Errors
    /// [`StoreError`]: they will be sent once more.
    pub async fn arrived(&self, letters: &[i64]) -> Result<(), StoreError> {
        let failed = StoreError::of("noting what has arrived");
        let mut commit = self.store.write.begin().await.map_err(&failed)?;
        for place in letters {
            sqlx::query("DELETE FROM outbox WHERE place = $1")
                .bind(place)
                .execute(&mut *commit)
                .await
                .map_err(&failed)?;
        }
        commit.commit().await.map_err(&failed)
    }

    /// This one did not arrive and is tried again at `again`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn send_later(&self, letter: i64, again: Millis) -> Result<(), StoreError> {
        sqlx::query("UPDATE outbox SET attempts = attempts + 1, run_after = $1 WHERE place = $2")
            .bind(again)
            .bind(letter)
            .execute(&self.store.write)
            .await
            .map_err(StoreError::of("putting off what is to be sent"))?;
        Ok(())
    }
}

fn letter(row: &AnyRow) -> Result<Letter, StoreError> {
    let wrong = StoreError::of("reading what is to be sent");
    let text = |name: &str| row.try_get::<String, _>(name).map_err(&wrong);
    let number = |name: &str| row.try_get::<i64, _>(name).map_err(&wrong);
    Ok(Letter {
        place: number("place")?,
        key: JobKey { tenant: text("tenant")?.into(), id: text("job_id")?.into() },
        letter: NewLetter {
            transport: known("transport", Transport::of_name, &text("transport")?)?,
            address: text("address")?,
            headers: json("headers", &text("headers")?)?,
            body: text("body")?,
            run_after: number("run_after")?,
        },
        attempts: u32::try_from(number("attempts")?).unwrap_or(u32::MAX),
    })
}

//! The tables, and how they come to be.

use eidetica_proto::LogId;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use super::database::{Database, STATEMENT_TIMEOUT};
use super::fault::Fault;
use crate::store::{StoreError, draw_log_id};

/// How often a server tries to make the tables while another one may be making them.
const CREATE_ATTEMPTS_MAX: usize = 8;

/// What each version of the schema adds to the one before, with `{}` for the schema's name. Servers of
/// the version before go on working while a step is made, so that they can be updated one by one.
const STEPS: &[&str] = &["
    CREATE TABLE {}.store (
        single boolean PRIMARY KEY DEFAULT true CHECK (single),
        version int4 NOT NULL,
        log bytea NOT NULL
    );
    CREATE TABLE {}.tree (
        pk int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        id bytea NOT NULL UNIQUE,
        next int8 NOT NULL,
        last bytea NOT NULL,
        changed timestamptz NOT NULL
    );
    CREATE INDEX tree_changed ON {}.tree (changed);
    CREATE TABLE {}.entry (
        pk int8 NOT NULL,
        n int8 NOT NULL,
        id bytea NOT NULL,
        bytes bytea NOT NULL,
        PRIMARY KEY (pk, n)
    );
    CREATE TABLE {}.meta (
        key bytea PRIMARY KEY,
        value bytea NOT NULL,
        token bytea NOT NULL
    );
    CREATE UNLOGGED TABLE {}.epoch (
        single boolean PRIMARY KEY DEFAULT true CHECK (single),
        epoch bytea NOT NULL
    );
    CREATE UNLOGGED TABLE {}.nonce (
        nonce bytea PRIMARY KEY,
        at_ms int8 NOT NULL
    );
    CREATE INDEX nonce_at ON {}.nonce (at_ms);
"];

/// The version of the schema that this program reads and writes.
pub const SCHEMA_VERSION: u32 = STEPS.len() as u32;

/// Begins a transaction whose locks do not outlive a server that is gone.
pub(super) fn begin() -> String {
    let ms = STATEMENT_TIMEOUT.as_millis();
    format!(
        "BEGIN; SET LOCAL statement_timeout = {ms}; SET LOCAL lock_timeout = {ms}; \
         SET LOCAL idle_in_transaction_session_timeout = {ms}"
    )
}

/// Makes the tables or brings them to this program's version, and returns the identity of the arrival
/// logs, which was drawn when they were made. Blocks.
pub(super) fn prepare(database: &Database) -> Result<LogId, StoreError> {
    let mut failed = None;
    for _ in 0..CREATE_ATTEMPTS_MAX {
        match find(database)? {
            Some((SCHEMA_VERSION, log)) => return Ok(log),
            Some((found, _)) if found > SCHEMA_VERSION => {
                let understood = SCHEMA_VERSION;
                return Err(StoreError::TooNew { found, understood });
            }
            found => {
                // Another server may be at it as well, and then one of them fails.
                let from = found.map(|(version, _)| version);
                if let Err(error) =
                    database.run(async |client| migrate(client, database, from).await)
                {
                    failed = Some(error);
                }
            }
        }
    }
    Err(failed.unwrap_or_else(|| StoreError::damaged("the schema changes without end")))
}

/// Returns the version and the identity of the logs, if there are tables.
fn find(database: &Database) -> Result<Option<(u32, LogId)>, StoreError> {
    let row = database.run(async |client| {
        match client.query_typed_opt(&database.sql.store, &[]).await {
            Err(error) if is_absent(&error) => Ok(None),
            found => Ok(found?),
        }
    })?;
    let Some(row) = row else { return Ok(None) };
    let damaged = || StoreError::damaged("the row that describes the store");
    let version = u32::try_from(row.get::<_, i32>(0)).map_err(|_| damaged())?;
    let log: [u8; 8] = row.get::<_, &[u8]>(1).try_into().map_err(|_| damaged())?;
    Ok(Some((version, LogId::from_bytes(log))))
}

fn is_absent(error: &tokio_postgres::Error) -> bool {
    let absent = [SqlState::UNDEFINED_TABLE, SqlState::INVALID_SCHEMA_NAME];
    error.code().is_some_and(|state| absent.contains(state))
}

/// Makes the tables (`from` nothing), or brings them from a version to this program's.
async fn migrate(
    client: &tokio_postgres::Client,
    database: &Database,
    from: Option<u32>,
) -> Result<(), Fault> {
    let sql = &database.sql;
    client.batch_execute(&begin()).await?;
    let from = match from {
        None => {
            let name = [(
                &sql.schema as &(dyn tokio_postgres::types::ToSql + Sync),
                Type::TEXT,
            )];
            let exists = "SELECT 1 FROM information_schema.schemata WHERE schema_name = $1";
            if client.query_typed_opt(exists, &name).await?.is_none() {
                let create = format!("CREATE SCHEMA {}", sql.schema);
                client.batch_execute(&create).await?;
            }
            0
        }
        Some(_) => {
            let row = client.query_typed_one(&sql.lock_store, &[]).await?;
            usize::try_from(row.get::<_, i32>(0)).unwrap_or(usize::MAX)
        }
    };
    for step in STEPS.iter().skip(from) {
        client
            .batch_execute(&step.replace("{}", &sql.schema))
            .await?;
    }
    let version = SCHEMA_VERSION as i32;
    if from == 0 {
        let log = draw_log_id().to_bytes();
        let add = format!(
            "INSERT INTO {}.store (version, log) VALUES ($1, $2)",
            sql.schema
        );
        let values = [
            (
                &version as &(dyn tokio_postgres::types::ToSql + Sync),
                Type::INT4,
            ),
            (&log.as_slice(), Type::BYTEA),
        ];
        client.execute_typed(&add, &values).await?;
    } else {
        let set = format!("UPDATE {}.store SET version = $1", sql.schema);
        client
            .execute_typed(&set, &[(&version, Type::INT4)])
            .await?;
    }
    Ok(client.batch_execute("COMMIT").await?)
}

//! The epoch and the used proofs, which all servers share.
//!
//! Both are in tables that are not logged: writing a proof costs no flush. After a crash of the database
//! both are empty, so that a forgotten proof belongs to a forgotten epoch.

use std::time::Duration;

use eidetica_proto::proof::Epoch;
use tokio::time::timeout;
use tokio_postgres::types::Type;

use super::PostgresStore;
use super::fault::Fault;
use super::news;
use crate::platform::random::Random;
use crate::store::StoreError;
use crate::store::shared::{Listener, SharedStore, Taken};

/// How long a check of the database may take.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

impl SharedStore for PostgresStore {
    fn listen(&self, listener: Listener) {
        self.news.listen(listener);
        if !self
            .is_listening
            .swap(true, std::sync::atomic::Ordering::Relaxed)
        {
            news::start(&self.database, &self.news);
        }
    }

    fn epoch(&self) -> Result<Epoch, StoreError> {
        let sql = &self.database.sql;
        let row = self.database.run(async |client| {
            if let Some(row) = client.query_typed_opt(&sql.epoch, &[]).await? {
                return Ok(row);
            }
            let drawn: Epoch = Random::from_os().bytes();
            let drawn = drawn.as_slice();
            client
                .execute_typed(&sql.add_epoch, &[(&drawn, Type::BYTEA)])
                .await?;
            Ok(client.query_typed_one(&sql.epoch, &[]).await?)
        })?;
        let epoch = row.get::<_, &[u8]>(0).try_into();
        epoch.map_err(|_| StoreError::damaged("the epoch of the servers"))
    }

    fn take_proof(&self, epoch: Epoch, proof: &[u8], made_ms: u64) -> Result<Taken, StoreError> {
        let sql = &self.database.sql.take_proof;
        let made_ms = i64::try_from(made_ms).unwrap_or(i64::MAX);
        // Not repeated: an attempt without an answer may have used the proof up.
        let take = self.database.lease().and_then(|lease| {
            let epoch = epoch.as_slice();
            let taken = self.database.answer(async {
                let values: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 3] = [
                    (&proof, Type::BYTEA),
                    (&made_ms, Type::INT8),
                    (&epoch, Type::BYTEA),
                ];
                Ok(lease.client().execute_typed(sql, &values).await?)
            })?;
            lease.give_back();
            Ok::<_, Fault>(taken)
        });
        if take? == 1 {
            return Ok(Taken::First);
        }
        let present = self.epoch()?;
        Ok(match present == epoch {
            true => Taken::Replay,
            false => Taken::Stale(present),
        })
    }

    fn check(&self) -> Result<(), StoreError> {
        let check = async {
            let client = self.database.pool().get().await?;
            client
                .query_typed_one(&self.database.sql.check, &[])
                .await?;
            Ok::<_, Fault>(())
        };
        let late = |_| Fault::Late("the database did not answer in time");
        let checked = self
            .database
            .block_on(async { timeout(CHECK_TIMEOUT, check).await.map_err(late)? });
        Ok(checked?)
    }
}

//! Every statement.

use crate::store::StoreError;

/// Longest name of a schema in bytes, as in PostgreSQL.
const SCHEMA_BYTES_MAX: usize = 63;

/// Every statement, with the schema's name in it: a pooler may lend another session for each
/// transaction, so a search path would be lost.
pub(super) struct Sql {
    pub(super) schema: String,
    pub(super) store: String,
    pub(super) lock_store: String,
    /// The names of all trees, ascending.
    pub(super) trees: String,
    /// The head of a tree.
    pub(super) head: String,
    /// The same, locked until the end of the transaction.
    pub(super) lock_head: String,
    /// Adds an empty tree, unless there is one.
    pub(super) add_tree: String,
    /// A range of a log.
    pub(super) read_log: String,
    /// Adds entries to a log.
    pub(super) write_log: String,
    /// Sets the head of a tree.
    pub(super) set_head: String,
    pub(super) get_meta: String,
    pub(super) list_meta: String,
    pub(super) add_meta: String,
    pub(super) set_meta: String,
    pub(super) remove_meta: String,
    pub(super) add_epoch: String,
    pub(super) epoch: String,
    /// Uses a proof up, in the present epoch.
    pub(super) take_proof: String,
    pub(super) sweep_proofs: String,
    /// The trees that have changed within some seconds.
    pub(super) changed: String,
    pub(super) notify: String,
    pub(super) listen: String,
    /// Answers if the tables are there.
    pub(super) check: String,
}

impl Sql {
    /// Writes the statements for a schema.
    pub(super) fn new(schema: &str) -> Result<Self, StoreError> {
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let is_name = !schema.is_empty()
            && schema.len() <= SCHEMA_BYTES_MAX
            && schema.chars().all(is_plain)
            && !schema.starts_with(|c: char| c.is_ascii_digit());
        if !is_name {
            let why = "the name of a schema has lowercase letters, digits and underscores";
            return Err(StoreError::Address { why: why.into() });
        }
        let sql = |text: &str| text.replace("{}", schema);
        Ok(Self {
            schema: schema.to_owned(),
            store: sql("SELECT version, log FROM {}.store"),
            lock_store: sql("SELECT version FROM {}.store FOR UPDATE"),
            trees: sql("SELECT id FROM {}.tree ORDER BY id"),
            head: sql("SELECT pk, next, last FROM {}.tree WHERE id = $1"),
            lock_head: sql("SELECT pk, next, last FROM {}.tree WHERE id = $1 FOR UPDATE"),
            add_tree: sql("INSERT INTO {}.tree (id, next, last, changed) \
                 VALUES ($1, 0, '', clock_timestamp()) ON CONFLICT DO NOTHING RETURNING pk"),
            read_log: sql(
                "SELECT id, bytes FROM {}.entry WHERE pk = $1 AND n >= $2 AND n < $3 ORDER BY n",
            ),
            write_log: sql("INSERT INTO {}.entry (pk, n, id, bytes) \
                 SELECT $1, $2 + new.place - 1, new.id, new.bytes \
                 FROM unnest($3::bytea[], $4::bytea[]) WITH ORDINALITY AS new (id, bytes, place)"),
            set_head: sql(
                "UPDATE {}.tree SET next = $2, last = $3, changed = clock_timestamp() \
                 WHERE pk = $1",
            ),
            get_meta: sql("SELECT value, token FROM {}.meta WHERE key = $1"),
            list_meta: sql(
                "SELECT key, value FROM {}.meta WHERE key >= $1 AND ($2::bytea IS NULL OR key < $2) \
                 ORDER BY key",
            ),
            add_meta: sql(
                "INSERT INTO {}.meta (key, value, token) VALUES ($1, $2, $3) \
                 ON CONFLICT DO NOTHING",
            ),
            set_meta: sql(
                "UPDATE {}.meta SET value = $2, token = $3 WHERE key = $1 AND token = $4",
            ),
            add_epoch: sql("INSERT INTO {}.epoch (epoch) VALUES ($1) ON CONFLICT DO NOTHING"),
            epoch: sql("SELECT epoch FROM {}.epoch"),
            take_proof: sql("INSERT INTO {}.nonce (nonce, at_ms) \
                 SELECT $1, $2 FROM {}.epoch WHERE epoch = $3 ON CONFLICT DO NOTHING"),
            sweep_proofs: sql("DELETE FROM {}.nonce WHERE at_ms < $1"),
            changed: sql("SELECT id, next FROM {}.tree \
                 WHERE changed > clock_timestamp() - make_interval(secs => $1)"),
            notify: sql("SELECT pg_notify('{}', notice) FROM unnest($1) AS notice"),
            listen: sql("LISTEN {}"),
            check: sql("SELECT version FROM {}.store"),
            remove_meta: sql("DELETE FROM {}.meta WHERE key = $1 AND token = $2"),
        })
    }
}

//! The errors of a store.

use std::path::PathBuf;

/// The cause of an error, from the implementation of a store.
pub type BoxedError = Box<dyn std::error::Error + Send + Sync>;

/// Why an operation on a store failed.
///
/// A failed operation changes nothing, and later calls succeed as far as the cause allows: a store on
/// a full disk can still read, and can write again when there is room.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The disk is full. Nothing was stored.
    #[error("the disk is full and nothing was stored; make room and try again")]
    Full {
        /// The cause.
        source: BoxedError,
    },
    /// Reading or writing failed.
    #[error("the store's file could not be read or written: {source}")]
    Io {
        /// The cause.
        source: BoxedError,
    },
    /// The stored data is damaged, or the file is not a store.
    #[error("the store is damaged: {what}; restore the file, or fetch its trees from a peer again")]
    Damaged {
        /// What was found.
        what: String,
    },
    /// The database cannot be reached at the moment.
    #[error(
        "the database cannot be reached: {source}; see that it runs and takes connections from here. \
         Whether an interrupted change was stored shows when it is made again"
    )]
    Unreachable {
        /// The cause.
        source: BoxedError,
    },
    /// The database refuses what this program asks of it.
    #[error(
        "the database refuses: {source}; see that its user may use the database and the schema"
    )]
    Database {
        /// The cause.
        source: BoxedError,
    },
    /// The database cannot be used as it was named.
    #[error("the database cannot be used: {why}")]
    Address {
        /// What is wrong. It shows no password.
        why: String,
    },
    /// A key or a value exceeds its limit.
    #[error("{what} has at most {bytes_max} bytes; this one has {bytes}")]
    LimitExceeded {
        /// The thing that is too large.
        what: &'static str,
        /// Its size in bytes.
        bytes: usize,
        /// The limit in bytes.
        bytes_max: usize,
    },
    /// The store is open already, in this process or in another.
    #[error("{} is open already, probably in another process; stop it, or use another file", path.display())]
    InUse {
        /// The store's file.
        path: PathBuf,
    },
    /// A later version of this program wrote the store.
    #[error("the store has format {found}, this program reads format {understood}; update it")]
    TooNew {
        /// The format of the store.
        found: u32,
        /// The format that this program reads and writes.
        understood: u32,
    },
    /// An earlier version of this program wrote the store.
    #[error(
        "the store has format {found}, this program reads only format {understood}; \
         create a store and sync the trees into it from a peer"
    )]
    TooOld {
        /// The format of the store.
        found: u32,
        /// The format that this program reads and writes.
        understood: u32,
    },
}

impl StoreError {
    /// Tells whether the same call may succeed later without repairing the store.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Full { .. } | Self::Io { .. } | Self::InUse { .. } | Self::Unreachable { .. } => {
                true
            }
            Self::Damaged { .. }
            | Self::Database { .. }
            | Self::Address { .. }
            | Self::LimitExceeded { .. }
            | Self::TooNew { .. }
            | Self::TooOld { .. } => false,
        }
    }

    /// Says that something stored is not what was written.
    #[cfg(any(feature = "postgres", feature = "redb"))]
    pub(super) fn damaged(what: impl Into<String>) -> Self {
        Self::Damaged { what: what.into() }
    }
}

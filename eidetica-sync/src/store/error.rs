//! What can go wrong in a store, by whose fault.

use std::path::PathBuf;

/// The cause of an error, whatever the store is made of.
pub type BoxedError = Box<dyn std::error::Error + Send + Sync>;

/// Why a store did not do what it was asked.
///
/// After any of them the store holds what it held before, and further calls are answered as well as
/// the cause allows: a store on a full disk goes on reading, and writes again when there is room.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The disk is full. Nothing was stored.
    #[error("the disk is full: nothing was stored; make room and try again")]
    Full {
        /// What the system said.
        source: BoxedError,
    },
    /// The system failed to read or write.
    #[error("the store's file could not be read or written: {source}")]
    Io {
        /// What the system said.
        source: BoxedError,
    },
    /// What is stored is not what was written, or is no store at all.
    #[error("the store is damaged: {what}; restore the file, or fetch its trees from a peer anew")]
    Damaged {
        /// What was found.
        what: String,
    },
    /// The caller gave more than fits.
    #[error("{what} has at most {bytes_max} bytes, this one has {bytes}")]
    LimitExceeded {
        /// What is too large.
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// The most it may have.
        bytes_max: usize,
    },
    /// The store is open already, in this process or in another one.
    #[error("{} is open already, most likely in another process; stop it, or name another file", path.display())]
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
    /// Tells whether the same call may succeed later without anybody mending the store.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Full { .. } | Self::Io { .. } | Self::InUse { .. } => true,
            Self::Damaged { .. }
            | Self::LimitExceeded { .. }
            | Self::TooNew { .. }
            | Self::TooOld { .. } => false,
        }
    }

    /// Says that something stored is not what was written.
    #[cfg(feature = "redb")]
    pub(super) fn damaged(what: impl Into<String>) -> Self {
        Self::Damaged { what: what.into() }
    }
}

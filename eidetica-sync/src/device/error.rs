//! Why a device cannot be opened.

use std::io;
use std::path::PathBuf;

use crate::store::StoreError;

/// Why a device's folder could not be opened or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// There is something else than a folder at the path.
    #[error("{} is not a folder, which a store is", .0.display())]
    NotAFolder(PathBuf),
    /// The folder holds no device, and none was to be created.
    #[error("there is no store in {}", .0.display())]
    Absent(PathBuf),
    /// The key is there without its database. The database is created first, so there was one: a failed
    /// disk, an incomplete copy or another program removed the trees.
    /// [`DeviceFolder::begin_again`](super::DeviceFolder::begin_again) creates an empty one.
    #[error(
        "the store's database is missing: {} {}, but its key is there; a failed disk, an incomplete copy \
         or another program may have removed it: restore it from a backup, or begin again with this key \
         and fetch the trees from peers", .file.display(), if *.is_empty { "is empty" } else { "does not exist" }
    )]
    DatabaseMissing {
        /// The database's file.
        file: PathBuf,
        /// The file is there and has no content.
        is_empty: bool,
    },
    /// The database has trees, and the key that wrote them is not there.
    #[error("the store's key is missing: {} does not exist; restore it from a backup", .0.display())]
    KeyMissing(PathBuf),
    /// The content of the key's file is no key.
    #[error(
        "{} does not hold a key, which has 64 hexadecimal digits; restore it from a backup", .0.display()
    )]
    NotAKey(PathBuf),
    /// Another user of the machine has placed a link where the device keeps a file.
    #[error("the store in {} is not safe: {source}; remove the link", .folder.display())]
    Unsafe {
        /// The device's folder.
        folder: PathBuf,
        /// What was found.
        source: io::Error,
    },
    /// A file or a folder could not be read or written.
    #[error("could not {what} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file or the folder.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The database could not be opened or read. [`StoreError::InUse`]: another process has it open, and
    /// had it for as long as this one was to wait.
    #[error("could not open the store in {}: {source}", .folder.display())]
    Store {
        /// The device's folder.
        folder: PathBuf,
        /// Why it failed.
        source: StoreError,
    },
}

//! What a device keeps in a folder: its key and its store.

mod error;
mod folder;
mod private;
mod queue;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use eidetica_dag::{PublicKey, SecretKey};

use crate::node::{Node, NodeBuilder};
use crate::platform::blocking;
use crate::store::Store;

pub use error::DeviceError;
pub use folder::{DeviceFolder, WAIT_DEFAULT};
pub use private::Exposure;

/// A key and a durable store in one folder, which only its owner can use.
///
/// The store remembers the trees, the known peers and their addresses, and the follows that are to be
/// resumed; its file names its format, so that no other version of this crate misreads it. While a
/// device or a node on it exists, no other process can open the folder.
///
/// ```
/// use eidetica_sync::Device;
///
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// # let folder = tempfile::tempdir()?;
/// # let folder = folder.path();
/// let device = Device::open_or_create(folder.join("device")).await?;
/// let node = device.node().start();
/// assert_eq!(node.key(), device.key());
/// node.shutdown().await?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Device {
    folder: DeviceFolder,
    store: Arc<dyn Store>,
    key: SecretKey,
}

impl Device {
    /// Opens the device in a folder, and creates what is missing: the folder, the store and the key.
    ///
    /// On Unix, the folder gets the mode 0700 and the files in it 0600, whatever they had and whatever
    /// the umask is. If another process has the store open, this waits for [`WAIT_DEFAULT`];
    /// [`DeviceFolder`] sets other times.
    ///
    /// # Errors
    /// [`DeviceError::DatabaseMissing`] if there is a key without its database,
    /// [`DeviceError::KeyMissing`] if there are trees without a key, a
    /// [`StoreError::InUse`](crate::store::StoreError::InUse) once the wait is over, and others of
    /// [`DeviceError`].
    pub async fn open_or_create(folder: impl Into<PathBuf>) -> Result<Self, DeviceError> {
        DeviceFolder::new(folder).open_or_create().await
    }

    /// Returns the key by which others know the device.
    pub fn key(&self) -> PublicKey {
        self.key.public()
    }

    /// Returns the secret half of the key. Anyone who has it can act as the device.
    pub fn secret_key(&self) -> &SecretKey {
        &self.key
    }

    /// Returns the store.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Returns the folder.
    pub fn folder(&self) -> &DeviceFolder {
        &self.folder
    }

    /// Returns a builder for a node of this device. One node at a time can run.
    pub fn node(&self) -> NodeBuilder {
        Node::builder_with(self.store.clone(), self.key.clone())
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device")
            .field("folder", &self.folder)
            .field("key", &self.key())
            .finish_non_exhaustive()
    }
}

impl DeviceFolder {
    /// Opens the device, and creates what is missing: see [`Device::open_or_create`].
    ///
    /// # Errors
    /// Those of [`Device::open_or_create`].
    pub async fn open_or_create(self) -> Result<Device, DeviceError> {
        blocking::run(move || {
            self.create()?;
            self.open_parts()
        })
        .await
    }

    /// Opens the device, which must exist.
    ///
    /// # Errors
    /// [`DeviceError::Absent`] if it does not, and those of [`Device::open_or_create`].
    pub async fn open(self) -> Result<Device, DeviceError> {
        blocking::run(move || {
            if self.key()?.is_none() {
                return Err(DeviceError::Absent(self.path().to_owned()));
            }
            self.protect()?;
            self.open_parts()
        })
        .await
    }

    fn open_parts(self) -> Result<Device, DeviceError> {
        let store = self.open_store(|| false)?;
        let key = self.key_or_create(&store)?;
        self.protect()?;
        for exposure in self.exposures() {
            tracing::warn!("{exposure}");
        }
        Ok(Device {
            folder: self,
            store: Arc::new(store),
            key,
        })
    }
}

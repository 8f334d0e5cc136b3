//! The folder of a device, and the parts in it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use eidetica_dag::SecretKey;

use super::error::DeviceError;
use super::private::{
    Exposure, create_private_file, create_private_folder, make_private, read_own,
};
use super::queue::{Deadline, Turn, pause};
use crate::platform::random::generate_key;
use crate::store::{CACHE_BYTES_DEFAULT, RedbStore, Store, StoreError};

const KEY_FILE: &str = "key";
const DATABASE_FILE: &str = "eidetica.redb";

/// How long opening waits for another process, unless the program says otherwise: longer than a command
/// of a person takes, and shorter than a person waits without an explanation.
pub const WAIT_DEFAULT: Duration = Duration::from_secs(5);

/// The folder of a [`Device`](super::Device), which may not exist yet.
///
/// It chooses how the device is opened: [`open_or_create`](Self::open_or_create) and
/// [`open`](Self::open). The other methods are the parts of these, for programs that open a device in
/// steps of their own; they block.
#[derive(Debug, Clone)]
pub struct DeviceFolder {
    path: PathBuf,
    wait: Duration,
    cache_bytes: usize,
}

impl DeviceFolder {
    /// Names a folder.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            wait: WAIT_DEFAULT,
            cache_bytes: CACHE_BYTES_DEFAULT,
        }
    }

    /// Sets how long opening waits for another process that has the database open, [`WAIT_DEFAULT`]
    /// without it. Those who wait get their turn in the order in which they came.
    #[must_use]
    pub fn with_wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// Sets how much memory pages of the database may take, in bytes.
    #[must_use]
    pub fn with_cache_bytes(mut self, bytes: usize) -> Self {
        self.cache_bytes = bytes;
        self
    }

    /// Returns the path of the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns how long opening waits for another process.
    pub fn wait(&self) -> Duration {
        self.wait
    }

    /// Returns the path of a file in the folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Creates the folder unless it exists, and keeps others out of it.
    ///
    /// # Errors
    /// [`DeviceError::NotAFolder`], [`DeviceError::Unsafe`], or that it cannot be created.
    pub fn create(&self) -> Result<(), DeviceError> {
        if self.path.exists() && !self.path.is_dir() {
            return Err(DeviceError::NotAFolder(self.path.clone()));
        }
        create_private_folder(&self.path).map_err(|it| io_error("create", &self.path, it))?;
        self.protect()
    }

    /// Keeps others out of the folder, of the key and of the database, whatever their modes were. A folder
    /// that is not empty and holds no device stays as it is.
    ///
    /// # Errors
    /// [`DeviceError::Unsafe`] if another user has placed a link.
    pub fn protect(&self) -> Result<(), DeviceError> {
        let is_device = self.file(KEY_FILE).exists() || self.file(DATABASE_FILE).exists();
        let files = [KEY_FILE, DATABASE_FILE].map(|name| self.file(name));
        make_private(&self.path, &files, is_device).map_err(|source| DeviceError::Unsafe {
            folder: self.path.clone(),
            source,
        })
    }

    /// Returns the ways in which others can get at the device all the same.
    pub fn exposures(&self) -> Vec<Exposure> {
        let files = [KEY_FILE, DATABASE_FILE].map(|name| Exposure::of(&self.file(name)));
        let above = Exposure::above(&self.path);
        files.into_iter().chain([above]).flatten().collect()
    }

    /// Reads the device's key without opening the database. `None`: there is no device.
    ///
    /// # Errors
    /// [`DeviceError::NotAKey`], or that the file cannot be read.
    pub fn key(&self) -> Result<Option<SecretKey>, DeviceError> {
        let Some(digits) = self.read(KEY_FILE)? else {
            return Ok(None);
        };
        let bytes = HEXLOWER_PERMISSIVE.decode(digits.trim_ascii()).ok();
        let bytes = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        // Say no more about the content: errors end up in logs.
        let bytes = bytes.ok_or_else(|| DeviceError::NotAKey(self.file(KEY_FILE)))?;
        Ok(Some(SecretKey::from_bytes(&bytes)))
    }

    /// Reads the device's key, or creates one for a store without trees.
    ///
    /// A store that is open is locked, so no two processes create a key.
    ///
    /// # Errors
    /// [`DeviceError::KeyMissing`] if there are trees; those of [`key`](Self::key) and of
    /// [`write_key`](Self::write_key); or that the store cannot be read.
    pub fn key_or_create(&self, store: &dyn Store) -> Result<SecretKey, DeviceError> {
        if let Some(key) = self.key()? {
            return Ok(key);
        }
        let trees = store.trees().map_err(|error| self.store_error(error))?;
        if !trees.is_empty() {
            return Err(DeviceError::KeyMissing(self.file(KEY_FILE)));
        }
        let key = generate_key();
        self.write_key(&key)?;
        Ok(key)
    }

    /// Makes this the device's key.
    ///
    /// # Errors
    /// Those of [`write`](Self::write).
    pub fn write_key(&self, key: &SecretKey) -> Result<(), DeviceError> {
        let digits = format!("{}\n", HEXLOWER.encode(&key.to_bytes()));
        self.write(KEY_FILE, digits.as_bytes())
    }

    /// Opens the database of an existing device, and creates one where there is no device yet.
    ///
    /// While another process has it open, `is_hopeless` is asked now and then whether to stop waiting.
    ///
    /// # Errors
    /// [`DeviceError::DatabaseMissing`] if there is a key, [`StoreError::InUse`] if the wait is over or
    /// hopeless, and those of the store.
    pub fn open_store(&self, is_hopeless: impl FnMut() -> bool) -> Result<RedbStore, DeviceError> {
        match self.lost_database()? {
            Some(error) => Err(error),
            None => self.open_or_create_store(is_hopeless),
        }
    }

    /// Creates the database again if the device has lost it, as [`DeviceError::DatabaseMissing`] tells.
    /// The key stays, and peers have the trees.
    ///
    /// # Errors
    /// Those of [`open_store`](Self::open_store) but that one.
    pub fn begin_again(&self) -> Result<(), DeviceError> {
        match self.lost_database()? {
            Some(_) => self.open_or_create_store(|| false).map(drop),
            None => Ok(()),
        }
    }

    /// Tells whether the database was lost. It is created before the key, so a key without a database
    /// is not a new device.
    fn lost_database(&self) -> Result<Option<DeviceError>, DeviceError> {
        if !self.file(KEY_FILE).exists() {
            return Ok(None);
        }
        let file = self.file(DATABASE_FILE);
        let is_empty = match fs::metadata(&file) {
            Ok(found) if found.len() == 0 => true,
            Ok(_) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(io_error("read", &file, error)),
        };
        Ok(Some(DeviceError::DatabaseMissing { file, is_empty }))
    }

    /// Opens the database if no process has it open, and creates it unless it exists. It does not wait.
    ///
    /// # Errors
    /// Those of [`RedbStoreBuilder::open`](crate::store::RedbStoreBuilder::open).
    pub fn open_store_at_once(&self) -> Result<RedbStore, StoreError> {
        let builder = RedbStore::builder().cache_bytes(self.cache_bytes);
        builder.open(self.file(DATABASE_FILE))
    }

    /// Opens the database once those who came before have closed it.
    fn open_or_create_store(
        &self,
        mut is_hopeless: impl FnMut() -> bool,
    ) -> Result<RedbStore, DeviceError> {
        let deadline = Deadline::after(self.wait);
        // Without a place, as on file systems without locks, there is no order.
        let take_turn = || Turn::take(&self.path).ok();
        let mut turn = Turn::others_wait(&self.path).then(take_turn).flatten();
        loop {
            if turn.as_ref().is_none_or(Turn::is_first) {
                match self.open_store_at_once() {
                    Ok(store) => return Ok(store),
                    Err(StoreError::InUse { .. }) => {}
                    Err(error) => return Err(self.store_error(error)),
                }
            }
            if is_hopeless() || deadline.has_passed() {
                let path = self.file(DATABASE_FILE);
                return Err(self.store_error(StoreError::InUse { path }));
            }
            turn = turn.or_else(take_turn);
            pause();
        }
    }

    /// Reads a file of the folder. `None`: it does not exist.
    ///
    /// # Errors
    /// It cannot be read, is no file, or is a link that another user has placed.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>, DeviceError> {
        let file = self.file(name);
        match read_own(&file) {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error("read", &file, error)),
        }
    }

    /// Writes a file of the folder atomically and durably, for its owner only.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, name: &str, content: &[u8]) -> Result<(), DeviceError> {
        let (file, partial) = (self.file(name), self.file(&format!("{name}.partial")));
        let write = || {
            let _left_by_a_crash = fs::remove_file(&partial);
            let mut to = create_private_file(&partial)?;
            to.write_all(content)?;
            to.sync_all()?;
            fs::rename(&partial, &file)?;
            sync_folder(&self.path)
        };
        write().map_err(|error| io_error("write", &file, error))
    }

    /// Creates a folder within the folder, for its owner only, unless it exists.
    ///
    /// # Errors
    /// It cannot be created.
    pub fn create_folder(&self, name: &str) -> Result<PathBuf, DeviceError> {
        let folder = self.file(name);
        create_private_folder(&folder).map_err(|error| io_error("create", &folder, error))?;
        Ok(folder)
    }

    fn store_error(&self, source: StoreError) -> DeviceError {
        DeviceError::Store {
            folder: self.path.clone(),
            source,
        }
    }
}

fn io_error(what: &'static str, path: &Path, source: io::Error) -> DeviceError {
    DeviceError::Io {
        what,
        path: path.to_owned(),
        source,
    }
}

/// Makes the names of a folder durable, which syncing a file does not.
fn sync_folder(path: &Path) -> io::Result<()> {
    match cfg!(unix) {
        true => File::open(path)?.sync_all(),
        false => Ok(()),
    }
}

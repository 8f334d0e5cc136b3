//! The store's folder: the device's key, the database, and the record of a running server.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use eidetica_sync::dag::{PublicKey, SecretKey};
use eidetica_sync::proto::Address;
use eidetica_sync::store::{Store, StoreError};
use eidetica_sync::{DeviceError, DeviceFolder, Exposure, Node, NodeBuilder};
use serde::{Deserialize, Serialize};

use crate::output::failure::{Context, Failure, Hint, Result, Stop};
use crate::output::out::note;
use crate::output::text;
use crate::store::postgres::Database;

const SERVING_FILE: &str = "serving.json";

/// The metadata of the public key that all servers on a database have.
const SERVERS_KEY: &str = "servers-key";

/// The folder of a server's socket. Only the owner can enter it, whatever the mode of the store's
/// folder is.
const CONTROL_FOLDER: &str = "control";
const CONTROL_SOCKET: &str = "socket";

/// Memory for the database's pages in bytes. A command is short and reads little twice; the operating
/// system caches the rest.
const CACHE_BYTES: usize = 8 << 20;

/// The folder, which may not exist yet.
pub(crate) struct StoreDir {
    folder: DeviceFolder,
    /// Holds the trees instead of a file in the folder.
    database: Option<Database>,
}

/// An open store and the device's key. No other process can open the store meanwhile.
#[derive(Clone)]
pub(crate) struct Opened {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) key: SecretKey,
    /// The server's node, within a server.
    pub(crate) server: Option<Node>,
}

/// The record of a running server, for commands that cannot open the store.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Serving {
    pub(crate) pid: u32,
    pub(crate) addresses: Vec<Address>,
    pub(crate) trees: Vec<ServedTree>,
}

/// A tree in the record of a server.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ServedTree {
    pub(crate) tree: String,
    pub(crate) name: String,
}

impl StoreDir {
    /// Chooses the folder: `asked` (`--store`), else `EIDETICA_STORE`, else the platform's data folder.
    /// Opening the store waits this long for other processes.
    pub(crate) fn choose(asked: Option<PathBuf>, wait: Duration) -> Result<Self> {
        let from_env = || std::env::var_os("EIDETICA_STORE").filter(|path| !path.is_empty());
        let custom = || Some(directories::BaseDirs::new()?.data_dir().join("eidetica"));
        let path = asked
            .or_else(|| from_env().map(PathBuf::from))
            .or_else(custom);
        match path {
            Some(path) => Ok(Self::at(path, wait)),
            None => Err(
                Failure::new("there is no default folder for a store on this system")
                    .hint("name a folder with --store")
                    .into(),
            ),
        }
    }

    /// Names a folder.
    pub(crate) fn at(path: PathBuf, wait: Duration) -> Self {
        let folder = DeviceFolder::new(path).with_wait(wait);
        Self {
            folder: folder.with_cache_bytes(CACHE_BYTES),
            database: None,
        }
    }

    /// Has a database hold the trees, if there is one.
    pub(crate) fn with_database(self, database: Option<Database>) -> Self {
        Self { database, ..self }
    }

    /// Creates a store where there is none, which gets its key when it is complete. Until then it is of no
    /// use, and goes away again with the first value if anything fails.
    pub(crate) fn create_unfinished(&self) -> Result<(Unfinished<'_>, Arc<dyn Store>)> {
        let path = self.folder.path();
        if path.exists() {
            let text = format!("{} exists already", path.display());
            return Err(Failure::new(text)
                .hint("name a folder that does not")
                .into());
        }
        self.folder.create().map_err(|error| self.explain(error))?;
        let unfinished = Unfinished {
            dir: self,
            is_finished: false,
        };
        let store = self.open_database()?;
        Ok((unfinished, store))
    }

    /// Notes in a database that servers share which key they have, or checks that it is this one.
    pub(crate) fn claim(&self, store: &dyn Store, key: &SecretKey) -> Result<()> {
        let own = key.public();
        let mut found = None;
        let claimed = store.update(SERVERS_KEY, &mut |value| {
            found = value.map(<[u8]>::to_vec);
            found.clone().or_else(|| Some(own.as_bytes().to_vec()))
        });
        claimed.context("could not read which key the database's servers have")?;
        if found.is_none_or(|found| found == own.as_bytes()) {
            return Ok(());
        }
        let text = format!(
            "the servers of the database have another key than {}",
            self.folder.path().display()
        );
        Err(Failure::new(text)
            .hint("copy the file `key` from the folder of one of them, or name another database")
            .into())
    }

    /// Opens the store, which must exist.
    pub(crate) fn open(&self) -> Result<Opened> {
        let key = self.read_key()?.ok_or_else(|| self.absent())?;
        self.protect()?;
        let store = self.open_database()?;
        self.protect()?;
        if self.database.is_some() {
            self.claim(&*store, &key)?;
        }
        Ok(Opened {
            store,
            key,
            server: None,
        })
    }

    /// Opens the store, and creates missing parts.
    pub(crate) fn open_or_create(&self) -> Result<Opened> {
        self.folder.create().map_err(|error| self.explain(error))?;
        // The open database is locked, so no two processes create a key.
        let store = self.open_database()?;
        let key = self.folder.key_or_create(&*store);
        let key = key.map_err(|error| self.explain(error))?;
        self.protect()?;
        if self.database.is_some() {
            self.claim(&*store, &key)?;
        }
        Ok(Opened {
            store,
            key,
            server: None,
        })
    }

    /// Opens the store, and creates missing parts, even a database that was lost. The key stays.
    pub(crate) fn open_or_begin_again(&self) -> Result<Opened> {
        if self.database.is_none() {
            let begun = self.folder.begin_again();
            begun.map_err(|error| self.explain(error))?;
        }
        self.open_or_create()
    }

    /// Returns the device's public key without opening the store.
    pub(crate) fn public_key(&self) -> Result<PublicKey> {
        let key = self.read_key()?.ok_or_else(|| self.absent())?;
        Ok(key.public())
    }

    /// Returns the record of the server that runs on this store, if one does.
    pub(crate) fn serving(&self) -> Result<Option<Serving>> {
        let recorded = self.read_serving();
        if matches!(recorded, Ok(None)) {
            return Ok(None);
        }
        if self.database.is_some() {
            // Several processes can open it.
            let is_served = crate::control::is_served(&self.control_socket());
            return recorded.map(|it| it.filter(|_| is_served));
        }
        // A server that was killed leaves the file. Opening the store fails while a server runs, and
        // removes the file otherwise.
        match self.folder.open_store_at_once() {
            Ok(_) => {
                self.remove_serving();
                Ok(None)
            }
            Err(_) => recorded,
        }
    }

    /// Records that a server runs.
    pub(crate) fn write_serving(&self, serving: &Serving) -> Result<()> {
        let json = serde_json::to_vec(serving).context("could not describe the server")?;
        self.write_file(SERVING_FILE, &json)
    }

    /// Removes the record and the socket of a server that has ended.
    pub(crate) fn remove_serving(&self) {
        let _is_usually_absent = fs::remove_file(self.file(SERVING_FILE));
        let _is_usually_absent = fs::remove_file(self.control_socket());
    }

    /// Returns the path of the socket on which a server listens for commands.
    pub(crate) fn control_socket(&self) -> PathBuf {
        self.file(CONTROL_FOLDER).join(CONTROL_SOCKET)
    }

    /// Creates the folder of that socket, and returns its path.
    pub(crate) fn create_control_folder(&self) -> io::Result<PathBuf> {
        let created = self.folder.create_folder(CONTROL_FOLDER);
        created.map_err(io::Error::other)
    }

    /// Returns how long a command waits for others on the same store.
    pub(crate) fn wait(&self) -> Duration {
        self.folder.wait()
    }

    /// Returns the path of a file in the folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.file(name)
    }

    /// Warns where others could replace the store by another.
    pub(crate) fn warn_if_others_can_replace(&self) {
        let exposures = self.folder.exposures().into_iter();
        warn_of(exposures.filter(|it| matches!(it, Exposure::Replaceable(_))));
    }

    /// Keeps others out of the folder and of all files in it, whatever their modes were, and refuses links
    /// that others have placed. Warns of files that stay open.
    fn protect(&self) -> Result<()> {
        let done = self.folder.protect();
        done.map_err(|error| self.explain(error))?;
        let exposures = self.folder.exposures().into_iter();
        warn_of(exposures.filter(|it| matches!(it, Exposure::Open(_))));
        Ok(())
    }

    fn absent(&self) -> Failure {
        let path = self.folder.path().display();
        Failure::new(format!("there is no store in {path}"))
            .hint("create one with `eidetica init`, `new` or `join`, or name another with --store")
    }

    /// Says what to do about an error of the folder, in terms of the program.
    fn explain(&self, error: DeviceError) -> Failure {
        let (text, hint) = match &error {
            DeviceError::NotAFolder(_) => (error.to_string(), "name another folder with --store"),
            DeviceError::DatabaseMissing { file, is_empty } => {
                let fault = if *is_empty {
                    "is empty"
                } else {
                    "does not exist"
                };
                let file = file.display();
                let text = format!(
                    "the store's database is missing: {file} {fault}, but its key is there"
                );
                let hint = "restore the file from a backup; or begin again with `eidetica init --new` and \
                            fetch the trees from peers";
                (text, hint)
            }
            DeviceError::KeyMissing(file) => {
                let file = file.display();
                let text = format!("the store's key is missing: {file} does not exist");
                (
                    text,
                    "restore the file from a backup, or name another --store",
                )
            }
            DeviceError::NotAKey(file) => {
                let text = format!("{} does not hold a key", file.display());
                (
                    text,
                    "restore the file from a backup; it has 64 hexadecimal digits",
                )
            }
            DeviceError::Unsafe { folder, .. } => {
                let text = format!("the store in {} is not safe", folder.display());
                (
                    text,
                    "check who can write to the folder, and remove the link",
                )
            }
            DeviceError::Store { folder, source } => {
                if matches!(source, StoreError::InUse { .. }) {
                    return self.in_use();
                }
                let text = format!("could not open the store in {}", folder.display());
                (
                    text,
                    "if this is the wrong folder, name another with --store",
                )
            }
            _ => (
                error.to_string(),
                "check that the disk is not full and that the folder is writable, or name another with \
                 --store",
            ),
        };
        let failure = Failure::new(text).hint(hint);
        // The source alone: the text says the rest already.
        match error {
            DeviceError::Store { source, .. } => failure.caused_by(source),
            DeviceError::Unsafe { source, .. } | DeviceError::Io { source, .. } => {
                failure.caused_by(source)
            }
            _ => failure,
        }
    }

    /// Opens the database, and creates it unless a key shows that there was one.
    ///
    /// # Errors
    /// [`Stop::ServerBegan`] if a server that takes commands has it open; that the store is in use if the
    /// wait is over; and those of the store.
    fn open_database(&self) -> Result<Arc<dyn Store>> {
        if let Some(database) = &self.database {
            let opened = database.open();
            return Ok(opened.context("could not open the store in the database")?);
        }
        let mut is_served = false;
        let opened = self.folder.open_store(|| {
            is_served = crate::control::is_served(&self.control_socket());
            is_served
        });
        match opened {
            Ok(store) => {
                self.remove_serving();
                Ok(Arc::new(store))
            }
            Err(_) if is_served => Err(Stop::ServerBegan),
            Err(error) => Err(self.explain(error).into()),
        }
    }

    /// Describes that other processes have the store open, or wait for it.
    pub(crate) fn in_use(&self) -> Failure {
        let folder = self.folder.path().to_owned();
        let text = format!("could not open the store in {}", folder.display());
        let failure = Failure::new(text).caused_by(StoreError::InUse { path: folder });
        match self.read_serving() {
            Ok(Some(serving)) => failure.hint(format!(
                "stop the server that runs on it (process {}), or name another --store",
                serving.pid
            )),
            _ => failure.hint(
                "wait until the other eidetica command has ended, for longer with `eidetica --wait \
                 SECONDS`, or name another --store",
            ),
        }
    }

    fn read_serving(&self) -> Result<Option<Serving>> {
        let found = self.folder.read(SERVING_FILE);
        let Some(json) = found.map_err(|error| self.explain(error))? else {
            return Ok(None);
        };
        let file = self.file(SERVING_FILE);
        let serving = serde_json::from_slice(&json)
            .context(format!("{} is not the record of a server", file.display()))
            .hint("delete the file, and restart the server")?;
        Ok(Some(serving))
    }

    fn read_key(&self) -> Result<Option<SecretKey>> {
        Ok(self.folder.key().map_err(|error| self.explain(error))?)
    }

    /// Writes a file atomically, readable by its owner only.
    pub(crate) fn write_file(&self, name: &str, content: &[u8]) -> Result<()> {
        let written = self.folder.write(name, content);
        Ok(written.map_err(|error| self.explain(error))?)
    }
}

/// Warns of what others can do.
pub(crate) fn warn_of(exposures: impl IntoIterator<Item = Exposure>) {
    for exposure in exposures {
        note(format!(
            "warning: {}",
            text::one_line(&exposure.to_string())
        ));
    }
}

impl Opened {
    /// Returns a builder for a node on the store.
    pub(crate) fn node(&self) -> NodeBuilder {
        Node::builder_with(self.store.clone(), self.key.clone())
    }

    /// Returns the server's node, or starts one without transports, which follows nothing.
    pub(crate) fn start(&self) -> Node {
        match &self.server {
            Some(node) => node.clone(),
            None => self.node().without_following().start(),
        }
    }
}

/// A store's folder that was made for something that is not complete.
pub(crate) struct Unfinished<'a> {
    dir: &'a StoreDir,
    is_finished: bool,
}

impl Unfinished<'_> {
    /// Makes it a store with this key.
    pub(crate) fn finish(mut self, key: &SecretKey) -> Result<()> {
        let written = self.dir.folder.write_key(key);
        written.map_err(|error| self.dir.explain(error))?;
        self.dir.protect()?;
        self.is_finished = true;
        Ok(())
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if !self.is_finished
            && let Err(error) = fs::remove_dir_all(self.dir.folder.path())
        {
            let path = text::path(self.dir.folder.path());
            note(format!(
                "{path} is of no use and could not be removed: {error}"
            ));
        }
    }
}

//! The store's folder: the device's key, the database, and the record of a running server.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use eidetica_sync::dag::{PublicKey, SecretKey};
use eidetica_sync::proto::Address;
use eidetica_sync::store::{RedbStore, Store, StoreError};
use eidetica_sync::{Node, NodeBuilder, generate_key};
use serde::{Deserialize, Serialize};

use crate::output::failure::{Context, Failure, Hint, Result, Stop};
use crate::output::out::note;
use crate::output::text;
use crate::store::postgres::Database;
use crate::store::private::{
    create_private_file, create_private_folder, make_private, read_own, warn_if_others_can_read,
    warn_if_others_can_replace,
};
use crate::store::queue::{Deadline, Turn, pause};

const KEY_FILE: &str = "key";
const DATABASE_FILE: &str = "eidetica.redb";
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
    path: PathBuf,
    /// How long to wait for another process that has the store open.
    wait: Duration,
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
        Self {
            path,
            wait,
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
        if self.path.exists() {
            let text = format!("{} exists already", self.path.display());
            return Err(Failure::new(text)
                .hint("name a folder that does not")
                .into());
        }
        create_private_folder(&self.path).context(format!(
            "could not create the folder {}",
            self.path.display()
        ))?;
        let unfinished = Unfinished {
            dir: self,
            is_finished: false,
        };
        let store = self.open_or_create_database()?;
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
            self.path.display()
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
        if self.path.exists() && !self.path.is_dir() {
            let text = format!("{} is not a folder, which a store is", self.path.display());
            return Err(Failure::new(text)
                .hint("name another folder with --store")
                .into());
        }
        create_private_folder(&self.path)
            .context(format!(
                "could not create the folder {}",
                self.path.display()
            ))
            .hint("name another folder with --store")?;
        self.protect()?;
        // The open database is locked, so no two processes create a key.
        let store = self.open_database()?;
        self.protect()?;
        let key = match self.read_key()? {
            Some(key) => key,
            None if store
                .trees()
                .context("could not read the store")?
                .is_empty() =>
            {
                self.create_key()?
            }
            None => {
                let key = self.file(KEY_FILE);
                let text = format!(
                    "the store's key is missing: {} does not exist",
                    key.display()
                );
                return Err(Failure::new(text)
                    .hint("restore the file from a backup, or name another --store")
                    .into());
            }
        };
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
        if self.database.is_none() && self.lost_database()?.is_some() {
            self.open_or_create_database()?;
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
        match self.open_database_at_once() {
            Ok(_) => Ok(None),
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

    /// Returns how long a command waits for others on the same store.
    pub(crate) fn wait(&self) -> Duration {
        self.wait
    }

    /// Returns the path of a file in the folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Warns where others could replace the store by another.
    pub(crate) fn warn_if_others_can_replace(&self) {
        warn_if_others_can_replace(&self.path);
    }

    /// Keeps others out of the folder and of all files in it, whatever their modes were, and refuses links
    /// that others have placed.
    fn protect(&self) -> Result<()> {
        let is_store = self.file(KEY_FILE).exists() || self.file(DATABASE_FILE).exists();
        let files = [KEY_FILE, DATABASE_FILE, SERVING_FILE];
        let files = files.map(|name| self.file(name));
        make_private(&self.path, &files, is_store).map_err(|error| {
            let text = format!("the store in {} is not safe", self.path.display());
            Failure::new(text)
                .caused_by(error)
                .hint("check who can write to the folder, and remove the link")
                .into()
        })
    }

    fn absent(&self) -> Failure {
        Failure::new(format!("there is no store in {}", self.path.display()))
            .hint("create one with `eidetica init`, `new` or `join`, or name another with --store")
    }

    /// Opens the database, and creates it unless a key shows that there was one.
    fn open_database(&self) -> Result<Arc<dyn Store>> {
        if let Some(database) = &self.database {
            let opened = database.open();
            return Ok(opened.context("could not open the store in the database")?);
        }
        match self.lost_database()? {
            None => self.open_or_create_database(),
            Some(failure) => Err(failure
                .hint(
                    "restore the file from a backup; or begin again with `eidetica init --new` and \
                     fetch the trees from peers",
                )
                .into()),
        }
    }

    /// Tells whether the database was lost. It is created before the key, so a key without a database
    /// is not a new store: a failed disk, an incomplete copy or another program removed the trees.
    fn lost_database(&self) -> Result<Option<Failure>> {
        if !self.file(KEY_FILE).exists() {
            return Ok(None);
        }
        let file = self.file(DATABASE_FILE);
        let fault = match fs::metadata(&file) {
            Ok(metadata) if metadata.len() == 0 => "is empty",
            Ok(_) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => "does not exist",
            Err(error) => {
                let text = format!("could not read {}", file.display());
                return Err(Failure::new(text).caused_by(error).into());
            }
        };
        let text = format!(
            "the store's database is missing: {} {fault}, but its key is there",
            file.display()
        );
        Ok(Some(Failure::new(text)))
    }

    /// Opens the database once the processes that came before have closed it.
    ///
    /// # Errors
    /// [`Stop::ServerBegan`] if one of them is a server that takes commands; that the store is in use
    /// if the wait is over; and those of the store.
    fn open_or_create_database(&self) -> Result<Arc<dyn Store>> {
        let deadline = Deadline::after(self.wait);
        let mut turn = None;
        if Turn::others_wait(&self.path) {
            turn = Turn::take(&self.path).ok();
        }
        loop {
            let is_first = turn.as_ref().is_none_or(Turn::is_first);
            let opened = is_first.then(|| self.open_database_at_once());
            match opened {
                Some(Ok(store)) => return Ok(store),
                Some(Err(error)) if !matches!(error, StoreError::InUse { .. }) => {
                    let text = format!("could not open the store in {}", self.path.display());
                    return Err(Failure::new(text)
                        .caused_by(error)
                        .hint("if this is the wrong folder, name another with --store")
                        .into());
                }
                _ => {}
            }
            if crate::control::is_served(&self.control_socket()) {
                return Err(Stop::ServerBegan);
            }
            if deadline.has_passed() {
                return Err(self.in_use(opened.and_then(Result::err)).into());
            }
            if turn.is_none() {
                turn = Turn::take(&self.path).ok();
            }
            pause();
        }
    }

    /// Opens the database, or creates it, if no process has it open.
    fn open_database_at_once(&self) -> Result<Arc<dyn Store>, StoreError> {
        let file = self.file(DATABASE_FILE);
        let store = RedbStore::builder().cache_bytes(CACHE_BYTES).open(&file)?;
        self.remove_serving();
        Ok(Arc::new(store))
    }

    /// Describes that other processes have the store open, or wait for it.
    pub(crate) fn in_use(&self, error: Option<StoreError>) -> Failure {
        let text = format!("could not open the store in {}", self.path.display());
        let path = self.file(DATABASE_FILE);
        let failure = Failure::new(text).caused_by(error.unwrap_or(StoreError::InUse { path }));
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
        let file = self.file(SERVING_FILE);
        let json = match read_own(&file) {
            Ok(json) => json,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                let text = format!("could not read {}", file.display());
                return Err(Failure::new(text).caused_by(error).into());
            }
        };
        let serving = serde_json::from_slice(&json)
            .context(format!("{} is not the record of a server", file.display()))
            .hint("delete the file, and restart the server")?;
        Ok(Some(serving))
    }

    fn read_key(&self) -> Result<Option<SecretKey>> {
        let file = self.file(KEY_FILE);
        let digits = match read_own(&file) {
            Ok(digits) => digits,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                let text = format!("could not read the key in {}", file.display());
                return Err(Failure::new(text).caused_by(error).into());
            }
        };
        warn_if_others_can_read(&file);
        // Say no more about the content: errors end up in logs.
        let bytes = HEXLOWER_PERMISSIVE.decode(digits.trim_ascii()).ok();
        let bytes = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        match bytes {
            Some(bytes) => Ok(Some(SecretKey::from_bytes(&bytes))),
            None => {
                let text = format!("{} does not hold a key", file.display());
                Err(Failure::new(text)
                    .hint("restore the file from a backup; it has 64 hexadecimal digits")
                    .into())
            }
        }
    }

    fn create_key(&self) -> Result<SecretKey> {
        let key = generate_key();
        self.write_key(&key)?;
        Ok(key)
    }

    fn write_key(&self, key: &SecretKey) -> Result<()> {
        let digits = format!("{}\n", HEXLOWER.encode(&key.to_bytes()));
        self.write_file(KEY_FILE, digits.as_bytes())
    }

    /// Writes a file atomically, readable by its owner only.
    pub(crate) fn write_file(&self, name: &str, content: &[u8]) -> Result<()> {
        let (file, partial) = (self.file(name), self.file(&format!("{name}.partial")));
        let write = || {
            let _left_by_a_crash = fs::remove_file(&partial);
            let mut to = create_private_file(&partial)?;
            to.write_all(content)?;
            to.sync_all()?;
            fs::rename(&partial, &file)?;
            sync_folder(&self.path)
        };
        write()
            .context(format!("could not write {}", file.display()))
            .hint("check that the disk is not full and that the folder is writable")?;
        Ok(())
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
        self.dir.write_key(key)?;
        self.dir.protect()?;
        self.is_finished = true;
        Ok(())
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if !self.is_finished
            && let Err(error) = fs::remove_dir_all(&self.dir.path)
        {
            let path = text::path(&self.dir.path);
            note(format!(
                "{path} is of no use and could not be removed: {error}"
            ));
        }
    }
}

/// Makes the names of a folder durable, which syncing a file does not.
fn sync_folder(path: &Path) -> io::Result<()> {
    match cfg!(unix) {
        true => File::open(path)?.sync_all(),
        false => Ok(()),
    }
}

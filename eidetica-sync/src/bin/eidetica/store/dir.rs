//! The store's folder: the device's key, the database, and a note of the server that runs on it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use eidetica_sync::dag::{PublicKey, SecretKey};
use eidetica_sync::proto::Address;
use eidetica_sync::store::{RedbStore, Store, StoreError};
use eidetica_sync::{Node, NodeBuilder, generate_key};
use serde::{Deserialize, Serialize};

use crate::output::failure::{Context, Failure, Hint, Result};
use crate::output::out::note;

const KEY_FILE: &str = "key";
const DATABASE_FILE: &str = "eidetica.redb";
const SERVING_FILE: &str = "serving.json";

/// The socket of a server has a folder of its own, which is for the owner alone even where the
/// store's folder was made by somebody less careful.
const CONTROL_FOLDER: &str = "control";
const CONTROL_SOCKET: &str = "socket";

/// Memory for the database's pages in bytes. A command is short, so little of what it reads is read
/// twice; the system's own cache has the rest.
const CACHE_BYTES: usize = 8 << 20;

/// The folder, which may not exist yet.
pub(crate) struct StoreDir {
    path: PathBuf,
}

/// An open store and the key of this device. No other process has the store open meanwhile.
#[derive(Clone)]
pub(crate) struct Opened {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) key: SecretKey,
    /// The server's node, within a server.
    pub(crate) server: Option<Node>,
}

/// What a server says of itself to other commands, which cannot open the store while it runs.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Serving {
    pub(crate) pid: u32,
    pub(crate) addresses: Vec<Address>,
    pub(crate) trees: Vec<ServedTree>,
}

/// One tree of a server.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ServedTree {
    pub(crate) tree: String,
    pub(crate) name: String,
}

impl StoreDir {
    /// Takes the folder that was asked for, by `--store`, else by the environment, else by the
    /// system's custom.
    pub(crate) fn choose(asked: Option<PathBuf>) -> Result<Self> {
        let from_env = || std::env::var_os("EIDETICA_STORE").filter(|path| !path.is_empty());
        let custom = || Some(directories::BaseDirs::new()?.data_dir().join("eidetica"));
        let path = asked
            .or_else(|| from_env().map(PathBuf::from))
            .or_else(custom);
        match path {
            Some(path) => Ok(Self { path }),
            None => Err(Failure::new("there is no usual place for a store here")
                .hint("name a folder with --store")
                .into()),
        }
    }

    /// Opens the store, which must be there.
    pub(crate) fn open(&self) -> Result<Opened> {
        let key = self.read_key()?.ok_or_else(|| self.absent())?;
        let store = self.open_database()?;
        Ok(Opened {
            store,
            key,
            server: None,
        })
    }

    /// Opens the store, and makes what is missing of it.
    pub(crate) fn open_or_create(&self) -> Result<Opened> {
        create_private_folder(&self.path)
            .context(format!("could not make the folder {}", self.path.display()))
            .hint("name another folder with --store")?;
        // Whoever has the database open is alone, so no two make a key.
        let store = self.open_database()?;
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
                let text = format!("the store's key is missing: there is no {}", key.display());
                return Err(Failure::new(text)
                    .hint("put the file back from a backup, or name another --store")
                    .into());
            }
        };
        Ok(Opened {
            store,
            key,
            server: None,
        })
    }

    /// Returns the public half of the key, without opening the store.
    pub(crate) fn public_key(&self) -> Result<PublicKey> {
        let key = self.read_key()?.ok_or_else(|| self.absent())?;
        Ok(key.public())
    }

    /// Returns what the server that runs on this store says of itself, if one runs.
    pub(crate) fn serving(&self) -> Result<Option<Serving>> {
        let Some(serving) = self.read_serving()? else {
            return Ok(None);
        };
        // A server that was killed leaves the file behind. While one runs, nobody else can open the
        // store, and whoever could has removed the file.
        match self.open_database() {
            Ok(_) => Ok(None),
            Err(_) => Ok(Some(serving)),
        }
    }

    /// Says to other commands that a server runs.
    pub(crate) fn write_serving(&self, serving: &Serving) -> Result<()> {
        let json = serde_json::to_vec(serving).context("could not describe the server")?;
        self.write_file(SERVING_FILE, &json)
    }

    /// Forgets the server, which has ended or must have.
    pub(crate) fn remove_serving(&self) {
        let _is_usually_absent = fs::remove_file(self.file(SERVING_FILE));
        let _is_usually_absent = fs::remove_file(self.control_socket());
    }

    /// Returns where a server on this store listens for commands.
    pub(crate) fn control_socket(&self) -> PathBuf {
        self.file(CONTROL_FOLDER).join(CONTROL_SOCKET)
    }

    /// Returns where a file of the store is.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn absent(&self) -> Failure {
        Failure::new(format!("there is no store in {}", self.path.display())).hint(
            "`eidetica init`, `new` or `join` to make one there, or name another with --store",
        )
    }

    fn open_database(&self) -> Result<Arc<dyn Store>> {
        let file = self.file(DATABASE_FILE);
        let store = RedbStore::builder()
            .cache_bytes(CACHE_BYTES)
            .open(&file)
            .map_err(|error| {
                let in_use = matches!(error, StoreError::InUse { .. });
                let text = format!("could not open the store in {}", self.path.display());
                let failure = Failure::new(text).caused_by(error);
                match self.read_serving() {
                    Ok(Some(serving)) if in_use => failure.hint(format!(
                        "stop the server that runs on it (process {}), or name another --store",
                        serving.pid
                    )),
                    _ if in_use => failure.hint(
                        "wait until the other eidetica command has ended, or name another --store",
                    ),
                    _ => failure
                        .hint("name another folder with --store if this is not the right one"),
                }
            })?;
        self.remove_serving();
        Ok(Arc::new(store))
    }

    fn read_serving(&self) -> Result<Option<Serving>> {
        let file = self.file(SERVING_FILE);
        let json = match fs::read(&file) {
            Ok(json) => json,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                let text = format!("could not read {}", file.display());
                return Err(Failure::new(text).caused_by(error).into());
            }
        };
        let serving = serde_json::from_slice(&json)
            .context(format!("{} is not what a server wrote", file.display()))
            .hint("stop the server, delete the file, and start the server again")?;
        Ok(Some(serving))
    }

    fn read_key(&self) -> Result<Option<SecretKey>> {
        let file = self.file(KEY_FILE);
        let digits = match fs::read(&file) {
            Ok(digits) => digits,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                let text = format!("could not read the key in {}", file.display());
                return Err(Failure::new(text).caused_by(error).into());
            }
        };
        warn_if_others_can_read(&file);
        // What is wrong with it is not said any closer: errors end up in logs.
        let bytes = HEXLOWER_PERMISSIVE.decode(digits.trim_ascii()).ok();
        let bytes = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        match bytes {
            Some(bytes) => Ok(Some(SecretKey::from_bytes(&bytes))),
            None => {
                let text = format!("{} does not hold a key", file.display());
                Err(Failure::new(text)
                    .hint("put the file back from a backup: 64 hexadecimal digits")
                    .into())
            }
        }
    }

    fn create_key(&self) -> Result<SecretKey> {
        let key = generate_key();
        let digits = format!("{}\n", HEXLOWER.encode(&key.to_bytes()));
        self.write_file(KEY_FILE, digits.as_bytes())?;
        Ok(key)
    }

    /// Writes a file that nobody else can read, all of it or nothing.
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
            .hint("see that the disk is not full and that the folder can be written")?;
        Ok(())
    }
}

impl Opened {
    /// Begins to make a node on the store.
    pub(crate) fn node(&self) -> NodeBuilder {
        Node::builder_with(self.store.clone(), self.key.clone())
    }

    /// Returns the server's node, or starts one without transports.
    pub(crate) fn start(&self) -> Node {
        match &self.server {
            Some(node) => node.clone(),
            None => self.node().start(),
        }
    }
}

/// Makes a folder for its owner alone, and those above it, unless they are there.
#[cfg(unix)]
pub(crate) fn create_private_folder(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}

/// Elsewhere the folder inherits who may read it.
#[cfg(not(unix))]
fn create_private_folder(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)
}

fn create_private_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Makes the name of a file durable, which is apart from its content.
fn sync_folder(path: &Path) -> io::Result<()> {
    match cfg!(unix) {
        true => File::open(path)?.sync_all(),
        false => Ok(()),
    }
}

/// Warns of a file with a secret that is none.
#[cfg(unix)]
pub(crate) fn warn_if_others_can_read(file: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(file).map_or(0o600, |metadata| metadata.permissions().mode());
    if mode & 0o077 != 0 {
        let file = file.display();
        note(format!(
            "warning: others can read {file}; try: chmod 600 {file}"
        ));
    }
}

#[cfg(not(unix))]
pub(crate) fn warn_if_others_can_read(_: &Path) {}

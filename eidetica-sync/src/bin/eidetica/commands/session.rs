//! What a command works with.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::output::console::Console;
use crate::output::failure::Result;
use crate::store::dir::{Opened, StoreDir};

/// The store's folder and whoever started the command. A command is the same in a process of its own
/// and in the server, which has the store open.
pub(crate) struct Session {
    pub(crate) dir: Arc<StoreDir>,
    pub(crate) console: Console,
    /// What the server has open.
    server: Option<Opened>,
    /// Where the one who started the command is.
    folder: PathBuf,
}

impl Session {
    /// A command in its own process.
    pub(crate) fn own(dir: StoreDir) -> Self {
        Self {
            dir: Arc::new(dir),
            console: Console::Own,
            server: None,
            folder: PathBuf::new(),
        }
    }

    /// A command in the server, from a process in `folder`.
    #[cfg(unix)]
    pub(crate) fn served(
        dir: Arc<StoreDir>,
        console: Console,
        server: Opened,
        folder: PathBuf,
    ) -> Self {
        Self {
            dir,
            console,
            server: Some(server),
            folder,
        }
    }

    /// Opens the store, which must be there.
    pub(crate) fn open(&self) -> Result<Opened> {
        match &self.server {
            Some(opened) => Ok(opened.clone()),
            None => self.dir.open(),
        }
    }

    /// Opens the store, and makes what is missing of it.
    pub(crate) fn open_or_create(&self) -> Result<Opened> {
        match &self.server {
            Some(opened) => Ok(opened.clone()),
            None => self.dir.open_or_create(),
        }
    }

    /// Returns what the server has open, in the server.
    pub(crate) fn server(&self) -> Option<&Opened> {
        self.server.as_ref()
    }

    /// Returns a path of the command line as it is from here.
    pub(crate) fn path(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }
}

//! The context of a command.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::output::console::Console;
use crate::output::failure::Result;
use crate::store::dir::{Opened, StoreDir};

/// The store's folder and the console of the client. A command runs alike in its own process and in
/// the server, which has the store open.
pub(crate) struct Session {
    pub(crate) dir: Arc<StoreDir>,
    pub(crate) console: Console,
    /// The open store, in the server.
    server: Option<Opened>,
    /// The working directory of the client.
    folder: PathBuf,
}

impl Session {
    /// Returns the session of a command in its own process.
    pub(crate) fn own(dir: Arc<StoreDir>) -> Self {
        Self {
            dir,
            console: Console::Own,
            server: None,
            folder: PathBuf::new(),
        }
    }

    /// Returns the session of a command in the server, for a client in `folder`.
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

    /// Opens the store, which must exist.
    pub(crate) fn open(&self) -> Result<Opened> {
        match &self.server {
            Some(opened) => Ok(opened.clone()),
            None => self.dir.open(),
        }
    }

    /// Opens the store, and creates it if needed.
    pub(crate) fn open_or_create(&self) -> Result<Opened> {
        match &self.server {
            Some(opened) => Ok(opened.clone()),
            None => self.dir.open_or_create(),
        }
    }

    /// Opens the store, and creates it if needed, even where its database was lost.
    pub(crate) fn open_or_begin_again(&self) -> Result<Opened> {
        match &self.server {
            Some(opened) => Ok(opened.clone()),
            None => self.dir.open_or_begin_again(),
        }
    }

    /// Returns the server's open store, or `None` outside the server.
    pub(crate) fn server(&self) -> Option<&Opened> {
        self.server.as_ref()
    }

    /// Resolves a path of the command line.
    pub(crate) fn path(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }
}

//! A PostgreSQL database in the place of the store's file: its URL, and its password.

use std::env;
use std::path::PathBuf;
use std::sync::Arc;

use eidetica_sync::store::{PostgresStore, PostgresStoreBuilder, Store, StoreError};

use crate::output::failure::{Context, Failure, Result};

/// The variable with the URL, which may hold a password.
const URL_VARIABLE: &str = "EIDETICA_POSTGRES";

/// How much the files of views take, in bytes: little for the disk of a server, and dozens of large trees.
const CACHE_BYTES_MAX: u64 = 4 << 30;

/// A database, before it is opened.
#[derive(Debug, Clone)]
pub(crate) struct Database(PostgresStoreBuilder);

impl Database {
    /// Chooses the database: `asked` (`--postgres`), else `EIDETICA_POSTGRES`, else none. The password is
    /// in the variable's URL, in `PGPASSWORD`, or in the password file, as for other programs.
    pub(crate) fn choose(asked: Option<&str>) -> Result<Option<Self>> {
        let of_variable = variable(URL_VARIABLE);
        let Some(url) = asked.or(of_variable.as_deref()) else {
            return Ok(None);
        };
        let unusable = "could not use the database";
        let builder = PostgresStore::builder(url).context(unusable)?;
        if asked.is_some() && builder.has_password() {
            let hint = "other users of this machine can see command lines: give the URL in \
                        EIDETICA_POSTGRES, or the password in PGPASSWORD or in ~/.pgpass";
            return Err(Failure::new("the URL of --postgres holds a password")
                .hint(hint)
                .into());
        }
        let builder = match (builder.has_password(), variable("PGPASSWORD")) {
            (true, _) => builder,
            (false, Some(password)) => builder.password(&password),
            (false, None) => match password_file() {
                Some(file) => builder.password_file(&file).context(unusable)?,
                None => builder,
            },
        };
        let builder = match variable("PGSSLROOTCERT") {
            Some(file) => {
                let certificates = std::fs::read(&file);
                let certificates = certificates.context(format!("could not read {file}"))?;
                builder.trusting(&certificates).context(unusable)?
            }
            None => builder,
        };
        Ok(Some(Self(builder)))
    }

    /// Keeps views of large trees in files of a folder.
    pub(crate) fn with_cache(self, folder: PathBuf) -> Self {
        Self(self.0.cache(folder, CACHE_BYTES_MAX))
    }

    /// Connects, and makes the tables if there are none.
    pub(crate) fn open(&self) -> Result<Arc<dyn Store>, StoreError> {
        Ok(Arc::new(self.0.clone().open()?))
    }
}

/// Returns a variable of the environment, unless it is empty.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// Returns the password file, if there is one.
fn password_file() -> Option<PathBuf> {
    let asked = variable("PGPASSFILE").map(PathBuf::from);
    let usual = || Some(directories::BaseDirs::new()?.home_dir().join(".pgpass"));
    asked.or_else(usual).filter(|file| file.exists())
}

//! Puts a store together.

use std::path::Path;
#[cfg(feature = "redb")]
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use super::PostgresStore;
#[cfg(feature = "redb")]
use super::cache::Cache;
use super::database::Database;
use super::group::Groups;
use super::news::News;
use super::schema;
use super::sql::Sql;
use super::tls::Tls;
use super::view::Views;
use crate::store::StoreError;

/// Connections of one server, unless the builder says otherwise. One is in use for each tree that is
/// written at the moment, and for a millisecond for each read.
pub const POOL_SIZE_DEFAULT: usize = 16;

/// Memory for views in bytes, unless the builder says otherwise: about 400,000 entries.
pub const VIEW_BYTES_DEFAULT: usize = 256 << 20;

/// The schema, unless the builder says otherwise.
const SCHEMA_DEFAULT: &str = "eidetica";

/// Settings of a [`PostgresStore`].
#[derive(Clone)]
pub struct PostgresStoreBuilder {
    config: Config,
    schema: String,
    tls: Tls,
    pool_size: usize,
    view_bytes: usize,
    #[cfg(feature = "redb")]
    cache: Option<(PathBuf, u64)>,
}

impl PostgresStoreBuilder {
    pub(super) fn new(url: &str) -> Result<Self, StoreError> {
        let (url, wants) = split_tls(url);
        let mut config: Config = url.parse().map_err(|error| StoreError::Address {
            why: std::error::Error::source(&error)
                .map_or_else(|| "it cannot be read".to_owned(), ToString::to_string),
        })?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            let why = "it names no host".to_owned();
            return Err(StoreError::Address { why });
        }
        let is_here = |host: &Host| match host {
            Host::Tcp(name) => matches!(name.as_str(), "localhost" | "127.0.0.1" | "::1"),
            #[cfg(unix)]
            Host::Unix(_) => true,
        };
        // Whoever can change packets on the way could answer that there is no TLS, so it is never
        // optional.
        let encrypts = match wants {
            Some(wants) => wants,
            None => !config.get_hosts().iter().all(is_here),
        };
        config.ssl_mode(if encrypts {
            SslMode::Require
        } else {
            SslMode::Disable
        });
        Ok(Self {
            config,
            schema: SCHEMA_DEFAULT.to_owned(),
            tls: Tls::default(),
            pool_size: POOL_SIZE_DEFAULT,
            view_bytes: VIEW_BYTES_DEFAULT,
            #[cfg(feature = "redb")]
            cache: None,
        })
    }

    /// Returns whether the URL holds a password.
    pub fn has_password(&self) -> bool {
        self.config.get_password().is_some()
    }

    /// Sets the password.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.config.password(password);
        self
    }

    /// Sets the name of the schema, which the store makes if it does not exist.
    #[must_use]
    pub fn schema(mut self, schema: &str) -> Self {
        schema.clone_into(&mut self.schema);
        self
    }

    /// Believes the database by these certificates, given as PEM, and by what they have signed. By
    /// default it believes whom the platform trusts.
    ///
    /// # Errors
    /// Returns [`StoreError::Address`] if they cannot be read.
    pub fn trusting(mut self, certificates: &[u8]) -> Result<Self, StoreError> {
        self.tls = Tls::trusting(certificates)?;
        Ok(self)
    }

    /// Sets how many connections this server makes at most.
    #[must_use]
    pub fn pool_size(mut self, connections: usize) -> Self {
        self.pool_size = connections.max(1);
        self
    }

    /// Sets how much memory views of trees may take, in bytes. The view used last stays in any case.
    #[must_use]
    pub fn view_bytes(mut self, view_bytes: usize) -> Self {
        self.view_bytes = view_bytes;
        self
    }

    /// Keeps views of large trees in files of this folder rather than in memory, in so many bytes at most,
    /// so that a restart need not read them from the database again. The folder is this server's alone,
    /// and may be removed while it does not run.
    #[cfg(feature = "redb")]
    #[must_use]
    pub fn cache(mut self, folder: impl Into<PathBuf>, bytes_max: u64) -> Self {
        self.cache = Some((folder.into(), bytes_max));
        self
    }

    /// Connects, and makes the schema or brings it up to date. Blocks.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`] if there is no database, [`StoreError::Database`] if it refuses,
    /// [`StoreError::TooNew`] if a later version of this program has changed the schema.
    pub fn open(self) -> Result<PostgresStore, StoreError> {
        let sql = Sql::new(&self.schema)?;
        let database = Database::new(self.config, self.tls, sql, self.pool_size)?;
        let log = schema::prepare(&database)?;
        let views = Views::with_room_for(self.view_bytes);
        #[cfg(feature = "redb")]
        let views = {
            let cache = self
                .cache
                .map(|(folder, room)| Cache::open(&folder, log, room));
            views.with_cache(cache.transpose()?)
        };
        Ok(PostgresStore {
            database: Arc::new(database),
            views,
            groups: Groups::default(),
            log,
            news: Arc::new(News::new()),
            is_listening: AtomicBool::new(false),
        })
    }
}

/// Takes the setting of TLS out of a URL, for the driver knows only some of its values.
fn split_tls(url: &str) -> (String, Option<bool>) {
    let Some((base, query)) = url.split_once('?') else {
        return (url.to_owned(), None);
    };
    let mut wants = None;
    let rest: Vec<&str> = query
        .split('&')
        .filter(|part| match part.strip_prefix("sslmode=") {
            Some("disable") => {
                wants = Some(false);
                false
            }
            Some("require" | "verify-ca" | "verify-full") => {
                wants = Some(true);
                false
            }
            _ => true,
        })
        .collect();
    match rest.as_slice() {
        [] => (base.to_owned(), wants),
        rest => (format!("{base}?{}", rest.join("&")), wants),
    }
}

impl std::fmt::Debug for PostgresStoreBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hosts = self.config.get_hosts();
        f.debug_struct("PostgresStoreBuilder")
            .field("hosts", &hosts)
            .field("schema", &self.schema)
            .finish_non_exhaustive()
    }
}

/// Reads a password as libpq's password file gives it: lines of `host:port:database:user:password`, with
/// `*` for anything and `\` before a `:` or `\` that belongs to a field.
pub(super) fn find_password(file: &str, config: &Config) -> Option<String> {
    let host = match config.get_hosts().first() {
        Some(Host::Tcp(name)) => name.clone(),
        #[cfg(unix)]
        Some(Host::Unix(_)) => "localhost".to_owned(),
        None => "localhost".to_owned(),
    };
    let port = config
        .get_ports()
        .first()
        .copied()
        .unwrap_or(5432)
        .to_string();
    let user = config.get_user().unwrap_or_default();
    let database = config.get_dbname().unwrap_or(user);
    let wanted = [host.as_str(), &port, database, user];
    file.lines()
        .filter(|line| !line.starts_with('#'))
        .find_map(|line| {
            let fields = fields_of(line);
            let (password, names) = fields.split_last()?;
            let fits = names.len() == wanted.len()
                && names
                    .iter()
                    .zip(wanted)
                    .all(|(name, wanted)| name == "*" || name == wanted);
            fits.then(|| password.clone())
        })
}

/// Splits a line of a password file. The password is the rest after the fourth colon.
fn fields_of(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        let count = fields.len();
        let last = &mut fields[count - 1];
        match c {
            '\\' => last.extend(chars.next()),
            ':' if count < 5 => fields.push(String::new()),
            c => last.push(c),
        }
    }
    fields
}

impl PostgresStoreBuilder {
    /// Takes the password from a file in the format of libpq's, if it has one for this database and
    /// user.
    ///
    /// # Errors
    /// [`StoreError::Address`] if the file cannot be read, or others may read it.
    pub fn password_file(mut self, path: &Path) -> Result<Self, StoreError> {
        let unusable = |why: String| StoreError::Address {
            why: format!("the password file {}: {why}", path.display()),
        };
        let file = std::fs::read_to_string(path).map_err(|error| unusable(error.to_string()))?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let metadata = std::fs::metadata(path).map_err(|error| unusable(error.to_string()))?;
            if metadata.permissions().mode() & 0o077 != 0 {
                let why = "others can read it; make it readable for its owner alone (chmod 600)";
                return Err(unusable(why.to_owned()));
            }
        }
        if let Some(password) = find_password(&file, &self.config) {
            self.config.password(password);
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_file_is_read_as_libpq_reads_it() {
        let config: Config = "postgres://ada@db.example:6432/trees".parse().unwrap();
        let file = "# comment\n\
                    db.example:5432:trees:ada:wrong port\n\
                    other:*:*:*:wrong host\n\
                    *:6432:trees:ada:pa\\:ss\\\\word:rest\n\
                    *:*:*:*:later";
        let found = find_password(file, &config);
        assert_eq!(found.as_deref(), Some("pa:ss\\word:rest"));
        assert_eq!(find_password("db.example:*:*:eve:x\nshort", &config), None);
        let config: Config = "postgres://ada@%2Frun%2Fpg".parse().unwrap();
        let found = find_password("localhost:5432:ada:ada:here", &config);
        assert_eq!(found.as_deref(), Some("here"));
    }

    #[test]
    fn a_distant_database_is_reached_by_tls_unless_it_is_said_otherwise() {
        let mode = |url: &str| {
            let builder = PostgresStoreBuilder::new(url).unwrap();
            builder.config.get_ssl_mode()
        };
        assert_eq!(mode("postgres://db.example/trees"), SslMode::Require);
        let verified = "postgres://db.example/trees?sslmode=verify-full&application_name=x";
        assert_eq!(mode(verified), SslMode::Require);
        assert_eq!(
            mode("postgres://db.example/trees?sslmode=disable"),
            SslMode::Disable
        );
        assert_eq!(mode("postgres://localhost/trees"), SslMode::Disable);
        assert_eq!(
            mode("postgres://localhost/trees?sslmode=require"),
            SslMode::Require
        );
        assert_eq!(mode("postgres://ada@%2Frun%2Fpg/trees"), SslMode::Disable);
        let error = PostgresStoreBuilder::new("postgres://ada:secret@").unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
        let builder = PostgresStoreBuilder::new("postgres://ada:secret@db.example").unwrap();
        assert!(!format!("{builder:?}").contains("secret"));
        assert!(builder.has_password());
    }
}

//! HTTPS: what `serve` proves itself with, and whom `join` and `sync` believe.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use eidetica_sync::http::{ClientTls, HttpTransportBuilder, ServerTls};

use crate::commands::session::Session;
use crate::output::failure::{Context, Failure, Hint, Result};
use crate::store::dir::{StoreDir, warn_if_others_can_read};

/// The key that the store's server makes for itself, and its latest certificate.
const KEY_FILE: &str = "tls-key.pem";
const CERTIFICATE_FILE: &str = "tls-cert.pem";

/// What `serve` proves itself with.
#[derive(Debug, clap::Args)]
pub(crate) struct ServeTls {
    /// Serves over HTTPS, with the certificate and its chain in this PEM file. Without TLS, whoever
    /// listens on the way reads all that is sent over HTTP
    #[arg(
        long,
        value_name = "FILE",
        requires = "tls_key",
        conflicts_with = "no_http"
    )]
    tls_cert: Option<PathBuf>,
    /// The private key of the certificate, as PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Serves over HTTPS, with a certificate that it signs itself: give it to clients for --tls-ca.
    /// The key stays in the store's folder and is the same next time
    #[arg(long, conflicts_with_all = ["no_http", "tls_cert"])]
    tls_self_signed: bool,
    /// A name under which others reach the server, for its tickets and for the certificate that it
    /// signs itself; can be given several times
    #[arg(long = "tls-name", value_name = "HOST", conflicts_with = "no_http")]
    tls_names: Vec<String>,
}

/// Whom a client believes.
#[derive(Debug, clap::Args)]
pub(crate) struct AskTls {
    /// Trusts the certificates in this PEM file over HTTPS, instead of those that the system trusts
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
}

impl ServeTls {
    /// Switches TLS on if that was asked for. Returns where the certificate is that clients must be
    /// given, if it is one of our own.
    pub(crate) fn apply(
        self,
        dir: &StoreDir,
        http: HttpTransportBuilder,
    ) -> Result<(HttpTransportBuilder, Option<PathBuf>)> {
        let (tls, to_give) = match (&self.tls_cert, &self.tls_key) {
            (Some(cert), Some(key)) => {
                warn_if_others_can_read(key);
                let tls = ServerTls::from_pem(&read(cert)?, &read(key)?)
                    .context("could not use the certificate for HTTPS")
                    .hint("both files are PEM, and the key is that of the first certificate")?;
                (tls, None)
            }
            _ if self.tls_self_signed => {
                let tls = own(dir, self.names(&http))?;
                (tls, Some(dir.file(CERTIFICATE_FILE)))
            }
            _ if self.tls_names.is_empty() => return Ok((http, None)),
            _ => {
                return Err(Failure::new("--tls-name is for a server with TLS")
                    .hint("--tls-self-signed, or --tls-cert and --tls-key, along with it")
                    .into());
            }
        };
        let http = self
            .tls_names
            .into_iter()
            .fold(http.server_tls(tls), HttpTransportBuilder::advertise_host);
        Ok((http, to_give))
    }

    /// Lists everything under which clients may reach the server.
    fn names(&self, http: &HttpTransportBuilder) -> Vec<String> {
        let mut names = self.tls_names.clone();
        names.extend(["localhost", "127.0.0.1", "::1"].map(str::to_owned));
        names.extend(http.advertised_ip().map(|ip| ip.to_string()));
        names.sort();
        names.dedup();
        names
    }
}

/// Makes a certificate with the key in the store's folder, and the key if there is none. Each start
/// makes another certificate, because names and addresses change; clients go by the key.
fn own(dir: &StoreDir, names: Vec<String>) -> Result<ServerTls> {
    let file = dir.file(KEY_FILE);
    let tls = match fs::read(&file) {
        Ok(key) => {
            warn_if_others_can_read(&file);
            ServerTls::self_signed_with_key(names, &key)
                .context(format!("could not use the key in {}", file.display()))
                .hint("delete it: another is made, and clients need its certificate")?
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let tls = ServerTls::self_signed(names).context("could not make a certificate")?;
            dir.write_file(KEY_FILE, tls.key_pem())?;
            tls
        }
        Err(error) => return Err(unreadable(&file, error).into()),
    };
    dir.write_file(CERTIFICATE_FILE, tls.certificate_pem())?;
    Ok(tls)
}

impl AskTls {
    /// Tells whether anybody is to be believed but those whom the system believes.
    pub(crate) fn is_given(&self) -> bool {
        self.tls_ca.is_some()
    }

    /// Sets whom the client believes, if that was asked for.
    pub(crate) fn apply(
        &self,
        session: &Session,
        http: HttpTransportBuilder,
    ) -> Result<HttpTransportBuilder> {
        let Some(file) = &self.tls_ca else {
            return Ok(http);
        };
        let file = &session.path(file);
        let trusted = ClientTls::trusting(&read(file)?)
            .context(format!("could not trust what is in {}", file.display()))
            .hint("a PEM file, such as the one that `serve --tls-self-signed` names")?;
        Ok(http.client_tls(trusted))
    }
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).map_err(|error| unreadable(file, error).into())
}

fn unreadable(file: &Path, error: io::Error) -> Failure {
    Failure::new(format!("could not read {}", file.display())).caused_by(error)
}

//! HTTPS: the certificate of `serve`, and the certificates that `join` and `sync` trust.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use eidetica_sync::Exposure;
use eidetica_sync::http::{ClientTls, HttpTransportBuilder, ServerTls};

use crate::commands::session::Session;
use crate::output::failure::{Context, Failure, Hint, Result};
use crate::store::dir::{StoreDir, warn_of};

/// The key that the store's server generates for itself, and its latest certificate.
const KEY_FILE: &str = "tls-key.pem";
const CERTIFICATE_FILE: &str = "tls-cert.pem";

/// The certificate of a server.
#[derive(Debug, clap::Args)]
pub(crate) struct ServeTls {
    /// Serves over HTTPS with the certificate chain in this PEM file. Without TLS, anyone on the path
    /// can read traffic over HTTP
    #[arg(
        long,
        value_name = "FILE",
        requires = "tls_key",
        conflicts_with = "no_http"
    )]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key in PEM format
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Serves over HTTPS with a self-signed certificate; pass it to clients for --tls-ca. The key is
    /// kept in the store's folder
    #[arg(long, conflicts_with_all = ["no_http", "tls_cert"])]
    tls_self_signed: bool,
    /// A host name of the server, for its tickets and its self-signed certificate; may be repeated
    #[arg(long = "tls-name", value_name = "HOST", conflicts_with = "no_http")]
    tls_names: Vec<String>,
}

/// The certificates that a client trusts.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct AskTls {
    /// Trusts the certificates in this PEM file over HTTPS, instead of the system's
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
}

impl ServeTls {
    /// Enables TLS if the command line says so. Returns the path of the certificate if it is
    /// self-signed, because clients need it.
    pub(crate) fn apply(
        self,
        dir: &StoreDir,
        http: HttpTransportBuilder,
    ) -> Result<(HttpTransportBuilder, Option<PathBuf>)> {
        let (tls, to_give) = match (&self.tls_cert, &self.tls_key) {
            (Some(cert), Some(key)) => {
                warn_of(Exposure::of(key));
                let tls = ServerTls::from_pem(&read(cert)?, &read(key)?)
                    .context("could not use the certificate for HTTPS")
                    .hint(
                        "both files must be PEM, and the key must belong to the first certificate",
                    )?;
                (tls, None)
            }
            _ if self.tls_self_signed => {
                let tls = own(dir, self.names(&http))?;
                (tls, Some(dir.file(CERTIFICATE_FILE)))
            }
            _ if self.tls_names.is_empty() => return Ok((http, None)),
            _ => {
                return Err(Failure::new("--tls-name needs TLS")
                    .hint("add --tls-self-signed, or --tls-cert and --tls-key")
                    .into());
            }
        };
        let http = self
            .tls_names
            .into_iter()
            .fold(http.server_tls(tls), HttpTransportBuilder::advertise_host);
        Ok((http, to_give))
    }

    /// Lists the names and addresses under which clients may reach the server.
    fn names(&self, http: &HttpTransportBuilder) -> Vec<String> {
        let mut names = self.tls_names.clone();
        names.extend(["localhost", "127.0.0.1", "::1"].map(str::to_owned));
        names.extend(http.advertised_ip().map(|ip| ip.to_string()));
        names.sort();
        names.dedup();
        names
    }
}

/// Makes a certificate with the key in the store's folder, and generates the key if there is none.
/// Each start makes another certificate, because names and addresses change; clients pin the key.
fn own(dir: &StoreDir, names: Vec<String>) -> Result<ServerTls> {
    let file = dir.file(KEY_FILE);
    let tls = match fs::read(&file) {
        Ok(key) => {
            warn_of(Exposure::of(&file));
            ServerTls::self_signed_with_key(names, &key)
                .context(format!("could not use the key in {}", file.display()))
                .hint("delete the file to generate another key; clients then need the new certificate")?
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
    /// Tells whether the system's certificates are replaced.
    pub(crate) fn is_given(&self) -> bool {
        self.tls_ca.is_some()
    }

    /// Sets the trusted certificates, if the command line names any.
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
            .context(format!(
                "could not use the certificates in {}",
                file.display()
            ))
            .hint("name a PEM file, such as the one that `serve --tls-self-signed` prints")?;
        Ok(http.client_tls(trusted))
    }
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).map_err(|error| unreadable(file, error).into())
}

fn unreadable(file: &Path, error: io::Error) -> Failure {
    Failure::new(format!("could not read {}", file.display())).caused_by(error)
}

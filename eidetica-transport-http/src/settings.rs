//! The settings of a transport, as its builder leaves them.

use std::net::SocketAddr;

use eidetica_proto::Address;

use crate::address::Scheme;
use crate::limits;
use crate::options::{Deadlines, HttpVersion};
#[cfg(feature = "tls")]
use crate::tls::{ClientTls, ServerTls};

/// Everything that can be chosen about a transport.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) bind: Option<SocketAddr>,
    pub(crate) advertised: Vec<Address>,
    pub(crate) hosts: Vec<String>,
    pub(crate) allowed_hosts: Vec<String>,
    pub(crate) version: HttpVersion,
    pub(crate) deadlines: Deadlines,
    pub(crate) connections_max: usize,
    pub(crate) newcomers_max: usize,
    pub(crate) unfinished_bytes_max: usize,
    pub(crate) untaken_bytes_max: usize,
    #[cfg(feature = "tls")]
    pub(crate) server_tls: Option<ServerTls>,
    #[cfg(feature = "tls")]
    pub(crate) client_tls: ClientTls,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            bind: None,
            advertised: Vec::new(),
            hosts: Vec::new(),
            allowed_hosts: Vec::new(),
            version: HttpVersion::default(),
            deadlines: Deadlines::default(),
            connections_max: limits::CONNECTIONS_MAX,
            newcomers_max: limits::NEWCOMERS_MAX,
            unfinished_bytes_max: limits::UNFINISHED_BYTES_MAX,
            untaken_bytes_max: limits::UNTAKEN_BYTES_MAX,
            #[cfg(feature = "tls")]
            server_tls: None,
            #[cfg(feature = "tls")]
            client_tls: ClientTls::default(),
        }
    }
}

impl Settings {
    /// Returns the scheme of the server's addresses.
    pub(crate) fn server_scheme(&self) -> Scheme {
        #[cfg(feature = "tls")]
        if self.server_tls.is_some() {
            return Scheme::Https;
        }
        Scheme::Http
    }
}

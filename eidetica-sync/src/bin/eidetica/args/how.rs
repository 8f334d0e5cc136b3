//! The options of commands that connect to peers.

use clap::ValueEnum;

use crate::network::tls::AskTls;

/// A kind of transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Via {
    /// HTTP: both sides are authenticated, but without TLS anyone on the path can read along
    Http,
    /// iroh: encrypted QUIC connections between devices that prove their keys
    Iroh,
}

impl Via {
    /// Returns the address kinds that belong to it.
    pub(crate) fn kinds(self) -> &'static [&'static str] {
        match self {
            Self::Http => &["http", "https"],
            Self::Iroh => &["iroh"],
        }
    }
}

/// How to sync, and how to report it.
#[derive(Debug, clap::Args)]
pub(crate) struct How {
    /// Uses only addresses of this kind
    #[arg(long)]
    pub(crate) via: Option<Via>,
    #[command(flatten)]
    pub(crate) net: Net,
    /// Prints the result as a JSON object on one line
    #[arg(long)]
    pub(crate) json: bool,
}

/// How to connect to peers.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Net {
    #[command(flatten)]
    pub(crate) tls: AskTls,
    /// Restricts iroh to this machine: 127.0.0.1, no relays, no lookups
    #[arg(long)]
    pub(crate) loopback: bool,
}

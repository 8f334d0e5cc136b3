//! The command line for keeping trees in sync with peers.

use std::str::FromStr;

use clap::Subcommand;
use eidetica_sync::proto::{Address, Ticket, TicketError};

use super::how::Net;

#[derive(Debug, clap::Args)]
pub(crate) struct Follow {
    /// The tree: its id, leading digits of its id, or its name
    pub(crate) tree: String,
    /// The peer: a quoted ticket, an address, a key, or at least 4 leading digits of a known key
    /// [default: every peer that has the tree]
    #[arg(value_name = "TICKET|PEER", value_parser = parse_whom)]
    pub(crate) whom: Option<Whom>,
    /// Offers the tree to the peer if it lacks it; the peer takes it if it runs `eidetica accept` with
    /// this device's key
    #[arg(long, requires = "whom")]
    pub(crate) give: bool,
    #[command(flatten)]
    pub(crate) net: Net,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Pause {
    /// The tree: its id, leading digits of its id, or its name
    pub(crate) tree: String,
    /// The peer: a key, or at least 4 leading digits of it [default: all peers of the tree]
    pub(crate) peer: Option<String>,
}

/// A peer on the command line.
#[derive(Debug, Clone)]
pub(crate) enum Whom {
    Ticket(Box<Ticket>),
    Address(Address),
    /// A key or leading digits of one.
    Key(String),
}

fn parse_whom(text: &str) -> Result<Whom, String> {
    if text.starts_with("eidetica:") {
        let ticket: Result<Ticket, TicketError> = text.parse();
        return ticket
            .map(|ticket| Whom::Ticket(Box::new(ticket)))
            .map_err(|error| error.to_string());
    }
    match text.contains(':') {
        true => Address::from_str(text)
            .map(Whom::Address)
            .map_err(|error| error.to_string()),
        false => Ok(Whom::Key(text.to_owned())),
    }
}

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Peers {
    #[command(subcommand)]
    pub(crate) change: Option<ChangePeers>,
    /// The tree: its id, leading digits of its id, or its name [default: all]
    pub(crate) tree: Option<String>,
    /// Prints a JSON object for each peer, on one line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ChangePeers {
    /// Adds an address of a peer, which need not be known
    Add {
        /// The peer's key, or at least 4 leading digits of a known key
        key: String,
        /// The addresses, each as kind:value
        #[arg(required = true, value_name = "ADDRESS")]
        addresses: Vec<Address>,
    },
    /// Forgets a peer and stops following it, or forgets one of its addresses
    ///
    /// A peer that makes contact later is known again. `eidetica pause` keeps it known without
    /// contacting it, and `eidetica revoke` takes its role away.
    Remove {
        /// The peer's key, or at least 4 leading digits of it
        key: String,
        /// Forgets only this address
        address: Option<Address>,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Accept {
    /// The peer's key, or at least 4 leading digits of a known key [default: lists the accepted keys]
    pub(crate) key: Option<String>,
    /// Accepts no more trees from the peer
    #[arg(long, requires = "key")]
    pub(crate) off: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Status {
    /// The tree: its id, leading digits of its id, or its name [default: all]
    pub(crate) tree: Option<String>,
    /// Prints each change as it happens, until interrupted
    #[arg(long)]
    pub(crate) watch: bool,
    /// Prints JSON objects, each on one line
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) net: Net,
}

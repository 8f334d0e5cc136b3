//! The command line.

mod access;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand, ValueEnum};
use eidetica_sync::dag::Role;
use eidetica_sync::proto::{Address, Ticket, TicketError};

pub(crate) use self::access::{
    Approve, Forget, Grant, Join, MakeInvite, OfTree, Reject, Requests, Revoke, Withdraw,
};
use crate::network::tls::{AskTls, ServeTls};

const EXAMPLES: &str = "\
Examples:
  eidetica new notes                      create a tree; its id is printed
  eidetica append notes 'buy milk'        write an entry on top of all tips
  eidetica serve                          serve all trees, and carry out commands meanwhile
  eidetica invite notes                   print a ticket that lets one device in
  eidetica join 'eidetica:…'              on the other device: fetch a copy
  eidetica sync notes                     make both copies equal again
  eidetica requests                       who wants to join without an invite
  eidetica approve notes 3f2a             let one of them in
  eidetica import git . --name history    every commit becomes an entry

Wherever a tree is asked for, its id, at least 4 digits of the id's beginning or its name will do, \
if only one tree fits. Put tickets in quotes: the shell cuts them at '&'.

Exit codes: 0 when all went well, 1 when something failed, 2 when the command line makes no sense, \
3 when an admin has to approve a request to join, 4 when one has rejected it.

Environment:
  EIDETICA_STORE               the store's folder, if --store is not given
  EIDETICA_LOG, RUST_LOG       what is logged to stderr, such as debug or eidetica=trace";

const ANYONE_HELP: &str = "\
Opens the tree to everyone who can reach a server of it, known or not. Without this only this \
device can read it and write to it, until `eidetica invite` or `approve` lets others in";

/// Keeps copies of signed, append-only trees equal between devices.
#[derive(Debug, Parser)]
#[command(name = "eidetica", version, after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The folder of the store: this device's key and its trees
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) store: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Makes the store and this device's key, and prints the public half of the key
    Init,
    /// Creates a tree and prints its id
    New(New),
    /// Makes a tree out of something else
    #[command(subcommand)]
    Import(Import),
    /// Writes an entry on top of all tips, and prints its id
    Append(Append),
    /// Lists the trees: id, number of entries, number of tips, name
    Ls(Ls),
    /// Prints the ids of a tree's tips: the entries on top of which nothing stands
    Tips(OneTree),
    /// Prints the entries of a tree in the order that is the same on every device
    Log(Log),
    /// Serves all trees to others until it is interrupted
    ///
    /// Prints a ticket for each tree, and says who asks to join. Other commands on the same store
    /// are carried out by the server meanwhile.
    Serve(Serve),
    /// Prints the ticket for a tree that is being served from this store
    ///
    /// It says where the tree is. It lets nobody in: `eidetica invite` prints one that does.
    Ticket(OneTree),
    /// Fetches the tree of a ticket and remembers where it came from
    ///
    /// With a ticket of `eidetica invite`, or to a tree that is open to anyone, it gets in at once.
    /// Otherwise it asks to be let in, and an admin of the tree has to approve: then the exit code
    /// is 3, and the same again fetches the tree later. It is 4 if an admin has rejected it.
    Join(Join),
    /// Fetches what others have written, then sends them what they lack
    Sync(Sync),
    /// Lists who wants to join: tree, key, role, since when, and what they say of themselves
    Requests(Requests),
    /// Lets somebody in who asks to join
    Approve(Approve),
    /// Does not let somebody in who asks to join, and tells it so
    Reject(Reject),
    /// Gives a role to a key, or to everyone who can reach a server of the tree
    Grant(Grant),
    /// Takes every role from a key, or from everyone without a role of their own
    ///
    /// What was fetched stays where it is, and what was written stays in the tree.
    Revoke(Revoke),
    /// Lists who may do what
    Access(OfTree),
    /// Prints a ticket that lets whoever has it join, without asking
    ///
    /// It is a secret. A server must run on this store, and it must still run when it is used.
    Invite(MakeInvite),
    /// Lists the invites of a tree that can still be used
    Invites(OfTree),
    /// Lets an invite grant nothing from here on
    Withdraw(Withdraw),
    /// Forgets which key was found at an HTTP address, so that whoever is there next is believed
    Forget(Forget),
    /// Reads whole trees and looks for damage: hashes, signatures, parents, heights, tips
    Verify(Verify),
}

/// What a command reads besides the command line.
pub(crate) enum Input<'a> {
    Stdin,
    File(&'a Path),
}

impl Command {
    /// Returns what the command reads: whoever hands it over sends that along.
    pub(crate) fn input(&self) -> Option<Input<'_>> {
        match self {
            Self::Append(args) => match (&args.text, &args.file) {
                (Some(_), _) => None,
                (None, Some(file)) => Some(Input::File(file)),
                (None, None) => Some(Input::Stdin),
            },
            Self::Import(Import::Dag(args)) => Some(args.input()),
            _ => None,
        }
    }
}

impl ImportDag {
    /// Returns where the lines are.
    pub(crate) fn input(&self) -> Input<'_> {
        match self.file == Path::new("-") {
            true => Input::Stdin,
            false => Input::File(&self.file),
        }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct OneTree {
    /// The tree: its id, the beginning of it, or its name
    pub(crate) tree: String,
}

/// What everyone may do.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Anyone {
    /// Fetch the tree
    Read,
    /// Fetch the tree and add entries to it
    Write,
}

impl From<Anyone> for Role {
    fn from(anyone: Anyone) -> Self {
        match anyone {
            Anyone::Read => Self::Read,
            Anyone::Write => Self::Write,
        }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct New {
    /// A name for people; it need not be unique
    pub(crate) name: String,
    #[arg(long, value_name = "ROLE", help = ANYONE_HELP)]
    pub(crate) anyone: Option<Anyone>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Import {
    /// Makes an entry out of every commit of a git repository, with the same parents
    ///
    /// All branches and tags are read, stashes and notes are not. An entry holds the commit's id,
    /// author, date and message, and none of its files. It is signed by this device. A commit
    /// without parents stands on the tree's root. The tree's id is printed.
    Git(ImportGit),
    /// Makes entries in the shape that a file tells, with payloads that are made up, to measure with
    #[command(hide = true)]
    Dag(ImportDag),
}

#[derive(Debug, clap::Args)]
pub(crate) struct ImportGit {
    /// The folder of the repository
    pub(crate) repo: PathBuf,
    /// The tree's name [default: the folder's name]
    #[arg(long)]
    pub(crate) name: Option<String>,
    #[arg(long, value_name = "ROLE", help = ANYONE_HELP)]
    pub(crate) anyone: Option<Anyone>,
    /// Stops after this many commits, parents first
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: Option<u32>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ImportDag {
    /// The file, or - for stdin: a line for each entry, parents first; each number on it says how
    /// many lines further up a parent stands
    pub(crate) file: PathBuf,
    /// The tree's name
    #[arg(long, default_value = "dag")]
    pub(crate) name: String,
    #[arg(long, value_name = "ROLE", help = ANYONE_HELP)]
    pub(crate) anyone: Option<Anyone>,
    /// The size of each payload
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub(crate) payload_bytes: u32,
    /// Stops after this many lines
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: Option<u32>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Append {
    /// The tree: its id, the beginning of it, or its name
    pub(crate) tree: String,
    /// What the entry says; without it and --file, stdin is read to its end
    #[arg(conflicts_with_all = ["file", "lines"])]
    pub(crate) text: Option<String>,
    /// Takes the content of a file
    #[arg(long, conflicts_with = "lines")]
    pub(crate) file: Option<PathBuf>,
    /// Writes one entry for each line on stdin, as the lines come
    #[arg(long)]
    pub(crate) lines: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Ls {
    /// Prints a JSON object for each tree, on one line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Log {
    /// The tree: its id, the beginning of it, or its name
    pub(crate) tree: String,
    /// Prints a JSON object for each entry, on one line
    #[arg(long)]
    pub(crate) json: bool,
    /// Adds the entry as it is signed and hashed: its canonical bytes and the signature, in
    /// hexadecimal digits
    #[arg(long, requires = "json")]
    pub(crate) raw: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Serve {
    /// Where to listen for HTTP; port 0 takes any free one. Use 0.0.0.0:PORT to be reached from
    /// elsewhere
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    pub(crate) http: SocketAddr,
    /// Does not serve over HTTP
    #[arg(long, conflicts_with_all = ["http", "no_iroh"])]
    pub(crate) no_http: bool,
    #[command(flatten)]
    pub(crate) tls: ServeTls,
    /// Does not serve over iroh
    #[arg(long)]
    pub(crate) no_iroh: bool,
    /// Keeps iroh on this machine: on 127.0.0.1, without relays and lookups
    #[arg(long)]
    pub(crate) loopback: bool,
}

/// A kind of transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Via {
    /// HTTP: requests are signed and answers checked, but without TLS whoever is on the way can read
    /// them
    Http,
    /// QUIC between devices that prove their keys
    Iroh,
}

impl Via {
    /// Returns the kinds of its addresses.
    pub(crate) fn kinds(self) -> &'static [&'static str] {
        match self {
            Self::Http => &["http", "https"],
            Self::Iroh => &["iroh"],
        }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Sync {
    /// The tree (its id, the beginning of it, or its name), or a ticket in quotes
    #[arg(value_name = "TREE|TICKET", value_parser = parse_target)]
    pub(crate) target: Target,
    /// Tries this address instead of those remembered, and remembers it; can be given several times
    #[arg(long = "at", value_name = "ADDRESS")]
    pub(crate) addresses: Vec<Address>,
    #[command(flatten)]
    pub(crate) how: How,
}

/// How a sync is made and told.
#[derive(Debug, clap::Args)]
pub(crate) struct How {
    /// Uses only addresses of this kind
    #[arg(long)]
    pub(crate) via: Option<Via>,
    #[command(flatten)]
    pub(crate) tls: AskTls,
    /// Prints how it went as a JSON object on one line
    #[arg(long)]
    pub(crate) json: bool,
    /// Keeps iroh on this machine: on 127.0.0.1, without relays and lookups
    #[arg(long)]
    pub(crate) loopback: bool,
}

/// What to sync.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    Tree(String),
    Ticket(Box<Ticket>),
}

fn parse_target(text: &str) -> Result<Target, TicketError> {
    match text.starts_with("eidetica:") {
        true => text.parse().map(|ticket| Target::Ticket(Box::new(ticket))),
        false => Ok(Target::Tree(text.to_owned())),
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Verify {
    /// The tree: its id, the beginning of it, or its name
    #[arg(required_unless_present = "all")]
    pub(crate) tree: Option<String>,
    /// Looks at every tree
    #[arg(long, conflicts_with = "tree")]
    pub(crate) all: bool,
    /// Prints a JSON object for each tree, on one line
    #[arg(long)]
    pub(crate) json: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Args::command().debug_assert();
    }
}

//! The command line.

mod access;
mod how;
mod live;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use eidetica_sync::dag::Role;
use eidetica_sync::http::address_of_url;
use eidetica_sync::proto::{Address, AddressError, Ticket, TicketError};

pub(crate) use self::access::{
    Approve, Forget, Given, Grant, Join, MakeInvite, OfTree, Reject, Requests, Revoke, Withdraw,
};
pub(crate) use self::how::{How, Net, Via};
pub(crate) use self::live::{Accept, ChangePeers, Follow, Pause, Peers, Status, Whom};
use crate::network::tls::ServeTls;

const EXAMPLES: &str = "\
Examples:
  eidetica new notes                      create a tree; its id is printed
  eidetica append notes 'buy milk'        write an entry on top of all tips
  eidetica serve                          keep all trees in sync until interrupted
  eidetica invite notes                   print a ticket with which one device can join
  eidetica join 'eidetica:…'              on the other device: fetch a copy
  eidetica serve                          on the other device: keep it in sync
  eidetica status --watch                 show each change of what is in sync with which peer
  eidetica log notes --follow             print entries as they arrive
  eidetica sync notes                     without a server: exchange what is missing once
  eidetica requests                       list the devices that ask to join
  eidetica approve notes 3f2a             let one of them in
  eidetica import git . --name history    turn every commit into an entry

Name a tree by its id, by at least 4 leading digits of its id, or by its name, if only one tree \
matches. Quote tickets: the shell cuts them at '&'.

Exit codes: 0 success, 1 failure, 2 invalid command line, 3 an admin must approve a request to \
join, 4 an admin has rejected it.

Environment:
  EIDETICA_STORE               the store's folder, unless --store is given
  EIDETICA_POSTGRES            the database, unless --postgres is given; PGPASSWORD, PGPASSFILE and
                               PGSSLROOTCERT count as for other programs
  EIDETICA_TICKET              the ticket of `join`, unless one is given
  EIDETICA_LOG, RUST_LOG       what is logged to stderr, for example debug or eidetica=trace";

const ANYONE_HELP: &str = "\
Opens the tree to everyone who can reach a server of it. Without this option, only this device can \
read it and write to it until `eidetica invite`, `approve` or `grant` lets others in";

/// Keeps signed, append-only trees in sync between devices.
#[derive(Debug, Parser)]
#[command(name = "eidetica", version, after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The store's folder, with this device's key and its trees
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) store: Option<PathBuf>,
    /// The PostgreSQL database that holds the trees instead of a file in the folder:
    /// postgres://USER@HOST/DATABASE. Other users of this machine can see command lines: give a password
    /// in PGPASSWORD or ~/.pgpass, or the URL in EIDETICA_POSTGRES
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) postgres: Option<String>,
    /// How long to wait for other commands on the same store; give it before the command
    #[arg(long, value_name = "SECONDS", default_value = "10")]
    pub(crate) wait: Wait,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How long a command waits for others: at most a day.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wait(Duration);

impl From<Wait> for Duration {
    fn from(wait: Wait) -> Self {
        wait.0
    }
}

impl FromStr for Wait {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let seconds = text.parse::<f64>().ok();
        let seconds = seconds.filter(|it| (0.0..=86_400.0).contains(it));
        let wait = seconds.map(|it| Self(Duration::from_secs_f64(it)));
        wait.ok_or("expected a number of seconds, from 0 to 86400")
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Init {
    /// Begins again with an empty database where the store's own was lost; the key stays
    #[arg(long)]
    pub(crate) new: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Creates the store and this device's key, and prints the public key
    Init(Init),
    /// Creates a tree and prints its id
    New(New),
    /// Creates a tree from other data
    #[command(subcommand)]
    Import(Import),
    /// Writes an entry on top of all tips, and prints its id
    Append(Append),
    /// Lists the trees: id, number of entries, number of tips, name
    Ls(Ls),
    /// Prints the ids of a tree's tips: the entries without children
    Tips(OneTree),
    /// Prints the entries of a tree, in the same order on every device
    Log(Log),
    /// Prints the payload of an entry as it is, byte for byte
    Show(Show),
    /// Serves all trees and keeps them in sync with all known peers, until interrupted
    ///
    /// Follows the peers that trees were joined from, those that joined or synced here and can be
    /// reached, and those of `eidetica follow`. Entries travel at once, whichever side can reach the
    /// other. Prints a ticket for each tree and reports requests to join. Meanwhile, the server runs
    /// other commands on the same store.
    Serve(Serve),
    /// Prints a ticket for a tree that is being served from this store
    ///
    /// The ticket says where the tree is. It grants no access; `eidetica invite` prints one that does.
    Ticket(OneTree),
    /// Fetches the tree of a ticket and remembers its peers
    ///
    /// A ticket from `eidetica invite`, or a tree that is open to anyone, needs no approval.
    /// Otherwise this command asks to join and exits with code 3 until an admin of the tree approves;
    /// run it again to fetch the tree. It exits with code 4 if an admin has rejected the request.
    Join(Join),
    /// Fetches missing entries from a peer, then sends the peer what it lacks
    ///
    /// This happens once. `eidetica serve` does it continuously.
    Sync(Sync),
    /// Keeps a tree in sync with a peer while a server runs; resumes after `pause`
    Follow(Follow),
    /// Stops contacting peers about a tree until `follow`
    ///
    /// Peers that have a role can still fetch the tree from this device and send entries to it.
    Pause(Pause),
    /// Lists the known peers and their addresses, or changes them
    Peers(Peers),
    /// Accepts trees that a peer offers and that are not here; lists the accepted keys
    ///
    /// Such a peer can fill the disk: accept trees from your own devices and from peers that you trust
    /// alike.
    Accept(Accept),
    /// Shows for each tree and each peer whether they are in sync, and if not, why
    ///
    /// While no server runs, it says when each peer was last reached; with --watch, this command keeps
    /// the trees in sync itself.
    Status(Status),
    /// Lists requests to join: tree, key, role, time, and the requester's note
    Requests(Requests),
    /// Approves a request to join
    Approve(Approve),
    /// Rejects a request to join; the requester learns of it
    Reject(Reject),
    /// Gives a role to a key, or to everyone who can reach a server of the tree
    Grant(Grant),
    /// Revokes the role of a key, or the role that everyone has
    ///
    /// The key keeps what it has fetched, and what it has written stays in the tree.
    Revoke(Revoke),
    /// Lists the roles of a tree
    Access(OfTree),
    /// Prints a ticket whose holder can join without approval
    ///
    /// The ticket is a secret. A server must be running on this store, both to make it and to use it.
    Invite(MakeInvite),
    /// Lists the invites of a tree that can still be used
    Invites(OfTree),
    /// Withdraws an invite, so that it grants nothing
    Withdraw(Withdraw),
    /// Forgets the key pinned to an HTTP address; the next peer that answers there is trusted
    Forget(Forget),
    /// Copies the whole store into a PostgreSQL database or a new folder, and compares the copy
    ///
    /// The key goes along into a folder; servers on a database share one, each with a copy in its folder.
    /// Use the copy with --postgres or --store, and the original no more.
    Move(Move),
    /// Checks whole trees for damage: hashes, signatures, parents, heights, tips
    Verify(Verify),
    /// Fetches the damaged entries of a tree again from peers that have it
    Repair(Repair),
    /// Prints the completions of this program for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Writes the manual pages of this program into a folder
    Man {
        /// The folder, which must exist
        folder: PathBuf,
    },
}

/// Where a command reads its input.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Input<'a> {
    Stdin,
    File(&'a Path),
    /// A variable of the client's environment, empty if it is not set.
    Environment(&'static str),
}

impl Command {
    /// Returns the input of the command, which a client sends along to the server.
    pub(crate) fn input(&self) -> Option<Input<'_>> {
        match self {
            Self::Append(args) => match (&args.text, &args.file) {
                (Some(_), _) => None,
                (None, Some(file)) => Some(Input::File(file)),
                (None, None) => Some(Input::Stdin),
            },
            Self::Import(Import::Dag(args)) => Some(args.input()),
            Self::Join(args) => args.input(),
            _ => None,
        }
    }
}

impl ImportDag {
    /// Returns where the lines come from.
    pub(crate) fn input(&self) -> Input<'_> {
        match self.file == Path::new("-") {
            true => Input::Stdin,
            false => Input::File(&self.file),
        }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct OneTree {
    /// The tree: its id, leading digits of its id, or its name
    pub(crate) tree: String,
}

/// The role that everyone gets.
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
    /// Turns every commit of a git repository into an entry with the same parents
    ///
    /// Reads HEAD, the local and remote branches and the tags, and no other refs. An entry holds the commit's id, author,
    /// date and message, and none of its files; this device signs it. The tree's root is the parent of
    /// commits without parents. Prints the tree's id.
    Git(ImportGit),
    /// Makes entries in the shape that a file describes, with generated payloads, for benchmarks
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
    /// Reads this branch, tag or other ref instead of all branches and tags; can be repeated
    #[arg(long = "ref", value_name = "REF")]
    pub(crate) refs: Vec<String>,
    /// Imports a shallow clone, whose oldest commits have lost their parents
    #[arg(long)]
    pub(crate) shallow: bool,
    /// Begins a new tree, even if the repository was imported before
    #[arg(long)]
    pub(crate) new: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ImportDag {
    /// The file, or - for stdin: one line for each entry, parents first; each number on a line says
    /// how many lines above it a parent is
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
    /// The tree: its id, leading digits of its id, or its name
    pub(crate) tree: String,
    /// The entry's text; without it and --file, stdin is read to its end
    #[arg(conflicts_with_all = ["file", "lines"])]
    pub(crate) text: Option<String>,
    /// Reads the entry's data from a file
    #[arg(long, conflicts_with = "lines")]
    pub(crate) file: Option<PathBuf>,
    /// Writes one entry for each line on stdin, as lines arrive
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
    /// The tree: its id, leading digits of its id, or its name
    pub(crate) tree: String,
    /// Prints the last N entries alone
    #[arg(long, short, value_name = "N")]
    pub(crate) number: Option<usize>,
    /// Prints the last entry first
    #[arg(long, conflicts_with = "follow")]
    pub(crate) reverse: bool,
    /// Prints what is not below this entry, nor the entry itself; may be repeated
    #[arg(long, value_name = "ENTRY")]
    pub(crate) since: Vec<String>,
    /// Prints a JSON object for each entry, on one line
    #[arg(long)]
    pub(crate) json: bool,
    /// Adds the entry's canonical bytes and its signature, in hexadecimal digits
    #[arg(long, requires = "json")]
    pub(crate) raw: bool,
    /// Continues with entries as they arrive, until interrupted. If no server runs, this command keeps
    /// the tree in sync itself
    #[arg(long, short)]
    pub(crate) follow: bool,
    #[command(flatten)]
    pub(crate) net: Net,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Show {
    /// The tree: its id, leading digits of its id, or its name
    pub(crate) tree: String,
    /// The entry: its id or leading digits of it
    pub(crate) entry: String,
    /// Prints everything about the entry as a JSON object instead
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Serve {
    /// The address to listen on for HTTP; port 0 picks a free one. Use 0.0.0.0:PORT to accept
    /// connections from other machines
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    pub(crate) http: SocketAddr,
    /// An address at which others reach this server, such as a proxy's `https://sync.example.org/team`.
    /// Tickets and invites name it instead of the address that the server listens on; may be repeated
    #[arg(long, value_name = "URL", value_parser = address_of_url, conflicts_with = "no_http")]
    pub(crate) advertise: Vec<Address>,
    /// Answers HTTP requests for this name too. Others than IP addresses, localhost and advertised names
    /// are refused, so that no web page can read from this server; may be repeated
    #[arg(long, value_name = "NAME", conflicts_with = "no_http")]
    pub(crate) allow_host: Vec<String>,
    /// Disables HTTP
    #[arg(long, conflicts_with_all = ["http", "no_iroh"])]
    pub(crate) no_http: bool,
    #[command(flatten)]
    pub(crate) tls: ServeTls,
    /// Disables iroh
    #[arg(long)]
    pub(crate) no_iroh: bool,
    #[command(flatten)]
    pub(crate) net: Net,
    /// Serves metrics for Prometheus at http://ADDR/metrics; port 0 picks a free one
    #[arg(long, value_name = "ADDR")]
    pub(crate) metrics: Option<SocketAddr>,
    /// Allows an address for metrics that other machines can reach. Metrics name no keys, trees and
    /// addresses, and are not authenticated
    #[arg(long, requires = "metrics")]
    pub(crate) metrics_anywhere: bool,
    /// With --postgres: keeps what this server has read of large trees in files of this folder, in 4 GiB at
    /// most. Losing it costs reading them again
    #[arg(long, value_name = "DIR")]
    pub(crate) cache: Option<PathBuf>,
    /// Compares all trees with each peer this often, in seconds. Entries travel at once; this finds
    /// what was lost on the way
    #[arg(long, value_name = "SECONDS", default_value_t = 60, hide = true,
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) check_interval: u64,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Sync {
    /// The tree (its id, leading digits of its id, or its name), or a quoted ticket
    #[arg(value_name = "TREE|TICKET", value_parser = parse_target)]
    pub(crate) target: Target,
    /// Tries this address instead of the remembered ones, and remembers it; may be repeated
    #[arg(long = "at", value_name = "ADDRESS", value_parser = parse_address)]
    pub(crate) addresses: Vec<Address>,
    #[command(flatten)]
    pub(crate) how: How,
}

/// What to sync.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    Tree(String),
    Ticket(Box<Ticket>),
}

/// Reads the address of a peer, or the URL of its server.
fn parse_address(text: &str) -> Result<Address, String> {
    match text.contains("://") {
        true => address_of_url(text).map_err(|error| error.to_string()),
        false => text
            .parse()
            .map_err(|error: AddressError| error.to_string()),
    }
}

fn parse_target(text: &str) -> Result<Target, TicketError> {
    match text.starts_with("eidetica:") {
        true => text.parse().map(|ticket| Target::Ticket(Box::new(ticket))),
        false => Ok(Target::Tree(text.to_owned())),
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Move {
    /// The URL of a database, or a folder that does not exist yet
    #[arg(long, value_name = "URL|DIR")]
    pub(crate) to: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Verify {
    /// The tree: its id, leading digits of its id, or its name
    #[arg(required_unless_present = "all")]
    pub(crate) tree: Option<String>,
    /// Checks every tree
    #[arg(long, conflicts_with = "tree")]
    pub(crate) all: bool,
    /// Prints a JSON object for each tree, on one line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Repair {
    /// The tree: its id, leading digits of its id, or its name
    #[arg(required_unless_present = "all")]
    pub(crate) tree: Option<String>,
    /// Repairs every tree
    #[arg(long, conflicts_with = "tree")]
    pub(crate) all: bool,
    /// Asks the peer at this address instead of the remembered ones; may be repeated
    #[arg(long = "at", value_name = "ADDRESS", value_parser = parse_address)]
    pub(crate) addresses: Vec<Address>,
    #[command(flatten)]
    pub(crate) net: Net,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn command_line_is_well_formed() {
        Args::command().debug_assert();
    }
}

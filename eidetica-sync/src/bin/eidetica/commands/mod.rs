//! The commands, one file for each kind. Each takes a [`Session`], so that it runs
//! alike in its own process and in the server that has the store open.

pub(crate) mod access;
pub(crate) mod append;
pub(crate) mod follow;
pub(crate) mod help;
pub(crate) mod import;
pub(crate) mod invites;
pub(crate) mod join;
pub(crate) mod log;
pub(crate) mod peers;
pub(crate) mod relocate;
pub(crate) mod repair;
pub(crate) mod serve;
pub(crate) mod session;
pub(crate) mod show;
pub(crate) mod status;
pub(crate) mod sync;
pub(crate) mod ticket;
pub(crate) mod trees;
pub(crate) mod verify;

use crate::args::{Command, Import};
use crate::commands::session::Session;
use crate::output::failure::{Failure, Result};

/// Carries out a command, in its own process or in the server's.
pub(crate) async fn dispatch(session: &Session, command: Command) -> Result<()> {
    match command {
        Command::Init(args) => trees::init(session, &args),
        Command::New(args) => trees::new(session, args).await,
        Command::Import(Import::Git(args)) => import::git(session, args).await,
        Command::Import(Import::Dag(args)) => import::dag::run(session, args).await,
        Command::Append(args) => append::run(session, args).await,
        Command::Ls(args) => trees::ls(session, args),
        Command::Tips(args) => trees::tips(session, &args.tree),
        Command::Log(args) => log::run(session, args).await,
        Command::Show(args) => show::run(session, &args),
        Command::Serve(_) => Err(Failure::new("a server does not start another").into()),
        Command::Ticket(args) => ticket::ticket(session, &args.tree).await,
        Command::Join(args) => join::join(session, args).await,
        Command::Sync(args) => sync::sync(session, args).await,
        Command::Follow(args) => follow::follow(session, args).await,
        Command::Pause(args) => follow::pause(session, args).await,
        Command::Peers(args) => peers::run(session, args).await,
        Command::Accept(args) => follow::accept(session, args).await,
        Command::Status(args) => status::run(session, args).await,
        Command::Requests(args) => access::requests(session, args).await,
        Command::Approve(args) => access::approve(session, args).await,
        Command::Reject(args) => access::reject(session, args).await,
        Command::Grant(args) => access::grant(session, args).await,
        Command::Revoke(args) => access::revoke(session, args).await,
        Command::Access(args) => access::list(session, args).await,
        Command::Invite(args) => invites::invite(session, args).await,
        Command::Invites(args) => invites::list(session, args).await,
        Command::Withdraw(args) => invites::withdraw(session, args).await,
        Command::Forget(args) => sync::forget(session, args).await,
        Command::Move(args) => relocate::run(session, &args),
        Command::Repair(args) => repair::run(session, args).await,
        Command::Completions { shell } => help::completions(session, shell),
        Command::Man { folder } => help::man(session, &folder),
        Command::Verify(args) => verify::verify(session, args),
    }
}

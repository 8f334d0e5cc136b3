//! The command line for joining trees and for managing access.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use eidetica_sync::dag::Role;
use eidetica_sync::proto::joining::INVITE_USES_MAX;
use eidetica_sync::proto::message::NOTE_BYTES_MAX;
use eidetica_sync::proto::{Address, Ticket, TicketError};
use jiff::{Span, SpanRelativeTo};

use super::Input;
use super::how::How;

/// How long an invite can be valid, in days: a longer-lived secret is better replaced by a grant.
const INVITE_DAYS_MAX: u64 = 366;

/// A day of an invite has 24 hours, wherever its user is.
const DAYS: SpanRelativeTo<'static> = SpanRelativeTo::days_are_24_hours();

/// The environment variable with the ticket of `join`.
const TICKET_VARIABLE: &str = "EIDETICA_TICKET";

/// A role on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RoleName {
    /// Fetch the tree
    Read,
    /// Fetch the tree and add entries to it
    Write,
    /// Fetch the tree, add entries to it, and change the roles of others
    Admin,
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Read => Self::Read,
            RoleName::Write => Self::Write,
            RoleName::Admin => Self::Admin,
        }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Join {
    /// The ticket, quoted, or - to read it from stdin. Other users of this machine can see command lines:
    /// give an invite on stdin, in a file, or as EIDETICA_TICKET
    #[arg(value_name = "TICKET|-", value_parser = parse_given)]
    pub(crate) ticket: Option<Given>,
    /// Reads the ticket from a file
    #[arg(long, value_name = "FILE", conflicts_with = "ticket")]
    pub(crate) ticket_file: Option<PathBuf>,
    /// Asks for this role [default: read]
    #[arg(long)]
    pub(crate) role: Option<RoleName>,
    /// Tells the admins of the tree who is asking
    #[arg(long, value_name = "TEXT", value_parser = parse_note)]
    pub(crate) note: Option<String>,
    /// Waits until an admin has approved, then fetches the tree
    #[arg(long)]
    pub(crate) wait: bool,
    #[command(flatten)]
    pub(crate) how: How,
}

/// A ticket on the command line.
#[derive(Debug, Clone)]
pub(crate) enum Given {
    Ticket(Box<Ticket>),
    Stdin,
}

fn parse_given(text: &str) -> Result<Given, TicketError> {
    match text {
        "-" => Ok(Given::Stdin),
        text => text.parse().map(|ticket| Given::Ticket(Box::new(ticket))),
    }
}

impl Join {
    /// Returns where the ticket is read, if it is not on the command line.
    pub(crate) fn input(&self) -> Option<Input<'_>> {
        match (&self.ticket, &self.ticket_file) {
            (Some(Given::Ticket(_)), _) => None,
            (Some(Given::Stdin), _) => Some(Input::Stdin),
            (None, Some(file)) => Some(Input::File(file)),
            (None, None) => Some(Input::Environment(TICKET_VARIABLE)),
        }
    }
}

fn parse_note(text: &str) -> Result<String, String> {
    match text.len() {
        0..=NOTE_BYTES_MAX => Ok(text.to_owned()),
        n => Err(format!(
            "a note has at most {NOTE_BYTES_MAX} bytes; this one has {n}"
        )),
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Requests {
    /// The tree: its id, leading digits of its id, or its name [default: all]
    pub(crate) tree: Option<String>,
    /// Prints a JSON object for each request, on one line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Approve {
    /// The tree: its id, leading digits of its id, or its name
    pub(crate) tree: String,
    /// The key of the requester, or at least 4 leading digits of it
    pub(crate) key: String,
    /// Grants this role [default: the requested role, at most write]
    #[arg(long)]
    pub(crate) role: Option<RoleName>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Reject {
    /// The tree: its id, leading digits of its id, or its name
    pub(crate) tree: String,
    /// The key of the requester, or at least 4 leading digits of it
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub(crate) key: Option<String>,
    /// Rejects every pending request for the tree
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Grant {
    /// The tree: its id, leading digits of its id, or its name
    pub(crate) tree: String,
    /// A key, at least 4 leading digits of a key that has a role or asks to join, or `anyone`
    #[arg(value_name = "KEY|anyone")]
    pub(crate) subject: String,
    /// The role, which replaces the previous one
    pub(crate) role: RoleName,
    /// Proceeds even if the tree is left without an admin
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Revoke {
    /// The tree: its id, leading digits of its id, or its name
    pub(crate) tree: String,
    /// A key that has a role, at least 4 leading digits of it, or `anyone`
    #[arg(value_name = "KEY|anyone")]
    pub(crate) subject: String,
    /// Proceeds even if the tree is left without an admin
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct OfTree {
    /// The tree: its id, leading digits of its id, or its name
    pub(crate) tree: String,
    /// Prints JSON objects, each on one line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct MakeInvite {
    /// The tree: its id, leading digits of its id, or its name
    pub(crate) tree: String,
    /// The role that it grants
    #[arg(long, value_enum, default_value_t = RoleName::Write)]
    pub(crate) role: RoleName,
    /// How long it is valid, for example 7d, 12h or 1h 30m
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = parse_time)]
    pub(crate) expires: Duration,
    /// How many keys can use it
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(INVITE_USES_MAX))
    )]
    pub(crate) uses: u32,
}

fn parse_time(text: &str) -> Result<Duration, String> {
    let time = text.parse::<Span>().and_then(|span| span.to_duration(DAYS));
    let time = time.and_then(Duration::try_from);
    let time = time.map_err(|error| format!("{error}; write for example 7d, 12h or 1h 30m"))?;
    let most = Duration::from_secs(INVITE_DAYS_MAX * 24 * 60 * 60);
    match time {
        Duration::ZERO => Err("an invite must be valid for some time".to_owned()),
        time if time > most => Err(format!("an invite is valid for at most {INVITE_DAYS_MAX}d")),
        time => Ok(time),
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Withdraw {
    /// The tree: its id, leading digits of its id, or its name
    pub(crate) tree: String,
    /// The invite as `eidetica invites` lists it, or at least 4 leading digits of it
    pub(crate) invite: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Forget {
    /// The address in the form of a ticket: kind:value
    pub(crate) address: Address,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit_and_an_end() {
        let seconds = |text| parse_time(text).map(|time| time.as_secs());
        for (text, expected) in [
            ("7d", 604_800),
            ("2h", 7_200),
            ("1h 30m", 5_400),
            ("1.5h", 5_400),
            ("2 weeks", 1_209_600),
            ("366d", 366 * 86_400),
        ] {
            assert_eq!(seconds(text), Ok(expected), "{text}");
        }
        for text in [
            "",
            "d",
            "7",
            "0d",
            "-1d",
            "367d",
            "1month",
            "7ü",
            "18446744073709551615d",
            "99999999999999999999d",
        ] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}

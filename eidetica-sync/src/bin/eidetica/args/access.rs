//! The command line of joining, and of letting others join.

use std::time::Duration;

use clap::ValueEnum;
use eidetica_sync::dag::Role;
use eidetica_sync::proto::joining::INVITE_USES_MAX;
use eidetica_sync::proto::message::NOTE_BYTES_MAX;
use eidetica_sync::proto::{Address, Ticket};

use super::How;

/// The longest time for which an invite can be good, in days: whoever needs one for longer than a
/// year had better be asked.
const INVITE_DAYS_MAX: u64 = 366;

/// A role, as it is written on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RoleName {
    /// Fetch the tree
    Read,
    /// Fetch the tree and add entries to it
    Write,
    /// All that, and decide who may do what
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
    /// The ticket, in quotes
    pub(crate) ticket: Ticket,
    /// Asks for this role; without it, to read the tree
    #[arg(long)]
    pub(crate) role: Option<RoleName>,
    /// Says to an admin who asks
    #[arg(long, value_name = "TEXT", value_parser = parse_note)]
    pub(crate) note: Option<String>,
    /// Where an admin has to approve, waits until one has, and fetches the tree
    #[arg(long)]
    pub(crate) wait: bool,
    #[command(flatten)]
    pub(crate) how: How,
}

fn parse_note(text: &str) -> Result<String, String> {
    match text.len() {
        0..=NOTE_BYTES_MAX => Ok(text.to_owned()),
        n => Err(format!(
            "a note has at most {NOTE_BYTES_MAX} bytes, not {n}"
        )),
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Requests {
    /// The tree: its id, the beginning of it, or its name [default: all]
    pub(crate) tree: Option<String>,
    /// Prints a JSON object for each request, on one line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Approve {
    /// The tree: its id, the beginning of it, or its name
    pub(crate) tree: String,
    /// The key of the one who asks, or at least 4 digits of its beginning
    pub(crate) key: String,
    /// Grants this role [default: what was asked for, but never admin]
    #[arg(long)]
    pub(crate) role: Option<RoleName>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Reject {
    /// The tree: its id, the beginning of it, or its name
    pub(crate) tree: String,
    /// The key of the one who asks, or at least 4 digits of its beginning
    pub(crate) key: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Grant {
    /// The tree: its id, the beginning of it, or its name
    pub(crate) tree: String,
    /// A key, or at least 4 digits of the beginning of one that asks or has a role; or `anyone`
    #[arg(value_name = "KEY|anyone")]
    pub(crate) subject: String,
    /// The role, in place of the one before
    pub(crate) role: RoleName,
    /// Does it even if nobody is admin of the tree afterwards
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Revoke {
    /// The tree: its id, the beginning of it, or its name
    pub(crate) tree: String,
    /// A key that has a role, or at least 4 digits of its beginning; or `anyone`
    #[arg(value_name = "KEY|anyone")]
    pub(crate) subject: String,
    /// Does it even if nobody is admin of the tree afterwards
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct OfTree {
    /// The tree: its id, the beginning of it, or its name
    pub(crate) tree: String,
    /// Prints JSON objects, each on one line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct MakeInvite {
    /// The tree: its id, the beginning of it, or its name
    pub(crate) tree: String,
    /// What whoever joins with it may do
    #[arg(long, value_enum, default_value_t = RoleName::Write)]
    pub(crate) role: RoleName,
    /// For how long it is good: a number and d, h, m or s for days, hours, minutes or seconds
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = parse_time)]
    pub(crate) expires: Duration,
    /// How many keys may use it
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(INVITE_USES_MAX))
    )]
    pub(crate) uses: u32,
}

fn parse_time(text: &str) -> Result<Duration, String> {
    let wrong = || "a time is a number and d, h, m or s, such as 7d or 12h".to_owned();
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds = match unit {
        'd' => 24 * 60 * 60,
        'h' => 60 * 60,
        'm' => 60,
        's' => 1,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    let time = Duration::from_secs(number.saturating_mul(seconds));
    let most = Duration::from_secs(INVITE_DAYS_MAX * 24 * 60 * 60);
    match time {
        Duration::ZERO => Err("it would be over at once".to_owned()),
        time if time > most => Err(format!("the most is {INVITE_DAYS_MAX}d")),
        time => Ok(time),
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Withdraw {
    /// The tree: its id, the beginning of it, or its name
    pub(crate) tree: String,
    /// The invite, as `eidetica invites` lists it, or at least 4 digits of its beginning
    pub(crate) invite: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Forget {
    /// The address, as a ticket has it: kind:value
    pub(crate) address: Address,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit_and_an_end() {
        let seconds = |text| parse_time(text).map(|time| time.as_secs());
        assert_eq!(seconds("7d"), Ok(604_800));
        assert_eq!(seconds("2h"), Ok(7_200));
        assert_eq!(seconds("3m"), Ok(180));
        assert_eq!(seconds("366d"), Ok(366 * 86_400));
        for text in [
            "",
            "d",
            "7",
            "0d",
            "-1d",
            "1.5h",
            "367d",
            "7 d",
            "7w",
            "7ü",
            "99999999999999999999d",
        ] {
            assert!(seconds(text).is_err(), "{text}");
        }
        assert!(seconds("18446744073709551615d").is_err());
    }
}

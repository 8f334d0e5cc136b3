//! Tickets: text that leads another device to a tree.

use std::fmt;
use std::str::FromStr;

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use eidetica_dag::{PublicKey, SecretKey, TreeId};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use crate::address::{Address, AddressError};

/// Most addresses of a ticket: a handful for each transport. A peer that follows a ticket tries them
/// all.
pub const TICKET_ADDRESSES_MAX: usize = 16;

/// Longest ticket in bytes: the most addresses, each of the greatest length, with every byte encoded.
/// So every ticket that can be written can be read.
pub const TICKET_BYTES_MAX: usize = 50 * 1024;

/// Length of the secret of an invite in bytes: the secret half of a key.
pub const INVITE_SECRET_BYTES: usize = 32;

/// The prefix of every ticket.
const SCHEME: &str = "eidetica:";

/// The characters to encode in values: those that would end or change a value. All others outside
/// ASCII are encoded too.
const ESCAPED: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b'&').add(b'#').add(b'+');

/// Where to find a tree, and optionally the right to read it:
/// `eidetica:<tree>?peer=<key>&at=<address>&at=<address>&invite=<secret>`.
///
/// Everything after the tree is optional. The tree, the key and the secret are 64 hexadecimal digits
/// each. In values, space, `%`, `&`, `#`, `+`, control characters and everything outside ASCII are
/// percent-encoded, so a ticket survives being pasted into a form, a chat or a URL.
///
/// Reading is strict about known parameters and ignores unknown ones, so that a later version may
/// add some.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// The tree.
    pub tree: TreeId,
    /// The key of the peer at the addresses.
    pub peer: Option<PublicKey>,
    /// The addresses to try, best first. At most [`TICKET_ADDRESSES_MAX`] are written.
    pub addresses: Vec<Address>,
    /// The secret that grants access at once.
    pub invite: Option<InviteSecret>,
}

/// The secret of an invite: anyone who has it may join. It is the secret half of a key, which signs
/// the joining key, so it never crosses the wire. Its `Debug` form does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct InviteSecret([u8; INVITE_SECRET_BYTES]);

/// Why a text is not a ticket. The messages never repeat the secret of an invite.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TicketError {
    /// The text is longer than [`TICKET_BYTES_MAX`].
    #[error("a ticket has at most {TICKET_BYTES_MAX} bytes, but this text has {0}")]
    TooLong(usize),
    /// The text does not begin with `eidetica:`.
    #[error("a ticket begins with \"{SCHEME}\": copy all of it")]
    NotATicket,
    /// What follows is not the id of a tree.
    #[error(
        "\"{SCHEME}\" is not followed by the 64 hexadecimal digits of a tree: copy all of the ticket"
    )]
    BadTree,
    /// A parameter has no `=`.
    #[error("parameter {0} of the ticket has no \"=\"")]
    BadParameter(usize),
    /// A `%` is not followed by two hexadecimal digits, or the value is not UTF-8.
    #[error("parameter {0} of the ticket is not percent-encoded: write \"%\" as %25")]
    BadEscape(usize),
    /// The value of `peer` is not a key.
    #[error("the value of \"peer\" is not a public key of 64 hexadecimal digits")]
    BadPeer,
    /// The value of an `at` is not an address.
    #[error("address {index} of the ticket: {error}")]
    BadAddress {
        /// The number of the address, counted from one.
        index: usize,
        /// Its error.
        #[source]
        error: AddressError,
    },
    /// There are more than [`TICKET_ADDRESSES_MAX`] addresses.
    #[error("a ticket has at most {TICKET_ADDRESSES_MAX} addresses: remove some")]
    TooManyAddresses,
    /// The value of `invite` is not a secret.
    #[error(
        "the value of \"invite\" is not a secret of 64 hexadecimal digits: copy all of the ticket"
    )]
    BadInvite,
    /// `peer` or `invite` occurs twice.
    #[error("the ticket has {0:?} twice")]
    Repeated(&'static str),
}

impl Ticket {
    /// Makes a ticket that contains only a tree.
    pub fn new(tree: TreeId) -> Self {
        Self {
            tree,
            peer: None,
            addresses: Vec::new(),
            invite: None,
        }
    }
}

impl InviteSecret {
    /// Wraps a secret, which must come from a secure random source.
    pub const fn from_bytes(bytes: [u8; INVITE_SECRET_BYTES]) -> Self {
        Self(bytes)
    }

    /// Returns the secret bytes.
    pub const fn as_bytes(&self) -> &[u8; INVITE_SECRET_BYTES] {
        &self.0
    }

    /// Returns the key that signs the joining key.
    pub fn key(&self) -> SecretKey {
        SecretKey::from_bytes(&self.0)
    }
}

impl fmt::Debug for InviteSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InviteSecret(…)")
    }
}

/// Writes the ticket, including the secret: anyone who sees it may join.
impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}", self.tree)?;
        let mut mark = '?';
        let mut parameter = |f: &mut fmt::Formatter<'_>, name: &str, value: &str| {
            write!(f, "{mark}{name}={}", utf8_percent_encode(value, ESCAPED))?;
            mark = '&';
            Ok::<(), fmt::Error>(())
        };
        if let Some(peer) = &self.peer {
            parameter(f, "peer", &peer.to_string())?;
        }
        for address in self.addresses.iter().take(TICKET_ADDRESSES_MAX) {
            parameter(f, "at", address.as_str())?;
        }
        if let Some(invite) = &self.invite {
            parameter(f, "invite", &HEXLOWER.encode(invite.as_bytes()))?;
        }
        Ok(())
    }
}

impl FromStr for Ticket {
    type Err = TicketError;

    fn from_str(text: &str) -> Result<Self, TicketError> {
        if text.len() > TICKET_BYTES_MAX {
            return Err(TicketError::TooLong(text.len()));
        }
        let text = text.trim();
        let rest = text.strip_prefix(SCHEME).ok_or(TicketError::NotATicket)?;
        let (tree, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        let mut ticket = Self::new(tree.parse().map_err(|_| TicketError::BadTree)?);
        let parameters = parameters.split('&').filter(|text| !text.is_empty());
        for (number, parameter) in (1..).zip(parameters) {
            let (name, value) = parameter
                .split_once('=')
                .ok_or(TicketError::BadParameter(number))?;
            let value = || decode(value).ok_or(TicketError::BadEscape(number));
            match name {
                "peer" => {
                    let peer = value()?.parse().map_err(|_| TicketError::BadPeer)?;
                    set_once(&mut ticket.peer, peer, "peer")?;
                }
                "at" => ticket.add_address(&value()?)?,
                "invite" => {
                    let invite = parse_invite(&value()?).ok_or(TicketError::BadInvite)?;
                    set_once(&mut ticket.invite, invite, "invite")?;
                }
                _ => {}
            }
        }
        Ok(ticket)
    }
}

impl Ticket {
    fn add_address(&mut self, text: &str) -> Result<(), TicketError> {
        if self.addresses.len() == TICKET_ADDRESSES_MAX {
            return Err(TicketError::TooManyAddresses);
        }
        let index = self.addresses.len() + 1;
        let address = text.parse();
        let address = address.map_err(|error| TicketError::BadAddress { index, error })?;
        self.addresses.push(address);
        Ok(())
    }
}

fn set_once<T>(slot: &mut Option<T>, value: T, name: &'static str) -> Result<(), TicketError> {
    if slot.is_some() {
        return Err(TicketError::Repeated(name));
    }
    *slot = Some(value);
    Ok(())
}

fn parse_invite(digits: &str) -> Option<InviteSecret> {
    let bytes = HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).ok()?;
    bytes.try_into().ok().map(InviteSecret)
}

/// Reads a percent-encoded value. Unlike URLs, tickets refuse a `%` without two digits.
fn decode(text: &str) -> Option<String> {
    let well_formed = text.split('%').skip(1).all(|after| {
        let digits = after.as_bytes().first_chunk::<2>();
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    });
    let value = percent_decode_str(text).decode_utf8().ok()?;
    well_formed.then(|| value.into_owned())
}

#[cfg(test)]
mod tests {
    use eidetica_dag::EntryId;
    use proptest::prelude::*;

    use super::*;

    const TREE: &str = "0101010101010101010101010101010101010101010101010101010101010101";
    const KEY: &str = "0202020202020202020202020202020202020202020202020202020202020202";

    fn full() -> Ticket {
        Ticket {
            tree: TreeId::from_root(EntryId::from_bytes([1; 32])),
            peer: Some(PublicKey::from_bytes([2; 32])),
            addresses: ["http:[::1]:80", "odd:50%&a=b+c#d?"]
                .map(|text| text.parse().expect("an address"))
                .into(),
            invite: Some(InviteSecret::from_bytes([0xa5; 32])),
        }
    }

    fn refused(parameters: &str) -> TicketError {
        let text = format!("{SCHEME}{TREE}?{parameters}");
        text.parse::<Ticket>().expect_err("a rule is broken")
    }

    #[test]
    fn a_ticket_reads_as_documented() {
        let text = format!(
            "eidetica:{TREE}?peer={KEY}&at=http:[::1]:80&at=odd:50%25%26a=b%2Bc%23d?&invite={}",
            "a5".repeat(32)
        );
        assert_eq!(full().to_string(), text);
        assert_eq!(text.parse(), Ok(full()));
        let bare = format!("eidetica:{TREE}");
        assert_eq!(bare.parse(), Ok(Ticket::new(full().tree)));
        assert_eq!(format!(" {bare}?\n").parse(), Ok(Ticket::new(full().tree)));
    }

    #[test]
    fn unknown_parameters_are_passed_over() {
        let text = format!("{}&later=%zz&", full());
        assert_eq!(text.parse(), Ok(full()));
    }

    #[test]
    fn debug_hides_the_secret() {
        let shown = format!("{:?}", full());
        assert!(shown.contains("InviteSecret(…)"), "{shown}");
        assert!(!shown.contains("a5a5") && !shown.contains("165"), "{shown}");
    }

    #[test]
    fn each_broken_rule_has_its_error() {
        let parse = |text: &str| text.parse::<Ticket>().expect_err("a rule is broken");
        let long = "x".repeat(TICKET_BYTES_MAX + 1);
        assert_eq!(parse(&long), TicketError::TooLong(long.len()));
        assert_eq!(parse("http://x"), TicketError::NotATicket);
        assert_eq!(parse("eidetica:12?peer=x"), TicketError::BadTree);
        assert_eq!(refused("at=a:b&x"), TicketError::BadParameter(2));
        for value in ["%", "%4", "%4g", "%ff"] {
            assert_eq!(refused(&format!("at={value}")), TicketError::BadEscape(1));
        }
        assert_eq!(refused("peer=12"), TicketError::BadPeer);
        assert_eq!(
            refused("at=a:b&at=nothing"),
            TicketError::BadAddress {
                index: 2,
                error: AddressError::NoKind("nothing".into()),
            }
        );
        let many = "at=a:b&".repeat(TICKET_ADDRESSES_MAX + 1);
        assert_eq!(refused(&many), TicketError::TooManyAddresses);
        for digits in [
            "a5".repeat(31),
            "a5".repeat(33),
            "a".repeat(63),
            "a".repeat(65),
            "g".repeat(64),
        ] {
            assert_eq!(refused(&format!("invite={digits}")), TicketError::BadInvite);
        }
        let twice = format!("peer={KEY}&peer={KEY}");
        assert_eq!(refused(&twice), TicketError::Repeated("peer"));
        let secret = "a5".repeat(32);
        let twice = format!("invite={secret}&invite={secret}");
        assert_eq!(refused(&twice), TicketError::Repeated("invite"));
    }

    #[test]
    fn the_longest_tickets_are_read() {
        for value in ["x", "+"] {
            let address = Address::new("a", &value.repeat(1_022)).expect("an address");
            let ticket = Ticket {
                addresses: vec![address; TICKET_ADDRESSES_MAX],
                invite: Some(InviteSecret::from_bytes([0xa5; INVITE_SECRET_BYTES])),
                ..full()
            };
            assert_eq!(ticket.to_string().parse(), Ok(ticket));
        }
    }

    fn addresses() -> impl Strategy<Value = Vec<Address>> {
        let value = "[^\\s\\p{Cc}]{1,40}";
        let address = ("[a-z0-9-]{1,8}", value).prop_map(|(kind, value)| {
            let address = Address::new(&kind, &value);
            address.expect("an address")
        });
        prop::collection::vec(address, 0..=TICKET_ADDRESSES_MAX)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            tree: [u8; 32],
            peer: Option<[u8; 32]>,
            addresses in addresses(),
            invite: Option<[u8; 32]>,
        ) {
            let ticket = Ticket {
                tree: TreeId::from_root(EntryId::from_bytes(tree)),
                peer: peer.map(PublicKey::from_bytes),
                addresses,
                invite: invite.map(InviteSecret::from_bytes),
            };
            prop_assert_eq!(ticket.to_string().parse(), Ok(ticket));
        }

        #[test]
        fn no_text_makes_it_panic(text in any::<String>(), tail in "[%&=?a-f0-9é:]{0,60}") {
            let _ = text.parse::<Ticket>();
            let _ = format!("{SCHEME}{TREE}?at={tail}&{text}").parse::<Ticket>();
            let _ = format!("{SCHEME}{tail}").parse::<Ticket>();
        }
    }
}

//! What people copy and paste: tickets and addresses.

use eidetica_dag::testing::fuzz::Input;
use eidetica_dag::testing::key;
use eidetica_dag::{EntryId, PublicKey, TreeId};

use crate::address::{ADDRESS_BYTES_MAX, Address};
use crate::ticket::{InviteSecret, TICKET_ADDRESSES_MAX, TICKET_BYTES_MAX, Ticket};

/// Reads a ticket: written again it is a ticket, the same one.
pub fn ticket(data: &[u8]) -> bool {
    let Some(ticket) = parse::<Ticket>(data) else {
        return false;
    };
    assert!(ticket.addresses.len() <= TICKET_ADDRESSES_MAX);
    let written = ticket.to_string();
    assert!(written.len() <= TICKET_BYTES_MAX, "{} bytes", written.len());
    assert_eq!(written.parse().as_ref(), Ok(&ticket));
    assert!(!written.contains(|c: char| c.is_whitespace() || c.is_control()));
    true
}

/// Makes a ticket with addresses of any length and writes it: whatever can be written can be read.
///
/// The input is tree, key and secret, and for each address one character and how often it is
/// repeated.
pub fn ticket_build(data: &[u8]) -> bool {
    let mut input = Input::new(data);
    let mut ticket = Ticket::new(TreeId::from_root(EntryId::from_bytes(input.array())));
    ticket.peer = Some(PublicKey::from_bytes(input.array()));
    ticket.invite = Some(InviteSecret::from_bytes(input.array()));
    while !input.is_empty() && ticket.addresses.len() < TICKET_ADDRESSES_MAX {
        let character = char::from(input.byte());
        let value = character.to_string().repeat(input.below(ADDRESS_BYTES_MAX));
        ticket.addresses.extend(Address::new("x", &value));
    }
    let written = ticket.to_string();
    assert_eq!(written.parse().as_ref(), Ok(&ticket));
    assert!(self::ticket(written.as_bytes()));
    !ticket.addresses.is_empty()
}

/// Reads an address: written again it is the same text, and so it is in a message.
pub fn address(data: &[u8]) -> bool {
    let Some(address) = parse::<Address>(data) else {
        return false;
    };
    assert_eq!(address.to_string().as_bytes(), data);
    assert!(data.len() <= ADDRESS_BYTES_MAX);
    assert_eq!(
        format!("{}:{}", address.kind(), address.value()),
        address.as_str()
    );
    assert!(!address.kind().contains(':') && !address.value().is_empty());
    assert_eq!(
        Address::new(address.kind(), address.value()).as_ref(),
        Ok(&address)
    );
    let encoded = postcard::to_stdvec(&address).expect("a vector takes every byte");
    assert_eq!(postcard::from_bytes(&encoded), Ok(address));
    true
}

fn parse<T: std::str::FromStr>(data: &[u8]) -> Option<T> {
    str::from_utf8(data).ok()?.parse().ok()
}

pub(super) fn ticket_seeds() -> Vec<Vec<u8>> {
    let bare = Ticket::new(super::batches::tree());
    let addresses = address_texts().map(|text| text.parse().expect("an address"));
    let full = Ticket {
        peer: Some(key(1).public()),
        addresses: addresses.into(),
        invite: Some(InviteSecret::from_bytes([0xa5; 32])),
        ..bare.clone()
    };
    let later = format!("{full}&later=%zz&");
    let texts = [bare.to_string(), full.to_string(), later];
    texts.map(String::into_bytes).into()
}

pub(super) fn ticket_build_seeds() -> Vec<Vec<u8>> {
    let plan = |addresses: &[u8]| [&[1; 64][..], &[0xa5; 32], addresses].concat();
    vec![plan(b"a\x01\0"), plan(b"b\x01\x02%\x03\0\xe9\x05\0")]
}

pub(super) fn address_seeds() -> Vec<Vec<u8>> {
    address_texts().map(|text| text.as_bytes().to_vec()).into()
}

fn address_texts() -> [&'static str; 3] {
    ["http:[::1]:80", "iroh:endpointab3x", "odd-1:50%&a=b+c#dé?"]
}

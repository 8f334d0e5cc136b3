//! Addresses of the kind `iroh`: an endpoint ticket, or a bare endpoint id.

use std::net::SocketAddr;

use eidetica_proto::PublicKey;
use eidetica_proto::{Address, TransportError, TransportErrorKind};
use iroh::{EndpointAddr, EndpointId, TransportAddr};
use iroh_tickets::endpoint::EndpointTicket;

/// The kind of this transport's addresses.
pub const KIND: &str = "iroh";

/// Reads `iroh:<endpoint ticket>` or `iroh:<endpoint id>`.
pub(crate) fn endpoint_addr(address: &Address) -> Result<EndpointAddr, TransportError> {
    if address.kind() != KIND {
        return Err(TransportError::new(
            TransportErrorKind::UnusableAddress,
            format!("{address} is not an address of the kind {KIND}"),
        ));
    }
    let ticket = match address.value().parse::<EndpointTicket>() {
        Ok(ticket) => return Ok(ticket.into()),
        Err(error) => error,
    };
    match address.value().parse::<EndpointId>() {
        Ok(id) => Ok(id.into()),
        Err(_) => Err(TransportError::new(
            TransportErrorKind::UnusableAddress,
            format!(
                "{address} holds neither an endpoint ticket nor an endpoint id: \
                 copy the whole address again"
            ),
        )
        .with_source(ticket)),
    }
}

/// Writes `iroh:<endpoint ticket>`. An endpoint with more addresses than fit is named by its relays
/// alone, and one with too many relays by its id alone: shorter, and still of use.
pub(crate) fn address_of(endpoint: &EndpointAddr) -> Address {
    let whole = endpoint.clone();
    let mut relayed = endpoint.clone();
    relayed.addrs.retain(|addr| addr.is_relay());
    [whole, relayed, endpoint.id.into()]
        .into_iter()
        .find_map(|addr| Address::new(KIND, &EndpointTicket::new(addr).to_string()).ok())
        .expect("the ticket of a bare id is short and has no white space")
}

/// Removes the addresses that lead nowhere from another machine: unspecified ones, port 0, and
/// loopback, which stays only if nothing else is left: then the endpoint serves its own machine.
pub(crate) fn useful(mut endpoint: EndpointAddr) -> EndpointAddr {
    let ip = |addr: &TransportAddr| match addr {
        TransportAddr::Ip(addr) => Some(*addr),
        _ => None,
    };
    let is_dialable = |addr: SocketAddr| !addr.ip().is_unspecified() && addr.port() != 0;
    let is_loopback = |addr: SocketAddr| addr.ip().to_canonical().is_loopback();
    endpoint
        .addrs
        .retain(|addr| ip(addr).is_none_or(is_dialable));
    let mut remote = endpoint.clone();
    remote
        .addrs
        .retain(|addr| !ip(addr).is_some_and(is_loopback));
    match remote.is_empty() {
        true => endpoint,
        false => remote,
    }
}

/// Returns the key that an endpoint id is.
pub(crate) fn key_of(id: EndpointId) -> PublicKey {
    PublicKey::from_bytes(*id.as_bytes())
}

#[cfg(test)]
mod tests {
    use iroh::SecretKey;

    use super::*;

    fn id() -> EndpointId {
        SecretKey::from_bytes(&[7; 32]).public()
    }

    #[test]
    fn a_ticket_and_a_bare_id_are_addresses() {
        let addr = EndpointAddr::from(id()).with_ip_addr(([127, 0, 0, 1], 4433).into());
        let address = address_of(&addr);
        assert_eq!(address.kind(), "iroh");
        assert_eq!(endpoint_addr(&address).expect("a ticket"), addr);

        let hex = Address::new(KIND, &key_of(id()).to_string()).expect("an address");
        assert_eq!(endpoint_addr(&hex).expect("an id"), id().into());
        for address in [address, hex] {
            let named = endpoint_addr(&address).expect("an address").id;
            assert_eq!(key_of(named).as_bytes(), id().as_bytes());
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["http:127.0.0.1:80", "iroh:endpointab", "iroh:127.0.0.1:80"] {
            let address = text.parse().expect("an address of some kind");
            let error = endpoint_addr(&address).expect_err("not ours");
            assert_eq!(error.kind(), TransportErrorKind::UnusableAddress, "{text}");
        }
    }

    #[test]
    fn peers_elsewhere_get_only_addresses_that_can_reach_it() {
        let ips = |texts: &[&str]| {
            let addrs = texts.iter().map(|text| text.parse().expect("a socket"));
            addrs.fold(EndpointAddr::from(id()), EndpointAddr::with_ip_addr)
        };
        let relay =
            |addr: EndpointAddr| addr.with_relay_url("http://127.0.0.1:1".parse().expect("a URL"));
        let nowhere = ["0.0.0.0:1", "[::]:1", "192.0.2.1:0"];
        let loopback = [
            "127.0.0.1:1",
            "127.9.9.9:1",
            "[::1]:1",
            "[::ffff:127.0.0.1]:1",
        ];
        let remote = ["192.0.2.1:1", "[2001:db8::1]:1", "10.0.0.1:1"];
        let all = [&nowhere[..], &loopback, &remote].concat();
        assert_eq!(useful(ips(&all)), ips(&remote));
        // A relay on loopback is a choice of the program.
        assert_eq!(useful(relay(ips(&loopback))), relay(ips(&[])));
        let local = [&nowhere[..], &loopback].concat();
        assert_eq!(useful(ips(&local)), ips(&loopback), "nothing else is left");
        assert_eq!(useful(ips(&nowhere)), ips(&[]));
    }

    #[test]
    fn an_endpoint_with_too_many_addresses_keeps_its_relays() {
        let relay = "https://relay.example/".parse().expect("a URL");
        let mut addr = EndpointAddr::from(id()).with_relay_url(relay);
        for port in 0..500 {
            let direct = TransportAddr::Ip(([192, 0, 2, 1], port).into());
            addr.addrs.insert(direct);
        }
        let read = endpoint_addr(&address_of(&addr)).expect("a ticket");
        assert_eq!(read.id, id());
        assert_eq!(read.relay_urls().count(), 1);
        assert_eq!(read.ip_addrs().count(), 0);
    }
}

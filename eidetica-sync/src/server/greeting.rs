//! Tells callers where this node can be reached, and learns the same of them.

use std::net::SocketAddr;

use eidetica_proto::message::{ADDRESSES_MAX, Hello};
use eidetica_proto::peer_book::AddressOrigin;
use eidetica_proto::peers::{Place, reach};
use eidetica_proto::{Address, Caller};

use crate::news::News;

/// Returns where a caller is: on this machine if its connection comes from there.
pub(super) fn place_of(caller: &Caller) -> Place {
    match caller.remote.parse::<SocketAddr>() {
        Ok(remote) if remote.ip().to_canonical().is_loopback() => Place::SameMachine,
        Ok(_) | Err(_) => Place::Elsewhere,
    }
}

/// Returns the addresses that are of use to a caller, at most [`ADDRESSES_MAX`].
pub(super) fn addresses_for(caller: &Caller, mut addresses: Vec<Address>) -> Vec<Address> {
    let place = place_of(caller);
    addresses.retain(|address| reach(address).includes(place));
    addresses.truncate(ADDRESSES_MAX);
    addresses
}

/// Learns the addresses that a caller says it has, if it proved its key: any caller may claim any
/// key.
pub(super) fn learn(news: &News, caller: &Caller, hello: Hello) {
    let Some(key) = caller.key.filter(|key| *key == hello.key) else {
        return;
    };
    for address in addresses_for(caller, hello.addresses) {
        (news.inbound()).address_learned(key, address, AddressOrigin::Hello);
    }
}

#[cfg(test)]
mod tests {
    use eidetica_dag::testing::key;

    use super::*;
    use crate::event::Publisher;

    fn caller(remote: &str) -> Caller {
        Caller {
            transport: "http",
            key: None,
            remote: remote.to_owned(),
        }
    }

    #[test]
    fn callers_learn_what_is_of_use_to_them() {
        let all: Vec<Address> = ["http:0.0.0.0:80", "http:127.0.0.1:80", "http:192.0.2.1:80"]
            .iter()
            .map(|text| text.parse().expect("an address"))
            .collect();
        let told = |remote| addresses_for(&caller(remote), all.clone());
        assert_eq!(told("127.0.0.1:5000"), all[1..]);
        assert_eq!(told("[::ffff:127.0.0.1]:5000"), all[1..]);
        assert_eq!(told("192.0.2.9:5000"), all[2..]);
        assert_eq!(told("a name in memory"), all[2..]);
        let many = vec![all[2].clone(); ADDRESSES_MAX + 1];
        assert_eq!(addresses_for(&caller("x"), many).len(), ADDRESSES_MAX);
    }

    #[test]
    fn only_addresses_of_a_proved_key_are_learned() {
        let news = News::new(Publisher::new());
        let addresses = ["http:0.0.0.0:80", "http:192.0.2.1:80"];
        let hello = |of: u32| Hello {
            key: key(of).public(),
            versions: (2, 2),
            addresses: addresses
                .iter()
                .map(|text| text.parse().expect("an address"))
                .collect(),
        };
        let mut caller = caller("192.0.2.1:5000");
        learn(&news, &caller, hello(1));
        caller.key = Some(key(1).public());
        learn(&news, &caller, hello(2));
        assert!(news.board().take().learned.is_empty());
        learn(&news, &caller, hello(1));
        let learned = news.board().take().learned;
        let learned: Vec<_> = learned.into_iter().collect();
        let address = addresses[1].parse().expect("an address");
        assert_eq!(
            learned,
            [((key(1).public(), address), AddressOrigin::Hello)]
        );
    }
}

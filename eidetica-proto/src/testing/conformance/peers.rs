//! Who is reached, and who is known to be at the other end.

use std::sync::{Arc, Mutex};

use super::Fixture;
use super::stage::{ask, close, kind_of, pair, serve};
use crate::address::Address;
use crate::testing::pipe::lock;
use crate::testing::{collect_frames, echo, frames_of, service_fn};
use crate::transport::{SyncTransport, TransportErrorKind};

/// An address of another kind is not for this transport.
pub async fn the_wrong_kind_is_unusable<F: Fixture>(fixture: &F) {
    let client = fixture.transport().await;
    let address = Address::new("elsewhere", "somewhere").expect("an address");
    assert!(!client.can_handle_address(&address));
    let failed = client.exchange(&address, frames_of(["ask"])).await;
    assert_eq!(kind_of(failed), TransportErrorKind::UnusableAddress);
    close([client]).await;
}

/// An address of the right kind whose value makes no sense is refused without any network.
pub async fn a_malformed_address_is_unusable<F: Fixture>(fixture: &F) {
    let client = fixture.transport().await;
    let malformed = fixture.malformed_addresses();
    assert!(!malformed.is_empty(), "the fixture gives some");
    for address in malformed {
        assert!(client.can_handle_address(&address), "it is of a right kind");
        let failed = client.exchange(&address, frames_of(["ask"])).await;
        let kind = kind_of(failed);
        assert_eq!(kind, TransportErrorKind::UnusableAddress, "{address}");
    }
    close([client]).await;
}

/// Where no peer listens, the error says that the peer is not there, and that it may be later.
pub async fn a_deserted_address_refuses<F: Fixture>(fixture: &F) {
    let client = fixture.hasty_transport().await;
    let address = fixture.deserted_address().await;
    assert!(client.can_handle_address(&address));
    let failed = client.exchange(&address, frames_of(["ask"])).await;
    // Over UDP nothing tells a port that is closed from a packet that was lost.
    let absent = [
        TransportErrorKind::Refused,
        TransportErrorKind::Unreachable,
        TransportErrorKind::TimedOut,
    ];
    let kind = kind_of(failed);
    assert!(absent.contains(&kind), "{kind:?}");
    assert!(kind.is_transient());
    close([client]).await;
}

/// If the transport proves keys, a server sees the key that others see of the same transport when
/// it serves; if not, neither side sees a key.
pub async fn both_sides_see_the_same_keys<F: Fixture>(fixture: &F) {
    let callers = Arc::new(Mutex::new(Vec::new()));
    let service = {
        let callers = Arc::clone(&callers);
        service_fn(move |caller, _| {
            lock(&callers).push(caller);
            async { frames_of(["answer"]) }
        })
    };
    let (a, b, address_b) = pair(fixture, Arc::clone(&service)).await;
    let address_a = serve(&a, service).await;
    let mut peers = Vec::new();
    for (client, address) in [(&a, &address_b), (&b, &address_a)] {
        let request = frames_of(["ask"]);
        let response = client.exchange(address, request).await.expect("answers");
        peers.push(response.peer);
        collect_frames(response.frames).await.expect("ends well");
    }
    let callers = lock(&callers).clone();
    assert_eq!(callers.len(), 2);
    assert!(callers.iter().all(|caller| caller.transport == a.kind()));
    assert_eq!(a.proves_keys(), fixture.proves_keys());
    let (key_a, key_b) = (callers[0].key, callers[1].key);
    assert_eq!((key_b, key_a), (peers[0], peers[1]));
    assert_eq!(key_a.is_some(), fixture.proves_keys());
    assert!(!fixture.proves_keys() || key_a != key_b, "two identities");
    close([a, b]).await;
}

/// Each address that a server names is for its own transport, and leads to it. A server that does
/// not run names none.
pub async fn addresses_reach_the_server<F: Fixture>(fixture: &F) {
    let (client, server) = (fixture.transport().await, fixture.transport().await);
    assert!(!server.is_server_running());
    assert_eq!(server.server_addresses().await, []);
    serve(&server, echo()).await;
    assert!(server.is_server_running());
    for address in server.server_addresses().await {
        assert!(client.can_handle_address(&address), "{address}");
        let answer = ask(&client, &address, "hello").await.expect("answers");
        assert_eq!(answer, ["hello"], "{address}");
    }
    server.stop_server().await.expect("stops");
    assert!(!server.is_server_running());
    assert_eq!(server.server_addresses().await, []);
    close([client, server]).await;
}

/// Two servers of one kind answer each for itself, and one goes on when the other stops.
pub async fn two_servers_are_independent<F: Fixture>(fixture: &F) {
    let named = |name: &'static str| service_fn(move |_, _| async move { frames_of([name]) });
    let (client, one, address_one) = pair(fixture, named("one")).await;
    let two = fixture.transport().await;
    let address_two = serve(&two, named("two")).await;
    let answer = ask(&client, &address_one, "who?").await.expect("answers");
    assert_eq!(answer, ["one"]);
    let answer = ask(&client, &address_two, "who?").await.expect("answers");
    assert_eq!(answer, ["two"]);
    one.close().await.expect("closes");
    let answer = ask(&client, &address_two, "who?").await.expect("answers");
    assert_eq!(answer, ["two"]);
    close([client, two]).await;
}

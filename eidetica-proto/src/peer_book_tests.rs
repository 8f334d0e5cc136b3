//! The peer book and the race over its addresses, together in virtual time.

use proptest::prelude::*;

use super::*;
use crate::address_race::{NEXT_ADDRESS_AFTER_MS, RaceAction, RaceEnd};
use crate::coordinator::UnreachableReason;

fn peer(number: u32) -> PeerId {
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    PeerId::from_bytes(bytes)
}

fn tree(number: u8) -> TreeId {
    TreeId::from_root(eidetica_dag::EntryId::from_bytes([number; 32]))
}

fn address(number: u16) -> Address {
    Address::new("http", &format!("192.0.2.1:{number}")).expect("an address")
}

/// What is at an address.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// The peer, answering after this many milliseconds.
    Peer(u64),
    /// Refuses connections at once.
    Stale,
    /// Nothing comes back for 5 s.
    BlackHole,
    /// Accepts, and says nothing for 30 s.
    Mute,
    /// Another peer answers in a few milliseconds.
    WrongPeer,
}

/// Runs a race; returns how it ended, after how long, and which ports were tried.
fn race(book: &mut PeerBook, places: &[(u16, Place)]) -> (RaceEnd, u64, Vec<u16>) {
    let mut race = AddressRace::new(book.addresses(&peer(1)));
    let (mut now_ms, mut tried) = (0, Vec::new());
    let mut events = Vec::new();
    loop {
        while let Some(action) = race.poll_action(now_ms) {
            match action {
                RaceAction::Try(attempt, at) => {
                    let place = places.iter().find(|(port, _)| address(*port) == at);
                    let (port, place) = *place.expect("a place");
                    tried.push(port);
                    let takes_ms = match place {
                        Place::Peer(takes_ms) => takes_ms,
                        Place::Stale => 1,
                        Place::WrongPeer => 3,
                        Place::BlackHole => 5_000,
                        Place::Mute => 30_000,
                    };
                    events.push((now_ms + takes_ms, attempt, place));
                }
                RaceAction::Cancel(cancelled) => {
                    events.retain(|(_, attempt, _)| *attempt != cancelled);
                }
            }
        }
        if let Some(end) = race.end() {
            assert!(events.is_empty(), "every attempt has its end");
            book.handle_race(peer(1), &race, 1_000_000 + now_ms);
            return (end, now_ms, tried);
        }
        let next = events
            .iter()
            .map(|(at_ms, ..)| *at_ms)
            .chain(race.poll_wake());
        now_ms = next.min().expect("something happens");
        if let Some(at) = events.iter().position(|(at_ms, ..)| *at_ms == now_ms) {
            let (_, attempt, place) = events.remove(at);
            match place {
                Place::Peer(_) => race.handle_answered(attempt),
                Place::WrongPeer => race.handle_wrong_peer(attempt),
                Place::Stale | Place::BlackHole | Place::Mute => race.handle_failed(attempt),
            }
        }
    }
}

fn book_of(ports: impl IntoIterator<Item = u16>) -> PeerBook {
    let mut book = PeerBook::new();
    for port in ports {
        assert!(book.learn(peer(1), address(port), AddressOrigin::Ticket, 0));
    }
    book
}

#[test]
fn a_bad_address_before_a_good_one_costs_little_once_and_then_nothing() {
    for (bad, most_ms) in [
        (Place::Stale, 1),
        (Place::WrongPeer, 3),
        (Place::BlackHole, NEXT_ADDRESS_AFTER_MS),
        (Place::Mute, NEXT_ADDRESS_AFTER_MS),
    ] {
        let mut book = book_of([1, 2]);
        let places = [(1, bad), (2, Place::Peer(20))];
        let (end, took_ms, tried) = race(&mut book, &places);
        assert_eq!(
            (end, tried),
            (RaceEnd::Won(address(2)), vec![1, 2]),
            "{bad:?}"
        );
        assert_eq!(took_ms, most_ms + 20, "{bad:?}");
        assert!(took_ms <= 300);
        for _ in 0..10 {
            let (end, took_ms, tried) = race(&mut book, &places);
            assert_eq!(
                (end, took_ms, tried),
                (RaceEnd::Won(address(2)), 20, vec![2])
            );
        }
    }
}

#[test]
fn the_one_that_worked_last_is_first_until_it_fails() {
    let mut book = book_of(1..=4);
    let at = |works: u16| -> Vec<(u16, Place)> {
        let place = |port| {
            if port == works {
                Place::Peer(5)
            } else {
                Place::Stale
            }
        };
        (1..=4).map(|port| (port, place(port))).collect()
    };
    for works in [3, 1, 4, 2, 2, 3] {
        let (end, took_ms, _) = race(&mut book, &at(works));
        assert_eq!(end, RaceEnd::Won(address(works)));
        assert!(took_ms <= 9);
        let (_, _, tried) = race(&mut book, &at(works));
        assert_eq!(tried, [works]);
    }
}

#[test]
fn a_race_that_is_lost_says_why_and_tries_each_once() {
    let mut book = book_of([1, 2, 3]);
    let all = |place| [(1, place), (2, place), (3, place)];
    let lost = |reason| RaceEnd::Lost(reason);
    let (end, took_ms, tried) = race(&mut book, &all(Place::WrongPeer));
    assert_eq!(
        (end, took_ms, tried.len()),
        (lost(UnreachableReason::WrongPeer), 9, 3)
    );
    let (end, took_ms, tried) = race(&mut book, &all(Place::BlackHole));
    assert_eq!(
        (end, took_ms, tried.len()),
        (lost(UnreachableReason::NoConnection), 5_500, 3)
    );
    let (end, ..) = race(&mut PeerBook::new(), &[]);
    assert_eq!(end, lost(UnreachableReason::NoAddress));
}

#[test]
fn a_race_has_sixteen_addresses_and_each_once() {
    let mut race = AddressRace::new((0..100).map(|at| address(at / 3)));
    let mut tried = 0;
    while race.poll_action(tried * 250).is_some() {
        tried += 1;
    }
    assert_eq!(tried, 16);
    assert_eq!((race.end(), race.poll_wake()), (None, None));
}

#[test]
fn the_slower_of_two_that_answer_is_cancelled_and_its_answer_is_nothing() {
    let mut race = AddressRace::new([address(1), address(2)]);
    let Some(RaceAction::Try(first, _)) = race.poll_action(0) else {
        panic!("the first")
    };
    let Some(RaceAction::Try(second, _)) = race.poll_action(250) else {
        panic!("the second")
    };
    race.handle_answered(first);
    race.handle_answered(second);
    race.handle_failed(second);
    race.handle_failed(first);
    assert_eq!(race.end(), Some(RaceEnd::Won(address(1))));
    assert_eq!(race.poll_action(251), Some(RaceAction::Cancel(second)));
    assert_eq!(race.poll_action(251), None);
    let verdicts: Vec<Verdict> = race.verdicts().map(|(_, it)| it).collect();
    assert_eq!(verdicts, [Verdict::Won, Verdict::Overtaken]);
}

#[test]
fn a_fresh_ticket_adds_addresses_and_forgives_old_ones() {
    let mut book = book_of([1]);
    book.handle_failure(peer(1), &address(1), true);
    assert!(!book.learn(peer(1), address(1), AddressOrigin::Hello, 5));
    assert!(book.learn(peer(1), address(2), AddressOrigin::Hello, 5));
    let order = |book: &PeerBook| book.addresses(&peer(1)).collect::<Vec<_>>();
    assert_eq!(order(&book), [address(2), address(1)]);
    assert!(book.learn(peer(1), address(1), AddressOrigin::Ticket, 6));
    assert_eq!(order(&book), [address(1), address(2)]);
    // The same once more is no reason to try again.
    assert!(!book.learn(peer(1), address(1), AddressOrigin::Ticket, 7));
    assert_eq!(book.peers().count(), 1);
}

#[test]
fn the_least_promising_address_makes_room() {
    let mut book = book_of(0..16);
    book.handle_success(peer(1), &address(7), 100);
    for port in (0..16).filter(|port| *port != 7) {
        book.handle_failure(peer(1), &address(port), port == 3);
    }
    assert!(book.learn(peer(1), address(50), AddressOrigin::Mdns, 200));
    let known: Vec<Address> = book.addresses(&peer(1)).collect();
    assert_eq!(
        (known.len(), &known[0], &known[1]),
        (16, &address(7), &address(50))
    );
    assert!(!known.contains(&address(3)));
    // Rumours do not push out what a person entered.
    let mut book = book_of(0..16);
    assert!(!book.learn(peer(1), address(50), AddressOrigin::Mdns, 200));
    assert_eq!(book.addresses(&peer(1)).count(), 16);
}

#[test]
fn peers_without_trees_make_room_and_others_do_not() {
    let mut book = PeerBook::new();
    let most = BOOK_PEERS_MAX as u32;
    for number in 0..most {
        assert!(book.learn(
            peer(number),
            address(1),
            AddressOrigin::Hello,
            number.into()
        ));
    }
    assert!(book.share(peer(0), tree(1), 0));
    while book.poll_changed().is_some() {}
    assert!(book.learn(peer(most), address(1), AddressOrigin::Hello, 1));
    assert!(book.peer(&peer(0)).is_some() && book.peer(&peer(1)).is_none());
    // The record of the one that made room is removed.
    assert_eq!(book.poll_changed(), Some((peer(1), None)));
    assert_eq!(book.peers().count(), BOOK_PEERS_MAX);
    for number in 0..=most {
        book.share(peer(number), tree(1), 0);
    }
    assert!(!book.learn(peer(most + 1), address(1), AddressOrigin::Manual, 1));
    book.unshare(peer(9), tree(1));
    assert!(book.learn(peer(most + 1), address(1), AddressOrigin::Manual, 1));
    assert!(book.peer(&peer(9)).is_none());
}

#[test]
fn records_come_back_as_they_were() {
    let mut book = book_of([1, 2]);
    book.handle_success(peer(1), &address(2), 77);
    book.handle_failure(peer(1), &address(1), true);
    book.share(peer(1), tree(4), 99);
    book.learn(peer(2), address(9), AddressOrigin::Record, 3);
    let mut copy = PeerBook::new();
    let mut records = Vec::new();
    while let Some((of, record)) = book.poll_changed() {
        let record = record.expect("it is there");
        copy.insert_record(of, &record).expect("it can be read");
        records.push(record);
    }
    assert_eq!(copy.peers, book.peers);
    assert_eq!(copy.spare, book.spare);
    assert_eq!(copy.poll_changed(), None);
    let read = |record: &[u8]| PeerBook::new().insert_record(peer(1), record);
    assert_eq!(read(&[]), Err(RecordError::Damaged));
    let mut newer = records[0].clone();
    newer[0] = 2;
    assert_eq!(read(&newer), Err(RecordError::Version(2)));
    for cut in 1..records[0].len() {
        assert_eq!(read(&records[0][..cut]), Err(RecordError::Damaged), "{cut}");
    }
}

#[test]
fn success_is_not_written_for_each_exchange() {
    let mut book = book_of([1]);
    book.handle_success(peer(1), &address(1), 1_000);
    while book.poll_changed().is_some() {}
    for at in 0..1_000 {
        book.handle_success(peer(1), &address(1), 1_000 + at);
    }
    assert_eq!(book.poll_changed(), None);
    book.handle_success(peer(1), &address(1), 1_999 + SUCCESS_WRITTEN_MS);
    assert!(book.poll_changed().is_some());
}

#[test]
fn addresses_of_this_machine_alone_are_not_passed_on() {
    let may = |text: &str| may_pass_on(&text.parse().expect("an address"));
    for never in [
        "http:127.0.0.1:80",
        "http:127.255.0.9",
        "http:[::1]:80",
        "http:0.0.0.0:80",
        "http:[::]:80",
        "http:[::ffff:127.0.0.1]:80",
        "http:[fe80::1]:80",
        "http:[fe80::1%3]:80",
        "http:169.254.1.1:80",
        "http:localhost:80",
        "http:LOCALHOST.:80",
        "https://printer.localhost/path",
        "http://user@127.0.0.1:80/x",
        "http:127.1:80",
        "http:2130706433:80",
        "http:0x7f000001:80",
        "custom:127.0.0.1:9",
        "http:224.0.0.1:80",
        "http:255.255.255.255:80",
    ] {
        assert!(!may(never), "{never}");
    }
    for fine in [
        "http:192.0.2.1:80",
        "http:10.0.0.1:80",
        "http:[2001:db8::1]:80",
        "https:example.org:443",
        "https://example.org/sync",
        "iroh:endpointabc",
        "http:localhost.example.org:80",
    ] {
        assert!(may(fine), "{fine}");
    }
    let mut book = book_of([1, 2]);
    book.learn(
        peer(1),
        "http:127.0.0.1:1".parse().expect("one"),
        AddressOrigin::Hello,
        0,
    );
    book.learn(
        peer(1),
        "http:10.1.1.1:1".parse().expect("one"),
        AddressOrigin::Mdns,
        0,
    );
    book.handle_failure(peer(1), &address(2), true);
    let passed_on: Vec<_> = book.addresses_to_pass_on(&peer(1)).collect();
    assert_eq!(passed_on, [&address(1)]);
}

proptest! {
    #[test]
    fn any_bytes_are_a_record_or_an_error(bytes: Vec<u8>) {
        let mut book = PeerBook::new();
        let _read_or_refused = book.insert_record(peer(1), &bytes);
        let mut versioned = vec![RECORD_VERSION];
        versioned.extend(bytes);
        if book.insert_record(peer(1), &versioned).is_ok() {
            let known = book.peer(&peer(1)).expect("it was read");
            prop_assert!(known.addresses().len() <= PEER_ADDRESSES_MAX);
        }
    }

    #[test]
    fn a_peer_that_answers_somewhere_is_found_soon_and_at_once_the_next_time(
        bad in prop::collection::vec(0..4_u8, 0..15),
        at in 0..15_usize,
        takes_ms in 1..200_u64,
    ) {
        let mut places: Vec<(u16, Place)> = Vec::new();
        for (port, kind) in bad.iter().enumerate() {
            let place = match kind {
                0 => Place::Stale,
                1 => Place::BlackHole,
                2 => Place::Mute,
                _ => Place::WrongPeer,
            };
            places.push((port as u16, place));
        }
        let at = at.min(places.len());
        places.insert(at, (99, Place::Peer(takes_ms)));
        let mut book = book_of(places.iter().map(|(port, _)| *port));
        let (end, took_ms, _) = race(&mut book, &places);
        prop_assert_eq!(end, RaceEnd::Won(address(99)));
        prop_assert!(took_ms <= at as u64 * NEXT_ADDRESS_AFTER_MS + takes_ms);
        let (_, took_ms, tried) = race(&mut book, &places);
        prop_assert_eq!((took_ms, tried), (takes_ms, vec![99]));
    }
}

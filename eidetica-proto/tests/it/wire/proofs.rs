//! Who asks and who answers: what a proof is good for, and what it is not.

use bytes::Bytes;
use eidetica_dag::testing::key;
use eidetica_dag::{EntryId, PublicKey, Purpose, Role, SecretKey, Signature, SignedEntry, TreeId};
use eidetica_proto::message::{InviteProof, Join, ListTrees, Request, RequestHeader};
use eidetica_proto::proof::{
    Answering, ClientProof, KnownPeer, NONCES_MAX, NonceMemory, ProofFault, Proving,
    REQUEST_AGE_MAX_MS, REQUEST_AHEAD_MAX_MS, RequestProof, read_request,
};
use eidetica_proto::{ErrorCode, WireError};
use proptest::prelude::*;

const NOW_MS: u64 = 1_700_000_000_000;
const EPOCH: [u8; 8] = [7; 8];

fn header(tree: u8) -> Bytes {
    let after = Some(TreeId::from_root(EntryId::from_bytes([tree; 32])));
    RequestHeader::new(Request::ListTrees(ListTrees { after })).encode()
}

/// A server: a key, an epoch, a clock and a memory.
struct Server {
    key: SecretKey,
    epoch: [u8; 8],
    now_ms: u64,
    nonces: NonceMemory,
}

impl Server {
    fn new(n: u8) -> Self {
        Self {
            key: key(n.into()),
            epoch: EPOCH,
            now_ms: NOW_MS,
            nonces: NonceMemory::default(),
        }
    }

    fn acquaintance(&self) -> KnownPeer {
        KnownPeer {
            key: self.key.public(),
            epoch: self.epoch,
            clock_ahead_ms: 0,
        }
    }

    /// Says whom it takes for the client.
    fn asked(&mut self, [proof, header]: [Bytes; 2]) -> Result<Option<PublicKey>, ErrorCode> {
        let ask = || {
            let (_, claim) = read_request(proof, header)?;
            let proved = claim.check(&self.key.public(), self.epoch, self.now_ms)?;
            proved
                .map(|proved| self.nonces.take(self.now_ms, proved))
                .transpose()
        };
        ask().map_err(|error: WireError| error.code)
    }

    fn answers(&self, frames: &[Bytes; 2], reply: &[u8]) -> Option<Bytes> {
        let (answering, _): (Answering, _) =
            read_request(frames[0].clone(), frames[1].clone()).expect("a request");
        answering.prove(&self.key, self.epoch, self.now_ms, reply)
    }
}

fn signed(to: &KnownPeer, now_ms: u64, nonce: u8) -> Proving {
    Proving::sign(&key(1), to, now_ms, [nonce; 16], header(1))
}

#[test]
fn a_request_proves_its_client_once() {
    let mut server = Server::new(2);
    let first = signed(&server.acquaintance(), NOW_MS, 1);
    assert_eq!(server.asked(first.frames()), Ok(Some(key(1).public())));
    assert_eq!(server.asked(first.frames()), Err(ErrorCode::Unproven));
    let second = signed(&server.acquaintance(), NOW_MS, 2);
    assert_eq!(server.asked(second.frames()), Ok(Some(key(1).public())));
    let anonymous = Proving::challenge([3; 16], None, header(1));
    assert_eq!(server.asked(anonymous.frames()), Ok(None));
}

#[test]
fn a_request_is_of_no_use_elsewhere_or_later() {
    let server = Server::new(2);
    let frames = signed(&server.acquaintance(), NOW_MS, 1).frames();
    let mut redirected = Server::new(3);
    assert_eq!(
        redirected.asked(frames.clone()),
        Err(ErrorCode::Unproven),
        "another server"
    );
    // The memory is gone with the process, so the epoch has to tell.
    let mut restarted = Server {
        epoch: [8; 8],
        ..Server::new(2)
    };
    assert_eq!(
        restarted.asked(frames.clone()),
        Err(ErrorCode::StaleProof),
        "after a restart"
    );
    for (now_ms, verdict) in [
        (NOW_MS + REQUEST_AGE_MAX_MS, Ok(Some(key(1).public()))),
        (NOW_MS + REQUEST_AGE_MAX_MS + 1, Err(ErrorCode::StaleProof)),
        (NOW_MS - REQUEST_AHEAD_MAX_MS, Ok(Some(key(1).public()))),
        (
            NOW_MS - REQUEST_AHEAD_MAX_MS - 1,
            Err(ErrorCode::StaleProof),
        ),
    ] {
        let mut server = Server {
            now_ms,
            ..Server::new(2)
        };
        assert_eq!(server.asked(frames.clone()), verdict, "at {now_ms}");
    }
}

/// Whatever bit is altered, the request proves nothing any more.
#[test]
fn no_bit_can_be_altered() {
    let frames = signed(&Server::new(2).acquaintance(), NOW_MS, 1).frames();
    for (which, name) in ["proof", "header"].into_iter().enumerate() {
        for bit in 0..frames[which].len() * 8 {
            let mut altered = frames.clone();
            let mut bytes = altered[which].to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            altered[which] = bytes.into();
            let verdict = Server::new(2).asked(altered);
            assert!(
                !matches!(verdict, Ok(Some(_))),
                "bit {bit} of the {name} was altered: {verdict:?}"
            );
        }
    }
}

#[test]
fn an_old_nonce_is_forgotten_when_its_request_is_stale() {
    let mut server = Server::new(2);
    let first = signed(&server.acquaintance(), NOW_MS, 1).frames();
    assert!(server.asked(first.clone()).is_ok());
    server.now_ms += REQUEST_AGE_MAX_MS + 1;
    let later = signed(&server.acquaintance(), server.now_ms, 2);
    assert!(server.asked(later.frames()).is_ok());
    assert_eq!(server.nonces.len(), 1, "the first one is forgotten");
    assert_eq!(server.asked(first.clone()), Err(ErrorCode::StaleProof));
    // A clock that is set back does not make the first one young again.
    server.now_ms = NOW_MS;
    assert_eq!(server.asked(first), Err(ErrorCode::StaleProof));
}

/// Proves the nonces to be checked without the cost of a signature each.
fn fill(server: &mut Server, from_ms: u64, count: usize) {
    let to = server.acquaintance();
    let sample = Proving::sign(&key(9), &to, from_ms, [0; 16], header(1)).frames();
    let (_, claim) = read_request(sample[0].clone(), sample[1].clone()).expect("a request");
    let proved = claim.check(&to.key, to.epoch, server.now_ms);
    let proved = proved.expect("it verifies").expect("it is signed");
    for n in 0..count {
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&(n as u64 + 1).to_le_bytes());
        let one = proved.with_nonce(from_ms, nonce);
        server.nonces.take(server.now_ms, one).expect("a new nonce");
    }
}

#[test]
fn the_memory_of_nonces_is_bounded_and_forgets_nothing_that_could_be_replayed() {
    let mut server = Server::new(2);
    let victim = signed(&server.acquaintance(), NOW_MS - 10, 1).frames();
    assert!(server.asked(victim.clone()).is_ok());
    fill(&mut server, NOW_MS, NONCES_MAX);
    assert_eq!(server.nonces.len(), NONCES_MAX);
    // The victim's nonce had to go, so its moment is refused altogether.
    assert_eq!(server.asked(victim), Err(ErrorCode::StaleProof));
    let honest = signed(&server.acquaintance(), NOW_MS + 1, 1).frames();
    assert!(server.asked(honest).is_ok(), "a fresh request is accepted");
}

#[test]
fn an_answer_proves_who_gives_it_to_what() {
    let server = Server {
        now_ms: NOW_MS + 250,
        ..Server::new(2)
    };
    let expected = KnownPeer {
        clock_ahead_ms: 250,
        ..server.acquaintance()
    };
    let to = server.acquaintance();
    for asking in [
        signed(&to, NOW_MS, 1),
        Proving::challenge([1; 16], None, header(1)),
        Proving::challenge([1; 16], Some(to.key), header(1)),
    ] {
        let proof = server
            .answers(&asking.frames(), b"yes")
            .expect("it is asked for");
        let check = |proof: &[u8], reply: &[u8]| asking.check(proof, reply, NOW_MS);
        assert_eq!(check(&proof, b"yes"), Ok(expected));
        assert_eq!(check(&proof, b"no!"), Err(ProofFault::BadSignature));
        assert_eq!(check(b"yes", b"yes"), Err(ProofFault::NotAProof));
        for bit in 0..proof.len() * 8 {
            let mut altered = proof.to_vec();
            altered[bit / 8] ^= 1 << (bit % 8);
            assert!(check(&altered, b"yes").is_err(), "bit {bit} was altered");
        }
    }
    // The answer to another nonce, to another question with the same nonce, or to the same question
    // with the same nonce by another peer.
    let asking = signed(&to, NOW_MS, 1);
    let other_nonce = signed(&to, NOW_MS, 2);
    let other_header = Proving::sign(&key(1), &to, NOW_MS, [1; 16], header(2));
    let anonymous = Proving::challenge([1; 16], None, header(1));
    let by_another = Proving::sign(&key(9), &to, NOW_MS, [1; 16], header(1));
    for other in [other_nonce, other_header, anonymous, by_another] {
        let proof = server.answers(&other.frames(), b"yes").expect("asked for");
        let verdict = asking.check(&proof, b"yes", NOW_MS);
        assert_eq!(verdict, Err(ProofFault::BadSignature));
    }
}

#[test]
fn another_key_is_recognised() {
    let impostor = Server::new(3);
    let expected = Server::new(2).acquaintance();
    for asking in [
        signed(&expected, NOW_MS, 1),
        Proving::challenge([1; 16], Some(expected.key), header(1)),
    ] {
        let proof = impostor.answers(&asking.frames(), b"yes").expect("asked");
        let verdict = asking.check(&proof, b"yes", NOW_MS);
        let key = impostor.key.public();
        assert_eq!(verdict, Err(ProofFault::OtherKey(key)));
    }
}

#[test]
fn a_client_goes_by_the_servers_clock() {
    for (server_ms, client_ms) in [(NOW_MS, NOW_MS - 3_600_000), (NOW_MS, NOW_MS + 86_400_000)] {
        let mut server = Server {
            now_ms: server_ms,
            ..Server::new(2)
        };
        let greeting = Proving::challenge([1; 16], None, header(1));
        let proof = server
            .answers(&greeting.frames(), b"hello")
            .expect("asked for");
        let met = greeting.check(&proof, b"hello", client_ms).expect("proved");
        let asking = Proving::sign(&key(1), &met, client_ms + 5, [2; 16], header(1));
        server.now_ms += 5;
        assert_eq!(server.asked(asking.frames()), Ok(Some(key(1).public())));
    }
}

#[test]
fn an_anonymous_request_gets_no_proof() {
    let version = eidetica_proto::PROTOCOL_VERSION;
    let client = ClientProof::Anonymous;
    let proof = postcard::to_stdvec(&RequestProof { version, client }).expect("it fits");
    let frames = [proof.into(), header(1)];
    assert_eq!(Server::new(2).asked(frames.clone()), Ok(None));
    assert_eq!(Server::new(2).answers(&frames, b"yes"), None);
}

#[test]
fn another_version_is_named() {
    let error = read_request(Bytes::from_static(&[9, 0]), header(1)).expect_err("version 9");
    assert_eq!(error.code, ErrorCode::UnsupportedVersion);
    let error = read_request(Bytes::new(), header(1)).expect_err("nothing");
    assert_eq!(error.code, ErrorCode::Malformed);
}

#[test]
fn an_invite_is_shown_for_one_tree_by_one_key() {
    let tree = |n| TreeId::from_root(EntryId::from_bytes([n; 32]));
    let shown = InviteProof::new(&key(5), tree(1), &key(1).public());
    assert!(shown.is_of(tree(1), &key(1).public()));
    assert!(!shown.is_of(tree(2), &key(1).public()));
    assert!(!shown.is_of(tree(1), &key(2).public()));
    let forged = InviteProof {
        invite: key(6).public(),
        ..shown.clone()
    };
    assert!(!forged.is_of(tree(1), &key(1).public()));
    let message = [tree(1).as_bytes().as_slice(), key(1).public().as_bytes()].concat();
    for purpose in Purpose::ALL {
        let signature = key(5).sign(purpose, &message);
        let shown = InviteProof {
            signature,
            ..shown.clone()
        };
        let verdict = shown.is_of(tree(1), &key(1).public());
        assert_eq!(verdict, purpose == Purpose::Invite, "{purpose:?}");
    }
    let join = Join {
        tree: tree(1),
        role: Role::Write,
        note: "x".repeat(257),
        invite: None,
    };
    let frame = RequestHeader::new(Request::Join(join)).encode();
    let error = RequestHeader::decode(&frame).expect_err("too long");
    assert_eq!(error.code, ErrorCode::TooLarge);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(proof: Vec<u8>, header: Vec<u8>, reply: Vec<u8>) {
        let header = Bytes::from(header);
        if let Ok((_, claim)) = read_request(proof.clone().into(), header.clone()) {
            let _ = claim.check(&key(2).public(), EPOCH, NOW_MS);
        }
        let asking = Proving::challenge([0; 16], None, header);
        prop_assert!(asking.check(&proof, &reply, NOW_MS).is_err());
        let nonsense = Signature::from_bytes([1; 64]);
        prop_assert!(key(1).public().verify(Purpose::Request, &proof, &nonsense).is_err());
    }
}

/// Every verifier there is against every kind of signature, over the very bytes that it checks.
#[test]
fn every_verifier_takes_its_own_kind_of_signature_only() {
    let (client, server) = (key(1), key(2));
    let header = header(1);
    let version = eidetica_proto::PROTOCOL_VERSION.to_le_bytes();
    let to = Server::new(2).acquaintance();
    let asked = Proving::sign(&client, &to, NOW_MS, [1; 16], header.clone());
    let request_message = [
        &version[..],
        server.public().as_bytes(),
        client.public().as_bytes(),
        &EPOCH,
        &NOW_MS.to_le_bytes(),
        &[1; 16],
        &header,
    ]
    .concat();
    let response_message = [
        &version[..],
        server.public().as_bytes(),
        &EPOCH,
        &NOW_MS.to_le_bytes(),
        &(asked.frames()[0].len() as u64).to_le_bytes(),
        &asked.frames()[0],
        &(header.len() as u64).to_le_bytes(),
        &header,
        b"yes",
    ]
    .concat();
    let drawn = eidetica_dag::testing::draw("A-B");
    let entry = drawn.entry("B").into_inner();
    // The signature follows the bytes that it is over.
    let encoded = entry.encoded();
    let entry_message = &encoded[..encoded.len() - 64];

    for purpose in Purpose::ALL {
        let signature = client.sign(purpose, &request_message);
        let version = eidetica_proto::PROTOCOL_VERSION;
        let signed = eidetica_proto::proof::Signed {
            key: client.public(),
            epoch: EPOCH,
            timestamp_ms: NOW_MS,
            nonce: [1; 16],
            signature,
        };
        let proof = RequestProof {
            version,
            client: ClientProof::Signed(signed),
        };
        let proof = postcard::to_stdvec(&proof).expect("it fits").into();
        let verdict = Server::new(2).asked([proof, header.clone()]);
        let is_own = purpose == Purpose::Request;
        assert_eq!(verdict.is_ok(), is_own, "{purpose:?} for a request");

        let signature = server.sign(purpose, &response_message);
        let proof = eidetica_proto::proof::ResponseProof {
            key: server.public(),
            epoch: EPOCH,
            now_ms: NOW_MS,
            signature,
        };
        let proof = postcard::to_stdvec(&proof).expect("it fits");
        let verdict = asked.check(&proof, b"yes", NOW_MS);
        let is_own = purpose == Purpose::Response;
        assert_eq!(verdict.is_ok(), is_own, "{purpose:?} for an answer");

        let signature = key(0).sign(purpose, entry_message);
        let signed = SignedEntry::from_parts(entry.entry().clone(), &signature);
        let verdict = signed.expect("well formed").has_valid_signature();
        assert_eq!(
            verdict,
            purpose == Purpose::Entry,
            "{purpose:?} for an entry"
        );
    }
}

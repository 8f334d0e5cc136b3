//! Proofs of who asks and who answers.

use bytes::Bytes;
use eidetica_dag::testing::key;

use crate::proof::{KnownPeer, NonceMemory, Proving, anonymous, read_request};

const NOW_MS: u64 = 1_700_000_000_000;
const EPOCH: [u8; 8] = [7; 8];
const NONCE: [u8; 16] = [5; 16];
const HEADER: Bytes = Bytes::from_static(b"the header of a request");
const REPLY: &[u8] = b"the header of an answer";

fn server() -> KnownPeer {
    KnownPeer {
        key: key(2).public(),
        epoch: EPOCH,
        clock_ahead_ms: 0,
    }
}

fn asked() -> Proving {
    Proving::sign(&key(1), &server(), NOW_MS, NONCE, HEADER)
}

/// Reads what precedes the header of a request: only the key that signed is believed to have asked,
/// and that once.
pub fn request_proof(data: &[u8]) -> bool {
    let Ok((answering, claim)) = read_request(Bytes::copy_from_slice(data), HEADER) else {
        return false;
    };
    if let Ok(Some(proved)) = claim.check(&key(2).public(), EPOCH, NOW_MS) {
        let mut nonces = NonceMemory::default();
        assert_eq!(nonces.take(NOW_MS, proved), Ok(key(1).public()));
        assert!(nonces.take(NOW_MS, proved).is_err(), "it was used before");
    }
    let others = claim.check(&key(3).public(), EPOCH, NOW_MS);
    assert!(!matches!(others, Ok(Some(_))), "it was for another peer");
    if let Some(proof) = answering.prove(&key(2), EPOCH, NOW_MS, REPLY) {
        for asking in [asked(), Proving::challenge(NONCE, None, HEADER)] {
            let is_of_this = data == &asking.frames()[0][..];
            let believed = asking.check(&proof, REPLY, NOW_MS).is_ok();
            assert_eq!(
                believed, is_of_this,
                "believed by who asked, and by no other"
            );
        }
    }
    true
}

/// Reads what precedes the header of an answer: only the peer that was asked is believed.
pub fn response_proof(data: &[u8]) -> bool {
    let Ok(met) = asked().check(data, REPLY, NOW_MS) else {
        return false;
    };
    assert_eq!(met.key, key(2).public());
    assert!(asked().check(data, b"another answer", NOW_MS).is_err());
    true
}

pub(super) fn request_proof_seeds() -> Vec<Vec<u8>> {
    let challenge = Proving::challenge(NONCE, None, HEADER);
    let proofs = [challenge, asked()].map(|asking| asking.frames()[0].to_vec());
    [vec![anonymous().to_vec()], proofs.into()].concat()
}

pub(super) fn response_proof_seeds() -> Vec<Vec<u8>> {
    let [proof, header] = asked().frames();
    let (answering, _) = read_request(proof, header).expect("our own");
    let answer = answering.prove(&key(2), EPOCH, NOW_MS, REPLY);
    vec![answer.expect("it is asked for").to_vec()]
}

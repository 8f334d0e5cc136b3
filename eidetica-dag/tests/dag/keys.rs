//! Signatures verify for one purpose, one key and one form only.

use eidetica_dag::testing::key;
use eidetica_dag::{BadSignature, PublicKey, Purpose, Signature};

#[test]
fn a_signature_verifies_for_its_own_purpose_only() {
    let secret = key(1);
    for signed in Purpose::ALL {
        let signature = secret.sign(signed, b"bytes");
        for asked in Purpose::ALL {
            let verdict = secret.public().verify(asked, b"bytes", &signature);
            assert_eq!(verdict.is_ok(), signed == asked, "{signed:?} as {asked:?}");
        }
    }
}

#[test]
fn no_tag_begins_another() {
    for a in Purpose::ALL {
        for b in Purpose::ALL {
            assert_eq!(a.tag().starts_with(b.tag()), a == b);
        }
    }
}

#[test]
fn other_bytes_and_other_keys_are_refused() {
    let signature = key(1).sign(Purpose::Entry, b"bytes");
    let verify = |key: PublicKey, bytes| key.verify(Purpose::Entry, bytes, &signature);
    assert_eq!(verify(key(1).public(), b"bytes"), Ok(()));
    assert_eq!(verify(key(1).public(), b"other"), Err(BadSignature));
    assert_eq!(verify(key(2).public(), b"bytes"), Err(BadSignature));
}

/// With a key of small order, one signature fits every message. A plain verifier believes it.
#[test]
fn a_key_of_small_order_is_refused() {
    let mut identity = [0; 32];
    identity[0] = 1;
    let mut forged = [0; 64];
    forged[..32].copy_from_slice(&identity);

    let message = [Purpose::Entry.tag(), b"anything"].concat();
    let plain = ed25519_dalek::VerifyingKey::from_bytes(&identity).unwrap();
    let plain_signature = ed25519_dalek::Signature::from_bytes(&forged);
    use ed25519_dalek::Verifier;
    assert!(plain.verify(&message, &plain_signature).is_ok());

    let verdict = PublicKey::from_bytes(identity).verify(
        Purpose::Entry,
        b"anything",
        &Signature::from_bytes(forged),
    );
    assert_eq!(verdict, Err(BadSignature));
}

/// Adding the group's order to the scalar keeps the equation and changes the bytes, and with them
/// the id of an entry.
#[test]
fn a_malleable_signature_is_refused() {
    // 2^252 + 27742317777372353535851937790883648493, little-endian (RFC 8032).
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut bytes = *key(1).sign(Purpose::Entry, b"bytes").as_bytes();
    let mut carry = 0;
    for (byte, add) in bytes[32..].iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        *byte = sum as u8;
        carry = sum >> 8;
    }
    assert_eq!(carry, 0, "the sum fits");
    let verdict = key(1)
        .public()
        .verify(Purpose::Entry, b"bytes", &Signature::from_bytes(bytes));
    assert_eq!(verdict, Err(BadSignature));
}

#[test]
fn bytes_that_are_no_point_are_refused() {
    let signature = key(1).sign(Purpose::Entry, b"bytes");
    let no_point = PublicKey::from_bytes([0xff; 32]);
    assert_eq!(
        no_point.verify(Purpose::Entry, b"bytes", &signature),
        Err(BadSignature)
    );
}

#[test]
fn keys_are_written_and_read() {
    let public = key(1).public();
    assert_eq!(public.to_string().parse(), Ok(public));
    assert_eq!(public.to_string().to_uppercase().parse(), Ok(public));
    for wrong in ["", "00", &"g".repeat(64), &"0".repeat(63), &"é".repeat(32)] {
        assert!(wrong.parse::<PublicKey>().is_err(), "{wrong}");
    }
}

#[test]
fn debug_forms_hide_the_secret() {
    let secret = key(1);
    let shown = format!("{secret:?}");
    let hidden = PublicKey::from_bytes(secret.to_bytes()).to_string();
    assert!(!shown.contains(&hidden[..8]), "{shown}");
    assert_eq!(shown, format!("SecretKey(of {})", secret.public().short()));
}

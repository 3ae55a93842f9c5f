//! Every small change of a good token: one token has one spelling, and nothing near it is a token.

use super::{NOW, check_at, valid};
use test_support::TestKey;

fn signed() -> String {
    let token = valid().sign(TestKey::rsa());
    assert!(check_at(&token, NOW).is_ok());
    token
}

#[test]
fn jwt_011_every_single_bit_flipped() {
    let token = signed();
    for at in 0..token.len() {
        for bit in 0..8 {
            let mut bytes = token.clone().into_bytes();
            bytes[at] ^= 1 << bit;
            // What is no UTF-8 any more cannot even be asked about.
            if let Ok(text) = String::from_utf8(bytes) {
                assert!(check_at(&text, NOW).is_err(), "bit {bit} of byte {at}");
            }
        }
    }
}

#[test]
fn jwt_012_every_truncation() {
    let token = signed();
    for at in 0..token.len() {
        assert!(check_at(&token[..at], NOW).is_err(), "cut at {at}");
        assert!(check_at(&token[at + 1..], NOW).is_err(), "begun at {at}");
    }
}

#[test]
fn jwt_013_one_more_character_at_every_place() {
    let token = signed();
    for at in 0..=token.len() {
        for more in ["A", "_", ".", "=", " "] {
            let text = format!("{}{more}{}", &token[..at], &token[at..]);
            assert!(check_at(&text, NOW).is_err(), "{more:?} at {at}");
        }
    }
}

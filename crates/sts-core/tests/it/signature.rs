//! Signatures: made with other algorithms, and values that are no signatures. Wycheproof's vectors stand beside `token/unverified.rs`.

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{
    RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512,
    RsaSignatureEncoding,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::json;
use sts_core::keys::KeySet;
use sts_core::token::ParseTokenError::AlgorithmNotAllowed;
use sts_core::verify::VerifyError;
use test_support::TestKey;

use super::{NOW, Refused, check_at, check_with, unreadable, valid};

/// The order of P-256's group (FIPS 186-4, appendix D.1.2.3).
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6,
    0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

/// What of an RSA key is public, in all forms that somebody might have taken for a shared secret.
fn public_forms() -> Vec<Vec<u8>> {
    let key = TestKey::rsa();
    let spki = key.spki();
    let body = STANDARD.encode(&spki);
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n");
    let modulus = URL_SAFE_NO_PAD.decode(key.jwk()["n"].as_str().unwrap());
    vec![
        spki,
        body.into_bytes(),
        pem.trim_end().as_bytes().to_vec(),
        pem.into_bytes(),
        key.jwk().to_string().into_bytes(),
        TestKey::jwks(&[key]).into_bytes(),
        modulus.unwrap(),
        key.kid().as_bytes().to_vec(),
        Vec::new(),
    ]
}

fn refuses_hmac(name: &str, algorithm: hmac::Algorithm) {
    let token = valid().header("alg", name).sign(TestKey::rsa());
    let (input, _) = token.rsplit_once('.').unwrap();
    for secret in public_forms() {
        let tag = hmac::sign(&hmac::Key::new(algorithm, &secret), input.as_bytes());
        let tag = URL_SAFE_NO_PAD.encode(tag.as_ref());
        unreadable(&format!("{input}.{tag}"), AlgorithmNotAllowed);
    }
}

#[test]
fn jwt_033_hs256_with_anything_public_as_secret() {
    refuses_hmac("HS256", hmac::HMAC_SHA256);
}

#[test]
fn jwt_034_hs384_and_hs512_likewise() {
    refuses_hmac("HS384", hmac::HMAC_SHA384);
    refuses_hmac("HS512", hmac::HMAC_SHA512);
}

#[test]
fn jwt_035_other_rsa_algorithms_with_the_right_key() {
    let others: [(&str, &'static RsaSignatureEncoding); 5] = [
        ("RS384", &RSA_PKCS1_SHA384),
        ("RS512", &RSA_PKCS1_SHA512),
        ("PS256", &RSA_PSS_SHA256),
        ("PS384", &RSA_PSS_SHA384),
        ("PS512", &RSA_PSS_SHA512),
    ];
    for (name, encoding) in others {
        let token = valid().header("alg", name).sign(TestKey::rsa());
        let (input, _) = token.rsplit_once('.').unwrap();
        let signature = TestKey::rsa().sign_rsa(encoding, input.as_bytes());
        let signature = URL_SAFE_NO_PAD.encode(signature);
        unreadable(&format!("{input}.{signature}"), AlgorithmNotAllowed);
        // Nor under the allowed name: the algorithm is more than its name.
        let token = valid().sign(TestKey::rsa());
        let (input, _) = token.rsplit_once('.').unwrap();
        let signature = TestKey::rsa().sign_rsa(encoding, input.as_bytes());
        is_no_rsa_signature(&signature);
    }
}

#[track_caller]
fn is_no_rsa_signature(signature: &[u8]) {
    let token = valid().sign(TestKey::rsa());
    let (input, _) = token.rsplit_once('.').unwrap();
    let forged = format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature));
    let expected = Refused::Verify(VerifyError::SignatureInvalid);
    assert_eq!(check_at(&forged, NOW).err(), Some(expected));
}

#[test]
fn jwt_039_rsa_signatures_out_of_range_or_of_a_wrong_length() {
    let modulus = URL_SAFE_NO_PAD.decode(TestKey::rsa().jwk()["n"].as_str().unwrap());
    let modulus = modulus.unwrap();
    let small = |value: u8| [&[0; 255][..], &[value]].concat();
    // The modulus is odd.
    let mut below = modulus.clone();
    below[255] -= 1;
    for signature in [
        small(0),
        small(1),
        small(2),
        below,
        modulus,
        vec![0xff; 256],
    ] {
        is_no_rsa_signature(&signature);
    }
    let token = valid().sign(TestKey::rsa());
    let (_, signature) = token.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    for wrong in [
        [&[0][..], &signature].concat(),
        [&signature[..], &[0]].concat(),
        signature[1..].to_vec(),
        signature[..255].to_vec(),
        signature[..1].to_vec(),
        [&signature[..], &signature].concat(),
    ] {
        is_no_rsa_signature(&wrong);
    }
}

/// A token's text up to its last dot, and the two halves of its signature.
fn ecdsa(key: &TestKey) -> (String, [u8; 32], [u8; 32]) {
    let token = valid().sign(key);
    let (input, signature) = token.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let (r, s) = signature.split_at(32);
    (
        input.to_owned(),
        r.try_into().unwrap(),
        s.try_into().unwrap(),
    )
}

/// An ASN.1 integer: no superfluous zero, and one more where the first bit would be a sign.
fn integer(number: &[u8]) -> Vec<u8> {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    let mut content = number[zeros..].to_vec();
    if content.first().is_some_and(|byte| *byte >= 0x80) {
        content.insert(0, 0);
    }
    [&[2, u8::try_from(content.len()).unwrap()][..], &content].concat()
}

#[test]
fn jwt_040_ecdsa_signatures_that_are_none() {
    let key = TestKey::ec();
    let keys = KeySet::parse(TestKey::jwks(&[&key]).as_bytes())
        .unwrap()
        .keys;
    let (input, r, s) = ecdsa(&key);
    let (zero, mut one) = ([0; 32], [0; 32]);
    one[31] = 1;
    let content = [integer(&r), integer(&s)].concat();
    let der = [&[0x30, u8::try_from(content.len()).unwrap()][..], &content].concat();
    for signature in [
        [zero, zero].concat(),
        [zero, s].concat(),
        [r, zero].concat(),
        [ORDER, s].concat(),
        [r, ORDER].concat(),
        [ORDER, ORDER].concat(),
        [one, one].concat(),
        [s, r].concat(),
        vec![0xff; 64],
        der,
        [&r[..], &s[1..]].concat(),
        [&r[..], &s, &[0]].concat(),
        [&[0][..], &r, &[0], &s].concat(),
        r.to_vec(),
    ] {
        let forged = format!("{input}.{}", URL_SAFE_NO_PAD.encode(&signature));
        let expected = Refused::Verify(VerifyError::SignatureInvalid);
        let refused = check_with(&forged, &keys, NOW).err();
        assert_eq!(refused, Some(expected), "{signature:02x?}");
    }
}

/// `ORDER` minus `number`.
fn complement(number: [u8; 32]) -> [u8; 32] {
    let mut borrow = 0;
    let mut difference = [0; 32];
    for at in (0..32).rev() {
        let digit = i16::from(ORDER[at]) - i16::from(number[at]) - borrow;
        borrow = i16::from(digit < 0);
        difference[at] = u8::try_from(digit.rem_euclid(256)).unwrap();
    }
    difference
}

#[test]
fn jwt_041_both_halves_of_the_curve_are_one_token() {
    let key = TestKey::ec();
    let keys = KeySet::parse(TestKey::jwks(&[&key]).as_bytes())
        .unwrap()
        .keys;
    let (input, r, s) = ecdsa(&key);
    let texts = [s, complement(s)].map(|s| {
        let signature = [r, s].concat();
        format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
    });
    assert_ne!(texts[0], texts[1]);
    let ids = texts.map(|text| {
        let token = check_with(&text, &keys, NOW).unwrap();
        json!([token.issuer().as_str(), token.id().unwrap().as_str()])
    });
    assert_eq!(ids[0], ids[1], "what tells tokens apart is not their text");
}

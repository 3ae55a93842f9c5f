use super::*;

/// The public vectors of base64url(SHA-256(DER SubjectPublicKeyInfo)) need the private keys of the RFCs' examples.
/// RFC 7515, appendix A.3.1.
const RFC7515_EC: &str = "-----BEGIN EC PRIVATE KEY-----
MHcCAQEEII6bEJ5xkJi/mASH3x9dd+nLKWBuvtImO19XwhPfhPSyoAoGCCqGSM49
AwEHoUQDQgAEf83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEXH8UTNG72b
focs3+257rn0s2ldbqkLJK2KRiMohYjlrQ==
-----END EC PRIVATE KEY-----
";

#[test]
fn key_001_kid_is_the_one_kube_apiserver_derives() {
    let key = SigningKey::from_pem(RFC7515_EC, Algorithm::Es256).unwrap();
    assert_eq!(
        key.key_id().as_str(),
        "K9G7DESol8MKeqCZHN442AYv5EHeUNoPRoJTRPYC6Cc"
    );
}

#[test]
fn generated_keys_come_back_from_their_pem() {
    for algorithm in [Algorithm::Es256, Algorithm::Rs256] {
        let key = SigningKey::generate(algorithm).unwrap();
        let pem = key.to_pem().unwrap();
        let again = SigningKey::from_pem(&pem, algorithm).unwrap();
        assert_eq!(key.key_id(), again.key_id());
        assert_eq!(key.public(), again.public());
    }
}

#[test]
fn disc_004_published_keys_have_only_the_members_aws_takes() {
    let members = |algorithm| {
        let key = SigningKey::generate(algorithm).unwrap();
        let jwk = serde_json::to_value(key.public()).unwrap();
        let mut names: Vec<String> = jwk.as_object().unwrap().keys().cloned().collect();
        names.sort();
        names.join(" ")
    };
    assert_eq!(members(Algorithm::Rs256), "alg e kid kty n use");
    assert_eq!(members(Algorithm::Es256), "alg crv kid kty use x y");
}

#[test]
fn key_004_keys_of_another_kind_are_refused() {
    let rsa = SigningKey::generate(Algorithm::Rs256).unwrap();
    let rsa = rsa.to_pem().unwrap();
    assert_eq!(
        SigningKey::from_pem(&rsa, Algorithm::Es256).err(),
        Some(KeyError::Rejected)
    );
    assert_eq!(
        SigningKey::from_pem(RFC7515_EC, Algorithm::Rs256).err(),
        Some(KeyError::AlgorithmMismatch { algorithm: "RS256" })
    );
}

#[test]
fn key_003_text_without_exactly_one_key_is_refused() {
    for text in ["", "no key", &format!("{RFC7515_EC}{RFC7515_EC}")] {
        assert_eq!(
            SigningKey::from_pem(text, Algorithm::Es256).err(),
            Some(KeyError::NotOneKey)
        );
    }
}

#[test]
fn key_006_debug_shows_no_key() {
    let key = SigningKey::generate(Algorithm::Es256).unwrap();
    let pem = key.to_pem().unwrap();
    let shown = format!("{key:?}");
    assert!(
        pem.lines()
            .all(|line| line.starts_with("---") || !shown.contains(line))
    );
}

#[test]
fn a_public_key_comes_back_from_its_text() {
    for algorithm in [Algorithm::Es256, Algorithm::Rs256] {
        let key = SigningKey::generate(algorithm).unwrap();
        let text = serde_json::to_string(key.public()).unwrap();
        assert_eq!(PublicJwk::parse(&text).as_ref(), Ok(key.public()));
    }
}

#[test]
fn key_012_a_text_with_a_private_member_is_no_public_key() {
    let key = SigningKey::generate(Algorithm::Rs256).unwrap();
    let mut jwk = serde_json::to_value(key.public()).unwrap();
    jwk["d"] = "AQAB".into();
    assert_eq!(
        PublicJwk::parse(&jwk.to_string()).err(),
        Some(KeyError::NoPublicKey)
    );
}

/// Keys that everybody knows: see the folder's README.
macro_rules! pem {
    ($name:literal) => {
        include_str!(concat!("keys/", $name, ".pem"))
    };
}

#[test]
fn key_003_every_documented_form_of_pem_is_read() {
    let rsa = SigningKey::from_pem(pem!("rsa2048-pkcs8"), Algorithm::Rs256).unwrap();
    let ec = SigningKey::from_pem(pem!("p256-pkcs8"), Algorithm::Es256).unwrap();
    let with_crlf = pem!("p256-sec1").replace('\n', "\r\n");
    let with_text = format!("# made by hand\n{}\nkept in a safe\n", pem!("p256-sec1"));
    let with_mark = format!("\u{feff}{}", pem!("p256-sec1"));
    let forms = [
        (pem!("rsa2048-pkcs1"), Algorithm::Rs256, &rsa),
        (pem!("p256-sec1"), Algorithm::Es256, &ec),
        (&with_crlf, Algorithm::Es256, &ec),
        (&with_text, Algorithm::Es256, &ec),
        (&with_mark, Algorithm::Es256, &ec),
    ];
    for (text, algorithm, expected) in forms {
        let key = SigningKey::from_pem(text, algorithm).unwrap();
        assert_eq!(key.key_id(), expected.key_id());
    }
    // What `openssl ecparam -genkey` writes has a section more.
    let with_parameters = pem!("p256-sec1-with-parameters");
    assert!(SigningKey::from_pem(with_parameters, Algorithm::Es256).is_ok());
}

#[test]
fn key_003_what_is_no_private_key_is_refused() {
    let both = format!("{}{}", pem!("p256-sec1"), pem!("rsa2048-pkcs8"));
    for text in [
        pem!("p256-encrypted"),
        pem!("certificate"),
        &both,
        "",
        "-----BEGIN PRIVATE KEY-----",
    ] {
        let refused = SigningKey::from_pem(text, Algorithm::Es256).err();
        assert_eq!(refused, Some(KeyError::NotOneKey), "{text}");
    }
}

#[test]
fn key_004_weak_and_foreign_keys_are_refused() {
    let keys = [
        (pem!("rsa1024"), Algorithm::Rs256),
        (pem!("rsa2048-e3"), Algorithm::Rs256),
        (pem!("p224"), Algorithm::Es256),
        (pem!("p384"), Algorithm::Es256),
        (pem!("secp256k1"), Algorithm::Es256),
        (pem!("ed25519"), Algorithm::Es256),
    ];
    for (text, algorithm) in keys {
        let refused = SigningKey::from_pem(text, algorithm).err();
        assert_eq!(refused, Some(KeyError::Rejected), "{text}");
    }
}

#[test]
fn key_001_made_keys_are_of_2048_bits_and_no_two_are_alike() {
    let made = || SigningKey::generate(Algorithm::Rs256).unwrap();
    let (first, second) = (made(), made());
    assert_ne!(first.key_id(), second.key_id());
    let jwk = serde_json::to_value(first.public()).unwrap();
    assert_eq!(jwk["e"], "AQAB");
    let modulus = URL_SAFE_NO_PAD.decode(jwk["n"].as_str().unwrap()).unwrap();
    assert_eq!(modulus.len(), 256);
}

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

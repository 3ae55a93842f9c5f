//! Reading a JWK Set (RFC 7517, section 5) that another issuer serves.

use std::collections::{BTreeMap, HashMap};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use thiserror::Error;

use super::{Algorithm, KeySet, VerificationKey};
use crate::ident::KeyId;
use crate::strict_json::StrictJson;

/// The largest document looked at, in bytes.
pub const LARGEST_JWKS: usize = 1 << 20;

/// The most keys that are used of one set; AWS reads no more of ours either.
const MOST_KEYS: usize = 100;

/// Why a whole key set is refused. The previous one stays in use.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum KeySetError {
    /// Two different keys have one id: whoever signs with one could pass for the other.
    #[error("two different keys have the kid {key_id:?}")]
    DuplicateKeyId {
        /// The id, as the document has it.
        key_id: String,
    },
    /// Not a JSON object with an array `keys` of objects.
    #[error("document is not a JWK Set")]
    Malformed,
    /// No key of the set can be used.
    #[error("no key in the set can be used")]
    NoUsableKey,
    /// The set holds a private or symmetric key, so nobody knows who can sign with it.
    #[error("set holds private or symmetric key material")]
    SecretKey,
    /// More than 1 MiB.
    #[error("document is larger than {LARGEST_JWKS} bytes")]
    TooLarge,
}

/// A key that was left out, and why.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DroppedKey {
    /// The key's `kid`, if it has one.
    pub key_id: Option<String>,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// A key set, and what was left out of it.
#[derive(Clone, Debug)]
pub struct ParsedKeySet {
    /// The keys that can be used.
    pub keys: KeySet,
    /// The keys that cannot; an operator wants to see them. Keys of a type we do not know are not listed: they are no fault.
    pub dropped: Vec<DroppedKey>,
}

impl KeySet {
    /// Parses a JWK Set.
    ///
    /// # Errors
    /// [`KeySetError`] when the set as a whole cannot be trusted or used.
    pub fn parse(document: &[u8]) -> Result<ParsedKeySet, KeySetError> {
        if document.len() > LARGEST_JWKS {
            return Err(KeySetError::TooLarge);
        }
        let root = StrictJson::parse(document).or(Err(KeySetError::Malformed))?;
        let entries = root
            .as_object()
            .and_then(|members| members.get("keys")?.as_array());
        let mut keys = HashMap::new();
        let mut dropped = Vec::new();
        let mut seen = HashMap::new();
        for entry in entries.ok_or(KeySetError::Malformed)? {
            let jwk = entry.as_object().ok_or(KeySetError::Malformed)?;
            refuse_secrets(jwk)?;
            refuse_second(&mut seen, jwk)?;
            match parse_key(jwk) {
                Outcome::Drop(reason) => dropped.push(DroppedKey {
                    key_id: text(jwk, "kid"),
                    reason,
                }),
                Outcome::Ignore => {}
                Outcome::Use(_, _) if keys.len() >= MOST_KEYS => {
                    dropped.push(DroppedKey {
                        key_id: text(jwk, "kid"),
                        reason: "more than 100 keys",
                    });
                }
                Outcome::Use(id, key) => drop(keys.insert(id, key)),
            }
        }
        if keys.is_empty() {
            return Err(KeySetError::NoUsableKey);
        }
        Ok(ParsedKeySet {
            keys: Self { keys },
            dropped,
        })
    }
}

enum Outcome {
    Drop(&'static str),
    Ignore,
    Use(KeyId, VerificationKey),
}

type Jwk = BTreeMap<String, StrictJson>;

fn text(jwk: &Jwk, name: &str) -> Option<String> {
    jwk.get(name)
        .and_then(StrictJson::as_text)
        .map(str::to_owned)
}

fn refuse_secrets(jwk: &Jwk) -> Result<(), KeySetError> {
    const PRIVATE: [&str; 8] = ["d", "dp", "dq", "k", "oth", "p", "q", "qi"];
    let symmetric = text(jwk, "kty").as_deref() == Some("oct");
    if symmetric || PRIVATE.iter().any(|name| jwk.contains_key(*name)) {
        return Err(KeySetError::SecretKey);
    }
    Ok(())
}

/// A `kid` may stand twice only with the very same key.
fn refuse_second<'a>(
    seen: &mut HashMap<&'a str, &'a Jwk>,
    jwk: &'a Jwk,
) -> Result<(), KeySetError> {
    let Some(id) = jwk.get("kid").and_then(StrictJson::as_text) else {
        return Ok(());
    };
    match seen.insert(id, jwk) {
        Some(first) if first != jwk => Err(KeySetError::DuplicateKeyId {
            key_id: id.to_owned(),
        }),
        Some(_) | None => Ok(()),
    }
}

fn parse_key(jwk: &Jwk) -> Outcome {
    let Some(id) = jwk
        .get("kid")
        .and_then(StrictJson::as_text)
        .and_then(|id| KeyId::parse(id).ok())
    else {
        return Outcome::Drop("no kid, or one that is not 1 to 128 printable characters");
    };
    if jwk
        .get("use")
        .is_some_and(|usage| usage.as_text() != Some("sig"))
    {
        return Outcome::Drop("use is not sig");
    }
    if jwk.get("key_ops").is_some_and(|ops| !allows_verify(ops)) {
        return Outcome::Drop("key_ops does not allow verify");
    }
    let parsed = match text(jwk, "kty").as_deref() {
        Some("EC") if text(jwk, "crv").as_deref() == Some("P-256") => parse_p256(jwk),
        Some("RSA") => parse_rsa(jwk),
        Some(_) | None => return Outcome::Ignore,
    };
    match parsed {
        Ok(key) => match text(jwk, "alg") {
            Some(name) if name != key.algorithm.name() => {
                Outcome::Drop("alg does not fit the key or is not allowed")
            }
            Some(_) | None => Outcome::Use(id, key),
        },
        Err(reason) => Outcome::Drop(reason),
    }
}

fn allows_verify(ops: &StrictJson) -> bool {
    ops.as_array()
        .is_some_and(|ops| ops.iter().any(|op| op.as_text() == Some("verify")))
}

fn decoded(jwk: &Jwk, name: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(jwk.get(name)?.as_text()?).ok()
}

/// An RSA key (RFC 7518, section 6.3.1) of 2048 to 8192 bits with the exponent 65537, which is the only one in use.
fn parse_rsa(jwk: &Jwk) -> Result<VerificationKey, &'static str> {
    let (Some(n), Some(e)) = (decoded(jwk, "n"), decoded(jwk, "e")) else {
        return Err("n or e is missing or not base64url");
    };
    if e != [1, 0, 1] {
        return Err("RSA exponent is not 65537");
    }
    if !(256..=1024).contains(&n.len()) || n.first().is_none_or(|byte| *byte < 0x80) {
        return Err("RSA modulus is not of 2048 to 8192 bits");
    }
    if n.last().is_none_or(|byte| byte % 2 == 0) {
        return Err("RSA modulus is even");
    }
    Ok(VerificationKey {
        algorithm: Algorithm::Rs256,
        key: DecodingKey::from_rsa_raw_components(&n, &e),
    })
}

/// A P-256 key (RFC 7518, section 6.2.1). That the point lies on the curve is checked here, not at the first token.
fn parse_p256(jwk: &Jwk) -> Result<VerificationKey, &'static str> {
    let (Some(x), Some(y)) = (decoded(jwk, "x"), decoded(jwk, "y")) else {
        return Err("x or y is missing or not base64url");
    };
    if x.len() != 32 || y.len() != 32 {
        return Err("EC coordinates are not of 32 bytes");
    }
    let point = [&[4_u8][..], &x, &y].concat();
    let curve = &aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED;
    if aws_lc_rs::signature::ParsedPublicKey::new(curve, &point).is_err() {
        return Err("EC point is not on the curve");
    }
    Ok(VerificationKey {
        algorithm: Algorithm::Es256,
        key: DecodingKey::from_ec_der(&point),
    })
}

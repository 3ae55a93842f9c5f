//! The only place that reads a token whose signature was not checked.
//!
//! From here, issuer, key id and algorithm can be had, since keys are chosen by them. The claims come out through
//! [`UnverifiedToken::into_signed_claims`] alone, and that checks the signature.

use std::collections::BTreeMap;
use std::fmt;

use super::{LONGEST_HEADER, ParseTokenError, Segments, decode_base64url, parse_object};
use crate::ident::{Issuer, KeyId};
use crate::keys::{Algorithm, KeySet};
use crate::strict_json::StrictJson;
use crate::verify::VerifyError;

/// A well-formed token that nobody has vouched for.
pub struct UnverifiedToken {
    jws: Jws,
    unverified_issuer: Issuer,
    unverified_claims: BTreeMap<String, StrictJson>,
}

impl fmt::Debug for UnverifiedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UnverifiedToken")
    }
}

impl UnverifiedToken {
    pub(super) fn parse(text: &str) -> Result<Self, ParseTokenError> {
        let (jws, unverified_payload) = Jws::parse(text)?;
        let unverified_claims = parse_object(&unverified_payload)?;
        let issuer = unverified_claims.get("iss").and_then(StrictJson::as_text);
        let unverified_issuer = issuer
            .and_then(|text| Issuer::parse(text).ok())
            .ok_or(ParseTokenError::Malformed)?;
        Ok(Self {
            jws,
            unverified_issuer,
            unverified_claims,
        })
    }

    /// The issuer the token claims: good for choosing a key set, and for nothing else.
    pub fn unverified_issuer(&self) -> &Issuer {
        &self.unverified_issuer
    }

    /// The key the token claims to be signed with.
    pub fn key_id(&self) -> &KeyId {
        &self.jws.key_id
    }

    /// The claims, once a key of `keys` has been found to have signed them.
    pub(crate) fn into_signed_claims(
        self,
        keys: &KeySet,
    ) -> Result<BTreeMap<String, StrictJson>, VerifyError> {
        self.jws.verify(keys)?;
        Ok(self.unverified_claims)
    }
}

/// A compact JWS (RFC 7515) with a header that we follow, whatever its payload is.
struct Jws {
    key_id: KeyId,
    algorithm: Algorithm,
    signing_input: String,
    signature: String,
}

impl Jws {
    /// The JWS and its payload, which nobody has vouched for.
    fn parse(text: &str) -> Result<(Self, Vec<u8>), ParseTokenError> {
        let segments = Segments::split(text)?;
        let (algorithm, key_id) = parse_header(segments.header)?;
        let unverified_payload = decode_base64url(segments.payload)?;
        // Padding, another alphabet and set trailing bits are all refused here: one token has one spelling.
        if decode_base64url(segments.signature)?.is_empty() {
            return Err(ParseTokenError::Malformed);
        }
        let jws = Self {
            key_id,
            algorithm,
            signing_input: segments.signing_input.to_owned(),
            signature: segments.signature.to_owned(),
        };
        Ok((jws, unverified_payload))
    }

    /// The header's algorithm must be the one the key is for; it never chooses how the signature is checked (RFC 8725, section 3.1).
    fn verify(&self, keys: &KeySet) -> Result<(), VerifyError> {
        let key = keys.find(&self.key_id).ok_or(VerifyError::KeyUnknown)?;
        if key.algorithm() != self.algorithm {
            return Err(VerifyError::AlgorithmNotAllowed);
        }
        if key.has_signed(&self.signing_input, &self.signature) {
            Ok(())
        } else {
            Err(VerifyError::SignatureInvalid)
        }
    }
}

/// Header members that would make a reader fetch a key, take one from the token, or read the token in another way. `nonce` is ACME's
/// (RFC 8555, section 6.5.2): kube-apiserver refuses some that we would not look at.
const FORBIDDEN: [&str; 12] = [
    "b64", "crit", "cty", "enc", "jku", "jwk", "nonce", "x5c", "x5t", "x5t#S256", "x5u", "zip",
];

/// Algorithm and key id of a JOSE header (RFC 7515, section 4.1). Kubernetes sends no `typ`, others send `JWT`.
fn parse_header(segment: &str) -> Result<(Algorithm, KeyId), ParseTokenError> {
    let text = decode_base64url(segment)?;
    if text.len() > LONGEST_HEADER {
        return Err(ParseTokenError::TooLarge);
    }
    let header = parse_object(&text)?;
    if FORBIDDEN.iter().any(|name| header.contains_key(*name)) {
        return Err(ParseTokenError::HeaderForbidden);
    }
    if header
        .get("typ")
        .is_some_and(|typ| typ.as_text() != Some("JWT"))
    {
        return Err(ParseTokenError::HeaderForbidden);
    }
    let algorithm = header
        .get("alg")
        .and_then(StrictJson::as_text)
        .ok_or(ParseTokenError::Malformed)?;
    let algorithm = Algorithm::parse(algorithm).ok_or(ParseTokenError::AlgorithmNotAllowed)?;
    let key_id = header.get("kid").ok_or(ParseTokenError::KeyIdMissing)?;
    let key_id = key_id.as_text().and_then(|text| KeyId::parse(text).ok());
    Ok((algorithm, key_id.ok_or(ParseTokenError::Malformed)?))
}

#[cfg(test)]
#[path = "unverified/wycheproof.rs"]
mod wycheproof;

//! The documents by which relying parties learn an issuer's keys.

use serde::Serialize;

use crate::ident::Issuer;
use crate::sign::PublicJwk;

/// An OpenID provider's metadata (OpenID Connect Discovery 1.0, section 3), as far as it is true of an issuer that has no users.
#[derive(Clone, Debug, Serialize)]
pub struct Discovery {
    issuer: String,
    jwks_uri: String,
    /// Required by OpenID discovery. Nobody can be sent there, which Kubernetes' own issuers say with this URN too.
    authorization_endpoint: &'static str,
    response_types_supported: [&'static str; 1],
    subject_types_supported: [&'static str; 1],
    id_token_signing_alg_values_supported: Vec<String>,
    claims_supported: [&'static str; 10],
}

impl Discovery {
    /// The metadata of an issuer whose keys are served at `<issuer>/certs`.
    pub fn new(issuer: &Issuer, keys: &[PublicJwk]) -> Self {
        let mut algorithms: Vec<String> =
            keys.iter().map(|key| key.algorithm().to_owned()).collect();
        algorithms.sort();
        algorithms.dedup();
        Self {
            issuer: issuer.as_str().to_owned(),
            jwks_uri: format!("{issuer}/certs"),
            authorization_endpoint: "urn:kubernetes:programmatic_authorization",
            response_types_supported: ["id_token"],
            subject_types_supported: ["public"],
            id_token_signing_alg_values_supported: algorithms,
            claims_supported: [
                "iss",
                "sub",
                "aud",
                "exp",
                "iat",
                "nbf",
                "jti",
                "cluster",
                "namespace",
                "saname",
            ],
        }
    }
}

/// A JWK Set (RFC 7517, section 5).
#[derive(Clone, Debug, Serialize)]
pub struct Jwks {
    keys: Vec<PublicJwk>,
}

impl Jwks {
    /// The set of these keys.
    pub fn new(keys: Vec<PublicJwk>) -> Self {
        Self { keys }
    }
}

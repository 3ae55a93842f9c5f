//! The documents by which relying parties learn an issuer's keys.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;

use crate::ident::{Issuer, KeyId};
use crate::sign::PublicJwk;

/// An issuer's two documents, as they are served and published: to the byte the same everywhere.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct IssuerDocuments {
    /// The discovery document (OpenID Connect Discovery 1.0, section 4), pretty-printed JSON.
    pub discovery: String,
    /// The JWK Set (RFC 7517, section 5), JSON.
    pub jwks: String,
    /// The keys in it.
    pub key_ids: BTreeSet<KeyId>,
}

impl IssuerDocuments {
    /// Where the discovery document is, behind the issuer.
    pub const DISCOVERY_PATH: &'static str = "/.well-known/openid-configuration";
    /// Where the JWK Set is, behind the issuer.
    pub const JWKS_PATH: &'static str = "/certs";

    /// Writes the documents of an issuer with these keys. They hold nothing but what [`PublicJwk`] has: no private member can get in.
    ///
    /// # Errors
    /// None that is known: there are only texts to write.
    pub fn render(issuer: &Issuer, keys: &[PublicJwk]) -> Result<Self, serde_json::Error> {
        let ids = keys
            .iter()
            .filter_map(|key| KeyId::parse(key.key_id()).ok());
        Ok(Self {
            discovery: serde_json::to_string_pretty(&Discovery::new(issuer, keys))?,
            jwks: serde_json::to_string(&Jwks { keys })?,
            key_ids: ids.collect(),
        })
    }
}

/// A strong entity tag for a document (RFC 9110, section 8.8.3): equal for equal bytes, whichever replica serves them.
pub fn entity_tag(document: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, document);
    format!("\"{}\"", URL_SAFE_NO_PAD.encode(digest.as_ref()))
}

/// An OpenID provider's metadata (OpenID Connect Discovery 1.0, section 3), as far as it is true of an issuer that has no users.
#[derive(Serialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
    /// Required by OpenID discovery. Nobody can be sent there, which Kubernetes' own issuers say with this URN too.
    authorization_endpoint: &'static str,
    response_types_supported: [&'static str; 1],
    subject_types_supported: [&'static str; 1],
    id_token_signing_alg_values_supported: BTreeSet<&'static str>,
    claims_supported: [&'static str; 10],
}

impl Discovery {
    fn new(issuer: &Issuer, keys: &[PublicJwk]) -> Self {
        Self {
            issuer: issuer.as_str().to_owned(),
            jwks_uri: format!("{issuer}{}", IssuerDocuments::JWKS_PATH),
            authorization_endpoint: "urn:kubernetes:programmatic_authorization",
            response_types_supported: ["id_token"],
            subject_types_supported: ["public"],
            id_token_signing_alg_values_supported: keys.iter().map(PublicJwk::algorithm).collect(),
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
#[derive(Serialize)]
struct Jwks<'a> {
    keys: &'a [PublicJwk],
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Algorithm;
    use crate::sign::SigningKey;

    #[test]
    fn disc_006_discovery_advertises_only_what_exists_and_nothing_twice() {
        let keys = [Algorithm::Es256, Algorithm::Rs256, Algorithm::Es256]
            .map(|algorithm| SigningKey::generate(algorithm).unwrap().public().clone());
        let issuer = Issuer::parse("https://issuer.example.com/a").unwrap();
        let documents = IssuerDocuments::render(&issuer, &keys).unwrap();
        let discovery: serde_json::Value = serde_json::from_str(&documents.discovery).unwrap();
        let members: Vec<&String> = discovery.as_object().unwrap().keys().collect();
        assert_eq!(
            members,
            [
                "authorization_endpoint",
                "claims_supported",
                "id_token_signing_alg_values_supported",
                "issuer",
                "jwks_uri",
                "response_types_supported",
                "subject_types_supported",
            ]
        );
        assert_eq!(
            discovery["id_token_signing_alg_values_supported"],
            serde_json::json!(["ES256", "RS256"])
        );
        assert_eq!(discovery["issuer"], issuer.as_str());
        assert_eq!(discovery["jwks_uri"], "https://issuer.example.com/a/certs");
    }

    #[test]
    fn disc_008_each_key_has_an_id_and_no_two_share_one() {
        let key = SigningKey::generate(Algorithm::Es256).unwrap();
        let other = SigningKey::generate(Algorithm::Rs256).unwrap();
        let issuer = Issuer::parse("https://issuer.example.com").unwrap();
        let keys = [key.public().clone(), other.public().clone()];
        let documents = IssuerDocuments::render(&issuer, &keys).unwrap();
        assert_eq!(documents.key_ids.len(), 2);
        assert!(documents.key_ids.contains(key.key_id()));
    }

    #[test]
    fn disc_007_a_tag_is_strong_and_changes_with_the_document() {
        let tag = entity_tag(b"a");
        assert!(tag.starts_with('"') && tag.ends_with('"'), "{tag}");
        assert_eq!(tag, entity_tag(b"a"));
        assert_ne!(tag, entity_tag(b"b"));
    }
}

//! What of an issuer may be published, and nothing else: its discovery document and its key set, each with the members that the standards
//! define as public.
//!
//! [`Publication`] is made here alone, of documents that were looked at member by member; whoever carries documents outside takes no other
//! type. A document that holds anything more is not trimmed and published: it ends the publication, since nobody knows what else is wrong.

mod cluster;

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::ident::Issuer;
use crate::keys::{KeySet, KeySetError};

pub use cluster::{Absences, ClusterDocuments, KeySetPlace};

/// Two public documents of one issuer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Publication {
    // Invariant: both have public members alone, and the discovery document names the issuer and a place under it.
    discovery: String,
    key_set: String,
    key_set_path: String,
}

/// Why documents are not published.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum NotPublic {
    /// The discovery document has a member that is unknown here, twice there, or of the wrong kind.
    #[error(
        "discovery document has something that is not known to be public, or lacks what it must have"
    )]
    Discovery,
    /// The discovery document is another issuer's.
    #[error("discovery document says issuer {found:?} instead of {expected}")]
    ForeignIssuer {
        /// What it says.
        found: String,
        /// Whose it should be.
        expected: Issuer,
    },
    /// The discovery document sends relying parties elsewhere.
    #[error("discovery document's jwks_uri {found:?} does not lie under the issuer {issuer}")]
    ForeignKeySet {
        /// Where it sends them.
        found: String,
        /// Under what it should be.
        issuer: Issuer,
    },
    /// The key set has a member that is unknown here, twice there, or of the wrong kind.
    #[error("key set has something that is not known to be public, or lacks what it must have")]
    KeySet,
    /// A document has a private key in it, in whatever form.
    #[error("a document holds private key material")]
    PrivateKey,
    /// The key set cannot be used by anybody.
    #[error("key set cannot be used")]
    Unusable(#[source] KeySetError),
}

impl NotPublic {
    /// The stable code for metrics and logs.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Discovery => "discovery_not_public",
            Self::ForeignIssuer { .. } => "foreign_issuer",
            Self::ForeignKeySet { .. } => "foreign_key_set",
            Self::KeySet => "key_set_not_public",
            Self::PrivateKey => "private_key",
            Self::Unusable(_) => "key_set_unusable",
        }
    }
}

impl Publication {
    /// Where the discovery document lies behind the issuer, without the first slash.
    pub const DISCOVERY_PATH: &'static str = ".well-known/openid-configuration";

    /// The documents of an issuer as they are, if they may be published.
    ///
    /// # Errors
    /// [`NotPublic`].
    pub fn of(issuer: &Issuer, discovery: &str, key_set: &str) -> Result<Self, NotPublic> {
        refuse_private_keys(discovery, key_set)?;
        read_exactly(key_set)
            .filter(has_distinct_ids)
            .ok_or(NotPublic::KeySet)?;
        let read: PublicDiscovery = read_exactly(discovery).ok_or(NotPublic::Discovery)?;
        let key_set_path = path_under(issuer, &read.issuer, &read.jwks_uri)?;
        Ok(Self {
            discovery: discovery.to_owned(),
            key_set: key_set.to_owned(),
            key_set_path,
        })
    }

    /// The discovery document.
    pub fn discovery(&self) -> &str {
        &self.discovery
    }

    /// The key set.
    pub fn key_set(&self) -> &str {
        &self.key_set
    }

    /// The ids of the keys in it.
    pub fn key_ids(&self) -> Vec<String> {
        let set = serde_json::from_str::<PublicKeySet>(&self.key_set);
        let keys = set.map(|set| set.keys).unwrap_or_default();
        keys.into_iter().map(|key| key.kid).collect()
    }

    /// Where it lies behind the issuer, without the first slash.
    pub fn key_set_path(&self) -> &str {
        &self.key_set_path
    }
}

/// A public key's members (RFC 7517, section 4; RFC 7518, section 6), all of them texts.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct PublicKey {
    kty: String,
    kid: String,
    #[serde(rename = "use", skip_serializing_if = "Option::is_none")]
    usage: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alg: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    crv: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    x: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    y: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    n: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    e: Option<String>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct PublicKeySet {
    keys: Vec<PublicKey>,
}

/// An OpenID provider's metadata, as far as an issuer without users has any (OpenID Connect Discovery 1.0, section 3).
#[derive(Clone, Debug, Deserialize, Serialize)]
struct PublicDiscovery {
    issuer: String,
    jwks_uri: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    authorization_endpoint: Option<String>,
    response_types_supported: Vec<String>,
    subject_types_supported: Vec<String>,
    id_token_signing_alg_values_supported: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    claims_supported: Option<Vec<String>>,
}

/// Reads a document that has what `T` writes and nothing else.
fn read_exactly<T: DeserializeOwned + Serialize>(text: &str) -> Option<T> {
    let whole: serde_json::Value = serde_json::from_str(text).ok()?;
    let read: T = serde_json::from_str(text).ok()?;
    (serde_json::to_value(&read).ok()? == whole).then_some(read)
}

/// Each key has an id, and no two have one.
fn has_distinct_ids(set: &PublicKeySet) -> bool {
    let ids: BTreeSet<&str> = set.keys.iter().map(|key| key.kid.as_str()).collect();
    !ids.is_empty() && !ids.contains("") && ids.len() == set.keys.len()
}

/// Whatever else is looked at, this comes first: a private key must not even be part of a text that passes.
fn refuse_private_keys(discovery: &str, key_set: &str) -> Result<(), NotPublic> {
    // The label of every PEM form ends so (RFC 7468, sections 10 and 11; PKCS#1 and SEC1 as OpenSSL writes them).
    let pem = |text: &str| text.to_ascii_uppercase().contains("PRIVATE KEY");
    if pem(discovery) || pem(key_set) {
        return Err(NotPublic::PrivateKey);
    }
    match KeySet::parse(key_set.as_bytes()) {
        // Keys of kinds that we do not read ourselves are for others to judge.
        Ok(_) | Err(KeySetError::NoUsableKey) => Ok(()),
        Err(KeySetError::SecretKey) => Err(NotPublic::PrivateKey),
        Err(error) => Err(NotPublic::Unusable(error)),
    }
}

/// Where the key set lies behind the issuer.
fn path_under(issuer: &Issuer, found: &str, jwks_uri: &str) -> Result<String, NotPublic> {
    if found != issuer.as_str() {
        return Err(NotPublic::ForeignIssuer {
            found: found.to_owned(),
            expected: issuer.clone(),
        });
    }
    let path = jwks_uri
        .strip_prefix(issuer.as_str())
        .and_then(|path| path.strip_prefix('/'));
    match path {
        Some(path) if is_plain(path) => Ok(path.to_owned()),
        Some(_) | None => Err(NotPublic::ForeignKeySet {
            found: jwks_uri.to_owned(),
            issuer: issuer.clone(),
        }),
    }
}

/// Segments of letters, digits, `-`, `_` and `.`, none of which is `.` or `..`: the same object under every store's rules.
fn is_plain(path: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    path.split('/')
        .all(|segment| !matches!(segment, "" | "." | "..") && segment.bytes().all(inner))
}

#[cfg(test)]
mod tests;

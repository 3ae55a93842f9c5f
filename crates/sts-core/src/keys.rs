//! Public keys that tokens are checked against.

mod jwks;
pub mod ring;

use std::collections::HashMap;
use std::fmt;

use jsonwebtoken::DecodingKey;

pub use jwks::{DroppedKey, KeySetError, LARGEST_JWKS, ParsedKeySet};

use crate::ident::KeyId;

/// The signature algorithms of the allow-list (RFC 7518, section 3.1): what kube-apiserver signs with by default, and what AWS takes.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
}

impl Algorithm {
    /// The algorithm of that name, if it is on the allow-list. Names are case-sensitive.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "ES256" => Some(Self::Es256),
            "RS256" => Some(Self::Rs256),
            _ => None,
        }
    }

    /// The name in a JOSE header.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Rs256 => "RS256",
        }
    }

    const fn as_jsonwebtoken(self) -> jsonwebtoken::Algorithm {
        match self {
            Self::Es256 => jsonwebtoken::Algorithm::ES256,
            Self::Rs256 => jsonwebtoken::Algorithm::RS256,
        }
    }
}

/// A public key and the one algorithm it is used with.
#[derive(Clone)]
pub struct VerificationKey {
    algorithm: Algorithm,
    key: DecodingKey,
}

impl VerificationKey {
    /// The algorithm, fixed by the key's type.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub(crate) fn has_signed(&self, signing_input: &str, signature: &str) -> bool {
        let algorithm = self.algorithm.as_jsonwebtoken();
        jsonwebtoken::crypto::verify(signature, signing_input.as_bytes(), &self.key, algorithm)
            .unwrap_or(false)
    }
}

impl fmt::Debug for VerificationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerificationKey")
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

/// The public keys of one issuer, as a snapshot that never changes.
#[derive(Clone, Debug, Default)]
pub struct KeySet {
    keys: HashMap<KeyId, VerificationKey>,
}

impl KeySet {
    /// The key of that id: exact match, no fallback to other keys.
    pub fn find(&self, id: &KeyId) -> Option<&VerificationKey> {
        self.keys.get(id)
    }

    /// The ids of all keys.
    pub fn ids(&self) -> impl Iterator<Item = &KeyId> {
        self.keys.keys()
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

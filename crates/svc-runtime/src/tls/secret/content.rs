//! What is in the Secret: read once into types, written as one piece.
//!
//! | key | |
//! |---|---|
//! | `ca.crt` | the certificates that clients must trust: of the issuing CA, its successor, and the one before while it retires |
//! | `ca.key` | the issuing CA's key |
//! | `next-ca.key` | its successor's key, while there is one |
//! | `ca-links.crt` | the certificates of these CAs by those before them, if any: what old clients need to trust the new ones |
//! | `tls.crt`, `tls.key` | the serving certificate |
//!
//! Whose certificate of `ca.crt` is whose is told by the keys. Times are annotations ([`Marks`]), since people want to read them.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use rustls::sign::CertifiedKey;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::tls::authority::{Authority, AuthorityError};
use crate::tls::links::Links;
use crate::tls::pem::{CaBundle, CertificateError, KeyPairPem, LeafFacts};

/// Data and annotations of the Secret, keys included.
#[derive(Clone, Default)]
pub(super) struct Content {
    pub(super) data: BTreeMap<String, ByteString>,
    pub(super) annotations: BTreeMap<String, String>,
}

impl Content {
    /// The content of a Secret that was read.
    pub(super) fn of(secret: &Secret) -> Self {
        Self {
            data: secret.data.clone().unwrap_or_default(),
            annotations: secret.metadata.annotations.clone().unwrap_or_default(),
        }
    }

    /// The same Secret with this content, for the API server only.
    pub(super) fn put_into(self, secret: Secret) -> Secret {
        let Self { data, annotations } = self;
        let mut metadata = secret.metadata;
        metadata.annotations = Some(annotations);
        Secret {
            metadata,
            data: Some(data),
            string_data: None,
            ..secret
        }
    }

    /// This content with the state in place of its own; entries and annotations that are not ours stay.
    pub(super) fn with(&self, state: &State, story: String) -> Self {
        let Self {
            mut data,
            mut annotations,
        } = self.clone();
        let mut put = |key: &str, bytes: Option<&[u8]>| match bytes {
            Some(bytes) => drop(data.insert(key.to_owned(), ByteString(bytes.to_vec()))),
            None => drop(data.remove(key)),
        };
        let leaf = state.leaf.as_ref().map(|leaf| &leaf.pair);
        let next_key = state.next.as_ref().map(Authority::expose_key_pem);
        let links = state.links.bundle();
        put(CA_CRT, Some(state.bundle.as_pem().as_bytes()));
        put(CA_KEY, Some(&state.issuing.expose_key_pem()));
        put(NEXT_CA_KEY, next_key.as_ref().map(|key| key.as_slice()));
        put(
            CA_LINKS,
            links.as_ref().map(|links| links.as_pem().as_bytes()),
        );
        put(TLS_CRT, leaf.map(KeyPairPem::chain_pem));
        put(TLS_KEY, leaf.map(|pair| pair.expose_key_pem().as_slice()));
        state.marks.write(&mut annotations);
        annotations.insert(STORY.to_owned(), story);
        Self { data, annotations }
    }

    /// Reads the content: `None` if it holds no CA and no certificate.
    ///
    /// # Errors
    ///
    /// [`Refusal`] if it is damaged.
    pub(super) fn read(&self) -> Result<Option<State>, Refusal> {
        let authority = self.couple(CA_CRT, CA_KEY)?;
        let leaf = self.couple(TLS_CRT, TLS_KEY)?;
        let next = self.entry(NEXT_CA_KEY);
        let Some((bundle, key)) = authority else {
            return match (leaf, next) {
                (None, None) => Ok(None),
                (Some(_), _) | (None, Some(_)) => Err(Refusal::NoAuthority),
            };
        };
        let authority = |key: &[u8]| Authority::parse(bundle, &Zeroizing::new(key.to_vec()));
        let issuing = authority(key).map_err(Refusal::Authority)?;
        let next = next
            .map(authority)
            .transpose()
            .map_err(Refusal::NextAuthority)?;
        // Both keys are of one CA: nothing is left to do for the second.
        let next = next.filter(|next| next.certificate() != issuing.certificate());
        let links = self.entry(CA_LINKS).map(Links::parse);
        Ok(Some(State {
            bundle: CaBundle::parse(bundle)
                .map_err(|error| Refusal::Authority(AuthorityError::Certificate(error)))?,
            issuing,
            next,
            links: links
                .transpose()
                .map_err(Refusal::Links)?
                .unwrap_or_default(),
            leaf: leaf.map(Leaf::read).transpose()?,
            marks: Marks::read(&self.annotations),
        }))
    }

    /// What a person asks for by annotation, also of a Secret without data.
    pub(super) fn asked(&self) -> Option<String> {
        Marks::read(&self.annotations).asked
    }

    /// Two entries that belong together: both, none, or a refusal.
    fn couple(
        &self,
        first: &'static str,
        second: &'static str,
    ) -> Result<Option<Couple<'_>>, Refusal> {
        match (self.entry(first), self.entry(second)) {
            (Some(first), Some(second)) => Ok(Some((first, second))),
            (None, None) => Ok(None),
            (Some(_), None) => Err(Refusal::HalfWritten {
                present: first,
                missing: second,
            }),
            (None, Some(_)) => Err(Refusal::HalfWritten {
                present: second,
                missing: first,
            }),
        }
    }

    /// A Secret of type `kubernetes.io/tls` starts with empty entries, which count as none.
    fn entry(&self, key: &str) -> Option<&[u8]> {
        let bytes = self.data.get(key)?.0.as_slice();
        (!bytes.is_empty()).then_some(bytes)
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Content")
    }
}

/// Certificates and a key, as they stand in the Secret.
type Couple<'a> = (&'a [u8], &'a [u8]);

/// What the Secret says.
#[derive(Debug)]
pub(super) struct State {
    /// What clients must trust. Invariant: holds the certificates of `issuing` and `next`.
    pub(super) bundle: CaBundle,
    pub(super) issuing: Authority,
    pub(super) next: Option<Authority>,
    /// How clients of former CAs come to trust `issuing` and `next`.
    pub(super) links: Links,
    pub(super) leaf: Option<Leaf>,
    pub(super) marks: Marks,
}

/// The serving certificate, read.
#[derive(Debug)]
pub(super) struct Leaf {
    pub(super) pair: KeyPairPem,
    pub(super) certified: CertifiedKey,
    pub(super) facts: LeafFacts,
}

impl Leaf {
    fn read((chain, key): Couple<'_>) -> Result<Self, Refusal> {
        Self::parse(KeyPairPem::new(chain, Zeroizing::new(key.to_vec()))).map_err(Refusal::Leaf)
    }

    pub(super) fn parse(pair: KeyPairPem) -> Result<Self, CertificateError> {
        let (certified, facts) = pair.parse_at_any_time()?;
        Ok(Self {
            pair,
            certified,
            facts,
        })
    }
}

/// What the annotations say. One that is missing or nonsense is none: what it would end then takes longer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks {
    /// Since when the issuing CA issues.
    pub(super) issuing_since: Option<Timestamp>,
    /// Since when clients are known to find the successor.
    pub(super) published_at: Option<Timestamp>,
    /// Whatever a person wrote to ask for a rotation, and the last that was followed.
    pub(super) asked: Option<String>,
    pub(super) followed: Option<String>,
}

impl Marks {
    fn read(annotations: &BTreeMap<String, String>) -> Self {
        let text = |key| annotations.get(key).cloned();
        let time = |key| annotations.get(key)?.parse().ok();
        Self {
            issuing_since: time(ISSUING_SINCE),
            published_at: time(PUBLISHED_AT),
            asked: text(ROTATE),
            followed: text(ROTATED),
        }
    }

    fn write(&self, annotations: &mut BTreeMap<String, String>) {
        let Self {
            issuing_since,
            published_at,
            asked: _,
            followed,
        } = self;
        let mut put = |key: &str, value: Option<String>| match value {
            Some(value) => drop(annotations.insert(key.to_owned(), value)),
            None => drop(annotations.remove(key)),
        };
        put(ISSUING_SINCE, issuing_since.map(|at| format!("{at:.3}")));
        put(PUBLISHED_AT, published_at.map(|at| format!("{at:.3}")));
        put(ROTATED, followed.clone());
    }
}

/// Why the content of the Secret cannot be used. It is left as it is, for a person to look at.
#[derive(Debug, Error)]
pub enum Refusal {
    /// Of two entries that belong together only one is there.
    #[error("{missing} is missing beside {present}")]
    HalfWritten {
        /// The entry that is there.
        present: &'static str,
        /// The one that is not.
        missing: &'static str,
    },
    /// There is a certificate or a successor, but no CA.
    #[error("there is more, but ca.crt and ca.key are missing")]
    NoAuthority,
    /// The CA cannot be read, or its key is another CA's.
    #[error("ca.crt and ca.key are not usable")]
    Authority(#[source] AuthorityError),
    /// The CA's successor cannot be read, or its key is another CA's.
    #[error("ca.crt and next-ca.key are not usable")]
    NextAuthority(#[source] AuthorityError),
    /// The CA's time is over, and it has no successor. A new one is a decision for a person, since every client has to learn of it.
    #[error("the CA expired at {not_after}; to get a new one, remove the Secret's data")]
    AuthorityExpired {
        /// The CA's last second.
        not_after: Timestamp,
    },
    /// The links between CAs cannot be read.
    #[error("ca-links.crt is not usable")]
    Links(#[source] CertificateError),
    /// The certificate cannot be read, or its key is another certificate's.
    #[error("tls.crt and tls.key are not usable")]
    Leaf(#[source] CertificateError),
}

pub(super) const CA_CRT: &str = "ca.crt";
pub(super) const CA_KEY: &str = "ca.key";
pub(super) const NEXT_CA_KEY: &str = "next-ca.key";
pub(super) const CA_LINKS: &str = "ca-links.crt";
pub(super) const TLS_CRT: &str = "tls.crt";
pub(super) const TLS_KEY: &str = "tls.key";

/// Written by a person: any new value asks for a rotation.
pub(super) const ROTATE: &str = "sts.tremolo.io/rotate";
/// The value of the above that was followed last.
pub(super) const ROTATED: &str = "sts.tremolo.io/rotated";
pub(super) const ISSUING_SINCE: &str = "sts.tremolo.io/ca-issuing-since";
pub(super) const PUBLISHED_AT: &str = "sts.tremolo.io/next-ca-published-at";
/// Where the rotation stands and what it waits for, in a sentence. Read by people only.
pub(super) const STORY: &str = "sts.tremolo.io/rotation";

//! What to do with the content of the Secret. Pure: it reads no clock, and writes nothing.
//!
//! An existing CA is never replaced: clients trust it, and a new one made in silence would lock all of them out. Who wants a new CA
//! empties the Secret.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::tls::authority::{Authority, AuthorityError};
use crate::tls::pem::{CaBundle, CertificateError, KeyPairPem, LeafFacts};

/// What to do.
#[derive(Debug)]
pub(super) enum Decision {
    /// The content is good: present it, and look again at `renew_at`.
    Keep {
        pair: KeyPairPem,
        bundle: CaBundle,
        renew_at: Timestamp,
    },
    /// Write this content, then decide again on what was written. `meanwhile` is what can be presented until then.
    Fill {
        filled: Content,
        why: Why,
        meanwhile: Option<(KeyPairPem, CaBundle)>,
    },
    /// The content is damaged: leave it alone.
    Refuse(Refusal),
}

/// Content of the Secret, keys included.
pub(super) struct Content(BTreeMap<String, ByteString>);

impl Content {
    /// The content, for the API server only.
    pub(super) fn expose(self) -> BTreeMap<String, ByteString> {
        self.0
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Content")
    }
}

/// Why the Secret is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// There is nothing in it.
    Empty,
    /// There is a CA, but no certificate of it.
    NoLeaf,
    /// The certificate's names are not the ones we are called by.
    OtherNames,
    /// The certificate is past two thirds of its life, or past all of it.
    Aged,
    /// The certificate is of another CA: somebody replaced `ca.crt` and `ca.key`.
    OtherAuthority,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "it is empty",
            Self::NoLeaf => "it has a CA but no certificate",
            Self::OtherNames => "its certificate is for other names",
            Self::Aged => "its certificate is due for renewal",
            Self::OtherAuthority => "its certificate is not of its CA",
        })
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
    /// There is a certificate but no CA.
    #[error("there is a certificate, but ca.crt and ca.key are missing")]
    NoAuthority,
    /// The CA cannot be read, or its key is another CA's.
    #[error("ca.crt and ca.key are not usable")]
    Authority(#[source] AuthorityError),
    /// The CA's time is over. A new one is a decision for a person, since every client has to learn of it.
    #[error("the CA expired at {not_after}; to get a new one, remove the Secret's data")]
    AuthorityExpired {
        /// The CA's last second.
        not_after: Timestamp,
    },
    /// The certificate cannot be read, or its key is another certificate's.
    #[error("tls.crt and tls.key are not usable")]
    Leaf(#[source] CertificateError),
}

/// Decides on `data`, the Secret's content, at `now`. `name` is what a new CA is called, `dns_names` what the server is called.
///
/// # Errors
///
/// [`AuthorityError`] if a CA or a certificate is needed and cannot be made, such as without a DNS name.
pub(super) fn decide(
    data: &BTreeMap<String, ByteString>,
    name: &str,
    dns_names: &[String],
    now: Timestamp,
) -> Result<Decision, AuthorityError> {
    let (authority_pair, leaf_pair) =
        match (couple(data, CA_CRT, CA_KEY), couple(data, TLS_CRT, TLS_KEY)) {
            (Ok(authority), Ok(leaf)) => (authority, leaf),
            (Err(refusal), _) | (_, Err(refusal)) => return Ok(Decision::Refuse(refusal)),
        };
    let Some((bundle, key)) = authority_pair else {
        return if leaf_pair.is_none() {
            fill(
                data,
                &Authority::create(name, now)?,
                dns_names,
                now,
                Why::Empty,
            )
        } else {
            Ok(Decision::Refuse(Refusal::NoAuthority))
        };
    };
    let authority = match Authority::parse(bundle, &Zeroizing::new(key.to_vec())) {
        Ok(authority) if now < authority.not_after() => authority,
        Ok(expired) => {
            return Ok(Decision::Refuse(Refusal::AuthorityExpired {
                not_after: expired.not_after(),
            }));
        }
        Err(error) => return Ok(Decision::Refuse(Refusal::Authority(error))),
    };
    let Some((chain, key)) = leaf_pair else {
        return fill(data, &authority, dns_names, now, Why::NoLeaf);
    };
    let pair = KeyPairPem::new(chain, Zeroizing::new(key.to_vec()));
    let (certified, facts) = match pair.parse_at_any_time() {
        Ok(parsed) => parsed,
        Err(error) => return Ok(Decision::Refuse(Refusal::Leaf(error))),
    };
    match why_reissue(&certified, &facts, authority.bundle(), dns_names, now) {
        None => {
            let (bundle, renew_at) = (authority.bundle().clone(), facts.renew_at());
            Ok(Decision::Keep {
                pair,
                bundle,
                renew_at,
            })
        }
        Some(Why::Aged) => {
            let meanwhile = Some((pair, authority.bundle().clone()));
            Ok(Decision::Fill {
                filled: issue(data, &authority, dns_names, now)?,
                why: Why::Aged,
                meanwhile,
            })
        }
        Some(why) => fill(data, &authority, dns_names, now, why),
    }
}

/// A certificate and its key, as they stand in the Secret.
type Couple<'a> = (&'a [u8], &'a [u8]);

/// Two entries that belong together: both, none, or a refusal. A Secret of type `kubernetes.io/tls` starts with empty entries, which
/// count as none.
fn couple<'a>(
    data: &'a BTreeMap<String, ByteString>,
    first: &'static str,
    second: &'static str,
) -> Result<Option<Couple<'a>>, Refusal> {
    let entry = |key| {
        data.get(key)
            .map(|bytes| bytes.0.as_slice())
            .filter(|bytes| !bytes.is_empty())
    };
    match (entry(first), entry(second)) {
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

fn fill(
    data: &BTreeMap<String, ByteString>,
    authority: &Authority,
    dns_names: &[String],
    now: Timestamp,
    why: Why,
) -> Result<Decision, AuthorityError> {
    Ok(Decision::Fill {
        filled: issue(data, authority, dns_names, now)?,
        why,
        meanwhile: None,
    })
}

/// The old content with the CA and a new certificate of it; entries that are not ours stay.
fn issue(
    data: &BTreeMap<String, ByteString>,
    authority: &Authority,
    dns_names: &[String],
    now: Timestamp,
) -> Result<Content, AuthorityError> {
    let pair = authority.issue(dns_names, now)?;
    let mut filled = data.clone();
    let mut put =
        |key: &str, bytes: &[u8]| filled.insert(key.to_owned(), ByteString(bytes.to_vec()));
    put(CA_CRT, authority.bundle().as_pem().as_bytes());
    put(CA_KEY, &authority.expose_key_pem());
    put(TLS_CRT, pair.chain_pem());
    put(TLS_KEY, pair.expose_key_pem());
    Ok(Content(filled))
}

fn why_reissue(
    certified: &CertifiedKey,
    facts: &LeafFacts,
    bundle: &CaBundle,
    dns_names: &[String],
    now: Timestamp,
) -> Option<Why> {
    let mut wanted = dns_names.to_vec();
    wanted.sort_unstable();
    if facts.dns_names != wanted {
        return Some(Why::OtherNames);
    }
    if now >= facts.renew_at() {
        return Some(Why::Aged);
    }
    let trusted = dns_names
        .first()
        .is_some_and(|name| is_trusted(certified, bundle, name, facts.not_before));
    if trusted {
        None
    } else {
        Some(Why::OtherAuthority)
    }
}

/// Whether a client that trusts `bundle` accepts the certificate, judged at a time when the certificate itself is valid.
fn is_trusted(certified: &CertifiedKey, bundle: &CaBundle, name: &str, at: Timestamp) -> bool {
    let verify = || {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(bundle.certificates().ok()?);
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .ok()?;
        let (leaf, chain): (&CertificateDer<'_>, _) = certified.cert.split_first()?;
        let name = ServerName::try_from(name).ok()?;
        let at =
            UnixTime::since_unix_epoch(at.duration_since(Timestamp::UNIX_EPOCH).try_into().ok()?);
        verifier
            .verify_server_cert(leaf, chain, &name, &[], at)
            .ok()
    };
    verify().is_some()
}

const CA_CRT: &str = "ca.crt";
const CA_KEY: &str = "ca.key";
const TLS_CRT: &str = "tls.crt";
const TLS_KEY: &str = "tls.key";

#[cfg(test)]
mod tests;

//! Certificates and keys as PEM text (RFC 7468): parsed once, with everything we must know of them.

use std::fmt;
use std::io;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::{Timestamp, ToSpan};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use thiserror::Error;
use x509_parser::error::X509Error;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
use zeroize::Zeroizing;

/// A certificate chain, leaf first, and the leaf's private key. Not checked yet.
#[derive(Clone)]
pub struct KeyPairPem {
    chain: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
}

impl KeyPairPem {
    /// From the contents of `tls.crt` and `tls.key`.
    pub fn new(chain: impl Into<Vec<u8>>, key: Zeroizing<Vec<u8>>) -> Self {
        Self {
            chain: chain.into(),
            key,
        }
    }

    /// The chain, as PEM.
    pub fn chain_pem(&self) -> &[u8] {
        &self.chain
    }

    /// The private key, as PEM. Must not be logged.
    pub fn expose_key_pem(&self) -> &Zeroizing<Vec<u8>> {
        &self.key
    }

    /// The same pair with more certificates at the end of its chain.
    pub(super) fn followed_by(mut self, certificates: &[CertificateDer<'_>]) -> Self {
        for certificate in certificates {
            self.chain
                .extend_from_slice(render_certificate(certificate).as_bytes());
        }
        self
    }

    /// The pair as rustls wants it, if it can be served at `now`.
    pub(super) fn parse(
        &self,
        now: Timestamp,
    ) -> Result<(CertifiedKey, LeafFacts), CertificateError> {
        let (certified, facts) = self.parse_at_any_time()?;
        if now > facts.not_after {
            return Err(CertificateError::Expired {
                not_after: facts.not_after,
                now,
            });
        }
        if now < facts.not_before {
            return Err(CertificateError::NotYetValid {
                not_before: facts.not_before,
                now,
            });
        }
        Ok((certified, facts))
    }

    /// The same without regard to the clock.
    pub(super) fn parse_at_any_time(&self) -> Result<(CertifiedKey, LeafFacts), CertificateError> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&self.chain)
            .collect::<Result<_, _>>()
            .map_err(CertificateError::ChainPem)?;
        let leaf = chain.first().ok_or(CertificateError::NoCertificate)?;
        let facts = LeafFacts::of(leaf)?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(CertificateError::KeyPem)?;
        let certified = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())
            .map_err(CertificateError::Pair)?;
        Ok((certified, facts))
    }
}

impl fmt::Debug for KeyPairPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyPairPem")
    }
}

/// What a serving certificate says of itself (RFC 5280 section 4.1.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafFacts {
    /// The serial number, in hexadecimal. Tells one of our certificates from another.
    pub serial: String,
    /// The DNS names it is for, sorted.
    pub dns_names: Vec<String>,
    /// Valid from this second on.
    pub not_before: Timestamp,
    /// Valid to the end of this second.
    pub not_after: Timestamp,
}

impl LeafFacts {
    /// When two thirds of the certificate's life are over.
    pub fn renew_at(&self) -> Timestamp {
        let life = self
            .not_after
            .as_second()
            .saturating_sub(self.not_before.as_second());
        let age = (life / 3).saturating_mul(2).seconds();
        self.not_before.checked_add(age).unwrap_or(self.not_after)
    }

    fn of(leaf: &CertificateDer<'_>) -> Result<Self, CertificateError> {
        let certificate = parse_x509(leaf)?;
        let (not_before, not_after) = validity(&certificate)?;
        let names = certificate
            .subject_alternative_name()
            .map_err(CertificateError::X509)?;
        let mut dns_names: Vec<_> = names
            .iter()
            .flat_map(|extension| &extension.value.general_names)
            .filter_map(|name| {
                if let GeneralName::DNSName(dns) = name {
                    Some((*dns).to_owned())
                } else {
                    None
                }
            })
            .collect();
        dns_names.sort_unstable();
        Ok(Self {
            serial: certificate.raw_serial_as_string(),
            dns_names,
            not_before,
            not_after,
        })
    }
}

/// The certificates of one or more CAs, as PEM: what a client must trust. More than one while a CA is being replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaBundle {
    // Invariant: only CERTIFICATE sections, at least one, each a CA.
    pem: String,
}

impl CaBundle {
    /// Reads the contents of `ca.crt`. Text between the sections is dropped, so equal bundles are equal text.
    ///
    /// # Errors
    ///
    /// [`CertificateError`] if it is not PEM, is empty, or holds anything but certificates of CAs.
    pub fn parse(pem: &[u8]) -> Result<Self, CertificateError> {
        let mut clean = String::new();
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(pem) {
            let (kind, der) = section.map_err(CertificateError::ChainPem)?;
            // The bundle is published: a key that got into it by mistake must not be.
            if kind != SectionKind::Certificate {
                return Err(CertificateError::NotOnlyCertificates);
            }
            if !parse_x509(&der)?.is_ca() {
                return Err(CertificateError::NotAnAuthority);
            }
            clean.push_str(&render_certificate(&der));
        }
        if clean.is_empty() {
            Err(CertificateError::NoCertificate)
        } else {
            Ok(Self { pem: clean })
        }
    }

    /// The bundle as PEM text.
    pub fn as_pem(&self) -> &str {
        &self.pem
    }

    /// A bundle of one, which must be a CA's.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Self {
        Self {
            pem: render_certificate(certificate),
        }
    }

    /// This one and the CA's certificate behind it.
    pub(super) fn with(&self, certificate: &CertificateDer<'_>) -> Self {
        Self {
            pem: format!("{}{}", self.pem, render_certificate(certificate)),
        }
    }

    /// Whether the certificate is one of the bundle.
    pub(super) fn holds(&self, certificate: &CertificateDer<'_>) -> bool {
        // Both are rendered by us, so equal certificates are equal text.
        self.pem.contains(&render_certificate(certificate))
    }

    /// The certificates, first one first.
    ///
    /// # Errors
    ///
    /// None for a bundle made by [`CaBundle::parse`]; the type says so because the text is read again.
    pub(super) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
        CertificateDer::pem_slice_iter(self.pem.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(CertificateError::ChainPem)
    }
}

/// Why a certificate, a key or a bundle cannot be used.
#[derive(Debug, Error)]
pub enum CertificateError {
    /// A mounted file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The certificates are not PEM.
    #[error("the certificates are not PEM")]
    ChainPem(#[source] pem::Error),
    /// There is no certificate.
    #[error("there is no certificate")]
    NoCertificate,
    /// A bundle of CAs holds something else than certificates, such as a key.
    #[error("the bundle holds more than certificates")]
    NotOnlyCertificates,
    /// A bundle of CAs holds a certificate that is not a CA's.
    #[error("a certificate of the bundle is not an authority's")]
    NotAnAuthority,
    /// A certificate is not DER of X.509, or one of its fields is not readable.
    #[error("a certificate is not X.509")]
    X509(#[source] X509Error),
    /// A certificate's validity is outside of the years we can tell.
    #[error("a certificate's validity is out of range")]
    Validity(#[source] jiff::Error),
    /// The private key is not PEM.
    #[error("the private key is not PEM")]
    KeyPem(#[source] pem::Error),
    /// The key is of a kind we do not serve with, or is not the certificate's.
    #[error("the private key does not fit the certificate")]
    Pair(#[source] rustls::Error),
    /// The certificate's time is over.
    #[error("the certificate expired at {not_after}; now is {now}")]
    Expired {
        /// Its last second.
        not_after: Timestamp,
        /// When it was looked at.
        now: Timestamp,
    },
    /// The certificate's time has not come, or the node's clock is behind.
    #[error("the certificate is valid from {not_before}; now is {now}")]
    NotYetValid {
        /// Its first second.
        not_before: Timestamp,
        /// When it was looked at.
        now: Timestamp,
    },
}

pub(super) fn parse_x509(der: &[u8]) -> Result<X509Certificate<'_>, CertificateError> {
    let (_, certificate) =
        X509Certificate::from_der(der).map_err(|error| CertificateError::X509(error.into()))?;
    Ok(certificate)
}

/// The common name of a certificate that is its own issuer's, as a CA of our making is.
pub(super) fn own_name(der: &[u8]) -> Option<String> {
    let certificate = parse_x509(der).ok()?;
    let subject = certificate.subject();
    if subject.as_raw() != certificate.issuer().as_raw() {
        return None;
    }
    let name = subject.iter_common_name().next()?;
    name.as_str().ok().map(str::to_owned)
}

/// The first and the last second of a certificate's validity.
pub(super) fn validity(
    certificate: &X509Certificate<'_>,
) -> Result<(Timestamp, Timestamp), CertificateError> {
    let validity = certificate.validity();
    let second = |seconds| Timestamp::from_second(seconds).map_err(CertificateError::Validity);
    Ok((
        second(validity.not_before.timestamp())?,
        second(validity.not_after.timestamp())?,
    ))
}

fn render_certificate(der: &[u8]) -> String {
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    for (index, character) in STANDARD.encode(der).chars().enumerate() {
        if index > 0 && index % PEM_COLUMNS == 0 {
            text.push('\n');
        }
        text.push(character);
    }
    text.push_str("\n-----END CERTIFICATE-----\n");
    text
}

/// Characters of base64 per line (RFC 7468 section 2).
const PEM_COLUMNS: usize = 64;

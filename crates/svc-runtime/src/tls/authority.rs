//! A small CA: pure, it makes certificates and stores nothing.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType,
};
use rustls::pki_types::CertificateDer;
use thiserror::Error;
use x509_parser::time::ASN1Time;
use zeroize::Zeroizing;

use super::links::MOST_LINKS;
use super::pem::{CaBundle, CertificateError, KeyPairPem, own_name, parse_x509, validity};
use super::rotation::{after, before};

/// A CA's certificate and its key (ECDSA P-256: the cheapest handshakes).
pub struct Authority {
    // Invariant: the certificate that `issuer` and all the rest was made of.
    certificate: CertificateDer<'static>,
    bundle: CaBundle,
    serial: String,
    not_before: Timestamp,
    not_after: Timestamp,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new CA with common name `<name> CA`.
    ///
    /// # Errors
    ///
    /// [`AuthorityError`] if the library refuses, which it does for no name we know of.
    pub fn create(name: &str, lifetime: Duration, now: Timestamp) -> Result<Self, AuthorityError> {
        let (authority, _) = Self::create_with_params(name, lifetime, now)?;
        Ok(authority)
    }

    /// The CA that is to follow this one, and a link to it: its certificate by this one (see [`links`](super::links)).
    ///
    /// # Errors
    ///
    /// As [`Authority::create`].
    pub(super) fn create_successor(
        &self,
        name: &str,
        lifetime: Duration,
        now: Timestamp,
    ) -> Result<(Self, CertificateDer<'static>), AuthorityError> {
        let (successor, mut params) = Self::create_with_params(name, lifetime, now)?;
        params.use_authority_key_identifier_extension = true;
        let link = params
            .signed_by(successor.issuer.key(), &self.issuer)
            .map_err(AuthorityError::Sign)?;
        Ok((successor, link.into()))
    }

    fn create_with_params(
        name: &str,
        lifetime: Duration,
        now: Timestamp,
    ) -> Result<(Self, CertificateParams), AuthorityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(AuthorityError::Key)?;
        let mut params = params(&common_name(name), lifetime, now, after(now, lifetime))?;
        // Its successor has a name of its own, so that who does not know it says so, and does not speak of a bad signature.
        params
            .distinguished_name
            .push(DnType::OrganizationalUnitName, format!("made {now:.3}"));
        // It signs leaves, and the CAs that follow it (RFC 5280 section 4.2.1.9).
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(MOST_LINKS));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(AuthorityError::Sign)?;
        let authority = Self::from_parts(&CaBundle::parse(certificate.pem().as_bytes())?, key)?;
        Ok((authority, params))
    }

    /// An existing CA, from the contents of `ca.crt` and `ca.key`. The bundle may hold other CAs too; the key says which one it is.
    ///
    /// # Errors
    ///
    /// [`AuthorityError::Key`] for an unusable key, [`AuthorityError::Certificate`] for an unusable bundle and
    /// [`AuthorityError::KeyNotOfBundle`] if no certificate of the bundle is the key's.
    pub fn parse(bundle: &[u8], key: &Zeroizing<Vec<u8>>) -> Result<Self, AuthorityError> {
        let key = std::str::from_utf8(key).map_err(AuthorityError::KeyText)?;
        let key = KeyPair::from_pem(key).map_err(AuthorityError::Key)?;
        Self::from_parts(&CaBundle::parse(bundle)?, key)
    }

    /// What clients must trust: its own certificate alone.
    pub fn bundle(&self) -> &CaBundle {
        &self.bundle
    }

    /// Its own certificate.
    pub(super) fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The serial number of its own certificate, in hexadecimal.
    pub(super) fn serial(&self) -> &str {
        &self.serial
    }

    /// Whether [`Authority::create`] made it, and not an operator with a CA of their own.
    pub(super) fn is_ours(&self, name: &str) -> bool {
        is_named(&self.certificate, name)
    }

    /// The first second of the CA's own certificate.
    pub(super) fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// The last second of the CA's own certificate. No leaf outlives it.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// The CA's private key, as PEM. Must not be logged.
    pub fn expose_key_pem(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.issuer.key().serialize_pem().into_bytes())
    }

    /// A new key and certificate for a server with these names, valid for `lifetime` or as long as the CA is.
    ///
    /// # Errors
    ///
    /// [`AuthorityError::Name`] for a name that cannot be in a certificate, [`AuthorityError::Expired`] after the CA's own end.
    pub fn issue(
        &self,
        dns_names: &[String],
        lifetime: Duration,
        now: Timestamp,
    ) -> Result<KeyPairPem, AuthorityError> {
        if now >= self.not_after {
            return Err(AuthorityError::Expired {
                not_after: self.not_after,
                now,
            });
        }
        let first = dns_names.first().ok_or(AuthorityError::NoName)?;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(AuthorityError::Key)?;
        let not_after = after(now, lifetime).min(self.not_after);
        // Nobody reads the common name any more, but an empty subject is not read well either. A DNS label fits its 64 characters.
        let label = first.split('.').next().unwrap_or(first);
        let mut params = params(label, lifetime, now, not_after)?;
        params.subject_alt_names = dns_names
            .iter()
            .map(|name| san(name))
            .collect::<Result<_, _>>()?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params
            .signed_by(&key, &self.issuer)
            .map_err(AuthorityError::Sign)?;
        Ok(KeyPairPem::new(
            certificate.pem(),
            Zeroizing::new(key.serialize_pem().into_bytes()),
        ))
    }

    fn from_parts(bundle: &CaBundle, key: KeyPair) -> Result<Self, AuthorityError> {
        let certificate = find_certificate_of(bundle, &key)?;
        let parsed = parse_x509(&certificate)?;
        let (not_before, not_after) = validity(&parsed)?;
        let serial = parsed.raw_serial_as_string();
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(AuthorityError::Issuer)?;
        Ok(Self {
            bundle: CaBundle::of(&certificate),
            certificate,
            serial,
            not_before,
            not_after,
            issuer,
        })
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("serial", &self.serial)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// Why a CA cannot be made, read or used.
#[derive(Debug, Error)]
pub enum AuthorityError {
    /// The CA's bundle cannot be read.
    #[error("the CA's certificate is not usable")]
    Certificate(#[from] CertificateError),
    /// The CA's key is not text.
    #[error("the CA's key is not PEM")]
    KeyText(#[source] std::str::Utf8Error),
    /// A key cannot be read or made.
    #[error("the key is not usable")]
    Key(#[source] rcgen::Error),
    /// The key belongs to no certificate of the bundle.
    #[error("the CA's key belongs to none of its certificates")]
    KeyNotOfBundle,
    /// The CA's certificate lacks what an issuer needs.
    #[error("the CA's certificate cannot issue")]
    Issuer(#[source] rcgen::Error),
    /// There is no name to issue a certificate for.
    #[error("no DNS name to issue a certificate for")]
    NoName,
    /// A name that cannot stand in a certificate.
    #[error("{name:?} cannot be a DNS name of a certificate")]
    Name {
        /// The name as given.
        name: String,
        /// What is wrong with it.
        source: rcgen::Error,
    },
    /// A point in time that X.509 cannot tell.
    #[error("a time that X.509 cannot tell")]
    Time(#[source] x509_parser::error::X509Error),
    /// Signing failed.
    #[error("the certificate cannot be signed")]
    Sign(#[source] rcgen::Error),
    /// The CA's own time is over.
    #[error("the CA expired at {not_after}; now is {now}")]
    Expired {
        /// The CA's last second.
        not_after: Timestamp,
        /// When it was to issue.
        now: Timestamp,
    },
}

/// Whether a CA's certificate is one that [`Authority::create`] makes for this name.
pub(super) fn is_named(certificate: &[u8], name: &str) -> bool {
    own_name(certificate).is_some_and(|own| own == common_name(name))
}

fn common_name(name: &str) -> String {
    format!("{name} CA")
}

fn params(
    common_name: &str,
    lifetime: Duration,
    now: Timestamp,
    not_after: Timestamp,
) -> Result<CertificateParams, AuthorityError> {
    let mut params = CertificateParams::default();
    let date = |timestamp: Timestamp| {
        let time = ASN1Time::from_timestamp(timestamp.as_second()).map_err(AuthorityError::Time)?;
        Ok::<_, AuthorityError>(time.to_datetime())
    };
    params.not_before = date(before(now, back_date(lifetime)))?;
    params.not_after = date(not_after)?;
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    Ok(params)
}

fn san(name: &str) -> Result<SanType, AuthorityError> {
    Ia5String::try_from(name)
        .map(SanType::DnsName)
        .map_err(|source| AuthorityError::Name {
            name: name.to_owned(),
            source,
        })
}

fn find_certificate_of(
    bundle: &CaBundle,
    key: &KeyPair,
) -> Result<CertificateDer<'static>, AuthorityError> {
    let spki = key.subject_public_key_info();
    for der in bundle.certificates()? {
        if parse_x509(&der)?.public_key().raw == spki {
            return Ok(der);
        }
    }
    Err(AuthorityError::KeyNotOfBundle)
}

/// Clocks of nodes differ: a certificate must be valid at once where the clock is behind. Of a life of less than an hour it is a small
/// part only, so that two thirds of the life are not over when it begins.
fn back_date(lifetime: Duration) -> Duration {
    BACK_DATE.min(lifetime / 12)
}

const BACK_DATE: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests;

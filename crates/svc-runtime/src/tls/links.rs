//! Certificates of CAs by the CAs before them. The server presents them behind its own, and so who trusts an old CA alone comes by
//! them to its successors, as by any chain (RFC 5280 section 6.1):
//!
//! ```text
//! certificate ◀── CA 3 ◀── CA 2's link for CA 3 ◀── CA 1's link for CA 2 ◀── CA 1, which an old pod trusts
//! ```
//!
//! A link is made by the old CA's key, and with it alone: who holds a server's key, or answers in its place, cannot make one.

use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::X509Certificate;

use super::pem::{CaBundle, CertificateError, parse_x509, validity};

/// Links, the newest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Links(Vec<CertificateDer<'static>>);

impl Links {
    /// Reads them from PEM text, which is as restricted as a bundle's: certificates, each a CA's.
    ///
    /// # Errors
    ///
    /// [`CertificateError`] if it is anything else.
    pub(super) fn parse(pem: &[u8]) -> Result<Self, CertificateError> {
        CaBundle::parse(pem)?.certificates().map(Self)
    }

    /// The links as PEM text, if there are any.
    pub(super) fn bundle(&self) -> Option<CaBundle> {
        let (first, rest) = self.0.split_first()?;
        let bundle = CaBundle::of(first);
        Some(rest.iter().fold(bundle, |all, link| all.with(link)))
    }

    /// These and one more.
    pub(super) fn with(mut self, link: CertificateDer<'static>) -> Self {
        self.0.insert(0, link);
        self
    }

    /// The links that lead from this CA back to those before it, in that order, as far as they are still valid and not too many.
    pub(super) fn leading_from(&self, ca: &CertificateDer<'_>, now: Timestamp) -> Self {
        let mut chain = Vec::new();
        let mut wanted = parse_x509(ca).ok();
        while let Some(certificate) = &wanted {
            let link = self.0.iter().find(|link| is_of(link, certificate, now));
            let Some(link) = link.filter(|_| chain.len() < MOST_LINKS.into()) else {
                break;
            };
            chain.push(link.clone());
            wanted = self.issuer_of(link);
        }
        Self(chain)
    }

    /// The links, newest first.
    pub(super) fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.0
    }

    /// The link whose subject has made this one, if there is one.
    fn issuer_of(&self, link: &CertificateDer<'_>) -> Option<X509Certificate<'_>> {
        let link = parse_x509(link).ok()?;
        let others = self.0.iter().filter_map(|other| parse_x509(other).ok());
        let mut issuers = others.filter(|other| other.subject().as_raw() == link.issuer().as_raw());
        issuers.next()
    }
}

/// Whether the link is valid and speaks of the same CA as the certificate: of its name and of its key.
fn is_of(link: &CertificateDer<'_>, certificate: &X509Certificate<'_>, now: Timestamp) -> bool {
    let Ok(link) = parse_x509(link) else {
        return false;
    };
    let is_valid = validity(&link).is_ok_and(|(_, not_after)| now < not_after);
    is_valid
        && link.subject().as_raw() == certificate.subject().as_raw()
        && link.public_key().raw == certificate.public_key().raw
}

/// How many CAs may have followed the one that a client trusts. Clients of rustls take no more than six certificates between their CA's
/// and the server's; each is half a KiB of each full handshake.
pub(super) const MOST_LINKS: u8 = 4;

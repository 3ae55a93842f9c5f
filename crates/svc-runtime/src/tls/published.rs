//! What clients find where they look for our CA.

use rustls::pki_types::CertificateDer;

use super::pem::CaBundle;

/// What is known of the places where clients look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Published {
    /// There is no such place of ours: operators hand the CA out themselves, and the overlap alone is their time for that.
    Nowhere,
    /// What was found, place by place. No place, such as an object that does not exist, holds nothing.
    Seen(Vec<CaBundle>),
}

impl Published {
    /// Whether clients find this CA everywhere.
    pub(super) fn hold(&self, certificate: &CertificateDer<'_>) -> bool {
        match self {
            Self::Nowhere => true,
            Self::Seen(bundles) => {
                !bundles.is_empty() && bundles.iter().all(|bundle| bundle.holds(certificate))
            }
        }
    }
}

//! Whom we believe to be the STS: the given CA certificates, instead of any store of the system.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use thiserror::Error;

/// Where the CA certificates are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CaSource {
    /// In a file, which may be replaced while we run.
    File(PathBuf),
    /// Given as PEM text.
    Inline(String),
}

impl CaSource {
    /// Reads the certificates and makes them the only ones that are trusted.
    ///
    /// # Errors
    /// If the file cannot be read, or there is no usable certificate in it.
    pub fn load_tls(&self) -> Result<ClientConfig, TrustError> {
        let pem = match self {
            Self::File(path) => fs::read(path).map_err(|source| TrustError::Unreadable {
                path: path.clone(),
                source,
            })?,
            Self::Inline(pem) => pem.clone().into_bytes(),
        };
        let mut config =
            ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()?
                .with_root_certificates(parse_roots(&pem)?)
                .with_no_client_auth();
        // One server name or a few; rustls would make room for 256.
        config.resumption = Resumption::in_memory_sessions(8);
        Ok(config)
    }
}

/// Why there is nobody to trust.
#[derive(Debug, Error)]
pub enum TrustError {
    /// There is no certificate in the PEM text.
    #[error("there is no CA certificate in the PEM text")]
    NoCertificate,
    /// The PEM text is broken.
    #[error("cannot read the CA certificates' PEM text")]
    Pem(#[source] rustls_pki_types::pem::Error),
    /// One of the certificates cannot be used, or TLS itself.
    #[error("a CA certificate cannot be used")]
    Unusable(#[from] rustls::Error),
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

fn parse_roots(pem: &[u8]) -> Result<RootCertStore, TrustError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        roots.add(certificate.map_err(TrustError::Pem)?)?;
    }
    if roots.is_empty() {
        Err(TrustError::NoCertificate)
    } else {
        Ok(roots)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_several_certificates() {
        let pem: String = (0..2)
            .map(|_| {
                rcgen::generate_simple_self_signed(vec!["a".to_owned()])
                    .unwrap()
                    .cert
                    .pem()
            })
            .collect();
        assert_eq!(parse_roots(pem.as_bytes()).unwrap().len(), 2);
        CaSource::Inline(pem).load_tls().unwrap();
    }

    #[test]
    fn never_falls_back_to_trusting_nobody_in_particular() {
        for pem in [
            "",
            "not PEM",
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----",
        ] {
            let error = parse_roots(pem.as_bytes()).unwrap_err();
            assert!(matches!(error, TrustError::NoCertificate), "{error:?}");
        }
        let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----";
        assert!(parse_roots(garbage.as_bytes()).is_err());
    }
}

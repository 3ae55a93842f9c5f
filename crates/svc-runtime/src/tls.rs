//! The serving certificate: swapped under a running server, from one of three sources.
//!
//! | source | for |
//! |---|---|
//! | [`ManagedSecret`] | our own CA and certificate in a Kubernetes Secret, shared by all replicas |
//! | [`follow_files`] | somebody else's certificate (cert-manager), mounted |
//! | [`ephemeral`] | a CA and certificate of this process only, for a desk and for tests |

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};

use crate::clock;
use crate::crypto::install_crypto_provider;

mod authority;
mod ephemeral;
mod files;
mod pem;
mod secret;

pub use authority::{Authority, AuthorityError};
pub use ephemeral::ephemeral;
pub use files::follow_files;
pub use pem::{CaBundle, CertificateError, KeyPairPem, LeafFacts};
pub use secret::{ManagedSecret, Refusal, SecretError};

/// The certificate a server presents. Clones share it; replacing it reaches the next handshake and disturbs no open connection.
#[derive(Clone, Default)]
pub struct ServingCertificate {
    current: Arc<ArcSwapOption<Serving>>,
}

impl ServingCertificate {
    /// No certificate yet: every handshake fails until [`ServingCertificate::replace`] succeeded.
    pub fn empty() -> Self {
        Self::default()
    }

    /// A server's TLS configuration that always presents the current certificate: TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1 by ALPN, no
    /// client certificates, no early data.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        install_crypto_provider();
        let mut config = ServerConfig::builder_with_protocol_versions(&[&TLS13, &TLS12])
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(self.clone()));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Arc::new(config)
    }

    /// Presents `pair` from now on, and returns what its certificate says.
    ///
    /// # Errors
    ///
    /// [`CertificateError`] if the pair cannot be read, its halves do not belong together, or its certificate is not valid now. The
    /// certificate presented so far then stays.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "the key's text is wiped as soon as the key is in use"
    )]
    pub fn replace(&self, pair: KeyPairPem) -> Result<LeafFacts, CertificateError> {
        self.present(&pair)
    }

    fn present(&self, pair: &KeyPairPem) -> Result<LeafFacts, CertificateError> {
        let (key, facts) = pair.parse(clock::now())?;
        self.current.store(Some(Arc::new(Serving {
            key: Arc::new(key),
            facts: facts.clone(),
        })));
        Ok(facts)
    }

    /// The certificate presented now, without its chain.
    pub fn leaf_der(&self) -> Option<CertificateDer<'static>> {
        let current = self.current.load();
        current
            .as_ref()?
            .key
            .cert
            .first()
            .map(|leaf| leaf.clone().into_owned())
    }

    /// What the certificate presented now says.
    pub fn facts(&self) -> Option<LeafFacts> {
        self.current
            .load()
            .as_ref()
            .map(|serving| serving.facts.clone())
    }
}

impl ResolvesServerCert for ServingCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current
            .load()
            .as_ref()
            .map(|serving| Arc::clone(&serving.key))
    }
}

impl fmt::Debug for ServingCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServingCertificate")
            .field("facts", &self.facts())
            .finish_non_exhaustive()
    }
}

struct Serving {
    key: Arc<CertifiedKey>,
    facts: LeafFacts,
}

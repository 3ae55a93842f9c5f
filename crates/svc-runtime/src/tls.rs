//! The serving certificate: swapped under a running server, from one of three sources.
//!
//! | source | for |
//! |---|---|
//! | [`ManagedSecret`] | our own CA and certificate in a Kubernetes Secret, shared by all replicas |
//! | [`follow_files`] | somebody else's certificate (cert-manager), mounted |
//! | [`ephemeral`] | a CA and certificate of this process only, for a desk and for tests |
//!
//! How clients come to trust it is [`Publication`]'s: it keeps our CA where they look, and knows whether they find it there.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwapOption;
use jiff::Timestamp;
use prometheus_client::registry::Registry;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::pki_types::CertificateDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use tokio::sync::watch;

use crate::clock;
use crate::crypto::install_crypto_provider;

mod authority;
mod ephemeral;
mod files;
mod links;
mod metrics;
mod pem;
mod publication;
mod published;
mod rotation;
mod secret;
mod trust;

pub use authority::{Authority, AuthorityError};
pub use ephemeral::ephemeral;
pub use files::{LOOK_EVERY, follow_files};
pub use pem::{CaBundle, CertificateError, KeyPairPem, LeafFacts};
pub use publication::{Acceptance, Keeper, Place, Publication, PublicationError};
pub use published::Published;
pub use secret::{ManagedSecret, Refusal, SecretError};

/// The certificate a server presents. Clones share it; replacing it reaches the next handshake and disturbs no open connection.
#[derive(Clone, Default)]
pub struct ServingCertificate {
    current: Arc<ArcSwapOption<Serving>>,
    /// Whether the newest certificate there is could not be used.
    refused: Arc<AtomicBool>,
    news: watch::Sender<()>,
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
        // Clients keep their sessions themselves, encrypted by a key that changes every six hours (RFC 8446 section 4.6.1): rustls's own
        // memory has room for 256, and thousands of sidecars would push each other out of it.
        if let Ok(ticketer) = Ticketer::new() {
            config.ticketer = ticketer;
        }
        // Each handshake uses one up and brings the next.
        config.send_tls13_tickets = 1;
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
        self.present(&pair, None)
    }

    fn present(
        &self,
        pair: &KeyPairPem,
        authority_not_after: Option<Timestamp>,
    ) -> Result<LeafFacts, CertificateError> {
        let (key, facts) = pair.parse(clock::now())?;
        self.current.store(Some(Arc::new(Serving {
            key: Arc::new(key),
            facts: facts.clone(),
            authority_not_after,
        })));
        self.news.send_replace(());
        Ok(facts)
    }

    /// Shows in the metrics whether the newest certificate there is could not be used.
    fn tell_refused(&self, refused: bool) {
        self.refused.store(refused, Ordering::Relaxed);
    }

    /// Whether a client that trusts `bundle` alone and calls us `name` accepts the certificate presented now.
    pub fn is_accepted(&self, bundle: &CaBundle, name: &str, now: Timestamp) -> bool {
        let current = self.current.load();
        current
            .as_ref()
            .is_some_and(|serving| trust::is_accepted(&serving.key, bundle, name, now))
    }

    /// Adds what an operator must know in time to the metrics: until when certificate and CA are valid, and whether the newest
    /// certificate could not be used.
    pub fn register_metrics(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(metrics::Expiry(self.clone())));
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
    /// The last second of its CA, where that is ours.
    authority_not_after: Option<Timestamp>,
}

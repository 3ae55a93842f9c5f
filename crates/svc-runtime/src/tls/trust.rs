//! Whether a client would accept a certificate: the judgement of a client, made by the server before it is made by anybody else.

use std::sync::Arc;

use jiff::Timestamp;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;

use super::pem::CaBundle;

/// Whether a client that trusts `bundle` alone accepts the certificate of a server it calls `name`, at this time.
pub(super) fn is_accepted(
    certified: &CertifiedKey,
    bundle: &CaBundle,
    name: &str,
    at: Timestamp,
) -> bool {
    verify(certified, bundle, name, at).is_some()
}

fn verify(certified: &CertifiedKey, bundle: &CaBundle, name: &str, at: Timestamp) -> Option<()> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(bundle.certificates().ok()?);
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .ok()?;
    let (leaf, chain): (&CertificateDer<'_>, _) = certified.cert.split_first()?;
    let name = ServerName::try_from(name).ok()?;
    let since_epoch = at.duration_since(Timestamp::UNIX_EPOCH).try_into().ok()?;
    let at = UnixTime::since_unix_epoch(since_epoch);
    verifier
        .verify_server_cert(leaf, chain, &name, &[], at)
        .map(drop)
        .ok()
}

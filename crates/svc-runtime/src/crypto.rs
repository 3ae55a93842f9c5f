//! The process-wide crypto provider of rustls: aws-lc-rs, and no other.

use rustls::crypto::{CryptoProvider, aws_lc_rs};

/// Makes aws-lc-rs the provider of every TLS client and server in this process. Calling it again does nothing.
///
/// Call it first in `main`: kube and reqwest panic at their first handshake if they find no provider, or two.
pub fn install_crypto_provider() {
    if CryptoProvider::get_default().is_none()
        && aws_lc_rs::default_provider().install_default().is_err()
    {
        tracing::debug!("another thread installed the crypto provider first");
    }
}

//! Somebody else's certificate, mounted as two files and reloaded when they change.
//!
//! Polled, not watched: a mounted Secret changes by the swap of a symbolic link, which a watch on the file does not see.

use std::path::Path;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use zeroize::Zeroizing;

use super::ServingCertificate;
use super::pem::{CertificateError, KeyPairPem};
use crate::clock;
use crate::log::chain;
use crate::readiness::Condition;
use crate::shutdown::Shutdown;

/// Keeps `into` as the files say until shutdown, looking that often. A pair that cannot be served is logged and the one before it stays;
/// `condition` is met as long as the certificate presented is valid.
///
/// # Errors
///
/// [`CertificateError`] if the very first pair cannot be served: a program that never had a certificate should not start.
pub async fn follow_files(
    certificate: &Path,
    key: &Path,
    look_every: Duration,
    into: ServingCertificate,
    condition: Condition,
    shutdown: Shutdown,
) -> Result<(), CertificateError> {
    let mut loaded = read(certificate, key).await?;
    present(&loaded, &into)?;
    condition.met();
    let mut ticks = interval(look_every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.requested() => return Ok(()),
            _ = ticks.tick() => {}
        }
        let reloaded = reload(certificate, key, &loaded, &into).await;
        into.tell_refused(reloaded.is_err());
        match reloaded {
            Ok(Some(pair)) => loaded = pair,
            Ok(None) => {}
            Err(error) => {
                tracing::error!(
                    tls.certificate = %certificate.display(), error = %chain(&error),
                    "new certificate cannot be used, the old one stays",
                );
            }
        }
        tell(&into, &condition);
    }
}

/// The new pair, if the files changed and it is presented now.
async fn reload(
    certificate: &Path,
    key: &Path,
    loaded: &KeyPairPem,
    into: &ServingCertificate,
) -> Result<Option<KeyPairPem>, CertificateError> {
    let pair = read(certificate, key).await?;
    if pair.chain_pem() == loaded.chain_pem() && pair.expose_key_pem() == loaded.expose_key_pem() {
        return Ok(None);
    }
    present(&pair, into)?;
    Ok(Some(pair))
}

async fn read(certificate: &Path, key: &Path) -> Result<KeyPairPem, CertificateError> {
    let chain = read_file(certificate).await?;
    Ok(KeyPairPem::new(
        chain,
        Zeroizing::new(read_file(key).await?),
    ))
}

async fn read_file(path: &Path) -> Result<Vec<u8>, CertificateError> {
    let read = |source| CertificateError::Read {
        path: path.to_path_buf(),
        source,
    };
    tokio::fs::read(path).await.map_err(read)
}

fn present(pair: &KeyPairPem, into: &ServingCertificate) -> Result<(), CertificateError> {
    let facts = into.present(pair, None)?;
    tracing::info!(tls.serial = facts.serial, tls.not_after = %facts.not_after, "certificate loaded from files");
    Ok(())
}

/// Says on the admin port whether clients can still accept what is presented.
fn tell(into: &ServingCertificate, condition: &Condition) {
    match into.facts() {
        Some(facts) if clock::now() <= facts.not_after => condition.met(),
        Some(facts) => condition.unmet(format!("certificate expired at {}", facts.not_after)),
        None => condition.unmet("no certificate"),
    }
}

/// How often programs look: far more often than the kubelet brings a changed Secret into a volume.
pub const LOOK_EVERY: Duration = Duration::from_secs(10);

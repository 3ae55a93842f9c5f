//! A certificate that lives and dies with the process.

use std::time::Duration;

use jiff::Timestamp;

use super::authority::{Authority, AuthorityError};
use super::pem::{CaBundle, KeyPairPem};

/// A new CA and a certificate of it for `names`, kept nowhere: for standalone use. The CA's key is dropped.
///
/// # Errors
///
/// [`AuthorityError`] if `names` is empty or holds a name that cannot be in a certificate.
pub fn ephemeral(
    names: &[String],
    now: Timestamp,
) -> Result<(KeyPairPem, CaBundle), AuthorityError> {
    let authority = Authority::create("ephemeral", LIFETIME, now)?;
    let pair = authority.issue(names, LIFETIME, now)?;
    Ok((pair, authority.bundle().clone()))
}

/// Longer than a process at a desk lives: nobody renews it.
const LIFETIME: Duration = Duration::from_secs(90 * 24 * 3600);

//! The last steps of an exchange in one function: claims → sign.
//!
//! What comes before needs the network, so the caller does it: [`crate::token::RawToken::route`], the issuer's keys,
//! [`crate::verify::verify`], [`crate::authorize::authorize`], the API server's answer, [`crate::liveness::agree`].

use thiserror::Error;

use crate::claims::{ClaimsError, OutgoingClaims, TokenTemplate};
use crate::ident::{KeyId, Role, TokenId};
use crate::liveness::{Confirmation, Grant};
use crate::sign::{SignError, SignedToken, SigningKey};
use crate::time::UnixSeconds;

/// The longest token: what the sidecar writes, and less than the 20,000 characters that AWS takes.
const LONGEST_TOKEN: usize = 16 * 1024;

/// What an endpoint's tokens are made with.
#[derive(Clone, Copy, Debug)]
pub struct Issuance<'a> {
    /// What the token says.
    pub template: &'a TokenTemplate,
    /// What signs it.
    pub key: &'a SigningKey,
}

/// An issued token, and what the audit line says about it.
#[derive(Debug)]
pub struct Issued {
    /// The token.
    pub token: SignedToken,
    /// Its `jti`.
    pub id: TokenId,
    /// The key that signed it.
    pub key_id: KeyId,
    /// The rule that allowed it.
    pub rule: String,
    /// How it was known that the subject is alive.
    pub confirmation: Confirmation,
    /// The role it is for, at an endpoint that binds roles.
    pub role: Option<Role>,
    /// Its `sub`.
    pub subject: String,
    /// Its `exp`, in seconds since the epoch.
    pub expires: u64,
    /// Its life in seconds.
    pub lifetime_seconds: u64,
}

/// Why a granted token cannot be issued.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum IssueError {
    /// The token cannot be written.
    #[error("token cannot be written")]
    Claims(#[from] ClaimsError),
    /// The crypto library failed.
    #[error("token could not be signed")]
    Sign(#[from] SignError),
}

impl IssueError {
    /// The stable code for metrics, audit and logs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Claims(error) => error.code(),
            Self::Sign(SignError) => "sign_failed",
        }
    }
}

/// Issues the granted token.
///
/// # Errors
/// [`IssueError`] says which step refused.
pub fn issue(
    issuance: Issuance<'_>,
    grant: &Grant,
    id: TokenId,
    now: UnixSeconds,
) -> Result<Issued, IssueError> {
    let Issuance { template, key } = issuance;
    let claims = OutgoingClaims::new(grant, template, &id, now)?;
    let token = key.sign(&claims)?;
    let length = token.expose().len();
    if length > LONGEST_TOKEN {
        return Err(ClaimsError::TokenTooLong { length }.into());
    }
    Ok(Issued {
        token,
        id,
        key_id: key.key_id().clone(),
        rule: grant.permission().rule().to_owned(),
        confirmation: grant.confirmation(),
        role: grant.permission().role().cloned(),
        subject: claims.subject().to_owned(),
        expires: claims.expires(),
        lifetime_seconds: claims.lifetime_seconds(),
    })
}

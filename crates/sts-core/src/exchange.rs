//! The last steps of an exchange in one function: authorize → claims → sign.
//!
//! What comes before needs the network, so the caller does it: [`crate::token::RawToken::route`], the issuer's keys,
//! [`crate::verify::verify`], the API server's answer, [`crate::liveness::agree`].

use thiserror::Error;

use crate::authorize::{Refusal, authorize};
use crate::claims::{ClaimsError, OutgoingClaims, TokenTemplate};
use crate::ident::{ClusterName, KeyId, TokenId};
use crate::liveness::LiveSubject;
use crate::policy::Policy;
use crate::sign::{SignError, SignedToken, SigningKey};
use crate::time::UnixSeconds;

/// What an endpoint decides with.
#[derive(Clone, Copy, Debug)]
pub struct Issuance<'a> {
    /// Who may have a token.
    pub policy: &'a Policy,
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
    /// Its `sub`.
    pub subject: String,
    /// Its `exp`, in seconds since the epoch.
    pub expires: u64,
    /// Its life in seconds.
    pub lifetime_seconds: u64,
}

/// Why a live subject gets no token.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum IssueError {
    /// The token cannot be written.
    #[error("token cannot be written")]
    Claims(#[from] ClaimsError),
    /// The rules do not allow it.
    #[error("rules do not allow a token")]
    Refused(#[from] Refusal),
    /// The crypto library failed.
    #[error("token could not be signed")]
    Sign(#[from] SignError),
}

impl IssueError {
    /// The stable code for metrics, audit and logs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Claims(error) => error.code(),
            Self::Refused(refusal) => refusal.code(),
            Self::Sign(SignError) => "sign_failed",
        }
    }
}

/// Issues a token for a live subject of `cluster`.
///
/// # Errors
/// [`IssueError`] says which step refused.
pub fn issue(
    issuance: Issuance<'_>,
    cluster: &ClusterName,
    subject: LiveSubject,
    id: TokenId,
    now: UnixSeconds,
) -> Result<Issued, IssueError> {
    let Issuance {
        policy,
        template,
        key,
    } = issuance;
    let grant = authorize(policy, cluster, subject)?;
    let claims = OutgoingClaims::new(&grant, template, &id, now)?;
    let token = key.sign(&claims)?;
    Ok(Issued {
        token,
        id,
        key_id: key.key_id().clone(),
        rule: grant.rule().to_owned(),
        subject: claims.subject().to_owned(),
        expires: claims.expires(),
        lifetime_seconds: claims.lifetime_seconds(),
    })
}

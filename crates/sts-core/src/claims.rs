//! The claims of an issued token.

mod own;

use std::time::Duration;

use serde::Serialize;
use thiserror::Error;

use crate::ident::{Audience, Issuer, TokenId};
use crate::liveness::Grant;
use crate::time::{Lifetime, UnixSeconds};

pub use own::{OwnClaims, OwnSubject};

/// The longest `sub` (OpenID Connect Core 1.0, section 2).
const LONGEST_SUBJECT: usize = 255;

/// How far back `nbf` lies, for relying parties whose clock is behind ours and who give no leeway.
const BACKDATED: Duration = Duration::from_secs(60);

/// How `sub` is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SubjectForm {
    /// `<cluster>:<namespace>:<name>`, OpenUnison's; users' trust policies name it.
    OpenUnison,
    /// `system:serviceaccount:<namespace>:<name>`, Kubernetes' own.
    ServiceAccount,
}

/// What all tokens of an endpoint have in common.
#[derive(Clone, Debug)]
pub struct TokenTemplate {
    /// `iss`.
    pub issuer: Issuer,
    /// `aud`, one text: AWS refuses several without `azp`.
    pub audience: Audience,
    /// The longest life of an issued token.
    pub lifetime: Lifetime,
    /// How `sub` is written.
    pub subject: SubjectForm,
}

/// The claims of one token, in the order they are written. Times are whole seconds: AWS refuses fractions.
#[derive(Clone, Debug, Serialize)]
pub struct OutgoingClaims {
    iss: String,
    sub: String,
    aud: String,
    exp: u64,
    iat: u64,
    nbf: u64,
    jti: String,
    cluster: String,
    namespace: String,
    saname: String,
    #[serde(rename = "kubernetes.io")]
    kubernetes: KubernetesClaims,
}

#[derive(Clone, Debug, Serialize)]
struct KubernetesClaims {
    namespace: String,
    pod: NamedObject,
    serviceaccount: NamedObject,
}

#[derive(Clone, Debug, Serialize)]
struct NamedObject {
    name: String,
    uid: String,
}

/// Why no token can be written for a granted subject.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum ClaimsError {
    /// The subject token ends so soon that ours would be dead on arrival.
    #[error("subject token has only {left:?} left")]
    ExpiresTooSoon {
        /// What is left of the subject token.
        left: Duration,
    },
    /// The subject's name is longer than relying parties take.
    #[error("sub would have {length} characters, 255 are allowed")]
    SubjectTooLong {
        /// How long it would be.
        length: usize,
    },
}

impl ClaimsError {
    /// The stable code for metrics, audit and logs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::ExpiresTooSoon { .. } => "expires_too_soon",
            Self::SubjectTooLong { .. } => "sub_too_long",
        }
    }
}

impl OutgoingClaims {
    /// The claims for a grant. The token lives for the template's lifetime or the rest of the subject token's life, whichever is less.
    ///
    /// # Errors
    /// [`ClaimsError`] when no relying party could use the result.
    pub fn new(
        grant: &Grant,
        template: &TokenTemplate,
        id: &TokenId,
        now: UnixSeconds,
    ) -> Result<Self, ClaimsError> {
        let TokenTemplate {
            issuer,
            audience,
            lifetime,
            subject,
        } = template;
        let permission = grant.permission();
        let (token, cluster) = (permission.token(), permission.cluster());
        let left = token.expires().since(now);
        let bound = grant.longest_life().unwrap_or(Lifetime::LONGEST);
        let life = left.min(lifetime.get()).min(bound);
        if life < Lifetime::SHORTEST {
            return Err(ClaimsError::ExpiresTooSoon { left });
        }
        let account = token.service_account();
        let sub = match subject {
            SubjectForm::OpenUnison => {
                format!("{cluster}:{}:{}", account.namespace, account.name)
            }
            SubjectForm::ServiceAccount => account.username(),
        };
        if sub.len() > LONGEST_SUBJECT {
            return Err(ClaimsError::SubjectTooLong { length: sub.len() });
        }
        let named = |name: &str, uid: &str| NamedObject {
            name: name.to_owned(),
            uid: uid.to_owned(),
        };
        Ok(Self {
            iss: issuer.as_str().to_owned(),
            sub,
            aud: audience.as_str().to_owned(),
            exp: now.saturating_add(life).get(),
            iat: now.get(),
            nbf: now.saturating_sub(BACKDATED).get(),
            jti: id.as_str().to_owned(),
            cluster: cluster.as_str().to_owned(),
            namespace: account.namespace.as_str().to_owned(),
            saname: account.name.as_str().to_owned(),
            kubernetes: KubernetesClaims {
                namespace: account.namespace.as_str().to_owned(),
                pod: named(token.pod().name.as_str(), token.pod().uid.as_str()),
                serviceaccount: named(account.name.as_str(), account.uid.as_str()),
            },
        })
    }

    /// `sub`.
    pub fn subject(&self) -> &str {
        &self.sub
    }

    /// `exp`.
    pub fn expires(&self) -> u64 {
        self.exp
    }

    /// `exp` minus `iat`, in seconds.
    pub fn lifetime_seconds(&self) -> u64 {
        self.exp.saturating_sub(self.iat)
    }
}

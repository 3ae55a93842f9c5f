//! The claims of an issued token.

mod additional;
mod aws;
mod own;
mod subject;

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value, json};
use thiserror::Error;

pub use additional::{AdditionalClaim, ClaimName, ClaimNameError, ClaimSource};
pub use aws::{AwsClaimError, AwsClaims, RolesClaim, SessionTag, SourceIdentity, Transitivity};
pub use own::{OwnClaims, OwnSubject};
pub use subject::{SubjectTemplate, SubjectTemplateError};

use crate::ident::{Audience, Issuer, Role, TokenId};
use crate::liveness::Grant;
use crate::policy::{Attribute, Attributes};
use crate::time::{Lifetime, UnixSeconds};

/// The longest `sub` (OpenID Connect Core 1.0, section 2).
const LONGEST_SUBJECT: usize = 255;

/// How far back `nbf` lies, for relying parties whose clock is behind ours and who give no leeway.
const BACKDATED: Duration = Duration::from_secs(60);

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
    pub subject: SubjectTemplate,
    /// Claims that the operator adds; no two of the same name.
    pub additional: Vec<AdditionalClaim>,
    /// What AWS acts on.
    pub aws: AwsClaims,
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
    /// The endpoint's own; none has a name of those above.
    #[serde(flatten)]
    added: Map<String, Value>,
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
    /// AWS would not take the token for what is in it.
    #[error("AWS would not take this subject's {what}")]
    Aws {
        /// What is in it.
        what: String,
    },
    /// The subject token ends so soon that ours would be dead on arrival.
    #[error("subject token has only {left:?} left")]
    ExpiresTooSoon {
        /// What is left of the subject token.
        left: Duration,
    },
    /// Something in `sub` is not there.
    #[error("sub cannot be written")]
    SubjectIncomplete,
    /// The token is longer than the sidecar writes, and soon than AWS takes.
    #[error("token would have {length} characters, 16384 are allowed")]
    TokenTooLong {
        /// How long it would be.
        length: usize,
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
            Self::Aws { .. } => "aws_limit",
            Self::ExpiresTooSoon { .. } => "expires_too_soon",
            Self::SubjectIncomplete => "sub_incomplete",
            Self::SubjectTooLong { .. } => "sub_too_long",
            Self::TokenTooLong { .. } => "token_too_long",
        }
    }
}

impl OutgoingClaims {
    /// The claims for a grant. The token lives for the least of the template's lifetime, the rest of the subject token's life and what the
    /// grant allows.
    ///
    /// # Errors
    /// [`ClaimsError`] when no relying party could use the result.
    pub fn new(
        grant: &Grant,
        template: &TokenTemplate,
        id: &TokenId,
        now: UnixSeconds,
    ) -> Result<Self, ClaimsError> {
        let permission = grant.permission();
        let token = permission.token();
        let left = token.expires().since(now);
        let bound = grant.longest_life().unwrap_or(Lifetime::LONGEST);
        let life = left.min(template.lifetime.get()).min(bound);
        if life < Lifetime::SHORTEST {
            return Err(ClaimsError::ExpiresTooSoon { left });
        }
        let Written { sub, added } =
            Written::of(template, permission.attributes(), permission.role())?;
        let account = token.service_account();
        let named = |name: &str, uid: &str| NamedObject {
            name: name.to_owned(),
            uid: uid.to_owned(),
        };
        Ok(Self {
            iss: template.issuer.as_str().to_owned(),
            sub,
            aud: template.audience.as_str().to_owned(),
            exp: now.saturating_add(life).get(),
            iat: now.get(),
            nbf: now.saturating_sub(BACKDATED).get(),
            jti: id.as_str().to_owned(),
            cluster: permission.cluster().as_str().to_owned(),
            namespace: account.namespace.as_str().to_owned(),
            saname: account.name.as_str().to_owned(),
            kubernetes: KubernetesClaims {
                namespace: account.namespace.as_str().to_owned(),
                pod: named(token.pod().name.as_str(), token.pod().uid.as_str()),
                serviceaccount: named(account.name.as_str(), account.uid.as_str()),
            },
            added,
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

/// What a template writes of a subject.
struct Written {
    sub: String,
    added: Map<String, Value>,
}

impl Written {
    fn of(
        template: &TokenTemplate,
        attributes: &Attributes,
        role: Option<&Role>,
    ) -> Result<Self, ClaimsError> {
        let sub = template.subject.render(attributes);
        let sub = sub.ok_or(ClaimsError::SubjectIncomplete)?;
        if sub.len() > LONGEST_SUBJECT {
            return Err(ClaimsError::SubjectTooLong { length: sub.len() });
        }
        let mut added = Map::new();
        for claim in &template.additional {
            if let Some(value) = claim.value(attributes, role) {
                drop(added.insert(claim.name().as_str().to_owned(), value));
            }
        }
        let aws = template.aws.add(attributes, role, &mut added);
        aws.map_err(|what| ClaimsError::Aws { what })?;
        Ok(Self { sub, added })
    }
}

/// The claims that a subject would get, without those that are a token's own: times, `jti` and `kubernetes.io`. This is for looking at:
/// no token can be made of it.
///
/// # Errors
/// [`ClaimsError`] when no relying party could use the token.
pub fn preview(
    template: &TokenTemplate,
    attributes: &Attributes,
    role: Option<&Role>,
) -> Result<Value, ClaimsError> {
    let Written { sub, mut added } = Written::of(template, attributes, role)?;
    let of = |attribute| attributes.value(attribute).unwrap_or_default();
    let known = json!({
        "iss": template.issuer.as_str(),
        "sub": sub,
        "aud": template.audience.as_str(),
        "cluster": of(Attribute::Cluster),
        "namespace": of(Attribute::Namespace),
        "saname": of(Attribute::ServiceAccountName),
    });
    if let Value::Object(known) = known {
        added.extend(known);
    }
    Ok(Value::Object(added))
}

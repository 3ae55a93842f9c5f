//! Applies an endpoint's rules to the subject of a verified token.
//!
//! This comes before the API server is asked: a pod that no rule allows costs it nothing.

use thiserror::Error;

use crate::ident::ClusterName;
use crate::policy::{Attributes, Policy};
use crate::verify::VerifiedToken;

/// The rules allow the token's subject, if it is alive: [`crate::liveness`] makes a grant of it. Only [`authorize`] makes one.
#[derive(Clone, Debug)]
pub struct Permission {
    token: VerifiedToken,
    cluster: ClusterName,
    rule: String,
}

impl Permission {
    /// The token that proves who the subject is.
    pub fn token(&self) -> &VerifiedToken {
        &self.token
    }

    /// The configured name of the subject's cluster.
    pub fn cluster(&self) -> &ClusterName {
        &self.cluster
    }

    /// The rule that allowed it, for the audit line.
    pub fn rule(&self) -> &str {
        &self.rule
    }
}

/// Why the rules do not allow a token.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum Refusal {
    /// No rule of the endpoint matches the subject.
    #[error("no rule of the endpoint allows {username}")]
    NoRuleMatches {
        /// The ServiceAccount, as the API server names it: for the log and the audit line, not for the caller.
        username: String,
    },
}

impl Refusal {
    /// The stable code for metrics, audit and logs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoRuleMatches { .. } => "policy_denied",
        }
    }
}

/// Applies the rules; the first that matches is recorded.
///
/// # Errors
/// [`Refusal`] when no rule allows the subject.
pub fn authorize(
    policy: &Policy,
    cluster: &ClusterName,
    token: VerifiedToken,
) -> Result<Permission, Refusal> {
    let attributes = Attributes::of(&token, cluster);
    let rule = match policy {
        Policy::AllowAll => Some("allowAll".to_owned()),
        Policy::AnyOf(filters) => filters
            .iter()
            .find(|filter| filter.allows(&attributes))
            .map(ToString::to_string),
    };
    match rule {
        Some(rule) => Ok(Permission {
            token,
            cluster: cluster.clone(),
            rule,
        }),
        None => Err(Refusal::NoRuleMatches {
            username: token.service_account().username(),
        }),
    }
}

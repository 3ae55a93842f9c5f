//! Applies an endpoint's rules to a live subject.

use thiserror::Error;

use crate::ident::ClusterName;
use crate::liveness::LiveSubject;
use crate::policy::{Attributes, Policy};

/// The permission to issue one token for one subject. Only [`authorize`] makes one.
#[derive(Debug)]
pub struct Grant {
    subject: LiveSubject,
    cluster: ClusterName,
    rule: String,
}

impl Grant {
    /// Who gets the token.
    pub fn subject(&self) -> &LiveSubject {
        &self.subject
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
    subject: LiveSubject,
) -> Result<Grant, Refusal> {
    let attributes = Attributes::of(&subject, cluster);
    let rule = match policy {
        Policy::AllowAll => Some("allowAll".to_owned()),
        Policy::AnyOf(filters) => filters
            .iter()
            .find(|filter| filter.allows(&attributes))
            .map(ToString::to_string),
    };
    match rule {
        Some(rule) => Ok(Grant {
            subject,
            cluster: cluster.clone(),
            rule,
        }),
        None => Err(Refusal::NoRuleMatches {
            username: subject.token().service_account().username(),
        }),
    }
}

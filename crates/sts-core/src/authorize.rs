//! Applies an endpoint's rules to the subject of a verified token.
//!
//! This comes before the API server is asked: a pod that no rule allows costs it nothing.

use crate::ident::{ClusterName, Role};
use crate::policy::{Allowance, Attributes, KnownLabels, Policy};
use crate::verify::VerifiedToken;

pub use crate::policy::Refusal;

/// The rules allow the token's subject, if it is alive: [`crate::liveness`] makes a grant of it. Only [`authorize`] makes one.
#[derive(Clone, Debug)]
pub struct Permission {
    token: VerifiedToken,
    cluster: ClusterName,
    attributes: Attributes,
    allowance: Allowance,
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

    /// What rules and claims can say of the subject.
    pub fn attributes(&self) -> &Attributes {
        &self.attributes
    }

    /// The rule that allowed it, for the audit line.
    pub fn rule(&self) -> &str {
        &self.allowance.rule
    }

    /// The role that the token is for; `None` at an endpoint that binds no roles.
    pub fn role(&self) -> Option<&Role> {
        self.allowance.role.as_ref().map(|bound| &bound.role)
    }
}

/// What the rules are asked, beside the token.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The configured name of the token's issuer's cluster.
    pub cluster: &'a ClusterName,
    /// The role that the pod asks for, if any.
    pub role: Option<&'a Role>,
    /// What is known of the labels around the pod. A rule that asks for others allows nothing.
    pub labels: KnownLabels,
}

impl<'a> Request<'a> {
    /// A request for no role, with no labels known.
    pub fn of(cluster: &'a ClusterName) -> Self {
        Self {
            cluster,
            role: None,
            labels: KnownLabels::default(),
        }
    }
}

/// Whether it depends on labels that nobody has looked for whether the token's subject may have what it asks for. Then they are looked
/// for, which may cost its API server a call: so not for a subject that is allowed, or refused, whatever its labels are.
pub fn wants_labels(policy: &Policy, request: &Request<'_>, token: &VerifiedToken) -> bool {
    let Request {
        cluster,
        role,
        labels,
    } = request;
    if labels.has(policy.labels()) {
        return false;
    }
    let attributes = Attributes::of(token, cluster, labels.clone());
    matches!(policy.decide(&attributes, *role), Err(Refusal::Open { .. }))
}

/// Applies the rules; the first that matches is recorded.
///
/// # Errors
/// [`Refusal`] when no rule allows the subject, or no binding the role it asks for.
pub fn authorize(
    policy: &Policy,
    request: Request<'_>,
    token: VerifiedToken,
) -> Result<Permission, Refusal> {
    let Request {
        cluster,
        role,
        labels,
    } = request;
    let attributes = Attributes::of(&token, cluster, labels);
    let allowance = policy.decide(&attributes, role)?;
    Ok(Permission {
        token,
        cluster: cluster.clone(),
        attributes,
        allowance,
    })
}

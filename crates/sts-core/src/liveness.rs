//! Whether the subject that the rules allow is alive, and whether both who were asked mean the same one.
//!
//! A signature says that a token was once issued; only the API server knows that its pod and ServiceAccount still exist. What it
//! answers is compared with what the token says, so that neither a confused API server nor a second authenticator that uses names
//! like a ServiceAccount's can turn one identity into another.

use thiserror::Error;

use crate::authorize::Permission;
use crate::ident::Audience;

/// What the API server answered to a TokenReview (`authentication.k8s.io/v1`, `TokenReviewStatus`), as it came.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Review {
    /// `status.authenticated`.
    pub authenticated: bool,
    /// `status.error`, if it is not empty.
    pub error: Option<String>,
    /// `status.audiences`.
    pub audiences: Vec<String>,
    /// `status.user.username`.
    pub username: Option<String>,
    /// `status.user.uid`.
    pub uid: Option<String>,
    /// `status.user.extra["authentication.kubernetes.io/pod-name"]`.
    pub pod_name: Vec<String>,
    /// `status.user.extra["authentication.kubernetes.io/pod-uid"]`.
    pub pod_uid: Vec<String>,
}

/// The right to one token for one subject: the rules allow it, and what can be known about its life is known. Only this module makes
/// one, and only of a [`Permission`]: so nobody can leave out the rules, the check of the token or this one, or mix two subjects.
#[derive(Debug)]
pub struct Grant {
    permission: Permission,
}

impl Grant {
    /// What the rules allowed, to whom.
    pub fn permission(&self) -> &Permission {
        &self.permission
    }
}

/// Why the API server's answer does not vouch for a token.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum LivenessError {
    /// The review is for another audience, or for none: an empty list means "good at the API server".
    #[error("API server did not confirm the audience")]
    AudienceMismatch,
    /// The API server names another user, ServiceAccount or pod than the token: an alarm, since both checked the same signature.
    #[error("API server and token disagree about {about}")]
    Disagree {
        /// What they disagree about.
        about: &'static str,
    },
    /// The API server does not take the token: its pod or ServiceAccount is gone, most likely.
    #[error("API server does not accept the token any more")]
    Gone,
}

impl LivenessError {
    /// The stable code for metrics, audit and logs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::AudienceMismatch => "aud_mismatch",
            Self::Disagree { .. } => "review_disagrees",
            Self::Gone => "subject_gone",
        }
    }
}

/// Grants the token when the API server's answer and the token name the same one.
///
/// # Errors
/// [`LivenessError`] says what does not fit.
pub fn agree(
    permission: Permission,
    review: &Review,
    audience: &Audience,
) -> Result<Grant, LivenessError> {
    if !review.authenticated || review.error.is_some() {
        return Err(LivenessError::Gone);
    }
    if !review
        .audiences
        .iter()
        .any(|confirmed| confirmed == audience.as_str())
    {
        return Err(LivenessError::AudienceMismatch);
    }
    let account = permission.token().service_account();
    let pod = permission.token().pod();
    let same = |answer: &[String], ours: &str| matches!(answer, [one] if one == ours);
    if review.username.as_deref() != Some(account.username().as_str()) {
        return Err(LivenessError::Disagree { about: "username" });
    }
    if review.uid.as_deref() != Some(account.uid.as_str()) {
        return Err(LivenessError::Disagree {
            about: "ServiceAccount uid",
        });
    }
    if !same(&review.pod_name, pod.name.as_str()) {
        return Err(LivenessError::Disagree { about: "pod name" });
    }
    if !same(&review.pod_uid, pod.uid.as_str()) {
        return Err(LivenessError::Disagree { about: "pod uid" });
    }
    Ok(Grant { permission })
}

/// Grants the token on the subject token's word alone, for issuers whose API server cannot be asked (`verification: jwks`).
///
/// What that leaves exposed: a token stays good until it expires, also when its pod is long gone.
pub fn accept_offline(permission: Permission) -> Grant {
    Grant { permission }
}

#[cfg(test)]
#[path = "liveness/tests.rs"]
mod tests;

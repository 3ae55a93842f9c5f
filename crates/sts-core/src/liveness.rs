//! Whether the subject of a verified token is alive, and whether both who were asked mean the same one.
//!
//! A signature says that a token was once issued; only the API server knows that its pod and ServiceAccount still exist. What it
//! answers is compared with what the token says, so that neither a confused API server nor a second authenticator that uses names
//! like a ServiceAccount's can turn one identity into another.

use thiserror::Error;

use crate::ident::Audience;
use crate::verify::VerifiedToken;

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

/// The subject of a verified token, of whom it is known what can be known about their life. Only this module makes one.
#[derive(Clone, Debug)]
pub struct LiveSubject {
    token: VerifiedToken,
}

impl LiveSubject {
    /// The token that proves who the subject is.
    pub fn token(&self) -> &VerifiedToken {
        &self.token
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

/// Accepts the subject when the API server's answer and the token name the same one.
///
/// # Errors
/// [`LivenessError`] says what does not fit.
pub fn agree(
    token: VerifiedToken,
    review: &Review,
    audience: &Audience,
) -> Result<LiveSubject, LivenessError> {
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
    let account = token.service_account();
    let pod = token.pod();
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
    Ok(LiveSubject { token })
}

/// Accepts the subject on the token's word alone, for issuers whose API server cannot be asked (`verification: jwks`).
///
/// What that leaves exposed: a token stays good until it expires, also when its pod is long gone.
pub fn accept_offline(token: VerifiedToken) -> LiveSubject {
    LiveSubject { token }
}

#[cfg(test)]
#[path = "liveness/tests.rs"]
mod tests;

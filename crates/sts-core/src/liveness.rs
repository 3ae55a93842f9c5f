//! Whether the subject that the rules allow is alive, and whether both who were asked mean the same one.
//!
//! A signature says that a token was once issued; only the API server knows that its pod and ServiceAccount still exist. It is asked
//! about the token ([`agree`]), or followed by a watch of what exists ([`accept_seen`]), or, where it cannot be reached at all, done
//! without ([`accept_offline`]). What it answers is compared with what the token says, so that neither a confused API server nor a second
//! authenticator that uses names like a ServiceAccount's can turn one identity into another.

use std::time::Duration;

use thiserror::Error;

use crate::authorize::Permission;
use crate::ident::Uid;
use crate::time::UnixSeconds;

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

/// What is known of one object with a uid: a ServiceAccount or a pod that has not finished.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Existence {
    /// There is no such object.
    Absent,
    /// It is being deleted: `metadata.deletionTimestamp`, which lies ahead while the grace period runs.
    Ending(UnixSeconds),
    /// It is there.
    Present,
}

impl Existence {
    /// How long after its `deletionTimestamp` an object that a finalizer holds still counts, as at kube-apiserver
    /// (`pkg/serviceaccount/claims.go`).
    const LINGERS: Duration = Duration::from_secs(60);

    fn counts(self, now: UnixSeconds) -> bool {
        match self {
            Self::Absent => false,
            Self::Ending(at) => now <= at.saturating_add(Self::LINGERS),
            Self::Present => true,
        }
    }
}

/// What a watch knows of a token's subject.
#[derive(Clone, Copy, Debug)]
pub struct Sighting {
    /// The pod of the token's namespace, pod name and pod uid.
    pub pod: Existence,
    /// The ServiceAccount of the token's namespace, ServiceAccount name and uid.
    pub service_account: Existence,
    /// How long ago the API server gave its last sign of life: what it did since then is not known.
    pub age: Duration,
}

impl Sighting {
    /// How old a sighting may be. A watch gives a sign of life every ten seconds at least.
    pub const FRESH: Duration = Duration::from_secs(30);

    /// What a watch of that age is good for.
    ///
    /// # Errors
    /// [`LivenessError::Unconfirmed`] if it is too old to say anything.
    pub fn confirmation(age: Duration, grace: Grace) -> Result<Confirmation, LivenessError> {
        if age <= Self::FRESH {
            Ok(Confirmation::Watch)
        } else if age <= Self::FRESH.saturating_add(grace.get()) {
            Ok(Confirmation::Grace)
        } else {
            Err(LivenessError::Unconfirmed)
        }
    }
}

/// How long after the API server's last word its word still counts. Zero, the default: not at all.
///
/// Invariant: at most [`Grace::LONGEST`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Grace(Duration);

impl Grace {
    /// The longest: whoever wants more than bridging a restart of the API server wants [`accept_offline`].
    pub const LONGEST: Duration = Duration::from_secs(300);
    /// How long a token lives at most that was issued in grace.
    pub const TOKEN_LIFE: Duration = Duration::from_secs(300);

    /// The grace, or `None` if it is too long.
    pub fn new(duration: Duration) -> Option<Self> {
        (duration <= Self::LONGEST).then_some(Self(duration))
    }

    /// The grace as a duration.
    pub const fn get(self) -> Duration {
        self.0
    }
}

/// How it is known that the subject of a grant is alive.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Confirmation {
    /// It was a short time ago, and the API server does not answer now.
    Grace,
    /// It is not known.
    Offline,
    /// The API server has said so.
    Review,
    /// A watch says so.
    Watch,
}

impl Confirmation {
    /// The name in the audit line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Grace => "grace",
            Self::Offline => "offline",
            Self::Review => "tokenReview",
            Self::Watch => "watch",
        }
    }
}

/// That the API server vouched for a subject, and when. Only [`Grant::verdict`] makes one.
#[derive(Clone, Debug)]
pub struct Verdict {
    pod: Uid,
    service_account: Uid,
    at: UnixSeconds,
}

impl Verdict {
    /// When the API server said so.
    pub fn at(&self) -> UnixSeconds {
        self.at
    }
}

/// The right to one token for one subject: the rules allow it, and what can be known about its life is known. Only this module makes
/// one, and only of a [`Permission`]: so nobody can leave out the rules, the check of the token or this one, or mix two subjects.
#[derive(Debug)]
pub struct Grant {
    permission: Permission,
    confirmation: Confirmation,
}

impl Grant {
    /// What the rules allowed, to whom.
    pub fn permission(&self) -> &Permission {
        &self.permission
    }

    /// How it is known that the subject is alive.
    pub fn confirmation(&self) -> Confirmation {
        self.confirmation
    }

    /// The longest life of a token for this grant, where the grant bounds it.
    pub fn longest_life(&self) -> Option<Duration> {
        match self.confirmation {
            Confirmation::Grace => Some(Grace::TOKEN_LIFE),
            Confirmation::Offline | Confirmation::Review | Confirmation::Watch => None,
        }
    }

    /// The API server's word, for [`accept_in_grace`] later; `None` where this grant is not its word of just now.
    pub fn verdict(&self, now: UnixSeconds) -> Option<Verdict> {
        let token = self.permission.token();
        (self.confirmation == Confirmation::Review).then(|| Verdict {
            pod: token.pod().uid.clone(),
            service_account: token.service_account().uid.clone(),
            at: now,
        })
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
    /// The pod is gone, or has run to its end.
    #[error("pod is gone or has finished")]
    PodGone,
    /// The ServiceAccount is gone; one of the same name that was made anew is another one.
    #[error("ServiceAccount is gone")]
    ServiceAccountGone,
    /// The API server's last word is too old, or there is none. Not the caller's fault.
    #[error("the API server's last word is too old")]
    Unconfirmed,
}

impl LivenessError {
    /// The stable code for metrics, audit and logs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::AudienceMismatch => "aud_mismatch",
            Self::Disagree { .. } => "review_disagrees",
            Self::Gone => "subject_gone",
            Self::PodGone => "pod_gone",
            Self::ServiceAccountGone => "service_account_gone",
            Self::Unconfirmed => "backend_unavailable",
        }
    }
}

/// Grants the token when the API server's answer and the token name the same one.
///
/// # Errors
/// [`LivenessError`] says what does not fit.
pub fn agree(permission: Permission, review: &Review) -> Result<Grant, LivenessError> {
    let audience = permission.token().audience();
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
    Ok(Grant {
        permission,
        confirmation: Confirmation::Review,
    })
}

/// Grants the token when a watch has its pod and its ServiceAccount, by namespace, name and uid, and is not older than it may be.
///
/// # Errors
/// [`LivenessError`] says what is gone, or that the watch is too old to say.
pub fn accept_seen(
    permission: Permission,
    sighting: Sighting,
    grace: Grace,
    now: UnixSeconds,
) -> Result<Grant, LivenessError> {
    let confirmation = Sighting::confirmation(sighting.age, grace)?;
    if !sighting.pod.counts(now) {
        return Err(LivenessError::PodGone);
    }
    if !sighting.service_account.counts(now) {
        return Err(LivenessError::ServiceAccountGone);
    }
    Ok(Grant {
        permission,
        confirmation,
    })
}

/// Grants the token on the API server's last word about its subject, where it does not answer now.
///
/// # Errors
/// [`LivenessError::Unconfirmed`] when that word is about somebody else, or too old.
pub fn accept_in_grace(
    permission: Permission,
    last: &Verdict,
    grace: Grace,
    now: UnixSeconds,
) -> Result<Grant, LivenessError> {
    let Verdict {
        pod,
        service_account,
        at,
    } = last;
    let token = permission.token();
    let same = *pod == token.pod().uid && *service_account == token.service_account().uid;
    // A word from the future is of a clock that was set back: nobody knows how old it is.
    let young = *at <= now && now.since(*at) <= grace.get() && !grace.get().is_zero();
    if same && young {
        Ok(Grant {
            permission,
            confirmation: Confirmation::Grace,
        })
    } else {
        Err(LivenessError::Unconfirmed)
    }
}

/// Grants the token on the subject token's word alone, for issuers whose API server cannot be asked (`verification: jwks`).
///
/// What that leaves exposed: a token stays good until it expires, also when its pod is long gone.
pub fn accept_offline(permission: Permission) -> Grant {
    Grant {
        permission,
        confirmation: Confirmation::Offline,
    }
}

#[cfg(test)]
#[path = "liveness/tests.rs"]
mod tests;

//! Checks a ServiceAccount token: who signed it, for whom, when, and for which pod.

use std::collections::BTreeMap;
use std::time::Duration;

use thiserror::Error;

use crate::ident::{Audience, Issuer, Namespace, PodName, ServiceAccountName, TokenId, Uid};
use crate::keys::KeySet;
use crate::strict_json::StrictJson;
use crate::time::{LEEWAY, UnixSeconds};
use crate::token::UnverifiedToken;

/// What a token must be to be accepted at an endpoint.
#[derive(Clone, Debug)]
pub struct Expectations {
    /// The issuer, byte for byte.
    pub issuer: Issuer,
    /// The endpoint's own token audience. The token must be for it, and for nobody else: one that another service takes too could
    /// have been stolen there.
    pub audience: Audience,
    /// The API server's own audiences, where the operator has written them out under `danger:`. A token that is for these alone is a
    /// pod's default token: whoever gets hold of it anywhere can use it here. Empty: none is taken.
    pub api_server_audiences: Vec<Audience>,
    /// The longest life a token may have been issued with. Stops the one-year tokens that clusters issue for old clients.
    pub longest_life: Duration,
}

impl Expectations {
    /// The longest life by default: one day.
    pub const LONGEST_LIFE: Duration = Duration::from_secs(86_400);
    /// The life of a pod's default token: kube-apiserver stretches it to a year for old clients
    /// (`--service-account-extend-token-expiration`; `pkg/serviceaccount/claims.go`). Counts for the API server's audiences alone.
    const EXTENDED_LIFE: Duration = Duration::from_secs(31_536_000);
}

/// A Kubernetes ServiceAccount: by uid, since a name can be deleted and made anew.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServiceAccount {
    /// `metadata.namespace`.
    pub namespace: Namespace,
    /// `metadata.name`.
    pub name: ServiceAccountName,
    /// `metadata.uid`.
    pub uid: Uid,
}

impl ServiceAccount {
    /// The name the API server gives it: `system:serviceaccount:<namespace>:<name>`.
    pub fn username(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.namespace, self.name)
    }
}

/// The pod a token is bound to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pod {
    /// `metadata.name`.
    pub name: PodName,
    /// `metadata.uid`: a StatefulSet's next pod has the same name and another uid.
    pub uid: Uid,
}

/// The node a pod's token names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Node {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
}

/// A token that a trusted key signed, for this endpoint, in its time, bound to a pod. Only [`verify`] makes one.
#[derive(Clone, Debug)]
pub struct VerifiedToken {
    issuer: Issuer,
    service_account: ServiceAccount,
    pod: Pod,
    node: Option<Node>,
    audience: Audience,
    expires: UnixSeconds,
    id: Option<TokenId>,
}

impl VerifiedToken {
    /// Who signed it; the configuration names the cluster of that issuer.
    pub fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    /// Whose token it is.
    pub fn service_account(&self) -> &ServiceAccount {
        &self.service_account
    }

    /// The pod it is bound to.
    pub fn pod(&self) -> &Pod {
        &self.pod
    }

    /// The pod's node, where the cluster writes it into its tokens (Kubernetes 1.30 and later).
    pub fn node(&self) -> Option<&Node> {
        self.node.as_ref()
    }

    /// The audience it was accepted for: what the API server is asked about.
    pub fn audience(&self) -> &Audience {
        &self.audience
    }

    /// When it ends.
    pub fn expires(&self) -> UnixSeconds {
        self.expires
    }

    /// Its `jti`, where the cluster writes one.
    pub fn id(&self) -> Option<&TokenId> {
        self.id.as_ref()
    }
}

/// Why a well-formed token is refused.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum VerifyError {
    /// The header's algorithm is not the key's.
    #[error("algorithm does not fit the key")]
    AlgorithmNotAllowed,
    /// The token is for somebody else.
    #[error("token is for another audience")]
    AudienceMismatch,
    /// The token is for this endpoint and for others.
    #[error("token is for other audiences too")]
    AudienceNotExclusive,
    /// A claim is missing or has a wrong type.
    #[error("claim {claim} is missing or of a wrong type")]
    ClaimType {
        /// The claim's path.
        claim: &'static str,
    },
    /// The token's time is over.
    #[error("token expired at {expires:?}, it is {now:?}")]
    Expired {
        /// `exp`.
        expires: UnixSeconds,
        /// The time of the check.
        now: UnixSeconds,
    },
    /// The token names another issuer than the one whose keys it is checked with.
    #[error("token is of another issuer")]
    IssuerMismatch,
    /// No key of the issuer has the token's key id.
    #[error("issuer has no key of that kid")]
    KeyUnknown,
    /// The token was issued for longer than any projected token of a pod.
    #[error("token was issued for {life:?}")]
    LifetimeTooLong {
        /// `exp` minus `iat`.
        life: Duration,
    },
    /// A name in the token is none that Kubernetes allows.
    #[error("claim {claim} is no such name")]
    NameInvalid {
        /// The claim's path.
        claim: &'static str,
    },
    /// The token is not bound to a pod.
    #[error("token is not bound to a pod")]
    NotBound,
    /// The token's time has not come.
    #[error("token is not valid yet")]
    NotYetValid,
    /// The key did not sign the token.
    #[error("signature is invalid")]
    SignatureInvalid,
    /// `sub` and the Kubernetes claims name different ServiceAccounts.
    #[error("sub does not fit the Kubernetes claims")]
    SubjectMismatch,
}

impl VerifyError {
    /// The stable code for metrics, audit and logs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::AlgorithmNotAllowed => "alg_not_allowed",
            Self::AudienceMismatch => "aud_mismatch",
            Self::AudienceNotExclusive => "aud_not_exclusive",
            Self::ClaimType { .. } => "claim_type",
            Self::Expired { .. } => "expired",
            Self::IssuerMismatch => "iss_mismatch",
            Self::KeyUnknown => "kid_unknown",
            Self::LifetimeTooLong { .. } => "lifetime_too_long",
            Self::NameInvalid { .. } => "name_invalid",
            Self::NotBound => "not_bound",
            Self::NotYetValid => "not_yet_valid",
            Self::SignatureInvalid => "sig_invalid",
            Self::SubjectMismatch => "sub_mismatch",
        }
    }
}

type Claims = BTreeMap<String, StrictJson>;

/// Verifies a token against its issuer's keys and an endpoint's expectations.
///
/// # Errors
/// [`VerifyError`]: the first thing found wrong; nothing of the token is believed before its signature was checked.
pub fn verify(
    token: UnverifiedToken,
    keys: &KeySet,
    expectations: &Expectations,
    now: UnixSeconds,
) -> Result<VerifiedToken, VerifyError> {
    if token.unverified_issuer() != &expectations.issuer {
        return Err(VerifyError::IssuerMismatch);
    }
    let claims = token.into_signed_claims(keys)?;
    let (audience, longest_life) = accepted_audience(&claims, expectations)?;
    let expires = check_times(&claims, longest_life, now)?;
    let (service_account, pod, node) = parse_binding(&claims)?;
    if text(&claims, "sub", "sub")? != service_account.username() {
        return Err(VerifyError::SubjectMismatch);
    }
    let id = match claims.get("jti") {
        None => None,
        Some(id) => Some(parse_id(id)?),
    };
    let issuer = expectations.issuer.clone();
    Ok(VerifiedToken {
        issuer,
        service_account,
        pod,
        node,
        audience: audience.clone(),
        expires,
        id,
    })
}

/// The audience that the token is accepted for, and how long such a token may live at most (RFC 7519, section 4.1.3: one text or an
/// array of texts). Ours, or the API server's if that is allowed; never the one in place of the other, and never both.
fn accepted_audience<'e>(
    claims: &Claims,
    expectations: &'e Expectations,
) -> Result<(&'e Audience, Duration), VerifyError> {
    const WRONG: VerifyError = VerifyError::ClaimType { claim: "aud" };
    let audience = claims.get("aud").ok_or(WRONG)?;
    let audiences: Vec<&str> = match audience.as_array() {
        Some(values) => values
            .iter()
            .map(StrictJson::as_text)
            .collect::<Option<_>>()
            .ok_or(WRONG)?,
        None => vec![audience.as_text().ok_or(WRONG)?],
    };
    let ours = &expectations.audience;
    if audiences.contains(&ours.as_str()) {
        return if audiences.iter().all(|audience| *audience == ours.as_str()) {
            Ok((ours, expectations.longest_life))
        } else {
            Err(VerifyError::AudienceNotExclusive)
        };
    }
    let api_server = |audience: &&str| {
        let known = &expectations.api_server_audiences;
        known.iter().find(|known| known.as_str() == *audience)
    };
    let accepted: Option<Vec<_>> = audiences.iter().map(api_server).collect();
    accepted
        .and_then(|accepted| accepted.first().copied())
        .map(|audience| (audience, Expectations::EXTENDED_LIFE))
        .ok_or(VerifyError::AudienceMismatch)
}

/// `exp`, `iat` and `nbf` are all required, whole, and in order; returns `exp`.
fn check_times(
    claims: &Claims,
    longest: Duration,
    now: UnixSeconds,
) -> Result<UnixSeconds, VerifyError> {
    let expires = seconds(claims, "exp")?;
    let issued = seconds(claims, "iat")?;
    let not_before = seconds(claims, "nbf")?;
    if now >= expires {
        return Err(VerifyError::Expired { expires, now });
    }
    let latest_start = now.saturating_add(LEEWAY);
    if issued > latest_start || not_before > latest_start {
        return Err(VerifyError::NotYetValid);
    }
    if expires <= issued || expires <= not_before {
        return Err(VerifyError::ClaimType { claim: "exp" });
    }
    let life = expires.since(issued);
    if life > longest {
        return Err(VerifyError::LifetimeTooLong { life });
    }
    Ok(expires)
}

/// The `kubernetes.io` claim of a pod-bound token (Kubernetes: `pkg/serviceaccount/claims.go`).
fn parse_binding(claims: &Claims) -> Result<(ServiceAccount, Pod, Option<Node>), VerifyError> {
    let private = claims.get("kubernetes.io").ok_or(VerifyError::NotBound)?;
    let private = private.as_object().ok_or(VerifyError::ClaimType {
        claim: "kubernetes.io",
    })?;
    if private
        .get("warnafter")
        .is_some_and(|value| value.as_integer().is_none())
    {
        return Err(VerifyError::ClaimType {
            claim: "kubernetes.io.warnafter",
        });
    }
    if private.contains_key("secret") {
        return Err(VerifyError::NotBound);
    }
    let pod = private.get("pod").ok_or(VerifyError::NotBound)?;
    let pod = pod.as_object().ok_or(VerifyError::ClaimType {
        claim: "kubernetes.io.pod",
    })?;
    let pod = Pod {
        name: name(pod, "name", "kubernetes.io.pod.name", PodName::parse)?,
        uid: name(pod, "uid", "kubernetes.io.pod.uid", Uid::parse)?,
    };
    let account = private
        .get("serviceaccount")
        .and_then(StrictJson::as_object);
    let account = account.ok_or(VerifyError::ClaimType {
        claim: "kubernetes.io.serviceaccount",
    })?;
    let service_account = ServiceAccount {
        namespace: name(
            private,
            "namespace",
            "kubernetes.io.namespace",
            Namespace::parse,
        )?,
        name: name(
            account,
            "name",
            "kubernetes.io.serviceaccount.name",
            ServiceAccountName::parse,
        )?,
        uid: name(
            account,
            "uid",
            "kubernetes.io.serviceaccount.uid",
            Uid::parse,
        )?,
    };
    Ok((service_account, pod, parse_node(private)?))
}

fn parse_node(private: &Claims) -> Result<Option<Node>, VerifyError> {
    const CLAIM: &str = "kubernetes.io.node";
    let Some(node) = private.get("node") else {
        return Ok(None);
    };
    let node = node
        .as_object()
        .ok_or(VerifyError::ClaimType { claim: CLAIM })?;
    let name = name(node, "name", CLAIM, PodName::parse)?
        .as_str()
        .to_owned();
    let uid = text(node, "uid", CLAIM)?.to_owned();
    Ok(Some(Node { name, uid }))
}

fn parse_id(id: &StrictJson) -> Result<TokenId, VerifyError> {
    let text = id
        .as_text()
        .ok_or(VerifyError::ClaimType { claim: "jti" })?;
    TokenId::parse(text).or(Err(VerifyError::ClaimType { claim: "jti" }))
}

fn text<'a>(claims: &'a Claims, member: &str, claim: &'static str) -> Result<&'a str, VerifyError> {
    claims
        .get(member)
        .and_then(StrictJson::as_text)
        .ok_or(VerifyError::ClaimType { claim })
}

fn name<T, E>(
    claims: &Claims,
    member: &str,
    claim: &'static str,
    parse: fn(&str) -> Result<T, E>,
) -> Result<T, VerifyError> {
    parse(text(claims, member, claim)?).or(Err(VerifyError::NameInvalid { claim }))
}

fn seconds(claims: &Claims, claim: &'static str) -> Result<UnixSeconds, VerifyError> {
    let number = claims.get(claim).and_then(StrictJson::as_integer);
    let number = number.and_then(|number| u64::try_from(number).ok());
    number
        .and_then(UnixSeconds::new)
        .ok_or(VerifyError::ClaimType { claim })
}

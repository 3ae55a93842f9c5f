//! Bytes → [`PodReview`]: what the API server asks, with the pod still as raw JSON.
//!
//! AdmissionReview v1 only
//! (<https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#webhook-request-and-response>).
//! What cannot be read is an HTTP 400, never an answer under a made-up uid.

use std::borrow::Cow;
use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::pod::{PodView, Text};

/// A question about a pod, or about something else of a pod that we leave alone.
#[derive(Debug)]
pub struct PodReview<'a> {
    /// Echoed in the answer.
    pub uid: String,
    /// What is done with which part of the pod.
    pub facts: RequestFacts,
    /// The pod; empty where the question is not about a pod's creation.
    pub pod: PodView<'a>,
}

/// What a decision needs of the request besides the pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestFacts {
    /// What is done.
    pub operation: Operation,
    /// Which part of the object it is done to.
    pub target: Target,
    /// How messages and logs name the pod.
    pub pod: PodName,
    /// `request.namespace`: a pod need not name its own.
    pub namespace: String,
    /// A number of this request's own, to spread by what would else happen all at once.
    pub spread: u64,
}

/// `request.operation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Operation {
    /// A call that streams, such as exec.
    Connect,
    /// A new object.
    Create,
    /// The end of one.
    Delete,
    /// A change.
    Update,
}

/// The whole object, or a subresource of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The object.
    Object,
    /// `pods/status`, `pods/eviction`, `pods/ephemeralcontainers` and the like.
    Subresource,
}

/// `namespace/name`, or `namespace/generateName*` as long as there is no name. Whatever the API
/// server has not validated yet is cut and made printable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodName(String);

impl PodName {
    /// From the request and the object.
    pub fn new(namespace: &str, name: Option<&str>, generate_name: Option<&str>) -> Self {
        let namespace = Shown(namespace);
        match (name, generate_name) {
            (Some(name), _) if !name.is_empty() => Self(format!("{namespace}/{}", Shown(name))),
            (_, Some(prefix)) if !prefix.is_empty() => {
                Self(format!("{namespace}/{}*", Shown(prefix)))
            }
            _ => Self(format!("{namespace}/(no name)")),
        }
    }

    /// What somebody else puts a name in for.
    pub(crate) fn stand_in(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Display for PodName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A user's text in a message: printable, at most 64 characters.
pub(crate) struct Shown<'a>(pub(crate) &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut characters = self.0.chars().flat_map(char::escape_default);
        for character in characters.by_ref().take(SHOWN_CHARACTERS) {
            write!(formatter, "{character}")?;
        }
        if characters.next().is_some() {
            formatter.write_str("...")
        } else {
            Ok(())
        }
    }
}

/// Why a body is not a question we can answer. It carries no part of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReviewError {
    /// Not JSON of the form of an AdmissionReview; `column` counts bytes of the line.
    #[error("the body is no AdmissionReview: line {line}, column {column}")]
    Malformed {
        /// Where reading stopped.
        line: usize,
        /// Where reading stopped.
        column: usize,
    },
    /// There is no `request`.
    #[error("the review has no request")]
    NoRequest,
    /// A pod is created, but there is no pod.
    #[error("the request has no object")]
    NoObject,
    /// `request.uid` is empty, or longer than any uid.
    #[error("the request has no uid, or one of more than 128 bytes")]
    NoUid,
    /// The object is not a `v1` `Pod`.
    #[error("the request is not about a v1 Pod")]
    NotAPod,
    /// Another version of the API, or not an AdmissionReview.
    #[error("the body is not an admission.k8s.io/v1 AdmissionReview")]
    NotV1,
    /// Not UTF-8.
    #[error("the body is not UTF-8")]
    NotUtf8,
    /// The pod's fields are not of the types we read.
    #[error("the pod cannot be read: line {line}, column {column} of the object")]
    PodMalformed {
        /// Where reading stopped.
        line: usize,
        /// Where reading stopped.
        column: usize,
    },
}

impl ReviewError {
    /// Stable name for metrics and logs.
    pub fn code(self) -> &'static str {
        match self {
            Self::Malformed { .. } => "malformed",
            Self::NoObject => "no_object",
            Self::NoRequest => "no_request",
            Self::NoUid => "no_uid",
            Self::NotAPod => "not_a_pod",
            Self::NotUtf8 => "not_utf8",
            Self::NotV1 => "not_v1",
            Self::PodMalformed { .. } => "pod_malformed",
        }
    }
}

/// Reads a review.
///
/// # Errors
/// See [`ReviewError`]; all of them mean HTTP 400.
pub fn parse_review(body: &[u8]) -> Result<PodReview<'_>, ReviewError> {
    // Whole-body check: serde skips strings it does not keep without looking at their encoding.
    let text = str::from_utf8(body).map_err(not_utf8)?;
    let review: RawReview<'_> = serde_json::from_str(text).map_err(|error| malformed(&error))?;
    if review.api_version != "admission.k8s.io/v1" || review.kind != "AdmissionReview" {
        return Err(ReviewError::NotV1);
    }
    let request = review.request.ok_or(ReviewError::NoRequest)?;
    if request.uid.is_empty() || request.uid.len() > LONGEST_UID {
        return Err(ReviewError::NoUid);
    }
    parse_request(request)
}

fn parse_request(request: RawRequest<'_>) -> Result<PodReview<'_>, ReviewError> {
    let RawRequest {
        uid,
        kind,
        sub_resource,
        namespace,
        name,
        operation,
        object,
    } = request;
    let mut hasher = DefaultHasher::new();
    uid.hash(&mut hasher);
    let spread = hasher.finish();
    let target = match sub_resource {
        Some(part) if !part.as_str().is_empty() => Target::Subresource,
        Some(_) | None => Target::Object,
    };
    let pod = match (target, operation) {
        (Target::Object, Operation::Create) => parse_pod(&kind, object)?,
        (Target::Object, Operation::Connect | Operation::Delete | Operation::Update) => {
            kind.pod()?;
            PodView::default()
        }
        (Target::Subresource, _) => PodView::default(),
    };
    let namespace = namespace.as_ref().map_or("", Text::as_str);
    let pod_name = PodName::new(
        namespace,
        pod.metadata
            .name
            .as_ref()
            .or(name.as_ref())
            .map(Text::as_str),
        pod.metadata.generate_name.as_ref().map(Text::as_str),
    );
    Ok(PodReview {
        uid,
        facts: RequestFacts {
            operation,
            target,
            pod: pod_name,
            namespace: namespace.to_owned(),
            spread,
        },
        pod,
    })
}

fn parse_pod<'a>(
    kind: &RawKind<'a>,
    object: Option<&'a RawValue>,
) -> Result<PodView<'a>, ReviewError> {
    kind.pod()?;
    let object = object.ok_or(ReviewError::NoObject)?;
    let view: PodView<'_> =
        serde_json::from_str(object.get()).map_err(|error| ReviewError::PodMalformed {
            line: error.line(),
            column: error.column(),
        })?;
    Ok(PodView {
        json: object.get(),
        ..view
    })
}

fn not_utf8(_position: std::str::Utf8Error) -> ReviewError {
    ReviewError::NotUtf8
}

fn malformed(error: &serde_json::Error) -> ReviewError {
    ReviewError::Malformed {
        line: error.line(),
        column: error.column(),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawReview<'a> {
    #[serde(borrow, default)]
    api_version: Cow<'a, str>,
    #[serde(borrow, default)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    request: Option<RawRequest<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawRequest<'a> {
    #[serde(default)]
    uid: String,
    #[serde(borrow, default)]
    kind: RawKind<'a>,
    #[serde(borrow, default)]
    sub_resource: Option<Text<'a>>,
    #[serde(borrow, default)]
    namespace: Option<Text<'a>>,
    #[serde(borrow, default)]
    name: Option<Text<'a>>,
    operation: Operation,
    #[serde(borrow, default)]
    object: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct RawKind<'a> {
    #[serde(borrow, default)]
    group: Cow<'a, str>,
    #[serde(borrow, default)]
    version: Cow<'a, str>,
    #[serde(borrow, default)]
    kind: Cow<'a, str>,
}

impl RawKind<'_> {
    fn pod(&self) -> Result<(), ReviewError> {
        let is_pod = self.group.is_empty() && self.version == "v1" && self.kind == "Pod";
        if is_pod {
            Ok(())
        } else {
            Err(ReviewError::NotAPod)
        }
    }
}

/// A uid is a UUID of 36 characters; it goes into logs.
const LONGEST_UID: usize = 128;
const SHOWN_CHARACTERS: usize = 64;

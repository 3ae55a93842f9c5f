//! The one place where a refusal becomes an HTTP answer.
//!
//! The caller gets a status, a standard code and a fixed sentence; what exactly was wrong goes to the audit line alone, so that the
//! answer tells nobody which pods and ServiceAccounts exist. The caller learns one thing more than yes or no: whether to come back.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sts_api::ErrorBody;
use sts_core::authorize::Refusal;
use sts_core::exchange::IssueError;
use sts_core::keys::ring::Withheld;
use sts_core::liveness::LivenessError;
use sts_core::token::ParseTokenError;
use sts_core::verify::VerifyError;
use thiserror::Error;

use crate::limit::TooOften;

/// Why a request is no token exchange. The caller's fault, said as precisely as the standards do.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub(crate) enum RequestError {
    /// RFC 8693, section 2.1: we issue on nobody's behalf but the subject's.
    #[error("actor_token is not supported")]
    ActorToken,
    #[error("Authorization is not one `Bearer` token")]
    Authorization,
    #[error("body is larger than 16 KiB or did not come in time")]
    Body,
    #[error("content type must be application/x-www-form-urlencoded")]
    ContentType,
    #[error("a parameter is given twice")]
    DuplicateParameter,
    #[error("grant_type must be urn:ietf:params:oauth:grant-type:token-exchange")]
    GrantType,
    #[error("a required parameter is missing: grant_type, subject_token or subject_token_type")]
    MissingParameter,
    #[error("no token was presented")]
    NoToken,
    #[error("parameters belong into the body, never into the URL")]
    Query,
    #[error("requested_token_type must be urn:ietf:params:oauth:token-type:jwt")]
    RequestedTokenType,
    #[error("role is not one name of printable ASCII, in the form or the header and not in both")]
    Role,
    #[error("scope is not supported")]
    Scope,
    #[error("subject_token_type must be urn:ietf:params:oauth:token-type:jwt")]
    SubjectTokenType,
    #[error("audience or resource is not this endpoint's")]
    Target,
    #[error("the token is presented in more than one way")]
    TwoTokens,
}

/// Why an exchange gives no token.
#[derive(Debug, Error)]
pub(crate) enum ExchangeError {
    /// The token's issuer is none of the configured ones.
    #[error("token is of no configured issuer")]
    IssuerUnknown,
    #[error("token cannot be issued")]
    Issue(#[source] IssueError),
    #[error("API server does not vouch for the token")]
    Liveness(#[source] LivenessError),
    #[error("token cannot be read")]
    Parse(#[source] ParseTokenError),
    #[error("rules do not allow a token")]
    Refused(#[source] Refusal),
    #[error("request is no token exchange")]
    Request(#[source] RequestError),
    /// The address or the pod came more often than one may.
    #[error("caller came too often")]
    TooOften {
        /// When it may come again.
        after: Duration,
    },
    /// Something we need does not answer: nobody gets a token until it does.
    #[error("{what} is not available")]
    Unavailable { what: &'static str },
    #[error("token is not acceptable")]
    Verify(#[source] VerifyError),
    /// There is no key that may sign at this moment: nobody gets a token until there is.
    #[error("signing key is not available")]
    Withheld(#[source] Withheld),
}

impl ExchangeError {
    /// The stable code for metrics, audit and logs.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::IssuerUnknown => "iss_mismatch",
            Self::Issue(error) => error.code(),
            Self::Liveness(error) => error.code(),
            Self::Parse(error) => error.code(),
            Self::Refused(refusal) => refusal.code(),
            Self::Request(_) => "request_invalid",
            Self::TooOften { .. } => "rate_limited",
            Self::Unavailable { .. } | Self::Withheld(_) => "backend_unavailable",
            Self::Verify(error) => error.code(),
        }
    }

    /// What the caller is told.
    fn answer(&self) -> Answer {
        match self {
            Self::Refused(_) => Answer::Denied,
            Self::Issue(IssueError::Sign(_)) => Answer::Broken,
            Self::Liveness(LivenessError::Unconfirmed)
            | Self::Unavailable { .. }
            | Self::Withheld(_) => Answer::Later,
            Self::TooOften { after } => Answer::Slower { after: *after },
            Self::IssuerUnknown
            | Self::Issue(IssueError::Claims(_))
            | Self::Liveness(_)
            | Self::Parse(_)
            | Self::Verify(_) => Answer::TokenRefused,
            Self::Request(error) => Answer::Request(*error),
        }
    }
}

/// How the caller presented its token, which decides the standard that the answer follows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Presentation {
    /// RFC 6750: status 401 or 403 with `WWW-Authenticate`.
    Bearer,
    /// RFC 8693 and RFC 6749, section 5.2: status 400 with a JSON body.
    Form,
}

impl From<TooOften> for ExchangeError {
    fn from(TooOften { after }: TooOften) -> Self {
        Self::TooOften { after }
    }
}

enum Answer {
    Broken,
    Denied,
    Later,
    Request(RequestError),
    Slower { after: Duration },
    TokenRefused,
}

pub(crate) fn respond(error: &ExchangeError, presentation: Presentation) -> Response {
    let bearer = presentation == Presentation::Bearer;
    let (status, code, sentence) = match error.answer() {
        Answer::Broken => {
            return body(
                StatusCode::INTERNAL_SERVER_ERROR,
                "server_error",
                "the token could not be signed",
            );
        }
        Answer::Later => {
            let response = body(
                StatusCode::SERVICE_UNAVAILABLE,
                "temporarily_unavailable",
                "try again later",
            );
            return with(response, header::RETRY_AFTER, sts_api::RETRY_AFTER.into());
        }
        Answer::Slower { after } => return slower(after),
        Answer::Denied if bearer => (StatusCode::FORBIDDEN, "insufficient_scope", DENIED),
        Answer::Denied => (StatusCode::BAD_REQUEST, "invalid_target", DENIED),
        Answer::TokenRefused if bearer => (StatusCode::UNAUTHORIZED, "invalid_token", REFUSED),
        Answer::TokenRefused => (StatusCode::BAD_REQUEST, "invalid_request", REFUSED),
        Answer::Request(RequestError::NoToken) => {
            // RFC 6750, section 3.1: no error code for a caller who presented nothing.
            let response = body(
                StatusCode::UNAUTHORIZED,
                "invalid_request",
                "no token was presented",
            );
            return with(
                response,
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"sts\""),
            );
        }
        Answer::Request(error) => return request_error(error),
    };
    let response = body(status, code, sentence);
    if !bearer {
        return response;
    }
    let challenge = match code {
        "insufficient_scope" => "Bearer realm=\"sts\", error=\"insufficient_scope\"",
        _ => "Bearer realm=\"sts\", error=\"invalid_token\"",
    };
    with(
        response,
        header::WWW_AUTHENTICATE,
        HeaderValue::from_static(challenge),
    )
}

/// RFC 6585, section 4; the code is RFC 6749's nearest.
fn slower(after: Duration) -> Response {
    let response = body(
        StatusCode::TOO_MANY_REQUESTS,
        "temporarily_unavailable",
        "too many requests: try again later",
    );
    let seconds = after.as_secs().saturating_add(1);
    with(response, header::RETRY_AFTER, HeaderValue::from(seconds))
}

const DENIED: &str =
    "no rule of this endpoint allows this ServiceAccount, or not for the role it asks for";
const REFUSED: &str = "the subject token is not acceptable at this endpoint";

fn request_error(error: RequestError) -> Response {
    let (status, code) = match error {
        RequestError::Body => (StatusCode::PAYLOAD_TOO_LARGE, "invalid_request"),
        RequestError::ContentType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "invalid_request"),
        RequestError::GrantType => (StatusCode::BAD_REQUEST, "unsupported_grant_type"),
        RequestError::Scope => (StatusCode::BAD_REQUEST, "invalid_scope"),
        RequestError::Target => (StatusCode::BAD_REQUEST, "invalid_target"),
        RequestError::ActorToken
        | RequestError::Authorization
        | RequestError::DuplicateParameter
        | RequestError::MissingParameter
        | RequestError::NoToken
        | RequestError::Query
        | RequestError::RequestedTokenType
        | RequestError::Role
        | RequestError::SubjectTokenType
        | RequestError::TwoTokens => (StatusCode::BAD_REQUEST, "invalid_request"),
    };
    body(status, code, &error.to_string())
}

/// The JSON error body, never to be cached.
fn body(status: StatusCode, code: &str, sentence: &str) -> Response {
    let body = ErrorBody {
        error: code.to_owned(),
        error_description: sentence.to_owned(),
    };
    let response = (status, Json(body)).into_response();
    with(
        response,
        header::CACHE_CONTROL,
        HeaderValue::from_static("no-store"),
    )
}

/// Answers a request that takes too long.
pub(crate) fn too_slow() -> Response {
    respond(
        &ExchangeError::Unavailable {
            what: "an answer in time",
        },
        Presentation::Form,
    )
}

fn with(mut response: Response, name: HeaderName, value: HeaderValue) -> Response {
    response.headers_mut().insert(name, value);
    response
}

#[cfg(test)]
#[path = "error/tests.rs"]
mod tests;

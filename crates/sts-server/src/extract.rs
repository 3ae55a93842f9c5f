//! Takes the one subject token out of a request, and the role it is to be exchanged for.

use std::collections::HashMap;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderMap, header};
use sts_api::{GRANT_TYPE, ROLE_HEADER, ROLE_PARAMETER, TOKEN_TYPE_JWT};
use sts_core::ident::{Audience, Role};
use sts_core::token::RawToken;
use tokio::time::timeout;

use crate::error::{Presentation, RequestError};

/// The largest body: a token of 8 KiB, escaped, with room to spare.
const LARGEST_BODY: usize = 16 * 1024;
/// How long it may take to arrive: it is a few packets.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a caller presents, and what for.
#[derive(Clone, Debug)]
pub(crate) struct Presented {
    pub(crate) token: RawToken,
    pub(crate) role: Option<Role>,
}

/// The whole body.
pub(crate) async fn body(body: Body) -> Result<Bytes, RequestError> {
    let read = timeout(PATIENCE, to_bytes(body, LARGEST_BODY)).await;
    read.or(Err(RequestError::Body))?
        .or(Err(RequestError::Body))
}

/// The token of an `Authorization: Bearer` header (RFC 6750, section 2.1): one header, one space, one token.
pub(crate) fn bearer(headers: &HeaderMap) -> Result<Option<RawToken>, RequestError> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(RequestError::Authorization);
    }
    let text = value.to_str().or(Err(RequestError::Authorization))?;
    let (scheme, token) = text.split_once(' ').ok_or(RequestError::Authorization)?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if !scheme.eq_ignore_ascii_case("Bearer") || token.is_empty() || !token.bytes().all(allowed) {
        return Err(RequestError::Authorization);
    }
    Ok(Some(RawToken::new(token.to_owned())))
}

/// A Bearer token, and the role of the header beside it.
pub(crate) fn bearer_with_role(headers: &HeaderMap) -> Result<Presented, RequestError> {
    let token = bearer(headers)?.ok_or(RequestError::NoToken)?;
    let role = role_header(headers)?;
    Ok(Presented { token, role })
}

fn role_header(headers: &HeaderMap) -> Result<Option<Role>, RequestError> {
    let mut values = headers.get_all(ROLE_HEADER).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => parse_role(value.to_str().or(Err(RequestError::Role))?),
        (Some(_), Some(_)) => Err(RequestError::Role),
    }
}

fn parse_role(text: &str) -> Result<Option<Role>, RequestError> {
    if text.is_empty() {
        return Ok(None);
    }
    Role::parse(text).map(Some).or(Err(RequestError::Role))
}

/// The token of a request to the token endpoint, and how it was presented: JWTReissuer's Bearer header with an empty body, or the form
/// of RFC 8693.
pub(crate) fn token(
    headers: &HeaderMap,
    body: &[u8],
    audience: &Audience,
) -> (Presentation, Result<Presented, RequestError>) {
    match bearer(headers) {
        Err(error) => (Presentation::Bearer, Err(error)),
        Ok(Some(token)) if body.is_empty() => {
            let role = role_header(headers);
            let presented = role.map(|role| Presented { token, role });
            (Presentation::Bearer, presented)
        }
        Ok(Some(_)) => (Presentation::Bearer, Err(RequestError::TwoTokens)),
        Ok(None) if body.is_empty() => (Presentation::Bearer, Err(RequestError::NoToken)),
        Ok(None) => (Presentation::Form, form(headers, body, audience)),
    }
}

/// RFC 8693, section 2.1. Parameters we do not know are ignored, none may stand twice (RFC 6749, section 3.2).
fn form(headers: &HeaderMap, body: &[u8], audience: &Audience) -> Result<Presented, RequestError> {
    if !is_form(headers) {
        return Err(RequestError::ContentType);
    }
    let mut parameters = HashMap::new();
    for (name, value) in form_urlencoded::parse(body) {
        if parameters.insert(name, value).is_some() {
            return Err(RequestError::DuplicateParameter);
        }
    }
    let given = |name: &str| {
        parameters
            .get(name)
            .map(AsRef::as_ref)
            .filter(|value: &&str| !value.is_empty())
    };
    let required = |name: &str| given(name).ok_or(RequestError::MissingParameter);
    if required("grant_type")? != GRANT_TYPE {
        return Err(RequestError::GrantType);
    }
    let token = required("subject_token")?;
    if required("subject_token_type")? != TOKEN_TYPE_JWT {
        return Err(RequestError::SubjectTokenType);
    }
    if given("requested_token_type").is_some_and(|requested| requested != TOKEN_TYPE_JWT) {
        return Err(RequestError::RequestedTokenType);
    }
    if given("actor_token").is_some() || given("actor_token_type").is_some() {
        return Err(RequestError::ActorToken);
    }
    if given("scope").is_some() {
        return Err(RequestError::Scope);
    }
    if given("resource").is_some()
        || given("audience").is_some_and(|wish| wish != audience.as_str())
    {
        return Err(RequestError::Target);
    }
    // One place for the role, as for the token.
    if headers.contains_key(ROLE_HEADER) {
        return Err(RequestError::Role);
    }
    let role = parse_role(given(ROLE_PARAMETER).unwrap_or_default())?;
    let token = RawToken::new(token.to_owned());
    Ok(Presented { token, role })
}

/// `application/x-www-form-urlencoded`, with or without the one charset it can have, and not compressed.
fn is_form(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(value), None) = (types.next(), types.next()) else {
        return false;
    };
    let text = value.to_str().unwrap_or_default().to_ascii_lowercase();
    let plain = matches!(
        text.split_once(';')
            .map_or((text.as_str(), ""), |(name, rest)| (
                name.trim(),
                rest.trim()
            )),
        ("application/x-www-form-urlencoded", "" | "charset=utf-8")
    );
    plain && !headers.contains_key(header::CONTENT_ENCODING)
}

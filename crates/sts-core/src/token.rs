//! The text of a token, before anything in it is believed.

mod unverified;

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use thiserror::Error;
use zeroize::Zeroizing;

pub use unverified::UnverifiedToken;

use crate::strict_json::{StrictJson, StrictJsonError};

/// The longest token looked at. A ServiceAccount token takes 1 to 1.5 KiB.
pub const LONGEST_TOKEN: usize = 8192;

/// The longest header, decoded: kube-apiserver's has 70 bytes.
const LONGEST_HEADER: usize = 1024;

/// A token as it came in. Its text never leaves this crate but through [`RawToken::expose`].
#[derive(Clone)]
pub struct RawToken(Zeroizing<String>);

impl RawToken {
    /// Takes a token's text; nothing is checked yet.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text, for the one who has to send it on.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Splits and decodes the token far enough to choose the keys it has to be checked against.
    ///
    /// # Errors
    /// [`ParseTokenError`] when the text is no compact JWS (RFC 7515, section 7.1) as Kubernetes issues it.
    pub fn route(&self) -> Result<UnverifiedToken, ParseTokenError> {
        UnverifiedToken::parse(&self.0)
    }
}

impl fmt::Debug for RawToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RawToken")
    }
}

/// Why a text is no token we look at further.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum ParseTokenError {
    /// The header asks for an algorithm that no key of ours is used with: `none`, an HMAC, anything but the allow-list.
    #[error("algorithm is not allowed")]
    AlgorithmNotAllowed,
    /// The header has a member that would change how the token is read, such as `jku`, `jwk` or `crit`.
    #[error("header has a forbidden member")]
    HeaderForbidden,
    /// The header names no key.
    #[error("header has no kid")]
    KeyIdMissing,
    /// The text is not a compact JWS of two JSON objects, or a member the routing needs is missing or of a wrong type.
    #[error("token is malformed")]
    Malformed,
    /// The token, or its header, is longer than any real one.
    #[error("token is too large")]
    TooLarge,
}

impl ParseTokenError {
    /// The stable code for metrics, audit and logs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::AlgorithmNotAllowed => "alg_not_allowed",
            Self::HeaderForbidden => "header_forbidden",
            Self::KeyIdMissing => "kid_missing",
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
        }
    }
}

impl From<StrictJsonError> for ParseTokenError {
    fn from(_: StrictJsonError) -> Self {
        Self::Malformed
    }
}

/// The three segments of a compact JWS (RFC 7515, section 7.1), not decoded yet.
struct Segments<'a> {
    header: &'a str,
    payload: &'a str,
    signature: &'a str,
    signing_input: &'a str,
}

impl<'a> Segments<'a> {
    fn split(text: &'a str) -> Result<Self, ParseTokenError> {
        if text.len() > LONGEST_TOKEN {
            return Err(ParseTokenError::TooLarge);
        }
        let (signing_input, signature) = text.rsplit_once('.').ok_or(ParseTokenError::Malformed)?;
        let (header, payload) = signing_input
            .split_once('.')
            .ok_or(ParseTokenError::Malformed)?;
        if payload.contains('.') {
            return Err(ParseTokenError::Malformed);
        }
        Ok(Self {
            header,
            payload,
            signature,
            signing_input,
        })
    }
}

/// Decodes unpadded base64url (RFC 7515, section 2) in its one canonical spelling.
fn decode_base64url(segment: &str) -> Result<Vec<u8>, ParseTokenError> {
    URL_SAFE_NO_PAD
        .decode(segment)
        .or(Err(ParseTokenError::Malformed))
}

fn parse_object(
    text: &[u8],
) -> Result<std::collections::BTreeMap<String, StrictJson>, ParseTokenError> {
    StrictJson::parse(text)?
        .into_object()
        .ok_or(ParseTokenError::Malformed)
}

//! Wire types of the token endpoint: what the server writes and the sidecar reads. No crypto, no I/O.

use serde::{Deserialize, Serialize};

/// `grant_type` of a token exchange (RFC 8693, section 2.1).
pub const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
/// Token type of a JWT (RFC 8693, section 3), for the subject token and the issued one.
pub const TOKEN_TYPE_JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

/// The parameter that says which role the token is wanted for, beside those of RFC 8693. It is not `scope`, which the standard gives another
/// meaning. Where it is absent or empty no role is asked for.
pub const ROLE_PARAMETER: &str = "role";
/// The same in the forms without a body, a Bearer token alone and OpenUnison's: a header.
pub const ROLE_HEADER: &str = "sts-role";

/// The `Retry-After` of a server that cannot answer now, in seconds (RFC 9110, section 10.2.3). Here, so that what is shown of ten thousand
/// sidecars is shown for the very number that they are told.
pub const RETRY_AFTER: u16 = 5;

/// A successful exchange (RFC 8693, section 2.2.1).
#[derive(Deserialize, Serialize)]
pub struct TokenResponse {
    /// The issued token; the field has this name whatever the token is.
    pub access_token: String,
    /// [`TOKEN_TYPE_JWT`].
    pub issued_token_type: String,
    /// `N_A`: the token is no access token for the server that issued it.
    pub token_type: String,
    /// The token's life in seconds.
    pub expires_in: u64,
}

impl std::fmt::Debug for TokenResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenResponse")
            .field("expires_in", &self.expires_in)
            .finish_non_exhaustive()
    }
}

/// A refused exchange (RFC 6749, section 5.2).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ErrorBody {
    /// The standard's code.
    pub error: String,
    /// A fixed sentence for the person who reads the log; never what was in the request.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error_description: String,
}

/// OpenUnison's answer at `GET <path>/token/user`.
#[derive(Deserialize, Serialize)]
pub struct OpenUnisonToken {
    /// The token's `sub`.
    #[serde(rename = "displayName")]
    pub display_name: String,
    /// The token and its end.
    pub token: OpenUnisonJwt,
}

impl std::fmt::Debug for OpenUnisonToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OpenUnisonToken")
    }
}

/// The inner part of [`OpenUnisonToken`].
#[derive(Deserialize, Serialize)]
pub struct OpenUnisonJwt {
    /// The token.
    pub jwt: String,
    /// When it ends, RFC 3339 in UTC, whole seconds.
    pub expires: String,
}

impl std::fmt::Debug for OpenUnisonJwt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenUnisonJwt")
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// OpenUnison's issuer documents at `GET <path>/issuer-docs`: JSON texts inside JSON, as its users pipe them through `jq -r`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct IssuerDocs {
    /// The discovery document.
    pub discovery: String,
    /// The JWK Set.
    pub keys: String,
}

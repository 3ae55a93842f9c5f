//! Every route of an endpoint, under its path. Matching is exact on the raw path: nothing is decoded or normalised first.

/// What a route serves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Route {
    /// The discovery document (OpenID Connect Discovery 1.0, section 4).
    Discovery,
    /// The JWK Set.
    Jwks,
    /// OpenUnison's issuer documents.
    IssuerDocs,
    /// OpenUnison's token endpoint.
    OpenUnisonToken,
    /// RFC 8693, or JWTReissuer's form.
    Token,
}

/// Suffix and meaning. The JWK Set is advertised at `/certs`, where OpenUnison's users upload it; kube-apiserver and JWTReissuer serve it
/// at `/openid/v1/jwks`.
pub(crate) const ROUTES: [(&str, Route); 7] = [
    ("/.well-known/openid-configuration", Route::Discovery),
    ("/certs", Route::Jwks),
    ("/issuer-docs", Route::IssuerDocs),
    ("/openid/v1/jwks", Route::Jwks),
    ("/reissue", Route::Token),
    ("/token", Route::Token),
    ("/token/user", Route::OpenUnisonToken),
];

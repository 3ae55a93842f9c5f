//! An STS that judges web identity tokens as AWS does: issuer, audience, subject, signature and times, by keys that it fetches over
//! HTTPS from the issuer's published documents and forgets when they are `--jwks-max-age` old. Its credentials open nothing.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use axum::{
    Router,
    extract::{RawQuery, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use clap::Parser;
use multistore::{
    error::ProxyError,
    registry::CredentialRegistry,
    types::{RoleConfig, StoredCredential},
};
use multistore_sts::{
    JwksCache, TokenKey, build_sts_error_response, try_handle_sts, try_parse_sts_request,
};
use verifiers::Listen;

#[derive(Debug, Parser)]
#[command(about)]
struct Arguments {
    #[command(flatten)]
    listen: Listen,
    /// The one trusted issuer, an https URL
    #[arg(long, value_name = "URL")]
    issuer: String,
    /// The audience a token must be for
    #[arg(long)]
    audience: String,
    /// The subjects that may take the role; `*` stands for any run of characters
    #[arg(long, value_name = "GLOB")]
    subject: String,
    /// CA certificates trusted when the issuer's documents are fetched, PEM
    #[arg(long, value_name = "FILE")]
    ca: PathBuf,
    /// Seconds for which fetched keys are kept
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    jwks_max_age: u64,
    /// The role that can be taken
    #[arg(
        long,
        value_name = "ARN",
        default_value = "arn:aws:iam::123456789012:role/demo"
    )]
    role_arn: String,
}

/// The one role there is.
#[derive(Clone)]
struct OneRole(RoleConfig);

impl CredentialRegistry for OneRole {
    async fn get_credential(&self, _: &str) -> Result<Option<StoredCredential>, ProxyError> {
        Ok(None)
    }

    async fn get_role(&self, id: &str) -> Result<Option<RoleConfig>, ProxyError> {
        Ok((id == self.0.role_id).then(|| self.0.clone()))
    }
}

struct Sts {
    issuer: String,
    role: OneRole,
    key: TokenKey,
    client: reqwest::Client,
    jwks_max_age: Duration,
    jwks: Mutex<JwksCache>,
}

impl Sts {
    fn new(arguments: &Arguments) -> Result<Self> {
        ensure!(
            arguments.issuer.starts_with("https://"),
            "--issuer must be an https URL, not {}",
            arguments.issuer
        );
        let client = verifiers::client_trusting(Some(&arguments.ca))?;
        let jwks_max_age = Duration::from_secs(arguments.jwks_max_age);
        Ok(Self {
            issuer: arguments.issuer.clone(),
            role: OneRole(RoleConfig {
                role_id: arguments.role_arn.clone(),
                name: "demo".to_owned(),
                trusted_oidc_issuers: vec![arguments.issuer.clone()],
                required_audiences: vec![arguments.audience.clone()],
                subject_conditions: vec![arguments.subject.clone()],
                allow_missing_exp_from: Vec::new(),
                allowed_scopes: Vec::new(),
                max_session_duration_secs: 3600,
            }),
            key: session_key()?,
            jwks: Mutex::new(JwksCache::new(client.clone(), jwks_max_age)),
            client,
            jwks_max_age,
        })
    }

    async fn answer(&self, query: Option<&str>, body: &str) -> Option<(u16, String)> {
        // Not an STS request: fetch nothing for it.
        let _ = try_parse_sts_request(query).or_else(|| try_parse_sts_request(Some(body)))?;
        let jwks = self
            .jwks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Err(error) = jwks.get_or_fetch(&self.issuer).await {
            // The cache would remember the failure for 30 s, and a test that publishes late would have to wait for it.
            *self.jwks.lock().unwrap_or_else(PoisonError::into_inner) =
                JwksCache::new(self.client.clone(), self.jwks_max_age);
            return Some(build_sts_error_response(&error));
        }
        try_handle_sts(query, Some(body), &self.role, &jwks, Some(&self.key)).await
    }
}

/// A key for the session tokens of this run.
fn session_key() -> Result<TokenKey> {
    let mut bytes = [0; 32];
    rustls::crypto::aws_lc_rs::default_provider()
        .secure_random
        .fill(&mut bytes)
        .map_err(|_| anyhow::anyhow!("no random bytes to be had"))?;
    TokenKey::from_base64(&STANDARD.encode(bytes)).context("make the session key")
}

/// SDKs post a form and curl users a query; both go to any path.
async fn any_path(
    State(sts): State<Arc<Sts>>,
    RawQuery(query): RawQuery,
    body: String,
) -> Response {
    let Some((status, xml)) = sts.answer(query.as_deref(), &body).await else {
        return StatusCode::NOT_FOUND.into_response();
    };
    if status == 200 {
        eprintln!("200 credentials given");
    } else {
        eprintln!("{status} {}", xml.replace('\n', " "));
    }
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, [(header::CONTENT_TYPE, "text/xml")], xml).into_response()
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    verifiers::install_provider()?;
    let sts = Arc::new(Sts::new(&arguments)?);
    let what = format!(
        "strict-sts of {} for {}",
        arguments.role_arn, arguments.issuer
    );
    let routes = Router::new().fallback(any_path).with_state(sts);
    verifiers::serve(&arguments.listen, what, routes).await
}

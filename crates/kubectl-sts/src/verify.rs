//! `verify`: a token as a relying party judges it, by the documents that its public issuer serves.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use reqwest::{Certificate, Client};
use serde::Serialize;
use serde_json::Value;
use sts_core::documents::IssuerDocuments;
use sts_core::token::RawToken;

use crate::output::{self, Format};

pub(crate) struct Options {
    pub(crate) audience: Option<String>,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) address: Option<String>,
}

/// What was found out; the first thing that is wrong ends it.
#[derive(Serialize)]
struct Verdict {
    valid: bool,
    issuer: String,
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    claims: Option<Value>,
}

pub(crate) async fn run(token: &str, options: &Options, format: Format) -> Result<ExitCode> {
    let text = if token == "-" {
        read_stdin()?
    } else {
        token.to_owned()
    };
    let text = text.trim();
    let raw = RawToken::new(text.to_owned());
    let unverified = raw
        .route()
        .map_err(|error| anyhow::anyhow!("that is no token: {error}"))?;
    let issuer = unverified.unverified_issuer().as_str().to_owned();
    let key = unverified.key_id().to_string();
    let judged = judge(text, &issuer, &key, options).await;
    let verdict = match judged {
        Ok(claims) => Verdict {
            valid: true,
            issuer,
            key,
            problem: None,
            claims: Some(claims),
        },
        Err(error) => Verdict {
            valid: false,
            issuer,
            key,
            problem: Some(format!("{error:#}")),
            claims: None,
        },
    };
    show(&verdict, format)?;
    Ok(if verdict.valid {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn read_stdin() -> Result<String> {
    let mut text = String::new();
    std::io::stdin()
        .lock()
        .take(LONGEST)
        .read_to_string(&mut text)
        .context("read the token")?;
    Ok(text)
}

async fn judge(text: &str, issuer: &str, key: &str, options: &Options) -> Result<Value> {
    let client = client(options)?;
    let base = options
        .address
        .as_deref()
        .unwrap_or(issuer)
        .trim_end_matches('/');
    let discovery = get(
        &client,
        &format!("{base}{}", IssuerDocuments::DISCOVERY_PATH),
    )
    .await?;
    let named = discovery.get("issuer").and_then(Value::as_str);
    ensure!(
        named == Some(issuer),
        "the discovery document says issuer {named:?}, the token {issuer:?}"
    );
    let uri = discovery
        .get("jwks_uri")
        .and_then(Value::as_str)
        .context("the discovery document has no jwks_uri")?;
    let uri = match uri.strip_prefix(issuer) {
        Some(path) => format!("{base}{path}"),
        None => uri.to_owned(),
    };
    let keys: JwkSet =
        serde_json::from_value(get(&client, &uri).await?).context("read the key set")?;
    let jwk = keys
        .find(key)
        .with_context(|| format!("the public key set has no key {key}"))?;
    let algorithm = jwk
        .common
        .key_algorithm
        .context("the key does not say its algorithm")?;
    let algorithm: Algorithm = algorithm
        .to_string()
        .parse()
        .context("the key has an algorithm that no relying party takes")?;
    ensure!(
        matches!(algorithm, Algorithm::RS256 | Algorithm::ES256),
        "the key is for {algorithm:?}"
    );
    let mut validation = Validation::new(algorithm);
    validation.leeway = 0;
    validation.validate_nbf = true;
    validation.set_issuer(&[issuer]);
    match &options.audience {
        Some(audience) => validation.set_audience(&[audience]),
        None => validation.validate_aud = false,
    }
    Ok(decode::<Value>(text, &DecodingKey::from_jwk(jwk)?, &validation)?.claims)
}

fn client(options: &Options) -> Result<Client> {
    let mut builder = Client::builder()
        .https_only(true)
        .redirect(reqwest::redirect::Policy::none())
        .timeout(PATIENCE);
    if let Some(path) = &options.ca_file {
        let pem = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
        builder = builder.tls_certs_only(Certificate::from_pem_bundle(&pem)?);
    }
    builder.build().context("make an HTTPS client")
}

async fn get(client: &Client, url: &str) -> Result<Value> {
    let response = client
        .get(url)
        .send()
        .await
        .with_context(|| format!("read {url}"))?;
    let status = response.status();
    if status != 200 {
        bail!("{url} answers {status}");
    }
    let length = response.content_length().unwrap_or_default();
    ensure!(length <= LONGEST, "{url} is larger than {LONGEST} bytes");
    let text = response
        .bytes()
        .await
        .with_context(|| format!("read {url}"))?;
    serde_json::from_slice(&text).with_context(|| format!("{url} is no JSON"))
}

fn show(verdict: &Verdict, format: Format) -> Result<()> {
    if format == Format::Json {
        return output::json(verdict);
    }
    let claim = |name: &str| {
        let value = verdict.claims.as_ref()?.get(name)?;
        Some(
            value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned),
        )
    };
    let mut rows = vec![
        [
            "valid".to_owned(),
            if verdict.valid { "yes" } else { "no" }.to_owned(),
        ],
        ["issuer".to_owned(), verdict.issuer.clone()],
        ["key".to_owned(), verdict.key.clone()],
    ];
    if let Some(problem) = &verdict.problem {
        rows.push(["problem".to_owned(), problem.clone()]);
    }
    for name in ["sub", "aud", "iat", "exp"] {
        rows.extend(claim(name).map(|value| [name.to_owned(), value]));
    }
    output::table(["WHAT", "VALUE"], &rows)
}

/// AWS gives up after five seconds too.
const PATIENCE: Duration = Duration::from_secs(5);
/// No token and no document of ours is nearly as long.
const LONGEST: u64 = 1 << 20;

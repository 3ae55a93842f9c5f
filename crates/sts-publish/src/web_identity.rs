//! Credentials for ourselves: a token of the endpoint's own, exchanged for a role's by `AssumeRoleWithWebIdentity`, as pods do it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use object_store::CredentialProvider;
use object_store::aws::AwsCredential;
use serde::Deserialize;
use sts_config::WebIdentity;
use sts_core::claims::OwnSubject;
use sts_core::ident::Audience;
use sts_core::sign::SignedToken;
use thiserror::Error;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// Signs tokens for ourselves.
pub trait OwnTokens: fmt::Debug + Send + Sync {
    /// A token with that `sub`; `None` stands for the endpoint's own audience.
    ///
    /// # Errors
    /// A clause that says why there is none now.
    fn sign(
        &self,
        subject: &OwnSubject,
        audience: Option<&Audience>,
    ) -> Result<SignedToken, String>;
}

/// Asks for credentials when they are wanted, and again at half of their life: if our key is revoked meanwhile, what is left of them is
/// enough to publish its successor.
pub(crate) struct WebIdentityCredentials {
    identity: WebIdentity,
    tokens: Arc<dyn OwnTokens>,
    client: reqwest::Client,
    cached: Mutex<Option<Cached>>,
}

struct Cached {
    credential: Arc<AwsCredential>,
    obtained: Instant,
}

/// Why there are no credentials. No token and no credential is in it.
#[derive(Debug, Error)]
pub(crate) enum WebIdentityError {
    #[error("STS cannot be reached")]
    Http(#[source] reqwest::Error),
    #[error("STS gave no credentials in its answer")]
    NoCredentials,
    #[error("we have no token for ourselves: {0}")]
    NoToken(String),
    #[error("STS refuses with status {status} and code {code:?}")]
    Refused { status: u16, code: String },
}

/// An hour, which every role allows.
const LIFE: Duration = Duration::from_secs(3600);
/// The largest answer that is read.
const LARGEST_ANSWER: usize = 64 << 10;

impl WebIdentityCredentials {
    pub(crate) fn new(
        identity: WebIdentity,
        tokens: Arc<dyn OwnTokens>,
        client: reqwest::Client,
    ) -> Self {
        Self {
            identity,
            tokens,
            client,
            cached: Mutex::new(None),
        }
    }

    async fn obtain(&self) -> Result<AwsCredential, WebIdentityError> {
        let WebIdentity {
            role_arn,
            subject,
            audience,
            sts,
        } = &self.identity;
        let token = self.tokens.sign(subject, audience.as_ref());
        let token = token.map_err(WebIdentityError::NoToken)?;
        let life = LIFE.as_secs().to_string();
        let mut form = vec![
            ("Action", "AssumeRoleWithWebIdentity"),
            ("Version", "2011-06-15"),
            ("DurationSeconds", &life),
            ("RoleSessionName", "kube-sts-publisher"),
            ("WebIdentityToken", token.expose()),
        ];
        if let Some(role_arn) = role_arn {
            form.push(("RoleArn", role_arn));
        }
        // Before the question: from when on it counts is the STS's to say, and it cannot be earlier.
        let request = self.client.post(sts).form(&form);
        let failed = |error: reqwest::Error| WebIdentityError::Http(error.without_url());
        let mut response = request.send().await.map_err(failed)?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            body.extend_from_slice(&chunk);
            if body.len() > LARGEST_ANSWER {
                return Err(WebIdentityError::NoCredentials);
            }
        }
        let body = String::from_utf8_lossy(&body);
        if status != 200 {
            let code = refusal_code(&body);
            let status = status.as_u16();
            return Err(WebIdentityError::Refused { status, code });
        }
        let answer: Answer =
            quick_xml::de::from_str(&body).or(Err(WebIdentityError::NoCredentials))?;
        let Credentials {
            key_id,
            secret_key,
            token,
        } = answer.result.credentials;
        Ok(AwsCredential {
            key_id,
            secret_key,
            token: Some(token),
        })
    }
}

#[async_trait]
impl CredentialProvider for WebIdentityCredentials {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let mut cached = self.cached.lock().await;
        let age = cached.as_ref().map(|cached| cached.obtained.elapsed());
        if let (Some(cached), Some(age)) = (cached.as_ref(), age)
            && age < LIFE / 2
        {
            return Ok(Arc::clone(&cached.credential));
        }
        let obtained = Instant::now();
        match self.obtain().await {
            Ok(credential) => {
                let credential = Arc::new(credential);
                *cached = Some(Cached {
                    credential: Arc::clone(&credential),
                    obtained,
                });
                Ok(credential)
            }
            Err(error) => match cached.as_ref().zip(age) {
                // They are good for some minutes yet.
                Some((cached, age)) if age < LIFE.saturating_sub(Duration::from_secs(60)) => {
                    tracing::warn!(%error, "new credentials for publishing cannot be had; the old ones are used");
                    Ok(Arc::clone(&cached.credential))
                }
                Some(_) | None => Err(object_store::Error::Generic {
                    store: "web identity",
                    source: Box::new(error),
                }),
            },
        }
    }
}

impl fmt::Debug for WebIdentityCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebIdentityCredentials")
    }
}

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "AssumeRoleWithWebIdentityResult")]
    result: AnswerResult,
}

#[derive(Deserialize)]
struct AnswerResult {
    #[serde(rename = "Credentials")]
    credentials: Credentials,
}

#[derive(Deserialize)]
struct Credentials {
    #[serde(rename = "AccessKeyId")]
    key_id: String,
    #[serde(rename = "SecretAccessKey")]
    secret_key: String,
    #[serde(rename = "SessionToken")]
    token: String,
}

/// The code of an error, such as `InvalidIdentityToken`: the message beside it may quote the token.
fn refusal_code(body: &str) -> String {
    #[derive(Deserialize)]
    struct Refusal {
        #[serde(rename = "Error")]
        error: RefusalError,
    }
    #[derive(Deserialize)]
    struct RefusalError {
        #[serde(rename = "Code")]
        code: String,
    }
    let refusal: Option<Refusal> = quick_xml::de::from_str(body).ok();
    let code = refusal
        .map(|refusal| refusal.error.code)
        .unwrap_or_default();
    code.chars()
        .filter(char::is_ascii_alphanumeric)
        .take(64)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_read_from_the_sts_answer() {
        let answer = r#"<?xml version="1.0" encoding="UTF-8"?>
<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithWebIdentityResult>
<AssumedRoleUser><Arn></Arn><AssumeRoleId></AssumeRoleId></AssumedRoleUser>
<Credentials><AccessKeyId>KEY</AccessKeyId><SecretAccessKey>SECRET</SecretAccessKey><Expiration>2026-11-25T02:00:00Z</Expiration>
<SessionToken>SESSION</SessionToken></Credentials><SubjectFromWebIdentityToken>me</SubjectFromWebIdentityToken>
</AssumeRoleWithWebIdentityResult><ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></AssumeRoleWithWebIdentityResponse>"#;
        let answer: Answer = quick_xml::de::from_str(answer).unwrap();
        let Credentials {
            key_id,
            secret_key,
            token,
        } = answer.result.credentials;
        assert_eq!([key_id, secret_key, token], ["KEY", "SECRET", "SESSION"]);
    }

    #[test]
    fn only_the_code_of_a_refusal_is_told() {
        let body = "<ErrorResponse><Error><Type></Type><Code>InvalidIdentityToken</Code><Message>token eyJ is bad</Message></Error></ErrorResponse>";
        assert_eq!(refusal_code(body), "InvalidIdentityToken");
        assert_eq!(refusal_code("no XML"), "");
    }
}

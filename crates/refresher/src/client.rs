//! The exchange: one POST, and a distrustful reading of the answer.

use std::error::Error as StdError;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{RequestBuilder, Response, StatusCode, Url, redirect};
use sts_api::{ErrorBody, GRANT_TYPE, ROLE_PARAMETER, TOKEN_TYPE_JWT, TokenResponse};
use thiserror::Error;

use crate::addresses::Addresses;
use crate::clock;
use crate::token_text::{TokenText, TokenTextError, render_foreign_text};
use crate::trust::{CaSource, TrustError};

/// Exchanges tokens, over TLS with the given CA only.
///
/// No connection is kept between exchanges, the TLS session is: it is resumed without certificates, at the address that served last. A
/// connection idle for minutes would be a socket in every STS replica for every pod, bind the pod to one replica, and often turn out
/// dead just when it is needed.
#[derive(Debug)]
pub struct Exchanger {
    ca: CaSource,
    transport: Transport,
    addresses: Addresses,
    http: Mutex<Option<reqwest::Client>>,
}

impl Exchanger {
    /// An exchanger that has not connected yet, nor read its CA.
    pub fn new(ca: CaSource, transport: Transport) -> Self {
        Self {
            ca,
            transport,
            addresses: Addresses::default(),
            http: Mutex::new(None),
        }
    }

    /// Posts the subject token to the endpoint, with the role that a token is wanted for, and takes the token from the answer.
    ///
    /// # Errors
    /// For anything but a 200 with a live token within the limit, which counts from the look-up of the name to the answer's last byte. After a failure of TLS the CA is read anew at the next call.
    pub async fn exchange(
        &self,
        url: &Url,
        subject: &str,
        role: Option<&str>,
        limit: Duration,
    ) -> Result<TokenText, ExchangeError> {
        let mut form = vec![
            ("grant_type", GRANT_TYPE),
            ("subject_token", subject),
            ("subject_token_type", TOKEN_TYPE_JWT),
        ];
        form.extend(role.map(|role| (ROLE_PARAMETER, role)));
        let request = self.http()?.post(url.clone()).form(&form).timeout(limit);
        let token = fetch_token(request).await;
        if let Err(error) = &token {
            self.addresses.forget();
            if matches!(error, ExchangeError::Tls(_)) {
                self.forget_client();
            }
        }
        token
    }

    fn http(&self) -> Result<reqwest::Client, ExchangeError> {
        let mut kept = self.http.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = &*kept {
            return Ok(client.clone());
        }
        let client = self.build_client()?;
        *kept = Some(client.clone());
        Ok(client)
    }

    fn forget_client(&self) {
        *self.http.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn build_client(&self) -> Result<reqwest::Client, ExchangeError> {
        reqwest::Client::builder()
            .tls_backend_preconfigured(self.ca.load_tls()?)
            .https_only(matches!(self.transport, Transport::Https))
            .no_proxy()
            .redirect(redirect::Policy::none())
            .referer(false)
            .dns_resolver(Arc::new(self.addresses.clone()))
            .connect_timeout(CONNECT_TIMEOUT)
            // A connection lives as long as one exchange, which has its own limit.
            .tcp_keepalive(None)
            .tcp_user_timeout(None)
            .pool_max_idle_per_host(0)
            .user_agent(concat!("kube-sts-refresher/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(ExchangeError::from_transport)
    }
}

/// Which URLs are acceptable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// `https:` only.
    Https,
    /// `http:` to loopback too, for tests.
    PlainHttpToLoopback,
}

/// Why there is no token.
#[derive(Debug, Error)]
pub enum ExchangeError {
    /// No connection.
    #[error("cannot reach the STS")]
    Connect(#[source] reqwest::Error),
    /// The connection was lost before the answer was complete.
    #[error("the connection to the STS was lost")]
    Lost(#[source] reqwest::Error),
    /// A 200 that is not the JSON of a token.
    #[error("the STS's answer has no token in it")]
    Malformed,
    /// The STS says no; asking again the same way is of little use until somebody changes something.
    #[error("the STS refused ({status}): {reason}")]
    Refused {
        /// The HTTP status.
        status: StatusCode,
        /// What it said.
        reason: Reason,
    },
    /// No answer in time.
    #[error("the STS did not answer in time")]
    Timeout(#[source] reqwest::Error),
    /// TLS failed: most often a certificate that is not of the given CA.
    #[error("no TLS with the STS")]
    Tls(#[source] reqwest::Error),
    /// What came is not a token that we write.
    #[error("the STS's token is unusable")]
    Token(#[from] TokenTextError),
    /// The answer is larger than any token's.
    #[error("the STS's answer has more than {MAX_ANSWER} bytes")]
    TooLarge,
    /// The CA certificates are unusable.
    #[error("nobody to trust")]
    Trust(#[from] TrustError),
    /// The STS cannot answer now.
    #[error("the STS is unavailable ({status}): {reason}")]
    Unavailable {
        /// The HTTP status.
        status: StatusCode,
        /// What it said.
        reason: Reason,
        /// When to come back, if it said so.
        retry_after: Option<Duration>,
    },
    /// A 200 that is not JSON: something that is not the STS answers.
    #[error("the STS's answer is not JSON but \"{0}\"")]
    UnexpectedContentType(String),
}

impl ExchangeError {
    /// The stable name of this failure.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Connect(_) => "connect_failed",
            Self::Lost(_) => "connection_lost",
            Self::Malformed => "answer_malformed",
            Self::Refused { .. } => "refused",
            Self::Timeout(_) => "timeout",
            Self::Tls(_) => "tls_failed",
            Self::Token(error) => error.code(),
            Self::TooLarge => "answer_too_large",
            Self::Trust(_) => "ca_unusable",
            Self::Unavailable { .. } => "unavailable",
            Self::UnexpectedContentType(_) => "answer_not_json",
        }
    }

    /// How long the server asks us to wait.
    pub const fn retry_after(&self) -> Option<Duration> {
        if let Self::Unavailable { retry_after, .. } = self {
            *retry_after
        } else {
            None
        }
    }

    fn from_transport(error: reqwest::Error) -> Self {
        let error = error.without_url();
        if is_caused_by_tls(&error) {
            Self::Tls(error)
        } else if error.is_timeout() {
            Self::Timeout(error)
        } else if error.is_connect() {
            Self::Connect(error)
        } else {
            Self::Lost(error)
        }
    }

    fn from_status(status: StatusCode, reason: Reason, headers: &HeaderMap) -> Self {
        if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
            Self::Unavailable {
                status,
                reason,
                retry_after: parse_retry_after(headers),
            }
        } else {
            Self::Refused { status, reason }
        }
    }
}

/// What the server said about a refusal, fit for a log line.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct Reason(String);

impl Reason {
    fn parse(body: &[u8]) -> Self {
        let Ok(body) = serde_json::from_slice::<ErrorBody>(body) else {
            return Self("no reason given".to_owned());
        };
        let ErrorBody {
            error,
            error_description,
        } = body;
        Self(render_foreign_text(&format!(
            "{error}: {error_description}"
        )))
    }
}

async fn fetch_token(request: RequestBuilder) -> Result<TokenText, ExchangeError> {
    let sent = request.send().await;
    read_token(sent.map_err(ExchangeError::from_transport)?).await
}

async fn read_token(response: Response) -> Result<TokenText, ExchangeError> {
    let (status, headers) = (response.status(), response.headers().clone());
    if status != StatusCode::OK {
        // A refusal remains one when its reason cannot be read.
        let body = read_body(response).await.unwrap_or_default();
        return Err(ExchangeError::from_status(
            status,
            Reason::parse(&body),
            &headers,
        ));
    }
    require_json(&headers)?;
    let body = read_body(response).await?;
    #[expect(clippy::map_err_ignore, reason = "serde's error may quote the token")]
    let answer: TokenResponse =
        serde_json::from_slice(&body).map_err(|_| ExchangeError::Malformed)?;
    let now = clock::now();
    let token = TokenText::parse(&answer.access_token, now)?;
    // The token's own `exp` is what others go by; but if our clock is behind theirs, it seems further away than it is.
    let life = Duration::from_secs(answer.expires_in);
    Ok(token.ending_by(now.plus(life)))
}

async fn read_body(mut response: Response) -> Result<Vec<u8>, ExchangeError> {
    let mut body = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(ExchangeError::from_transport)?
    {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err(ExchangeError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn require_json(headers: &HeaderMap) -> Result<(), ExchangeError> {
    let value = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        Ok(())
    } else {
        Err(ExchangeError::UnexpectedContentType(render_foreign_text(
            value,
        )))
    }
}

/// Seconds only: our server sends no dates, and a date would need the clocks to agree.
fn parse_retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers
        .get(RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()
        .map(Duration::from_secs)
}

fn is_caused_by_tls(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(cause) = next {
        if cause.is::<rustls::Error>() {
            return true;
        }
        // An io::Error's `source` is that of the error inside it, so the error inside comes first.
        let wrapped = cause
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        next = match wrapped {
            Some(inner) => Some(inner),
            None => cause.source(),
        };
    }
    false
}

/// A Service without a ready replica answers at once or never.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The largest answer we read: a token of 16 KiB fits in well.
const MAX_ANSWER: usize = 64 * 1024;

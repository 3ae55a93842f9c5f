//! The loop: exchange, write, rest; and after a failure, say so and try again.

use std::error::Error;
use std::fs;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use reqwest::Url;
use thiserror::Error;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::client::{ExchangeError, Exchanger};
use crate::clock::{self, WallTime};
use crate::config::{EndpointName, ExchangeSettings, OnceSettings};
use crate::log::{Log, render_chain, render_span};
use crate::schedule::{Retries, Urgency, refresh_after};
use crate::store::{StoreError, TokenDir};

/// Keeps every endpoint's token fresh. Ends only if there is a fault in this program.
pub async fn run(settings: ExchangeSettings) -> ExitCode {
    let log = settings.tokens.log;
    let mut endpoints = JoinSet::new();
    for keeper in Keeper::for_each_endpoint(settings) {
        keeper.directory.sweep(&keeper.name);
        endpoints.spawn(keeper.keep_fresh());
    }
    match endpoints.join_next().await {
        Some(Err(error)) => log.fatal("an endpoint's task has ended", &error),
        Some(Ok(())) | None => ExitCode::FAILURE,
    }
}

/// Gets every endpoint's token once, within the time.
pub async fn once(settings: OnceSettings) -> ExitCode {
    let OnceSettings { exchange, timeout } = settings;
    let log = exchange.tokens.log;
    let end = Instant::now() + timeout;
    let mut endpoints = JoinSet::new();
    for keeper in Keeper::for_each_endpoint(exchange) {
        endpoints.spawn(keeper.get_once(end));
    }
    let mut status = ExitCode::SUCCESS;
    while let Some(ended) = endpoints.join_next().await {
        match ended {
            Ok(Outcome::Written) => {}
            Ok(Outcome::GaveUp) => status = ExitCode::FAILURE,
            Err(error) => status = log.fatal("an endpoint's task has ended", &error),
        }
    }
    status
}

/// Keeps one endpoint's token.
struct Keeper {
    name: EndpointName,
    url: Url,
    subject_token: PathBuf,
    exchanger: Arc<Exchanger>,
    directory: TokenDir,
    log: Log,
    rng: SmallRng,
    /// The end of the token in the file, until we have said that it is over.
    expires: Option<WallTime>,
}

impl Keeper {
    fn for_each_endpoint(settings: ExchangeSettings) -> Vec<Self> {
        let ExchangeSettings {
            tokens,
            subject_token_dir,
            ca,
            request_timeout,
        } = settings;
        let exchanger = Arc::new(Exchanger::new(ca, tokens.transport, request_timeout));
        let keep = |endpoint: crate::config::Endpoint| Self {
            subject_token: subject_token_dir.join(endpoint.name.as_str()),
            exchanger: Arc::clone(&exchanger),
            directory: tokens.directory.clone(),
            log: tokens.log,
            rng: SmallRng::seed_from_u64(seed()),
            // A container that was restarted finds the token of the one before.
            expires: tokens
                .directory
                .load_token(&endpoint.name, clock::now())
                .ok()
                .map(|token| token.expires()),
            name: endpoint.name,
            url: endpoint.url,
        };
        tokens.endpoints.into_iter().map(keep).collect()
    }

    async fn keep_fresh(mut self) {
        loop {
            self.retry_until(None).await;
            let life = self.left().unwrap_or_default();
            let rest = refresh_after(life, &mut self.rng);
            self.report_success(Some(rest));
            clock::rest(rest).await;
        }
    }

    async fn get_once(mut self, end: Instant) -> Outcome {
        let outcome = self.retry_until(Some(end)).await;
        if matches!(outcome, Outcome::Written) {
            self.report_success(None);
        }
        outcome
    }

    /// Tries until it works, or until the next try would be after the end.
    async fn retry_until(&mut self, end: Option<Instant>) -> Outcome {
        let urgency = if self.left().is_some() {
            Urgency::Calm
        } else {
            Urgency::Starving
        };
        let mut retries = Retries::new(urgency, &mut self.rng);
        loop {
            let Err(error) = self.refresh().await else {
                return Outcome::Written;
            };
            let delay = retries.next_delay(error.retry_after(), &mut self.rng);
            if end.is_some_and(|end| Instant::now() + delay > end) {
                self.report_failure(&error, None);
                return Outcome::GaveUp;
            }
            self.report_failure(&error, Some(delay));
            self.rest_and_report_death(delay).await;
        }
    }

    async fn refresh(&mut self) -> Result<(), RefreshError> {
        let subject_token = self.load_subject_token()?;
        let token = self
            .exchanger
            .exchange(&self.url, subject_token.trim())
            .await?;
        self.directory.replace_token(&self.name, &token)?;
        self.expires = Some(token.expires());
        Ok(())
    }

    /// Anew each time: the kubelet replaces it.
    fn load_subject_token(&self) -> Result<String, RefreshError> {
        let path = &self.subject_token;
        fs::read_to_string(path).map_err(|source| RefreshError::SubjectToken {
            path: path.clone(),
            source,
        })
    }

    /// What is left of the token in the file; none when it is over or was never there.
    fn left(&self) -> Option<Duration> {
        let left = self.expires?.left_at(clock::now());
        (!left.is_zero()).then_some(left)
    }

    /// Rests, and says so if the token in the file ends meanwhile.
    async fn rest_and_report_death(&mut self, delay: Duration) {
        let end = Instant::now() + delay;
        if let Some(expires) = self.expires {
            let left = expires.left_at(clock::now());
            if left <= delay {
                sleep(left).await;
                self.expires = None;
                let fields = [
                    ("endpoint", self.name.to_string()),
                    ("expired", expires.rfc3339()),
                ];
                self.log
                    .error("the token has expired and there is no new one", &fields);
            }
        }
        tokio::time::sleep_until(end).await;
    }

    fn report_success(&self, rest: Option<Duration>) {
        self.directory.clear_status(&self.name);
        let mut fields = vec![("endpoint", self.name.to_string())];
        fields.extend(self.expires.map(|expires| ("expires", expires.rfc3339())));
        fields.extend(rest.map(|rest| ("next_try", render_span(rest))));
        self.log.info("wrote a new token", &fields);
    }

    fn report_failure(&self, error: &RefreshError, delay: Option<Duration>) {
        let detail = error.render();
        let code = error.code();
        self.directory.leave_status(
            &self.name,
            &format!("the last exchange failed: {detail} ({code})"),
        );
        let left = self.left();
        let fields = [
            ("endpoint", self.name.to_string()),
            ("code", code.to_owned()),
            ("detail", detail),
            (
                "next_try",
                delay.map_or_else(|| "never".to_owned(), render_span),
            ),
            ("token_left", render_span(left.unwrap_or_default())),
        ];
        match left {
            Some(_) => self
                .log
                .warn("no new token, the old one is still good", &fields),
            None => self.log.error("no token", &fields),
        }
    }
}

/// From the kernel, by way of the standard library: the `getrandom` crate finds no `getrandom(2)` in a static program
/// and opens /dev/random instead, which need not be there. Good enough for jitter, and for nothing else.
fn seed() -> u64 {
    RandomState::new().hash_one(0)
}

/// How the tries for one token ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Written,
    GaveUp,
}

/// Why there is no new token in the file.
#[derive(Debug, Error)]
enum RefreshError {
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot read the subject token {}", path.display())]
    SubjectToken { path: PathBuf, source: io::Error },
}

impl RefreshError {
    fn code(&self) -> &'static str {
        match self {
            Self::Exchange(error) => error.code(),
            Self::Store(error) => error.code(),
            Self::SubjectToken { .. } => "subject_token_unreadable",
        }
    }

    fn render(&self) -> String {
        let error: &dyn Error = self;
        render_chain(error)
    }

    const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Exchange(error) => error.retry_after(),
            Self::Store(_) | Self::SubjectToken { .. } => None,
        }
    }
}

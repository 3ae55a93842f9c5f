//! The loop over one endpoint's token: exchange, write, rest; and after a failure, say so and try again.

use std::error::Error;
use std::fs;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use thiserror::Error;
use tokio::time::Instant;

use crate::client::{ExchangeError, Exchanger};
use crate::clock::{self, WallTime};
use crate::config::{Endpoint, EndpointName, ExchangeSettings};
use crate::last_words::{LastWords, render_failure};
use crate::log::{Log, render_chain, render_span};
use crate::metrics::Metrics;
use crate::schedule::{Retries, Urgency, exchange_limit, refresh_after};
use crate::store::{StoreError, TokenDir};

/// Keeps one endpoint's token.
#[derive(Debug)]
pub(crate) struct Keeper {
    endpoint: Endpoint,
    subject_token: PathBuf,
    exchanger: Arc<Exchanger>,
    request_timeout: Duration,
    directory: TokenDir,
    last_words: LastWords,
    log: Log,
    metrics: Arc<Metrics>,
    rng: SmallRng,
    /// The end of the token in the file.
    expires: Option<WallTime>,
    /// Whether we have said that it is over.
    is_death_told: bool,
}

impl Keeper {
    /// One for each endpoint of the settings; they share one TLS session cache.
    pub(crate) fn for_each_endpoint(
        settings: ExchangeSettings,
        metrics: &Arc<Metrics>,
    ) -> Vec<Self> {
        let ExchangeSettings {
            tokens,
            subject_token_dir,
            ca,
            request_timeout,
        } = settings;
        let exchanger = Arc::new(Exchanger::new(ca, tokens.transport));
        let keep = |endpoint: Endpoint| {
            // A container that was restarted finds the token of the one before.
            let found = tokens.directory.load_token(&endpoint.name, clock::now());
            let expires = found.ok().map(|token| token.expires());
            metrics.record_found(&endpoint.name, expires);
            Self {
                subject_token: subject_token_dir.join(endpoint.name.as_str()),
                exchanger: Arc::clone(&exchanger),
                request_timeout,
                directory: tokens.directory.clone(),
                last_words: tokens.last_words.clone(),
                log: tokens.log,
                metrics: Arc::clone(metrics),
                rng: SmallRng::seed_from_u64(seed()),
                expires,
                is_death_told: false,
                endpoint,
            }
        };
        tokens.endpoints.into_iter().map(keep).collect()
    }

    /// Removes what a run that was killed may have left.
    pub(crate) fn tidy_up(&self) {
        self.directory.sweep(self.name());
    }

    /// Never ends.
    pub(crate) async fn keep_fresh(mut self) {
        loop {
            self.retry_until(None).await;
            let rest = refresh_after(self.left(), &mut self.rng);
            self.report_success(Some(rest));
            clock::rest(rest).await;
        }
    }

    /// Gets one token, if that can be done until then.
    pub(crate) async fn get_once(mut self, end: Instant) -> Outcome {
        let outcome = self.retry_until(Some(end)).await;
        if matches!(outcome, Outcome::Written) {
            self.report_success(None);
        }
        outcome
    }

    /// Tries until it works, or until the next try would be after the end; no try lasts beyond it.
    async fn retry_until(&mut self, end: Option<Instant>) -> Outcome {
        let urgency = if self.left().is_zero() {
            Urgency::Starving
        } else {
            Urgency::Calm
        };
        let mut retries = Retries::new(urgency);
        loop {
            let most = end.map_or(self.request_timeout, |end| {
                self.request_timeout.min(end.duration_since(Instant::now()))
            });
            let Err(error) = self.refresh(most).await else {
                return Outcome::Written;
            };
            let delay = retries.next_delay(error.retry_after(), self.left(), &mut self.rng);
            if end.is_some_and(|end| Instant::now() + delay > end) {
                self.report_failure(&error, None);
                return Outcome::GaveUp;
            }
            self.report_failure(&error, Some(delay));
            self.rest_and_report_death(&error, delay).await;
        }
    }

    async fn refresh(&mut self, most: Duration) -> Result<(), RefreshError> {
        let subject_token = self.load_subject_token()?;
        let limit = exchange_limit(self.left(), most);
        let token = self
            .exchanger
            .exchange(
                &self.endpoint.url,
                subject_token.trim(),
                self.endpoint.role.as_deref(),
                limit,
            )
            .await?;
        // The token last: with it the gate opens, and whoever passes it finds the files too.
        for file in &self.endpoint.files {
            let text = file.render(self.name(), &token, &self.directory.token_file(self.name()));
            self.directory
                .replace_companion(self.name(), file.name(), &text)?;
        }
        self.directory.replace_token(self.name(), &token)?;
        self.expires = Some(token.expires());
        self.is_death_told = false;
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

    const fn name(&self) -> &EndpointName {
        &self.endpoint.name
    }

    /// What is left of the token in the file; nothing when it is over or was never there.
    fn left(&self) -> Duration {
        self.expires
            .map(|expires| expires.left_at(clock::now()))
            .unwrap_or_default()
    }

    /// Rests, and says so if the token in the file ends meanwhile.
    async fn rest_and_report_death(&mut self, error: &RefreshError, delay: Duration) {
        let left = self.left();
        if !left.is_zero() {
            // Nor is it over any more where the clock was ahead for a while.
            self.is_death_told = false;
        }
        let mut rest = delay;
        if let Some(expires) = self.expires
            && !self.is_death_told
            && left <= delay
        {
            clock::rest(left).await;
            self.is_death_told = true;
            rest = delay.saturating_sub(left);
            self.report_death(error, expires, rest);
        }
        clock::rest(rest).await;
    }

    fn report_death(&self, error: &RefreshError, expires: WallTime, rest: Duration) {
        let fields = [
            ("endpoint", self.name().to_string()),
            ("code", error.code().to_owned()),
            ("detail", error.render()),
            ("next_try", render_span(rest)),
            ("expired", expires.rfc3339()),
        ];
        self.log
            .error("the token has expired and there is no new one", &fields);
    }

    fn report_success(&self, rest: Option<Duration>) {
        self.directory.clear_status(self.name());
        self.last_words.take_back();
        self.metrics.record_success(self.name(), self.expires, rest);
        let mut fields = vec![("endpoint", self.name().to_string())];
        fields.extend(self.expires.map(|expires| ("expires", expires.rfc3339())));
        fields.extend(rest.map(|rest| ("next_try", render_span(rest))));
        self.log.info("wrote a new token", &fields);
    }

    fn report_failure(&self, error: &RefreshError, delay: Option<Duration>) {
        let detail = error.render();
        let code = error.code();
        let reason = render_failure(&detail, code);
        if self.directory.leave_status(self.name(), &reason).is_err() {
            self.last_words.say(&reason);
        }
        self.metrics.record_failure(self.name(), code, delay);
        let left = self.left();
        let fields = [
            ("endpoint", self.name().to_string()),
            ("code", code.to_owned()),
            ("detail", detail),
            (
                "next_try",
                delay.map_or_else(|| "never".to_owned(), render_span),
            ),
            ("token_left", render_span(left)),
        ];
        if left.is_zero() {
            self.log.error("no token", &fields);
        } else {
            self.log
                .warn("no new token, the old one is still good", &fields);
        }
    }
}

/// How the tries for one token ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    GaveUp,
    Written,
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

/// From the kernel, by way of the standard library: the `getrandom` crate finds no `getrandom(2)` in a static program
/// and opens /dev/random instead, which need not be there. Good enough for jitter, and for nothing else.
fn seed() -> u64 {
    RandomState::new().hash_one(0)
}

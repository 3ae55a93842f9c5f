//! The gate: `wait` holds the application back until every token is there, `probe` only looks.
//!
//! Kubernetes shows a hook's output nowhere. So `wait` writes why it gave up to the termination message, which
//! `kubectl describe pod` shows, and to the container's log.

use std::fs::OpenOptions;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::clock;
use crate::config::{Endpoint, ProbeSettings, Question, Tokens, WaitSettings};
use crate::last_words::write_line;
use crate::log::render_span;
use crate::schedule::next_trace_by;

/// Waits until every token is there, for a bounded time: a hook that never ends makes its pod undeletable.
pub async fn wait(settings: WaitSettings) -> ExitCode {
    let WaitSettings {
        tokens,
        timeout,
        container_log,
    } = settings;
    let end = Instant::now() + timeout;
    while let Some(reason) = first_absence(&tokens) {
        if Instant::now() >= end {
            let reason = format!("{reason} (waited {})", render_span(timeout));
            tell(&tokens, &reason, &container_log);
            return ExitCode::FAILURE;
        }
        sleep(INTERVAL).await;
    }
    ExitCode::SUCCESS
}

/// Looks whether every token is there now, or whether `run` works.
pub fn probe(settings: &ProbeSettings) -> ExitCode {
    let ProbeSettings { tokens, question } = settings;
    let reason = match question {
        Question::Liveness => first_silence(tokens),
        Question::Tokens => first_absence(tokens),
    };
    let Some(reason) = reason else {
        return ExitCode::SUCCESS;
    };
    tokens.log.error(&reason, &[]);
    ExitCode::FAILURE
}

/// One sentence on the first endpoint for which `run` has neither written a token nor noted a failure when it had to.
fn first_silence(tokens: &Tokens) -> Option<String> {
    let now = clock::now();
    let directory = &tokens.directory;
    // Where the volume cannot be written.
    let said = tokens.last_words.failure_time();
    tokens.endpoints.iter().find_map(|Endpoint { name, .. }| {
        let failure = directory.failure_time(name).max(said);
        let due = next_trace_by(
            directory.token_times(name),
            failure,
            directory.touched(name),
        );
        (due < now).then(|| {
            let since = render_span(now.left_at(due));
            format!("no sign of life for endpoint {name}: a try was due {since} ago")
        })
    })
}

/// One sentence on the first endpoint without a live token, with what `run` last failed with.
fn first_absence(tokens: &Tokens) -> Option<String> {
    let now = clock::now();
    tokens.endpoints.iter().find_map(|endpoint| {
        let name = &endpoint.name;
        let absence = tokens.directory.load_token(name, now).err()?;
        let cause = tokens
            .directory
            .load_status(name)
            .or_else(|| tokens.last_words.read())
            .unwrap_or_else(|| "the sidecar has recorded no failure".to_owned());
        Some(format!("no token for endpoint {name}: {absence}; {cause}"))
    })
}

/// Best effort: outside a container there is no such file.
fn tell(tokens: &Tokens, reason: &str, container_log: &Path) {
    tokens.log.error(reason, &[]);
    tokens.last_words.say(reason);
    drop(write_line(
        OpenOptions::new().append(true),
        container_log,
        reason,
    ));
}

const INTERVAL: Duration = Duration::from_millis(20);

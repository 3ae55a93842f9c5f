//! A configuration file that changes while the program runs: taken over as a whole, or not at all.
//!
//! ```text
//! file changes ─▶ Reload::reload ─▶ Ok: the new one is in use
//!                               └─▶ Refusal: the one before stays; said in the log, the metrics and an Event
//! ```
//!
//! What a configuration is, and what it takes to exchange it, is the program's ([`Reload`]).

use std::convert::Infallible;
use std::fmt::Write as _;
use std::future::pending;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use k8s_openapi::api::core::v1::ObjectReference;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::time::{Instant, sleep_until};

use crate::clock;
use crate::events::{EventWriter, Happening};
use crate::file::FileChanges;
use crate::shutdown::Shutdown;

/// How often a program looks at its configuration: often, since the kubelet has taken its time already.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How soon a configuration is tried again that was refused for what may pass.
const RETRY: Duration = Duration::from_secs(15);

/// A program whose configuration can be exchanged.
pub trait Reload: Send {
    /// Takes the file's new text over, as a whole or not at all. What was begun is undone where the future is dropped.
    fn reload(&mut self, text: &str) -> impl Future<Output = Result<(), Refusal>> + Send;
}

/// Why a configuration is not taken over.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusal {
    /// What kind of reason it is.
    pub cause: Cause,
    /// What is wrong, with its places.
    pub problems: String,
}

/// The kinds of reasons.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cause {
    /// It cannot be run.
    Invalid,
    /// It changes what cannot change while the program runs.
    NeedsRestart,
    /// Something that it needs is not there yet. It is tried again.
    NotWhole,
    /// The file cannot be read.
    Unreadable,
}

impl Cause {
    /// Stable name for metrics and logs.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::NeedsRestart => "needs_restart",
            Self::NotWhole => "not_whole",
            Self::Unreadable => "unreadable",
        }
    }

    const ALL: [Self; 4] = [
        Self::Invalid,
        Self::NeedsRestart,
        Self::NotWhole,
        Self::Unreadable,
    ];
}

/// Who is told of reloads.
#[derive(Debug)]
pub struct Report {
    metrics: ReloadMetrics,
    events: Option<(EventWriter, ObjectReference)>,
}

/// What metrics show of the configuration: `<program>_config_reloads_total{outcome}`, `_config_last_reload_successful`,
/// `_config_loaded_timestamp_seconds` and `_config_info{sha256}`.
#[derive(Clone, Debug, Default)]
pub struct ReloadMetrics {
    reloads: Family<OutcomeLabels, Counter>,
    last_successful: Gauge,
    loaded: Gauge,
    info: Family<InfoLabels, Gauge>,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct OutcomeLabels {
    outcome: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct InfoLabels {
    sha256: String,
}

const RELOADED: &str = "reloaded";

impl ReloadMetrics {
    /// Metrics that the registry shows, of a program that was started with the configuration `text`.
    pub fn register(registry: &mut Registry, program: &str, text: &str) -> Self {
        let metrics = Self::default();
        registry.register(
            format!("{program}_config_reloads"),
            "Changes of the configuration file by outcome",
            metrics.reloads.clone(),
        );
        registry.register(
            format!("{program}_config_last_reload_successful"),
            "Whether the configuration file, as it is, is in use: 1 or 0",
            metrics.last_successful.clone(),
        );
        registry.register(
            format!("{program}_config_loaded_timestamp_seconds"),
            "When the configuration in use was loaded",
            metrics.loaded.clone(),
        );
        registry.register(
            format!("{program}_config_info"),
            "The configuration file in use, by its SHA-256",
            metrics.info.clone(),
        );
        let codes = Cause::ALL.map(Cause::code);
        for outcome in codes.into_iter().chain([RELOADED]) {
            drop(metrics.reloads.get_or_create(&OutcomeLabels { outcome }));
        }
        metrics.in_use(text);
        metrics
    }

    fn in_use(&self, text: &str) {
        self.last_successful.set(1);
        self.loaded.set(clock::now().as_second());
        self.info.clear();
        let sha256 = hash(text);
        self.info.get_or_create(&InfoLabels { sha256 }).set(1);
    }

    fn count(&self, outcome: &'static str) {
        self.reloads.get_or_create(&OutcomeLabels { outcome }).inc();
    }
}

impl Report {
    /// Tells the log and these; Events are about the object, if there is one.
    pub fn new(metrics: ReloadMetrics, events: Option<(EventWriter, ObjectReference)>) -> Self {
        Self { metrics, events }
    }

    async fn reloaded(&self, file: &str, text: &str) {
        self.metrics.count(RELOADED);
        self.metrics.in_use(text);
        let sha256 = hash(text);
        tracing::info!(file, sha256, "configuration is reloaded");
        let note = format!("{file} is in use, sha256 {sha256}");
        self.event("ConfigReloaded", false, note).await;
    }

    async fn refused(&self, file: &str, refusal: &Refusal) {
        let Refusal { cause, problems } = refusal;
        self.metrics.count(cause.code());
        self.metrics.last_successful.set(0);
        tracing::error!(
            file,
            reason = cause.code(),
            problems,
            "configuration is refused: the one before it stays in use"
        );
        let note = format!("{file} is refused, the one before it stays in use: {problems}");
        self.event("ConfigRefused", true, note).await;
    }

    async fn event(&self, reason: &str, is_warning: bool, note: String) {
        if let Some((writer, about)) = &self.events {
            let happening = Happening {
                reason: reason.to_owned(),
                action: "Reload",
                is_warning,
                note,
            };
            writer.write(about, happening).await;
        }
    }
}

/// A text that is to be taken over.
struct Pending {
    text: String,
    not_before: Instant,
}

/// Has the program take over each change of the file, until shutdown. A change ends the attempt at the one before it.
///
/// # Errors
/// None.
pub async fn follow_configuration<R: Reload>(
    mut file: FileChanges,
    mut program: R,
    report: Report,
    shutdown: Shutdown,
) -> Result<(), Infallible> {
    let path = file.path().display().to_string();
    let mut pending_text = None;
    loop {
        tokio::select! {
            () = shutdown.requested() => return Ok(()),
            content = file.next() => match content.map(String::from_utf8) {
                Ok(Ok(text)) => pending_text = Some(Pending { text, not_before: Instant::now() }),
                Ok(Err(_)) => {
                    pending_text = None;
                    report.refused(&path, &refusal(Cause::Invalid, "it is not UTF-8")).await;
                }
                Err(error) => {
                    pending_text = None;
                    report.refused(&path, &refusal(Cause::Unreadable, &error.to_string())).await;
                }
            },
            outcome = attempt(&mut program, pending_text.as_ref()) => {
                pending_text = conclude(&path, &report, pending_text, outcome).await;
            }
        }
    }
}

async fn attempt<R: Reload>(program: &mut R, text: Option<&Pending>) -> Result<(), Refusal> {
    let Some(Pending { text, not_before }) = text else {
        return pending().await;
    };
    sleep_until(*not_before).await;
    program.reload(text).await
}

/// Tells how it went. Gives the text back if it is to be tried again.
async fn conclude(
    path: &str,
    report: &Report,
    tried: Option<Pending>,
    outcome: Result<(), Refusal>,
) -> Option<Pending> {
    let Pending { text, .. } = tried?;
    match outcome {
        Ok(()) => {
            report.reloaded(path, &text).await;
            None
        }
        Err(refusal) => {
            report.refused(path, &refusal).await;
            let not_before = Instant::now() + RETRY;
            (refusal.cause == Cause::NotWhole).then_some(Pending { text, not_before })
        }
    }
}

fn refusal(cause: Cause, problems: &str) -> Refusal {
    Refusal {
        cause,
        problems: problems.to_owned(),
    }
}

fn hash(text: &str) -> String {
    let digest = digest(&SHA256, text.as_bytes());
    let mut text = String::new();
    for byte in digest.as_ref() {
        // Writing to a String cannot fail.
        write!(text, "{byte:02x}").unwrap_or_default();
    }
    text
}

#[cfg(test)]
#[path = "reload/tests.rs"]
mod tests;

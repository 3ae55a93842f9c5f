//! Takes a changed configuration over.
//!
//! ```text
//! text ─▶ parse ─▶ forbidden? ─▶ prepare beside the old ─▶ wait until whole ─▶ exchange ─▶ what is gone ends
//!           └────────┴── refused: nothing was touched ──────────────┘ what was set up ends again
//! ```
//!
//! The exchange is one store of a pointer: there is no moment at which one endpoint is old and another new.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use sts_config::{Config, ConfigError, RateLimit, server_needs_restart};
use svc_runtime::log::chain;
use svc_runtime::reload::{Cause, Refusal, Reload};
use tokio::time::{Instant, sleep};

use crate::clusters::say_what_is_exposed;
use crate::discovered::{Conflict, Terms};
use crate::parts::{Change, Parts};
use crate::prepare::{Prepared, prepare};
use crate::run::{needs_api_server, own_clients};
use crate::running::{Running, Start};
use crate::serving::Serving;

/// How long what is new may take to be there.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often it is looked.
const LOOK: Duration = Duration::from_millis(50);

/// A running server, as far as its configuration goes.
pub(crate) struct Reloading {
    pub(crate) start: Start,
    pub(crate) config: Config,
    pub(crate) running: Running,
    pub(crate) serving: Arc<ArcSwap<Serving>>,
}

impl Reload for Reloading {
    async fn reload(&mut self, text: &str) -> Result<(), Refusal> {
        let config = Config::parse(text).map_err(|error| refusal(Cause::Invalid, &error))?;
        let problems = server_needs_restart(&self.config, &config);
        if !problems.is_empty() {
            let error = ConfigError::Invalid(problems);
            return Err(refusal(Cause::NeedsRestart, &error));
        }
        if self.start.clients.is_none() && needs_api_server(&config) {
            let clients = own_clients().await;
            let clients = clients.map_err(|error| refusal(Cause::NotWhole, &error))?;
            self.start.clients = Some(clients);
        }
        let prepared = prepare(&self.start, &self.running, &config);
        let mut prepared = prepared.map_err(|error| refusal(Cause::NotWhole, &error))?;
        let deadline = Instant::now() + PATIENCE;
        whole(&mut prepared, deadline).await?;
        self.agrees(&prepared, &config)?;
        let succeeded = prepared.succeed();
        succeeded.map_err(|error| refusal(Cause::NotWhole, &error))?;
        whole(&mut prepared, deadline).await?;
        self.exchange(prepared, config);
        Ok(())
    }
}

impl Reloading {
    /// Whether what the API servers say of themselves lets its endpoints issue tokens: what would be refused if it were written is.
    fn agrees(&self, prepared: &Prepared, config: &Config) -> Result<(), Refusal> {
        let (sources, terms) = (prepared.next.key_sources(), Terms::of(config));
        let conflicts = self.start.board.new_conflicts(&sources, &terms);
        if conflicts.is_empty() {
            return Ok(());
        }
        let said = |conflict: &Conflict| format!("endpoint {}: {conflict}", conflict.endpoint());
        let said: Vec<String> = conflicts.iter().map(said).collect();
        Err(Refusal {
            cause: Cause::Invalid,
            problems: said.join("; "),
        })
    }

    /// Without an `await`, so that it cannot happen by half.
    fn exchange(&mut self, prepared: Prepared, config: Config) {
        for warning in &config.warnings {
            tracing::warn!("configuration: {warning}");
        }
        say_what_is_exposed(&config.endpoints);
        let present = self.serving.load_full();
        let limits = present
            .limits()
            .changed(rates(&self.config), rates(&config));
        let running = prepared.commit();
        let next = present.next(&config, &running, limits);
        let terms = Terms::of(&config);
        self.start.board.replace(running.key_sources(), terms);
        self.start.watched.store(Arc::new(running.presences()));
        self.serving.store(Arc::new(next));
        say_what_changes(&Parts::of(&self.config), &Parts::of(&config));
        self.config = config;
        // Here ends what is gone.
        self.running = running;
    }
}

/// Not by a shared reference: what starts later can be moved to another thread, but not shared between threads.
async fn whole(prepared: &mut Prepared, deadline: Instant) -> Result<(), Refusal> {
    loop {
        let missing = prepared.missing();
        if missing.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(Refusal {
                cause: Cause::NotWhole,
                problems: format!("not there within {PATIENCE:?}: {}", missing.join(", ")),
            });
        }
        sleep(LOOK).await;
    }
}

fn rates(config: &Config) -> RateLimit {
    const NONE: RateLimit = RateLimit {
        per_address: None,
        per_pod: None,
    };
    config
        .server
        .as_ref()
        .map_or(NONE, |server| server.rate_limit)
}

fn say_what_changes(old: &Parts, new: &Parts) {
    let names = |change: &[&crate::parts::RingPart]| {
        let names: Vec<&str> = change.iter().map(|part| part.endpoint.as_str()).collect();
        names.join(", ")
    };
    let rings = Change::between(&old.rings, &new.rings);
    let clusters = Change::between(&old.clusters, &new.clusters);
    tracing::info!(
        rings.stay = rings.stays.len(),
        rings.start = names(&rings.starts),
        rings.end = names(&rings.ends),
        clusters.stay = clusters.stays.len(),
        clusters.start = clusters.starts.len(),
        clusters.end = clusters.ends.len(),
        "configuration is exchanged"
    );
}

fn refusal(cause: Cause, error: &(dyn std::error::Error + 'static)) -> Refusal {
    Refusal {
        cause,
        problems: chain(error).to_string(),
    }
}

#[cfg(test)]
#[path = "reload/tests.rs"]
pub(crate) mod tests;

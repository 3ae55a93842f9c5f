//! How a process ends: the first signal withdraws it from the Service and drains it, the second aborts.
//!
//! ```text
//! signal ─▶ readiness off ─▶ wait until endpoints are withdrawn ─▶ Shutdown requested ─▶ tasks end ─▶ run() returns
//! task fails or panics ────────────────────────────────────────┘
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use thiserror::Error;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::log::chain;
use crate::readiness::Readiness;

/// A handle on the process's end: anybody may wait for it, anybody may ask for it. Clones share one state.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    token: CancellationToken,
}

impl Shutdown {
    /// Not requested yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Completes once shutdown is requested; at once if it was before.
    pub async fn requested(&self) {
        self.token.cancelled().await;
    }

    /// Whether shutdown was requested.
    pub fn is_requested(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Asks everybody to end. Cannot be taken back.
    pub fn request(&self) {
        self.token.cancel();
    }

    /// One for a part of the process: requested with this one, and by itself where that part ends while the process lives on.
    #[must_use]
    pub fn part(&self) -> Self {
        Self {
            token: self.token.child_token(),
        }
    }
}

/// How long the two phases of an orderly end may take. Their sum must be less than the pod's `terminationGracePeriodSeconds`
/// (30 s unless the chart says otherwise), or the kubelet kills what is still draining.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainTiming {
    /// From "not ready" to "no new connections": the time it takes until no node sends us new connections any more.
    pub withdraw: Duration,
    /// From "no new connections" until the tasks must have ended. A little more than [`crate::server::Limits::drain`].
    pub drain: Duration,
}

impl Default for DrainTiming {
    fn default() -> Self {
        Self {
            withdraw: Duration::from_secs(3),
            drain: Duration::from_secs(22),
        }
    }
}

/// The long-running tasks of the process. The process lives as long as all of them are well.
#[derive(Debug)]
pub struct Tasks {
    spawner: Spawner,
    readiness: Option<Readiness>,
    timing: DrainTiming,
}

/// Starts tasks of a [`Tasks`], also while that runs. Clones start tasks of the same.
#[derive(Clone, Debug)]
pub struct Spawner {
    shutdown: Shutdown,
    tracker: TaskTracker,
    board: Arc<Board>,
}

impl Tasks {
    /// No tasks yet; the first failure will request `shutdown`.
    pub fn new(shutdown: Shutdown) -> Self {
        Self {
            spawner: Spawner {
                shutdown,
                tracker: TaskTracker::new(),
                board: Arc::default(),
            },
            readiness: None,
            timing: DrainTiming::default(),
        }
    }

    /// What these end by.
    pub fn shutdown(&self) -> Shutdown {
        self.spawner.shutdown.clone()
    }

    /// What starts tasks while these run.
    pub fn spawner(&self) -> Spawner {
        self.spawner.clone()
    }

    /// Turns `readiness` off when the process starts to end.
    #[must_use]
    pub fn with_readiness(self, readiness: Readiness) -> Self {
        Self {
            readiness: Some(readiness),
            ..self
        }
    }

    /// Replaces the default times of an orderly end.
    #[must_use]
    pub fn with_timing(self, timing: DrainTiming) -> Self {
        Self { timing, ..self }
    }

    /// Starts a task; see [`Spawner::spawn`].
    pub fn spawn<F, E>(&self, name: &'static str, task: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: std::error::Error + Send + Sync + 'static,
    {
        self.spawner.spawn(name, task);
    }

    /// Waits for SIGTERM, SIGINT, a failed task or a requested shutdown; then ends the process in order.
    ///
    /// # Errors
    ///
    /// The failure of the first task that failed; otherwise [`TasksError::Aborted`] on a second signal and
    /// [`TasksError::Unfinished`] if tasks were still running at the end of the drain. [`TasksError::Signals`] if the process cannot
    /// listen for signals.
    pub async fn run(self) -> Result<(), TasksError> {
        let mut signals = Signals::listen().map_err(TasksError::Signals)?;
        let outcome = self.live_and_drain(&mut signals).await;
        match self.spawner.board.lock().failure.take() {
            Some(failure) => Err(failure),
            None => outcome,
        }
    }

    async fn live_and_drain(&self, signals: &mut Signals) -> Result<(), TasksError> {
        let Spawner {
            shutdown,
            tracker,
            board,
        } = &self.spawner;
        let signalled = tokio::select! {
            name = signals.next() => Some(name),
            () = shutdown.requested() => None,
        };
        if let Some(readiness) = &self.readiness {
            readiness.drain();
        }
        if let Some(name) = signalled {
            tracing::info!(signal = name, "withdrawing from the Service, then draining");
            tokio::select! {
                () = sleep(self.timing.withdraw) => {}
                () = shutdown.requested() => {}
                _ = signals.next() => return Err(TasksError::Aborted),
            }
        }
        shutdown.request();
        tracker.close();
        tokio::select! {
            () = tracker.wait() => Ok(()),
            () = sleep(self.timing.drain) => {
                Err(TasksError::Unfinished { names: board.lock().running.keys().copied().collect() })
            }
            _ = signals.next() => Err(TasksError::Aborted),
        }
    }
}

impl Spawner {
    /// Starts a task. If it panics or returns an error, shutdown is requested and [`Tasks::run`] fails with its name; if it returns
    /// `Ok` it is simply done.
    pub fn spawn<F, E>(&self, name: &'static str, task: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: std::error::Error + Send + Sync + 'static,
    {
        let (shutdown, board) = (self.shutdown.clone(), Arc::clone(&self.board));
        board.begin(name);
        let watched = async move {
            // The state of a panicked task is dropped with it, so nobody can see it half-changed.
            let outcome = AssertUnwindSafe(task).catch_unwind().await;
            let failure = match outcome {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(TasksError::Failed {
                    name,
                    source: Box::new(error),
                }),
                Err(_) => Some(TasksError::Panicked { name }),
            };
            let ended_well = failure.is_none();
            board.end(name, failure);
            if !ended_well {
                shutdown.request();
            }
        };
        drop(self.tracker.spawn(watched));
    }

    /// How many tasks there are at this moment.
    pub fn count(&self) -> usize {
        self.tracker.len()
    }
}

/// Why the process did not live and end in order.
#[derive(Debug, Error)]
pub enum TasksError {
    /// The process cannot listen for SIGTERM or SIGINT.
    #[error("cannot listen for signals")]
    Signals(#[source] io::Error),
    /// A task returned an error.
    #[error("task {name} failed")]
    Failed {
        /// The task's name.
        name: &'static str,
        /// Its error.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A task panicked; the panic's message is on stderr.
    #[error("task {name} panicked")]
    Panicked {
        /// The task's name.
        name: &'static str,
    },
    /// Tasks were still running at the end of the drain.
    #[error("tasks did not end in time: {}", names.join(", "))]
    Unfinished {
        /// The names of those tasks.
        names: Vec<&'static str>,
    },
    /// A second signal came while the process was draining.
    #[error("aborted by a second signal")]
    Aborted,
}

/// What the tasks tell [`Tasks::run`].
#[derive(Debug, Default)]
struct Board {
    state: Mutex<BoardState>,
}

#[derive(Default)]
struct BoardState {
    /// How many there are of each name.
    running: BTreeMap<&'static str, usize>,
    failure: Option<TasksError>,
}

impl Board {
    fn begin(&self, name: &'static str) {
        let mut state = self.lock();
        let count = state.running.entry(name).or_default();
        *count = count.saturating_add(1);
    }

    fn end(&self, name: &'static str, failure: Option<TasksError>) {
        let mut state = self.lock();
        if let Some(count) = state.running.get_mut(name) {
            *count = count.saturating_sub(1);
        }
        state.running.retain(|_, count| *count > 0);
        let Some(failure) = failure else { return };
        // Now, not when `run` returns: the drain comes in between.
        tracing::error!(task = name, error = %chain(&failure), "task ended badly");
        // What fails after the first one usually fails because of it.
        state.failure.get_or_insert(failure);
    }

    /// Every state of the board is a valid one: a poisoned lock is as good as another.
    fn lock(&self) -> MutexGuard<'_, BoardState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for BoardState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoardState")
            .field("running", &self.running)
            .finish_non_exhaustive()
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

#[cfg(test)]
mod tests;

//! Whether this replica may get traffic: named conditions, all of which must be met.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The readiness of the process. Starts not ready; a clone is a handle on the same state.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    shared: Arc<Shared>,
}

impl Readiness {
    /// Not ready: there is no condition yet that could be met.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a condition, which starts unmet. Its name is what `/readyz` shows.
    pub fn condition(&self, name: &'static str) -> Condition {
        let mut conditions = self.shared.lock();
        conditions.push(State {
            name,
            unmet: Some("starting".to_owned()),
            is_retired: false,
        });
        Condition {
            shared: Arc::clone(&self.shared),
            index: conditions.len() - 1,
        }
    }

    /// Whether there is a condition, every condition is met, and the process is not draining.
    pub fn is_ready(&self) -> bool {
        self.unmet().is_empty()
    }

    /// What stands in the way, as name and reason; empty means ready.
    pub fn unmet(&self) -> Vec<(&'static str, String)> {
        let conditions = self.shared.lock();
        let mut unmet: Vec<_> = conditions
            .iter()
            .filter_map(|state| Some((state.name, state.unmet.clone()?)))
            .collect();
        if conditions.is_empty() {
            unmet.push(("conditions", "none was registered yet".to_owned()));
        }
        if self.shared.draining.load(Ordering::Acquire) {
            unmet.push(("drain", "shutting down".to_owned()));
        }
        unmet
    }

    /// Makes the process not ready for good: it is about to stop.
    pub fn drain(&self) {
        self.shared.draining.store(true, Ordering::Release);
    }
}

/// One thing that must hold before traffic may come; made by [`Readiness::condition`].
#[derive(Clone, Debug)]
pub struct Condition {
    shared: Arc<Shared>,
    index: usize,
}

impl Condition {
    /// The condition holds.
    pub fn met(&self) {
        self.set(None);
    }

    /// The condition does not hold; `reason` is shown on `/readyz`, so it must hold no secret.
    pub fn unmet(&self, reason: impl Into<String>) {
        self.set(Some(reason.into()));
    }

    /// One that no readiness waits for: for what is set up while the process serves already.
    pub fn unlisted(name: &'static str) -> Self {
        Readiness::new().condition(name)
    }

    /// Nobody waits for it any more, whatever is said of it later: what it was about is gone.
    pub fn retire(&self) {
        let mut conditions = self.shared.lock();
        if let Some(state) = conditions.get_mut(self.index) {
            state.unmet = None;
            state.is_retired = true;
        }
    }

    /// Whether the condition holds now.
    pub fn is_met(&self) -> bool {
        self.shared
            .lock()
            .get(self.index)
            .is_some_and(|state| state.unmet.is_none())
    }

    fn set(&self, unmet: Option<String>) {
        let mut conditions = self.shared.lock();
        let Some(state) = conditions.get_mut(self.index) else {
            return;
        };
        if state.is_retired {
            return;
        }
        match (&state.unmet, &unmet) {
            (Some(_), None) => tracing::info!(condition = state.name, "condition is met"),
            (None, Some(reason)) => {
                tracing::warn!(condition = state.name, %reason, "condition is no longer met");
            }
            (None, None) | (Some(_), Some(_)) => {}
        }
        state.unmet = unmet;
    }
}

#[derive(Debug, Default)]
struct Shared {
    conditions: Mutex<Vec<State>>,
    draining: AtomicBool,
}

impl Shared {
    /// No code panics while it holds the lock, and every state of the list is a valid one: a poisoned lock is as good as another.
    fn lock(&self) -> MutexGuard<'_, Vec<State>> {
        self.conditions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct State {
    name: &'static str,
    unmet: Option<String>,
    is_retired: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_not_ready_even_without_conditions() {
        assert!(!Readiness::new().is_ready());
    }

    #[test]
    fn is_ready_only_while_every_condition_is_met() {
        let readiness = Readiness::new();
        let (keys, certificate) = (
            readiness.condition("keys"),
            readiness.condition("certificate"),
        );
        keys.met();
        assert_eq!(readiness.unmet(), [("certificate", "starting".to_owned())]);
        certificate.met();
        assert!(readiness.is_ready());
        keys.unmet("too old");
        assert_eq!(readiness.unmet(), [("keys", "too old".to_owned())]);
    }

    #[test]
    fn what_is_gone_is_not_waited_for() {
        let readiness = Readiness::new();
        let (kept, gone) = (readiness.condition("kept"), readiness.condition("gone"));
        kept.met();
        gone.retire();
        gone.unmet("too late");
        Condition::unlisted("new").unmet("not yet");
        assert!(readiness.is_ready());
    }

    #[test]
    fn draining_is_for_good() {
        let readiness = Readiness::new();
        let condition = readiness.condition("keys");
        condition.met();
        readiness.drain();
        condition.met();
        assert_eq!(readiness.unmet(), [("drain", "shutting down".to_owned())]);
    }
}

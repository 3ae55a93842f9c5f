//! A value that tests wait for without asking again and again.

use std::fmt::Debug;
use std::sync::{Condvar, Mutex};
use std::time::Duration;

/// A value that one thread changes and another waits for.
#[derive(Default)]
pub(crate) struct Watched<T> {
    value: Mutex<T>,
    changed: Condvar,
}

impl<T: Debug> Watched<T> {
    pub(crate) fn change(&self, change: impl FnOnce(&mut T)) {
        change(&mut self.value.lock().unwrap());
        self.changed.notify_all();
    }

    pub(crate) fn read<R>(&self, read: impl FnOnce(&T) -> R) -> R {
        read(&self.value.lock().unwrap())
    }

    /// Fails the test if that takes unreasonably long.
    #[track_caller]
    pub(crate) fn wait_until(&self, what: &str, is_so: impl Fn(&T) -> bool) {
        let value = self.value.lock().unwrap();
        let (value, outcome) = self
            .changed
            .wait_timeout_while(value, PATIENCE, |value| !is_so(value))
            .unwrap();
        assert!(!outcome.timed_out(), "never: {what}\n{value:?}");
    }
}

/// For what happens within a second where it happens at all.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

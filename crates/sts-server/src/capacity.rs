//! How many exchanges are worked on at once, and that each one comes to its end.
//!
//! A slot is taken when the request is there as a whole, so that nobody holds one by sending slowly.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many exchanges are worked on at once; more are sent away at once, so that no queue grows.
const MOST_AT_ONCE: u32 = 512;

/// How many of them may wait for API servers altogether: what needs no answer of theirs goes on, however many of them hang.
const MOST_WAITING: usize = 384;
/// How many may wait for one of very many.
const LEAST_SHARE: usize = 16;

/// How many exchanges wait for one cluster's API server, and how many may: another number when clusters come or go.
pub(crate) struct Share {
    most: AtomicUsize,
    waiting: AtomicUsize,
}

/// The right to be one of those who wait.
pub(crate) struct Turn(Arc<Share>);

impl Share {
    /// That of one of so many clusters.
    pub(crate) fn new(clusters: usize) -> Self {
        Self {
            most: AtomicUsize::new(share_of(clusters)),
            waiting: AtomicUsize::new(0),
        }
    }

    /// It is one of so many from now on. Who waits already goes on.
    pub(crate) fn resize(&self, clusters: usize) {
        self.most.store(share_of(clusters), Ordering::Relaxed);
    }

    /// `None` if enough wait.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Turn> {
        let most = self.most.load(Ordering::Relaxed);
        let one_more = |waiting: usize| (waiting < most).then(|| waiting.saturating_add(1));
        self.waiting
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .ok()?;
        Some(Turn(Arc::clone(self)))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How many exchanges may wait for the API server of one of so many clusters.
fn share_of(clusters: usize) -> usize {
    let share = MOST_WAITING.checked_div(clusters);
    share.unwrap_or(MOST_WAITING).max(LEAST_SHARE)
}

/// The slots of all endpoints. Clones share them.
#[derive(Clone)]
pub(crate) struct Capacity {
    slots: Arc<Semaphore>,
    most: u32,
}

/// The right to work on one exchange.
pub(crate) struct Slot {
    permit: OwnedSemaphorePermit,
}

impl Capacity {
    pub(crate) fn new() -> Self {
        Self::of(MOST_AT_ONCE)
    }

    fn of(most: u32) -> Self {
        let slots = usize::try_from(most).unwrap_or(Semaphore::MAX_PERMITS);
        Self {
            slots: Arc::new(Semaphore::new(slots)),
            most,
        }
    }

    /// A slot, if one is free.
    pub(crate) fn slot(&self) -> Option<Slot> {
        let permit = Arc::clone(&self.slots).try_acquire_owned().ok()?;
        Some(Slot { permit })
    }

    /// Waits until all slots are free. Callers see to it that no more are taken.
    pub(crate) async fn idle(&self) {
        // The semaphore is never closed.
        drop(self.slots.acquire_many(self.most).await);
    }
}

impl Slot {
    /// Does the work to its end, also when whoever waits for it goes away: a client that resets its request can neither hide it from
    /// the audit trail nor stop it half-way. `None` if the work panicked or the process ends.
    pub(crate) async fn run<F>(self, work: F) -> Option<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let work = async move {
            let output = work.await;
            drop(self.permit);
            output
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "`Tasks` is for tasks that live as long as the process; this one ends by itself, and `idle` waits for it"
        )]
        let task = tokio::task::spawn(work);
        task.await.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;
    use tokio::time::timeout;

    use super::*;

    #[test]
    fn hanging_api_servers_leave_slots_to_others() {
        let all = usize::try_from(MOST_AT_ONCE).unwrap();
        for clusters in 0..=24 {
            let waiting = share_of(clusters) * clusters;
            assert!(waiting <= MOST_WAITING && MOST_WAITING < all, "{clusters}");
        }
        assert_eq!(share_of(1), MOST_WAITING);
        assert_eq!(share_of(1000), LEAST_SHARE);
    }

    #[test]
    fn a_share_changes_with_the_number_of_clusters() {
        let share = Arc::new(Share::new(1000));
        let turns: Vec<Turn> = (0..LEAST_SHARE).filter_map(|_| share.take()).collect();
        assert!(turns.len() == LEAST_SHARE && share.take().is_none());
        share.resize(1);
        drop(share.take().unwrap());
        share.resize(1000);
        assert!(share.take().is_none());
        drop(turns);
        assert!(share.take().is_some());
    }

    #[tokio::test]
    async fn work_whose_client_went_away_comes_to_its_end() {
        let capacity = Capacity::of(1);
        let (go, gone) = oneshot::channel::<()>();
        let (tell, told) = oneshot::channel();
        let work = capacity.slot().unwrap().run(async move {
            gone.await.unwrap();
            tell.send("done").unwrap();
        });
        let patience = Duration::from_millis(10);
        assert!(timeout(patience, work).await.is_err(), "dropped half-way");
        assert!(capacity.slot().is_none(), "it still holds its slot");
        assert!(timeout(patience, capacity.idle()).await.is_err());
        go.send(()).unwrap();
        assert_eq!(told.await.unwrap(), "done");
        capacity.idle().await;
        assert!(capacity.slot().is_some());
    }
}

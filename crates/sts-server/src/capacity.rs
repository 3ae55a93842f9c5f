//! How many exchanges are worked on at once, and that each one comes to its end.
//!
//! A slot is taken when the request is there as a whole, so that nobody holds one by sending slowly.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many exchanges are worked on at once; more are sent away at once, so that no queue grows.
const MOST_AT_ONCE: u32 = 512;

/// How many of them may wait for API servers altogether, those below included: what needs no answer of theirs goes on, however many of
/// them hang.
const MOST_WAITING: usize = 384;
/// How many of these no other cluster can take: each has an even share, so that a group of clusters that hang leaves the others some.
const MOST_RESERVED: usize = 128;
/// How many may wait for one of very many, if others leave them.
const LEAST_SHARE: usize = 16;

/// The places of those who wait for API servers that are no one cluster's own. Clones share them.
#[derive(Clone)]
pub(crate) struct CommonPlaces(Arc<Places>);

/// How many exchanges wait for one cluster's API server, and how many may: another number when clusters come or go.
pub(crate) struct Share {
    own: Arc<Places>,
    /// Those that it may have of the common ones.
    borrowed: Arc<Places>,
    common: CommonPlaces,
}

/// The right to be one of those who wait.
pub(crate) struct Turn {
    _places: (Place, Option<Place>),
}

/// So many may be somewhere at the same time.
#[derive(Default)]
struct Places {
    most: AtomicUsize,
    taken: AtomicUsize,
}

struct Place(Arc<Places>);

impl CommonPlaces {
    pub(crate) fn new() -> Self {
        let places = Places::default();
        places.resize(MOST_WAITING - MOST_RESERVED);
        Self(Arc::new(places))
    }
}

impl Share {
    /// That of one of so many clusters.
    pub(crate) fn new(clusters: usize, common: CommonPlaces) -> Self {
        let share = Self {
            own: Arc::default(),
            borrowed: Arc::default(),
            common,
        };
        share.resize(clusters);
        share
    }

    /// It is one of so many from now on. Who waits already goes on.
    pub(crate) fn resize(&self, clusters: usize) {
        let reserved = reserved_of(clusters);
        self.own.resize(reserved);
        self.borrowed
            .resize(share_of(clusters).saturating_sub(reserved));
    }

    /// `None` if enough wait.
    pub(crate) fn take(&self) -> Option<Turn> {
        let places = match Place::take(&self.own) {
            Some(place) => (place, None),
            None => (
                Place::take(&self.borrowed)?,
                Some(Place::take(&self.common.0)?),
            ),
        };
        Some(Turn { _places: places })
    }
}

impl Places {
    fn resize(&self, most: usize) {
        self.most.store(most, Ordering::Relaxed);
    }
}

impl Place {
    fn take(places: &Arc<Places>) -> Option<Self> {
        let most = places.most.load(Ordering::Relaxed);
        let one_more = |taken: usize| (taken < most).then(|| taken.saturating_add(1));
        places
            .taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .ok()?;
        Some(Self(Arc::clone(places)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How many exchanges may wait for the API server of one of so many clusters.
fn share_of(clusters: usize) -> usize {
    let share = MOST_WAITING.checked_div(clusters);
    share.unwrap_or(MOST_WAITING).max(LEAST_SHARE)
}

/// How many of these no other cluster can take.
fn reserved_of(clusters: usize) -> usize {
    let share = MOST_RESERVED.checked_div(clusters);
    share.unwrap_or(MOST_RESERVED)
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

    /// Shares of so many clusters, and the turns that each of the first ones takes while it gets some.
    fn hang(clusters: usize, hanging: usize) -> (Vec<Share>, Vec<usize>, Vec<Turn>) {
        let common = CommonPlaces::new();
        let share = |_| Share::new(clusters, common.clone());
        let shares: Vec<Share> = (0..clusters).map(share).collect();
        let mut turns = Vec::new();
        let mut counts = Vec::new();
        for share in shares.iter().take(hanging) {
            let before = turns.len();
            turns.extend(std::iter::from_fn(|| share.take()));
            counts.push(turns.len() - before);
        }
        (shares, counts, turns)
    }

    #[test]
    fn api_servers_that_hang_leave_slots_to_others() {
        let all = usize::try_from(MOST_AT_ONCE).unwrap();
        for clusters in [1, 2, 3, 24, 25, 32, 100, 128, 129, 600] {
            let (_, _, turns) = hang(clusters, clusters);
            assert!(
                turns.len() <= MOST_WAITING && MOST_WAITING < all,
                "{clusters}"
            );
        }
        assert_eq!(hang(1, 1).1, [MOST_WAITING]);
        assert_eq!(hang(1000, 1).1, [LEAST_SHARE]);
    }

    #[test]
    fn a_group_of_clusters_that_hang_leaves_the_others_some() {
        for (clusters, left) in [(2, 192), (32, 4), (128, 1)] {
            let (shares, _, _turns) = hang(clusters, clusters - 1);
            let others = std::iter::from_fn(|| shares[clusters - 1].take());
            let others: Vec<Turn> = others.collect();
            assert_eq!(others.len(), left, "{clusters}");
        }
    }

    #[test]
    fn a_share_changes_with_the_number_of_clusters() {
        let share = Share::new(1000, CommonPlaces::new());
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

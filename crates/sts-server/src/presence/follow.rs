//! Keeps the index of one kind as the API server has it.
//!
//! Not kube's `watcher`: it does not tell when it opens a watch, and without that a cluster in which nothing happens cannot be told from a
//! dead connection. (Bookmarks are no help: kube-apiserver sends none while nothing happens.)

use std::collections::HashSet;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use kube::Client;
use kube::core::WatchEvent;
use sts_core::ident::{ClusterName, LabelKey, Uid};
use sts_core::policy::Labels;
use svc_runtime::log::chain;
use tokio::time::{sleep, sleep_until, timeout};

use super::index::{Entries, Entry, Index};
use super::miss::Misses;
use super::moment::Moment;
use super::wire::{Kind, Object, Page};
use crate::api_server::{ApiServer, CallError, call};

/// How soon it is tried again after a failure.
const RETRY: Duration = Duration::from_secs(1);
/// How long one page of a list may take.
const PAGE_PATIENCE: Duration = Duration::from_secs(20);
/// How large it may be: 500 objects whose metadata is as large as Kubernetes allows annotations to be would be more, and would be odd.
const LARGEST_PAGE: usize = 64 << 20;
/// How soon a watch that ended at once is followed by the next one.
const PACE: Duration = Duration::from_secs(1);
/// How long a watch may be silent: it ends by itself before that.
const SILENCE: Duration = Duration::from_secs(15);
/// How old a list gets before everything is listed anew, whatever the watch does: a stream that is opened and renewed but brings nothing,
/// or not all, must not keep what was known once fresh for ever. The watch goes on meanwhile.
const LIST_EVERY: Duration = Duration::from_secs(300);
/// How soon one list is followed by the next: a watch that breaks each time at once must not cost one list after the other.
const LIST_PACE: Duration = Duration::from_secs(10);
/// How long one object may take, and how large the answer may be.
const ONE_PATIENCE: Duration = Duration::from_secs(5);
const LARGEST_ONE: usize = 2 << 20;

/// One kind of a cluster's objects.
pub(super) struct Followed {
    cluster: ClusterName,
    kind: Kind,
    api_server: ApiServer,
    /// The labels that are kept.
    keys: Vec<LabelKey>,
    index: Index,
    misses: Misses,
    /// What was seen to go while everything is listed anew: the list is of the time when it began, and must not bring the dead back for as
    /// long as it takes until the watch from there has told it again. `None` while nothing is listed.
    gone: Mutex<Option<HashSet<u128>>>,
    /// The last sign of life. `None` before the first list is through.
    sign: Mutex<Option<Moment>>,
    /// When the last list that came through was asked for.
    listed: Mutex<Option<Moment>>,
}

/// Everything there is.
struct List {
    entries: Entries,
    /// The version to watch from.
    version: String,
    /// When it was asked for. The list is of that time: what happened since then is still to come.
    began: Moment,
}

/// Why a watch ended.
enum Ended {
    /// Its time was over, or it broke after it had brought something: it goes on from where it was.
    Resumable,
    /// It broke without having brought anything. Once that is the connection; twice in a row, nothing tells a stream that only looks alive
    /// from one of a cluster in which nothing happens.
    Silent,
    /// What happened meanwhile is not known any more (status 410), or what came makes no sense: everything is listed again.
    TooOld,
    /// It was refused, which is no sign of life. It is tried again and not made up for by lists: nobody would notice that what goes is
    /// only seen at the next one.
    Unopened,
    /// The API server could not be reached, or failed. It may come back with an older store, restored from a copy, in which the version
    /// that we have seen lies ahead: a watch from there is open and brings nothing until the store has come that far. So once a watch can
    /// be opened again, everything is listed.
    Away,
}

impl Ended {
    /// How a watch ended that broke.
    const fn after(brought: bool) -> Self {
        if brought {
            Self::Resumable
        } else {
            Self::Silent
        }
    }
}

impl Followed {
    /// `keys` are the labels that are kept.
    pub(super) fn new(
        cluster: ClusterName,
        kind: Kind,
        api_server: ApiServer,
        keys: Vec<LabelKey>,
    ) -> Self {
        Self {
            cluster,
            kind,
            api_server,
            keys,
            index: Index::default(),
            misses: Misses::default(),
            gone: Mutex::default(),
            sign: Mutex::default(),
            listed: Mutex::default(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    pub(super) const fn plural(&self) -> &'static str {
        self.kind.plural()
    }

    /// That of the last sign of life, or how long the next list is overdue: a watch that goes on must not make up for lists that fail.
    pub(super) fn age(&self) -> Option<Duration> {
        let at = |moment: &Mutex<Option<Moment>>| {
            let moment = moment.lock().unwrap_or_else(PoisonError::into_inner);
            moment.map(Moment::age)
        };
        let overdue = at(&self.listed)?.saturating_sub(LIST_EVERY);
        Some(at(&self.sign)?.max(overdue))
    }

    fn give_sign(&self, at: Moment) {
        *self.sign.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
    }

    fn gone(&self) -> MutexGuard<'_, Option<HashSet<u128>>> {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing that is known by its uid comes back. A namespace does, which is known by its name.
    fn note_gone(&self, object: u128) {
        if self.kind != Kind::Namespace
            && let Some(gone) = self.gone().as_mut()
        {
            gone.insert(object);
        }
    }

    /// What was kept of an object's labels.
    pub(super) fn labels(&self, entry: Entry) -> Labels {
        let values = entry.labels.into_iter();
        let values = values.map(|value| value.map(String::from));
        self.keys.iter().cloned().zip(values).collect()
    }

    /// What is known of one object, `None` if it is not there; what the index does not have the API server is asked about. The uid is
    /// left out for a namespace.
    pub(super) async fn look(
        &self,
        namespace: &str,
        name: &str,
        uid: Option<&Uid>,
    ) -> Result<Option<Entry>, CallError> {
        let object = super::fingerprint(namespace, name, uid);
        if let Some(found) = self.index.find(object) {
            return Ok(Some(found));
        }
        let caller = self.api_server.caller()?;
        let ask = async {
            let request = self.kind.one(namespace, name)?;
            let answer = caller.call(request, LARGEST_ONE, ONE_PATIENCE).await?;
            let page = Page::parse(&answer)?;
            let found = page.items().first();
            let same = |found: &&Object| found.fingerprint(self.kind).ok() == Some(object);
            Ok(found.filter(same).map(|found| found.entry(&self.keys)))
        };
        self.misses.look(object, ask).await
    }

    /// Never ends.
    pub(super) async fn follow(&self) {
        let mut api_server = self.api_server.clone();
        loop {
            let client = api_server.watches().await;
            tokio::select! {
                () = self.keep(&client) => {}
                () = api_server.changed() => {
                    // With another client it may be another cluster: nothing that was known counts.
                    *self.sign.lock().unwrap_or_else(PoisonError::into_inner) = None;
                    self.index.replace(Entries::new());
                }
            }
        }
    }

    /// Lists, then watches from there, and lists again every now and then while the watch goes on. Never ends.
    async fn keep(&self, client: &Client) {
        let mut list = self.listed(client).await;
        loop {
            let began = list.began;
            let version = self.adopt(list);
            let again = async {
                sleep_until(began.steady() + LIST_EVERY).await;
                self.listed(client).await
            };
            list = tokio::select! {
                list = again => list,
                () = self.watches(client, version) => {
                    sleep_until(began.steady() + LIST_PACE).await;
                    self.listed(client).await
                }
            };
        }
    }

    /// One watch after the other, until everything has to be listed again.
    async fn watches(&self, client: &Client, mut version: String) {
        let (mut was_silent, mut was_away) = (false, false);
        loop {
            match self.watch(client, &mut version, was_away).await {
                Ended::Resumable => was_silent = false,
                Ended::Silent if !was_silent => was_silent = true,
                Ended::Away => was_away = true,
                Ended::Unopened => {}
                Ended::Silent | Ended::TooOld => return,
            }
        }
    }

    /// Puts what was listed in place of what was known; the version to watch from.
    fn adopt(&self, list: List) -> String {
        let List {
            mut entries,
            version,
            began,
        } = list;
        for object in self.gone().take().unwrap_or_default() {
            drop(entries.remove(&object));
        }
        self.index.replace(entries);
        *self.listed.lock().unwrap_or_else(PoisonError::into_inner) = Some(began);
        self.give_sign(began);
        tracing::info!(cluster = %self.cluster, kind = self.plural(), count = self.index.len(), "objects are listed");
        version
    }

    /// Lists everything, as often as it takes.
    async fn listed(&self, client: &Client) -> List {
        loop {
            match self.list(client).await {
                Ok(list) => return list,
                Err(error) => {
                    tracing::warn!(cluster = %self.cluster, kind = self.plural(), error = %chain(&error), "objects cannot be listed");
                    sleep(RETRY).await;
                }
            }
        }
    }

    async fn list(&self, client: &Client) -> Result<List, CallError> {
        let began = Moment::now();
        *self.gone() = Some(HashSet::new());
        let mut entries = Entries::new();
        let mut next = None;
        loop {
            let request = self.kind.list(next.as_deref())?;
            let answer = call(client, request, LARGEST_PAGE, PAGE_PATIENCE).await?;
            let page = Page::parse(&answer)?;
            for object in page.items() {
                entries.insert(object.fingerprint(self.kind)?, object.entry(&self.keys));
            }
            next = page.metadata.next.filter(|next| !next.is_empty());
            if next.is_none() {
                return Ok(List {
                    entries,
                    version: page.metadata.resource_version,
                    began,
                });
            }
        }
    }

    /// Takes one watch's events in.
    ///
    /// That the API server opens it is a sign of life of the moment it was asked: whatever happened before that comes first on the stream.
    async fn watch(&self, client: &Client, version: &mut String, was_away: bool) -> Ended {
        let began = Moment::now();
        let events = async {
            let request = self.kind.watch(version)?;
            let events = client.request_events::<Object>(request).await;
            let events = events.map_err(|error| CallError::Unreachable(error.into()))?;
            let unreachable = |error: kube::Error| CallError::Unreachable(error.into());
            Ok(events.map(move |event: Result<_, kube::Error>| event.map_err(unreachable)))
        };
        let events = match timeout(SILENCE, events).await {
            Ok(Ok(events)) => events,
            Ok(Err(error)) => return self.broken(&error, unopened(&error)).await,
            Err(_) => {
                let slow = CallError::Slow { patience: SILENCE };
                return self.broken(&slow, Ended::Away).await;
            }
        };
        if was_away {
            return Ended::TooOld;
        }
        self.give_sign(began);
        let mut events = pin!(events);
        let mut brought = false;
        loop {
            let event = match timeout(SILENCE, events.next()).await {
                Ok(Some(Ok(event))) => event,
                Ok(Some(Err(error))) => return self.broken(&error, Ended::after(brought)).await,
                Ok(None) => {
                    sleep_until(began.steady() + PACE).await;
                    return Ended::Resumable;
                }
                Err(_) => {
                    let slow = CallError::Slow { patience: SILENCE };
                    return self.broken(&slow, Ended::after(brought)).await;
                }
            };
            match self.take(event, version) {
                Ok(()) => self.give_sign(Moment::now()),
                Err(CallError::Refused { status: 410 }) => return Ended::TooOld,
                Err(error) => return self.broken(&error, Ended::after(brought)).await,
            }
            brought = true;
        }
    }

    fn take(&self, event: WatchEvent<Object>, version: &mut String) -> Result<(), CallError> {
        match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                self.index
                    .insert(object.fingerprint(self.kind)?, object.entry(&self.keys));
                object.version().clone_into(version);
            }
            WatchEvent::Deleted(object) => {
                let fingerprint = object.fingerprint(self.kind)?;
                self.index.remove(fingerprint);
                self.note_gone(fingerprint);
                object.version().clone_into(version);
            }
            WatchEvent::Bookmark(bookmark) => {
                bookmark.metadata.resource_version.clone_into(version);
            }
            WatchEvent::Error(status) => {
                return Err(CallError::Refused {
                    status: status.code,
                });
            }
        }
        Ok(())
    }

    /// A watch that broke is taken up where it was, after a pause, as far as `ended` allows. Not so where what came cannot be understood:
    /// it would be lost, or come again and again.
    async fn broken(&self, error: &CallError, ended: Ended) -> Ended {
        let source = source(error);
        if status(error) == Some(410) {
            return Ended::TooOld;
        }
        tracing::warn!(cluster = %self.cluster, kind = self.plural(), error = %chain(error), "watch broke");
        sleep(RETRY).await;
        match (error, source) {
            (CallError::Malformed, _) | (_, Some(kube::Error::SerdeError(_))) => Ended::TooOld,
            _ => ended,
        }
    }
}

/// How a watch ended that was not opened: whether the API server answered at all.
fn unopened(error: &CallError) -> Ended {
    match status(error) {
        Some(status) if status < 500 => Ended::Unopened,
        Some(_) | None => Ended::Away,
    }
}

/// What the client says of a call that brought nothing.
fn source(error: &CallError) -> Option<&kube::Error> {
    match error {
        CallError::Unreachable(source) => source.downcast_ref(),
        CallError::Busy
        | CallError::Malformed
        | CallError::NoClient
        | CallError::Refused { .. }
        | CallError::Slow { .. }
        | CallError::TooLarge { .. } => None,
    }
}

/// The API server's answer, where there was one.
fn status(error: &CallError) -> Option<u16> {
    if let Some(kube::Error::Api(status)) = source(error) {
        Some(status.code)
    } else {
        None
    }
}

#[cfg(test)]
#[path = "follow/tests.rs"]
mod tests;

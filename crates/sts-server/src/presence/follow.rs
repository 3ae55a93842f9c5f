//! Keeps the index of one kind as the API server has it.
//!
//! Not kube's `watcher`: it does not tell when it opens a watch, and without that a cluster in which nothing happens cannot be told from a
//! dead connection. (Bookmarks are no help: kube-apiserver sends none while nothing happens.)

use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use kube::Client;
use kube::core::WatchEvent;
use sts_core::ident::{ClusterName, Uid};
use sts_core::liveness::Existence;
use svc_runtime::log::chain;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use super::index::{Entries, Index};
use super::miss::Misses;
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
/// or not all, must not keep what was known once fresh for ever.
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
    index: Index,
    misses: Misses,
    /// The last sign of life. `None` before the first list is through.
    sign: Mutex<Option<Instant>>,
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
    /// It could not be opened, which is no sign of life. It is tried again and not made up for by lists: nobody would notice that what goes
    /// is only seen at the next one.
    Unopened,
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
    pub(super) fn new(cluster: ClusterName, kind: Kind, api_server: ApiServer) -> Self {
        Self {
            cluster,
            kind,
            api_server,
            index: Index::default(),
            misses: Misses::default(),
            sign: Mutex::default(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    pub(super) fn age(&self) -> Option<Duration> {
        let sign = self.sign.lock().unwrap_or_else(PoisonError::into_inner);
        sign.map(|sign| sign.elapsed())
    }

    fn give_sign(&self, at: Instant) {
        *self.sign.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
    }

    /// What is known of one object; what the index does not have the API server is asked about.
    pub(super) async fn look(
        &self,
        namespace: &str,
        name: &str,
        uid: &Uid,
    ) -> Result<Existence, CallError> {
        let object = super::fingerprint(namespace, name, uid);
        if let Some(found) = self.index.find(object) {
            return Ok(found);
        }
        let ask = async {
            let client = self.api_server.requests()?;
            let request = self.kind.one(namespace, name)?;
            let page = page(&client, request, LARGEST_ONE, ONE_PATIENCE).await?;
            let found = page
                .items()
                .first()
                .filter(|found| found.fingerprint().ok() == Some(object));
            Ok(found.map_or(Existence::Absent, |object| {
                super::existence(object.deletion())
            }))
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

    /// Lists, then watches from there. Never ends.
    async fn keep(&self, client: &Client) {
        loop {
            let listed = Instant::now();
            let mut version = match self.list(client).await {
                Ok(version) => version,
                Err(error) => {
                    tracing::warn!(cluster = %self.cluster, kind = self.kind.plural(), error = %chain(&error), "objects cannot be listed");
                    sleep(RETRY).await;
                    continue;
                }
            };
            tracing::info!(cluster = %self.cluster, kind = self.kind.plural(), count = self.index.len(), "objects are listed");
            self.watches(client, &mut version, listed + LIST_EVERY)
                .await;
            sleep_until(listed + LIST_PACE).await;
        }
    }

    /// One watch after the other, until everything has to be listed again; `until` at the latest, also where one watch never ends.
    async fn watches(&self, client: &Client, version: &mut String, until: Instant) {
        let mut was_silent = false;
        while let Ok(ended) = timeout_at(until, self.watch(client, version)).await {
            match ended {
                Ended::Resumable => was_silent = false,
                Ended::Silent if !was_silent => was_silent = true,
                Ended::Unopened => {}
                Ended::Silent | Ended::TooOld => return,
            }
        }
    }

    /// Lists everything and puts it in place of what was known; the version to watch from.
    async fn list(&self, client: &Client) -> Result<String, CallError> {
        let began = Instant::now();
        let mut entries = Entries::new();
        let mut next = None;
        loop {
            let request = self.kind.list(next.as_deref())?;
            let page = page(client, request, LARGEST_PAGE, PAGE_PATIENCE).await?;
            for object in page.items() {
                entries.insert(object.fingerprint()?, object.deletion());
            }
            next = page.metadata.next.filter(|next| !next.is_empty());
            if next.is_none() {
                self.index.replace(entries);
                // The list is of its beginning: what happened since then is still to come.
                self.give_sign(began);
                return Ok(page.metadata.resource_version);
            }
        }
    }

    /// Takes one watch's events in.
    ///
    /// That the API server opens it is a sign of life of the moment it was asked: whatever happened before that comes first on the stream.
    async fn watch(&self, client: &Client, version: &mut String) -> Ended {
        let began = Instant::now();
        let events = async {
            let request = self.kind.watch(version)?;
            let events = client.request_events::<Object>(request).await;
            let events = events.map_err(|error| CallError::Unreachable(error.into()))?;
            let unreachable = |error: kube::Error| CallError::Unreachable(error.into());
            Ok(events.map(move |event: Result<_, kube::Error>| event.map_err(unreachable)))
        };
        let events = match timeout(SILENCE, events).await {
            Ok(Ok(events)) => events,
            Ok(Err(error)) => return self.broken(&error, Ended::Unopened).await,
            Err(_) => {
                let slow = CallError::Slow { patience: SILENCE };
                return self.broken(&slow, Ended::Unopened).await;
            }
        };
        self.give_sign(began);
        let mut events = pin!(events);
        let mut brought = false;
        loop {
            let event = match timeout(SILENCE, events.next()).await {
                Ok(Some(Ok(event))) => event,
                Ok(Some(Err(error))) => return self.broken(&error, Ended::after(brought)).await,
                Ok(None) => {
                    sleep_until(began + PACE).await;
                    return Ended::Resumable;
                }
                Err(_) => {
                    let slow = CallError::Slow { patience: SILENCE };
                    return self.broken(&slow, Ended::after(brought)).await;
                }
            };
            match self.take(event, version) {
                Ok(()) => self.give_sign(Instant::now()),
                Err(CallError::Refused { status: 410 }) => return Ended::TooOld,
                Err(error) => return self.broken(&error, Ended::after(brought)).await,
            }
            brought = true;
        }
    }

    fn take(&self, event: WatchEvent<Object>, version: &mut String) -> Result<(), CallError> {
        match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                self.index.insert(object.fingerprint()?, object.deletion());
                object.version().clone_into(version);
            }
            WatchEvent::Deleted(object) => {
                self.index.remove(object.fingerprint()?);
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
        let source = if let CallError::Unreachable(source) = error {
            source.downcast_ref()
        } else {
            None
        };
        if let Some(kube::Error::Api(status)) = source
            && status.code == 410
        {
            return Ended::TooOld;
        }
        tracing::warn!(cluster = %self.cluster, kind = self.kind.plural(), error = %chain(error), "watch broke");
        sleep(RETRY).await;
        match (error, source) {
            (CallError::Malformed, _) | (_, Some(kube::Error::SerdeError(_))) => Ended::TooOld,
            _ => ended,
        }
    }
}

async fn page(
    client: &Client,
    request: axum::http::Request<Vec<u8>>,
    limit: usize,
    patience: Duration,
) -> Result<Page, CallError> {
    let answer = call(client, request, limit, patience).await?;
    serde_json::from_slice(&answer).or(Err(CallError::Malformed))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use axum::body::{Body, Bytes};
    use axum::http::{Request, Response};
    use futures_util::stream;
    use svc_runtime::KubeClients;

    use super::*;

    /// How often everything is listed in this time, by an API server whose watches all look like this.
    async fn lists(watch: fn() -> Body, seconds: u64) -> u32 {
        let lists = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&lists);
        let answer = move |request: Request<kube::client::Body>| {
            let is_watch = request.uri().query().unwrap().contains("watch=true");
            let body = if is_watch {
                watch()
            } else {
                counted.fetch_add(1, Ordering::Relaxed);
                Body::from(r#"{"metadata":{"resourceVersion":"7"},"items":null}"#)
            };
            async { Ok::<_, Infallible>(Response::new(body)) }
        };
        let client = Client::new(tower::service_fn(answer), "default");
        let api_server = ApiServer::own(KubeClients {
            watches: client.clone(),
            requests: client,
        });
        let cluster = ClusterName::parse("local").unwrap();
        let followed = Followed::new(cluster, Kind::Pod, api_server);
        let time = Duration::from_secs(seconds);
        assert!(timeout(time, followed.follow()).await.is_err());
        lists.load(Ordering::Relaxed)
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_is_opened_and_dead_twice_in_a_row_leads_to_a_new_list() {
        let dead = || Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
        assert_eq!(lists(dead, 30).await, 1);
        assert_eq!(lists(dead, 40).await, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_malformed_event_leads_to_a_new_list() {
        let shapeless = || Body::from("{\"type\":\"ADDED\",\"object\":{}}\n");
        assert_eq!(lists(shapeless, 15).await, 2);
        let no_uid = || {
            Body::from(
                "{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"namespace\":\"n\",\"name\":\"p\",\"uid\":\"?\",\"resourceVersion\":\"9\"}}}\n",
            )
        };
        assert_eq!(lists(no_uid, 15).await, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn everything_is_listed_anew_every_five_minutes() {
        assert_eq!(lists(Body::empty, 290).await, 1);
        assert_eq!(lists(Body::empty, 310).await, 2);
    }
}

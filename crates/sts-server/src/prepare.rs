//! How one set of parts follows another.
//!
//! A part that both have goes on; a new one is set up beside the old ones; one that nobody has any more ends with its tasks. Nothing of the
//! old set is touched before [`Prepared::commit`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sts_config::{Config, Endpoint, KeySource as KeyPlace};
use svc_runtime::Condition;

use crate::api_server::ApiServer;
use crate::clusters::connect;
use crate::gauges::Coming;
use crate::key_source::KeySource;
use crate::parts::{ClusterPart, ClusterPublisherPart, Parts, PublisherPart, RingPart, WatchPart};
use crate::presence::Presence;
use crate::publisher;
use crate::run::RunError;
use crate::running::{ClusterHandle, Running, Start, known, run};
use crate::signing_keys::{self, KeyRing, PublicIssuer, Surroundings};

/// What is done in the moment of the exchange, when nothing can fail any more.
type Later = Box<dyn FnOnce() + Send>;

/// A set of parts that may follow another.
pub(crate) struct Prepared {
    pub(crate) next: Running,
    /// What is new, and has to be there before it is used: what it is, and whether it is.
    awaited: Vec<Awaited>,
    /// Rings that have the keys of others, and start when all else is there.
    successions: Vec<Succession>,
    publishers: Vec<Later>,
    gauges: Coming,
}

struct Awaited {
    what: String,
    is_there: Box<dyn Fn() -> bool + Send + Sync>,
}

struct Succession {
    ring: Arc<KeyRing>,
    old: Arc<KeyRing>,
    start: Later,
}

/// Sets up what a configuration needs beside what runs already. What was set up ends again when the result is dropped.
pub(crate) fn prepare(start: &Start, old: &Running, config: &Config) -> Result<Prepared, RunError> {
    let parts = Parts::of(config);
    let mut prepared = Prepared {
        next: Running::default(),
        awaited: Vec::new(),
        successions: Vec::new(),
        publishers: Vec::new(),
        gauges: start.gauges.prepare(config, &parts),
    };
    prepared.clusters(start, old, config)?;
    prepared.watches(start, old, parts.watches);
    prepared.cluster_publishers(start, old, config, parts.cluster_publishers)?;
    for endpoint in &config.endpoints {
        prepared.ring(start, old, endpoint)?;
    }
    for part in parts.publishers {
        prepared.publisher(start, old, config, part)?;
    }
    Ok(prepared)
}

impl Prepared {
    fn clusters(&mut self, start: &Start, old: &Running, config: &Config) -> Result<(), RunError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        for cluster in &config.clusters {
            let part = ClusterPart::of(cluster);
            if let Some(run) = known(&old.clusters, &part) {
                self.next.clusters.push(run);
                continue;
            }
            let (start, end) = start.part();
            let api_server = connect(&start, cluster)?;
            let keys = Arc::new(KeySource::new(cluster, api_server.as_ref())?);
            let board = Arc::clone(&start.board);
            let fresh = Arc::clone(&keys).keep_fresh(board, start.shutdown.clone());
            start.tasks.spawn("key set", fresh);
            let (read, server) = (Arc::clone(&keys), api_server.clone());
            self.awaits(format!("key set of cluster {}", part.name), move || {
                read.is_known()
                    && server
                        .as_ref()
                        .is_none_or(|server| server.requests().is_ok())
            });
            let handle = ClusterHandle {
                serial: NEXT.fetch_add(1, Ordering::Relaxed),
                keys,
                api_server,
            };
            self.next.clusters.push(run(part, handle, end));
        }
        Ok(())
    }

    fn awaits(&mut self, what: String, is_there: impl Fn() -> bool + Send + Sync + 'static) {
        let is_there = Box::new(is_there);
        self.awaited.push(Awaited { what, is_there });
    }

    fn api_server(&self, cluster: &ClusterPart) -> Option<ApiServer> {
        let run = known(&self.next.clusters, cluster)?;
        run.handle.api_server.clone()
    }

    fn watches(&mut self, start: &Start, old: &Running, parts: Vec<WatchPart>) {
        for part in parts {
            if let Some(run) = known(&old.watches, &part) {
                self.next.watches.push(run);
                continue;
            }
            let Some(api_server) = self.api_server(&part.cluster) else {
                continue;
            };
            let (start, end) = start.part();
            let name = part.cluster.name.clone();
            let presence = Presence::new(name.clone(), &api_server, &part.labels);
            let presence = Arc::new(presence);
            let (following, shutdown) = (Arc::clone(&presence), start.shutdown.clone());
            start
                .tasks
                .spawn("watch", async move { following.follow(shutdown).await });
            let listed = Arc::clone(&presence);
            self.awaits(format!("list of cluster {name}"), move || {
                listed.is_listed()
            });
            self.next.watches.push(run(part, presence, end));
        }
    }

    fn cluster_publishers(
        &mut self,
        start: &Start,
        old: &Running,
        config: &Config,
        parts: Vec<ClusterPublisherPart>,
    ) -> Result<(), RunError> {
        for part in parts {
            if let Some(run) = known(&old.cluster_publishers, &part) {
                self.next.cluster_publishers.push(run);
                continue;
            }
            let name = &part.cluster.name;
            let cluster = config.clusters.iter().find(|cluster| cluster.name == *name);
            let Some(cluster) = cluster else { continue };
            let (start, end) = start.part();
            let api_server = self.api_server(&part.cluster);
            let publishing = publisher::open_cluster(&start, cluster, api_server.as_ref())?;
            self.publishers.extend(publishing);
            self.next.cluster_publishers.push(run(part, (), end));
        }
        Ok(())
    }

    fn ring(&mut self, start: &Start, old: &Running, endpoint: &Endpoint) -> Result<(), RunError> {
        let part = RingPart::of(endpoint);
        if let Some(run) = known(&old.rings, &part) {
            self.next.rings.push(run);
            return Ok(());
        }
        let (start, mut end) = start.part();
        let ring = Arc::new(KeyRing::new(endpoint));
        let outside = match &endpoint.documents.read_back {
            Some(read_back) => {
                let issuer = PublicIssuer::new(&endpoint.template.issuer, read_back)?;
                let looked = start.condition("public issuer");
                end.conditions.push(looked.clone());
                Some((issuer, looked))
            }
            None => None,
        };
        let condition = start.condition("signing key");
        end.conditions.push(condition.clone());
        let before = old.rings.iter().find(|run| part.succeeds(&run.part));
        let before = before.map(|run| Arc::clone(&run.handle));
        let before = before.filter(|ring| ring.has_keys());
        // The key of a file is not read again: whoever replaces it restarts the server.
        let is_kept = before.is_none() || matches!(endpoint.key, KeyPlace::Secret { .. });
        let source = is_kept.then(|| endpoint.key.clone());
        let starting = keep_ring(start, Arc::clone(&ring), source, outside, condition);
        if let Some(old) = before {
            self.successions.push(Succession {
                ring: Arc::clone(&ring),
                old,
                start: Box::new(starting),
            });
        } else {
            starting();
            let made = Arc::clone(&ring);
            self.awaits(
                format!("signing key of endpoint {}", part.endpoint),
                move || made.is_known(),
            );
        }
        self.next.rings.push(run(part, ring, end));
        Ok(())
    }

    fn publisher(
        &mut self,
        start: &Start,
        old: &Running,
        config: &Config,
        part: PublisherPart,
    ) -> Result<(), RunError> {
        if let Some(run) = known(&old.publishers, &part) {
            self.next.publishers.push(run);
            return Ok(());
        }
        let name = &part.ring.endpoint;
        let endpoint = config.endpoints.iter().find(|one| one.name == *name);
        let ring = known(&self.next.rings, &part.ring);
        if let (Some(endpoint), Some(ring)) = (endpoint, ring) {
            let (start, end) = start.part();
            let opened = publisher::open(&start, endpoint, &ring.handle);
            let opened = opened.map_err(|source| RunError::Publisher {
                endpoint: endpoint.name.clone(),
                source,
            })?;
            self.publishers.extend(opened);
            self.next.publishers.push(run(part, (), end));
        }
        Ok(())
    }

    /// What is not there yet.
    pub(crate) fn missing(&self) -> Vec<&str> {
        let missing = self.awaited.iter().filter(|part| !(part.is_there)());
        missing.map(|part| part.what.as_str()).collect()
    }

    /// Gives the rings that have the keys of others what is in memory of them, and starts to keep them. Their first look may change what
    /// is stored, so it comes when all else is there; it never does what two replicas of different configurations would not do.
    pub(crate) fn succeed(&mut self) -> Result<(), RunError> {
        for succession in std::mem::take(&mut self.successions) {
            let Succession { ring, old, start } = succession;
            let inherited = ring.inherit(&old);
            inherited.map_err(|error| RunError::Ring(Box::new(error)))?;
            start();
            let what = format!("signing key of endpoint {}", ring.endpoint());
            self.awaits(what, move || ring.signs_like(&old));
        }
        Ok(())
    }

    /// The parts that follow, all running. What is not among them ends when the caller drops it.
    pub(crate) fn commit(self) -> Running {
        for start in self.publishers {
            start();
        }
        self.gauges.arrive();
        let clusters = self.next.clusters.len();
        for run in &self.next.clusters {
            if let Some(api_server) = &run.handle.api_server {
                api_server.is_one_of(clusters);
            }
        }
        self.next
    }
}

/// Starts who keeps a ring, and who reads its documents back.
fn keep_ring(
    start: Start,
    ring: Arc<KeyRing>,
    source: Option<KeyPlace>,
    outside: Option<(PublicIssuer, Condition)>,
    condition: Condition,
) -> impl FnOnce() + Send + 'static {
    move || {
        if let Some(source) = source {
            let surroundings = Surroundings {
                client: start.client(),
                namespace: start.namespace.clone(),
                ledger: start.ledger.clone(),
                condition,
                metrics: start.metrics.clone(),
                shutdown: start.shutdown.clone(),
            };
            let keeping = signing_keys::keep(Arc::clone(&ring), source, surroundings);
            start.tasks.spawn("signing key", keeping);
        } else {
            condition.met();
        }
        if let Some((issuer, looked)) = outside {
            let (metrics, shutdown) = (start.metrics.clone(), start.shutdown.clone());
            let following = signing_keys::follow(ring, issuer, metrics, looked, shutdown);
            start.tasks.spawn("public issuer", following);
        }
    }
}

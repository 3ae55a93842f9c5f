//! The parts of the server that run: a part ends with its tasks when nobody has its [`Run`] any more.

use std::sync::Arc;

use arc_swap::ArcSwap;
use svc_runtime::{Condition, KubeClients, Readiness, Shutdown, Spawner};

use crate::api_server::ApiServer;
use crate::capacity::CommonPlaces;
use crate::gauges::Gauges;
use crate::key_source::{KeySetBoard, KeySource};
use crate::metrics::Metrics;
use crate::parts::{ClusterPart, ClusterPublisherPart, PublisherPart, RingPart, WatchPart};
use crate::presence::Presence;
use crate::signing_keys::KeyRing;

/// What the parts of the server need of each other.
#[derive(Clone)]
pub(crate) struct Start {
    pub(crate) namespace: String,
    /// Of the API server we run under; `None` where the configuration needs none.
    pub(crate) clients: Option<KubeClients>,
    /// `None` once the server serves: what is set up then makes nobody wait.
    pub(crate) readiness: Option<Readiness>,
    pub(crate) shutdown: Shutdown,
    pub(crate) tasks: Spawner,
    pub(crate) metrics: Metrics,
    pub(crate) gauges: Gauges,
    /// The ConfigMap with the public record of all rings.
    pub(crate) ledger: Option<String>,
    pub(crate) board: Arc<KeySetBoard>,
    /// Of exchanges that wait for API servers.
    pub(crate) places: CommonPlaces,
    /// The watches that are reported on.
    pub(crate) watched: Arc<ArcSwap<Vec<Arc<Presence>>>>,
}

/// Ends a part's tasks when it is dropped, and what readiness waits for with them.
pub(crate) struct End {
    shutdown: Shutdown,
    pub(crate) conditions: Vec<Condition>,
}

impl Drop for End {
    fn drop(&mut self) {
        self.shutdown.request();
        for condition in &self.conditions {
            condition.retire();
        }
    }
}

impl Start {
    /// For a part of the server, which can end by itself.
    pub(crate) fn part(&self) -> (Self, End) {
        let shutdown = self.shutdown.part();
        let end = End {
            shutdown: shutdown.clone(),
            conditions: Vec::new(),
        };
        (
            Self {
                shutdown,
                ..self.clone()
            },
            end,
        )
    }

    pub(crate) fn client(&self) -> Option<kube::Client> {
        self.clients.as_ref().map(|clients| clients.watches.clone())
    }

    pub(crate) fn condition(&self, name: &'static str) -> Condition {
        match &self.readiness {
            Some(readiness) => readiness.condition(name),
            None => Condition::unlisted(name),
        }
    }
}

/// A part that runs.
pub(crate) struct Run<P, H> {
    pub(crate) part: P,
    pub(crate) handle: H,
    _end: End,
}

/// What runs of one kind.
type Runs<P, H> = Vec<Arc<Run<P, H>>>;

/// What is known of a cluster.
#[derive(Clone)]
pub(crate) struct ClusterHandle {
    /// No two that ever ran have the same.
    pub(crate) serial: u64,
    pub(crate) keys: Arc<KeySource>,
    pub(crate) api_server: Option<ApiServer>,
}

/// All parts that run.
#[derive(Default)]
pub(crate) struct Running {
    pub(crate) clusters: Runs<ClusterPart, ClusterHandle>,
    pub(crate) watches: Runs<WatchPart, Arc<Presence>>,
    pub(crate) cluster_publishers: Runs<ClusterPublisherPart, ()>,
    pub(crate) rings: Runs<RingPart, Arc<KeyRing>>,
    pub(crate) publishers: Runs<PublisherPart, ()>,
}

impl Running {
    pub(crate) fn key_sources(&self) -> Vec<Arc<KeySource>> {
        let sources = self.clusters.iter();
        sources.map(|run| Arc::clone(&run.handle.keys)).collect()
    }

    pub(crate) fn presences(&self) -> Vec<Arc<Presence>> {
        let watches = self.watches.iter();
        watches.map(|run| Arc::clone(&run.handle)).collect()
    }
}

pub(crate) fn known<P: PartialEq, H>(runs: &Runs<P, H>, part: &P) -> Option<Arc<Run<P, H>>> {
    runs.iter().find(|run| run.part == *part).cloned()
}

pub(crate) fn run<P, H>(part: P, handle: H, end: End) -> Arc<Run<P, H>> {
    Arc::new(Run {
        part,
        handle,
        _end: end,
    })
}

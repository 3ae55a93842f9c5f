//! The configured clusters as they are used: keys to check tokens with, an API server to ask.

use std::sync::Arc;

use sts_core::ident::{ClusterName, Issuer};

use crate::key_source::KeySource;
use crate::labels::LabelReader;
use crate::presence::Presence;
use crate::review::Reviewer;

/// One cluster.
pub(crate) struct Cluster {
    /// No two that ever ran have the same, of whatever names.
    pub(crate) serial: u64,
    pub(crate) keys: Arc<KeySource>,
    /// `None` for a cluster that cannot be called.
    pub(crate) reviewer: Option<Reviewer>,
    /// As the reviewer.
    pub(crate) labels: Option<LabelReader>,
    /// `None` where no endpoint wants a watch.
    pub(crate) presence: Option<Arc<Presence>>,
}

impl Cluster {
    pub(crate) fn name(&self) -> &ClusterName {
        self.keys.cluster()
    }
}

/// The clusters that one endpoint takes tokens of.
#[derive(Clone)]
pub(crate) struct Clusters(Vec<Arc<Cluster>>);

impl Clusters {
    pub(crate) fn new(clusters: Vec<Arc<Cluster>>) -> Self {
        Self(clusters)
    }

    /// The cluster of an issuer: byte for byte the configured issuer, or the one that the API server we run under names.
    /// While that one has not said who it is it may be anybody, but not the issuer of a cluster that is known.
    ///
    /// # Errors
    ///
    /// [`RouteError`] where no cluster has the issuer, or more than one: that the API server we run under has the issuer of another one
    /// is found out only when it says so.
    pub(crate) fn of(&self, issuer: &Issuer) -> Result<&Cluster, RouteError> {
        let of = |wanted: Option<bool>| {
            let clusters = self.0.iter().map(AsRef::as_ref);
            clusters.filter(move |cluster: &&Cluster| cluster.keys.is_of(issuer) == wanted)
        };
        let mut known = of(Some(true));
        match (known.next(), known.next()) {
            (Some(cluster), None) => Ok(cluster),
            (Some(_), Some(_)) => Err(RouteError::Ambiguous),
            (None, _) => of(None).next().ok_or(RouteError::Unknown),
        }
    }
}

/// Why an issuer leads to no cluster.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum RouteError {
    /// More than one has it: their tokens cannot be told apart.
    Ambiguous,
    /// None has it.
    Unknown,
}

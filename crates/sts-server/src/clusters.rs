//! Sets the connection to a configured cluster's API server up, and puts clusters together for the endpoints that take them.

use std::sync::Arc;

use sts_config::{ApiServer as ApiServerConfig, Cluster as ClusterConfig, Endpoint, Verification};
use sts_core::ident::ClusterName;

use crate::api_server::{ApiServer, Connection};
use crate::cluster::{Cluster, Clusters};
use crate::key_source::FetchError;
use crate::labels::LabelReader;
use crate::review::Reviewer;
use crate::running::{Running, Start};

/// All clusters of one configuration.
pub(crate) struct Known(Vec<Arc<Cluster>>);

impl Known {
    pub(crate) fn of(running: &Running) -> Self {
        let cluster = |run: &Arc<crate::running::Run<_, crate::running::ClusterHandle>>| {
            let part: &crate::parts::ClusterPart = &run.part;
            let handle = &run.handle;
            let mut watches = running.watches.iter();
            let watch = watches.find(|watch| watch.part.cluster == *part);
            let server = || handle.api_server.clone();
            Arc::new(Cluster {
                serial: handle.serial,
                keys: Arc::clone(&handle.keys),
                reviewer: server().map(|server| Reviewer::new(part.name.clone(), server)),
                labels: server().map(|server| LabelReader::new(part.name.clone(), server)),
                presence: watch.map(|watch| Arc::clone(&watch.handle)),
            })
        };
        Self(running.clusters.iter().map(cluster).collect())
    }

    /// Those that an endpoint takes; the configuration has checked that they are there.
    pub(crate) fn select(&self, names: &[ClusterName]) -> Clusters {
        let taken = self
            .0
            .iter()
            .filter(|cluster| names.contains(cluster.name()));
        Clusters::new(taken.cloned().collect())
    }
}

/// The operator is to know what `verification: jwks` does without.
pub(crate) fn say_what_is_exposed(endpoints: &[Endpoint]) {
    for endpoint in endpoints {
        if endpoint.verification == Verification::Jwks {
            tracing::warn!(
                endpoint = %endpoint.name,
                "verification is jwks: a token stays good until it expires, also when its pod or ServiceAccount is deleted"
            );
        }
    }
}

pub(crate) fn connect(
    start: &Start,
    cluster: &ClusterConfig,
) -> Result<Option<ApiServer>, FetchError> {
    let own = start.clients.as_ref();
    let name = cluster.name.clone();
    let places = start.places.clone();
    let (api_server, connection) = match &cluster.api_server {
        None => return Ok(None),
        Some(ApiServerConfig::Own) => {
            let clients = own.cloned().ok_or(FetchError::NoApiServer)?;
            return Ok(Some(ApiServer::own(clients, places)));
        }
        Some(ApiServerConfig::At {
            url,
            ca_file,
            token_file,
        }) => {
            let url = url.parse().or(Err(FetchError::Discovery))?;
            ApiServer::at(name, url, ca_file, token_file, places)
        }
        Some(ApiServerConfig::Kubeconfig(source)) => {
            let own = own.map(|clients| (&clients.watches, start.namespace.as_str()));
            ApiServer::described(name, source.clone(), own, places)
                .ok_or(FetchError::NoApiServer)?
        }
    };
    follow(start, connection);
    Ok(Some(api_server))
}

fn follow(start: &Start, connection: Connection) {
    let following = connection.follow(start.shutdown.clone());
    start.tasks.spawn("cluster's API server", following);
}

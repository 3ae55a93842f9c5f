//! The API servers of the configured clusters: how each is reached, also when that changes while we run.

mod call;
mod kubeconfig;
mod kubeconfig_file;

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::Request;
use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, Config};
use sts_config::KubeconfigSource;
use sts_core::ident::ClusterName;
use svc_runtime::kube_client::KubeClientError;
use svc_runtime::log::chain;
use svc_runtime::{KubeClients, Shutdown, follow_object, kube_clients_of};
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::sleep;

pub use call::CallError;
pub(crate) use call::call;
use kubeconfig::{Checked, KubeconfigError, Origin};
use kubeconfig_file::KubeconfigFile;

use crate::capacity::{CommonPlaces, Share, Turn};

/// Who we are in API servers' logs.
pub(crate) const USER_AGENT: &str = concat!("kube-sts-server/", env!("CARGO_PKG_VERSION"));

/// How often files are looked at.
const POLL: Duration = Duration::from_secs(10);
/// The key of a Secret that holds a kubeconfig.
const SECRET_KEY: &str = "kubeconfig";

/// One cluster's API server. Clones share its clients.
#[derive(Clone)]
pub(crate) struct ApiServer {
    clients: watch::Receiver<Option<KubeClients>>,
    /// One for each call that an exchange may wait for.
    calls: Arc<Share>,
}

/// The right to one call that an exchange waits for, and the client for it.
pub(crate) struct Caller {
    client: Client,
    _turn: Turn,
}

/// Where an [`ApiServer`]'s clients come from, when they are not there from the start.
pub(crate) struct Connection {
    cluster: ClusterName,
    source: Source,
    clients: watch::Sender<Option<KubeClients>>,
}

enum Source {
    At(Box<Config>),
    File(std::path::PathBuf),
    Secret { api: Box<Api<Secret>>, name: String },
}

/// Why there is no client of a cluster's API server.
#[derive(Debug, Error)]
enum ConnectError {
    #[error("no client can be made")]
    Client(#[from] KubeClientError),
    #[error("the kubeconfig cannot be used")]
    Kubeconfig(#[from] KubeconfigError),
    #[error("the kubeconfig cannot be read")]
    Unreadable(#[source] std::io::Error),
    #[error("Secret {name} has no text under the key {SECRET_KEY}")]
    SecretWithout { name: String },
}

impl ApiServer {
    /// The API server that we run under.
    pub(crate) fn own(clients: KubeClients, places: CommonPlaces) -> Self {
        let (_, clients) = watch::channel(Some(clients));
        Self::of(clients, places)
    }

    fn of(clients: watch::Receiver<Option<KubeClients>>, places: CommonPlaces) -> Self {
        Self {
            clients,
            calls: Arc::new(Share::new(1, places)),
        }
    }

    /// Exchanges wait for one of so many clusters' API servers from now on.
    pub(crate) fn is_one_of(&self, clusters: usize) {
        self.calls.resize(clusters);
    }

    /// One at an address; its CA and our token are read from files, again and again.
    pub(crate) fn at(
        cluster: ClusterName,
        url: axum::http::Uri,
        ca_file: &Path,
        token_file: &Path,
        places: CommonPlaces,
    ) -> (Self, Connection) {
        let mut config = Config::new(url);
        config.root_cert_file = Some(ca_file.to_owned());
        config.auth_info.token_file = Some(token_file.display().to_string());
        Self::connected(cluster, Source::At(Box::new(config)), places)
    }

    /// One that a kubeconfig describes; `own` reads the Secret, in `namespace`.
    pub(crate) fn described(
        cluster: ClusterName,
        source: KubeconfigSource,
        own: Option<(&Client, &str)>,
        places: CommonPlaces,
    ) -> Option<(Self, Connection)> {
        let source = match source {
            KubeconfigSource::File(path) => Source::File(path),
            KubeconfigSource::Secret(name) => {
                let (client, namespace) = own?;
                let api = Box::new(Api::namespaced(client.clone(), namespace));
                Source::Secret { api, name }
            }
        };
        Some(Self::connected(cluster, source, places))
    }

    fn connected(cluster: ClusterName, source: Source, places: CommonPlaces) -> (Self, Connection) {
        let (sender, clients) = watch::channel(None);
        let connection = Connection {
            cluster,
            source,
            clients: sender,
        };
        (Self::of(clients, places), connection)
    }

    /// The right to one call for an exchange. An API server that hangs keeps its own cluster's exchanges waiting, and no others.
    pub(crate) fn caller(&self) -> Result<Caller, CallError> {
        Ok(Caller {
            _turn: self.calls.take().ok_or(CallError::Busy)?,
            client: self.requests()?,
        })
    }

    /// The client for calls that no exchange waits for, or one of many.
    pub(crate) fn requests(&self) -> Result<Client, CallError> {
        let clients = self.clients.borrow();
        let clients = clients.as_ref().ok_or(CallError::NoClient)?;
        Ok(clients.requests.clone())
    }

    /// The client for watches, once there is one.
    pub(crate) async fn watches(&mut self) -> Client {
        loop {
            let present = self.clients.borrow_and_update().clone();
            if let Some(clients) = present {
                return clients.watches;
            }
            self.changed().await;
        }
    }

    /// Completes when there are other clients than those last asked for.
    pub(crate) async fn changed(&mut self) {
        if self.clients.changed().await.is_err() {
            // Nobody will change them any more.
            std::future::pending::<()>().await;
        }
    }
}

impl Caller {
    /// As [`call`].
    pub(crate) async fn call(
        &self,
        request: Request<Vec<u8>>,
        limit: usize,
        patience: Duration,
    ) -> Result<Bytes, CallError> {
        call(&self.client, request, limit, patience).await
    }
}

impl Connection {
    /// Keeps the clients as the source says, until shutdown. What cannot be used changes nothing: a slip of the pen must not take a cluster's
    /// service away. A kubeconfig that is gone does: whoever deletes it wants us to stop.
    pub(crate) async fn follow(self, shutdown: Shutdown) -> Result<(), std::convert::Infallible> {
        let Self {
            cluster,
            source,
            clients,
        } = self;
        let keep = async {
            match source {
                Source::At(config) => at(&cluster, *config, &clients).await,
                Source::File(path) => file(&cluster, &path, &clients).await,
                Source::Secret { api, name } => secret(&cluster, *api, &name, &clients).await,
            }
        };
        tokio::select! {
            () = shutdown.requested() => {}
            () = keep => shutdown.requested().await,
        }
        Ok(())
    }
}

type Clients = watch::Sender<Option<KubeClients>>;

/// Once there is a client, it reads the files by itself.
async fn at(cluster: &ClusterName, config: Config, clients: &Clients) {
    loop {
        match kube_clients_of(config.clone(), USER_AGENT) {
            Ok(made) => {
                drop(clients.send_replace(Some(made)));
                return;
            }
            Err(error) => complain(cluster, &error.into()),
        }
        sleep(POLL).await;
    }
}

async fn file(cluster: &ClusterName, path: &Path, clients: &Clients) {
    let mut last = None;
    loop {
        let KubeconfigFile {
            gone,
            kubeconfig,
            seen,
        } = KubeconfigFile::read(path).await;
        if last.as_ref() != Some(&seen) {
            if gone {
                forget(cluster, clients);
            }
            let made = match kubeconfig {
                Ok(kubeconfig) => connect(kubeconfig).await,
                Err(error) => Err(error),
            };
            accept(cluster, made, clients);
            last = Some(seen);
        }
        sleep(POLL).await;
    }
}

async fn secret(cluster: &ClusterName, api: Api<Secret>, name: &str, clients: &Clients) {
    let mut states = pin!(follow_object(api, name));
    let mut last = None;
    while let Some(state) = states.next().await {
        let secret = match state {
            Ok(secret) => secret,
            Err(error) => {
                tracing::warn!(%cluster, secret = name, error = %chain(&error), "Secret cannot be watched");
                continue;
            }
        };
        if secret.is_none() {
            forget(cluster, clients);
        }
        let data = secret.and_then(|secret| secret.data?.remove(SECRET_KEY));
        let text = data.and_then(|data| String::from_utf8(data.0).ok());
        if last.as_ref() == Some(&text) {
            continue;
        }
        let made = match &text {
            Some(text) => match Checked::parse(text, Origin::Secret) {
                Ok(kubeconfig) => connect(kubeconfig).await,
                Err(error) => Err(error.into()),
            },
            None => Err(ConnectError::SecretWithout {
                name: name.to_owned(),
            }),
        };
        accept(cluster, made, clients);
        last = Some(text);
    }
}

async fn connect(kubeconfig: Checked) -> Result<KubeClients, ConnectError> {
    let config = kubeconfig.into_config().await?;
    Ok(kube_clients_of(config, USER_AGENT)?)
}

fn accept(cluster: &ClusterName, made: Result<KubeClients, ConnectError>, clients: &Clients) {
    match made {
        Ok(made) => {
            tracing::info!(%cluster, "API server is known");
            drop(clients.send_replace(Some(made)));
        }
        Err(error) => complain(cluster, &error),
    }
}

/// Without a client nobody gets a token of the cluster: it is not known who is alive.
fn forget(cluster: &ClusterName, clients: &Clients) {
    if clients.send_replace(None).is_some() {
        tracing::error!(%cluster, "the kubeconfig is gone: the cluster is cut off until there is another");
    }
}

fn complain(cluster: &ClusterName, error: &ConnectError) {
    tracing::error!(%cluster, error = %chain(error), "cluster's API server cannot be used as configured");
}

//! Puts the injector together: configuration → certificate and CA → listeners → ready.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use kube::{Api, Client};
use prometheus_client::registry::Registry;
use sts_config::{Config, ConfigFile, InjectorConfig, ServingTls};
use svc_runtime::kube_client::KubeClientError;
use svc_runtime::reload::{ReloadMetrics, Report, follow_configuration};
use svc_runtime::tls::{
    Acceptance, Keeper, LOOK_EVERY, ManagedSecret, Publication, Published, ServingCertificate,
    follow_files,
};
use svc_runtime::{EventWriter, FileChanges, Limits, Readiness, Shutdown, Tasks, TasksError};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::accounts::Accounts;
use crate::ca_bundle::CaBundles;
use crate::endpoint::{Webhook, router};
use crate::intake::Intake;
use crate::listed;
use crate::metrics::Metrics;
use crate::reload::Reloading;
use crate::server_ca::{self, ServerCa};
use crate::settings::{LiveSettings, Settings, SidecarForm};
use crate::version::sidecar_form;

/// Why the injector does not run.
#[derive(Debug, Error)]
pub enum RunError {
    /// A port cannot be bound.
    #[error("{address} cannot be bound")]
    Bind {
        /// The address of the configuration.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// A certificate of this run alone, which no API server would trust.
    #[error("injector.tls: `ephemeral` is of no use here: write `secret` or `files`")]
    EphemeralCertificate,
    /// There is no API server.
    #[error("no API server can be asked")]
    Kubernetes(#[from] KubeClientError),
    /// The configuration has no part `injector`.
    #[error("configuration has no part `injector`")]
    NoInjector,
    /// A task of the running injector failed.
    #[error("injector ended")]
    Tasks(#[from] TasksError),
}

/// A configuration the injector can be run with.
#[derive(Debug)]
pub struct Runnable {
    settings: Settings,
    config: Config,
    warnings: Vec<String>,
}

impl Runnable {
    /// Takes what the injector needs.
    ///
    /// # Errors
    /// [`RunError::NoInjector`] and [`RunError::EphemeralCertificate`].
    pub fn new(config: Config) -> Result<Self, RunError> {
        let injector = config.injector.as_ref().ok_or(RunError::NoInjector)?;
        if matches!(injector.tls, ServingTls::Ephemeral { .. }) {
            return Err(RunError::EphemeralCertificate);
        }
        let accounts = injector.service_accounts.as_ref();
        let settings = Settings::new(&config.url, &config.endpoints, &injector.sidecar, accounts);
        let mut warnings: Vec<String> = config.warnings.iter().map(ToString::to_string).collect();
        if settings.endpoints.is_empty() && settings.identity.is_none() {
            warnings.push("no endpoint has a part `injector`: no pod is changed".to_owned());
        }
        Ok(Self {
            settings,
            config,
            warnings,
        })
    }

    /// What the operator ought to know.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// How many endpoints pods can ask for.
    pub fn endpoints(&self) -> usize {
        self.settings.endpoints.len()
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// Says what the operator ought to know, and gives the settings and what they are of. Pods of our own namespace are left alone.
    pub(crate) fn into_parts(self, namespace: &str) -> (Settings, Config) {
        let Self {
            mut settings,
            config,
            warnings,
        } = self;
        for warning in warnings {
            tracing::warn!("configuration: {warning}");
        }
        settings.excluded_namespaces.push(namespace.to_owned());
        (settings, config)
    }
}

/// Which of the cluster's objects are ours.
#[derive(Clone, Debug)]
pub struct Own {
    /// The namespace of all of them.
    pub namespace: String,
    /// The pod that Events are about: its name and uid.
    pub pod: Option<(String, String)>,
}

/// Runs the injector until `shutdown` is requested or a signal comes.
///
/// # Errors
/// [`RunError`] when it cannot start, or when one of its tasks fails.
pub async fn run(file: ConfigFile, own: Own, shutdown: Shutdown) -> Result<(), RunError> {
    svc_runtime::install_crypto_provider();
    svc_runtime::keep_memory_private();
    let ConfigFile { path, text, config } = file;
    let Own { namespace, pod } = own;
    let (mut settings, config) = Runnable::new(config)?.into_parts(&namespace);
    let injector = config.injector.as_ref().ok_or(RunError::NoInjector)?;
    let readiness = Readiness::new();
    let start = Start {
        client: svc_runtime::kube_client(USER_AGENT).await?,
        namespace,
        tasks: Tasks::new(shutdown.clone()).with_readiness(readiness.clone()),
        readiness,
        shutdown,
    };
    if settings.sidecar.form == SidecarForm::Auto {
        let form = sidecar_form(&start.client, &start.shutdown).await;
        let Some(form) = form else { return Ok(()) };
        settings.sidecar.form = form;
    }
    let settings = LiveSettings::new(settings);
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    let accounts = start.follow_accounts(injector).await?;
    let server_ca = start.follow_server_ca(injector);
    let certificate = start.follow_certificate(injector)?;
    certificate.register_metrics(&mut registry);
    let known = Known { path, text, pod };
    let report = start.report(&mut registry, &known);
    let router = router(Webhook {
        settings: settings.clone(),
        server_ca,
        accounts,
        metrics,
        intake: Intake::default(),
    });
    start
        .serve(injector, &certificate, router, registry)
        .await?;
    start.follow_configuration(config, settings, known, report);
    start.tasks.run().await.map_err(Into::into)
}

/// The configuration file at the start, and whom Events about it are about.
struct Known {
    path: PathBuf,
    text: String,
    pod: Option<(String, String)>,
}

/// What the parts of a starting injector share.
struct Start {
    client: Client,
    namespace: String,
    tasks: Tasks,
    readiness: Readiness,
    shutdown: Shutdown,
}

impl Start {
    async fn follow_accounts(&self, injector: &InjectorConfig) -> Result<Accounts, RunError> {
        let Some(config) = &injector.service_accounts else {
            return Ok(Accounts::fixed([]));
        };
        let client = svc_runtime::kube_request_client(USER_AGENT).await?;
        let accounts = Accounts::new(client, &config.annotation_prefix, config.lookup_timeout);
        let condition = |name| self.readiness.condition(name);
        let (watches, shutdown) = (self.client.clone(), self.shutdown.clone());
        let following = accounts
            .clone()
            .follow(watches, condition("serviceAccounts"), shutdown);
        self.tasks.spawn("serviceAccounts", following);
        if let Some(name) = &config.config_map {
            let api = Api::namespaced(self.client.clone(), &self.namespace);
            let (into, shutdown) = (accounts.roles.clone(), self.shutdown.clone());
            let following =
                listed::follow(api, name.clone(), into, condition("configMap"), shutdown);
            self.tasks.spawn("configMap", following);
        }
        if let Some(agent) = &config.container_credentials {
            let (into, shutdown) = (accounts.agents.clone(), self.shutdown.clone());
            let condition = condition("containerCredentials");
            let following = listed::follow_file(agent.file.clone(), into, condition, shutdown);
            self.tasks.spawn("containerCredentials", following);
        }
        Ok(accounts)
    }

    fn report(&self, registry: &mut Registry, known: &Known) -> Report {
        let metrics = ReloadMetrics::register(registry, "injector", &known.text);
        let (name, uid) = known
            .pod
            .as_ref()
            .map(|(name, uid)| (name.as_str(), uid.as_str()))
            .unzip();
        let pod = svc_runtime::own_pod(&self.namespace, name, uid);
        let writer = EventWriter::new(self.client.clone(), FIELD_MANAGER);
        Report::new(metrics, pod.map(|pod| (writer, pod)))
    }

    fn follow_configuration(
        &self,
        config: Config,
        settings: LiveSettings,
        known: Known,
        report: Report,
    ) {
        let Known { path, text, pod: _ } = known;
        let file = FileChanges::after(&path, svc_runtime::reload::LOOK_EVERY, text.into_bytes());
        let reloading = Reloading {
            config,
            settings,
            client: self.client.clone(),
            namespace: self.namespace.clone(),
            shutdown: self.shutdown.clone(),
        };
        let following = follow_configuration(file, reloading, report, self.shutdown.clone());
        self.tasks.spawn("configuration", following);
    }

    fn follow_server_ca(&self, injector: &InjectorConfig) -> ServerCa {
        let server_ca = ServerCa::default();
        let following = server_ca::follow(
            Api::namespaced(self.client.clone(), &self.namespace),
            injector.server_ca_config_map.clone(),
            server_ca.clone(),
            self.readiness.condition("serverCa"),
            self.shutdown.clone(),
        );
        self.tasks.spawn("serverCa", following);
        server_ca
    }

    fn follow_certificate(
        &self,
        injector: &InjectorConfig,
    ) -> Result<ServingCertificate, RunError> {
        let certificate = ServingCertificate::empty();
        let condition = self.readiness.condition("tls");
        let (into, shutdown) = (certificate.clone(), self.shutdown.clone());
        match &injector.tls {
            ServingTls::Ephemeral { .. } => return Err(RunError::EphemeralCertificate),
            ServingTls::Files {
                certificate: chain,
                key,
            } => {
                let (chain, key) = (chain.clone(), key.clone());
                self.tasks.spawn("tls", async move {
                    follow_files(&chain, &key, LOOK_EVERY, into, condition, shutdown).await
                });
                // Whoever gives us the files keeps the caBundle too, as cert-manager does.
                self.follow_ca_bundle(injector, None, certificate.clone());
            }
            ServingTls::Secret {
                name,
                ca_config_map: _,
                rotation,
            } => {
                let (ca_sender, ca) = watch::channel(None);
                let (published, published_receiver) = watch::channel(Published::Seen(Vec::new()));
                let secret = ManagedSecret {
                    client: self.client.clone(),
                    namespace: self.namespace.clone(),
                    name: name.clone(),
                    dns_names: dns_names(&injector.service, &self.namespace),
                    rotation: *rotation,
                };
                let keeper = Some(Keeper {
                    secret: secret.clone(),
                    ca,
                    published,
                });
                self.follow_ca_bundle(injector, keeper, certificate.clone());
                let following =
                    secret.follow(into, condition, ca_sender, published_receiver, shutdown);
                self.tasks.spawn("tls", following);
            }
        }
        Ok(certificate)
    }

    fn follow_ca_bundle(
        &self,
        injector: &InjectorConfig,
        keeper: Option<Keeper>,
        certificate: ServingCertificate,
    ) {
        let acceptance = Acceptance {
            certificate,
            server_name: service_name(&injector.service, &self.namespace),
            condition: self.readiness.condition("caBundle"),
            refusing: 0,
        };
        let publication = Publication {
            place: CaBundles,
            api: Api::all(self.client.clone()),
            name: injector.webhook_configuration.clone(),
            field_manager: FIELD_MANAGER,
            keeper,
            readiness: Some(acceptance),
        };
        self.tasks
            .spawn("caBundle", publication.keep(self.shutdown.clone()));
    }

    async fn serve(
        &self,
        injector: &InjectorConfig,
        certificate: &ServingCertificate,
        router: axum::Router,
        registry: Registry,
    ) -> Result<(), RunError> {
        let listener = bind(injector.listen).await?;
        let admin = bind(injector.admin_listen).await?;
        let (readiness, shutdown) = (self.readiness.clone(), self.shutdown.clone());
        let admin =
            svc_runtime::serve_admin(admin, readiness, Arc::new(registry), shutdown.clone());
        self.tasks.spawn("admin", admin);
        let (tls, limits) = (certificate.server_config(), Limits::default());
        self.tasks.spawn(
            "webhook",
            svc_runtime::serve_tls(listener, tls, router, limits, shutdown),
        );
        Ok(())
    }
}

/// The name by which the API server calls a Service
/// (<https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/>).
fn service_name(service: &str, namespace: &str) -> String {
    format!("{service}.{namespace}.svc")
}

/// That one, and its longer form.
fn dns_names(service: &str, namespace: &str) -> Vec<String> {
    let name = service_name(service, namespace);
    vec![format!("{name}.cluster.local"), name]
}

async fn bind(address: SocketAddr) -> Result<TcpListener, RunError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| RunError::Bind { address, source })
}

const FIELD_MANAGER: &str = "kube-sts-injector";
const USER_AGENT: &str = concat!("kube-sts-injector/", env!("CARGO_PKG_VERSION"));

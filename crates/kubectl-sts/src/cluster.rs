//! The cluster, as kubectl's flags name it.

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{ListParams, PartialObjectMeta, Patch, PatchParams};
use kube::config::KubeConfigOptions;
use kube::{Api, Client, Config, ResourceExt as _};
use sts_core::keys::ring::Ring;

/// Which cluster and namespace, with kubectl's own flags.
#[derive(Debug, clap::Args)]
pub(crate) struct Place {
    /// The namespace of kube-sts; the context's if it is left out
    #[arg(short, long, global = true, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// The context of the kubeconfig
    #[arg(long, global = true, value_name = "CONTEXT")]
    context: Option<String>,
}

impl Place {
    /// The namespace, where no cluster is to be asked.
    pub(crate) fn namespace(self) -> Result<String> {
        self.namespace
            .context("name the namespace of kube-sts with --namespace")
    }
}

/// A namespace of a cluster.
pub(crate) struct Cluster {
    pub(crate) client: Client,
    pub(crate) namespace: String,
}

/// The annotation that a ring is in.
const RING: &str = "sts.tremolo.io/ring";

/// A key Secret without its data.
pub(crate) struct KeySecret {
    pub(crate) name: String,
    pub(crate) ring: Ring,
    pub(crate) status: String,
}

impl Cluster {
    pub(crate) async fn connect(place: Place) -> Result<Self> {
        let Place { namespace, context } = place;
        let options = KubeConfigOptions {
            context,
            ..KubeConfigOptions::default()
        };
        let config = Config::from_kubeconfig(&options)
            .await
            .context("read the kubeconfig")?;
        let namespace = namespace.unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).context("connect to the cluster")?;
        Ok(Self { client, namespace })
    }

    /// The key Secrets, by name: those of that name, or all.
    pub(crate) async fn key_secrets(&self, names: &[String]) -> Result<Vec<KeySecret>> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let mut found = Vec::new();
        if names.is_empty() {
            let all = api.list_metadata(&ListParams::default()).await;
            found = all
                .with_context(|| format!("list Secrets of namespace {}", self.namespace))?
                .items;
            found.retain(|secret| secret.annotations().contains_key(RING));
        }
        for name in names {
            let secret = api.get_metadata(name).await;
            found.push(secret.with_context(|| format!("read Secret {name}"))?);
        }
        found.iter().map(read).collect()
    }

    /// Sets one annotation of a key Secret.
    pub(crate) async fn annotate(&self, secret: &str, name: &str, value: &str) -> Result<()> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let patch = serde_json::json!({"metadata": {"annotations": {name: value}}});
        let parameters = PatchParams {
            field_manager: Some("kubectl-sts".to_owned()),
            ..PatchParams::default()
        };
        let patched = api
            .patch_metadata(secret, &parameters, &Patch::Merge(&patch))
            .await;
        patched.with_context(|| format!("annotate Secret {secret}"))?;
        Ok(())
    }

    /// All ConfigMaps of the namespace.
    pub(crate) async fn config_maps(&self) -> Result<Vec<ConfigMap>> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let all = api.list(&ListParams::default()).await;
        Ok(all
            .with_context(|| format!("list ConfigMaps of namespace {}", self.namespace))?
            .items)
    }
}

fn read(secret: &PartialObjectMeta<Secret>) -> Result<KeySecret> {
    let name = secret.name_any();
    let text = secret.annotations().get(RING);
    let text = text.with_context(|| {
        format!("Secret {name} has no ring of keys: is it a key Secret, and does a server run?")
    })?;
    let ring = Ring::parse(text).with_context(|| format!("Secret {name}"))?;
    Ok(KeySecret {
        status: ring.status(),
        name,
        ring,
    })
}

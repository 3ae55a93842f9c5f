//! What the chart creates, in namespaces of a test's own: the same objects, the same rights.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::control_plane::ControlPlane;
use super::wait::eventually;

/// An installation: `namespace` holds the programs' objects, `apps` the pods.
pub(crate) struct Install {
    pub(crate) plane: &'static ControlPlane,
    pub(crate) namespace: String,
    pub(crate) apps: String,
    /// `tls` of the configuration.
    pub(crate) server_tls: Value,
    pub(crate) injector_tls: Value,
    directory: TempDir,
    /// Who may have a token: an endpoint's filter.
    filter: String,
    /// What of the endpoint's configuration, and of the server's, is other than usual.
    tuning: Mutex<Value>,
    count: AtomicU32,
    documents: Documents,
}

/// The Secret of a second endpoint's signing key.
pub(crate) const SECOND_KEY: &str = "second-signing-key";
/// The Secret with another cluster's kubeconfig.
pub(crate) const BLUE_SECRET: &str = "blue-kubeconfig";

/// What of the chart is left out or added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Variant {
    /// No right to create TokenReviews.
    pub(crate) without_reviews: bool,
    /// No right to create the key's Secret.
    pub(crate) without_create: bool,
    pub(crate) documents: Documents,
    /// No Secrets and no ConfigMap, but the right to create them: an installation without the chart.
    pub(crate) without_objects: bool,
    /// What the server may do with pods and ServiceAccounts: what `verification: watch` needs is `list` and `watch`.
    pub(crate) presence: &'static [&'static str],
    /// What it may do with namespaces, for rules that ask for their labels.
    pub(crate) namespaces: &'static [&'static str],
}

/// The rights of a server that follows pods and ServiceAccounts.
pub(crate) const WATCH: Variant = Variant {
    without_reviews: true,
    without_create: false,
    documents: Documents::Served,
    without_objects: false,
    presence: &["list", "watch"],
    namespaces: &[],
};

/// What becomes of issuer documents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Documents {
    #[default]
    Served,
    /// The endpoint's and the cluster's are published in ConfigMaps, and keys follow one another within seconds.
    Published,
}

/// A pod of the API server: pending for ever, but a pod.
#[derive(Clone, Debug)]
pub(crate) struct Pod {
    pub(crate) name: String,
    pub(crate) uid: String,
}

impl Install {
    pub(crate) async fn new() -> Self {
        Self::on(ControlPlane::shared().await, Variant::default()).await
    }

    pub(crate) async fn variant(variant: Variant) -> Self {
        Self::on(ControlPlane::shared().await, variant).await
    }

    pub(crate) async fn on(plane: &'static ControlPlane, variant: Variant) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let this = Self {
            plane,
            namespace: format!("kube-sts-{number}"),
            apps: format!("apps-{number}"),
            server_tls: json!({"secret": "server-tls", "caConfigMap": "server-ca"}),
            injector_tls: json!({"secret": "injector-tls"}),
            directory: TempDir::new_in(&plane.directory).unwrap(),
            filter: format!("(namespace=apps-{number})"),
            tuning: Mutex::new(json!({})),
            count: AtomicU32::new(0),
            documents: variant.documents,
        };
        this.create_namespace(&this.namespace, json!({})).await;
        this.create_namespace(&this.apps, json!({})).await;
        this.create_account(&this.apps, "app").await;
        for part in ["server", "injector"] {
            this.create_account(&this.namespace, part).await;
            this.write_kubeconfig(part).await;
        }
        if !variant.without_objects {
            this.create_objects().await;
        }
        if variant.documents == Documents::Published {
            this.create_public_config_maps().await;
        }
        this.grant_server(variant).await;
        this.grant_injector().await;
        this
    }

    pub(crate) async fn create_namespace(&self, name: &str, labels: Value) {
        let object = json!({"metadata": {"name": name, "labels": labels}});
        drop(self.plane.create("/api/v1/namespaces", object).await);
    }

    pub(crate) async fn create_account(&self, namespace: &str, name: &str) {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts");
        drop(
            self.plane
                .create(&path, json!({"metadata": {"name": name}}))
                .await,
        );
    }

    /// The chart's empty Secrets and ConfigMap.
    async fn create_objects(&self) {
        for name in ["aws-signing-key", SECOND_KEY, "server-tls", "injector-tls"] {
            let object = json!({"metadata": {"name": name}, "type": "Opaque"});
            drop(self.plane.create(&self.path("secrets"), object).await);
        }
        for name in ["server-ca", "server-keys"] {
            let object = json!({"metadata": {"name": name}});
            drop(self.plane.create(&self.path("configmaps"), object).await);
        }
    }

    /// The ConfigMaps that the chart adds where documents are published in some.
    async fn create_public_config_maps(&self) {
        for name in PUBLIC {
            let object = json!({"metadata": {"name": name}});
            drop(self.plane.create(&self.path("configmaps"), object).await);
        }
    }

    /// A path of the core API in the programs' namespace.
    pub(crate) fn path(&self, rest: &str) -> String {
        format!("/api/v1/namespaces/{}/{rest}", self.namespace)
    }

    /// A path of the core API in the pods' namespace.
    pub(crate) fn apps_path(&self, rest: &str) -> String {
        format!("/api/v1/namespaces/{}/{rest}", self.apps)
    }

    async fn grant_server(&self, variant: Variant) {
        // To the letter what the chart gives: `create` is for one name, and only server-side apply can use it.
        let create = if variant.without_create {
            "get"
        } else {
            "create"
        };
        let mut rules = vec![
            json!({"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["aws-signing-key", SECOND_KEY],
                "verbs": [create, "get", "list", "watch", "update", "patch"]}),
            json!({"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["server-tls"],
                "verbs": ["create", "get", "list", "watch", "update", "patch"]}),
            json!({"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["server-ca"],
                "verbs": ["list", "watch", "patch"]}),
            json!({"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["server-keys"],
                "verbs": ["get", "patch"]}),
            json!({"apiGroups": [""], "resources": ["secrets"], "resourceNames": [BLUE_SECRET], "verbs": ["list", "watch"]}),
            json!({"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch"]}),
        ];
        if variant.documents == Documents::Published {
            rules.push(json!({"apiGroups": [""], "resources": ["configmaps"], "resourceNames": PUBLIC, "verbs": ["get", "update"]}));
        }
        if variant.without_objects {
            rules.push(json!({"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]}));
        }
        self.grant("roles", "server", json!(rules)).await;
        let mut rules = Vec::new();
        if !variant.without_reviews {
            rules.push(json!({"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]}));
        }
        if !variant.presence.is_empty() {
            rules.push(json!({"apiGroups": [""], "resources": ["pods", "serviceaccounts"], "verbs": variant.presence}));
        }
        if !variant.namespaces.is_empty() {
            rules.push(json!({"apiGroups": [""], "resources": ["namespaces"], "verbs": variant.namespaces}));
        }
        if !rules.is_empty() {
            self.grant("clusterroles", "server", json!(rules)).await;
        }
    }

    async fn grant_injector(&self) {
        let rules = json!([
            {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["injector-tls"],
             "verbs": ["create", "get", "list", "watch", "update", "patch"]},
            {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["server-ca"], "verbs": ["get", "list", "watch"]},
            {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch"]},
        ]);
        self.grant("roles", "injector", rules).await;
        let rule = json!({"apiGroups": ["admissionregistration.k8s.io"], "resources": ["mutatingwebhookconfigurations"],
            "resourceNames": [self.namespace], "verbs": ["get", "list", "watch", "patch"]});
        let accounts = json!({"apiGroups": [""], "resources": ["serviceaccounts"], "verbs": ["get", "list", "watch"]});
        self.grant("clusterroles", "injector", json!([rule, accounts]))
            .await;
    }

    /// A role of that kind for a program's ServiceAccount.
    async fn grant(&self, kind: &str, part: &str, rules: Value) {
        const GROUP: &str = "/apis/rbac.authorization.k8s.io/v1";
        let (base, name, role, bindings) = if kind == "roles" {
            let base = format!("{GROUP}/namespaces/{}", self.namespace);
            (base, part.to_owned(), "Role", "rolebindings")
        } else {
            let name = format!("{}-{part}", self.namespace);
            (GROUP.to_owned(), name, "ClusterRole", "clusterrolebindings")
        };
        let object = json!({"metadata": {"name": name}, "rules": rules});
        drop(self.plane.create(&format!("{base}/{kind}"), object).await);
        let binding = json!({
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role, "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": part, "namespace": self.namespace}],
        });
        drop(
            self.plane
                .create(&format!("{base}/{bindings}"), binding)
                .await,
        );
    }

    async fn write_kubeconfig(&self, part: &str) {
        let token = self.plane.token(&self.namespace, part, None, None).await;
        self.write_kubeconfig_with(part, &token);
    }

    /// The kubeconfig of an administrator.
    pub(crate) fn administrator(&self) -> PathBuf {
        self.write_kubeconfig_with("administrator", self.plane.administrator());
        self.kubeconfig("administrator")
    }

    fn write_kubeconfig_with(&self, part: &str, token: &str) {
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": self.plane.url, "certificate-authority": self.plane.ca_file}}],
            "users": [{"name": "test", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": self.namespace}}],
        });
        std::fs::write(self.kubeconfig(part), config.to_string()).unwrap();
    }

    pub(crate) fn kubeconfig(&self, part: &str) -> PathBuf {
        self.directory.path().join(format!("{part}.kubeconfig"))
    }

    /// The name that the STS is called by.
    pub(crate) fn host(&self) -> String {
        format!("sts.{}.svc", self.namespace)
    }

    /// The audience of tokens for the endpoint.
    pub(crate) fn audience(&self) -> String {
        format!("https://{}/aws", self.host())
    }

    /// Sets keys of the endpoint's configuration for processes that are started from now on; `rateLimit` is the server's.
    pub(crate) fn tune(&self, keys: &Value) {
        let mut tuning = self.tuning.lock().unwrap();
        for (name, value) in keys.as_object().unwrap() {
            tuning[name] = value.clone();
        }
    }

    /// A folder of the installation's own.
    pub(crate) fn folder(&self) -> &Path {
        self.directory.path()
    }

    /// A configuration for one process: each has ports of its own.
    pub(crate) fn config_file(
        &self,
        listen: SocketAddr,
        admin: SocketAddr,
        adjust: impl FnOnce(&mut Value),
    ) -> PathBuf {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let path = self.directory.path().join(format!("config-{number}.yaml"));
        let mut config = json!({
            "url": format!("https://{}", self.host()),
            "clusters": [{"name": "kubernetes", "jwks": {"apiServer": {}}}],
            "endpoints": [{
                "name": "aws", "path": "/aws", "audience": "sts.amazonaws.com", "issuer": "https://issuer.example.com",
                "key": {"secret": "aws-signing-key", "algorithm": "RS256"},
                "rules": [{"filter": self.filter}],
                "injector": {"label": "aws-role", "tokenEnv": "AWS_WEB_IDENTITY_TOKEN_FILE", "annotationEnv": "AWS_ROLE_ARN"},
            }],
            "server": {
                "listen": listen.to_string(), "adminListen": admin.to_string(),
                "tls": self.server_tls,
                "keyLedger": "server-keys",
                // Tests ask again and again.
                "rateLimit": {"perAddress": 0, "perPod": 0},
            },
            "injector": {
                "listen": listen.to_string(), "adminListen": admin.to_string(), "tls": self.injector_tls,
                "service": "injector", "webhookConfiguration": self.namespace, "serverCaConfigMap": "server-ca",
                "serviceAccounts": {},
                "sidecar": {"image": "registry.example/refresher@sha256:00",
                    "resources": {"requests": {"cpu": "5m", "memory": "8Mi"}, "limits": {"cpu": "100m", "memory": "32Mi"}}},
            },
        });
        if self.documents == Documents::Published {
            publish(&mut config);
        }
        for (name, value) in self.tuning.lock().unwrap().as_object().unwrap() {
            let section = if name == "rateLimit" {
                &mut config["server"]
            } else {
                &mut config["endpoints"][0]
            };
            section[name] = value.clone();
        }
        adjust(&mut config);
        // YAML takes JSON.
        std::fs::write(&path, config.to_string()).unwrap();
        path
    }

    /// The CA's certificate as it is published.
    pub(crate) async fn server_ca(&self) -> String {
        eventually("the published CA", async || {
            let config_map = self.plane.get(&self.path("configmaps/server-ca")).await;
            config_map["data"]["ca.crt"].as_str().map(str::to_owned)
        })
        .await
    }

    /// A pod of a ServiceAccount.
    pub(crate) async fn create_pod(&self, name: &str, account: &str) -> Pod {
        self.create_pod_in(&self.apps, name, account).await
    }

    pub(crate) async fn create_pod_in(&self, namespace: &str, name: &str, account: &str) -> Pod {
        let object = json!({
            "metadata": {"name": name},
            "spec": {"serviceAccountName": account, "containers": [{"name": "app", "image": "app:1"}]},
        });
        let path = format!("/api/v1/namespaces/{namespace}/pods");
        let created = self.plane.create(&path, object).await;
        Pod {
            name: name.to_owned(),
            uid: created["metadata"]["uid"].as_str().unwrap().to_owned(),
        }
    }

    /// The token that the kubelet would get for a pod of ServiceAccount `app`.
    pub(crate) async fn pod_token(&self, pod: &Pod, audience: Option<&str>) -> String {
        let bound = Some((pod.name.as_str(), pod.uid.as_str()));
        self.plane.token(&self.apps, "app", audience, bound).await
    }

    /// A pod and its token for the endpoint.
    pub(crate) async fn good_token(&self) -> (Pod, String) {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let pod = self.create_pod(&format!("pod-{number}"), "app").await;
        let token = self.pod_token(&pod, Some(&self.audience())).await;
        (pod, token)
    }
}

/// The ConfigMaps with the endpoint's documents and with the cluster's.
const PUBLIC: [&str; 2] = ["documents", "cluster-documents"];

fn publish(config: &mut Value) {
    let endpoint = &mut config["endpoints"][0];
    endpoint["publish"] = json!({"configMap": PUBLIC[0]});
    endpoint["documents"] = json!({"readBack": false, "maxAge": "1s"});
    endpoint["key"] = json!({"secret": "aws-signing-key", "algorithm": "ES256", "clockSkew": "1s", "staleAfter": "2s"});
    let cluster = &mut config["clusters"][0];
    cluster["issuer"] = json!("https://kubernetes.default.svc.cluster.local");
    cluster["publish"] = json!({"configMap": PUBLIC[1]});
    cluster["documents"] = json!({"readBack": false});
    cluster["rewriteJwksUri"] = json!(true);
}

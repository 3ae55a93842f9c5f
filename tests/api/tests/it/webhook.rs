//! The injector behind a Service, called by the API server; and what happens when nobody answers.

use std::net::{SocketAddr, UdpSocket};

use serde_json::{Value, json};

use super::control_plane::free_port;
use super::install::Install;
use super::process::Process;
use super::wait::eventually;

pub(crate) const ROLE: &str = "arn:aws:iam::123456789012:role/app";
pub(crate) const CONFIGURATIONS: &str =
    "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";

/// An installation with a running server and injector that the API server calls for pods in `install.apps` and in `restricted`.
pub(crate) struct Webhook {
    pub(crate) install: Install,
    pub(crate) injector: Process,
    /// A namespace that enforces Pod Security `restricted`.
    pub(crate) restricted: String,
    pub(crate) server: Process,
}

impl Webhook {
    pub(crate) async fn start() -> Self {
        Self::start_with(&["aws"], |_| {}).await
    }

    /// The same with another configuration of the injector's, and with entries for these of its endpoints.
    pub(crate) async fn start_with(endpoints: &[&str], adjust: fn(&mut Value)) -> Self {
        let install = Install::new().await;
        let restricted = format!("{}-restricted", install.apps);
        let enforce = json!({"pod-security.kubernetes.io/enforce": "restricted"});
        install.create_namespace(&restricted, enforce).await;
        let listen = address();
        create_service(&install, listen).await;
        create_configuration_of(&install, &restricted, endpoints).await;
        let mut server = Process::server(&install);
        let mut injector = Process::injector_with(&install, listen, adjust);
        server.becomes_ready().await;
        injector.becomes_ready().await;
        let this = Self {
            install,
            injector,
            restricted,
            server,
        };
        this.is_called().await;
        this
    }

    /// The API server learns of the configuration by a watch of its own.
    async fn is_called(&self) {
        eventually("the webhook is called", async || {
            let (status, pod) = self.dry_run(&labelled("probe")).await;
            (status == 201 && is_injected(&pod)).then_some(())
        })
        .await;
    }

    pub(crate) fn configuration(&self) -> String {
        format!("{CONFIGURATIONS}/{}", self.install.namespace)
    }

    /// Creates a pod, without creating it.
    pub(crate) async fn dry_run(&self, pod: &Value) -> (u16, Value) {
        let path = self.install.apps_path("pods?dryRun=All");
        self.install.plane.call("POST", &path, Some(pod)).await
    }

    pub(crate) async fn create(&self, pod: &Value) -> (u16, Value) {
        let path = self.install.apps_path("pods");
        self.install.plane.call("POST", &path, Some(pod)).await
    }
}

/// An address of this machine that the API server takes for an endpoint: loopback is refused there.
pub(crate) fn address() -> SocketAddr {
    // Nothing is sent: connecting a UDP socket chooses the address that packets would leave from. RFC 5737 names an address of nobody.
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket
        .connect("198.51.100.1:9")
        .unwrap_or_else(|error| panic!("this machine has no address but loopback: {error}"));
    SocketAddr::new(socket.local_addr().unwrap().ip(), free_port().port())
}

pub(crate) async fn create_service(install: &Install, listen: SocketAddr) {
    let service = json!({
        "metadata": {"name": "injector"},
        "spec": {"ports": [{"name": "https", "port": 443, "targetPort": listen.port()}]},
    });
    drop(
        install
            .plane
            .create(&install.path("services"), service)
            .await,
    );
    create_slice(install, 1, listen).await;
}

/// One more address of the Service, in a slice of its own: each may have another port.
pub(crate) async fn create_slice(install: &Install, number: usize, listen: SocketAddr) {
    let slice = json!({
        "metadata": {"name": format!("injector-{number}"), "labels": {"kubernetes.io/service-name": "injector"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [listen.ip()], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": listen.port(), "protocol": "TCP"}],
    });
    drop(install.plane.create(&slices(install), slice).await);
}

fn slices(install: &Install) -> String {
    format!(
        "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices",
        install.namespace
    )
}

/// As the chart has it, but only for this test's namespaces.
pub(crate) async fn create_configuration(install: &Install, restricted: &str) {
    create_configuration_of(install, restricted, &["aws"]).await;
}

async fn create_configuration_of(install: &Install, restricted: &str, endpoints: &[&str]) {
    let entries = endpoints
        .iter()
        .map(|endpoint| entry(install, restricted, endpoint));
    let entries = std::iter::once(accounts_entry(install, restricted)).chain(entries);
    let configuration = json!({
        "metadata": {"name": install.namespace},
        "webhooks": entries.collect::<Vec<_>>(),
    });
    drop(install.plane.create(CONFIGURATIONS, configuration).await);
}

/// The entry for pods of annotated ServiceAccounts, which stands first.
pub(crate) fn accounts_entry(install: &Install, restricted: &str) -> Value {
    let mut entry = entry(install, restricted, "aws");
    entry["name"] = json!("serviceaccounts.kube-sts.tremolo.io");
    entry["clientConfig"]["service"]["path"] = json!("/mutate");
    let skip =
        json!({"key": "eks.amazonaws.com/skip-pod-identity-webhook", "operator": "DoesNotExist"});
    entry["objectSelector"] = json!({"matchExpressions": [skip]});
    entry["failurePolicy"] = json!("Ignore");
    entry
}

pub(crate) fn entry(install: &Install, restricted: &str, endpoint: &str) -> Value {
    let path = format!("/mutate/{endpoint}");
    json!({
        "name": format!("{endpoint}.injector.kube-sts.tremolo.io"),
        "clientConfig": {"service": {"name": "injector", "namespace": install.namespace, "path": path, "port": 443}},
        "admissionReviewVersions": ["v1"],
        "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "scope": "Namespaced"}],
        "objectSelector": {"matchExpressions": [
            {"key": format!("tremolo.io/{endpoint}-role"), "operator": "Exists"},
            {"key": format!("tremolo.io/{endpoint}-role"), "operator": "NotIn", "values": ["false"]},
        ]},
        "namespaceSelector": {"matchExpressions": [
            {"key": "kubernetes.io/metadata.name", "operator": "In", "values": [install.apps, restricted]},
        ]},
        "matchConditions": [{
            "name": "not-a-mirror-pod",
            "expression": "!has(object.metadata.annotations) || !(\"kubernetes.io/config.mirror\" in object.metadata.annotations)",
        }],
        "matchPolicy": "Equivalent", "failurePolicy": "Fail", "reinvocationPolicy": "IfNeeded", "sideEffects": "None",
        "timeoutSeconds": 5,
    })
}

/// The smallest pod that asks for a token.
pub(crate) fn labelled(name: &str) -> Value {
    json!({
        "metadata": {
            "name": name,
            "labels": {"tremolo.io/aws-role": "true"},
            "annotations": {"tremolo.io/aws-role": ROLE},
        },
        "spec": {"serviceAccountName": "app", "containers": [{"name": "app", "image": "app:1"}]},
    })
}

pub(crate) fn is_injected(pod: &Value) -> bool {
    let first = &pod["spec"]["initContainers"][0]["name"];
    // The native form's, or the classic one's.
    first == "kube-sts-refresher" || first == "kube-sts-first-token"
}

#[tokio::test]
async fn with_the_webhook_dead_only_pods_that_ask_for_it_are_refused() {
    let webhook = Webhook::start().await;
    let mut plain = labelled("plain");
    plain["metadata"]["labels"] = json!({});
    let (status, untouched) = webhook.dry_run(&plain).await;
    assert_eq!(status, 201, "{untouched}");
    assert_eq!(untouched["spec"]["initContainers"], Value::Null);
    let Webhook {
        install, injector, ..
    } = webhook;
    injector.kill();
    let path = install.apps_path("pods");
    let (status, answer) = install.plane.call("POST", &path, Some(&plain)).await;
    assert_eq!(status, 201, "{answer}");
    assert_eq!(
        answer["spec"]["containers"],
        untouched["spec"]["containers"]
    );
    let (status, answer) = install
        .plane
        .call("POST", &path, Some(&labelled("wants")))
        .await;
    assert_eq!(status, 500, "{answer}");
    let message = answer["message"].as_str().unwrap();
    assert!(
        message.contains("aws.injector.kube-sts.tremolo.io"),
        "{message}"
    );
    let mut out = labelled("out");
    out["metadata"]["labels"] = json!({"tremolo.io/aws-role": "false"});
    let (status, answer) = install.plane.call("POST", &path, Some(&out)).await;
    assert_eq!(status, 201, "{answer}");
}

#[tokio::test]
async fn a_cleared_ca_bundle_is_written_again() {
    let webhook = Webhook::start().await;
    let plane = webhook.install.plane;
    let before = plane.get(&webhook.configuration()).await;
    let bundle = before["webhooks"][0]["clientConfig"]["caBundle"].clone();
    assert!(bundle.is_string(), "{before}");
    for spoilt in [Value::Null, json!("bm8gY2VydGlmaWNhdGU=")] {
        let mut object = plane.get(&webhook.configuration()).await;
        object["webhooks"][0]["clientConfig"]["caBundle"] = spoilt;
        drop(
            plane
                .ok("PUT", &webhook.configuration(), Some(&object))
                .await,
        );
        eventually("the bundle is back", async || {
            let now = plane.get(&webhook.configuration()).await;
            (now["webhooks"][0]["clientConfig"]["caBundle"] == bundle).then_some(())
        })
        .await;
    }
    let after = plane.get(&webhook.configuration()).await;
    assert_eq!(
        after["webhooks"], before["webhooks"],
        "and nothing else is changed"
    );
    webhook.is_called().await;
}

/// `helm upgrade` with one endpoint fewer: an entry that we have written to is still its maker's to remove.
#[tokio::test]
async fn an_entry_whose_bundle_is_ours_can_be_removed_by_its_maker() {
    let install = Install::new().await;
    let plane = install.plane;
    let listen = address();
    create_service(&install, listen).await;
    let path = format!("{CONFIGURATIONS}/{}", install.namespace);
    let apply = async |endpoints: &[&str]| {
        let entry = |endpoint: &&str| entry(&install, "nowhere", endpoint);
        let entries: Vec<Value> = endpoints.iter().map(entry).collect();
        let object = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": install.namespace},
            "webhooks": entries,
        });
        let (status, answer) = plane.apply(&path, "helm", &object).await;
        assert!(matches!(status, 200 | 201), "{status} {answer}");
        answer["webhooks"].clone()
    };
    let filled = async |count: usize| {
        eventually("every entry has a bundle", async || {
            let webhooks = plane.get(&path).await["webhooks"].clone();
            let bundle = |entry: &Value| entry["clientConfig"]["caBundle"].is_string();
            let entries = webhooks.as_array().unwrap();
            (entries.len() == count && entries.iter().all(bundle)).then_some(webhooks)
        })
        .await
    };
    drop(apply(&["old", "aws"]).await);
    let _server = Process::server(&install);
    let mut injector = Process::injector(&install, listen);
    let both = filled(2).await;
    // Not the last one, so that the one that stays moves to another place.
    let left = apply(&["aws"]).await;
    assert_eq!(left, json!([both[1]]), "the bundle stays");
    drop(apply(&["new", "aws"]).await);
    let again = filled(2).await;
    assert_eq!(
        again[0]["clientConfig"]["caBundle"],
        both[1]["clientConfig"]["caBundle"]
    );
    injector.becomes_ready().await;
}

/// Why the bundle is written by JSON patch (docs/decisions/0006): who applies it owns its entry too, and its maker cannot remove that.
#[tokio::test]
async fn an_entry_whose_bundle_was_applied_could_not_be_removed_by_its_maker() {
    let install = Install::new().await;
    let plane = install.plane;
    let path = format!("{CONFIGURATIONS}/{}", install.namespace);
    let pem = std::fs::read(&plane.ca_file).unwrap();
    let bundle = json!(base64::Engine::encode(
        &base64::engine::general_purpose::STANDARD,
        pem
    ));
    let apply = async |manager: &str, entries: Vec<Value>| {
        let object = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": install.namespace},
            "webhooks": entries,
        });
        plane.apply(&path, manager, &object).await
    };
    let made = |endpoint| entry(&install, "nowhere", endpoint);
    let (status, answer) = apply("helm", vec![made("old"), made("aws")]).await;
    assert_eq!(status, 201, "{answer}");
    let filled =
        |endpoint| json!({"name": made(endpoint)["name"], "clientConfig": {"caBundle": bundle}});
    let (status, answer) = apply("kube-sts-injector", vec![filled("old"), filled("aws")]).await;
    assert_eq!(status, 200, "{answer}");
    let (status, answer) = apply("helm", vec![made("aws")]).await;
    assert_eq!(status, 422, "{answer}");
    plane.delete(&path).await;
}

/// An API server that asks for an endpoint of a newer configuration than the injector's does not get a pod without a token.
#[tokio::test]
async fn a_pod_of_an_endpoint_that_the_injector_does_not_know_yet_is_refused() {
    let webhook = Webhook::start().await;
    let plane = webhook.install.plane;
    let mut object = plane.get(&webhook.configuration()).await;
    let entries = object["webhooks"].as_array_mut().unwrap();
    entries.push(entry(&webhook.install, &webhook.restricted, "new"));
    drop(
        plane
            .ok("PUT", &webhook.configuration(), Some(&object))
            .await,
    );
    let mut pod = labelled("new");
    pod["metadata"]["labels"] = json!({"tremolo.io/new-role": "true"});
    eventually("the new endpoint is asked for", async || {
        let (status, answer) = webhook.dry_run(&pod).await;
        let message = answer["message"].as_str().unwrap_or_default();
        let words = "does not know endpoint new yet: try again in a few seconds";
        // Until the entry has its bundle the API server cannot call at all, which is a refusal too.
        assert!(status == 201 || status >= 500, "{status} {answer}");
        (status == 503 && message.contains(words)).then_some(())
    })
    .await;
}

/// A second replica has the same certificate authority, and is as good as the first.
#[tokio::test]
async fn a_second_replica_answers_in_the_firsts_place() {
    let webhook = Webhook::start().await;
    let plane = webhook.install.plane;
    let before = plane.get(&webhook.configuration()).await;
    let listen = address();
    let mut second = Process::injector(&webhook.install, listen);
    second.becomes_ready().await;
    webhook.injector.kill();
    let path = format!("{}/injector-1", slices(&webhook.install));
    let slice = json!({"ports": [{"name": "https", "port": listen.port(), "protocol": "TCP"}]});
    drop(plane.ok("PATCH", &path, Some(&slice)).await);
    let webhook = Webhook {
        injector: second,
        ..webhook
    };
    webhook.is_called().await;
    assert_eq!(
        plane.get(&webhook.configuration()).await["webhooks"],
        before["webhooks"]
    );
}

/// Replicas that start at the same instant agree on one CA, and either one is trusted by the one bundle.
#[tokio::test]
async fn injectors_that_start_at_once_agree() {
    let install = Install::new().await;
    let addresses = [address(), address()];
    create_service(&install, addresses[0]).await;
    create_configuration(&install, "nowhere").await;
    let mut server = Process::server(&install);
    let mut injectors = addresses.map(|listen| Process::injector(&install, listen));
    server.becomes_ready().await;
    for injector in &mut injectors {
        injector.becomes_ready().await;
    }
    let bundle = async || {
        let path = format!("{CONFIGURATIONS}/{}", install.namespace);
        let object = install.plane.get(&path).await;
        object["webhooks"][0]["clientConfig"]["caBundle"].clone()
    };
    let before = bundle().await;
    let slice = format!("{}/injector-1", slices(&install));
    for (listen, name) in addresses.iter().zip(["first", "second"]) {
        let port = json!({"ports": [{"name": "https", "port": listen.port(), "protocol": "TCP"}]});
        drop(install.plane.ok("PATCH", &slice, Some(&port)).await);
        let path = install.apps_path("pods?dryRun=All");
        eventually(name, async || {
            let pod = labelled(name);
            let (status, pod) = install.plane.call("POST", &path, Some(&pod)).await;
            (status == 201 && is_injected(&pod)).then_some(())
        })
        .await;
    }
    assert_eq!(bundle().await, before);
}

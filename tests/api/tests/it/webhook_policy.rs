//! No-webhook mode: the policies that `kubectl sts render` writes do what the injector does. Each pod goes through both, in two namespaces of
//! one API server, and what comes out is compared.

mod pods;

use serde_json::{Value, json};

use super::process::kubectl_sts;
use super::wait::eventually;
use super::webhook::{Webhook, is_injected, labelled};
use super::webhook_admits::{fixtures, merged, shapes};

use pods::{kubelets, large, refused, refused_otherwise, served, unfit};

const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";

/// A webhook, and a namespace in which the policies stand in its place.
struct Both {
    webhook: Webhook,
    namespace: String,
    objects: Vec<String>,
}

/// Beside the usual endpoint one with a text as its annotation and a file beside its token, one that clashes with the first, and one of the
/// kubelet's.
fn endpoints(config: &mut Value) {
    let endpoint = |name: &str, injector: Value| {
        json!({
            "name": name, "path": format!("/{name}"), "audience": format!("{name}.example"),
            "issuer": format!("https://{name}.example.com"), "key": {"secret": format!("{name}-key")},
            "rules": [{"filter": "(namespace=apps-*)"}], "injector": injector,
        })
    };
    let file = json!({"name": "header", "env": "VAULT_HEADER", "template": "{\"$a\": \"{token} {annotation}\"}\n"});
    let more = [
        endpoint(
            "my-vault",
            json!({"label": "my-vault-role", "tokenEnv": "VAULT_FILE", "annotationEnv": "VAULT_ROLE", "files": [file]}),
        ),
        endpoint(
            "clash",
            json!({"label": "clash-role", "tokenEnv": "CLASH_FILE", "annotationEnv": "AWS_ROLE_ARN"}),
        ),
        endpoint(
            "kubelet",
            json!({"label": "kubelet-role", "mode": "projected", "tokenEnv": "KUBELET_FILE", "annotationEnv": "KUBELET_ROLE"}),
        ),
    ];
    let endpoints = config["endpoints"].as_array_mut().unwrap();
    endpoints.extend(more);
}

impl Both {
    async fn start(adjust: fn(&mut Value)) -> Self {
        let names = ["aws", "my-vault", "clash", "kubelet"];
        let webhook = Webhook::start_with(&names, adjust).await;
        let install = &webhook.install;
        let namespace = format!("{}-policy", install.apps);
        install.create_namespace(&namespace, json!({})).await;
        install.create_account(&namespace, "app").await;
        let (listen, admin) = (webhook.injector.listen, webhook.injector.admin);
        let config = install.config_file(listen, admin, adjust);
        let label = format!("kubernetes.io/metadata.name={namespace}");
        let arguments = [
            "render",
            "mutating-admission-policy",
            "--config",
            config.to_str().unwrap(),
            "--name",
            &install.namespace,
            "--namespace-label",
            &label,
            "-o",
            "json",
        ];
        let (ended_well, text) = kubectl_sts(install, &arguments).await;
        assert!(ended_well, "{text}");
        let rendered: Value = serde_json::from_str(&text).unwrap();
        let mut objects = Vec::new();
        for object in rendered["items"].as_array().unwrap() {
            let (plural, name) = (plural(object), &object["metadata"]["name"]);
            let path = format!("{GROUP}/{plural}");
            drop(install.plane.create(&path, object.clone()).await);
            objects.push(format!("{path}/{}", name.as_str().unwrap()));
        }
        let this = Self {
            webhook,
            namespace,
            objects,
        };
        this.is_applied().await;
        this
    }

    /// The API server learns of policies by a watch of its own.
    async fn is_applied(&self) {
        eventually("what is missing is added", async || {
            let (status, pod) = self.by_policy(&labelled("probe")).await;
            (status == 201 && is_injected(&pod)).then_some(())
        })
        .await;
        for key in ["aws-role", "my-vault-role", "clash-role", "kubelet-role"] {
            let labels = json!({"labels": {format!("tremolo.io/{key}"): "perhaps"}});
            let bad = merged(&labelled("probe"), "metadata", labels);
            eventually("what is wrong is refused", async || {
                (self.by_policy(&bad).await.0 == 422).then_some(())
            })
            .await;
        }
    }

    async fn by_policy(&self, pod: &Value) -> (u16, Value) {
        let path = format!("/api/v1/namespaces/{}/pods?dryRun=All", self.namespace);
        self.webhook
            .install
            .plane
            .call("POST", &path, Some(pod))
            .await
    }

    /// Both let the pod pass, and make the same of it.
    async fn agree(&self, what: &str, pod: &Value) -> Value {
        let (status, ours) = self.webhook.dry_run(pod).await;
        assert_eq!(status, 201, "{what}, webhook: {ours}");
        let (status, theirs) = self.by_policy(pod).await;
        assert_eq!(status, 201, "{what}, policy: {theirs}");
        for part in ["containers", "initContainers", "volumes"] {
            assert_eq!(theirs["spec"][part], ours["spec"][part], "{what}: {part}");
        }
        assert_eq!(theirs["spec"], ours["spec"], "{what}");
        for part in ["labels", "annotations"] {
            assert_eq!(theirs["metadata"][part], ours["metadata"][part], "{what}");
        }
        ours
    }

    /// Both refuse the pod, in the same words.
    async fn refuse(&self, what: &str, pod: &Value) {
        let (status, ours) = self.webhook.dry_run(pod).await;
        // 503 where it is another configuration's, which may be the injector's next.
        assert!((400..=503).contains(&status), "{what}, webhook: {ours}");
        let (status, theirs) = self.by_policy(pod).await;
        assert!((400..500).contains(&status), "{what}, policy: {theirs}");
        let ours = ours["message"].as_str().unwrap();
        let (_, sentence) = ours.split_once("denied the request: ").unwrap();
        let sentence = sentence.replace(&self.webhook.install.apps, &self.namespace);
        let theirs = theirs["message"].as_str().unwrap();
        assert!(
            theirs.contains(&sentence),
            "{what}\n{sentence}\nis not in\n{theirs}"
        );
    }

    async fn refuse_somehow(&self, what: &str, pod: &Value) {
        for (status, answer) in [self.webhook.dry_run(pod).await, self.by_policy(pod).await] {
            assert!((400..500).contains(&status), "{what}: {answer}");
        }
    }

    async fn end(self) {
        for object in &self.objects {
            self.webhook.install.plane.delete(object).await;
        }
    }
}

fn plural(object: &Value) -> &'static str {
    match object["kind"].as_str().unwrap() {
        "MutatingAdmissionPolicy" => "mutatingadmissionpolicies",
        "MutatingAdmissionPolicyBinding" => "mutatingadmissionpolicybindings",
        "ValidatingAdmissionPolicy" => "validatingadmissionpolicies",
        "ValidatingAdmissionPolicyBinding" => "validatingadmissionpolicybindings",
        other => panic!("unknown kind {other}"),
    }
}

/// What is done to a container, and its name.
type Change = (&'static str, fn(&mut Value));

/// A pod that went through, as tools send it that copy pods, with its first container of ours changed.
fn changed(injected: &Value, change: impl Fn(&mut Value)) -> Value {
    let mut pod = labelled("pod");
    pod["spec"] = injected["spec"].clone();
    change(&mut pod["spec"]["initContainers"][0]);
    pod
}

#[tokio::test]
async fn policies_do_to_pods_what_the_webhook_does() {
    let both = Both::start(endpoints).await;
    for (what, pod) in shapes().into_iter().chain(served()).chain(kubelets()) {
        drop(both.agree(what, &pod).await);
    }
    for (what, pod) in fixtures() {
        drop(both.agree(&what, &pod).await);
    }
    for (what, pod) in refused().into_iter().chain(unfit()) {
        both.refuse(what, &pod).await;
    }
    drop(both.agree("large", &large()).await);
    for (what, pod) in refused_otherwise() {
        both.refuse_somehow(what, &pod).await;
    }
    both.end().await;
}

/// What webhooks do to every container that they see.
fn meddle(sidecar: &mut Value) {
    sidecar["env"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "HTTP_PROXY", "value": "x"}));
    sidecar["image"] = json!("mirror.example/refresher@sha256:11");
    sidecar["resources"] = json!({});
    sidecar["imagePullPolicy"] = json!("Always");
    let context = &mut sidecar["securityContext"];
    context["runAsUser"] = json!(1_000_680_000);
    context["seLinuxOptions"] = json!({"level": "s0:c26,c15"});
    context["capabilities"]["drop"] = json!(["ALL", "MKNOD"]);
    context["appArmorProfile"] = json!({"type": "RuntimeDefault"});
}

/// What either has made passes the other, unchanged; and no change of the sidecar that the one refuses passes the other.
#[tokio::test]
async fn policies_take_what_the_webhook_has_made_and_nothing_else() {
    let both = Both::start(|config| {
        endpoints(config);
        let sidecar = &mut config["injector"]["sidecar"];
        sidecar["gate"] = json!("probe");
        sidecar["metricsPort"] = json!(9090);
    })
    .await;
    let injected = both.agree("at first", &labelled("pod")).await;
    let again = changed(&injected, |_| {});
    let second = both.agree("again", &again).await;
    assert_eq!(second["spec"], injected["spec"]);
    let harmless = changed(&injected, meddle);
    drop(both.agree("harmless", &harmless).await);
    let changes: [Change; 9] = [
        ("capability", |sidecar| {
            sidecar["securityContext"]["capabilities"]["add"] = json!(["NET_ADMIN"]);
        }),
        ("args", |sidecar| sidecar["args"] = json!(["once"])),
        ("root", |sidecar| {
            sidecar["securityContext"]["runAsNonRoot"] = json!(false);
        }),
        ("mount", |sidecar| {
            sidecar["volumeMounts"][0]["readOnly"] = json!(true);
        }),
        ("variable", |sidecar| {
            sidecar["env"]
                .as_array_mut()
                .unwrap()
                .push(json!({"name": "STS_MORE", "value": "x"}));
        }),
        ("address", |sidecar| {
            sidecar["env"][0]["value"] = json!("aws=https://evil");
        }),
        ("command", |sidecar| sidecar["command"] = json!(["/evil"])),
        ("last words", |sidecar| {
            sidecar["terminationMessagePath"] = json!("/refresher");
        }),
        ("probe", |sidecar| {
            sidecar["startupProbe"]["exec"]["command"] = json!(["/refresher", "version"]);
        }),
    ];
    for (what, change) in changes {
        both.refuse(what, &changed(&injected, change)).await;
    }
    let ordinary = changed(&injected, |sidecar| {
        sidecar["restartPolicy"] = Value::Null;
    });
    both.refuse_somehow("ordinary", &ordinary).await;
    both.end().await;
}

/// An init container and an ordinary one in the native sidecar's place.
#[tokio::test]
async fn policies_make_classic_sidecars_too() {
    let both = Both::start(|config| {
        endpoints(config);
        config["injector"]["sidecar"]["form"] = json!("classic");
    })
    .await;
    for (what, pod) in served().into_iter().chain(kubelets()) {
        drop(both.agree(what, &pod).await);
    }
    both.end().await;
}

/// Nobody else's pod depends on the parameter.
#[tokio::test]
async fn without_the_ca_only_pods_that_ask_for_a_token_are_refused() {
    let both = Both::start(endpoints).await;
    let install = &both.webhook.install;
    both.webhook.server.kill();
    install
        .plane
        .delete(&install.path("configmaps/server-ca"))
        .await;
    let path = format!("/api/v1/namespaces/{}/pods?dryRun=All", both.namespace);
    eventually("it is missed", async || {
        let (status, _) = install
            .plane
            .call("POST", &path, Some(&labelled("pod")))
            .await;
        (status != 201).then_some(())
    })
    .await;
    let plain = merged(&labelled("pod"), "metadata", json!({"labels": {}}));
    let (status, answer) = install.plane.call("POST", &path, Some(&plain)).await;
    assert_eq!(status, 201, "{answer}");
    for object in &both.objects {
        install.plane.delete(object).await;
    }
}

//! What a webhook must withstand beside its task: quotas, many reviews at once, pods full of secrets.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use reqwest::{Certificate, Client, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use super::wait::eventually;
use super::webhook::{ROLE, Webhook, is_injected, labelled};
use super::webhook_admits::{merged, shapes};

/// A pod that asks for a token, and whose own container may have as much memory.
fn of_size(memory: &str) -> Value {
    let resources = json!({"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"cpu": "100m", "memory": memory}});
    let containers = json!([{"name": "app", "image": "app:1", "resources": resources}]);
    merged(&labelled("pod"), "spec", json!({"containers": containers}))
}

/// 1008Mi alone would be within the quota of 1Gi: it is the sidecar's share that is not.
#[tokio::test]
async fn adm_023_the_sidecar_fits_into_quotas_and_limit_ranges_and_counts_in_them() {
    let webhook = Webhook::start().await;
    let plane = webhook.install.plane;
    let ranges = webhook.install.apps_path("limitranges");
    let bounds = json!({"type": "Container", "min": {"cpu": "1m", "memory": "1Mi"}, "max": {"cpu": "1", "memory": "1Gi"}});
    let range = json!({"metadata": {"name": "range"}, "spec": {"limits": [bounds]}});
    drop(plane.create(&ranges, range).await);
    let quotas = webhook.install.apps_path("resourcequotas");
    let hard = json!({"requests.cpu": "1", "requests.memory": "1Gi", "limits.cpu": "1", "limits.memory": "1Gi"});
    let used = json!({"requests.cpu": "0", "requests.memory": "0", "limits.cpu": "0", "limits.memory": "0"});
    let quota = json!({"metadata": {"name": "quota"}, "spec": {"hard": hard}});
    drop(plane.create(&quotas, quota).await);
    // What the controller would do, which does not run here.
    let status = json!({"status": {"hard": hard, "used": used}});
    let path = format!("{quotas}/quota/status");
    drop(plane.ok("PATCH", &path, Some(&status)).await);
    for (memory, words) in [
        ("2Gi", "maximum memory usage"),
        ("1008Mi", "exceeded quota"),
    ] {
        eventually(words, async || {
            let (status, answer) = webhook.dry_run(&of_size(memory)).await;
            let message = answer["message"].as_str().unwrap_or_default();
            (status == 403 && message.contains(words)).then_some(())
        })
        .await;
    }
    let (status, answer) = webhook.create(&of_size("64Mi")).await;
    assert_eq!(status, 201, "{answer}");
    assert!(is_injected(&answer), "{answer}");
    let quota = plane.get(&format!("{quotas}/quota")).await;
    // 64Mi of its own, 32Mi of the sidecar.
    assert_eq!(quota["status"]["used"]["limits.memory"], "96Mi", "{quota}");
}

/// The remote ends of the injector's connections, but for those that came in.
fn outbound(webhook: &Webhook) -> Vec<String> {
    let pid = webhook.injector.program_pid();
    let links = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let links = links.filter_map(|link| std::fs::read_link(link.ok()?.path()).ok());
    let own: BTreeSet<String> = links
        .filter_map(|link| {
            let link = link.to_str()?.strip_prefix("socket:[")?;
            Some(link.strip_suffix(']')?.to_owned())
        })
        .collect();
    let port = |address: &str| {
        let (_, port) = address.rsplit_once(':').unwrap();
        u16::from_str_radix(port, 16).unwrap()
    };
    let inbound = [
        webhook.injector.listen.port(),
        webhook.injector.admin.port(),
    ];
    let table = std::fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap();
    let lines = table.lines().skip(1).map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        (
            fields[1].to_owned(),
            fields[2].to_owned(),
            fields[9].to_owned(),
        )
    });
    let lines =
        lines.filter(|(local, _, inode)| own.contains(inode) && !inbound.contains(&port(local)));
    lines.map(|(_, remote, _)| remote).collect()
}

fn review(webhook: &Webhook, number: usize) -> Value {
    let pods = json!({"group": "", "version": "v1", "resource": "pods"});
    let kind = json!({"group": "", "version": "v1", "kind": "Pod"});
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": number.to_string(), "kind": kind, "resource": pods, "requestKind": kind, "requestResource": pods,
            "namespace": webhook.install.apps, "operation": "CREATE", "userInfo": {}, "object": labelled("pod"), "oldObject": null,
            "dryRun": false, "options": {},
        },
    })
}

/// How long each takes is measured by `cargo xtask bench admission`.
#[tokio::test]
async fn adm_029_a_thousand_concurrent_reviews_open_no_connection() {
    const REVIEWS: usize = 1000;
    let webhook = Webhook::start().await;
    let install = &webhook.install;
    let configuration = install.plane.get(&webhook.configuration()).await;
    let bundle = configuration["webhooks"][0]["clientConfig"]["caBundle"].as_str();
    let pem = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, bundle.unwrap());
    let roots = Certificate::from_pem_bundle(&pem.unwrap()).unwrap();
    let host = format!("injector.{}.svc", install.namespace);
    let client = Client::builder()
        .tls_certs_only(roots)
        .resolve(&host, webhook.injector.listen)
        .timeout(Duration::from_secs(30))
        .build()
        .unwrap();
    let port = webhook.injector.listen.port();
    let url = format!("https://{host}:{port}/mutate/aws");
    let before = outbound(&webhook);
    assert!(!before.is_empty(), "its watches are seen");
    let answers = stream::iter(0..REVIEWS).map(|number| {
        let request = client.post(&url).json(&review(&webhook, number));
        answer(request)
    });
    let mut answers = answers.buffer_unordered(REVIEWS);
    let mut count = 0;
    while let Some(answer) = answers.next().await {
        assert_eq!(answer["response"]["allowed"], true, "{answer}");
        count += 1;
        if count % 100 == 0 {
            let now = outbound(&webhook);
            // A watch may just be opened anew.
            assert!(now.len() <= before.len() + 1, "{before:?} became {now:?}");
            assert!(now.iter().all(|one| before.contains(one)), "{now:?}");
        }
    }
    assert_eq!(count, REVIEWS);
}

/// On a busy machine some are sent away (503, or 408 where the review came in too slowly) and ask again.
async fn answer(request: RequestBuilder) -> Value {
    loop {
        let response = request.try_clone().unwrap().send().await.unwrap();
        match response.status() {
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::REQUEST_TIMEOUT => {}
            StatusCode::OK => return response.json().await.unwrap(),
            status => panic!("{status}"),
        }
    }
}

#[tokio::test]
async fn adm_030_nothing_of_a_pod_is_logged() {
    const CANARY: &str = "canary4711";
    let webhook = Webhook::start().await;
    let variable = json!({"name": "PASSWORD", "value": CANARY});
    let container = json!({"name": "app", "image": format!("app:{CANARY}"), "args": [CANARY], "env": [variable]});
    let mark = |pod: &Value| {
        let mut pod = merged(pod, "spec", json!({"containers": [container]}));
        pod["metadata"]["annotations"][CANARY] = json!(CANARY);
        pod["metadata"]["labels"][CANARY] = json!(CANARY);
        pod
    };
    for (name, pod) in shapes() {
        let (status, answer) = webhook.dry_run(&mark(&pod)).await;
        assert_eq!(status, 201, "{name}: {answer}");
    }
    let with_value = |value: &str| {
        let annotations = json!({"annotations": {"tremolo.io/aws-role": value}});
        mark(&merged(&labelled("pod"), "metadata", annotations))
    };
    let refused = [
        with_value(&format!("{ROLE}$({CANARY})")),
        mark(&merged(
            &labelled("pod"),
            "metadata",
            json!({"labels": {"tremolo.io/aws-role": CANARY}}),
        )),
        mark(&merged(
            &labelled("pod"),
            "spec",
            json!({"hostNetwork": true}),
        )),
    ];
    for pod in &refused {
        let (status, answer) = webhook.dry_run(pod).await;
        assert!((400..500).contains(&status), "{answer}");
        assert!(
            !answer["message"].as_str().unwrap().contains(CANARY),
            "{answer}"
        );
    }
    let log = webhook.injector.lines().join("\n");
    assert!(log.contains("injector"), "there is a log: {log}");
    assert!(!log.contains(CANARY), "{log}");
    let metrics = format!("http://{}/metrics", webhook.injector.admin);
    let metrics = reqwest::get(metrics).await.unwrap().text().await.unwrap();
    assert!(metrics.contains("injector_decisions_total"), "{metrics}");
    assert!(!metrics.contains(CANARY), "{metrics}");
}

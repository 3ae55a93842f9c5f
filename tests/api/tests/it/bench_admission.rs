//! `cargo xtask bench admission`, its last part: what our webhook adds to the creation of a pod, through the real API server.
//!
//! Pods with and without the label are applied in turn, as `kubectl apply --server-side` sends them, over one connection.

use serde_json::{Value, json};
use tokio::time::Instant;

use super::webhook::{ROLE, Webhook, is_injected, labelled};
use super::webhook_admits::merged;

const WARM_UP: usize = 50;
/// ServiceAccounts with a role, which the injector knows by its watch.
const ACCOUNTS: usize = 1000;

/// How many pods of each kind are measured.
#[expect(
    clippy::disallowed_methods,
    reason = "the environment is how `cargo xtask bench admission` says it"
)]
fn rounds() -> usize {
    let pods = std::env::var("KUBE_STS_BENCH_PODS").ok();
    pods.and_then(|pods| pods.parse().ok()).unwrap_or(500)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: cargo xtask bench admission"]
async fn apply() {
    let webhook = Webhook::start().await;
    let plane = webhook.install.plane;
    // As the chart has it by default: unlabelled pods concern nobody.
    let mut configuration = plane.get(&webhook.configuration()).await;
    drop(configuration["webhooks"].as_array_mut().unwrap().remove(0));
    drop(
        plane
            .ok("PUT", &webhook.configuration(), Some(&configuration))
            .await,
    );
    let client = plane.client().unwrap();
    for number in 0..ACCOUNTS {
        let annotations = json!({"eks.amazonaws.com/role-arn": ROLE});
        let metadata = json!({"name": format!("account-{number}"), "annotations": annotations});
        let path = webhook.install.apps_path("serviceaccounts");
        let account = json!({"metadata": metadata});
        let (status, answer) = plane.send_by(&client, "POST", &path, &account).await;
        assert_eq!(status, 201, "{answer}");
    }
    let kinds = [
        merged(&labelled("x"), "metadata", json!({"labels": {}})),
        labelled("x"),
    ];
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..WARM_UP + rounds() {
        // Each kind comes first in every second round.
        for kind in [round % 2, (round + 1) % 2] {
            let name = format!("pod-{kind}-{round}");
            let mut pod = merged(&kinds[kind], "metadata", json!({"name": name}));
            pod["apiVersion"] = json!("v1");
            pod["kind"] = json!("Pod");
            let path = webhook.install.apps_path(&format!("pods/{name}"));
            let begin = Instant::now();
            let (status, answer) = plane.apply_by(&client, &path, "kubectl", &pod).await;
            if round >= WARM_UP {
                times[kind].push(begin.elapsed().as_secs_f64() * 1e3);
            }
            assert_eq!(status, 201, "{answer}");
            assert_eq!(is_injected(&answer), kind == 1, "{answer}");
        }
    }
    let [plain, labelled] = times.map(quantiles);
    let resident = webhook.injector.resident_mib();
    say(&json!({"plain": plain, "labelled": labelled, "resident": resident}));
}

/// The median, and what one in a hundred exceeds.
fn quantiles(mut times: Vec<f64>) -> Value {
    times.sort_by(f64::total_cmp);
    json!({"median": times[times.len() / 2], "p99": times[times.len() * 99 / 100]})
}

#[expect(clippy::print_stdout, reason = "xtask reads it")]
fn say(figures: &Value) {
    println!("\nfigures: {figures}");
}

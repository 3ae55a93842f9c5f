//! Configurations that change while the programs run.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use super::install::{Install, SECOND_KEY, WATCH};
use super::process::Process;
use super::wait::eventually;
use super::webhook::{ROLE, Webhook, entry, is_injected, labelled};

/// The Event about a program's pod, for that reason.
async fn event(install: &Install, pod: &str, reason: &str) -> Value {
    let path = format!(
        "/apis/events.k8s.io/v1/namespaces/{}/events",
        install.namespace
    );
    eventually(reason, async || {
        let list = install.plane.get(&path).await;
        let mut events = list["items"].as_array().unwrap().iter();
        let is_it = |event: &&Value| event["reason"] == reason && event["regarding"]["name"] == pod;
        events.find(is_it).cloned()
    })
    .await
}

fn second(config: &mut Value) {
    let mut endpoint = config["endpoints"][0].clone();
    endpoint["name"] = json!("second");
    endpoint["path"] = json!("/second");
    endpoint["issuer"] = json!("https://second.example.com");
    endpoint["key"]["secret"] = json!(SECOND_KEY);
    endpoint["injector"]["label"] = json!("second-role");
    config["endpoints"].as_array_mut().unwrap().push(endpoint);
}

#[tokio::test]
async fn a_reload_and_a_refusal_are_events_on_the_own_pod() {
    let install = Install::new().await;
    let mut server = Process::server(&install);
    server.becomes_ready().await;
    server.reconfigure(|config| config["endpoints"][0]["lifetime"] = json!("1s"));
    let refused = event(&install, "server", "ConfigRefused").await;
    assert_eq!(refused["type"], "Warning");
    let note = refused["note"].as_str().unwrap();
    assert!(note.contains("endpoints[0].lifetime"), "{note}");
    server.reconfigure(|config| {
        config["endpoints"][0]["lifetime"] = json!("20m");
        second(config);
    });
    let reloaded = event(&install, "server", "ConfigReloaded").await;
    assert_eq!(reloaded["type"], "Normal");
    let client = server.client(&install).await;
    let answer = client
        .get(server.url(&install, "/second/certs"))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    let (_, token) = install.good_token().await;
    assert_eq!(server.exchange_status(&install, &token).await, 200);
}

/// The new endpoint's key may not be read: the old configuration serves on, and nothing of the new one does.
#[tokio::test]
async fn an_endpoint_without_a_key_holds_the_whole_change_back() {
    let install = Install::new().await;
    let mut server = Process::server(&install);
    server.becomes_ready().await;
    server.reconfigure(|config| {
        second(config);
        config["endpoints"][1]["key"]["secret"] = json!("nobodys");
        config["endpoints"][0]["rules"] = json!([{"filter": "(namespace=nobody)"}]);
    });
    eventually("the attempt", async || {
        let lines = server.lines();
        let about = |line: &&String| line.contains("nobodys");
        lines.iter().any(|line| about(&line)).then_some(())
    })
    .await;
    let (_, token) = install.good_token().await;
    assert_eq!(server.exchange_status(&install, &token).await, 200);
    assert_eq!(server.readiness().await.0, 200);
    server.reconfigure(|config| drop(config["endpoints"].as_array_mut().unwrap().pop()));
    server
        .shows("sts_config_reloads_total{outcome=\"reloaded\"} 1")
        .await;
    assert_eq!(server.exchange_status(&install, &token).await, 403);
}

#[tokio::test]
async fn what_is_watched_is_not_listed_again() {
    let install = Install::variant(WATCH).await;
    let watching = |config: &mut Value| config["endpoints"][0]["verification"] = json!("watch");
    let mut server = Process::server_with(&install, watching);
    server.becomes_ready().await;
    let lists = || {
        let lines = server.lines();
        let listed = lines
            .iter()
            .filter(|line| line.contains("objects are listed"));
        listed.count()
    };
    let before = lists();
    assert!(before > 0);
    server.reconfigure(second);
    server
        .shows("sts_config_reloads_total{outcome=\"reloaded\"} 1")
        .await;
    let (_, token) = install.good_token().await;
    assert_eq!(server.exchange_status(&install, &token).await, 200);
    assert_eq!(lists(), before);
}

#[tokio::test]
async fn the_injector_takes_over_a_good_file_and_keeps_the_old_one_for_a_bad() {
    let webhook = Webhook::start().await;
    let (install, injector) = (&webhook.install, &webhook.injector);
    let image = |config: &mut Value, image: &str| {
        config["injector"]["sidecar"]["image"] = json!(image);
    };
    let injected = async |wanted: &str| {
        let (status, pod) = webhook.dry_run(&labelled("reloaded")).await;
        assert_eq!(status, 201, "{pod}");
        pod["spec"]["initContainers"][0]["image"] == wanted
    };
    injector.reconfigure(|config| image(config, "registry.example/other:1"));
    injector
        .shows("injector_config_reloads_total{outcome=\"reloaded\"} 1")
        .await;
    assert!(injected("registry.example/other:1").await);
    injector.reconfigure(|config| {
        image(config, "registry.example/third:1");
        config["endpoints"][0]["nonsense"] = json!(1);
    });
    let refused = event(install, "injector", "ConfigRefused").await;
    let note = refused["note"].as_str().unwrap();
    assert!(note.contains("endpoints[0].nonsense"), "{note}");
    assert!(injected("registry.example/other:1").await);
    assert_eq!(injector.readiness().await.0, 200);
}

/// What `helm upgrade` with one more endpoint does, but for the kubelet: both files change, and the webhook gets an entry.
#[tokio::test]
async fn an_endpoint_that_comes_costs_no_exchange_and_no_admission() {
    let webhook = Webhook::start().await;
    let Webhook {
        install,
        injector,
        restricted,
        server,
    } = &webhook;
    let (_, token) = install.good_token().await;
    let done = AtomicBool::new(false);
    let exchanges = async {
        let mut asked = 0;
        while !done.load(Ordering::Relaxed) {
            assert_eq!(server.exchange_status(install, &token).await, 200);
            asked += 1;
        }
        asked
    };
    let admissions = async {
        let mut asked = 0;
        while !done.load(Ordering::Relaxed) {
            let (status, pod) = webhook.dry_run(&labelled("first")).await;
            assert!(status == 201 && is_injected(&pod), "{status} {pod}");
            asked += 1;
        }
        asked
    };
    let upgrade = async {
        server.reconfigure(second);
        injector.reconfigure(second);
        let mut configuration = install.plane.get(&webhook.configuration()).await;
        let entries = configuration["webhooks"].as_array_mut().unwrap();
        entries.push(entry(install, restricted, "second"));
        let path = webhook.configuration();
        drop(install.plane.ok("PUT", &path, Some(&configuration)).await);
        let mut wants = labelled("second");
        wants["metadata"]["labels"] = json!({"tremolo.io/second-role": "true"});
        wants["metadata"]["annotations"] = json!({"tremolo.io/second-role": ROLE});
        eventually("a pod of the new endpoint", async || {
            let (status, pod) = webhook.dry_run(&wants).await;
            (status == 201 && is_injected(&pod)).then_some(())
        })
        .await;
        server
            .shows("sts_config_reloads_total{outcome=\"reloaded\"} 1")
            .await;
        done.store(true, Ordering::Relaxed);
    };
    let (exchanges, admissions, ()) = tokio::join!(exchanges, admissions, upgrade);
    assert!(
        exchanges > 10 && admissions > 10,
        "{exchanges} {admissions}"
    );
}

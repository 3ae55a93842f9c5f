//! `verification: watch`: what the API server need not be asked, and what becomes of tokens when it says nothing any more. The server has
//! no right to create TokenReviews here.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::control_plane::ControlPlane;
use super::install::{Install, Pod, Variant, WATCH};
use super::process::Process;
use super::wait::eventually;

/// What we promise of a deleted pod's token.
const PROMISE: Duration = Duration::from_secs(2);

fn watching(config: &mut Value) {
    config["endpoints"][0]["verification"] = json!("watch");
}

async fn start_on(install: &Install) -> Process {
    let mut server = Process::server_with(install, watching);
    server.becomes_ready().await;
    server
}

async fn start() -> (Install, Process) {
    let install = Install::variant(WATCH).await;
    let server = start_on(&install).await;
    (install, server)
}

async fn is_refused_in_time(server: &Process, install: &Install, token: &str, reason: &str) {
    // A client of this test's own: making one would count against the promise.
    let client = server.client(install).await;
    let url = server.url(install, "/aws/token");
    let begin = Instant::now();
    let refused = eventually("refusal", async || {
        let answer = client.post(&url).bearer_auth(token).send().await.unwrap();
        (answer.status() != 200).then(|| answer.status())
    });
    assert_eq!(refused.await, 401);
    assert!(begin.elapsed() < PROMISE, "{:?}", begin.elapsed());
    assert_eq!(server.first_refusal().await, reason);
}

async fn delete(install: &Install, pod: &Pod) {
    let path = install.apps_path(&format!("pods/{}", pod.name));
    install.plane.delete(&path).await;
}

#[tokio::test]
async fn live_003_a_deleted_pods_token_is_refused_within_two_seconds() {
    let (install, server) = start().await;
    let (pod, token) = install.good_token().await;
    assert_eq!(server.exchange_status(&install, &token).await, 200);
    assert_eq!(server.audit_line(1).await["confirmed_by"], "watch");
    delete(&install, &pod).await;
    is_refused_in_time(&server, &install, &token, "pod_gone").await;
}

#[tokio::test]
async fn live_002_a_watched_pod_of_the_same_name_is_another_one() {
    let (install, server) = start().await;
    let (pod, token) = install.good_token().await;
    assert_eq!(server.exchange_status(&install, &token).await, 200);
    delete(&install, &pod).await;
    let next = install.create_pod(&pod.name, "app").await;
    is_refused_in_time(&server, &install, &token, "pod_gone").await;
    let token = install.pod_token(&next, Some(&install.audience())).await;
    assert_eq!(server.exchange_status(&install, &token).await, 200);
}

#[tokio::test]
async fn live_008_a_watched_service_account_made_anew_is_another_one() {
    let (install, server) = start().await;
    let (_, token) = install.good_token().await;
    assert_eq!(server.exchange_status(&install, &token).await, 200);
    let account = install.apps_path("serviceaccounts/app");
    install.plane.delete(&account).await;
    install.create_account(&install.apps, "app").await;
    is_refused_in_time(&server, &install, &token, "service_account_gone").await;
    let (_, token) = install.good_token().await;
    assert_eq!(server.exchange_status(&install, &token).await, 200);
}

#[tokio::test]
async fn live_006_a_pod_that_has_finished_is_refused() {
    let (install, server) = start().await;
    let (pod, token) = install.good_token().await;
    assert_eq!(server.exchange_status(&install, &token).await, 200);
    let path = install.apps_path(&format!("pods/{}/status", pod.name));
    let finished = json!({"status": {"phase": "Succeeded"}});
    drop(install.plane.ok("PATCH", &path, Some(&finished)).await);
    is_refused_in_time(&server, &install, &token, "pod_gone").await;
}

/// A pod may ask before its event is here: then it is looked for, and found.
#[tokio::test]
async fn live_022_a_pod_that_asks_at_once_gets_its_token() {
    let (install, server) = start().await;
    let client = server.client(&install).await;
    for _ in 0..20 {
        let (_, token) = install.good_token().await;
        let request = client.post(server.url(&install, "/aws/token"));
        let answer = request.bearer_auth(token).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{:?}", server.lines());
    }
}

/// Without the right to watch there are no events: what is new is always looked for, what is gone never seen to go. When that has lasted
/// too long, nobody gets a token any more.
#[tokio::test]
async fn live_020_022_without_events_misses_are_asked_for_until_the_watch_is_too_old() {
    let variant = Variant {
        presence: &["list"],
        ..WATCH
    };
    let install = Install::variant(variant).await;
    let server = start_on(&install).await;
    let (pod, token) = install.good_token().await;
    assert_eq!(server.exchange_status(&install, &token).await, 200);
    delete(&install, &pod).await;
    assert_eq!(server.exchange_status(&install, &token).await, 401);
    assert_eq!(server.reason(2).await, "pod_gone");
    let (_, token) = install.good_token().await;
    let client = server.client(&install).await;
    let exchange = || {
        let request = client.post(server.url(&install, "/aws/token"));
        request.bearer_auth(&token).send()
    };
    becomes_unavailable(&server, exchange).await;
}

/// A cluster in which nothing happens is no dead one.
#[tokio::test]
async fn live_020_silence_alone_makes_no_watch_old() {
    let plane: &'static ControlPlane = Box::leak(Box::new(ControlPlane::start().await));
    let install = Install::on(plane, WATCH).await;
    let server = start_on(&install).await;
    let (_, token) = install.good_token().await;
    let client = server.client(&install).await;
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(35) {
        let request = client.post(server.url(&install, "/aws/token"));
        let answer = request.bearer_auth(&token).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{:?}", begin.elapsed());
        assert_eq!(server.readiness().await.0, 200);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// An API server that hangs: known pods go on without a call, until what is known is too old. Then nobody does, until it answers again.
#[tokio::test]
async fn live_020_a_paused_api_server_is_not_asked_and_then_not_believed() {
    let plane: &'static ControlPlane = Box::leak(Box::new(ControlPlane::start().await));
    let install = Install::on(plane, WATCH).await;
    let server = start_on(&install).await;
    let (_, token) = install.good_token().await;
    assert_eq!(server.exchange_status(&install, &token).await, 200);
    let client = server.client(&install).await;
    let exchange = || {
        let request = client.post(server.url(&install, "/aws/token"));
        request.bearer_auth(&token).send()
    };
    eventually("the pod's event", async || {
        let count = r#"sts_watched_objects{cluster="kubernetes",kind="pods"} 1"#;
        server.metrics().await.contains(count).then_some(())
    })
    .await;
    plane.signal(Signal::SIGSTOP);
    let begin = Instant::now();
    for _ in 0..20 {
        assert_eq!(exchange().await.unwrap().status(), 200);
    }
    assert!(begin.elapsed() < Duration::from_secs(3), "nobody was asked");
    becomes_unavailable(&server, exchange).await;
    plane.signal(Signal::SIGCONT);
    eventually("tokens again", async || {
        (exchange().await.unwrap().status() == 200).then_some(())
    })
    .await;
    eventually("ready again", async || {
        (server.readiness().await.0 == 200).then_some(())
    })
    .await;
}

/// etcd put back to an older state, as after a disaster: the version that the watch has seen lies ahead of the store's own, so that a watch from
/// there would be open and bring nothing.
#[tokio::test]
async fn live_021_a_store_that_was_put_back_is_listed_anew() {
    let plane: &'static ControlPlane = Box::leak(Box::new(ControlPlane::start().await));
    let install = Install::on(plane, WATCH).await;
    let server = start_on(&install).await;
    let (pod, token) = install.good_token().await;
    assert_eq!(server.exchange_status(&install, &token).await, 200);
    plane.keep_a_copy().await;
    for _ in 0..50 {
        let (pod, _) = install.good_token().await;
        delete(&install, &pod).await;
    }
    eventually("the last event", async || {
        let count = r#"sts_watched_objects{cluster="kubernetes",kind="pods"} 1"#;
        server.metrics().await.contains(count).then_some(())
    })
    .await;
    plane.put_back().await;
    delete(&install, &pod).await;
    eventually("refusal", async || {
        (server.exchange_status(&install, &token).await == 401).then_some(())
    })
    .await;
    assert!(
        server
            .audit()
            .iter()
            .any(|line| line["reason"] == "pod_gone")
    );
}

/// Waits until a token that was good is answered with 503, and looks at what is said of that elsewhere.
async fn becomes_unavailable<F>(server: &Process, exchange: impl Fn() -> F)
where
    F: Future<Output = reqwest::Result<reqwest::Response>>,
{
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let answer = exchange().await.unwrap();
        if answer.status() == 503 {
            assert_eq!(answer.headers()["retry-after"], "5");
            break;
        }
        assert_eq!(answer.status(), 200);
        assert!(Instant::now() < deadline, "it goes on for ever");
        tokio::time::sleep(super::wait::POLL).await;
    }
    let readiness = eventually("not ready", async || {
        let (status, text) = server.readiness().await;
        (status == 503).then_some(text)
    });
    let text = readiness.await;
    assert!(text.contains("gave no sign of life"), "{text}");
    let down = r#"sts_watch_up{cluster="kubernetes"} 0"#;
    assert!(server.metrics().await.contains(down));
}

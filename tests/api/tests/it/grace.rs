//! `grace`: an API server that falls silent for a short time.

use nix::sys::signal::Signal;
use serde_json::json;

use super::control_plane::ControlPlane;
use super::install::{Install, Variant};
use super::process::Process;

#[tokio::test]
async fn a_subject_that_was_alive_just_now_is_bridged_and_a_new_one_is_not() {
    let plane: &'static ControlPlane = Box::leak(Box::new(ControlPlane::start().await));
    let install = Install::on(plane, Variant::default()).await;
    let mut server = Process::server_with(&install, |config| {
        config["endpoints"][0]["grace"] = json!("60s");
    });
    server.becomes_ready().await;
    let (_, known) = install.good_token().await;
    let (_, unknown) = install.good_token().await;
    assert_eq!(server.exchange_status(&install, &known).await, 200);
    let client = server.client(&install).await;
    let exchange = async |token: &str| {
        let request = client.post(server.url(&install, "/aws/token"));
        request.bearer_auth(token).send().await.unwrap()
    };
    plane.signal(Signal::SIGSTOP);
    assert_eq!(exchange(&known).await.status(), 200);
    let refused = exchange(&unknown).await;
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.headers()["retry-after"], "5");
    plane.signal(Signal::SIGCONT);
    let usual = server.audit_line(1).await;
    let bridged = server.audit_line(2).await;
    assert_eq!(bridged["confirmed_by"], "grace");
    // Issued some seconds later, it ends earlier: it lives five minutes, not fifteen.
    let end = |line: &serde_json::Value| line["expires"].as_u64().unwrap();
    assert!(end(&bridged) + 300 < end(&usual), "{bridged} {usual}");
}

//! The router: media types, sizes, statuses, metrics.

use axum::body::{Body, Bytes, to_bytes};
use axum::http::{Method, Request, StatusCode, header};
use injector::accounts::Accounts;
use injector::endpoint::{Webhook, router};
use injector::intake::Intake;
use injector::metrics::Metrics;
use injector::server_ca::ServerCa;
use injector::settings::LiveSettings;
use prometheus_client::registry::Registry;
use serde_json::Value;
use tower::ServiceExt as _;

use crate::support::{CA, fixture, pod_with, review, settings};

fn webhook(registry: &mut Registry) -> Webhook {
    Webhook {
        settings: LiveSettings::new(settings()),
        server_ca: ServerCa::known(CA.clone()),
        accounts: Accounts::fixed([]),
        metrics: Metrics::register(registry),
        intake: Intake::default(),
    }
}

async fn post(media_type: Option<&str>, body: impl Into<Body>) -> (StatusCode, Bytes) {
    let router = router(webhook(&mut Registry::default()));
    let mut request = Request::builder().method(Method::POST).uri("/mutate/aws");
    if let Some(media_type) = media_type {
        request = request.header(header::CONTENT_TYPE, media_type);
    }
    let response = router
        .oneshot(request.body(body.into()).unwrap())
        .await
        .unwrap();
    let status = response.status();
    (
        status,
        to_bytes(response.into_body(), usize::MAX).await.unwrap(),
    )
}

fn bare() -> Vec<u8> {
    serde_json::to_vec(&review(&fixture("bare"))).unwrap()
}

#[tokio::test]
async fn adm_001_answers_with_the_review() {
    let (status, body) = post(Some("application/json"), bare()).await;
    assert_eq!(status, StatusCode::OK);
    let answer: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(answer["response"]["uid"], "5f1b2c3d-uid");
    assert_eq!(answer["response"]["allowed"], true);
}

#[tokio::test]
async fn adm_026_bad_request_for_what_is_no_review() {
    for body in [
        "",
        "{}",
        "null",
        "[]",
        "{\"apiVersion\":\"v1\"}",
        "not json",
    ] {
        let (status, _) = post(Some("application/json"), body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
    }
}

#[tokio::test]
async fn adm_027_body_of_four_mebibytes_is_the_largest() {
    let limit = 4 * 1024 * 1024;
    let mut body = bare();
    body.resize(limit, b' ');
    assert_eq!(
        post(Some("application/json"), body.clone()).await.0,
        StatusCode::OK
    );
    body.push(b' ');
    assert_eq!(
        post(Some("application/json"), body).await.0,
        StatusCode::PAYLOAD_TOO_LARGE
    );
}

#[tokio::test]
async fn adm_027_duplicate_keys_and_invalid_utf8_are_bad_requests() {
    let text = String::from_utf8(bare()).unwrap();
    let label = "\"tremolo.io/aws-role\":\"true\"";
    for (once, twice) in [
        ("\"uid\":", "\"uid\":\"other\",\"uid\":"),
        ("\"labels\":", "\"labels\":{},\"labels\":"),
        (
            label,
            "\"tremolo.io/aws-role\":\"false\",\"tremolo.io/aws-role\":\"true\"",
        ),
    ] {
        let doubled = text.replacen(once, twice, 1);
        assert_ne!(doubled, text);
        let (status, _) = post(Some("application/json"), doubled).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{once}");
    }
    let mut invalid = text.replacen("canary-user", "canary~user", 1).into_bytes();
    let at = invalid
        .windows(7)
        .position(|window| window == b"canary~")
        .unwrap()
        + 6;
    invalid[at] = 0xff;
    assert_eq!(
        post(Some("application/json"), invalid).await.0,
        StatusCode::BAD_REQUEST
    );
}

#[tokio::test]
async fn adm_027_depth_bomb_is_refused_where_we_read_and_harmless_where_we_do_not() {
    let bomb = format!("{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
    let text = String::from_utf8(bare()).unwrap();
    let read = text.replacen("[{\"", &format!("{bomb},\"x\":[{{\""), 1);
    assert_eq!(
        post(Some("application/json"), read).await.0,
        StatusCode::BAD_REQUEST
    );
    let unread = text.replacen(
        "\"containers\":",
        &format!("\"x\":{bomb},\"containers\":"),
        1,
    );
    assert_eq!(
        post(Some("application/json"), unread).await.0,
        StatusCode::OK
    );
}

#[tokio::test]
async fn adm_028_media_type_is_json_with_or_without_parameters() {
    for good in [
        "application/json",
        "application/json; charset=utf-8",
        "Application/JSON",
    ] {
        assert_eq!(post(Some(good), bare()).await.0, StatusCode::OK, "{good}");
    }
    for bad in [
        None,
        Some("text/plain"),
        Some("application/jsonp"),
        Some("application/yaml"),
    ] {
        assert_eq!(
            post(bad, bare()).await.0,
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "{bad:?}"
        );
    }
}

#[tokio::test]
async fn only_post_mutate_is_served() {
    for (method, path, expected) in [
        (Method::GET, "/mutate/aws", StatusCode::METHOD_NOT_ALLOWED),
        (Method::GET, "/mutate", StatusCode::METHOD_NOT_ALLOWED),
        (Method::POST, "/mutate/", StatusCode::NOT_FOUND),
        (Method::POST, "/mutate/aws/more", StatusCode::NOT_FOUND),
        (Method::POST, "/", StatusCode::NOT_FOUND),
    ] {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .body(Body::empty())
            .unwrap();
        let response = router(webhook(&mut Registry::default()))
            .oneshot(request)
            .await
            .unwrap();
        assert_eq!(response.status(), expected, "{path}");
    }
}

/// The webhook configuration of an upgrade is there before the injector that knows the new endpoint.
#[tokio::test]
async fn an_endpoint_that_is_not_known_yet_is_a_refusal_and_not_a_pod_without_a_token() {
    let mut pod = fixture("bare");
    for labels in [
        serde_json::json!({"tremolo.io/new-role": "true"}),
        serde_json::json!({"tremolo.io/aws-role": "true", "tremolo.io/new-role": "true"}),
    ] {
        pod["metadata"]["labels"] = labels;
        let body = serde_json::to_vec(&review(&pod)).unwrap();
        let request = Request::post("/mutate/new").header(header::CONTENT_TYPE, "application/json");
        let request = request.body(Body::from(body)).unwrap();
        let router = router(webhook(&mut Registry::default()));
        let response = router.oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        let answer: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(answer["response"]["allowed"], false);
        let status = &answer["response"]["status"];
        assert_eq!(status["code"], 503);
        assert_eq!(
            status["message"],
            "pod apps/bare: this injector does not know endpoint new yet: try again in a few seconds"
        );
    }
}

#[tokio::test]
async fn decisions_are_counted_by_endpoint_decision_and_reason() {
    let mut registry = Registry::default();
    let router = router(webhook(&mut registry));
    let unlabelled = pod_with("/metadata/labels", serde_json::json!({}));
    let denied = pod_with("/spec/hostNetwork", serde_json::json!(true));
    for pod in [fixture("two-endpoints"), unlabelled, denied] {
        let body = serde_json::to_vec(&review(&pod)).unwrap();
        let request = Request::post("/mutate/aws").header(header::CONTENT_TYPE, "application/json");
        let request = request.body(Body::from(body)).unwrap();
        assert_eq!(
            router.clone().oneshot(request).await.unwrap().status(),
            StatusCode::OK
        );
    }
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for line in [
        r#"injector_decisions_total{endpoint="aws",decision="inject",reason="label"} 1"#,
        r#"injector_decisions_total{endpoint="vault",decision="inject",reason="label"} 1"#,
        r#"injector_decisions_total{endpoint="",decision="skip",reason="unlabelled"} 1"#,
        r#"injector_decisions_total{endpoint="aws",decision="deny",reason="host_network"} 1"#,
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
}

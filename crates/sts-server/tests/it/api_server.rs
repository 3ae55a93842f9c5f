//! What is asked of the API server and when. It is a stand-in: the real one cannot be made to give no answer, or a wrong one.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use reqwest::{Certificate, Client};
use test_support::{TestKey, TokenBuilder};
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::support::{Server, Setup, eventually, refused, token, valid};

/// What the API server answers to TokenReviews.
#[derive(Clone)]
enum Answer {
    /// This status and body.
    Body(u16, String),
    /// Nothing, ever.
    Nothing,
    /// A body that comes byte by byte.
    Slowly,
}

impl Answer {
    fn body(status: u16, body: impl Into<String>) -> Self {
        Self::Body(status, body.into())
    }

    async fn give(self) -> Response {
        match self {
            Self::Body(status, body) => {
                let kind = [(header::CONTENT_TYPE, "application/json")];
                (StatusCode::from_u16(status).unwrap(), kind, body).into_response()
            }
            Self::Nothing => std::future::pending().await,
            Self::Slowly => {
                let bytes = futures_util::stream::unfold((), async |()| {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                    Some((Ok::<_, Infallible>("x"), ()))
                });
                Body::from_stream(bytes).into_response()
            }
        }
    }
}

/// What a stand-in was asked, and what it answers next.
struct StandIn {
    reviews: Arc<AtomicUsize>,
    /// Requests to where the discovery document says that the keys are.
    misled: Arc<AtomicUsize>,
    answer: Arc<Mutex<Answer>>,
}

/// A server whose endpoint `aws` asks an API server that has keys, and answers TokenReviews as the test says.
async fn start_with(answer: Answer) -> (Server, StandIn) {
    start_in("tokenReview", answer).await
}

/// The same, with this `verification:` and what follows it.
async fn start_in(verification: &str, answer: Answer) -> (Server, StandIn) {
    start_as(TokenBuilder::ISSUER, verification, answer, Vec::new()).await
}

/// The same, of an API server with that issuer, and with more changes of the configuration.
async fn start_as(
    issuer: &str,
    verification: &str,
    answer: Answer,
    changes: Vec<(String, String)>,
) -> (Server, StandIn) {
    let mut setup = Setup::new();
    let stand_in = StandIn {
        reviews: Arc::default(),
        misled: Arc::default(),
        answer: Arc::new(Mutex::new(answer)),
    };
    let (counter, answers) = (Arc::clone(&stand_in.reviews), Arc::clone(&stand_in.answer));
    let review = async move || {
        counter.fetch_add(1, Ordering::Relaxed);
        let answer = answers.lock().unwrap().clone();
        answer.give().await
    };
    let keys = TestKey::jwks(&[TestKey::rsa()]);
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let discovery = serde_json::json!({
        "issuer": issuer,
        "jwks_uri": format!("http://{}/keys", elsewhere.local_addr().unwrap()),
    });
    let router = Router::new()
        .route(
            "/.well-known/openid-configuration",
            get(async move || discovery.to_string()),
        )
        .route("/openid/v1/jwks", get(async move || keys))
        .route("/apis/authentication.k8s.io/v1/tokenreviews", post(review));
    let misled = Arc::clone(&stand_in.misled);
    let trap = Router::new().fallback(async move || {
        misled.fetch_add(1, Ordering::Relaxed);
        TestKey::jwks(&[TestKey::other_rsa()])
    });
    serve(elsewhere, trap);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    serve(listener, router);
    let kubeconfig = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: a\nclusters: [{{name: a, cluster: {{server: \"http://{address}\"}}}}]\n\
         contexts: [{{name: a, context: {{cluster: a, user: a}}}}]\nusers: [{{name: a, user: {{}}}}]\n"
    );
    let path = setup.path("kubeconfig");
    std::fs::write(&path, kubeconfig).unwrap();
    setup.kubeconfig = Some(path);
    let file = format!("{{file: {}}}", setup.path("jwks.json").display());
    let written = format!("  issuer: {}\n", TokenBuilder::ISSUER);
    setup.changes = vec![
        (file, "{apiServer: {}}".to_owned()),
        (written, String::new()),
        (
            "verification: jwks\n  rules:".to_owned(),
            format!("verification: {verification}\n  rules:"),
        ),
    ];
    setup.changes.extend(changes);
    (setup.start().await, stand_in)
}

fn serve(listener: TcpListener, router: Router) {
    #[expect(
        clippy::disallowed_methods,
        reason = "the test itself stands for the process"
    )]
    drop(tokio::task::spawn(async move {
        axum::serve(listener, router).await.unwrap();
    }));
}

async fn start() -> (Server, Arc<AtomicUsize>) {
    let (server, stand_in) = start_with(Answer::Nothing).await;
    (server, stand_in.reviews)
}

/// A review that vouches for [`token`].
fn good_review() -> String {
    serde_json::json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "metadata": {}, "spec": {},
        "status": {
            "authenticated": true, "audiences": [TokenBuilder::AUDIENCE],
            "user": {
                "username": "system:serviceaccount:team-a:app", "uid": TokenBuilder::SERVICE_ACCOUNT_UID,
                "extra": {
                    "authentication.kubernetes.io/pod-name": ["p1"],
                    "authentication.kubernetes.io/pod-uid": [TokenBuilder::POD_UID],
                },
            },
        },
    })
    .to_string()
}

#[tokio::test]
async fn live_017_answers_that_say_nothing_are_503() {
    let (server, stand_in) = start_with(Answer::Nothing).await;
    let large = format!("{{\"x\":\"{}\"}}", "x".repeat(5 << 20));
    for answer in [
        Answer::body(429, "{}"),
        Answer::body(500, "{}"),
        Answer::body(201, "{"),
        Answer::body(201, "{}"),
        Answer::body(201, large),
        Answer::body(302, ""),
        Answer::Slowly,
    ] {
        *stand_in.answer.lock().unwrap() = answer;
        let begin = Instant::now();
        let response = server.bearer("/aws/token", &token()).await;
        let headers = refused(response, 503, "temporarily_unavailable").await;
        assert_eq!(headers["retry-after"], "5");
        assert!(
            begin.elapsed() < Duration::from_secs(9),
            "{:?}",
            begin.elapsed()
        );
    }
    *stand_in.answer.lock().unwrap() = Answer::body(201, good_review());
    assert_eq!(server.bearer("/aws/token", &token()).await.status(), 200);
    let log = server.lines().join("\n");
    assert!(!log.contains(&token()), "no token in the log");
}

/// Grace bridges an API server that is silent; what it refuses is its word, and a no puts an end to an older yes.
#[tokio::test]
async fn grace_counts_only_while_the_api_server_is_silent_and_until_it_says_no() {
    let good = || Answer::body(201, good_review());
    let (server, stand_in) = start_in("tokenReview\n  grace: 1m", good()).await;
    let ask = async |answer: Answer| {
        *stand_in.answer.lock().unwrap() = answer;
        let response = server.bearer("/aws/token", &token()).await;
        response.status().as_u16()
    };
    assert_eq!(ask(Answer::body(500, "{}")).await, 503, "no word yet");
    assert_eq!(ask(good()).await, 200);
    for answer in [
        Answer::body(500, "{}"),
        Answer::body(503, ""),
        Answer::Nothing,
    ] {
        assert_eq!(ask(answer).await, 200);
    }
    for (status, body) in [(401, "{}"), (403, "{}"), (429, "{}"), (201, "{"), (302, "")] {
        let answer = Answer::body(status, body);
        assert_eq!(ask(answer).await, 503, "{status} {body}");
    }
    assert_eq!(ask(Answer::body(500, "{}")).await, 200, "that was no no");
    let gone = good_review().replace("\"authenticated\":true", "\"authenticated\":false");
    assert_eq!(ask(Answer::body(201, gone)).await, 401);
    assert_eq!(ask(Answer::body(500, "{}")).await, 503, "it has said no");
    let lines = server.audit(13).await;
    assert_eq!(lines[2]["confirmed_by"], "grace");
}

/// There is no cache of verdicts: each exchange is a question.
#[tokio::test]
async fn live_019_two_exchanges_are_two_reviews() {
    let (server, stand_in) = start_with(Answer::body(201, good_review())).await;
    for count in 1..=2 {
        assert_eq!(server.bearer("/aws/token", &token()).await.status(), 200);
        assert_eq!(stand_in.reviews.load(Ordering::Relaxed), count);
    }
}

#[tokio::test]
async fn jwks_004_where_a_document_says_that_the_keys_are_is_not_followed() {
    let (server, stand_in) = start_with(Answer::body(201, good_review())).await;
    assert_eq!(server.bearer("/aws/token", &token()).await.status(), 200);
    let forged = valid().sign(TestKey::other_rsa());
    let response = server.bearer("/aws/token", &forged).await;
    refused(response, 401, "invalid_token").await;
    assert_eq!(stand_in.misled.load(Ordering::Relaxed), 0);
}

/// Else anybody could make us ask the API server, as often as it pleases him.
#[tokio::test]
async fn nobody_is_asked_about_a_token_that_no_key_of_the_issuer_has_signed() {
    let (server, stand_in) = start_with(Answer::body(201, good_review())).await;
    let good = token();
    let (message, signature) = good.rsplit_once('.').unwrap();
    let other = valid().claim("jti", "other").sign(TestKey::rsa());
    let (other_message, other_signature) = other.rsplit_once('.').unwrap();
    let known = TestKey::rsa().kid();
    for forged in [
        valid().header("kid", known).sign(TestKey::other_rsa()),
        valid().sign(TestKey::other_rsa()),
        format!("{other_message}.{signature}"),
        format!("{message}.{other_signature}"),
        format!("{message}."),
    ] {
        let response = server.bearer("/aws/token", &forged).await;
        refused(response, 401, "invalid_token").await;
    }
    assert_eq!(stand_in.reviews.load(Ordering::Relaxed), 0);
    assert_eq!(server.bearer("/aws/token", &good).await.status(), 200);
    assert_eq!(stand_in.reviews.load(Ordering::Relaxed), 1);
}

/// The alarm that catalogue and operators know it by is a count of its own.
#[tokio::test]
async fn live_014_a_disagreement_is_counted() {
    let other = good_review().replace("team-a:app", "team-a:other");
    let (server, _) = start_with(Answer::body(201, other)).await;
    let response = server.bearer("/aws/token", &token()).await;
    refused(response, 401, "invalid_token").await;
    let metrics = server.admin("/metrics").await.text().await.unwrap();
    assert!(
        metrics.contains(r#"reason="review_disagrees"} 1"#),
        "{metrics}"
    );
}

/// What an API server that hangs takes up is bounded: whoever needs no answer of it goes on.
#[tokio::test]
async fn live_017_an_api_server_that_hangs_takes_its_share_and_no_more() {
    const SHARE: usize = 384;
    const MORE: usize = 140;
    let (server, stand_in) = start_with(Answer::Nothing).await;
    let pem = std::fs::read(server.setup.path("ca.crt")).unwrap();
    let client = Client::builder()
        .tls_certs_only(Certificate::from_pem_bundle(&pem).unwrap())
        .resolve("localhost", server.listen)
        .http1_only()
        .build()
        .unwrap();
    let (token, url) = (token(), server.url("/aws/token"));
    let ask = |_| client.post(&url).bearer_auth(&token).send();
    let mut asking: FuturesUnordered<_> = (0..SHARE + MORE).map(ask).collect();
    for _ in 0..MORE {
        let answer = asking.next().await.unwrap().unwrap();
        assert_eq!(answer.status(), 503);
        assert_eq!(answer.headers()["retry-after"], "5");
    }
    assert_eq!(stand_in.reviews.load(Ordering::Relaxed), SHARE);
    // The other endpoint asks nobody.
    let token = valid().claim("aud", serde_json::json!(["https://sts.test/aws2"]));
    let token = token.sign(TestKey::rsa());
    assert_eq!(server.bearer("/aws2/token", &token).await.status(), 200);
    assert_eq!(asking.len(), SHARE, "they still wait");
}

#[tokio::test]
async fn nobody_is_reviewed_whom_no_rule_allows() {
    let (server, reviews) = start().await;
    let token = valid()
        .claim("sub", "system:serviceaccount:team-b:app")
        .at("/kubernetes.io/namespace", "team-b")
        .sign(TestKey::rsa());
    let response = server.bearer("/aws/token", &token).await;
    refused(response, 403, "insufficient_scope").await;
    assert_eq!(reviews.load(Ordering::Relaxed), 0);
}

/// A caller that goes away before the answer leaves its trace like any other.
#[tokio::test]
async fn an_abandoned_exchange_is_recorded() {
    let (server, reviews) = start().await;
    let request = server.request("POST", "/aws/token").bearer_auth(token());
    let request = request.timeout(Duration::from_millis(300));
    assert!(request.send().await.is_err(), "nobody answers the review");
    eventually("the review", async || {
        (reviews.load(Ordering::Relaxed) == 1).then_some(())
    })
    .await;
    let lines = server.audit(1).await;
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["reason"], "backend_unavailable");
    assert_eq!(lines[0]["namespace"], "team-a");
    let metrics = server.admin("/metrics").await.text().await.unwrap();
    let count =
        r#"sts_exchange_total{endpoint="aws",outcome="deny",reason="backend_unavailable"} 1"#;
    assert!(metrics.contains(count), "{metrics}");
}

fn change(from: &str, to: &str) -> (String, String) {
    (from.to_owned(), to.to_owned())
}

/// The API server says only while we run that it is who another cluster is already: their tokens cannot be told apart. Whoever takes one
/// of them alone goes on.
#[tokio::test]
async fn an_issuer_that_turns_out_to_be_two_clusters_gets_no_token_where_both_are_taken() {
    let blue = format!(
        "- name: blue\n  issuer: {}\n  jwks: {{file: /none}}\nendpoints:",
        TokenBuilder::ISSUER
    );
    let changes = vec![
        change("endpoints:", &blue),
        change("path: /aws\n", "path: /aws\n  subject: openunison\n"),
        change("path: /aws2\n", "path: /aws2\n  clusters: [elsewhere]\n"),
    ];
    let (server, _) = start_as(TokenBuilder::ISSUER, "jwks", Answer::Nothing, changes).await;
    let response = server.bearer("/aws/token", &token()).await;
    let headers = refused(response, 503, "temporarily_unavailable").await;
    assert_eq!(headers["retry-after"], "5");
    let detail = server.audit(1).await[0]["detail"].to_string();
    assert!(detail.contains("alone has the token's issuer"), "{detail}");
    let token = valid().claim("aud", "https://sts.test/aws2");
    let token = token.sign(TestKey::rsa());
    assert_eq!(server.bearer("/aws2/token", &token).await.status(), 200);
    let log = server.lines();
    let said = log
        .iter()
        .filter(|line| line.contains("cannot be told apart"));
    let said: Vec<&String> = said.collect();
    assert_eq!(said.len(), 1, "{log:?}");
    assert!(said[0].contains("--service-account-issuer") && said[0].contains("ERROR"));
    let metrics = server.admin("/metrics").await.text().await.unwrap();
    let shown = metrics
        .lines()
        .filter(|line| line.starts_with("sts_cluster_conflict"));
    let shown: Vec<&str> = shown.collect();
    assert_eq!(
        shown,
        [r#"sts_cluster_conflict{endpoint="aws",setting="issuer"} 1"#]
    );
}

/// Written, it would be refused: an API server's issuer is its audience, and so that of each pod's default token.
#[tokio::test]
async fn a_token_audience_that_turns_out_to_be_an_api_servers_is_no_way_around_danger() {
    const OWN: &str = "https://own.example.com";
    let default = valid().claim("iss", OWN).claim("aud", OWN);
    let default = default.sign(TestKey::rsa());
    let audience = change(
        "path: /aws\n",
        &format!("path: /aws\n  tokenAudience: {OWN}\n"),
    );
    let (server, _) = start_as(OWN, "jwks", Answer::Nothing, vec![audience.clone()]).await;
    let response = server.bearer("/aws/token", &default).await;
    refused(response, 503, "temporarily_unavailable").await;
    let metrics = server.admin("/metrics").await.text().await.unwrap();
    let shown = r#"sts_cluster_conflict{endpoint="aws",setting="tokenAudience"} 1"#;
    assert!(metrics.contains(shown), "{metrics}");
    // A running server does not take it over.
    let (server, _) = start_as(OWN, "jwks", Answer::Nothing, Vec::new()).await;
    let text = server.setup.text(server.listen, server.admin);
    let text = text.replace(&audience.0, &audience.1);
    drop(server.setup.write_config(&text));
    eventually("the refusal", async || {
        let refused = |line: &String| {
            line.contains("configuration is refused") && line.contains("tokenAudience is")
        };
        server.lines().iter().any(refused).then_some(())
    })
    .await;
    let token = valid().claim("iss", OWN).sign(TestKey::rsa());
    assert_eq!(server.bearer("/aws/token", &token).await.status(), 200);
    let response = server.bearer("/aws/token", &default).await;
    refused(response, 401, "invalid_token").await;
}

//! What is asked of the API server, and how often, whatever is posted.

use std::convert::Infallible;
use std::sync::Mutex;

use axum::http::{Request, Response};
use futures_util::future::join_all;
use kube::client::Body;
use tokio::time::{advance, sleep};

use super::*;
use crate::review::parse_review;

/// An API server that has no ServiceAccount but `new`, and what was asked of it.
#[derive(Clone, Default)]
struct Asked(Arc<Mutex<Vec<String>>>);

impl Asked {
    fn accounts(&self) -> Accounts {
        let asked = self.clone();
        let answer = move |request: Request<Body>| {
            let path = request.uri().to_string();
            let (status, body) = if path.ends_with("/new") {
                let new = r#"{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"name":"new"}}"#;
                (200, new)
            } else {
                let missing = r#"{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404}"#;
                (404, missing)
            };
            asked.0.lock().unwrap().push(path);
            async move {
                sleep(Duration::from_millis(50)).await;
                let response = Response::builder().status(status);
                Ok::<_, Infallible>(response.body(Body::from(body.as_bytes().to_vec())).unwrap())
            }
        };
        let client = Client::new(tower::service_fn(answer), "default");
        Accounts::new(client, "eks.amazonaws.com", Duration::from_secs(1))
    }

    fn times(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

async fn lookup(accounts: &Accounts, namespace: &str, name: &str) -> Lookup {
    let review = serde_json::json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "1", "kind": {"group": "", "version": "v1", "kind": "Pod"}, "operation": "CREATE", "namespace": namespace,
            "object": {"spec": {"serviceAccountName": name, "containers": []}},
        },
    });
    let body = review.to_string();
    let review = parse_review(body.as_bytes()).unwrap();
    accounts.facts(&review).await.lookup
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_a_service_account_is_missing_and_never_asked_for() {
    let asked = Asked::default();
    let accounts = asked.accounts();
    for (namespace, name) in [
        ("../../../apis", "app"),
        ("apps", "../secrets/key"),
        ("apps", "app?watch=true"),
        ("apps", "app/token"),
        ("apps", ".."),
        ("apps#", "app"),
        ("", "app"),
        ("Apps", "app"),
        ("apps.other", "app"),
    ] {
        let lookup = lookup(&accounts, namespace, name).await;
        assert!(matches!(lookup, Lookup::Missing), "{namespace} {name}");
    }
    assert_eq!(asked.times(), 0);
}

/// A Job of many pods and its ServiceAccount, applied together.
#[tokio::test(start_paused = true)]
async fn many_pods_of_one_new_account_make_one_request_and_all_get_its_answer() {
    let asked = Asked::default();
    let accounts = asked.accounts();
    let answers = join_all((0..200).map(|_| lookup(&accounts, "apps", "new"))).await;
    let found = |answer| matches!(answer, Lookup::Found(_));
    assert!(answers.into_iter().all(found));
    assert_eq!(asked.times(), 1);
}

/// Anybody who reaches the port can post them.
#[tokio::test(start_paused = true)]
async fn a_flood_of_other_names_delays_a_pod_and_does_not_take_its_answer() {
    let asked = Asked::default();
    let accounts = asked.accounts();
    let names: Vec<String> = (0..5 * REQUESTS).map(|at| format!("other-{at}")).collect();
    let flood = join_all(names.iter().map(|name| lookup(&accounts, "apps", name)));
    let (others, answer) = tokio::join!(flood, lookup(&accounts, "apps", "new"));
    assert!(matches!(answer, Lookup::Found(_)), "{answer:?}");
    let missing = |answer| matches!(answer, Lookup::Missing);
    assert!(others.into_iter().all(missing));
}

#[tokio::test(start_paused = true)]
async fn whose_turn_does_not_come_in_time_is_unanswered_and_no_more_than_64_are_asked_for_at_once()
{
    let asked = Asked::default();
    let accounts = asked.accounts();
    let names: Vec<String> = (0..100 * REQUESTS)
        .map(|at| format!("other-{at}"))
        .collect();
    let begun = tokio::time::Instant::now();
    let flood = join_all(names.iter().map(|name| lookup(&accounts, "apps", name))).await;
    assert_eq!(begun.elapsed(), Duration::from_secs(1));
    let unanswered = |answer: &&Lookup| matches!(answer, Lookup::Unanswered);
    // Twenty rounds of 50 ms fit into a second, the last of which is cut off or not.
    let rounds = (names.len() - flood.iter().filter(unanswered).count()).div_ceil(REQUESTS);
    assert!((19..=20).contains(&rounds), "{rounds}");
    assert!(asked.times() <= 21 * REQUESTS, "{}", asked.times());
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_reviews_for_one_missing_account_costs_one_request_a_second() {
    let asked = Asked::default();
    let accounts = asked.accounts();
    for _ in 0..10 {
        let answers = join_all((0..REQUESTS).map(|_| lookup(&accounts, "apps", "app"))).await;
        let missing = |answer| matches!(answer, Lookup::Missing);
        assert!(answers.into_iter().all(missing));
    }
    assert_eq!(asked.times(), 1);
    advance(Duration::from_secs(1)).await;
    drop(lookup(&accounts, "apps", "app").await);
    assert_eq!(asked.times(), 2);
}

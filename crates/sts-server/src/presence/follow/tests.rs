use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::body::{Body, Bytes};
use axum::http::{Request, Response};
use futures_util::stream;
use svc_runtime::KubeClients;
use tokio::time::{Instant, timeout_at};

use super::*;
use crate::capacity::CommonPlaces;

const NOTHING: &str = r#"{"metadata":{"resourceVersion":"7"},"items":null}"#;
const POD: &str = r#"{"metadata":{"namespace":"n","name":"p","uid":"11111111-2222-4333-8444-555555555555","resourceVersion":"9"}}"#;

/// An API server: what it answers to a list, after some time, and to its so-manieth watch.
struct ApiServerLike {
    lists: AtomicU32,
    watches: AtomicU32,
    list: fn(Instant) -> (Duration, String),
    watch: fn(u32, Instant) -> Response<Body>,
    began: Instant,
}

impl ApiServerLike {
    fn new(watch: fn(u32, Instant) -> Response<Body>) -> Arc<Self> {
        Self::listing(|_| (Duration::ZERO, NOTHING.to_owned()), watch)
    }

    fn listing(
        list: fn(Instant) -> (Duration, String),
        watch: fn(u32, Instant) -> Response<Body>,
    ) -> Arc<Self> {
        Arc::new(Self {
            lists: AtomicU32::new(0),
            watches: AtomicU32::new(0),
            list,
            watch,
            began: Instant::now(),
        })
    }

    async fn answer(&self, request: Request<kube::client::Body>) -> Response<Body> {
        if request.uri().query().unwrap().contains("watch=true") {
            let number = self.watches.fetch_add(1, Ordering::Relaxed);
            return (self.watch)(number, self.began);
        }
        self.lists.fetch_add(1, Ordering::Relaxed);
        let (after, text) = (self.list)(self.began);
        sleep(after).await;
        Response::new(Body::from(text))
    }

    fn follow(self: &Arc<Self>) -> Followed {
        let this = Arc::clone(self);
        let answer = move |request| {
            let this = Arc::clone(&this);
            async move { Ok::<_, Infallible>(this.answer(request).await) }
        };
        let client = Client::new(tower::service_fn(answer), "default");
        let clients = KubeClients {
            watches: client.clone(),
            requests: client,
        };
        let api_server = ApiServer::own(clients, CommonPlaces::new());
        let cluster = ClusterName::parse("local").unwrap();
        Followed::new(cluster, Kind::Pod, api_server, Vec::new())
    }

    /// How often everything is listed in this time.
    async fn lists_in(self: Arc<Self>, seconds: u64) -> u32 {
        let followed = self.follow();
        let time = Duration::from_secs(seconds);
        assert!(timeout(time, followed.follow()).await.is_err());
        self.lists.load(Ordering::Relaxed)
    }
}

/// How often everything is listed in this time, by an API server whose watches all look like this.
async fn lists(watch: fn(u32, Instant) -> Response<Body>, seconds: u64) -> u32 {
    ApiServerLike::new(watch).lists_in(seconds).await
}

fn events(text: impl Into<Body>) -> Response<Body> {
    Response::new(text.into())
}

fn refusal(status: u16) -> Response<Body> {
    let text = format!(
        r#"{{"kind":"Status","apiVersion":"v1","metadata":{{}},"status":"Failure","message":"no","reason":"no","code":{status}}}"#
    );
    let response = Response::builder().status(status);
    response.body(Body::from(text)).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_opened_and_dead_twice_in_a_row_leads_to_a_new_list() {
    let dead = |_, _| {
        events(Body::from_stream(stream::pending::<
            Result<Bytes, Infallible>,
        >()))
    };
    assert_eq!(lists(dead, 30).await, 1);
    assert_eq!(lists(dead, 40).await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_malformed_event_leads_to_a_new_list() {
    let shapeless = |_, _| events("{\"type\":\"ADDED\",\"object\":{}}\n");
    assert_eq!(lists(shapeless, 15).await, 2);
    let no_uid = |_, _| {
        events(
            "{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"namespace\":\"n\",\"name\":\"p\",\"uid\":\"?\",\"resourceVersion\":\"9\"}}}\n",
        )
    };
    assert_eq!(lists(no_uid, 15).await, 2);
}

#[tokio::test(start_paused = true)]
async fn everything_is_listed_anew_every_five_minutes() {
    let quiet = |_, _| events(Body::empty());
    assert_eq!(lists(quiet, 290).await, 1);
    assert_eq!(lists(quiet, 310).await, 2);
}

/// What a watch did not bring would else be believed for ever.
#[tokio::test(start_paused = true)]
async fn live_020_a_watch_that_goes_on_does_not_make_up_for_lists_that_fail() {
    let once = |began: Instant| {
        let text = if began.elapsed() < LIST_EVERY {
            NOTHING
        } else {
            "no list"
        };
        (Duration::ZERO, text.to_owned())
    };
    let api_server = ApiServerLike::listing(once, |_, _| events(Body::empty()));
    let followed = api_server.follow();
    let until = api_server.began + LIST_EVERY + Duration::from_secs(40);
    assert!(timeout_at(until, followed.follow()).await.is_err());
    assert!(followed.age().unwrap() >= Duration::from_secs(39));
    assert!(api_server.watches.load(Ordering::Relaxed) > 300);
}

/// Its store may be an older one by then.
#[tokio::test(start_paused = true)]
async fn live_021_an_api_server_that_was_away_is_listed_when_it_is_back() {
    let away = |number, _| match number {
        3..6 => refusal(503),
        _ => events(Body::empty()),
    };
    assert_eq!(lists(away, 5).await, 1, "not before it is back");
    assert_eq!(lists(away, 30).await, 2, "and once");
}

/// A right that is missing must show, and not be made up for by lists.
#[tokio::test(start_paused = true)]
async fn a_watch_that_is_refused_leads_to_no_new_list() {
    let refused = |number, _| match number {
        3..6 => refusal(403),
        _ => events(Body::empty()),
    };
    assert_eq!(lists(refused, 290).await, 1);
}

#[tokio::test(start_paused = true)]
async fn live_021_what_goes_while_everything_is_listed_anew_is_seen_to_go() {
    let slow = |began: Instant| {
        let after = if began.elapsed() > LIST_EVERY {
            Duration::from_secs(15)
        } else {
            Duration::ZERO
        };
        (
            after,
            format!(r#"{{"metadata":{{"resourceVersion":"7"}},"items":[{POD}]}}"#),
        )
    };
    let late = |_, began: Instant| {
        if began.elapsed() > LIST_EVERY + Duration::from_secs(2) {
            events(format!("{{\"type\":\"DELETED\",\"object\":{POD}}}\n"))
        } else {
            events(Body::empty())
        }
    };
    let api_server = ApiServerLike::listing(slow, late);
    let followed = api_server.follow();
    let follow = async |seconds| {
        let until = api_server.began + LIST_EVERY + Duration::from_secs(seconds);
        assert!(timeout_at(until, followed.follow()).await.is_err());
        followed.len()
    };
    let watching = async {
        sleep_until(api_server.began + LIST_EVERY + Duration::from_secs(1)).await;
        assert_eq!(followed.len(), 1);
        assert_eq!(api_server.lists.load(Ordering::Relaxed), 2, "it is listed");
    };
    let (left, ()) = tokio::join!(follow(5), watching);
    assert_eq!(left, 0, "the list is not through yet");
}

/// The list is older than what the watch has told meanwhile, and the next watch may take its time to tell it again.
#[tokio::test(start_paused = true)]
async fn live_021_a_list_does_not_bring_back_what_went_while_it_was_made() {
    let slow = |began: Instant| {
        let again = began.elapsed() > LIST_EVERY;
        let after = Duration::from_secs(if again { 15 } else { 0 });
        let text = format!(r#"{{"metadata":{{"resourceVersion":"7"}},"items":[{POD}]}}"#);
        (after, text)
    };
    let told_once = |_, began: Instant| match began.elapsed().checked_sub(LIST_EVERY) {
        None => events(Body::empty()),
        Some(late) if late < Duration::from_secs(10) => {
            events(format!("{{\"type\":\"DELETED\",\"object\":{POD}}}\n"))
        }
        Some(_) => events(Body::from_stream(stream::pending::<
            Result<Bytes, Infallible>,
        >())),
    };
    let api_server = ApiServerLike::listing(slow, told_once);
    let followed = api_server.follow();
    let until = api_server.began + LIST_EVERY + Duration::from_secs(20);
    assert!(timeout_at(until, followed.follow()).await.is_err());
    assert_eq!(api_server.lists.load(Ordering::Relaxed), 2, "it is listed");
    assert_eq!(followed.len(), 0);
}

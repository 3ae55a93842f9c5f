//! Rotations of every kind under a steady load: no token that was issued ever fails at a relying party whose key set is as old as we
//! promise.
//!
//! Two replicas; a relying party's view is every key set that either replica served, for as long as `max-age` says. A token is checked
//! against all of them that are in use at any moment of its life.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{DecodingKey, Validation, decode, decode_header};
use reqwest::Client;
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::install::Install;
use super::process::Process;
use super::ring::{SECRET, active_kid, annotate, short_times};
use super::wait::eventually;

/// `max-age` of the documents in [`short_times`].
const MAX_AGE: Duration = Duration::from_secs(1);
/// The life of a token.
const LIFETIME: Duration = Duration::from_secs(60);
/// Requests a second.
const RATE: u64 = 40;
const PODS: usize = 16;

/// How many rotations: `cargo xtask test --only api --rotations N`.
fn rotations() -> usize {
    std::env::var("KUBE_STS_ROTATIONS")
        .ok()
        .and_then(|count| count.parse().ok())
        .unwrap_or(8)
}

/// A replica as clients know it.
#[derive(Clone)]
struct Target {
    client: Client,
    exchange: String,
    documents: String,
}

impl Target {
    async fn of(process: &Process, install: &Install) -> Self {
        Self {
            client: process.client(install).await,
            exchange: process.url(install, "/aws/token"),
            documents: process.url(install, "/aws/certs"),
        }
    }
}

struct Token {
    text: String,
    kid: String,
    issued: Instant,
}

struct KeySet {
    kids: BTreeSet<String>,
    fetched: Instant,
    text: Value,
}

/// What the load saw.
#[derive(Default)]
struct Seen {
    tokens: Mutex<Vec<Token>>,
    sets: Mutex<Vec<KeySet>>,
    latencies: Mutex<Vec<(Instant, Duration)>>,
    /// Answers that are no token; a replica that is killed gives none at all.
    refused: Mutex<Vec<String>>,
    unanswered: AtomicUsize,
    stop: AtomicBool,
}

type Targets = Arc<Mutex<Vec<Target>>>;

async fn load(seen: Arc<Seen>, targets: Targets, subjects: Vec<String>) {
    let mut ticks = interval(Duration::from_micros(1_000_000 / RATE));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut at = 0_usize;
    while !seen.stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        at += 1;
        let target = {
            let targets = targets.lock().unwrap();
            targets[at % targets.len()].clone()
        };
        let (seen, subject) = (Arc::clone(&seen), subjects[at % subjects.len()].clone());
        drop(tokio::spawn(async move {
            exchange(&seen, &target, &subject).await;
        }));
    }
}

async fn exchange(seen: &Seen, target: &Target, subject: &str) {
    let issued = Instant::now();
    let answer = target
        .client
        .post(&target.exchange)
        .bearer_auth(subject)
        .send()
        .await;
    let Ok(answer) = answer else {
        seen.unanswered.fetch_add(1, Ordering::Relaxed);
        return;
    };
    let status = answer.status();
    let Ok(text) = answer.text().await else {
        seen.unanswered.fetch_add(1, Ordering::Relaxed);
        return;
    };
    if status == 200 {
        seen.latencies
            .lock()
            .unwrap()
            .push((issued, issued.elapsed()));
        let kid = decode_header(&text).unwrap().kid.unwrap();
        seen.tokens
            .lock()
            .unwrap()
            .push(Token { text, kid, issued });
    } else {
        seen.refused
            .lock()
            .unwrap()
            .push(format!("{status} {text}"));
    }
}

async fn watch_documents(seen: Arc<Seen>, targets: Targets) {
    while !seen.stop.load(Ordering::Relaxed) {
        let now = targets.lock().unwrap().clone();
        for target in now {
            let fetched = Instant::now();
            let Ok(answer) = target.client.get(&target.documents).send().await else {
                continue;
            };
            if answer.status() != 200 {
                continue;
            }
            let Ok(text) = answer.json::<Value>().await else {
                continue;
            };
            let keys = text["keys"].as_array().unwrap().iter();
            let kids = keys
                .map(|key| key["kid"].as_str().unwrap().to_owned())
                .collect();
            seen.sets.lock().unwrap().push(KeySet {
                kids,
                fetched,
                text,
            });
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// One kind of rotation.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Annotate,
    Delete,
    KilledReplica,
    Schedule,
}

struct Rotations {
    install: Install,
    replicas: Vec<Process>,
    targets: Targets,
    seen: Arc<Seen>,
    /// When one was under way.
    spans: Vec<(Instant, Instant)>,
    count: usize,
}

impl Rotations {
    async fn start() -> Self {
        let install = Install::new().await;
        install.tune(&short_times());
        let mut this = Self {
            install,
            replicas: Vec::new(),
            targets: Targets::default(),
            seen: Arc::default(),
            spans: Vec::new(),
            count: 0,
        };
        for _ in 0..2 {
            this.add_replica().await;
        }
        this
    }

    async fn add_replica(&mut self) {
        let mut process = Process::server(&self.install);
        process.becomes_ready().await;
        let target = Target::of(&process, &self.install).await;
        self.targets.lock().unwrap().push(target);
        self.replicas.push(process);
    }

    /// Kills the older replica, without a word to anybody; clients learn of it a moment later.
    fn kill_one(&mut self) {
        self.replicas.remove(0).kill();
        drop(self.targets.lock().unwrap().remove(0));
    }

    async fn begin_load(&self) {
        let mut subjects = Vec::new();
        for _ in 0..PODS {
            subjects.push(self.install.good_token().await.1);
        }
        let (seen, targets) = (Arc::clone(&self.seen), Arc::clone(&self.targets));
        drop(tokio::spawn(load(
            Arc::clone(&seen),
            Arc::clone(&targets),
            subjects,
        )));
        drop(tokio::spawn(watch_documents(seen, targets)));
    }

    async fn rotate(&mut self, kind: Kind) {
        let before = active_kid(&self.install).await.unwrap();
        let begun = Instant::now();
        self.count += 1;
        match kind {
            Kind::Annotate => annotate(&self.install, "rotate", &self.count.to_string()).await,
            Kind::Delete => self.install.plane.delete(&self.install.path(SECRET)).await,
            Kind::KilledReplica => {
                annotate(&self.install, "rotate", &self.count.to_string()).await;
                // Another step each time: a rotation takes four seconds and some.
                let step = u64::try_from(self.count * 7919 % 5000).unwrap();
                sleep(Duration::from_millis(step)).await;
                self.kill_one();
                self.add_replica().await;
            }
            // By itself: see [`Self::run`].
            Kind::Schedule => {}
        }
        eventually(&format!("{kind:?}: another key signs"), async || {
            active_kid(&self.install).await.filter(|kid| *kid != before)
        })
        .await;
        self.spans.push((begun, Instant::now()));
    }

    async fn run(&mut self, count: usize) {
        let kinds = [Kind::Annotate, Kind::Delete, Kind::KilledReplica];
        // A quarter of each kind.
        for at in 0..count - count / 4 {
            self.rotate(kinds[at % kinds.len()]).await;
        }
        self.install.tune(
            &json!({"key": {"secret": "aws-signing-key", "algorithm": "RS256", "clockSkew": "1s",
            "staleAfter": "2s", "mostKeys": 60, "rotateEvery": "2s"}}),
        );
        for _ in 0..2 {
            self.add_replica().await;
            self.kill_one();
        }
        for _ in 0..count / 4 {
            self.rotate(Kind::Schedule).await;
        }
    }
}

/// Whether every key set in use at any moment of the token's life has its key, and how many those were.
fn check(token: &Token, sets: &[KeySet]) -> usize {
    let dead = token.issued + LIFETIME;
    let in_use = |set: &&KeySet| set.fetched + MAX_AGE >= token.issued && set.fetched < dead;
    let relevant: Vec<&KeySet> = sets.iter().filter(in_use).collect();
    for set in &relevant {
        assert!(
            set.kids.contains(&token.kid),
            "a token of {} does not verify {:?} after it was issued with a key set read {:?} after that: {:?}",
            token.kid,
            set.fetched.saturating_duration_since(token.issued),
            set.fetched.saturating_duration_since(token.issued),
            set.kids
        );
    }
    relevant.len()
}

/// The signature, with the oldest key set that is in use at issue, and with the first one read in the middle and at the end.
fn verify(token: &Token, sets: &[KeySet]) {
    let mut validation = Validation::new(decode_header(&token.text).unwrap().alg);
    validation.set_audience(&["sts.amazonaws.com"]);
    validation.set_issuer(&["https://issuer.example.com"]);
    validation.validate_exp = false;
    for age in [Duration::ZERO, LIFETIME / 2, Duration::from_secs(58)] {
        let moment = token.issued + age;
        let set = sets.iter().find(|set| set.fetched + MAX_AGE >= moment);
        let set: JwkSet = serde_json::from_value(set.unwrap().text.clone()).unwrap();
        let key = DecodingKey::from_jwk(set.find(&token.kid).unwrap()).unwrap();
        drop(decode::<Value>(&token.text, &key, &validation).unwrap());
    }
}

fn percentile(mut latencies: Vec<Duration>, percent: usize) -> Duration {
    latencies.sort();
    let at = (latencies.len() * percent / 100).min(latencies.len().saturating_sub(1));
    latencies.get(at).copied().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rot_001_004_iss_010_no_token_ever_fails_while_keys_follow_one_another_under_load() {
    let count = rotations();
    let mut world = Rotations::start().await;
    world.begin_load().await;
    let quiet = Instant::now();
    sleep(Duration::from_secs(8)).await;
    let first = Instant::now();
    world.run(count).await;
    let tokens_end = Instant::now();
    // To the end of the last token's life; the load goes on, so that the last rotation is seen to its end too.
    while tokens_end.elapsed() < LIFETIME {
        sleep(Duration::from_secs(1)).await;
    }
    world.seen.stop.store(true, Ordering::Relaxed);
    sleep(Duration::from_secs(1)).await;

    let seen = &world.seen;
    let sets = seen.sets.lock().unwrap();
    let tokens = seen.tokens.lock().unwrap();
    let (mut checks, mut kids) = (0, BTreeSet::new());
    let finished = tokens.iter().filter(|token| token.issued < tokens_end);
    let mut finished_count = 0;
    for token in finished {
        checks += check(token, &sets);
        verify(token, &sets);
        kids.insert(token.kid.clone());
        finished_count += 1;
    }
    let refused = seen.refused.lock().unwrap();
    let latencies = seen.latencies.lock().unwrap();
    let between = |begin: Instant, end: Instant| {
        let inside = latencies.iter().filter(|(at, _)| (begin..end).contains(at));
        inside.map(|(_, took)| *took).collect::<Vec<_>>()
    };
    let before = percentile(between(quiet, first), 99);
    let during: Vec<Duration> = world
        .spans
        .iter()
        .flat_map(|(begin, end)| between(*begin, *end))
        .collect();
    let during = percentile(during, 99);
    // Not by `println!`, which shows nothing of a test that passes.
    writeln!(
        std::io::stdout(),
        "{count} rotations, {finished_count} tokens of {} keys, {checks} checks against {} key sets: 0 failures; \
         {} refused, {} unanswered (replicas killed); p99 {before:.1?} before, {during:.1?} during rotations: {:.2}x",
        kids.len(),
        sets.len(),
        refused.len(),
        seen.unanswered.load(Ordering::Relaxed),
        during.as_secs_f64() / before.as_secs_f64(),
    )
    .unwrap();
    // But for the last, whose tokens live on.
    assert!(kids.len() >= count, "every rotation brought another key");
    // A replica that was killed and has not found the ring yet says so with 503, which callers come back from with the token they have.
    let (away, refused): (Vec<_>, Vec<_>) =
        refused.iter().partition(|text| text.starts_with("503 "));
    assert!(refused.is_empty(), "{:?}", refused.first());
    assert!(
        away.len() * 50 <= finished_count,
        "{} exchanges were answered 503, of {finished_count}",
        away.len()
    );
}

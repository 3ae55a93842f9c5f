//! The strictness property: whatever token we accept, kube-apiserver's TokenReview accepts. What only we accepted would be a token for
//! somebody whom the cluster does not know.
//!
//! The tokens are made by chance, always the same ones: real tokens and new ones that the cluster's own key has signed, with changes in
//! text, header and claims. We look at each as an endpoint with `verification: watch` does, since that is what decides without asking:
//! signature and claims, and that pod and ServiceAccount are there. Only what we accept is sent to the API server. Some of the tokens are
//! also put before the program, with its watch of this API server, and what it issues a token for is sent there as well.

mod mint;
mod program;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::Duration;

use reqwest::{Certificate, Client};
use serde_json::{Value, json};
use sts_core::keys::KeySet;
use sts_core::liveness::Existence;
use sts_core::time::UnixSeconds;
use sts_core::token::RawToken;
use sts_core::verify::{Expectations, VerifiedToken, verify};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::install::{Install, WATCH};
use mint::{Mint, Minted, Scene};
use program::Program;

/// How many tokens, unless `KUBE_STS_MUTATED_TOKENS` says otherwise.
const TOKENS: u64 = 20_000;
/// One in so many is put before the program too.
const SAMPLE: u64 = 20;
/// TokenReviews that run at the same time.
const AT_ONCE: usize = 24;

/// One token that we accept, and what we read in it.
struct Accepted {
    minted: Minted,
    username: String,
    pod_uid: String,
}

/// What is to be asked about a token.
enum Question {
    /// The API server, about one that we accept.
    Review(Accepted),
    /// The program, and if it issues a token, the API server.
    Exchange(Minted),
}

/// What came of it.
#[derive(Default)]
struct Answered {
    /// Whether the program has issued a token.
    issued: bool,
    counter_example: Option<String>,
}

/// Accepted and refused, by the changes that the tokens bear.
type Counts = BTreeMap<&'static str, (u64, u64)>;

#[tokio::test]
async fn live_023_what_we_accept_token_review_accepts() {
    let install = Install::variant(WATCH).await;
    let scene = set_scene(&install).await;
    let keys = install.plane.get("/openid/v1/jwks").await.to_string();
    let keys = KeySet::parse(keys.as_bytes()).unwrap().keys;
    let program = Program::start(&install).await;
    let reviewer = Reviewer::new(&install);
    let (sender, mut receiver) = mpsc::channel(AT_ONCE);
    let minting = std::thread::spawn(move || mint_all(scene, &keys, &sender));
    let mut asking = JoinSet::new();
    let mut answers = Vec::new();
    while let Some(question) = receiver.recv().await {
        if asking.len() >= AT_ONCE {
            answers.push(asking.join_next().await.unwrap().unwrap());
        }
        asking.spawn(ask(program.client.clone(), reviewer.clone(), question));
    }
    answers.extend(asking.join_all().await);
    let issued = answers.iter().filter(|answer| answer.issued).count();
    let counter_examples: Vec<String> = answers
        .into_iter()
        .filter_map(|answer| answer.counter_example)
        .collect();
    let counts = minting.join().unwrap();
    let all = counts
        .values()
        .map(|(accepted, refused)| accepted + refused);
    let accepted: u64 = counts.values().map(|(accepted, _)| accepted).sum();
    let all: u64 = all.sum();
    // Past the test runner's capture: whoever runs this wants to see the numbers.
    let told = format!(
        "{all} tokens, {accepted} accepted, {issued} issued for by the program; accepted and refused by change: {counts:?}\n"
    );
    std::io::stdout().write_all(told.as_bytes()).unwrap();
    assert_eq!(counter_examples, [""; 0]);
    assert_eq!(all, number_of_tokens());
    assert!(
        (all / 10..all).contains(&accepted),
        "the tokens prove little"
    );
    let sampled = all.div_ceil(SAMPLE);
    let issued = u64::try_from(issued).unwrap();
    assert!(
        (sampled / 10..sampled).contains(&issued),
        "the program proves little: {issued} of {sampled}"
    );
}

async fn ask(program: program::Client, reviewer: Reviewer, question: Question) -> Answered {
    match question {
        Question::Review(accepted) => Answered {
            issued: false,
            counter_example: reviewer.review(accepted).await,
        },
        Question::Exchange(minted) => match program.exchange(minted).await {
            None => Answered::default(),
            Some(accepted) => Answered {
                issued: true,
                counter_example: reviewer.review(accepted).await,
            },
        },
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the environment is how `cargo xtask test --mutated-tokens` tells the number"
)]
fn number_of_tokens() -> u64 {
    let number = std::env::var("KUBE_STS_MUTATED_TOKENS");
    number.map_or(TOKENS, |number| number.parse().unwrap())
}

/// Pods and ServiceAccounts that exist, one of each that is gone, and a real token to begin with.
async fn set_scene(install: &Install) -> Scene {
    let plane = install.plane;
    install.create_account(&install.apps, "other").await;
    let mut pods = Vec::new();
    for name in ["p1", "p2", "p3"] {
        pods.push(install.create_pod(name, "app").await);
    }
    let gone = install.create_pod("gone", "app").await;
    plane.delete(&install.apps_path("pods/gone")).await;
    let mut accounts = Vec::new();
    for name in ["app", "other"] {
        let path = install.apps_path(&format!("serviceaccounts/{name}"));
        let uid = plane.get(&path).await["metadata"]["uid"].clone();
        accounts.push((name.to_owned(), uid.as_str().unwrap().to_owned()));
    }
    let audience = install.audience();
    let token = install.pod_token(&pods[0], Some(&audience)).await;
    Scene {
        key: std::fs::read_to_string(plane.directory.join("accounts.key")).unwrap(),
        namespace: install.apps.clone(),
        other_namespace: install.namespace.clone(),
        pods: pods.into_iter().map(|pod| (pod.name, pod.uid)).collect(),
        gone: (gone.name, gone.uid),
        accounts,
        audience,
        token,
    }
}

/// Asks the API server, as an administrator.
#[derive(Clone)]
struct Reviewer {
    client: Client,
    url: String,
    audience: String,
}

/// Makes all tokens, sends on those that we accept and some of all, and counts.
fn mint_all(scene: Scene, keys: &KeySet, questions: &mpsc::Sender<Question>) -> Counts {
    let expectations = Expectations {
        issuer: "https://kubernetes.default.svc.cluster.local"
            .parse()
            .unwrap(),
        audience: scene.audience.parse().unwrap(),
        api_server_audiences: Vec::new(),
        longest_life: Expectations::LONGEST_LIFE,
    };
    let mut counts = Counts::new();
    let mut mint = Mint::new(scene);
    let ask = |question| questions.blocking_send(question).unwrap_or_default();
    for number in 0..number_of_tokens() {
        let minted = mint.next();
        if number.is_multiple_of(SAMPLE) {
            ask(Question::Exchange(minted.clone()));
        }
        let now = UnixSeconds::new(minted.now).unwrap();
        let verified = RawToken::new(minted.token.clone())
            .route()
            .ok()
            .and_then(|token| verify(token, keys, &expectations, now).ok())
            .filter(|token| is_alive(&mint.scene, token));
        let (yes, no) = counts.entry(minted.change).or_default();
        match verified {
            None => *no += 1,
            Some(token) => {
                *yes += 1;
                let pod_uid = token.pod().uid.as_str().to_owned();
                let username = token.service_account().username();
                let one = Accepted {
                    minted,
                    username,
                    pod_uid,
                };
                ask(Question::Review(one));
            }
        }
    }
    counts
}

/// What the watch has of a token's subject: an object is known by namespace, name and uid.
fn is_alive(scene: &Scene, token: &VerifiedToken) -> bool {
    let account = token.service_account();
    let known = |list: &[(String, String)], name: &str, uid: &str| {
        let is_known = account.namespace.as_str() == scene.namespace
            && list.iter().any(|one| one.0 == name && one.1 == uid);
        if is_known {
            Existence::Present
        } else {
            Existence::Absent
        }
    };
    let pod = token.pod();
    let pod = known(&scene.pods, pod.name.as_str(), pod.uid.as_str());
    let account = known(&scene.accounts, account.name.as_str(), account.uid.as_str());
    (pod, account) == (Existence::Present, Existence::Present)
}

impl Reviewer {
    fn new(install: &Install) -> Self {
        let pem = std::fs::read(&install.plane.ca_file).unwrap();
        let roots = Certificate::from_pem_bundle(&pem).unwrap();
        let client = Client::builder()
            .tls_certs_only(roots)
            .timeout(Duration::from_secs(30));
        Self {
            client: client.build().unwrap(),
            url: format!(
                "{}/apis/authentication.k8s.io/v1/tokenreviews",
                install.plane.url
            ),
            audience: install.audience(),
        }
    }

    /// Asks about a token that we accept; says what it was if the answer is not the same.
    async fn review(&self, accepted: Accepted) -> Option<String> {
        let Accepted {
            minted,
            username,
            pod_uid,
        } = accepted;
        let body = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
            "spec": {"token": minted.token, "audiences": [self.audience]},
        });
        let request = self
            .client
            .post(&self.url)
            .bearer_auth(super::control_plane::ADMINISTRATOR)
            .json(&body);
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        let status = &answer["status"];
        let agrees = status["authenticated"] == true
            && status["audiences"] == json!([self.audience])
            && status["user"]["username"] == username
            && status["user"]["extra"]["authentication.kubernetes.io/pod-uid"] == json!([pod_uid]);
        (!agrees).then(|| format!("{}: {} {status}", minted.change, minted.text))
    }
}

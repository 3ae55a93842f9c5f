//! A CA and a serving certificate in one Kubernetes Secret, which any number of replicas share without a leader.
//!
//! What to do with the Secret's content is decided by the pure [`decision::decide`]; this module reads, writes by compare-and-swap
//! (`resourceVersion`), and puts the outcome into the running server. A loser of the swap reads again and finds the winner's pair.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use sts_config::CertificateRotation;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::ServingCertificate;
use super::authority::AuthorityError;
use super::pem::{CaBundle, CertificateError};
use super::published::Published;
use crate::clock;
use crate::follow::follow_object;
use crate::log::chain;
use crate::readiness::Condition;
use crate::shutdown::Shutdown;

mod content;
mod decision;

pub use content::Refusal;
use content::{CA_CRT, Content};
use decision::{Context, Decision, Presentable, decide};

/// The Secret that holds our CA and certificate: keys `ca.crt`, `ca.key`, `tls.crt` and `tls.key`, and `next-ca.key` while one CA
/// follows another.
///
/// The chart makes it empty and lets us do with this one name what is done here, `create` included: a Secret that somebody deletes is put back.
#[derive(Clone)]
pub struct ManagedSecret {
    /// For the watch and for single calls, which get a time-out of their own.
    pub client: Client,
    /// Where the Secret is.
    pub namespace: String,
    /// What it is called; also the CA's common name.
    pub name: String,
    /// What the certificate is for. If it changes, a new certificate is issued by the same CA.
    pub dns_names: Vec<String>,
    /// When certificates are renewed and CAs follow each other.
    pub rotation: CertificateRotation,
}

impl ManagedSecret {
    /// Keeps `into` and `ca` as the Secret says, and the Secret filled, renewed and rotated, until shutdown. `published` is what
    /// clients find where they look for our CA: no certificate is issued by one that is not there.
    ///
    /// `condition` is met as long as a valid certificate is presented. No content of the Secret and no answer of the API server ends
    /// this: without a certificate the replica is not ready and says why; with one it goes on serving it.
    ///
    /// # Errors
    ///
    /// [`SecretError::WatchEnded`], which should not happen.
    pub async fn follow(
        self,
        into: ServingCertificate,
        condition: Condition,
        ca: watch::Sender<Option<CaBundle>>,
        published: watch::Receiver<Published>,
        shutdown: Shutdown,
    ) -> Result<(), SecretError> {
        let api = self.api();
        let mut news = published.clone();
        let mut states = Box::pin(follow_object(api.clone(), &self.name));
        let mut follower = Follower {
            secret: self,
            api,
            into,
            condition,
            ca,
            published,
            known: None,
        };
        let mut next_look = FIRST_RETRY;
        let mut failures = 0_u32;
        loop {
            let outcome = tokio::select! {
                () = shutdown.requested() => return Ok(()),
                state = states.next() => match state {
                    // The object of an event may be old already, such as where this process was stopped for a while.
                    Some(Ok(_)) => follower.look().await,
                    Some(Err(error)) => Err(SecretError::Watch(Box::new(error))),
                    None => return Err(SecretError::WatchEnded),
                },
                // Where nobody publishes there is no news, ever.
                Ok(()) = news.changed() => follower.look().await,
                () = sleep(next_look) => follower.look().await,
            };
            failures = if outcome.is_ok() {
                0
            } else {
                failures.saturating_add(1)
            };
            next_look = match follower.tell(outcome) {
                Some(look_at) => until(look_at).clamp(SHORTEST_LOOK, LONGEST_LOOK),
                None => FIRST_RETRY.saturating_mul(1 << failures.min(4)),
            };
        }
    }

    /// What the Secret says now that clients must trust: for who is about to write what was known a moment ago. `None` if it says
    /// nothing that can be read.
    ///
    /// # Errors
    ///
    /// [`SecretError`] if there is no answer.
    pub(super) async fn bundle(&self) -> Result<Option<CaBundle>, SecretError> {
        let read = answer(self.api().get_opt(&self.name)).await?;
        let secret = read.map_err(|error| SecretError::Read(Box::new(error)))?;
        let data = secret.and_then(|secret| secret.data).unwrap_or_default();
        let bundle = data.get(CA_CRT).map(|pem| CaBundle::parse(&pem.0));
        Ok(bundle.and_then(Result::ok))
    }

    fn api(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }
}

impl std::fmt::Debug for ManagedSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ManagedSecret")
            .field("namespace", &self.namespace)
            .field("name", &self.name)
            .field("dns_names", &self.dns_names)
            .finish_non_exhaustive()
    }
}

/// Why the Secret could not be followed, read or filled.
#[derive(Debug, Error)]
pub enum SecretError {
    /// The stream of the Secret's states ended.
    #[error("the watch of the Secret ended")]
    WatchEnded,
    /// The watch failed; it reconnects by itself.
    #[error("the Secret cannot be watched")]
    Watch(#[source] Box<kube::runtime::watcher::Error>),
    /// The Secret cannot be read.
    #[error("the Secret cannot be read")]
    Read(#[source] Box<kube::Error>),
    /// The Secret cannot be written.
    #[error("the Secret cannot be written")]
    Write(#[source] Box<kube::Error>),
    /// The API server did not answer in time.
    #[error("the API server did not answer within {} s", CALL_TIMEOUT.as_secs())]
    Silence,
    /// Other replicas kept changing the Secret between our reading and our writing.
    #[error("the Secret changes too often to be written")]
    Contended,
    /// The Secret does not exist, and we may not create it.
    #[error(
        "there is no Secret {name} in namespace {namespace}; create it: \
             kubectl --namespace {namespace} create secret generic {name}"
    )]
    Missing {
        /// Where it should be.
        namespace: String,
        /// What it should be called.
        name: String,
        /// Why it could not be created.
        source: Box<kube::Error>,
    },
    /// The content cannot be used, and is left alone.
    #[error("the Secret's content is not usable and is left alone")]
    Refused(#[source] Refusal),
    /// No certificate can be made.
    #[error("no certificate can be issued")]
    Issue(#[from] AuthorityError),
    /// The Secret's certificate cannot be presented.
    #[error("the Secret's certificate cannot be presented")]
    Present(#[source] CertificateError),
}

/// A running [`ManagedSecret::follow`].
struct Follower {
    secret: ManagedSecret,
    api: Api<Secret>,
    into: ServingCertificate,
    condition: Condition,
    ca: watch::Sender<Option<CaBundle>>,
    published: watch::Receiver<Published>,
    known: Option<Known>,
}

/// The Secret as it was when it was good: what a Secret gets that is made anew in its place.
struct Known {
    uid: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    content: Content,
}

impl Known {
    /// Whether this Secret was made in the other's place, and has nothing in it yet. One that a person has emptied is the same Secret.
    fn is_lost_in(&self, secret: &Secret) -> bool {
        let is_empty = secret.data.as_ref().is_none_or(BTreeMap::is_empty);
        is_empty && secret.metadata.uid != self.uid
    }
}

impl Follower {
    /// Reads the Secret and settles it; makes it if it is missing. Returns when to look again.
    async fn look(&mut self) -> Result<Timestamp, SecretError> {
        let secret = match self.read().await? {
            Some(secret) => secret,
            None => self.create().await?,
        };
        self.settle(secret).await
    }

    /// Brings the server and the Secret to where they should be. Returns when to look again.
    async fn settle(&mut self, mut secret: Secret) -> Result<Timestamp, SecretError> {
        for _ in 0..MAX_SWAPS {
            if let Some(known) = self.known.as_ref().filter(|one| one.is_lost_in(&secret)) {
                tracing::warn!(
                    secret = self.secret.name,
                    "the Secret was deleted: what was in it is put back"
                );
                let content = known.content.clone();
                secret = self.swap(secret, content).await?;
                continue;
            }
            let content = Content::of(&secret);
            match self.decide(&content)? {
                Decision::Keep {
                    presentable,
                    look_at,
                } => {
                    self.present(presentable)?;
                    self.known = Some(Known {
                        uid: secret.metadata.uid,
                        labels: secret.metadata.labels,
                        content,
                    });
                    return Ok(look_at);
                }
                Decision::Fill {
                    filled,
                    why,
                    meanwhile,
                } => {
                    tracing::info!(secret = self.secret.name, reason = %why, "filling the Secret");
                    if let Some(presentable) = meanwhile {
                        self.present_meanwhile(presentable);
                    }
                    secret = self.swap(secret, filled).await?;
                }
                Decision::Refuse(refusal) => return Err(SecretError::Refused(refusal)),
            }
        }
        Err(SecretError::Contended)
    }

    fn decide(&self, content: &Content) -> Result<Decision, AuthorityError> {
        let published = self.published.borrow().clone();
        let context = Context {
            name: &self.secret.name,
            dns_names: &self.secret.dns_names,
            rotation: &self.secret.rotation,
            published: &published,
            now: clock::now(),
        };
        decide(content, context)
    }

    /// Writes `content` if nobody changed the Secret since we read it. Returns the Secret as it is then, whoever wrote it.
    async fn swap(&self, secret: Secret, content: Content) -> Result<Secret, SecretError> {
        // `secret` holds the resourceVersion it was read with: the API server answers 409 if it is no longer the last one.
        let wanted = content.put_into(secret);
        match answer(
            self.api
                .replace(&self.secret.name, &PostParams::default(), &wanted),
        )
        .await?
        {
            Ok(written) => Ok(written),
            Err(kube::Error::Api(status)) if status.is_conflict() => {
                tracing::info!(secret = self.secret.name, "another replica was faster");
                match self.read().await? {
                    Some(secret) => Ok(secret),
                    None => self.create().await,
                }
            }
            Err(error) => Err(SecretError::Write(Box::new(error))),
        }
    }

    async fn read(&self) -> Result<Option<Secret>, SecretError> {
        let read = answer(self.api.get_opt(&self.secret.name)).await?;
        read.map_err(|error| SecretError::Read(Box::new(error)))
    }

    /// Makes the Secret empty, by server-side apply: it is the same whoever does it, changes nothing in a Secret that is there, and is
    /// the one way of creating that RBAC can allow for a single name. Filling it is another step, the same for everybody.
    async fn create(&self) -> Result<Secret, SecretError> {
        let ManagedSecret {
            namespace, name, ..
        } = &self.secret;
        let empty = Secret {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                labels: self.known.as_ref().and_then(|known| known.labels.clone()),
                ..ObjectMeta::default()
            },
            type_: Some("Opaque".to_owned()),
            ..Secret::default()
        };
        let parameters = PatchParams {
            field_manager: Some(CREATOR.to_owned()),
            force: true,
            ..PatchParams::default()
        };
        match answer(self.api.patch(name, &parameters, &Patch::Apply(&empty))).await? {
            Ok(created) => Ok(created),
            Err(error) => Err(SecretError::Missing {
                namespace: namespace.clone(),
                name: name.clone(),
                source: Box::new(error),
            }),
        }
    }

    fn present(&self, presentable: Presentable) -> Result<(), SecretError> {
        let Presentable {
            pair,
            bundle,
            authority_not_after,
        } = presentable;
        let before = self.into.facts();
        let facts = self
            .into
            .present(&pair, Some(authority_not_after))
            .map_err(SecretError::Present)?;
        if before.is_none_or(|before| before.serial != facts.serial) {
            tracing::info!(
                tls.serial = facts.serial, tls.not_after = %facts.not_after, tls.names = ?facts.dns_names,
                "certificate loaded from the Secret",
            );
        }
        self.ca.send_if_modified(|current| {
            let changed = current.as_ref() != Some(&bundle);
            if changed {
                *current = Some(bundle);
            }
            changed
        });
        Ok(())
    }

    /// A certificate that is to be replaced is still a certificate: a replica that may not write must not wait for one that may.
    fn present_meanwhile(&self, presentable: Presentable) {
        if let Err(error) = self.present(presentable) {
            tracing::warn!(error = %chain(&error), "the certificate to be replaced cannot be presented any more");
        }
    }

    /// Says how it went, in the log and on the admin port. Hands on when to look again, if it went well.
    fn tell(&self, outcome: Result<Timestamp, SecretError>) -> Option<Timestamp> {
        self.into.tell_refused(outcome.is_err());
        let (look_at, failure) = match outcome {
            Ok(look_at) => (Some(look_at), None),
            Err(error) => {
                let reason = chain(&error).to_string();
                tracing::error!(secret = self.secret.name, error = %reason, "the Secret is not settled");
                (None, Some(reason))
            }
        };
        match self.into.facts() {
            // What is in memory is as good as before, whatever became of the Secret.
            Some(facts) if clock::now() <= facts.not_after => self.condition.met(),
            Some(facts) => self
                .condition
                .unmet(format!("certificate expired at {}", facts.not_after)),
            None => {
                let failure = failure.unwrap_or_else(|| "no certificate".to_owned());
                self.condition
                    .unmet(format!("Secret {}: {failure}", self.secret.name));
            }
        }
        look_at
    }
}

async fn answer<T>(
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<Result<T, kube::Error>, SecretError> {
    timeout(CALL_TIMEOUT, call)
        .await
        .or(Err(SecretError::Silence))
}

fn until(instant: Timestamp) -> Duration {
    Duration::try_from(instant.duration_since(clock::now())).unwrap_or(Duration::ZERO)
}

/// Apart from the manager of later writes, so that no apply ever takes a field away.
const CREATOR: &str = "kube-sts-create";
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Each replica that is faster costs one more round.
const MAX_SWAPS: usize = 8;
/// Doubled with every failure, up to 80 s.
const FIRST_RETRY: Duration = Duration::from_secs(5);
/// However near the next step is.
const SHORTEST_LOOK: Duration = Duration::from_millis(100);
/// Also without any event: makes up for whatever a watch may miss.
const LONGEST_LOOK: Duration = Duration::from_secs(600);
/// By how much the clocks of replicas may differ.
const SKEW: Duration = Duration::from_secs(300);

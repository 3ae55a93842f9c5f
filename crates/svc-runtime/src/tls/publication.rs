//! Keeps our CA where clients look for it, and knows whether they find it there.
//!
//! A replica that was stopped for a while must not write back what was true before. So what is written is read anew from the Secret, and
//! the write holds only if the place has not changed since before that: a newer CA is never issued from before it stands in the place,
//! so that whoever knows less finds the place changed.

use std::fmt::Debug;
use std::time::Duration;

use futures_util::StreamExt;
use kube::api::{Patch, PatchParams};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::ServingCertificate;
use super::pem::CaBundle;
use super::published::Published;
use super::secret::ManagedSecret;
use crate::clock;
use crate::follow::follow_object;
use crate::log::chain;
use crate::readiness::Condition;
use crate::shutdown::Shutdown;

/// An object of the cluster where clients look for our CA.
pub trait Place: Send + Sync + 'static {
    /// Its type.
    type Object: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static;

    /// The bundles in it, one for each group of clients, as they stand there.
    fn bundles(&self, object: &Self::Object) -> Vec<Vec<u8>>;

    /// The patch of these bundles alone, that holds only for `object` as it is.
    fn patch(&self, object: &Self::Object, wanted: &CaBundle) -> Patch<serde_json::Value>;

    /// What is patched, for the log: `caBundle`.
    fn what(&self) -> &'static str;
}

/// A place, and what we are to it.
#[derive(Debug)]
pub struct Publication<P: Place> {
    /// The place.
    pub place: P,
    /// For reading and patching the object.
    pub api: Api<P::Object>,
    /// The object's name.
    pub name: String,
    /// Who the patches are by.
    pub field_manager: &'static str,
    /// What we keep it with; `None` where whoever gives us our certificate keeps it.
    pub keeper: Option<Keeper>,
    /// Ready only while there are clients of the place that accept the certificate presented. `None` where that is for others to tell.
    pub readiness: Option<Acceptance>,
}

/// What a place is kept with.
#[derive(Debug)]
pub struct Keeper {
    /// The Secret that the bundle comes from.
    pub secret: ManagedSecret,
    /// What it says.
    pub ca: watch::Receiver<Option<CaBundle>>,
    /// For the Secret's follower: what clients find.
    pub published: watch::Sender<Published>,
}

/// Whether clients accept the certificate presented.
#[derive(Debug)]
pub struct Acceptance {
    /// What is presented.
    pub certificate: ServingCertificate,
    /// What clients call us.
    pub server_name: String,
    /// Met while any of them does. Who looks into a bundle that does not accept it cannot call us whether we are ready or not; who looks
    /// into another must not be turned away for that.
    pub condition: Condition,
    /// How many do not, as last told.
    pub refusing: usize,
}

/// Why a place is not looked after any more. Neither happens but with the process.
#[derive(Debug, Error)]
pub enum PublicationError {
    /// The certificate is not followed any more.
    #[error("the serving certificate is not followed any more")]
    CertificateEnded,
    /// The watch of the object ended.
    #[error("the watch of the object with our CA ended")]
    WatchEnded,
}

impl<P: Place> Publication<P> {
    /// Looks after the place until shutdown.
    ///
    /// # Errors
    ///
    /// [`PublicationError`], which should not happen.
    pub async fn keep(mut self, shutdown: Shutdown) -> Result<(), PublicationError> {
        let mut states = Box::pin(follow_object(self.api.clone(), &self.name));
        let mut news = self.readiness.as_ref().map(Acceptance::news);
        let mut live = None;
        let mut write_at: Option<Instant> = None;
        loop {
            let event = tokio::select! {
                () = shutdown.requested() => return Ok(()),
                ended = wanted(&mut self.keeper) => {
                    ended?;
                    Event::Bundle
                }
                () = presented(&mut news) => Event::Certificate,
                state = states.next() => match state.ok_or(PublicationError::WatchEnded)? {
                    Ok(object) => {
                        live = object;
                        Event::Object
                    }
                    Err(error) => {
                        tracing::warn!(object = self.name, error = %chain(&error), "object with our CA cannot be watched");
                        continue;
                    }
                },
                () = sleep_until(write_at.unwrap_or_else(Instant::now)), if write_at.is_some() => Event::Due,
            };
            let found = self.find(live.as_ref());
            self.tell(live.is_some(), &found);
            let wrong = self.keeper.as_mut().zip(live.as_ref());
            let wrong = wrong.and_then(|(keeper, object)| {
                let wanted = keeper.difference(&found)?;
                Some((keeper, object, wanted))
            });
            let Some((keeper, object, wanted)) = wrong else {
                write_at = None;
                continue;
            };
            write_at = match event {
                Event::Due => {
                    if keeper.is_still(&wanted, &self.name).await {
                        self.write(object, &wanted).await;
                    }
                    Some(Instant::now() + RETRY)
                }
                Event::Bundle => Some(Instant::now()),
                Event::Object => Some(Instant::now() + settle(&found)),
                // It changes nothing about what is to be written.
                Event::Certificate => write_at.or_else(|| Some(Instant::now())),
            };
        }
    }

    fn find(&self, live: Option<&P::Object>) -> Vec<Vec<u8>> {
        live.map(|object| self.place.bundles(object))
            .unwrap_or_default()
    }

    /// Says what clients find, to the Secret's follower and on the admin port.
    fn tell(&mut self, exists: bool, found: &[Vec<u8>]) {
        let bundles = found.iter().map(|bundle| CaBundle::parse(bundle).ok());
        let bundles: Vec<Option<CaBundle>> = bundles.collect();
        if let Some(acceptance) = &mut self.readiness {
            if exists && !found.is_empty() {
                acceptance.tell(&bundles, self.place.what());
            } else {
                let reason = format!("object {} is not there or empty", self.name);
                acceptance.condition.unmet(reason);
            }
        }
        if let Some(keeper) = &self.keeper {
            // A place with anything unreadable in it is one where clients find nothing.
            let bundles: Option<Vec<CaBundle>> = bundles.into_iter().collect();
            keeper.tell(Published::Seen(bundles.unwrap_or_default()));
        }
    }

    /// Where the object has changed since we saw it the patch fails as a whole, and the watch's next state says what to do.
    async fn write(&self, object: &P::Object, wanted: &CaBundle) {
        let (name, what) = (self.name.as_str(), self.place.what());
        let parameters = PatchParams {
            field_manager: Some(self.field_manager.to_owned()),
            ..PatchParams::default()
        };
        let patch = self.place.patch(object, wanted);
        match timeout(CALL_TIMEOUT, self.api.patch(name, &parameters, &patch)).await {
            Ok(Ok(_)) => tracing::info!(object = name, "{what} is written"),
            Ok(Err(kube::Error::Api(status))) if OVERTAKEN.contains(&status.code) => {
                tracing::info!(
                    object = name,
                    status = status.code,
                    "{what} is not written: the object has changed"
                );
            }
            Ok(Err(error)) => {
                tracing::error!(object = name, error = %chain(&error), "{what} cannot be written");
            }
            Err(_) => tracing::error!(object = name, "{what} cannot be written: no answer"),
        }
    }
}

enum Event {
    /// Another certificate is presented.
    Certificate,
    /// It is time to write.
    Due,
    /// Another bundle is wanted.
    Bundle,
    /// The object changed, or was found.
    Object,
}

impl Keeper {
    /// What should stand in the place, if anything else does.
    fn difference(&mut self, found: &[Vec<u8>]) -> Option<CaBundle> {
        let wanted = self.ca.borrow_and_update().clone()?;
        let differs = |bundle: &Vec<u8>| bundle != wanted.as_pem().as_bytes();
        found.iter().any(differs).then_some(wanted)
    }

    fn tell(&self, seen: Published) {
        self.published.send_if_modified(|current| {
            let is_new = *current != seen;
            *current = seen;
            is_new
        });
    }

    /// Whether the Secret still says what we are about to write. One that says nothing says nothing else.
    async fn is_still(&self, wanted: &CaBundle, name: &str) -> bool {
        match self.secret.bundle().await {
            Ok(Some(bundle)) if bundle != *wanted => {
                tracing::info!(object = name, "the Secret says something newer");
                false
            }
            Ok(_) => true,
            Err(error) => {
                tracing::error!(object = name, error = %chain(&error), "nothing is written: the Secret cannot be asked");
                false
            }
        }
    }
}

impl Acceptance {
    fn news(&self) -> watch::Receiver<()> {
        self.certificate.news.subscribe()
    }

    fn tell(&mut self, bundles: &[Option<CaBundle>], what: &str) {
        let Self {
            certificate,
            server_name,
            condition,
            refusing,
        } = self;
        if certificate.facts().is_none() {
            condition.unmet("there is no certificate yet");
            return;
        }
        let now = clock::now();
        let accept = |bundle: &&CaBundle| certificate.is_accepted(bundle, server_name, now);
        let accepting = bundles.iter().flatten().filter(accept).count();
        if accepting > 0 {
            condition.met();
        } else {
            condition.unmet(format!(
                "who trusts the {what} does not accept our certificate yet"
            ));
        }
        let before = std::mem::replace(refusing, bundles.len().saturating_sub(accepting));
        if before != *refusing && accepting > 0 {
            tell_refusing(*refusing, bundles.len(), what);
        }
    }
}

fn tell_refusing(refusing: usize, all: usize, what: &str) {
    if refusing == 0 {
        tracing::info!("each {what} accepts our certificate");
    } else {
        tracing::warn!(
            refusing,
            all,
            "some {what} does not accept our certificate: who looks there cannot call us"
        );
    }
}

/// Another bundle is wanted.
async fn wanted(keeper: &mut Option<Keeper>) -> Result<(), PublicationError> {
    match keeper {
        Some(keeper) => {
            let changed = keeper.ca.changed().await;
            changed.or(Err(PublicationError::CertificateEnded))
        }
        None => std::future::pending().await,
    }
}

/// Another certificate is presented.
async fn presented(news: &mut Option<watch::Receiver<()>>) {
    if let Some(news) = news
        && news.changed().await.is_ok()
    {
        return;
    }
    std::future::pending::<()>().await;
}

/// A bundle that is there but not ours is somebody's: who else writes there is given a moment, so that two do not write in turns as fast
/// as they can. An empty one is filled at once.
fn settle(found: &[Vec<u8>]) -> Duration {
    if found.iter().any(Vec::is_empty) {
        Duration::ZERO
    } else {
        SETTLE
    }
}

/// Conflict, and the API server's word for a failed test.
const OVERTAKEN: [u16; 2] = [409, 422];
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_secs(5);
const SETTLE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_an_empty_bundle_at_once_and_replaces_another_later() {
        assert_eq!(settle(&[Vec::new(), b"other".to_vec()]), Duration::ZERO);
        assert_eq!(settle(&[b"other".to_vec()]), SETTLE);
    }
}

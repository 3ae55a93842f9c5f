//! Publishes documents: the key set first, then the discovery document, each only if nobody wrote it since it was read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kube::Client;
use sts_config::Publish;
use sts_core::ident::Issuer;
use sts_core::publication::{Absences, ClusterDocuments, Publication};
use sts_core::time::UnixSeconds;

use crate::cloud_front::CloudFront;
use crate::document::{Document, Verdict, judge};
use crate::error::{PublishError, SetupError};
use crate::store::{Store, Version, Written};
use crate::web_identity::OwnTokens;

/// Publishes one issuer's documents at one place.
#[derive(Debug)]
pub struct Publisher {
    store: Store,
    cache_control: String,
    cloud_front: Option<CloudFront>,
    /// Whether a CDN has copies that it was not told to drop yet.
    stale_copies: AtomicBool,
}

/// What publishing needs beside the configuration.
#[derive(Clone, Default)]
pub struct Surroundings {
    /// For ConfigMaps.
    pub client: Option<Client>,
    /// Ours.
    pub namespace: String,
    /// Tokens of the endpoint itself, for web identity.
    pub tokens: Option<Arc<dyn OwnTokens>>,
}

impl std::fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Surroundings")
    }
}

/// What publishing came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// All was there already.
    Unchanged,
    /// Something was written.
    Written,
}

impl Publisher {
    /// A publisher of an issuer's documents, which relying parties may keep for `max_age`.
    ///
    /// # Errors
    /// [`SetupError`] for what is wrong before anything is written. No store is asked.
    pub fn new(
        publish: &Publish,
        issuer: &Issuer,
        max_age: Duration,
        surroundings: &Surroundings,
    ) -> Result<Self, SetupError> {
        let (store, cloud_front) = Store::open(publish, issuer, surroundings)?;
        Ok(Self {
            store,
            cache_control: format!("public, max-age={}", max_age.as_secs()),
            cloud_front,
            stale_copies: AtomicBool::new(false),
        })
    }

    #[cfg(test)]
    pub(crate) fn over(store: Store) -> Self {
        Self {
            store,
            cache_control: "public, max-age=300".to_owned(),
            cloud_front: None,
            stale_copies: AtomicBool::new(false),
        }
    }

    /// Publishes the documents of a key ring of that generation.
    ///
    /// # Errors
    /// [`PublishError`]. What was written stays written: the key set is useful without the discovery document that follows.
    pub async fn publish(
        &self,
        publication: &Publication,
        generation: u64,
    ) -> Result<Outcome, PublishError> {
        let key_set = self.put(&key_set(publication, Some(generation))).await?;
        let discovery = self.put(&discovery(publication, Some(generation))).await?;
        self.finish(publication, [key_set, discovery]).await
    }

    /// Publishes a cluster's own documents: what its API server shows, over what is published. Gives back what is published now.
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn publish_cluster(
        &self,
        documents: &ClusterDocuments,
        absences: &mut Absences,
        now: UnixSeconds,
    ) -> Result<(Outcome, Publication), PublishError> {
        for _ in 0..MOST_TRIES {
            let path = documents.key_set_path();
            let (held, version) = self.store.read(path).await?;
            let bytes = held.as_ref().map(|held| held.bytes.as_slice());
            let publication = documents.publication(bytes, absences, now)?;
            let wanted = key_set(&publication, None);
            let outcome = match judge(held.as_ref(), &wanted, &self.cache_control, false) {
                Verdict::Keep | Verdict::Later(_) => Outcome::Unchanged,
                Verdict::Write => match self.write(&wanted, version).await? {
                    Written::Conflict => continue,
                    Written::Done => Outcome::Written,
                },
            };
            let discovery = self.put(&discovery(&publication, None)).await?;
            let outcome = self.finish(&publication, [outcome, discovery]).await?;
            return Ok((outcome, publication));
        }
        Err(PublishError::Contended {
            object: self.store.name(documents.key_set_path()),
        })
    }

    /// Reads, judges and writes one document.
    async fn put(&self, document: &Document<'_>) -> Result<Outcome, PublishError> {
        let keeps_marks = self.store.keeps_marks();
        for _ in 0..MOST_TRIES {
            let (held, version) = self.store.read(document.path).await?;
            match judge(held.as_ref(), document, &self.cache_control, keeps_marks) {
                Verdict::Keep => return Ok(Outcome::Unchanged),
                Verdict::Later(held) => {
                    return Err(PublishError::Later {
                        object: self.store.name(document.path),
                        held,
                        ours: document.generation.unwrap_or_default(),
                    });
                }
                Verdict::Write => {}
            }
            if self.write(document, version).await? == Written::Done {
                return Ok(Outcome::Written);
            }
        }
        Err(PublishError::Contended {
            object: self.store.name(document.path),
        })
    }

    async fn write(
        &self,
        document: &Document<'_>,
        version: Version,
    ) -> Result<Written, PublishError> {
        let written = self
            .store
            .write(document, &self.cache_control, version)
            .await?;
        if written == Written::Done {
            self.stale_copies.store(true, Ordering::Relaxed);
        }
        Ok(written)
    }

    /// Tells a CDN to drop its copies, also those of an earlier round in which it could not be told.
    async fn finish(
        &self,
        publication: &Publication,
        outcomes: [Outcome; 2],
    ) -> Result<Outcome, PublishError> {
        if let Some(cloud_front) = &self.cloud_front
            && self.stale_copies.load(Ordering::Relaxed)
        {
            let paths = [publication.key_set_path(), Publication::DISCOVERY_PATH];
            cloud_front.invalidate(&paths).await?;
        }
        self.stale_copies.store(false, Ordering::Relaxed);
        let written = outcomes.contains(&Outcome::Written);
        Ok(if written {
            Outcome::Written
        } else {
            Outcome::Unchanged
        })
    }
}

fn key_set(publication: &Publication, generation: Option<u64>) -> Document<'_> {
    Document {
        path: publication.key_set_path(),
        content_type: "application/jwk-set+json",
        text: publication.key_set(),
        generation,
    }
}

fn discovery(publication: &Publication, generation: Option<u64>) -> Document<'_> {
    Document {
        path: Publication::DISCOVERY_PATH,
        content_type: "application/json",
        text: publication.discovery(),
        generation,
    }
}

/// Each replica that is faster costs one more round.
const MOST_TRIES: usize = 5;

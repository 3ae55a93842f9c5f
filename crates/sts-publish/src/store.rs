//! Where documents are put.

mod bucket;
mod config_map;
mod http;
mod open;

use k8s_openapi::api::core::v1::ConfigMap;
use object_store::UpdateVersion;

use crate::document::{Document, Held};
use crate::error::PublishError;

pub(crate) use bucket::{Bucket, Keeps};
pub(crate) use config_map::ConfigMapStore;
pub use http::public_roots;
pub(crate) use http::{Connector, document_client};

/// A place that documents are put in.
#[derive(Debug)]
pub(crate) enum Store {
    Bucket(Bucket),
    ConfigMap(Box<ConfigMapStore>),
}

/// What a condition on an object is made of.
#[derive(Debug)]
pub(crate) enum Version {
    ConfigMap(Box<ConfigMap>),
    Object(UpdateVersion),
    /// It is not there.
    Absent,
}

/// What came of a write.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Written {
    /// Somebody else was faster: nothing was written.
    Conflict,
    Done,
}

impl Store {
    /// What is held in a document's place, and what a write in its place is conditional on.
    pub(crate) async fn read(&self, path: &str) -> Result<(Option<Held>, Version), PublishError> {
        match self {
            Self::Bucket(bucket) => bucket.read(path).await,
            Self::ConfigMap(config_map) => config_map.read(path).await,
        }
    }

    /// Writes a document if its place is still as it was read.
    pub(crate) async fn write(
        &self,
        document: &Document<'_>,
        cache_control: &str,
        version: Version,
    ) -> Result<Written, PublishError> {
        match self {
            Self::Bucket(bucket) => bucket.write(document, cache_control, version).await,
            Self::ConfigMap(config_map) => config_map.write(document, version).await,
        }
    }

    /// Whether it keeps the generation beside a document.
    pub(crate) fn keeps_marks(&self) -> bool {
        match self {
            Self::Bucket(bucket) => bucket.keeps_marks(),
            Self::ConfigMap(_) => true,
        }
    }

    /// What people know a document in it by.
    pub(crate) fn name(&self, path: &str) -> String {
        match self {
            Self::Bucket(bucket) => bucket.name(path),
            Self::ConfigMap(config_map) => config_map.entry(path),
        }
    }
}

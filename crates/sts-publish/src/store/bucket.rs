//! Object stores and directories, all through one crate.

use std::sync::Arc;

use object_store::path::Path;
use object_store::{
    Attribute, Attributes, Error, GetResult, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions,
    UpdateVersion,
};
use sts_config::Writes;
use tokio::time::timeout;

use super::{Version, Written};
use crate::document::{Document, Held};
use crate::error::{CallError, LARGEST, PATIENCE, PublishError};

/// A place in an object store.
#[derive(Debug)]
pub(crate) struct Bucket {
    pub(crate) store: Arc<dyn ObjectStore>,
    /// What people know it by.
    pub(crate) title: String,
    /// What stands before the documents' own names.
    pub(crate) prefix: String,
    pub(crate) writes: Writes,
    pub(crate) keeps: Keeps,
}

/// What a store keeps beside an object.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Keeps {
    /// Content type, cache control, and marks of ours.
    Attributes,
    /// Nothing.
    BytesAlone,
}

/// A mark's name: one that is also an identifier, as Azure wants it.
const GENERATION: Attribute = Attribute::Metadata(std::borrow::Cow::Borrowed("generation"));

impl Bucket {
    pub(crate) async fn read(&self, path: &str) -> Result<(Option<Held>, Version), PublishError> {
        let reading = async {
            match self.store.get(&self.location(path)).await {
                Ok(got) => self
                    .take(path, got)
                    .await
                    .map(|(held, version)| (Some(held), version)),
                Err(Error::NotFound { .. }) => Ok((None, Version::Absent)),
                Err(error) => Err(self.failed(path, "read", error)),
            }
        };
        timeout(PATIENCE, reading)
            .await
            .unwrap_or(Err(PublishError::Slow))
    }

    async fn take(&self, path: &str, got: GetResult) -> Result<(Held, Version), PublishError> {
        if got.meta.size > LARGEST {
            return Err(PublishError::TooLarge {
                object: self.name(path),
                size: got.meta.size,
            });
        }
        let version = UpdateVersion {
            e_tag: got.meta.e_tag.clone(),
            version: got.meta.version.clone(),
        };
        let attribute = |attribute| {
            got.attributes
                .get(&attribute)
                .map(|value| value.as_ref().to_owned())
        };
        let generation = attribute(GENERATION).and_then(|text| text.parse().ok());
        let headers = [Attribute::ContentType, Attribute::CacheControl]
            .map(|name| attribute(name).unwrap_or_default());
        let bytes = got.bytes().await;
        let bytes = bytes.map_err(|error| self.failed(path, "read", error))?;
        let held = Held {
            bytes: bytes.to_vec(),
            generation,
            headers: self.keeps_marks().then_some(headers),
        };
        Ok((held, Version::Object(version)))
    }

    pub(crate) async fn write(
        &self,
        document: &Document<'_>,
        cache_control: &str,
        version: Version,
    ) -> Result<Written, PublishError> {
        let mode = match (self.writes, version) {
            (Writes::Unconditional, _) => PutMode::Overwrite,
            (Writes::Conditional, Version::Object(version)) => PutMode::Update(version),
            (Writes::Conditional, Version::Absent | Version::ConfigMap(_)) => PutMode::Create,
        };
        let options = PutOptions {
            mode,
            attributes: self.attributes(document, cache_control),
            ..PutOptions::default()
        };
        let location = self.location(document.path);
        let payload = document.text.to_owned().into();
        match timeout(PATIENCE, self.store.put_opts(&location, payload, options)).await {
            Ok(Ok(_)) => Ok(Written::Done),
            Ok(Err(
                Error::AlreadyExists { .. }
                | Error::Precondition { .. }
                | Error::NotModified { .. },
            )) => Ok(Written::Conflict),
            Ok(Err(error)) => Err(self.failed(document.path, "written", error)),
            Err(_elapsed) => Err(PublishError::Slow),
        }
    }

    fn attributes(&self, document: &Document<'_>, cache_control: &str) -> Attributes {
        let mut attributes = Attributes::new();
        if self.keeps_marks() {
            attributes.insert(Attribute::ContentType, document.content_type.into());
            attributes.insert(Attribute::CacheControl, cache_control.to_owned().into());
            if let Some(generation) = document.generation {
                attributes.insert(GENERATION, generation.to_string().into());
            }
        }
        attributes
    }

    pub(crate) fn keeps_marks(&self) -> bool {
        self.keeps == Keeps::Attributes
    }

    pub(crate) fn name(&self, path: &str) -> String {
        format!("{}/{}", self.title, self.location(path))
    }

    fn location(&self, path: &str) -> Path {
        Path::from(format!("{}/{path}", self.prefix))
    }

    fn failed(&self, path: &str, verb: &'static str, source: Error) -> PublishError {
        PublishError::Store {
            object: self.name(path),
            verb,
            source: CallError::ObjectStore(source),
        }
    }
}

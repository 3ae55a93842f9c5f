//! A store of what the configuration and the environment say.

use std::path::Path;
use std::sync::Arc;

use object_store::aws::{AmazonS3Builder, S3ConditionalPut};
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::{BackoffConfig, ObjectStore, RetryConfig};
use sts_config::{PublicStore, Publish, S3Store, Writes};
use sts_core::ident::Issuer;

use super::{Bucket, ConfigMapStore, Connector, Keeps, Store, document_client};
use crate::cloud_front::CloudFront;
use crate::error::{PATIENCE, SetupError};
use crate::publisher::Surroundings;
use crate::web_identity::WebIdentityCredentials;

impl Store {
    /// The store, and the CDN before it. Nothing is asked yet.
    pub(crate) fn open(
        publish: &Publish,
        issuer: &Issuer,
        surroundings: &Surroundings,
    ) -> Result<(Self, Option<CloudFront>), SetupError> {
        let mut cloud_front = None;
        let (store, title, keeps): (Arc<dyn ObjectStore>, String, Keeps) = match &publish.store {
            PublicStore::ConfigMap { name } => {
                let config_map = open_config_map(name, surroundings)?;
                return Ok((Self::ConfigMap(Box::new(config_map)), None));
            }
            PublicStore::Azure { account, container } => {
                let title = format!("azure://{account}/{container}");
                (open_azure(account, container)?, title, Keeps::Attributes)
            }
            PublicStore::Directory { path } => (
                open_directory(path)?,
                path.display().to_string(),
                Keeps::BytesAlone,
            ),
            PublicStore::Gcs { bucket } => (
                open_gcs(bucket)?,
                format!("gs://{bucket}"),
                Keeps::Attributes,
            ),
            PublicStore::S3(s3) => {
                let (store, cdn) = open_s3(s3, publish.writes, issuer, surroundings)?;
                cloud_front = cdn;
                (store, format!("s3://{}", s3.bucket), Keeps::Attributes)
            }
        };
        let bucket = Bucket {
            store,
            title,
            prefix: publish.prefix(issuer),
            writes: publish.writes,
            keeps,
        };
        Ok((Self::Bucket(bucket), cloud_front))
    }
}

fn open_config_map(name: &str, surroundings: &Surroundings) -> Result<ConfigMapStore, SetupError> {
    let client = surroundings.client.clone();
    let client = client.ok_or_else(|| SetupError::NoApiServer {
        name: name.to_owned(),
    })?;
    Ok(ConfigMapStore::new(client, &surroundings.namespace, name))
}

/// The directory is made if its parent is there: a volume is empty at first.
fn open_directory(path: &Path) -> Result<Arc<dyn ObjectStore>, SetupError> {
    std::fs::create_dir_all(path).map_err(|source| SetupError::Directory {
        path: path.to_owned(),
        source,
    })?;
    let store = LocalFileSystem::new_with_prefix(path).map_err(SetupError::Store)?;
    Ok(Arc::new(store))
}

/// Credentials by the environment, as Google's own tools have it: a key file, or the metadata service.
fn open_gcs(bucket: &str) -> Result<Arc<dyn ObjectStore>, SetupError> {
    let store = GoogleCloudStorageBuilder::from_env()
        .with_bucket_name(bucket)
        .with_http_connector(Connector(document_client(None)?))
        .with_retry(retries())
        .build()
        .map_err(SetupError::Store)?;
    Ok(Arc::new(store))
}

/// Credentials by the environment, as Azure's own tools have it: workload identity, a client's secret, a managed identity.
fn open_azure(account: &str, container: &str) -> Result<Arc<dyn ObjectStore>, SetupError> {
    let store = MicrosoftAzureBuilder::from_env()
        .with_account(account)
        .with_container_name(container)
        .with_http_connector(Connector(document_client(None)?))
        .with_retry(retries())
        .build()
        .map_err(SetupError::Store)?;
    Ok(Arc::new(store))
}

fn open_s3(
    s3: &S3Store,
    writes: Writes,
    issuer: &Issuer,
    surroundings: &Surroundings,
) -> Result<(Arc<dyn ObjectStore>, Option<CloudFront>), SetupError> {
    let client = document_client(s3.ca_file.as_deref())?;
    let mut builder = match &s3.web_identity {
        None => AmazonS3Builder::from_env(),
        Some(identity) => {
            let tokens = surroundings.tokens.clone().ok_or(SetupError::NoTokens)?;
            let credentials = WebIdentityCredentials::new(identity.clone(), tokens, client.clone());
            AmazonS3Builder::new().with_credentials(Arc::new(credentials))
        }
    };
    if let Some(endpoint) = &s3.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    let conditions = match writes {
        Writes::Conditional => S3ConditionalPut::ETagMatch,
        Writes::Unconditional => S3ConditionalPut::Disabled,
    };
    let store = builder
        .with_bucket_name(&s3.bucket)
        .with_region(&s3.region)
        .with_conditional_put(conditions)
        .with_http_connector(Connector(client))
        .with_retry(retries())
        .build()
        .map_err(SetupError::Store)?;
    let cloud_front = match &s3.cloud_front {
        // CloudFront is not in the bucket's store, so that its CA file says nothing about it.
        Some(distribution) => Some(CloudFront::new(
            distribution,
            issuer,
            store.credentials(),
            document_client(None)?,
        )),
        None => None,
    };
    Ok((Arc::new(store), cloud_front))
}

/// A few quick ones; whoever calls comes back anyway.
fn retries() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig::default(),
        max_retries: 2,
        retry_timeout: PATIENCE / 2,
    }
}

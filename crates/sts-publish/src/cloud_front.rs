//! Tells CloudFront to drop its copies after a change: one signed request.

use object_store::aws::{AwsAuthorizer, AwsCredentialProvider};
use object_store::client::{HttpClient, HttpRequest, HttpRequestBody};
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use sts_core::ident::Issuer;
use tokio::time::timeout;
use uuid::Uuid;

use crate::error::{CallError, PATIENCE, PublishError};

/// A distribution in front of a bucket.
#[derive(Debug)]
pub(crate) struct CloudFront {
    distribution: String,
    /// The issuer's path, as viewers have it, without slashes around it.
    path: String,
    credentials: AwsCredentialProvider,
    client: HttpClient,
    address: String,
}

/// CloudFront has one address for the whole world, and signatures for it name this region.
const ADDRESS: &str = "https://cloudfront.amazonaws.com";
const REGION: &str = "us-east-1";

impl CloudFront {
    /// With the credentials that the bucket is written with. The client must not follow redirects, which would carry the signed request
    /// elsewhere.
    pub(crate) fn new(
        distribution: &str,
        issuer: &Issuer,
        credentials: &AwsCredentialProvider,
        client: reqwest::Client,
    ) -> Self {
        let rest = issuer.as_str().trim_start_matches("https://");
        let path = rest.split_once('/').map_or("", |(_, path)| path);
        Self {
            distribution: distribution.to_owned(),
            path: path.trim_matches('/').to_owned(),
            credentials: AwsCredentialProvider::clone(credentials),
            client: HttpClient::new(client),
            address: ADDRESS.to_owned(),
        }
    }

    /// Drops the copies of these documents, named by their paths behind the issuer.
    pub(crate) async fn invalidate(&self, paths: &[&str]) -> Result<(), PublishError> {
        let body = batch(&self.path, paths, &Uuid::new_v4());
        timeout(PATIENCE, self.send(body))
            .await
            .unwrap_or(Err(PublishError::Slow))
    }

    async fn send(&self, body: String) -> Result<(), PublishError> {
        let failed = |source| PublishError::Invalidation {
            distribution: self.distribution.clone(),
            source,
        };
        let refused = |error| failed(CallError::ObjectStore(error));
        let credential = self.credentials.get_credential().await.map_err(refused)?;
        let address = format!(
            "{}/2020-05-31/distribution/{}/invalidation",
            self.address, self.distribution
        );
        let mut request = HttpRequest::new(HttpRequestBody::from(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = address
            .parse()
            .ok()
            .ok_or_else(|| failed(CallError::Unwritable))?;
        request
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("text/xml"));
        AwsAuthorizer::new(&credential, "cloudfront", REGION)
            .try_authorize(&mut request, None)
            .map_err(refused)?;
        let response = self.client.execute(request).await;
        let status = response
            .map_err(|error| failed(CallError::Http(error)))?
            .status();
        // 201, and nothing else: a redirect is no success either.
        if status == 201 {
            Ok(())
        } else {
            let status = status.as_u16();
            Err(failed(CallError::Status { status }))
        }
    }
}

/// The order. All that stands in it is of characters that XML and paths have no quarrel with.
fn batch(prefix: &str, paths: &[&str], reference: &Uuid) -> String {
    let slash = if prefix.is_empty() { "" } else { "/" };
    let items: Vec<String> = paths
        .iter()
        .map(|path| format!("<Path>/{prefix}{slash}{path}</Path>"))
        .collect();
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\
         <InvalidationBatch xmlns=\"http://cloudfront.amazonaws.com/doc/2020-05-31/\"><Paths><Quantity>{}</Quantity>\
         <Items>{}</Items></Paths><CallerReference>{reference}</CallerReference></InvalidationBatch>",
        paths.len(),
        items.concat()
    )
}

#[cfg(test)]
mod tests;

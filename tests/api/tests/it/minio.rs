//! MinIO on loopback: a bucket that anybody may read, and an STS that reads an issuer's documents from that very bucket.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use object_store::aws::{AwsAuthorizer, AwsCredential};
use object_store::client::{HttpClient, HttpRequest, HttpRequestBody};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use reqwest::{Certificate, Client, Method};
use serde_json::json;

use super::relay::Relay;
use super::wait::{PATIENCE, eventually};

/// The bucket with the documents.
pub(crate) const BUCKET: &str = "issuer";

/// A running MinIO; killed when it is dropped.
pub(crate) struct Minio {
    child: Child,
    /// One of loopback's of our own: an issuer has no port, so that it is 443.
    address: String,
    client: Client,
    pub(crate) ca_file: PathBuf,
}

/// A published document as anybody reads it.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    pub(crate) text: String,
    pub(crate) content_type: String,
    pub(crate) cache_control: String,
    pub(crate) generation: u64,
}

impl Minio {
    /// Trusts the issuer whose documents will be in the bucket, for tokens of AWS's audience; `sub` names the policy. Its administrator
    /// is whom the environment says, and with it the programs that are started here.
    pub(crate) async fn start(folder: &Path) -> Self {
        // Fails where a control plane of this process did it already.
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let address = free_address();
        let certificates = folder.join("minio-certificates");
        let ca_file = certificates.join("CAs/ca.crt");
        std::fs::create_dir_all(certificates.join("CAs")).unwrap();
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(vec![address.clone(), "localhost".to_owned()]).unwrap();
        for (path, text) in [
            (&ca_file, cert.pem()),
            (&certificates.join("public.crt"), cert.pem()),
            (
                &certificates.join("private.key"),
                signing_key.serialize_pem(),
            ),
        ] {
            std::fs::write(path, text).unwrap();
        }
        let roots = Certificate::from_pem_bundle(cert.pem().as_bytes()).unwrap();
        let client = Client::builder().tls_certs_only(roots).timeout(PATIENCE);
        let minio = Self {
            child: spawn(folder, &certificates, &address),
            address,
            client: client.build().unwrap(),
            ca_file,
        };
        minio.make_public(BUCKET).await;
        minio
    }

    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// The bucket's URL.
    pub(crate) fn issuer(&self) -> String {
        format!("{}/{BUCKET}", self.url())
    }

    /// A road to it on which writes can be held up.
    pub(crate) async fn relay(&self) -> Relay {
        let store = format!("{}:443", self.address).parse().unwrap();
        let certificates = self.ca_file.parent().unwrap().parent().unwrap();
        Relay::start(store, &self.ca_file, &certificates.join("private.key")).await
    }

    async fn make_public(&self, bucket: &str) {
        eventually("the bucket", async || {
            let path = format!("/{bucket}");
            let status = self.administer(Method::PUT, &path, String::new());
            (status.await == Some(200)).then_some(())
        })
        .await;
        let policy = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": ["*"]},
            "Action": ["s3:GetObject"], "Resource": [format!("arn:aws:s3:::{bucket}/*")]}]});
        let path = format!("/{bucket}?policy=");
        let status = self.administer(Method::PUT, &path, policy.to_string());
        assert_eq!(status.await, Some(204));
    }

    /// Lets the bearers of tokens with that `sub` do anything with the bucket. MinIO takes it once it has the issuer's documents.
    pub(crate) async fn allow(&self, subject: &str) {
        let policy = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ["s3:*"],
            "Resource": [format!("arn:aws:s3:::{BUCKET}"), format!("arn:aws:s3:::{BUCKET}/*")]}]});
        let path = format!("/minio/admin/v3/add-canned-policy?name={subject}");
        eventually("the policy", async || {
            let status = self.administer(Method::PUT, &path, policy.to_string());
            (status.await == Some(200)).then_some(())
        })
        .await;
    }

    /// One signed request of the administrator's: the status, or nothing while nobody answers.
    async fn administer(&self, method: Method, path: &str, body: String) -> Option<u16> {
        let mut request = HttpRequest::new(HttpRequestBody::from(body));
        *request.method_mut() = method;
        *request.uri_mut() = format!("{}{path}", self.url()).parse().unwrap();
        let credential = AwsCredential {
            key_id: variable("AWS_ACCESS_KEY_ID"),
            secret_key: variable("AWS_SECRET_ACCESS_KEY"),
            token: None,
        };
        let signer = AwsAuthorizer::new(&credential, "s3", "us-east-1");
        signer.try_authorize(&mut request, None).unwrap();
        let answer = HttpClient::new(self.client.clone()).execute(request).await;
        answer.ok().map(|answer| answer.status().as_u16())
    }

    /// What is published under the issuer.
    pub(crate) async fn document(&self, path: &str) -> Option<Document> {
        let url = format!("{}/{path}", self.issuer());
        let answer = self.client.get(url).send().await.unwrap();
        let answer = answer.error_for_status().ok()?;
        let header = |name: &str| {
            let value = answer.headers().get(name);
            value.map_or("", |value| value.to_str().unwrap()).to_owned()
        };
        let (content_type, cache_control) = (header("content-type"), header("cache-control"));
        let generation = header("x-amz-meta-generation");
        Some(Document {
            content_type,
            cache_control,
            generation: generation.parse().unwrap_or_default(),
            text: answer.text().await.unwrap(),
        })
    }

    /// What it answers to `AssumeRoleWithWebIdentity`: nothing if it gives credentials.
    pub(crate) async fn refuses(&self, token: &str) -> Option<String> {
        let form = [
            ("Action", "AssumeRoleWithWebIdentity"),
            ("Version", "2011-06-15"),
            ("WebIdentityToken", token),
        ];
        let request = self.client.post(self.url()).form(&form);
        let answer = request.send().await.unwrap().text().await.unwrap();
        (!answer.contains("<SecretAccessKey>")).then_some(answer)
    }
}

impl Drop for Minio {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn spawn(folder: &Path, certificates: &Path, address: &str) -> Child {
    let discovery = format!("https://{address}/{BUCKET}/.well-known/openid-configuration");
    let log = std::fs::File::create(folder.join("minio.log")).unwrap();
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--"])
        .arg(variable("KUBE_STS_MINIO"))
        .args(["server", "--address", &format!("{address}:443")])
        .arg("--certs-dir")
        .arg(certificates)
        .arg(folder.join("minio"))
        .env("MINIO_ROOT_USER", variable("AWS_ACCESS_KEY_ID"))
        .env("MINIO_ROOT_PASSWORD", variable("AWS_SECRET_ACCESS_KEY"))
        .env("MINIO_BROWSER", "off")
        .env("MINIO_UPDATE", "off")
        .env("MINIO_IDENTITY_OPENID_CONFIG_URL", discovery)
        .env("MINIO_IDENTITY_OPENID_CLIENT_ID", "sts.amazonaws.com")
        // For nothing, but never empty: tokens signed with the empty key would be taken.
        .env("MINIO_IDENTITY_OPENID_CLIENT_SECRET", "not-empty")
        .env("MINIO_IDENTITY_OPENID_CLAIM_NAME", "sub")
        .stdout(Stdio::from(log.try_clone().unwrap()))
        .stderr(Stdio::from(log))
        .spawn()
        .unwrap()
}

/// Each MinIO of each test program has its own.
fn free_address() -> String {
    use std::sync::atomic::{AtomicU8, Ordering};
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = std::process::id().to_be_bytes();
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    // 127.16.0.0/12 has room for all of it, and nothing else of the tests listens there.
    format!("127.{}.{high}.{}", 16 + number, low.max(1))
}

/// What `cargo xtask test --only api` says.
pub(crate) fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: run `cargo xtask test --only api`, which sets it")
    })
}

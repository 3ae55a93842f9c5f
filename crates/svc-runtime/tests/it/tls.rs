//! What the TLS edge takes, and what becomes of clients when certificates change: the rows of docs/security-tests/tls.md.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use prometheus_client::registry::Registry;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind};
use svc_runtime::tls::{CaBundle, KeyPairPem, ServingCertificate, ephemeral, follow_files};
use svc_runtime::{Limits, Readiness, Shutdown, clock};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::support::{NAME, Server, background, fresh_pair, handshake, tls_config};

const PATIENCE: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Fails the test if it does not become true.
async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let wait = async {
        while !is_so() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    let in_time = timeout(PATIENCE, wait).await.is_ok();
    assert!(in_time, "{what}: not in time");
}

#[tokio::test]
async fn tls_001_versions_1_2_and_1_3_are_served() {
    let server = Server::start(Limits::default()).await;
    for version in [&TLS12, &TLS13] {
        let config = Arc::new(tls_config(&[&server.ca], &[version]));
        let stream = handshake(server.address, config).await.unwrap();
        let spoken = stream.get_ref().1.protocol_version().unwrap();
        assert_eq!(spoken, version.version);
    }
}

#[tokio::test]
async fn tls_001_older_versions_are_refused() {
    let server = Server::start(Limits::default()).await;
    for minor in [0, 1, 2] {
        // TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA and its like, which such clients speak (RFC 4492, RFC 5246 section 7.4.1.2).
        let suites = [0xc0, 0x09, 0xc0, 0x13, 0x00, 0x2f];
        let mut hello = vec![3, minor];
        hello.extend([7; 32]);
        hello.extend([0, 0, 6]);
        hello.extend(suites);
        hello.extend([1, 0]);
        let length = u8::try_from(hello.len()).unwrap();
        let mut record = vec![22, 3, minor, 0, length + 4, 1, 0, 0, length];
        record.extend(hello);
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(&record).await.unwrap();
        let mut answer = Vec::new();
        let read = timeout(PATIENCE, stream.read_to_end(&mut answer));
        drop(read.await.expect("kept open"));
        // A fatal alert, and nothing of a handshake.
        assert!(answer.is_empty() || answer.starts_with(&[21]), "{answer:?}");
    }
}

#[tokio::test]
async fn tls_002_every_suite_is_authenticated_encryption_with_forward_secrecy() {
    let config = ServingCertificate::empty().server_config();
    assert_eq!(config.max_early_data_size, 0);
    assert!(config.cert_compressors.is_empty());
    let suites = &config.crypto_provider().cipher_suites;
    assert!(!suites.is_empty());
    for suite in suites {
        let name = format!("{:?}", suite.suite());
        let forward_secret = name.contains("ECDHE") || name.starts_with("TLS13_");
        let authenticated = name.contains("GCM") || name.contains("CHACHA20_POLY1305");
        assert!(forward_secret && authenticated, "{name}");
    }
}

/// A volume as the kubelet makes it: the files are links into a folder behind a link, and that link is replaced as a whole.
struct Volume {
    folder: TempDir,
    count: AtomicUsize,
}

impl Volume {
    fn new(pair: &KeyPairPem) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for file in ["tls.crt", "tls.key"] {
            symlink(Path::new("..data").join(file), folder.path().join(file)).unwrap();
        }
        let this = Self {
            folder,
            count: AtomicUsize::new(0),
        };
        this.swap(pair.chain_pem(), pair.expose_key_pem());
        this
    }

    fn swap(&self, chain: &[u8], key: &[u8]) {
        let name = format!("..{}", self.count.fetch_add(1, Ordering::Relaxed));
        let path = |name: &str| self.folder.path().join(name);
        std::fs::create_dir(path(&name)).unwrap();
        std::fs::write(path(&name).join("tls.crt"), chain).unwrap();
        std::fs::write(path(&name).join("tls.key"), key).unwrap();
        symlink(&name, path("..data_tmp")).unwrap();
        std::fs::rename(path("..data_tmp"), path("..data")).unwrap();
    }

    fn follow(
        &self,
        into: &ServingCertificate,
        readiness: &Readiness,
        shutdown: &Shutdown,
    ) -> JoinHandle<()> {
        let path = |file: &str| self.folder.path().join(file);
        let (chain, key, into) = (path("tls.crt"), path("tls.key"), into.clone());
        let (condition, shutdown) = (readiness.condition("certificate"), shutdown.clone());
        background(async move {
            let followed = follow_files(&chain, &key, LOOK_EVERY, into, condition, shutdown);
            followed.await.unwrap();
        })
    }
}

/// Twenty certificates, each of a CA of its own, while half of the clients keep their connections and half shake hands each time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_003_swapped_files_are_served_and_no_request_fails() {
    let server = Server::start(Limits::default()).await;
    let pairs: Vec<(KeyPairPem, CaBundle)> = (0..20).map(|_| fresh_pair()).collect();
    let cas: Vec<&CaBundle> = pairs.iter().map(|(_, ca)| ca).chain([&server.ca]).collect();
    let mut idle = server.connect(b"http/1.1").await;
    let (done, stop) = (Arc::new(AtomicUsize::new(0)), Shutdown::new());
    let load = [1, 0, 1, 0].map(|connections| {
        let client = reqwest::Client::builder()
            .use_preconfigured_tls(tls_config(&cas, &[&TLS13, &TLS12]))
            .resolve(NAME, server.address)
            .pool_max_idle_per_host(connections)
            .no_proxy()
            .build()
            .unwrap();
        let (url, done, stop) = (server.url("/peer"), Arc::clone(&done), stop.clone());
        background(async move {
            while !stop.is_requested() {
                let response = client.get(&url).send().await.unwrap();
                assert_eq!(response.text().await.unwrap(), "127.0.0.1");
                done.fetch_add(1, Ordering::Relaxed);
            }
        })
    });
    let volume = Volume::new(&pairs[0].0);
    let (readiness, shutdown) = (Readiness::new(), Shutdown::new());
    let follower = volume.follow(&server.certificate, &readiness, &shutdown);
    for (pair, _) in &pairs[1..] {
        let before = server.certificate.leaf_der();
        volume.swap(pair.chain_pem(), pair.expose_key_pem());
        eventually("the swapped pair", || {
            server.certificate.leaf_der() != before
        })
        .await;
        let requests = done.load(Ordering::Relaxed) + 20;
        eventually("requests meanwhile", || {
            done.load(Ordering::Relaxed) >= requests
        })
        .await;
    }
    stop.request();
    for requests in load {
        requests.await.unwrap();
    }
    let request = b"GET /peer HTTP/1.1\r\nhost: server.test\r\nconnection: close\r\n\r\n";
    idle.write_all(request).await.unwrap();
    let mut answer = String::new();
    drop(
        timeout(PATIENCE, idle.read_to_string(&mut answer))
            .await
            .unwrap(),
    );
    assert!(
        answer.starts_with("HTTP/1.1 200"),
        "an idle connection was closed: {answer}"
    );
    shutdown.request();
    follower.await.unwrap();
}

#[tokio::test]
async fn tls_004_a_bad_file_keeps_the_old_pair_and_alarms() {
    let (good, _) = fresh_pair();
    let volume = Volume::new(&good);
    let (certificate, readiness) = (ServingCertificate::empty(), Readiness::new());
    let mut metrics = Registry::default();
    certificate.register_metrics(&mut metrics);
    let shutdown = Shutdown::new();
    let follower = volume.follow(&certificate, &readiness, &shutdown);
    let refused = || {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &metrics).unwrap();
        text.contains("tls_certificate_refused 1")
    };
    eventually("the first pair", || readiness.is_ready()).await;
    let at = |offset: SignedDuration| {
        let now: Timestamp = clock::now() + offset;
        ephemeral(&[NAME.to_owned()], now).unwrap().0
    };
    let day = |days: i64| SignedDuration::from_hours(24 * days);
    let (other, _) = fresh_pair();
    let (expired, early) = (at(day(-200)), at(day(2)));
    let bad: [(&str, &[u8], &[u8]); 6] = [
        ("expired", expired.chain_pem(), expired.expose_key_pem()),
        ("not valid yet", early.chain_pem(), early.expose_key_pem()),
        ("mismatched", good.chain_pem(), other.expose_key_pem()),
        ("empty certificate", b"", good.expose_key_pem()),
        ("empty key", good.chain_pem(), b""),
        (
            "half a key",
            good.chain_pem(),
            b"-----BEGIN PRIVATE KEY-----\nMII",
        ),
    ];
    let before = certificate.leaf_der();
    for (what, chain, key) in bad {
        volume.swap(chain, key);
        eventually(what, refused).await;
        assert_eq!(certificate.leaf_der(), before, "{what}");
        assert!(readiness.is_ready(), "{what}");
        volume.swap(good.chain_pem(), good.expose_key_pem());
        eventually("no alarm", || !refused()).await;
    }
    shutdown.request();
    follower.await.unwrap();
}

/// Sessions are one replica's: another one, or the same with another certificate, is no worse than a new handshake.
#[tokio::test]
async fn tls_012_a_session_of_one_replica_falls_back_to_a_handshake_at_another() {
    for version in [&TLS12, &TLS13] {
        let (one, other) = (
            Server::start(Limits::default()).await,
            Server::start(Limits::default()).await,
        );
        let config = Arc::new(tls_config(&[&one.ca, &other.ca], &[version]));
        let kind = async |server: &Server| handshake_kind(server, &config).await;
        assert_eq!(kind(&one).await, HandshakeKind::Full);
        assert_eq!(kind(&one).await, HandshakeKind::Resumed);
        assert_eq!(kind(&other).await, HandshakeKind::Full);
        one.certificate.replace(fresh_pair().0).unwrap();
        assert_eq!(kind(&other).await, HandshakeKind::Resumed);
    }
}

/// One request, and whether its connection resumed a session.
async fn handshake_kind(server: &Server, config: &Arc<ClientConfig>) -> HandshakeKind {
    let connected = handshake(server.address, Arc::clone(config)).await;
    let mut stream = connected.unwrap();
    let request = b"GET /peer HTTP/1.1\r\nhost: server.test\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    // The ticket of TLS 1.3 comes with the answer.
    drop(stream.read_to_end(&mut answer).await);
    assert!(answer.starts_with(b"HTTP/1.1 200"));
    stream.get_ref().1.handshake_kind().unwrap()
}

/// As those of a sidecar must, which comes back minutes later: what a server has room for in its memory are 256.
#[tokio::test]
async fn tls_012_a_session_outlives_hundreds_of_others() {
    let server = Server::start(Limits::default()).await;
    let client = || Arc::new(tls_config(&[&server.ca], &[&TLS13]));
    let first = client();
    assert_eq!(handshake_kind(&server, &first).await, HandshakeKind::Full);
    for _ in 0..300 {
        assert_eq!(
            handshake_kind(&server, &client()).await,
            HandshakeKind::Full
        );
    }
    assert_eq!(
        handshake_kind(&server, &first).await,
        HandshakeKind::Resumed
    );
}

//! One CA after another, under the API server's eyes: the injector's `caBundle` and the server's ConfigMap.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nix::sys::signal::Signal;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::install::Install;
use super::load::Load;
use super::process::Process;
use super::wait::{POLL, eventually};
use super::webhook::{self, is_injected, labelled};

/// A CA issues for a moment, and half of that is overlap.
fn hasty() -> Value {
    json!({"secret": "injector-tls", "rotation": {
        "authorityLifetime": "1h", "certificateLifetime": "10m", "rotateEvery": "2s", "overlap": "1s", "retireAfter": "1s"}})
}

/// How old a client's knowledge may be that the test takes for a client's: less than the overlap.
const LAG: Duration = Duration::from_millis(900);

/// How many CAs follow each other in the test under load.
#[expect(
    clippy::disallowed_methods,
    reason = "the environment is how a longer run is asked for"
)]
fn rotations() -> usize {
    let given = std::env::var("KUBE_STS_TEST_ROTATIONS").ok();
    given.map_or(20, |number| number.parse().unwrap())
}

type Connection = StreamOwned<ClientConnection, TcpStream>;

/// A client that trusts this bundle alone.
fn client(name: &str, bundle: &str) -> ClientConnection {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    ClientConnection::new(Arc::new(config), name).unwrap()
}

/// A handshake of it.
fn connect(address: SocketAddr, name: &str, bundle: &str) -> Result<Connection, String> {
    let mut client = client(name, bundle);
    let failed = |error: io::Error| format!("{address}: {error}");
    let mut stream = TcpStream::connect(address).map_err(failed)?;
    let patience = Some(Duration::from_secs(10));
    stream.set_read_timeout(patience).map_err(failed)?;
    while client.is_handshaking() {
        client.complete_io(&mut stream).map_err(failed)?;
    }
    Ok(StreamOwned::new(client, stream))
}

/// The status line of an answer on a connection that stays open.
fn ask(connection: &mut Connection) -> String {
    let request = b"GET / HTTP/1.1\r\nhost: injector\r\n\r\n";
    connection.write_all(request).unwrap();
    let mut answer = [0; 512];
    let length = connection.read(&mut answer).unwrap();
    let text = String::from_utf8_lossy(&answer[..length]);
    text.lines().next().unwrap_or_default().to_owned()
}

/// Two injectors that the API server chooses from for each connection.
struct Two {
    install: Install,
    addresses: [SocketAddr; 2],
    injectors: [Process; 2],
    _server: Process,
}

impl Two {
    async fn start(called: usize) -> Self {
        let mut install = Install::new().await;
        install.injector_tls = hasty();
        let addresses = [webhook::address(), webhook::address()];
        webhook::create_service(&install, addresses[0]).await;
        if called > 1 {
            webhook::create_slice(&install, 2, addresses[1]).await;
        }
        webhook::create_configuration(&install, "nowhere").await;
        let mut server = Process::server(&install);
        let mut injectors = addresses.map(|listen| Process::injector(&install, listen));
        server.becomes_ready().await;
        for injector in &mut injectors {
            injector.becomes_ready().await;
        }
        let this = Self {
            install,
            addresses,
            injectors,
            _server: server,
        };
        let admit = this.admission();
        eventually("the webhook is called", async || admit(0).await.ok()).await;
        this
    }

    /// A pod is created, but for the last step.
    fn admission(&self) -> impl Fn(usize) -> futures::Answer + Send + use<> {
        let (plane, path) = (
            self.install.plane,
            self.install.apps_path("pods?dryRun=All"),
        );
        let client = plane.client().unwrap();
        move |number| {
            let (client, path) = (client.clone(), path.clone());
            Box::pin(async move {
                let pod = labelled(&format!("pod-{number}"));
                let (status, answer) = plane.send_by(&client, "POST", &path, &pod).await;
                if status == 201 && is_injected(&answer) {
                    Ok(())
                } else {
                    Err(format!("{status} {answer}"))
                }
            })
        }
    }

    /// A handshake with one replica by what was the `caBundle` a little earlier, as an API server does it whose watch is slow.
    fn handshake(
        &self,
        replica: usize,
        lag: Duration,
    ) -> impl Fn(usize) -> futures::Answer + Send + use<> {
        let (plane, path) = (self.install.plane, self.configuration());
        let (client, address, name) = (
            plane.client().unwrap(),
            self.addresses[replica],
            self.name(),
        );
        move |_| {
            let (client, path, name) = (client.clone(), path.clone(), name.clone());
            Box::pin(async move {
                let read = Instant::now();
                let (_, object) = plane.send_by(&client, "GET", &path, &Value::Null).await;
                let bundle = ca_bundle(&object).ok_or_else(|| format!("no caBundle: {object}"))?;
                sleep(lag).await;
                let tried =
                    tokio::task::spawn_blocking(move || connect(address, &name, &bundle).map(drop));
                let tried = tried.await.unwrap();
                // On a busy machine it may have taken longer than what is promised.
                if read.elapsed() < LAG { tried } else { Ok(()) }
            })
        }
    }

    /// The replica is ready.
    fn readiness(&self, replica: usize) -> impl Fn(usize) -> futures::Answer + Send + use<> {
        let admin = self.injectors[replica].admin;
        move |_| {
            Box::pin(async move {
                let url = format!("http://{admin}/readyz");
                // On a busy machine the second is over in which the port waits for a request. The kubelet asks again, too.
                let answer = match reqwest::get(&url).await {
                    Ok(answer) => Ok(answer),
                    Err(_) => reqwest::get(&url).await,
                };
                let answer = answer.map_err(|error| format!("{error:?}"))?;
                let status = answer.status().as_u16();
                let text = answer.text().await.unwrap_or_default();
                if status == 200 { Ok(()) } else { Err(text) }
            })
        }
    }

    fn configuration(&self) -> String {
        format!("{}/{}", webhook::CONFIGURATIONS, self.install.namespace)
    }

    fn name(&self) -> String {
        format!("injector.{}.svc", self.install.namespace)
    }

    async fn live_bundle(&self) -> String {
        ca_bundle(&self.install.plane.get(&self.configuration()).await).unwrap()
    }

    /// Waits until so many CAs more have taken over.
    async fn rotate(&self, times: usize) {
        let mut last = issuing_since(&self.install, "injector-tls").await;
        for number in 0..times {
            last = eventually(&format!("take-over {number}"), async || {
                let now = issuing_since(&self.install, "injector-tls").await;
                (now != last).then_some(now)
            })
            .await;
        }
    }
}

mod futures {
    use std::pin::Pin;

    /// What an attempt returns.
    pub(super) type Answer = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;
}

fn ca_bundle(configuration: &Value) -> Option<String> {
    let encoded = configuration["webhooks"][0]["clientConfig"]["caBundle"].as_str()?;
    String::from_utf8(STANDARD.decode(encoded).ok()?).ok()
}

async fn annotations(install: &Install, secret: &str) -> Value {
    let object = install
        .plane
        .get(&install.path(&format!("secrets/{secret}")))
        .await;
    object["metadata"]["annotations"].clone()
}

/// Since when the CA issues that issues now.
async fn issuing_since(install: &Install, secret: &str) -> Value {
    annotations(install, secret).await["sts.tremolo.io/ca-issuing-since"].clone()
}

#[tokio::test]
async fn tls_003_005_cas_follow_each_other_under_load_and_no_admission_fails() {
    let two = Two::start(2).await;
    let bundle = two.live_bundle().await;
    let mut idle = two
        .addresses
        .map(|address| connect(address, &two.name(), &bundle).unwrap());
    for connection in &mut idle {
        assert!(ask(connection).starts_with("HTTP/1.1 "));
    }
    let mut load = Load::default();
    for _ in 0..6 {
        load.add("admissions", Duration::from_millis(100), two.admission());
    }
    for replica in 0..2 {
        for lag in [0, 200, 500] {
            let lag = Duration::from_millis(lag);
            load.add("handshakes", POLL, two.handshake(replica, lag));
        }
        load.add("readiness", POLL, two.readiness(replica));
    }
    let (start, rotations) = (Instant::now(), rotations());
    two.rotate(rotations).await;
    let figures = format!("{rotations} CAs took over within {:?}", start.elapsed());
    load.stop_without_failures(&figures).await;
    for connection in &mut idle {
        assert!(
            ask(connection).starts_with("HTTP/1.1 "),
            "an idle connection was closed"
        );
    }
}

/// One replica sleeps through several rotations or dies in the midst of them: the other goes on, and whoever comes back is no harm.
#[tokio::test]
async fn tls_005_a_replica_that_slept_or_died_writes_nothing_old_back() {
    let mut two = Two::start(1).await;
    let mut load = Load::default();
    for _ in 0..2 {
        load.add("admissions", Duration::from_millis(80), two.admission());
    }
    for lag in [0, 200] {
        load.add(
            "handshakes",
            POLL,
            two.handshake(0, Duration::from_millis(lag)),
        );
    }
    load.add("readiness", POLL, two.readiness(0));
    for nap in [300, 900, 1700] {
        two.injectors[1].signal(Signal::SIGSTOP);
        two.rotate(2).await;
        sleep(Duration::from_millis(nap)).await;
        two.injectors[1].signal(Signal::SIGCONT);
        two.rotate(1).await;
        two.injectors[1].becomes_ready().await;
    }
    for nap in [100, 700, 1300, 1900] {
        sleep(Duration::from_millis(nap)).await;
        two.injectors[1].signal(Signal::SIGKILL);
        eventually("nobody answers", async || {
            let (status, _) = two.injectors[1].readiness().await;
            (status == 0).then_some(())
        })
        .await;
        two.injectors[1] = Process::injector(&two.install, two.addresses[1]);
        two.injectors[1].becomes_ready().await;
    }
    two.rotate(1).await;
    load.stop_without_failures("naps and deaths").await;
    let bundle = two.live_bundle().await;
    drop(connect(two.addresses[1], &two.name(), &bundle).unwrap());
}

/// A person asks, and sidecars made from then on trust both CAs. Those of before go on being served, when the overlap is over and the old
/// CA gone too: by its word. Only an emptied Secret locks them out.
#[tokio::test]
async fn ref_003_tls_005_sidecars_of_before_are_served_until_the_secret_is_emptied() {
    let mut install = Install::new().await;
    install.server_tls = json!({"secret": "server-tls", "caConfigMap": "server-ca", "rotation": {
        "authorityLifetime": "1h", "certificateLifetime": "10m", "rotateEvery": "20m", "overlap": "3s", "retireAfter": "1s"}});
    let mut servers = [Process::server(&install), Process::server(&install)];
    for server in &mut servers {
        server.becomes_ready().await;
    }
    let before = install.server_ca().await;
    let ask = json!({"metadata": {"annotations": {"sts.tremolo.io/rotate": "the old key is old"}}});
    let path = install.path("secrets/server-tls");
    drop(install.plane.ok("PATCH", &path, Some(&ask)).await);
    let both = eventually("both CAs are published", async || {
        let now = install.server_ca().await;
        (now != before).then_some(now)
    })
    .await;
    assert!(both.starts_with(&before), "{both}");
    let host = install.host();
    let served = |bundle: &str| {
        let connect = |server: &Process| connect(server.listen, &host, bundle);
        servers.iter().map(connect).all(|outcome| outcome.is_ok())
    };
    assert!(served(&before) && served(&both));
    let since = issuing_since(&install, "server-tls").await;
    let after = eventually("the new CA alone", async || {
        assert!(served(&both), "a sidecar made since is always served");
        let now = install.server_ca().await;
        (now != both).then_some(now)
    })
    .await;
    assert_ne!(issuing_since(&install, "server-tls").await, since);
    assert!(served(&after) && served(&before));
    let annotations = annotations(&install, "server-tls").await;
    assert_eq!(annotations["sts.tremolo.io/rotated"], "the old key is old");
    let story = annotations["sts.tremolo.io/rotation"].as_str().unwrap();
    assert!(story.contains("its successor is made at"), "{story}");
    let emptied = json!({"data": null});
    drop(install.plane.ok("PATCH", &path, Some(&emptied)).await);
    eventually("the sidecars of before are locked out", async || {
        let new = install.server_ca().await;
        (new != after && served(&new) && !served(&before) && !served(&both)).then_some(())
    })
    .await;
}

/// A CA and a certificate of it for this name, as somebody else would make them: the CA, the certificate, its key.
fn given(name: &str) -> [String; 3] {
    let authority_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&authority_key).unwrap().pem();
    let issuer = Issuer::new(params, authority_key);
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new([name.to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap().pem();
    [authority, certificate, key.serialize_pem()]
}

/// As with cert-manager: the certificate is in files, and somebody else keeps the `caBundle`.
#[tokio::test]
async fn with_a_given_certificate_the_injector_is_ready_while_the_live_ca_bundle_verifies_it() {
    let mut install = Install::new().await;
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
    let name = format!("injector.{}.svc", install.namespace);
    let [authority, chain, key_pem] = given(&name);
    std::fs::write(&certificate, chain).unwrap();
    std::fs::write(&key, key_pem).unwrap();
    install.injector_tls = json!({"files": {"certificate": certificate, "key": key}});
    let listen = webhook::address();
    webhook::create_service(&install, listen).await;
    webhook::create_configuration(&install, "nowhere").await;
    let mut server = Process::server(&install);
    server.becomes_ready().await;
    let mut injector = Process::injector(&install, listen);
    let path = format!("{}/{}", webhook::CONFIGURATIONS, install.namespace);
    let put = async |bundle: &str| {
        let mut object = install.plane.get(&path).await;
        for webhook in object["webhooks"].as_array_mut().unwrap() {
            webhook["clientConfig"]["caBundle"] = json!(STANDARD.encode(bundle));
        }
        drop(install.plane.ok("PUT", &path, Some(&object)).await);
    };
    let [other, ..] = given(&name);
    for bundle in ["", other.as_str()] {
        put(bundle).await;
        eventually("not ready", async || {
            let (status, text) = injector.readiness().await;
            let alone = text.starts_with("caBundle: who trusts the caBundle does not accept");
            (status == 503 && alone).then_some(())
        })
        .await;
    }
    put(&format!("{other}{authority}")).await;
    injector.becomes_ready().await;
    eventually("the webhook is called", async || {
        let (pods, pod) = (install.apps_path("pods?dryRun=All"), labelled("given"));
        let (status, pod) = install.plane.call("POST", &pods, Some(&pod)).await;
        (status == 201 && is_injected(&pod)).then_some(())
    })
    .await;
    let kept = ca_bundle(&install.plane.get(&path).await);
    assert_eq!(
        kept,
        Some(format!("{other}{authority}")),
        "it is not ours to write"
    );
    an_entry_is_added(&install, &injector).await;
}

/// An endpoint more, whose entry nobody has filled yet, takes the others' away from no pod.
async fn an_entry_is_added(install: &Install, injector: &Process) {
    let path = format!("{}/{}", webhook::CONFIGURATIONS, install.namespace);
    let mut object = install.plane.get(&path).await;
    let entries = object["webhooks"].as_array_mut().unwrap();
    entries.push(webhook::entry(install, "nowhere", "new"));
    drop(install.plane.ok("PUT", &path, Some(&object)).await);
    eventually("it is noticed", async || {
        let lines = injector.lines();
        let said = lines
            .iter()
            .any(|line| line.contains("some caBundle does not accept"));
        said.then_some(())
    })
    .await;
    assert_eq!(injector.readiness().await.0, 200);
    let (pods, pod) = (install.apps_path("pods?dryRun=All"), labelled("given"));
    let (status, pod) = install.plane.call("POST", &pods, Some(&pod)).await;
    assert!(status == 201 && is_injected(&pod), "{status} {pod}");
}

/// Whoever made an empty one in its place first, as helm does.
#[tokio::test]
async fn a_deleted_secret_comes_back_with_its_ca() {
    let webhook = webhook::Webhook::start().await;
    let (install, plane) = (&webhook.install, webhook.install.plane);
    for (name, is_made) in [
        ("injector-tls", false),
        ("injector-tls", true),
        ("server-tls", false),
        ("server-tls", true),
    ] {
        let path = install.path(&format!("secrets/{name}"));
        let before = plane.get(&path).await;
        plane.delete(&path).await;
        if is_made {
            // Either may be first.
            let empty = json!({"metadata": {"name": name}, "type": "Opaque"});
            let path = install.path("secrets");
            drop(plane.call("POST", &path, Some(&empty)).await);
        }
        let now = eventually("it is filled", async || {
            let (_, now) = plane.call("GET", &path, None).await;
            now["data"].is_object().then_some(now)
        })
        .await;
        assert_ne!(now["metadata"]["uid"], before["metadata"]["uid"], "{name}");
        assert_eq!(now["data"], before["data"], "{name}");
    }
    let (status, pod) = webhook.dry_run(&labelled("pod")).await;
    assert!(status == 201 && is_injected(&pod), "{status} {pod}");
}

/// The emergency: nothing of the old CA is left where clients look, and admissions come back by themselves.
#[tokio::test]
async fn an_emptied_secret_gets_a_new_ca_at_once() {
    let two = Two::start(2).await;
    let before = two.live_bundle().await;
    let empty = json!({"data": null});
    let path = two.install.path("secrets/injector-tls");
    let start = Instant::now();
    drop(two.install.plane.ok("PATCH", &path, Some(&empty)).await);
    let old: Vec<&str> = before
        .split_inclusive("-----END CERTIFICATE-----\n")
        .collect();
    eventually("no CA of before is trusted", async || {
        let now = two.live_bundle().await;
        (!old.iter().any(|certificate| now.contains(certificate))).then_some(())
    })
    .await;
    let admit = two.admission();
    eventually("pods are admitted again", async || admit(0).await.ok()).await;
    let outage = start.elapsed();
    assert!(outage < Duration::from_secs(15), "{outage:?}");
    for replica in 0..2 {
        let ready = two.readiness(replica);
        eventually("ready", async || ready(0).await.ok()).await;
    }
}

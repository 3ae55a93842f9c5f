//! Two clusters, that is two API servers: each with its issuer, its keys and its own word about who is alive.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::control_plane::ControlPlane;
use super::install::{BLUE_SECRET, Install, Pod, SECOND_KEY, Variant};
use super::process::Process;
use super::wait::eventually;

const BLUE: &str = "https://blue.example.com";

/// The cluster that the server runs in, and the other one.
struct Two {
    own: Install,
    blue: Install,
}

impl Two {
    async fn start() -> Self {
        let blue = blue_plane().await;
        let variant = Variant {
            presence: &["list", "watch"],
            ..Variant::default()
        };
        Self {
            own: Install::variant(variant).await,
            blue: Install::on(blue, variant).await,
        }
    }

    /// A server that takes tokens of both, and knows of the other cluster's API server what `connection` says.
    async fn server(&self, verification: &str, connection: Value) -> Process {
        let mut server = Process::server_with(&self.own, |config| {
            let mut cluster = json!({"name": "blue", "issuer": BLUE});
            merge(&mut cluster, &connection);
            config["clusters"].as_array_mut().unwrap().push(cluster);
            let mut second = config["endpoints"][0].clone();
            let endpoint = &mut config["endpoints"][0];
            endpoint["verification"] = json!(verification);
            // Both clusters may have a ServiceAccount of one name: only the cluster tells them apart.
            endpoint["subject"] = json!("openunison");
            endpoint["rules"] = json!([
                {"filter": format!("(&(cluster=blue)(namespace={}))", self.blue.apps)},
                {"filter": format!("(&(cluster=kubernetes)(namespace={}))", self.own.apps)},
            ]);
            merge(
                &mut second,
                &json!({
                    "name": "alone", "path": "/alone", "issuer": "https://alone.example.com", "key": {"secret": SECOND_KEY},
                    "clusters": ["kubernetes"], "allowAll": true, "rules": [], "injector": null,
                }),
            );
            config["endpoints"].as_array_mut().unwrap().push(second);
        });
        server.becomes_ready().await;
        server
    }

    async fn pod(&self, install: &Install, name: &str) -> (Pod, String) {
        let pod = install.create_pod(name, "app").await;
        let token = install.pod_token(&pod, Some(&self.own.audience())).await;
        (pod, token)
    }

    /// Both clusters' pods get tokens that name their cluster, and each cluster's dead get none.
    async fn holds(&self, server: &Process) {
        for (install, cluster) in [(&self.blue, "blue"), (&self.own, "kubernetes")] {
            let (pod, token) = self.pod(install, "p").await;
            eventually(cluster, async || {
                (server.exchange_status(&self.own, &token).await == 200).then_some(())
            })
            .await;
            let line = server.allowed(cluster).await;
            assert_eq!(line["namespace"], install.apps);
            install
                .plane
                .delete(&install.apps_path(&format!("pods/{}", pod.name)))
                .await;
            eventually("refusal", async || {
                (server.exchange_status(&self.own, &token).await == 401).then_some(())
            })
            .await;
        }
    }
}

/// The other cluster's API server, which these tests share.
async fn blue_plane() -> &'static ControlPlane {
    static PLANE: OnceCell<ControlPlane> = OnceCell::const_new();
    let start = || ControlPlane::start_as(BLUE);
    PLANE.get_or_init(start).await
}

fn merge(into: &mut Value, from: &Value) {
    let into = into.as_object_mut().unwrap();
    into.extend(from.as_object().unwrap().clone());
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[tokio::test]
async fn two_clusters_by_review_with_a_kubeconfig_in_a_secret() {
    let two = Two::start().await;
    let mut kubeconfig: Value =
        serde_json::from_str(&read(&two.blue.kubeconfig("server"))).unwrap();
    let data = STANDARD.encode(read(&two.blue.plane.ca_file));
    kubeconfig["clusters"][0]["cluster"] =
        json!({"server": two.blue.plane.url, "certificate-authority-data": data});
    let secret = json!({"metadata": {"name": BLUE_SECRET}, "stringData": {"kubeconfig": kubeconfig.to_string()}});
    let connection = json!({"jwks": {"apiServer": {}}, "kubeconfig": {"secret": BLUE_SECRET}});
    let server = two.server("tokenReview", connection).await;
    // Made late: it is followed.
    let make = async || {
        let path = two.own.path("secrets");
        drop(two.own.plane.create(&path, secret.clone()).await);
    };
    make().await;
    two.holds(&server).await;
    // Whoever deletes it cuts that cluster off, and no other.
    let (_, token) = two.pod(&two.blue, "left").await;
    let (_, own) = two.pod(&two.own, "left").await;
    let comes_to = async |status: u16| {
        eventually("another status", async || {
            (server.exchange_status(&two.own, &token).await == status).then_some(())
        })
        .await;
    };
    comes_to(200).await;
    let path = two.own.path(&format!("secrets/{BLUE_SECRET}"));
    two.own.plane.delete(&path).await;
    comes_to(503).await;
    assert_eq!(server.exchange_status(&two.own, &own).await, 200);
    make().await;
    comes_to(200).await;
}

#[tokio::test]
async fn two_clusters_by_watch_with_a_kubeconfig_file() {
    let two = Two::start().await;
    let connection =
        json!({"jwks": {"apiServer": {}}, "kubeconfig": {"file": two.blue.kubeconfig("server")}});
    let server = two.server("watch", connection).await;
    two.holds(&server).await;
}

#[tokio::test]
async fn an_api_server_by_its_address_with_ca_and_token_from_files() {
    let two = Two::start().await;
    let kubeconfig: Value = serde_json::from_str(&read(&two.blue.kubeconfig("server"))).unwrap();
    let token = two.blue.kubeconfig("server").with_extension("token");
    std::fs::write(
        &token,
        kubeconfig["users"][0]["user"]["token"].as_str().unwrap(),
    )
    .unwrap();
    let connection = json!({"jwks": {"apiServer": {
        "url": two.blue.plane.url, "caFile": two.blue.plane.ca_file, "tokenFile": token}}});
    let server = two.server("tokenReview", connection).await;
    two.holds(&server).await;
}

#[tokio::test]
async fn an_endpoint_takes_no_tokens_of_a_cluster_it_does_not_list() {
    let two = Two::start().await;
    let connection =
        json!({"jwks": {"apiServer": {}}, "kubeconfig": {"file": two.blue.kubeconfig("server")}});
    let server = two.server("tokenReview", connection).await;
    let pod = two.blue.create_pod("p", "app").await;
    let audience = format!("https://{}/alone", two.own.host());
    let token = two.blue.pod_token(&pod, Some(&audience)).await;
    let client = server.client(&two.own).await;
    let request = client.post(server.url(&two.own, "/alone/token"));
    let answer = request.bearer_auth(token).send().await.unwrap();
    assert_eq!(answer.status(), 401);
    assert_eq!(server.reason(1).await, "iss_mismatch");
}

/// The other cluster's API server, with somebody else's certificate authority: nothing of it is believed, its own tokens least. Until the
/// file with the certificate is another, which alone changes.
#[tokio::test]
async fn live_018_tls_009_an_api_server_with_another_ca_is_503_until_the_right_one_is_there() {
    let two = Two::start().await;
    let Two { own, blue } = &two;
    let kubeconfig = read(&blue.kubeconfig("server"));
    let path = blue.kubeconfig("server").with_extension("other");
    // Beside the kubeconfig.
    let named = kubeconfig.replace(blue.plane.ca_file.to_str().unwrap(), "blue-ca.crt");
    assert_ne!(named, kubeconfig);
    std::fs::write(&path, named).unwrap();
    let ca = path.with_file_name("blue-ca.crt");
    std::fs::copy(&own.plane.ca_file, &ca).unwrap();
    let connection = json!({"jwks": {"apiServer": {}}, "kubeconfig": {"file": path}});
    let server = two.server("tokenReview", connection).await;
    let (_, token) = two.pod(blue, "p").await;
    let answer = server.exchange(own, &token).await;
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.headers()["retry-after"], "5");
    assert_eq!(server.reason(1).await, "backend_unavailable");
    let (_, other) = two.pod(own, "p").await;
    let status = server.exchange_status(own, &other).await;
    assert_eq!(status, 200, "the other one goes on");
    std::fs::copy(&blue.plane.ca_file, &ca).unwrap();
    eventually("the cluster is believed", async || {
        (server.exchange_status(own, &token).await == 200).then_some(())
    })
    .await;
}

/// Its default audience is its issuer, which it says only when we run: the configuration does not show that every pod's default token
/// would do.
#[tokio::test]
async fn a_token_audience_that_an_api_server_turns_out_to_have_takes_no_token() {
    let blue = Install::on(blue_plane().await, Variant::default()).await;
    let mut server = Process::server_with(&blue, |config| {
        config["endpoints"][0]["tokenAudience"] = json!(BLUE);
    });
    server.becomes_ready().await;
    let pod = blue.create_pod("p", "app").await;
    let default = blue.pod_token(&pod, None).await;
    assert_eq!(server.exchange_status(&blue, &default).await, 503);
    let detail = server.audit_line(1).await["detail"].to_string();
    assert!(detail.contains("not the API server's own"), "{detail}");
    server
        .shows(r#"sts_cluster_conflict{endpoint="aws",setting="tokenAudience"} 1"#)
        .await;
    let log = server.lines().join("\n");
    assert!(
        log.contains("tokenAudience is https://blue.example.com"),
        "{log}"
    );
}

//! A configuration file that changes while the server runs.

use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::support::{Server, eventually, valid};
use test_support::TestKey;

/// An endpoint for everybody, whose key is made when it comes.
const THIRD: &str = "- {name: third, path: /third, audience: x, issuer: 'https://third.example.com', \
    key: {file: DIRECTORY/keys/third.pem, algorithm: ES256, create: true}, verification: jwks, \
    subject: openunison, allowAll: true, danger: {apiServerAudiences: ['https://kubernetes.default.svc']}}\nserver:";

fn with_third(server: &Server) -> String {
    let directory = server.setup.directory.path().display().to_string();
    let third = THIRD.replace("DIRECTORY", &directory);
    text(server).replace("server:", &third)
}

fn text(server: &Server) -> String {
    server.setup.text(server.listen, server.admin)
}

/// A gauge of the third endpoint's.
const DANGER: &str = "sts_danger{endpoint=\"third\"";

async fn metrics(server: &Server) -> String {
    server.admin("/metrics").await.text().await.unwrap()
}

async fn shows(server: &Server, line: &str) {
    eventually(line, async || {
        let text = metrics(server).await;
        text.lines().any(|shown| shown == line).then_some(())
    })
    .await;
}

async fn outcome(server: &Server, outcome: &str, count: u32) {
    let line = format!("sts_config_reloads_total{{outcome=\"{outcome}\"}} {count}");
    shows(server, &line).await;
}

/// Of an exchange of a token for that endpoint.
async fn status(server: &Server, endpoint: &str) -> u16 {
    let audience = format!("https://sts.test/{endpoint}");
    let token = valid().claim("aud", audience).sign(TestKey::rsa());
    let path = format!("/{endpoint}/token");
    server.bearer(&path, &token).await.status().as_u16()
}

/// The line that says why a configuration is refused.
async fn complaint(server: &Server, with: &str) -> String {
    eventually("the refusal's line", async || {
        let mut lines = server.lines().into_iter();
        lines.find(|line| line.contains("configuration is refused") && line.contains(with))
    })
    .await
}

#[tokio::test]
async fn cfg_010_a_changed_file_is_taken_over_as_a_whole() {
    let server = Arc::new(Server::start().await);
    let keys = server.get("/aws/certs").await.text().await.unwrap();
    let (stop, failed, asked) = (AtomicBool::new(false), AtomicU32::new(0), AtomicU32::new(0));
    let load = async {
        while !stop.load(Ordering::Relaxed) {
            let status = status(&server, "aws").await;
            let ready = server.admin("/readyz").await.status();
            let is_bad = status != 200 || ready != 200;
            failed.fetch_add(u32::from(is_bad), Ordering::Relaxed);
            asked.fetch_add(1, Ordering::Relaxed);
        }
    };
    let changes = async {
        assert_eq!(status(&server, "third").await, 404);
        server.setup.write_config(&with_third(&server));
        outcome(&server, "reloaded", 1).await;
        assert_eq!(status(&server, "third").await, 200);
        assert!(metrics(&server).await.contains(DANGER));
        let longer = text(&server).replace("  path: /aws\n", "  path: /aws\n  lifetime: 30m\n");
        server.setup.write_config(&longer);
        outcome(&server, "reloaded", 2).await;
        assert_eq!(status(&server, "third").await, 404);
        eventually("the end of its gauge", async || {
            (!metrics(&server).await.contains(DANGER)).then_some(())
        })
        .await;
        stop.store(true, Ordering::Relaxed);
    };
    let ((), ()) = tokio::join!(load, changes);
    assert!(asked.into_inner() > 10);
    assert_eq!(failed.into_inner(), 0);
    let after = server.get("/aws/certs").await.text().await.unwrap();
    assert_eq!(after, keys, "an endpoint with other terms keeps its keys");
    let none = text(&server).replace("(namespace=team-a)", "(namespace=team-b)");
    server.setup.write_config(&none);
    outcome(&server, "reloaded", 3).await;
    assert_eq!(status(&server, "aws").await, 403);
}

#[tokio::test]
async fn az_019_a_reload_with_one_broken_endpoint_changes_nothing() {
    let server = Server::start().await;
    // The first endpoint's rules are good and others; the second's are none.
    let broken = text(&server)
        .replace("(namespace=team-a)", "(namespace=team-b)")
        .replace("allowAll: true", "rules: [{filter: '(nonsense=x)'}]");
    server.setup.write_config(&broken);
    outcome(&server, "invalid", 1).await;
    let line = complaint(&server, "nonsense").await;
    assert!(
        line.contains("endpoints[1].rules[0]") && line.contains("line "),
        "{line}"
    );
    assert_eq!(status(&server, "aws").await, 200);
    shows(&server, "sts_config_last_reload_successful 0").await;
    assert_eq!(server.admin("/readyz").await.status(), 200);
    server.setup.write_config(&text(&server));
    shows(&server, "sts_config_last_reload_successful 1").await;
}

#[tokio::test]
async fn what_needs_a_restart_refuses_the_rest_as_well() {
    let server = Server::start().await;
    let moved = text(&server)
        .replace("(namespace=team-a)", "(namespace=team-b)")
        .replace(&server.listen.to_string(), "127.0.0.1:1");
    server.setup.write_config(&moved);
    outcome(&server, "needs_restart", 1).await;
    complaint(
        &server,
        "server.listen cannot change while the program runs",
    )
    .await;
    assert_eq!(status(&server, "aws").await, 200);
}

#[tokio::test]
async fn a_half_written_file_changes_nothing() {
    let server = Server::start().await;
    let whole = with_third(&server);
    let half = whole.split_at(whole.find("server:").unwrap()).0;
    server.setup.write_config(half);
    outcome(&server, "needs_restart", 1).await;
    assert_eq!(status(&server, "third").await, 404);
    assert_eq!(status(&server, "aws").await, 200);
    server.setup.write_config(&whole);
    outcome(&server, "reloaded", 1).await;
    assert_eq!(status(&server, "third").await, 200);
}

/// As the kubelet brings a changed ConfigMap: by another link to another folder.
#[tokio::test]
async fn a_swapped_volume_is_a_changed_file() {
    let server = Server::start().await;
    let path = |name: &str| -> PathBuf { server.setup.path(name) };
    for (folder, text) in [("..1", text(&server)), ("..2", with_third(&server))] {
        std::fs::create_dir(path(folder)).unwrap();
        std::fs::write(path(folder).join("config.yaml"), text).unwrap();
        symlink(folder, path("..data_tmp")).unwrap();
        std::fs::rename(path("..data_tmp"), path("..data")).unwrap();
        if folder == "..1" {
            symlink("..data/config.yaml", path("link")).unwrap();
            std::fs::rename(path("link"), path("config.yaml")).unwrap();
        }
    }
    outcome(&server, "reloaded", 1).await;
    assert_eq!(status(&server, "third").await, 200);
}

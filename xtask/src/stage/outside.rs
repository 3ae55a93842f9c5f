//! Relying parties and what stands between them and the issuer.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::place::Place;
use super::{Stage, documents};
use crate::cache::Fingerprint;
use crate::cluster::address::{CDN_ADDRESS, NODE_ADDRESS, STRICT_STS_ADDRESS};
use crate::cluster::{LeafFiles, NodeDaemon};
use crate::poll;
use crate::progress::{run_logged, say, tail};
use crate::workspace::Workspace;

/// The bucket that the demo's application writes to.
pub(crate) const BUCKET: &str = "demo-data";
/// The `sub` of the example's pods; MinIO gives the policy of that name.
pub(crate) const APP_SUBJECT: &str = "kubernetes:myns:aws-test";
/// The subjects that may do something: the examples' ServiceAccounts.
const SUBJECTS: &str = "kubernetes:myns:aws-test,kubernetes:myns:default";
/// The bucket with the issuer's documents, as OpenUnison's documentation names it.
pub(super) const DOCUMENTS_BUCKET: &str = "openunison-sts-docs";
/// The issuer's host and audience in the chart's example values.
pub(super) const ISSUER_HOST: &str = "d1dexjaad4ian0.cloudfront.net";
pub(super) const AUDIENCE: &str = "sts.aws.com";
pub(super) const S3: &str = "https://s3.us-east-1.amazonaws.com";
pub(super) const AWS_NAMES: [&str; 6] = [
    "sts.amazonaws.com",
    "sts.us-east-1.amazonaws.com",
    "s3.amazonaws.com",
    "*.s3.amazonaws.com",
    "s3.us-east-1.amazonaws.com",
    "*.s3.us-east-1.amazonaws.com",
];
/// In the repository; a place's shell calls it.
pub(crate) const ADMINISTER_SCRIPT: &str = "xtask/src/stage/administer_minio.py";
/// MinIO's administrator. The stage has no uplink, and nothing of value.
pub(super) const ADMINISTRATOR: (&str, &str) = ("administrator", "of-the-stage-alone");

/// The folder of `strict-sts` and `cdn`, built from `tests/verifiers`.
pub(super) fn build(workspace: &Workspace) -> Result<PathBuf> {
    let source = workspace.root.join("tests/verifiers");
    let key = Fingerprint::of_recipe(1)
        .file(&source.join("Cargo.toml"))?
        .file(&source.join("Cargo.lock"))?
        .file(&source.join("src/lib.rs"))?
        .file(&source.join("src/bin/strict-sts.rs"))?
        .file(&source.join("src/bin/cdn.rs"))?
        .key();
    workspace.cache.entry("tools", "verifiers", &key, |folder| {
        say("building the relying parties: about 2 minutes the first time");
        let target = workspace.cache.root().join("verifiers-target");
        let mut cargo = Command::new("cargo");
        cargo
            .args(["build", "--locked", "--manifest-path"])
            .arg(source.join("Cargo.toml"))
            .arg("--target-dir")
            .arg(&target);
        run_logged(
            "cargo build of tests/verifiers",
            &mut cargo,
            &workspace.cache.log("verifiers"),
        )?;
        for program in ["cdn", "strict-sts"] {
            std::fs::copy(target.join("debug").join(program), folder.join(program))?;
        }
        Ok(())
    })
}

/// Starts what of the outside world does not answer.
pub(super) fn start(stage: &Stage<'_, '_>, programs: &Path) -> Result<()> {
    start_minio(stage)?;
    start_behind_tls(
        stage,
        "cdn",
        &programs.join("cdn"),
        ISSUER_HOST,
        CDN_ADDRESS.into(),
        &[
            "--origin",
            &format!("{S3}/{DOCUMENTS_BUCKET}"),
            "--ca",
            &text(&stage.ca()),
        ],
    )?;
    start_behind_tls(
        stage,
        "strict-sts",
        &programs.join("strict-sts"),
        "strict-sts.example",
        STRICT_STS_ADDRESS.into(),
        &[
            "--issuer",
            &format!("https://{ISSUER_HOST}"),
            "--audience",
            AUDIENCE,
            "--subject",
            APP_SUBJECT,
            "--ca",
            &text(&stage.ca()),
        ],
    )?;
    administer(stage, "buckets", DOCUMENTS_BUCKET)
}

/// MinIO with our issuer as its OpenID provider: the policy whose name is a token's `sub` is what the token's bearer may do.
fn start_minio(stage: &Stage<'_, '_>) -> Result<()> {
    let health = format!("{S3}/minio/health/ready");
    if answers(stage, &health)? {
        return Ok(());
    }
    say("starting MinIO as AWS");
    let home = stage.cluster.root().join("minio");
    let certificates = home.join("certs");
    std::fs::create_dir_all(certificates.join("CAs"))?;
    std::fs::create_dir_all(home.join("data"))?;
    std::fs::copy(stage.ca(), certificates.join("CAs/ca.crt"))?;
    let LeafFiles { certificate, key } =
        stage
            .cluster
            .issue_leaf("aws", &AWS_NAMES, &[NODE_ADDRESS.into()])?;
    std::fs::copy(certificate, certificates.join("public.crt"))?;
    std::fs::copy(key, certificates.join("private.key"))?;
    let address = format!("{NODE_ADDRESS}:443");
    let daemon = stage.cluster.spawn_daemon(
        "minio",
        "minio",
        &[
            "server",
            "--address",
            &address,
            "--certs-dir",
            &text(&certificates),
            &text(&home.join("data")),
        ],
        &minio_environment(ADMINISTRATOR.1, &random_text()?)
            .each_ref()
            .map(|(name, value)| (*name, value.as_str())),
    )?;
    wait_for_answer(stage, daemon, &health)
}

/// What makes MinIO trust the issuer. The client's secret is for nothing, but must never be empty: MinIO would then take HMAC tokens that
/// are signed with the empty key.
pub(super) fn minio_environment(
    password: &str,
    client_secret: &str,
) -> [(&'static str, String); 9] {
    let discovery = format!("https://{ISSUER_HOST}/.well-known/openid-configuration");
    [
        ("MINIO_ROOT_USER", ADMINISTRATOR.0.into()),
        ("MINIO_ROOT_PASSWORD", password.into()),
        ("MINIO_BROWSER", "off".into()),
        ("MINIO_UPDATE", "off".into()),
        (
            "MINIO_DOMAIN",
            "s3.us-east-1.amazonaws.com,s3.amazonaws.com".into(),
        ),
        ("MINIO_IDENTITY_OPENID_CONFIG_URL", discovery),
        ("MINIO_IDENTITY_OPENID_CLIENT_ID", AUDIENCE.into()),
        ("MINIO_IDENTITY_OPENID_CLIENT_SECRET", client_secret.into()),
        ("MINIO_IDENTITY_OPENID_CLAIM_NAME", "sub".into()),
    ]
}

fn start_behind_tls(
    stage: &Stage<'_, '_>,
    name: &str,
    program: &Path,
    host: &str,
    address: IpAddr,
    arguments: &[&str],
) -> Result<()> {
    let url = format!("https://{host}/");
    if answers(stage, &url)? {
        return Ok(());
    }
    say(format!("starting {name} at {host}"));
    let LeafFiles { certificate, key } = stage.cluster.issue_leaf(name, &[host], &[address])?;
    let listen = format!("{address}:443");
    let (certificate, key) = (text(&certificate), text(&key));
    let mut all = vec![
        "--listen",
        &listen,
        "--certificate",
        &certificate,
        "--key",
        &key,
    ];
    all.extend(arguments);
    let daemon = stage
        .cluster
        .spawn_daemon(name, &text(program), &all, &[])?;
    wait_for_answer(stage, daemon, &url)
}

/// Waits until a server answers, whatever it says.
fn wait_for_answer(stage: &Stage<'_, '_>, mut daemon: NodeDaemon, url: &str) -> Result<()> {
    poll::until(&format!("{url} to answer"), START_LIMIT, || {
        ensure!(
            daemon.is_running()?,
            "the server of {url} ended\n{}",
            tail(&daemon.log)
        );
        Ok(answers(stage, url)?.then_some(()))
    })
}

/// Whether there is a server, whatever it says.
fn answers(stage: &Stage<'_, '_>, url: &str) -> Result<bool> {
    Ok(curl(stage, url)?
        .args(["--output", "/dev/null"])
        .status()?
        .success())
}

/// Does one thing as MinIO's administrator: `buckets` makes a bucket that anybody may read, for the issuer's documents; `policies` lets
/// subjects write to the examples' buckets, as a role's policies would in AWS.
pub(super) fn administer(place: &dyn Place, what: &str, names: &str) -> Result<()> {
    place.shell(&format!("administer {what} '{names}'"), &[])?;
    Ok(())
}

/// MinIO reads the issuer's documents until it has them, and only then takes policies and tokens.
pub(super) fn wait_for_trust(place: &dyn Place) -> Result<()> {
    documents::wait_until_served(place, &format!("https://{ISSUER_HOST}"))?;
    poll::until("MinIO to know the issuer", START_LIMIT, || {
        Ok(administer(place, "policies", SUBJECTS).ok())
    })
    .or_else(|_| administer(place, "policies", SUBJECTS))
}

/// curl on the node, where the outside world's names are known.
fn curl(stage: &Stage<'_, '_>, url: &str) -> Result<Command> {
    let mut command = stage.cluster.command_in_node("curl")?;
    command
        .args(["--silent", "--max-time", "5", "--cacert"])
        .arg(stage.ca())
        .arg(url);
    Ok(command)
}

/// Nobody can guess it.
pub(super) fn random_text() -> Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/uuid")?
        .trim()
        .to_owned())
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

const START_LIMIT: Duration = Duration::from_secs(60);

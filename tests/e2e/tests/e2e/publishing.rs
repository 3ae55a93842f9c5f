//! Documents that publish themselves: into the bucket behind the issuer's URL, from where MinIO and the strict STS verify, with credentials
//! that the server gets for a token of its own. Keys follow one another while a pod keeps using credentials.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::release::{changing, upgrade};
use crate::stage::{ALLOWED, Stage, labelled_pod, output, stage, wait_for};
use crate::tokens::{MINIO, STRICT_STS, assume_role, has_credentials, issued_token};

/// The stage's release publishes its documents; keys follow one another within seconds.
const VALUES: &str = r"
sts.endpoints[0].documents.maxAge=5s
sts.endpoints[0].documents.caFile=/etc/aws-ca/ca.crt
sts.endpoints[0].key.clockSkew=1s
sts.endpoints[0].key.staleAfter=5s
sts.endpoints[0].publish.s3.bucket=openunison-sts-docs
sts.endpoints[0].publish.s3.caFile=/etc/aws-ca/ca.crt
sts.endpoints[0].publish.s3.webIdentity.subject=kube-sts-publisher
server.extraVolumes[0].name=aws-ca
server.extraVolumes[0].configMap.name=aws-ca
server.extraVolumeMounts[0].name=aws-ca
server.extraVolumeMounts[0].mountPath=/etc/aws-ca
";
const SECRET: &str = "unison-saml2-rp-sig";
const POD: &str = "rotated";

#[test]
fn keys_follow_one_another_in_the_public_bucket_while_a_pod_keeps_using_credentials() -> Result<()>
{
    let stage = stage();
    let _changing = changing();
    let from = format!("--from-file=ca.crt={}", stage.ca.display());
    let dry = ["--dry-run=client", "-o", "yaml", "-n", &stage.namespace];
    let create = ["create", "configmap", "aws-ca", &from];
    stage.apply(&stage.kubectl(&[create.as_slice(), &dry].concat())?)?;
    stage.apply(&labelled_pod(stage, ALLOWED, POD, "aws-test"))?;
    let ready = [
        "wait",
        "--for=condition=Ready",
        "--timeout=90s",
        "pod/rotated",
    ];
    stage.kubectl(&[&["-n", ALLOWED], ready.as_slice()].concat())?;
    upgrade(stage, &VALUES.trim().replace('\n', ","))?;
    let published = rotate_under_use(stage);
    // Whatever came of it: the other tests' release has no publisher.
    let restored = upgrade(stage, "");
    stage.forget(ALLOWED, "pod/rotated");
    published.and(restored)
}

fn rotate_under_use(stage: &Stage) -> Result<()> {
    let (headers, took) = wait_for("our mark on the published key set", LIMIT, || {
        let headers = public_headers(stage)?;
        Ok(headers.contains("x-amz-meta-generation").then_some(headers))
    })?;
    tell(&format!("published after {took:?}"));
    for expected in ["application/jwk-set+json", "public, max-age=5"] {
        ensure!(headers.contains(expected), "{headers}");
    }
    let ended = AtomicBool::new(false);
    let uses = AtomicU32::new(0);
    thread::scope(|scope| {
        let using = scope.spawn(|| use_until(stage, &ended, &uses));
        let rotated = rotate_twice(stage, &uses);
        ended.store(true, Ordering::Relaxed);
        let used: Result<()> = using
            .join()
            .unwrap_or_else(|_panic| bail!("the user's thread panicked"));
        rotated.and(used)
    })?;
    let uses = uses.load(Ordering::Relaxed);
    tell(&format!("{uses} uses of credentials, none refused"));
    Ok(())
}

/// By annotation, then by deletion.
fn rotate_twice(stage: &Stage, uses: &AtomicU32) -> Result<()> {
    let namespace = stage.namespace.as_str();
    for wish in [
        [
            "annotate",
            "secret",
            SECRET,
            "sts.tremolo.io/rotate=e2e",
            "--overwrite",
        ]
        .as_slice(),
        &["delete", "secret", SECRET],
    ] {
        let before = signing_key(stage)?;
        let used = uses.load(Ordering::Relaxed);
        stage.kubectl(&[&["-n", namespace], wish].concat())?;
        let what = format!("a new key to sign after {wish:?}");
        let ((), took) = wait_for(&what, LIMIT, || {
            let now = signing_key(stage)?;
            Ok((!now.is_empty() && now != before).then_some(()))
        })?;
        tell(&format!("{wish:?}: the new key signs after {took:?}"));
        let token = issued_token(stage, POD)?;
        ensure!(
            key_id(&token)? != before,
            "a token is still signed with the old key"
        );
        for party in [MINIO, STRICT_STS] {
            let answer = assume_role(stage, party, &token)?;
            ensure!(has_credentials(&answer), "{party}: {answer}");
        }
        ensure!(
            uses.load(Ordering::Relaxed) > used,
            "nothing was used meanwhile"
        );
    }
    Ok(())
}

/// Uses credentials all the time: new ones for a new token each time, and the AWS CLI in the pod.
fn use_until(stage: &Stage, ended: &AtomicBool, uses: &AtomicU32) -> Result<()> {
    while !ended.load(Ordering::Relaxed) {
        let token = issued_token(stage, POD).context("exchange")?;
        for party in [MINIO, STRICT_STS] {
            let answer = assume_role(stage, party, &token)?;
            if !has_credentials(&answer) {
                bail!(
                    "{party} refuses a token signed with {}: {answer}",
                    key_id(&token)?
                );
            }
        }
        let line = "aws s3 mb s3://from-rotated 2>/dev/null; echo hello | aws s3 cp - s3://from-rotated/object";
        stage
            .exec(ALLOWED, POD, line)
            .context("the AWS CLI in the pod")?;
        uses.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

fn signing_key(stage: &Stage) -> Result<String> {
    let annotation = r"jsonpath={.metadata.annotations.sts\.tremolo\.io/kid}";
    let get = [
        "get",
        "secret",
        SECRET,
        "--ignore-not-found",
        "-o",
        annotation,
    ];
    stage.kubectl(&[&["-n", stage.namespace.as_str()], get.as_slice()].concat())
}

fn key_id(token: &str) -> Result<String> {
    use base64::Engine as _;
    let header = token.split('.').next().unwrap_or_default();
    let header = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(header)?;
    let header: serde_json::Value = serde_json::from_slice(&header)?;
    let id = header.get("kid").and_then(serde_json::Value::as_str);
    Ok(id.context("a kid")?.to_owned())
}

/// What the bucket says of the key set, before the CDN.
fn public_headers(stage: &Stage) -> Result<String> {
    let mut curl = std::process::Command::new("curl");
    curl.args([
        "--silent",
        "--show-error",
        "--fail",
        "--head",
        "--max-time",
        "10",
        "--cacert",
    ])
    .arg(&stage.ca)
    .arg("https://s3.us-east-1.amazonaws.com/openunison-sts-docs/certs");
    Ok(output(&mut curl)?.to_ascii_lowercase())
}

#[expect(clippy::print_stdout, reason = "the run's own figures")]
fn tell(what: &str) {
    println!("{what}");
}

/// A rotation takes 11 seconds and some.
const LIMIT: Duration = Duration::from_secs(120);

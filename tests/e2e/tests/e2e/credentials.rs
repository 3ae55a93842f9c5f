//! The main job: a labelled pod gets credentials.

use anyhow::{Result, ensure};

use crate::stage::{ALLOWED, AUDIENCE, ISSUER, labelled_pod, stage, wait_for};
use crate::tokens::{
    MINIO, STRICT_STS, assume_role, claims, has_credentials, issued_token, served,
};
use std::time::Duration;

/// OpenUnison's documented Deployment. Changed are the image with its command, its pull policy and the settings it needs here, the role's
/// account, the namespace, and the grace period.
const DEPLOYMENT: &str = include_str!("../../manifests/openunison-deployment.yaml");

#[test]
fn openunisons_deployment_writes_and_reads_an_s3_object() -> Result<()> {
    let stage = stage();
    stage.apply(&DEPLOYMENT.replace(
        "harbor.qalab.tremolo.dev/lab/aws-test-python",
        &stage.awscli_image,
    ))?;
    let target = "deployment/aws-test-python-simple";
    stage.kubectl(&["-n", ALLOWED, "rollout", "status", target, "--timeout=90s"])?;
    let line = "aws s3 mb s3://from-openunison 2>/dev/null; echo hello | aws s3 cp - s3://from-openunison/object \
                && aws s3 cp s3://from-openunison/object -";
    let run = || {
        stage
            .kubectl(&[
                "-n", ALLOWED, "exec", target, "-c", "aws-cli", "--", "sh", "-c", line,
            ])
            .map(Some)
    };
    let (read, _) = wait_for("the object", Duration::from_secs(60), run)?;
    ensure!(read.trim_end().ends_with("hello"), "{read}");
    stage.forget(ALLOWED, target);
    Ok(())
}

#[test]
fn both_relying_parties_take_the_issued_token() -> Result<()> {
    let stage = stage();
    let pod = "taken";
    stage.apply(&labelled_pod(stage, ALLOWED, pod, "aws-test"))?;
    let token = issued_token(stage, pod)?;
    let (answer, _) = wait_for("MinIO's credentials", Duration::from_secs(30), || {
        assume_role(stage, MINIO, &token).map(|answer| has_credentials(&answer).then_some(answer))
    })?;
    let subject =
        "<SubjectFromWebIdentityToken>kubernetes:myns:aws-test</SubjectFromWebIdentityToken>";
    ensure!(answer.contains(subject), "{answer}");
    let answer = assume_role(stage, STRICT_STS, &token)?;
    ensure!(has_credentials(&answer), "{answer}");
    stage.forget(ALLOWED, "pod/taken");
    Ok(())
}

#[test]
fn the_application_finds_its_token_at_its_first_instruction() -> Result<()> {
    let stage = stage();
    let pod = "first-instruction";
    // A container that ends, and so fails the pod, when the file is not there yet.
    let manifest = labelled_pod(stage, ALLOWED, pod, "aws-test").replace(
        r#"[sleep, "100000"]"#,
        r#"[sh, -c, 'test -s "$AWS_WEB_IDENTITY_TOKEN_FILE" || exit 1; exec sleep 100000']"#,
    );
    stage.apply(&manifest)?;
    stage.kubectl(&[
        "-n",
        ALLOWED,
        "wait",
        "--for=condition=Ready",
        "pod/first-instruction",
        "--timeout=60s",
    ])?;
    let restarts = "jsonpath={.status.containerStatuses[0].restartCount}{.status.initContainerStatuses[0].restartCount}";
    let restarts = stage.kubectl(&["-n", ALLOWED, "get", "pod", pod, "-o", restarts])?;
    ensure!(
        restarts == "00",
        "application and sidecar restarted {restarts} times"
    );
    let token = stage.exec(ALLOWED, pod, "cat $AWS_WEB_IDENTITY_TOKEN_FILE")?;
    ensure!(!token.ends_with('\n'), "the file ends with a newline");
    let claims = claims(&token)?;
    ensure!(
        claims["iss"] == ISSUER && claims["aud"] == "sts.aws.com",
        "{claims}"
    );
    ensure!(claims["kubernetes.io"]["pod"]["name"] == pod, "{claims}");
    // The pod's own token for the STS is the sidecar's alone.
    let seen = stage.exec(ALLOWED, pod, "ls /var/run/secrets/sts.tremolo.io")?;
    ensure!(seen.trim() == "tokens", "the application sees {seen}");
    let written = stage.exec(ALLOWED, pod, "echo x > $AWS_WEB_IDENTITY_TOKEN_FILE");
    ensure!(written.is_err(), "the application can write its token file");
    stage.forget(ALLOWED, "pod/first-instruction");
    Ok(())
}

#[test]
fn iss_009_pyjwt_accepts_the_issued_token_from_the_served_and_the_published_keys() -> Result<()> {
    const PROGRAM: &str = "
import json, sys, jwt
token, issuer, served = sys.argv[1:]
kid = jwt.get_unverified_header(token)['kid']
published = jwt.PyJWKClient(issuer + '/certs').get_signing_key(kid)
served = jwt.PyJWKSet.from_dict(json.loads(served))[kid]
for key in (published, served):
    claims = jwt.decode(token, key.key, algorithms=['RS256'], audience='sts.aws.com', issuer=issuer,
                        options={'require': ['exp', 'iat', 'nbf', 'iss', 'aud', 'sub', 'jti']})
    print(claims['sub'])
";
    let stage = stage();
    stage.apply(&labelled_pod(stage, ALLOWED, "pyjwt", "aws-test"))?;
    let token = issued_token(stage, "pyjwt")?;
    let served = served(stage, "/aws/certs")?;
    let subjects = stage.python(PROGRAM, &[&token, ISSUER, &served])?;
    ensure!(
        subjects == "kubernetes:myns:aws-test\nkubernetes:myns:aws-test\n",
        "{subjects}"
    );
    stage.forget(ALLOWED, "pod/pyjwt");
    Ok(())
}

#[test]
fn the_sidecars_token_is_for_the_sts_alone() -> Result<()> {
    let stage = stage();
    stage.apply(&labelled_pod(stage, ALLOWED, "audience", "aws-test"))?;
    let path = "jsonpath={.spec.volumes[?(@.name=='sts-subject-tokens')].projected.sources[0].serviceAccountToken.audience}";
    let audience = stage.kubectl(&["-n", ALLOWED, "get", "pod", "audience", "-o", path])?;
    ensure!(audience == AUDIENCE, "{audience}");
    stage.forget(ALLOWED, "pod/audience");
    Ok(())
}

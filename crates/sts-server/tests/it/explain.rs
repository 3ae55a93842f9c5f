//! `check-config FILE` and `explain`: the same answers as an exchange's, without a cluster.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

use super::support::{PROGRAM, Setup};

const ROLES: &str = r#"  roles:
  - pattern: "arn:aws:iam::123456789012:role/${namespace}/*"
  - pattern: "arn:aws:iam::123456789012:role/shared"
    filter: "(saname=app)"
  aws:
    sessionTags:
    - {key: namespace, value: "${namespace}", transitive: true}
    roles: true
  additionalAttributes:
  - {target: team, type: static, source: payments}
  - {target: who, type: composite, source: "${namespace}/${saname}"}
"#;

fn config() -> (Setup, PathBuf) {
    let setup = Setup::new();
    let port = "127.0.0.1:0".parse().unwrap();
    let text = setup.text(port, port);
    let rule = "  - filter: \"(namespace=team-a)\"\n";
    assert!(text.contains(rule));
    let text = text.replace(
        rule,
        &format!("{rule}  - filter: \"(&(namespace=team-b)(node-name=n1))\"\n{ROLES}"),
    );
    let file = setup.write_config(&text);
    (setup, file)
}

fn run(arguments: &[&str]) -> Output {
    // The chart sets this one for every container.
    let mut command = Command::new(PROGRAM);
    command.args(arguments).env("POD_NAMESPACE", "kube-sts");
    command.output().unwrap()
}

fn ask(file: &Path, namespace: &str, more: &[&str]) -> (Option<i32>, Vec<Value>) {
    let file = file.to_str().unwrap();
    let question = ["explain", "--config", file, "--namespace", namespace];
    let question = [
        &question[..],
        &["--service-account", "app", "-o", "json"],
        more,
    ]
    .concat();
    let output = run(&question);
    let text = String::from_utf8(output.stdout).unwrap();
    let answers = text.lines().map(|line| serde_json::from_str(line).unwrap());
    (output.status.code(), answers.collect())
}

#[test]
fn explain_says_by_which_rule_and_with_which_claims() {
    let (_setup, file) = config();
    let role = "arn:aws:iam::123456789012:role/team-a/x";
    let (status, answers) = ask(&file, "team-a", &["--endpoint", "aws", "--role", role]);
    assert_eq!(status, Some(0));
    let expected = json!({
        "endpoint": "aws", "cluster": "elsewhere", "decision": "allow", "reason": "granted",
        "rule": "(namespace=team-a)",
        "role": role,
        "rolePattern": "arn:aws:iam::123456789012:role/${namespace}/*",
        "lifetimeSeconds": 900,
        "claims": {
            "iss": "https://issuer.example.com", "aud": "sts.amazonaws.com",
            "sub": "system:serviceaccount:team-a:app",
            "cluster": "elsewhere", "namespace": "team-a", "saname": "app",
            "team": "payments", "who": "team-a/app",
            "https://aws.amazon.com/tags": {
                "principal_tags": {"namespace": ["team-a"]}, "transitive_tag_keys": ["namespace"],
            },
            "https://aws.amazon.com/roles": [role],
        },
    });
    assert_eq!(answers, [expected]);
}

#[test]
fn explain_says_why_not() {
    let (_setup, file) = config();
    let aws = ["--endpoint", "aws"];
    let reason = |namespace: &str, more: &[&str]| {
        let (status, answers) = ask(&file, namespace, &[&aws[..], more].concat());
        let reason = answers[0]["reason"].as_str().unwrap().to_owned();
        (status, reason)
    };
    let refused = |code: &str| (Some(3), code.to_owned());
    let other = "arn:aws:iam::123456789012:role/team-b/x";
    assert_eq!(reason("team-c", &[]), refused("policy_denied"));
    assert_eq!(reason("team-a", &[]), refused("role_missing"));
    assert_eq!(reason("team-a", &["--role", other]), refused("role_denied"));
    // Whether the second rule matches depends on the node, of which nothing is said.
    assert_eq!(reason("team-b", &["--role", other]), refused("unknown"));
    let allowed = (Some(0), "granted".to_owned());
    let node = |name| ["--role", other, "--with", name];
    assert_eq!(reason("team-b", &node("node-name=n1")), allowed);
    let elsewhere = refused("policy_denied");
    assert_eq!(reason("team-b", &node("node-name=n2")), elsewhere);
}

#[test]
fn explain_is_told_labels_and_guesses_none() {
    let (_setup, file) = config();
    let text = std::fs::read_to_string(&file).unwrap();
    let (rule, rest) = text.split_once("  roles:").unwrap();
    let rule = rule
        .replace(
            "verification: jwks\n  rules",
            "verification: tokenReview\n  rules",
        )
        .replace(
            "  jwks: {file",
            "  kubeconfig: {file: /kubeconfig}\n  jwks: {file",
        );
    let label = "  - cel: \"subject.namespace == 'team-c' && pod_labels.tier == 'web' && !('canary' in namespace_labels)\"\n";
    let rest = rest.split_once("- name: aws2").unwrap().1;
    std::fs::write(&file, format!("{rule}{label}- name: aws2{rest}")).unwrap();
    let reason = |more: &[&str]| {
        let (_, answers) = ask(&file, "team-c", &[&["--endpoint", "aws"], more].concat());
        answers[0]["reason"].as_str().unwrap().to_owned()
    };
    assert_eq!(reason(&[]), "unknown");
    assert_eq!(reason(&["--pod-label", "tier=web"]), "unknown");
    let not_canary = ["--namespace-label", "canary-"];
    assert_eq!(
        reason(&[&not_canary[..], &["--pod-label", "tier=web"]].concat()),
        "granted"
    );
    assert_eq!(
        reason(&[&not_canary[..], &["--pod-label", "tier=db"]].concat()),
        "policy_denied"
    );
    assert_eq!(
        reason(&[&not_canary[..], &["--pod-label", "tier-"]].concat()),
        "policy_denied"
    );
    let canary = ["--namespace-label", "canary=1", "--pod-label", "tier=web"];
    assert_eq!(reason(&canary), "policy_denied");
    let wrong = [
        "--namespace",
        "a",
        "--service-account",
        "b",
        "--pod-label",
        "tier",
    ];
    let file = file.to_str().unwrap();
    let said = run(&[&["explain", "--config", file][..], &wrong].concat());
    assert_eq!(said.status.code(), Some(2));
    assert!(
        String::from_utf8(said.stderr)
            .unwrap()
            .contains("write KEY=VALUE, or KEY-")
    );
}

#[test]
fn explain_asks_every_endpoint_unless_one_is_named() {
    let (_setup, file) = config();
    let (status, answers) = ask(&file, "team-z", &[]);
    assert_eq!(status, Some(0), "aws2 gives everybody a token");
    let decisions: Vec<_> = answers.iter().map(|answer| &answer["decision"]).collect();
    assert_eq!(decisions, ["deny", "allow"]);
    assert_eq!(answers[1]["claims"]["sub"], "elsewhere:team-z:app");
}

#[test]
fn explain_is_readable_and_refuses_what_it_cannot_know() {
    let (_setup, file) = config();
    let file = file.to_str().unwrap();
    let question = ["explain", "--config", file, "--service-account", "app"];
    let said = |more: &[&str]| {
        let output = run(&[&question[..], more].concat());
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    };
    let (status, text) = said(&["--namespace", "team-z", "--endpoint", "aws"]);
    assert_eq!(status, Some(3), "{text}");
    let line = "no rule of the endpoint allows system:serviceaccount:team-z:app";
    assert!(text.contains("aws, cluster elsewhere: refused"), "{text}");
    assert!(text.contains(line), "{text}");
    let (status, text) = said(&["--namespace", "team-a", "--endpoint", "nope"]);
    assert_eq!(status, Some(1), "{text}");
    assert!(
        text.contains("no endpoint nope: known are aws, aws2"),
        "{text}"
    );
    let (status, text) = said(&["--namespace", "Team-A"]);
    assert_eq!(status, Some(2), "{text}");
    let (status, text) = said(&["--namespace", "a", "--with", "nodename=x"]);
    assert_eq!(status, Some(2), "{text}");
    assert!(text.contains("no subject has an attribute"), "{text}");
}

#[test]
fn check_config_is_a_command_too() {
    let (_setup, file) = config();
    let good = run(&["check-config", file.to_str().unwrap()]);
    assert!(good.status.success(), "{good:?}");
    std::fs::write(&file, "endpoints: []\nnonsense: 1\n").unwrap();
    let bad = run(&["check-config", file.to_str().unwrap()]);
    assert_eq!(bad.status.code(), Some(1), "{bad:?}");
    let said = String::from_utf8(bad.stderr).unwrap();
    assert!(said.contains("nonsense (line 2) is unknown here"), "{said}");
}

//! What is written beside the token.

use super::*;

const LABEL: &str = "    label: aws-role\n";

fn with(lines: &str) -> String {
    OPENUNISON.replace(LABEL, &format!("{LABEL}{lines}"))
}

#[track_caller]
fn files(lines: &str) -> Vec<CompanionFile> {
    let config = Config::parse(&with(lines)).unwrap();
    config.endpoints[0]
        .injection
        .as_ref()
        .unwrap()
        .files
        .clone()
}

#[test]
fn files_are_read_with_their_variable() {
    let read = files(
        "    files:\n    - {name: header, env: HEADER_FILE, template: 'Bearer {token}'}\n    - {name: who, template: x}\n",
    );
    assert_eq!(read[0].name, "header");
    assert_eq!(read[0].env.as_deref(), Some("HEADER_FILE"));
    assert_eq!(read[0].template, "Bearer {token}");
    assert_eq!(read[1].env, None);
    assert!(files("").is_empty());
}

#[test]
fn googles_credential_configuration_is_a_preset() {
    let provider = "projects/123/locations/global/workloadIdentityPools/pool/providers/kube-sts";
    let read = files(&format!(
        "    gcp: {{provider: {provider}, impersonate: true}}\n"
    ));
    assert_eq!(read[0].name, "credentials.json");
    assert_eq!(
        read[0].env.as_deref(),
        Some("GOOGLE_APPLICATION_CREDENTIALS")
    );
    let expected = serde_json::json!({
        "type": "external_account",
        "audience": format!("//iam.googleapis.com/{provider}"),
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": "https://sts.googleapis.com/v1/token",
        "service_account_impersonation_url":
            "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{annotation}:generateAccessToken",
        "credential_source": {"file": "{tokenFile}", "format": {"type": "text"}},
    });
    let template: serde_json::Value = serde_json::from_str(&read[0].template).unwrap();
    assert_eq!(template, expected);
}

#[test]
fn what_is_wrong_with_a_file_is_said() {
    for (lines, problem) in [
        ("    files: x\n", "write a list"),
        ("    files:\n    - {name: a}\n", "template"),
        (
            "    files:\n    - {name: ../a, template: x}\n",
            "is no file name",
        ),
        (
            "    files:\n    - {name: token, template: x}\n",
            "is no file name",
        ),
        (
            "    files:\n    - {name: a, env: 1A, template: x}\n",
            "environment variable",
        ),
        (
            "    files:\n    - {name: a, template: '{tokn}'}\n",
            "has {tokn}, which is none of",
        ),
        (
            "    files:\n    - {name: a, template: x}\n    - {name: a, template: y}\n",
            "two files of the name a",
        ),
        ("    gcp: {provider: pool}\n", "projects/<number>"),
        ("    gcp: {}\n", "is missing"),
    ] {
        let problems = problems(&with(lines));
        assert!(
            problems.iter().any(|found| found.contains(problem)),
            "{lines}: {problems:#?}"
        );
    }
}

mod claims;
mod clusters;
mod files;
mod publish;
mod refused;
mod roles;
mod rotation;
mod rules;

use std::time::Duration;

use sts_core::claims::SubjectTemplate;

use super::*;

/// The values of OpenUnison's documentation, with what the chart adds around them.
const OPENUNISON: &str = r#"
url: https://kube-sts-server.kube-sts.svc
clusters:
- name: kubernetes
  jwks: {apiServer: {}}
endpoints:
- name: aws
  audience: sts.aws.com
  path: /aws
  azRules:
  - scope: filter
    constraint: "(namespace=myns)"
  issuer:
    host: "d1dexjaad4ian0.cloudfront.net"
    keypair: "unison-saml2-rp-sig"
  injector:
    label: aws-role
    token_environment_variable_name: "AWS_WEB_IDENTITY_TOKEN_FILE"
    label_value_environment_variable_name: "AWS_ROLE_ARN"
"#;

#[track_caller]
fn problems(text: &str) -> Vec<String> {
    match Config::parse(text) {
        Err(ConfigError::Invalid(problems)) => {
            assert!(!problems.is_empty(), "refused without a reason");
            problems.iter().map(ToString::to_string).collect()
        }
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("accepted"),
    }
}

/// The endpoint with more keys.
fn with(keys: &str) -> String {
    OPENUNISON.replace("  azRules:", &format!("{keys}  azRules:"))
}

/// The endpoint with these keys in place of its rules.
fn with_rules(keys: &str) -> String {
    OPENUNISON.replace(
        "  azRules:\n  - scope: filter\n    constraint: \"(namespace=myns)\"\n",
        keys,
    )
}

fn warnings(text: &str) -> Vec<String> {
    let config = Config::parse(text).unwrap();
    config.warnings.iter().map(ToString::to_string).collect()
}

#[track_caller]
fn has(problems: &[String], problem: &str) {
    let found = problems.iter().any(|found| found.contains(problem));
    assert!(found, "{problem:?} is not in {problems:#?}");
}

#[track_caller]
fn refuses(edit: (&str, &str), problem: &str) {
    assert!(OPENUNISON.contains(edit.0), "the edit changes nothing");
    let problems = problems(&OPENUNISON.replace(edit.0, edit.1));
    assert!(
        problems.iter().any(|found| found.contains(problem)),
        "{problems:#?}"
    );
}

#[test]
fn openunison_endpoints_are_read_unchanged() {
    let config = Config::parse(OPENUNISON).unwrap();
    let endpoint = &config.endpoints[0];
    assert_eq!(
        endpoint.template.issuer.as_str(),
        "https://d1dexjaad4ian0.cloudfront.net"
    );
    assert_eq!(endpoint.template.audience.as_str(), "sts.aws.com");
    assert_eq!(endpoint.template.subject, SubjectTemplate::openunison());
    assert_eq!(endpoint.template.lifetime.get(), Duration::from_secs(900));
    assert_eq!(
        endpoint.token_audience.as_str(),
        "https://kube-sts-server.kube-sts.svc/aws"
    );
    assert_eq!(endpoint.verification, Verification::TokenReview);
    let key = KeySource::Secret {
        name: "unison-saml2-rp-sig".to_owned(),
        algorithm: SigningAlgorithm::Rs256,
    };
    assert_eq!(endpoint.key, key);
    let injection = endpoint.injection.as_ref().unwrap();
    assert_eq!(injection.label, "aws-role");
    assert_eq!(injection.annotation, AnnotationShape::AwsRoleArn);
    let warnings: Vec<_> = config.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].contains("is not sts.amazonaws.com"),
        "{warnings:?}"
    );
}

#[test]
fn samples_can_be_run() {
    for sample in ["in-cluster.yaml", "standalone.yaml"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../docs/samples")
            .join(sample);
        if let Err(error) = Config::load(&path) {
            panic!("{sample}: {error}");
        }
    }
}

#[test]
fn cfg_004_all_problems_are_reported_at_once_with_line_and_path() {
    let text = OPENUNISON
        .replace("path: /aws", "path: aws/")
        .replace("audience: sts.aws.com", "audiense: sts.aws.com")
        .replace("(namespace=myns)", "(namspace=myns)")
        .replace("label: aws-role", "label: tremolo.io/aws-role");
    let problems = problems(&text);
    let has = |text: &str| problems.iter().any(|problem| problem.contains(text));
    assert!(
        has("endpoints[0].path (line 9) is no path"),
        "{problems:#?}"
    );
    assert!(
        has("endpoints[0].audiense (line 8) is unknown here: known are"),
        "{problems:#?}"
    );
    assert!(
        has("endpoints[0].audience (line 7) is missing"),
        "{problems:#?}"
    );
    assert!(
        has("azRules[0].constraint (line 12) \"(namspace=myns)\": at character 2: no subject has"),
        "{problems:#?}"
    );
    assert!(
        has("endpoints[0].injector.label (line 17) is no label name"),
        "{problems:#?}"
    );
}

#[test]
fn cfg_007_issuers_that_relying_parties_would_not_match_are_refused() {
    refuses(
        ("\"d1dexjaad4ian0.cloudfront.net\"", "https://a.example"),
        "is no host name",
    );
    refuses(
        ("    keypair", "    path: /a/\n    keypair"),
        "ends with one",
    );
    let ours = |issuer: &str| {
        OPENUNISON.replace(
            "issuer:\n    host: \"d1dexjaad4ian0.cloudfront.net\"\n    keypair: \"unison-saml2-rp-sig\"",
            &format!("issuer: {issuer}\n  key: {{secret: k}}"),
        )
    };
    assert!(Config::parse(&ours("https://issuer.example.com/a")).is_ok());
    for wrong in [
        "https://a.example/",
        "http://a.example",
        "https://a.example:8443",
        "https://a.example?x=1",
    ] {
        assert!(
            problems(&ours(wrong))[0].contains("endpoints[0].issuer"),
            "{wrong}"
        );
    }
}

#[test]
fn cfg_002_003_key_009_endpoints_share_neither_path_nor_audience_nor_key_nor_label() {
    let second = "- name: two\n  audience: b\n  path: /aws\n  allowAll: true\n  issuer: {host: d1dexjaad4ian0.cloudfront.net, keypair: unison-saml2-rp-sig}\n  injector: {label: aws-role, tokenEnv: A, annotationEnv: B}\n";
    let problems = problems(&format!("{}{second}", OPENUNISON.trim_start()));
    for shared in ["path", "issuer", "tokenAudience", "injector.label", "key"] {
        let found = problems
            .iter()
            .any(|problem| problem.starts_with(&format!("endpoints[1].{shared} ")));
        assert!(found, "{shared}: {problems:#?}");
    }
}

#[test]
fn reviews_need_an_api_server() {
    let file = "jwks: {file: keys.json}\n  issuer: https://k.example";
    refuses(("jwks: {apiServer: {}}", file), "cannot be asked");
    refuses(
        ("jwks: {apiServer: {}}", "jwks: {file: keys.json}"),
        "only the API server we run under is believed",
    );
    refuses(
        ("jwks: {apiServer: {}}", "jwks: {apiServer: {}, file: x}"),
        "needs exactly one",
    );
}

#[test]
fn text_that_is_not_yaml_names_its_line() {
    let problems = problems("url: x\n  clusters: [");
    assert!(problems[0].contains("line "), "{problems:?}");
}

#[test]
fn cfg_006_lifetimes_have_units_and_bounds() {
    refuses(
        ("  azRules:", "  lifetime: 900\n  azRules:"),
        "write a number and a unit",
    );
    refuses(
        ("  azRules:", "  lifetime: 30s\n  azRules:"),
        "between 1m and 24h",
    );
}

/// An `injector` part with these `serviceAccounts`.
fn with_accounts(part: &str) -> String {
    format!(
        "{OPENUNISON}
injector:
  listen: 127.0.0.1:1
  adminListen: 127.0.0.1:2
  tls: {{secret: tls}}
  service: injector
  webhookConfiguration: kube-sts
  serverCaConfigMap: ca
  sidecar: {{image: refresher}}
  serviceAccounts: {part}
"
    )
}

#[test]
fn service_accounts_have_the_settings_of_awss_webhook_and_ours() {
    let config = Config::parse(&with_accounts("{}")).unwrap();
    assert!(config.injector.unwrap().service_accounts.is_some());
    let whole = "{annotationPrefix: a.b, endpoint: aws, audience: x, mountPath: /a, tokenExpiration: 1h, region: eu-west-1, \
        regionalSts: true, role: plainText, roleArnPrefix: 'arn:aws:iam::1:role/', sessionName: pod, configMap: c, \
        lookupTimeout: 10ms, lookupFailure: deny, allowedRoles: [{namespace: 'a-*', roles: ['*']}], \
        containerCredentials: {file: /a, audience: x, mountPath: /b, volumeName: v, tokenPath: t, fullUri: 'http://127.0.0.1/x'}}";
    let config = Config::parse(&with_accounts(whole)).unwrap();
    let accounts = config.injector.unwrap().service_accounts.unwrap();
    assert_eq!(accounts.lookup_failure, LookupFailure::Deny);
    assert_eq!(accounts.session_name, SessionName::Pod);
    let pattern = &accounts.allowed_roles.unwrap()[0];
    assert_eq!(pattern.namespace, "a-*");
}

#[test]
fn settings_of_service_accounts_that_cannot_be_are_refused() {
    for (part, problem) in [
        ("{tokenExpiration: 5m}", "is not between 10m and a year"),
        ("{lookupTimeout: 10s}", "is not between 10ms and 3s"),
        (
            "{endpoint: ghost}",
            "is ghost, and no endpoint has that name",
        ),
        ("{mountPath: ../x}", "is no absolute path"),
        ("{region: 'eu west'}", "is no region"),
        ("{roleArnPrefix: x}", "is no start of an ARN"),
        ("{sessionName: x}", "is neither annotated nor pod"),
        ("{lookupFailure: x}", "is neither admit nor deny"),
        (
            "{allowedRoles: [{namespace: a}]}",
            "is no list of texts, or an empty one",
        ),
        (
            "{containerCredentials: {}}",
            "containerCredentials.file (line",
        ),
        ("{ghost: 1}", "is unknown here"),
    ] {
        let problems = problems(&with_accounts(part));
        let found = problems.iter().any(|found| found.contains(problem));
        assert!(found, "{part}: {problems:#?}");
    }
}

#[test]
fn a_projected_endpoint_lives_as_long_as_the_kubelet_can_ask_for() {
    let mode = (
        "    label: aws-role",
        "    label: aws-role\n    mode: projected",
    );
    Config::parse(&OPENUNISON.replace(mode.0, mode.1)).unwrap();
    let short = ("  path: /aws", "  path: /aws\n  lifetime: 5m");
    let text = OPENUNISON.replace(mode.0, mode.1).replace(short.0, short.1);
    assert!(problems(&text)[0].contains("is less than 10m"));
    refuses(
        (mode.0, "    label: aws-role\n    mode: both"),
        "is neither sidecar nor projected",
    );
}

/// The times of a rotation, for both programs.
#[track_caller]
fn rotation(text: &str) -> Result<Config, ConfigError> {
    let tls = format!("  tls: {{secret: tls, rotation: {{{text}}}}}\n");
    Config::parse(&format!("{OPENUNISON}server:\n{tls}"))
}

#[track_caller]
fn rotation_of(text: &str) -> CertificateRotation {
    let config = rotation(text).unwrap_or_else(|error| panic!("{error}"));
    let ServingTls::Secret { rotation, .. } = config.server.unwrap().tls else {
        panic!("no Secret")
    };
    rotation
}

#[test]
fn what_a_rotation_does_not_say_stands_at_its_default() {
    let day = Duration::from_secs(24 * 3600);
    let CertificateRotation {
        authority_lifetime,
        certificate_lifetime,
        rotate_every,
        overlap,
        retire_after,
    } = rotation_of("overlap: 180d, certificateLifetime: 12h");
    assert_eq!(
        [authority_lifetime, rotate_every, overlap, retire_after],
        [day * 1825, day * 730, day * 180, day * 30]
    );
    assert_eq!(certificate_lifetime, day / 2);
}

#[test]
fn times_of_a_rotation_leave_room_for_each_other() {
    let refuses = |text: &str, problem: &str| {
        let Err(ConfigError::Invalid(problems)) = rotation(text) else {
            panic!("{text}: accepted")
        };
        let has = |found: &Problem| found.to_string().contains(problem);
        assert!(problems.iter().any(has), "{text}: {problems:#?}");
    };
    refuses("overlap: 1", "write a number and a unit");
    refuses("certificateLifetime: 59s", "certificateLifetime (line");
    refuses("authorityLifetime: 8000d", "write at most 7300d");
    refuses("rotateEvery: 394d", "rotateEvery (line");
    refuses("rotateEvery: 394d", "write at least 395d");
    refuses("authorityLifetime: 1184d", "write at least 1185d");
    refuses(
        "rotateEvery: 0s, overlap: 0s, retireAfter: 0s",
        "rotateEvery",
    );
    refuses("rotate: 1d", "is unknown here");
}

#[test]
fn an_overlap_that_is_over_before_anybody_noticed_is_warned_of() {
    let warned = |text: &str| {
        let warnings = rotation(text).unwrap().warnings;
        let about = |warning: &Problem| warning.to_string().contains("tls.rotation.overlap");
        warnings.iter().any(about)
    };
    assert!(warned("overlap: 9s"));
    assert!(!warned("overlap: 10s"));
}

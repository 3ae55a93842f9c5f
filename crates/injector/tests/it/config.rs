//! From the configuration file to what is decided by.

use injector::settings::{AnnotationShape, IdentityToken, Settings};
use injector::{RunError, Runnable};
use sts_config::Config;

fn sample() -> Config {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../docs/samples/in-cluster.yaml"
    );
    Config::load(std::path::Path::new(path)).unwrap()
}

#[test]
fn sample_configuration_gives_two_endpoints_and_a_sidecar() {
    let config = sample();
    let injector = config.injector.as_ref().unwrap();
    let accounts = injector.service_accounts.as_ref();
    let settings = Settings::new(&config.url, &config.endpoints, &injector.sidecar, accounts);
    let Settings {
        endpoints,
        sidecar,
        identity,
        rules,
        excluded_namespaces,
    } = settings;
    assert_eq!(rules.len(), 2);
    assert_eq!(identity, None);
    assert_eq!(
        excluded_namespaces,
        ["kube-system", "kube-public", "kube-node-lease"]
    );
    let facts: Vec<_> = endpoints
        .iter()
        .map(|one| {
            (
                one.name.as_str(),
                one.key.as_str(),
                one.exchange_url.as_str(),
                one.shape,
            )
        })
        .collect();
    let url = "https://kube-sts-server.kube-sts.svc";
    assert_eq!(
        facts,
        [
            (
                "aws",
                "tremolo.io/aws-role",
                &*format!("{url}/aws/token"),
                AnnotationShape::AwsRoleArn
            ),
            (
                "vault",
                "tremolo.io/vault-role",
                &*format!("{url}/vault/token"),
                AnnotationShape::PlainText
            ),
        ]
    );
    assert_eq!(endpoints[0].audience, format!("{url}/aws"));
    assert_eq!(
        (sidecar.token_seconds, sidecar.wait_timeout.as_str()),
        (3600, "10s")
    );
    assert_eq!(sidecar.gate, injector::settings::Gate::Hook);
    assert!(!sidecar.liveness);
    assert_eq!(sidecar.resources["limits"]["memory"], "32Mi");
}

#[test]
fn configuration_without_an_injector_cannot_be_run() {
    let mut config = sample();
    config.injector = None;
    assert!(matches!(Runnable::new(config), Err(RunError::NoInjector)));
    Runnable::new(sample()).unwrap();
}

/// The settings of a part `serviceAccounts`.
fn identity(part: &str) -> injector::settings::IdentitySettings {
    identity_in(
        include_str!("../../../../docs/samples/in-cluster.yaml"),
        part,
    )
}

fn identity_in(text: &str, part: &str) -> injector::settings::IdentitySettings {
    let config = Config::parse(&format!("{text}\n  serviceAccounts: {part}\n")).unwrap();
    let injector = config.injector.as_ref().unwrap();
    let accounts = injector.service_accounts.as_ref();
    let settings = Settings::new(&config.url, &config.endpoints, &injector.sidecar, accounts);
    settings.identity.unwrap()
}

/// Of `aws/amazon-eks-pod-identity-webhook`, so that its users need write nothing.
#[test]
fn defaults_are_those_of_awss_webhook() {
    let settings = identity("{}");
    assert_eq!(settings.prefix, "eks.amazonaws.com");
    let token = IdentityToken::Projected {
        audience: "sts.amazonaws.com".to_owned(),
        mount_path: "/var/run/secrets/eks.amazonaws.com/serviceaccount".to_owned(),
        seconds: 86_400,
        endpoint: None,
    };
    assert_eq!(settings.token, token);
    assert_eq!((settings.region, settings.regional_sts), (None, false));
    assert_eq!(
        (settings.allowed_roles, settings.role_arn_prefix),
        (None, None)
    );
    let agent = identity("{containerCredentials: {file: /etc/config.json}}");
    let agent = agent.container_credentials.unwrap();
    assert_eq!(agent.audience, "pods.eks.amazonaws.com");
    assert_eq!(
        agent.mount_path,
        "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount"
    );
    assert_eq!(agent.volume_name, "eks-pod-identity-token");
    assert_eq!(agent.token_path, "eks-pod-identity-token");
    assert_eq!(agent.full_uri, "http://169.254.170.23/v1/credentials");
}

#[test]
fn an_endpoint_of_service_accounts_gives_the_tokens_of_the_sts() {
    let IdentityToken::Sidecar(endpoint) = identity("{endpoint: aws}").token else {
        panic!("no sidecar");
    };
    assert_eq!(
        endpoint.exchange_url,
        "https://kube-sts-server.kube-sts.svc/aws/token"
    );
}

/// Its audience and its lifetime, and no sidecar.
#[test]
fn a_projected_endpoint_of_service_accounts_says_what_the_kubelets_token_is() {
    let sample = include_str!("../../../../docs/samples/in-cluster.yaml");
    let mode = "    mode: sidecar ";
    assert!(sample.contains(mode));
    let text = sample.replace(mode, "    mode: projected ");
    let settings = identity_in(
        &text,
        "{endpoint: aws, mountPath: /run/token, tokenExpiration: 2h}",
    );
    let IdentityToken::Projected {
        audience,
        mount_path,
        seconds,
        endpoint,
    } = settings.token
    else {
        panic!("a sidecar");
    };
    assert_eq!(
        (audience.as_str(), mount_path.as_str(), seconds),
        ("sts.amazonaws.com", "/run/token", 900)
    );
    assert_eq!(endpoint.unwrap().name, "aws");
    assert_eq!(settings.agent_seconds, 7200);
}

//! From the configuration file to what is decided by.

use injector::settings::{AnnotationShape, Settings};
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
    let sidecar = &config.injector.as_ref().unwrap().sidecar;
    let Settings { endpoints, sidecar } = Settings::new(&config.url, &config.endpoints, sidecar);
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
    assert_eq!(sidecar.resources["limits"]["memory"], "32Mi");
}

#[test]
fn configuration_without_an_injector_cannot_be_run() {
    let mut config = sample();
    config.injector = None;
    assert!(matches!(Runnable::new(config), Err(RunError::NoInjector)));
    Runnable::new(sample()).unwrap();
}

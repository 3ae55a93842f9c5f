//! `publish:`, where issuer documents go.

use super::*;

fn with_publish(publish: &str) -> String {
    OPENUNISON.replace("  azRules:", &format!("  publish: {publish}\n  azRules:"))
}

#[track_caller]
fn publish_of(publish: &str) -> Publish {
    let config = Config::parse(&with_publish(publish)).unwrap();
    let endpoint = config.endpoints.into_iter().next().unwrap();
    endpoint.publish.unwrap()
}

#[track_caller]
fn publish_refuses(publish: &str, expected: &str) {
    let problems = problems(&with_publish(publish));
    assert!(
        problems.iter().any(|found| found.contains(expected)),
        "{problems:#?}"
    );
}

fn issuer(text: &str) -> sts_core::ident::Issuer {
    sts_core::ident::Issuer::parse(text).unwrap()
}

#[test]
fn nothing_is_published_unless_somebody_asks() {
    let config = Config::parse(OPENUNISON).unwrap();
    assert!(config.endpoints[0].publish.is_none());
}

#[test]
fn each_store_is_read_with_its_defaults() {
    let s3 = publish_of("{s3: {bucket: my-docs}}");
    let PublicStore::S3(store) = &s3.store else {
        panic!("{s3:?}");
    };
    assert_eq!(store.region, "us-east-1");
    assert_eq!(store.web_identity, None);
    assert_eq!(s3.writes, Writes::Conditional);
    let gcs = publish_of("{gcs: {bucket: my_docs}}");
    assert_eq!(
        gcs.store,
        PublicStore::Gcs {
            bucket: "my_docs".to_owned()
        }
    );
    publish_of("{azure: {account: mydocs, container: $web}}");
    let config_map = publish_of("{configMap: issuer-documents}");
    assert_eq!(config_map.writes, Writes::Conditional);
    let directory = publish_of("{directory: /srv/issuer}");
    assert_eq!(directory.writes, Writes::Unconditional);
    publish_refuses("{}", "needs exactly one of");
    publish_refuses(
        "{gcs: {bucket: abc}, configMap: a}",
        "needs exactly one of `s3`, `gcs`, `azure`, `directory` and `configMap`",
    );
    publish_refuses(
        "{directory: /srv, conditionalWrites: true}",
        "is not possible for a directory",
    );
}

#[test]
fn web_identity_has_a_subject_that_no_pod_can_have() {
    let publish = publish_of(
        "{s3: {bucket: my-docs, region: eu-central-1, webIdentity: {roleArn: \"arn:aws:iam::111122223333:role/x\", subject: kube-sts-publisher}}}",
    );
    let PublicStore::S3(S3Store {
        web_identity: Some(identity),
        ..
    }) = publish.store
    else {
        panic!("no web identity");
    };
    assert_eq!(identity.sts, "https://sts.eu-central-1.amazonaws.com");
    for pod in ["kubernetes:myns:aws-test", "system:serviceaccount:myns:a"] {
        publish_refuses(
            &format!("{{s3: {{bucket: my-docs, webIdentity: {{subject: \"{pod}\"}}}}}}"),
            "without a colon, which subjects of pods have",
        );
    }
}

#[test]
fn credentials_are_refused_in_the_file() {
    publish_refuses(
        "{s3: {bucket: my-docs, secretAccessKey: AAAA}}",
        "secretAccessKey (line 10) does not belong into a configuration file",
    );
}

#[test]
fn documents_lie_behind_the_issuers_path_without_the_buckets_own_name() {
    let publish = publish_of("{s3: {bucket: my-docs}}");
    for (at, prefix) in [
        ("https://d1.cloudfront.net", ""),
        ("https://my-docs.s3.amazonaws.com/blue", "blue"),
        ("https://s3.amazonaws.com/my-docs", ""),
        ("https://s3.amazonaws.com/my-docs/blue/a", "blue/a"),
        (
            "https://d1.cloudfront.net/my-docs-of-blue",
            "my-docs-of-blue",
        ),
    ] {
        assert_eq!(publish.prefix(&issuer(at)), prefix, "{at}");
    }
    let given = publish_of("{prefix: \"\", s3: {bucket: my-docs}}");
    assert_eq!(given.prefix(&issuer("https://d1.cloudfront.net/blue")), "");
    publish_refuses("{prefix: /a, s3: {bucket: my-docs}}", "is no prefix");
    publish_refuses("{prefix: a/../b, s3: {bucket: my-docs}}", "is no prefix");
}

#[test]
fn two_issuers_are_not_published_in_one_place() {
    let text = with_publish("{prefix: x, s3: {bucket: my-docs}}");
    let (head, endpoint) = text.split_once("- name: aws").unwrap();
    let second = endpoint
        .replace("path: /aws", "path: /aws2")
        .replace("d1dexjaad4ian0", "d2")
        .replace("unison-saml2-rp-sig", "key-2")
        .replace("aws-role", "aws2-role");
    let both = format!("{head}- name: aws{endpoint}- name: aws2{second}");
    let problems = problems(&both);
    assert!(
        problems.iter().any(|found| found.contains("publish")
            && found.contains("where the documents of endpoint aws are published already")),
        "{problems:#?}"
    );
}

#[test]
fn a_clusters_own_documents_are_published_under_its_issuer() {
    let cluster = "- name: kubernetes\n  jwks: {apiServer: {}}\n";
    assert!(OPENUNISON.contains(cluster));
    let with = |more: &str| OPENUNISON.replace(cluster, &format!("{cluster}{more}"));
    let issuer = "  issuer: https://blue.example.com\n";
    let publish = "  publish: {configMap: cluster-documents}\n";
    let config =
        Config::parse(&with(&format!("{issuer}{publish}  rewriteJwksUri: true\n"))).unwrap();
    let published = config.clusters[0].publish.as_ref().unwrap();
    assert_eq!(
        published.key_set,
        sts_core::publication::KeySetPlace::Rewritten
    );
    assert!(published.documents.read_back.is_some());
    let found = problems(&with(publish));
    assert!(
        found[0].contains("needs the cluster's `issuer`"),
        "{found:#?}"
    );
    let identity =
        format!("{issuer}  publish: {{s3: {{bucket: abc, webIdentity: {{subject: a}}}}}}\n");
    let found = problems(&with(&identity));
    assert!(found[0].contains("cannot use webIdentity"), "{found:#?}");
}

//! Several clusters, the ways to know that a subject is alive, and what is written against our advice.

use super::*;

const OTHER: &str = "clusters:\n- name: blue\n  issuer: https://blue.example\n  jwks: {apiServer: {}}\n  kubeconfig: {secret: blue}\n";

/// OpenUnison's example beside a second cluster; the changes are `(from, to)`.
fn with_blue(edits: &[(&str, &str)]) -> String {
    let text = OPENUNISON.replace("clusters:\n", OTHER);
    edits.iter().fold(text, |text, (from, to)| {
        assert!(text.contains(from), "{from} is not there");
        text.replace(from, to)
    })
}

#[track_caller]
fn blue_refuses(edits: &[(&str, &str)], expected: &str) {
    let problems = problems(&with_blue(edits));
    assert!(
        problems.iter().any(|found| found.contains(expected)),
        "{problems:#?}"
    );
}

#[test]
fn an_endpoint_takes_all_clusters_or_the_ones_it_lists() {
    let config = Config::parse(&with_blue(&[])).unwrap();
    let names = |config: &Config| {
        let names = config.endpoints[0].clusters.iter();
        names.map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(names(&config), ["blue", "kubernetes"]);
    let kubeconfig = ApiServer::Kubeconfig(KubeconfigSource::Secret("blue".to_owned()));
    assert_eq!(config.clusters[0].api_server, Some(kubeconfig));
    assert_eq!(config.clusters[1].api_server, Some(ApiServer::Own));
    let listed = with_blue(&[("  azRules:", "  clusters: [blue]\n  azRules:")]);
    assert_eq!(names(&Config::parse(&listed).unwrap()), ["blue"]);
    blue_refuses(
        &[("  azRules:", "  clusters: [red]\n  azRules:")],
        "names red, which is none of the configured clusters: blue, kubernetes",
    );
}

#[test]
fn an_api_server_may_be_named_with_its_files() {
    let files = "jwks: {apiServer: {url: \"https://b.example:6443\", caFile: /b/ca.crt, tokenFile: /b/token}}";
    let text = with_blue(&[("jwks: {apiServer: {}}\n  kubeconfig: {secret: blue}", files)]);
    let config = Config::parse(&text).unwrap();
    assert!(matches!(
        config.clusters[0].api_server,
        Some(ApiServer::At { .. })
    ));
    blue_refuses(
        &[(
            "jwks: {apiServer: {}}\n  kubeconfig",
            &format!("{files}\n  kubeconfig"),
        )],
        "both name the API server",
    );
    blue_refuses(
        &[(
            "jwks: {apiServer: {}}\n  kubeconfig: {secret: blue}",
            "jwks: {apiServer: {url: \"https://b.example\"}}",
        )],
        "apiServer.caFile (line 6) is missing",
    );
}

#[test]
fn two_clusters_cannot_be_the_one_we_run_under_nor_share_what_tells_them_apart() {
    blue_refuses(
        &[("\n  kubeconfig: {secret: blue}", "")],
        "is the API server we run under, as that of cluster blue is",
    );
    blue_refuses(&[("name: blue", "name: kubernetes")], "name too");
    blue_refuses(
        &[(
            "- name: kubernetes",
            "- name: kubernetes\n  issuer: https://blue.example",
        )],
        "cannot be told apart",
    );
    blue_refuses(
        &[("  issuer: https://blue.example\n", "")],
        "only the API server we run under is believed",
    );
}

#[test]
fn watch_needs_an_api_server_as_well() {
    blue_refuses(
        &[
            (
                "jwks: {apiServer: {}}\n  kubeconfig: {secret: blue}",
                "jwks: {file: blue.json}",
            ),
            ("  azRules:", "  verification: watch\n  azRules:"),
        ],
        "is watch, but the API server of cluster blue cannot be asked",
    );
}

#[test]
fn grace_is_bounded_and_has_a_meaning() {
    let config = Config::parse(OPENUNISON).unwrap();
    assert!(config.endpoints[0].grace.get().is_zero());
    refuses(
        ("  azRules:", "  grace: 301s\n  azRules:"),
        "is longer than 300 s",
    );
    let offline = "  grace: 30s\n  verification: jwks\n  azRules:";
    refuses(("  azRules:", offline), "means nothing");
}

#[test]
fn danger_is_warned_about_and_cannot_swallow_an_endpoints_audience() {
    let danger = |audience: &str| {
        let danger = format!("  danger: {{apiServerAudiences: [\"{audience}\"]}}\n  azRules:");
        OPENUNISON.replace("  azRules:", &danger)
    };
    let config = Config::parse(&danger("https://kubernetes.default.svc")).unwrap();
    assert_eq!(
        config.endpoints[0].danger.api_server_audiences[0].as_str(),
        "https://kubernetes.default.svc"
    );
    let warnings: Vec<_> = config.warnings.iter().map(ToString::to_string).collect();
    let warned = warnings.iter().any(|warning| {
        warning.starts_with("endpoints[0].danger.apiServerAudiences")
            && warning.contains("takes pods' default tokens")
    });
    assert!(warned, "{warnings:?}");
    let own = problems(&danger("https://kube-sts-server.kube-sts.svc/aws"));
    assert!(
        own[0].contains("the token audience of endpoint aws"),
        "{own:?}"
    );
    refuses(
        ("  azRules:", "  danger: {}\n  azRules:"),
        "danger.apiServerAudiences",
    );
}

#[test]
fn rates_have_defaults_and_zero_is_none() {
    let server = |limit: &str| {
        let text = format!("{OPENUNISON}server:\n  tls: {{secret: tls}}\n{limit}");
        Config::parse(&text).map(|config| config.server.unwrap().rate_limit)
    };
    let default = server("").unwrap();
    assert_eq!(default.per_address.unwrap().get(), 200);
    assert_eq!(default.per_pod.unwrap().get(), 5);
    let none = server("  rateLimit: {perAddress: 0, perPod: 1}\n").unwrap();
    assert_eq!(none.per_address, None);
    assert_eq!(none.per_pod.unwrap().get(), 1);
    for wrong in ["-1", "many", "1.5"] {
        let limit = format!("  rateLimit: {{perPod: \"{wrong}\"}}\n");
        let error = server(&limit).unwrap_err().to_string();
        assert!(error.contains("is no number of exchanges"), "{error}");
    }
}

/// YAML's way to leave a value out, which templates do.
#[test]
fn a_key_without_a_value_is_as_good_as_none() {
    let text = format!(
        "{}  rules:\n  clusters:\n  danger:\n",
        OPENUNISON.trim_end_matches(' ')
    );
    let config = Config::parse(&text).unwrap();
    assert_eq!(config.endpoints[0].clusters.len(), 1);
    let removed = OPENUNISON.split("  injector:").next().unwrap();
    let config = Config::parse(&format!("{removed}  injector:\n")).unwrap();
    assert!(config.endpoints[0].injection.is_none());
}

#[test]
fn an_endpoints_own_audience_is_no_api_servers() {
    let with_audience = |text: &str, audience: &str| {
        let line = format!("  tokenAudience: \"{audience}\"\n  azRules:");
        text.replace("  azRules:", &line)
    };
    let text = OPENUNISON.replace(
        "- name: kubernetes\n",
        "- name: kubernetes\n  issuer: https://blue.example\n",
    );
    for audience in ["https://blue.example", "https://kubernetes.default.svc"] {
        let problems = problems(&with_audience(&text, audience));
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(
            problems
                .iter()
                .all(|one| one.contains("tokenAudience") && one.contains("danger")),
            "{problems:?}"
        );
    }
    assert!(Config::parse(&with_audience(&text, "https://sts.example")).is_ok());
}

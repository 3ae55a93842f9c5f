//! `subject:`, `additionalAttributes:`, `aws:` and `lifetime:`.

use super::*;

#[test]
fn openunisons_additional_attributes_are_read() {
    let text = with(
        r#"  additionalAttributes:
  - {target: team, type: static, source: payments}
  - {target: pod, type: user, source: pod-name}
  - {target: groups, type: user, source: groups}
  - {target: who, type: composite, source: "${namespace}/${saname}"}
"#,
    );
    let config = Config::parse(&text).unwrap();
    let claims = &config.endpoints[0].template.additional;
    let names: Vec<_> = claims.iter().map(|claim| claim.name().as_str()).collect();
    assert_eq!(names, ["team", "pod", "groups", "who"]);
}

#[test]
fn claims_that_cannot_be_are_refused_with_their_place() {
    for (claim, problem) in [
        (
            "{target: a, type: custom, source: com.example.X}",
            "runs a Java class of OpenUnison's: write `type: composite`",
        ),
        (
            "{target: a, type: other, source: b}",
            "is none of user, static and composite",
        ),
        (
            "{target: a, type: user, source: mail}",
            "no subject has an attribute \"mail\"",
        ),
        (
            "{target: a, type: composite, source: \"${mail}\"}",
            "there is no ${mail}",
        ),
        (
            "{target: a, type: composite, source: \"${groups}\"}",
            "has several values",
        ),
        (
            "{target: sub, type: static, source: b}",
            "relying parties decide by",
        ),
        (
            "{target: azp, type: static, source: b}",
            "relying parties decide by",
        ),
        (
            "{target: \"https://aws.amazon.com/tags\", type: static, source: b}",
            "write it under `aws:`",
        ),
        (
            "{target: a, type: composite, source: \"${role}\"}",
            "nothing unless it is bound",
        ),
        ("{target: a, type: static}", "source (line 11) is missing"),
    ] {
        let text = with(&format!("  additionalAttributes:\n  - {claim}\n"));
        has(&problems(&text), problem);
    }
    let twice = "  additionalAttributes:\n  - {target: a, type: static, source: b}\n  - {target: a, type: static, source: c}\n";
    has(
        &problems(&with(twice)),
        "additionalAttributes[1].target (line 12) is another claim's name too",
    );
}

#[test]
fn subjects_that_two_service_accounts_could_share_are_refused() {
    for (subject, problem) in [
        (
            ":${namespace}-${saname}",
            "nothing tells where ${namespace} ends",
        ),
        ("${saname}", "does not name ${namespace}"),
        (
            "${namespace}:${saname}:${node-name}",
            "is not there for every subject",
        ),
        (
            "fixed",
            "is none of serviceAccount, openunison and a template",
        ),
    ] {
        let problems = problems(&with(&format!("  subject: \"{subject}\"\n")));
        has(&problems, problem);
        has(&problems, "endpoints[0].subject (line 10)");
    }
    let text = with("  subject: \"k8s:${namespace}/${saname}\"\n");
    assert!(Config::parse(&text).is_ok());
}

/// Two clusters may have the same namespace and ServiceAccount: only the cluster tells them apart.
#[test]
fn subjects_of_several_clusters_name_the_cluster() {
    let two = |text: &str| {
        text.replace(
            "endpoints:",
            "- name: other\n  issuer: https://other.example\n  jwks: {file: keys.json}\nendpoints:",
        )
        .replace("  azRules:", "  verification: jwks\n  azRules:")
    };
    assert!(
        Config::parse(&two(OPENUNISON)).is_ok(),
        "OpenUnison's names it"
    );
    let text = two(&with("  subject: serviceAccount\n"));
    has(
        &problems(&text),
        "does not name the cluster, and the endpoint takes tokens of kubernetes and other",
    );
    let text = two(&with("  subject: \"${cluster}/${sub}\"\n"));
    assert!(Config::parse(&text).is_ok());
    let aws = |aws: &str| two(&with(&format!("  aws: {{{aws}}}\n")));
    let namespace = "sessionTags: [{key: ns, value: \"${namespace}\"}]";
    let cluster =
        "sessionTags: [{key: ns, value: \"${namespace}\"}, {key: cluster, value: \"${cluster}\"}]";
    has(
        &problems(&aws(namespace)),
        "in the session tags ${namespace} stands without ${cluster}, and the endpoint takes tokens of kubernetes and other",
    );
    has(
        &problems(&aws("sourceIdentity: \"${namespace}\"")),
        "in the source identity ${namespace} stands without ${cluster}",
    );
    for named in [
        cluster,
        "sourceIdentity: \"${cluster}.${namespace}\"",
        "sourceIdentity: prod",
    ] {
        assert!(Config::parse(&aws(named)).is_ok(), "{named}");
    }
    assert!(
        Config::parse(&with(&format!("  aws: {{{namespace}}}\n"))).is_ok(),
        "of one cluster"
    );
}

#[test]
fn what_aws_would_refuse_is_refused_at_load() {
    for (aws, problem) in [
        ("sessionTags: [{key: \"a,b\", value: c}]", "is no tag's key"),
        (
            "sessionTags: [{key: a, value: \"b,c\"}]",
            "which AWS does not take",
        ),
        (
            "sessionTags: [{key: a, value: b}, {key: A, value: c}]",
            "without regard to case",
        ),
        (
            "sessionTags: [{key: a, value: \"${role}\"}]",
            "nothing unless it is bound",
        ),
        (
            "sessionTags: [{key: a, value: \"${namespace}-${saname}\"}]",
            "in the value nothing tells where ${namespace} ends",
        ),
        (
            "sourceIdentity: \"${namespace}-${saname}\"",
            "in the source identity nothing tells where ${namespace} ends",
        ),
        ("sourceIdentity: \"${sub}\"", "which AWS does not take"),
        (
            "sourceIdentity: \"${node-name}\"",
            "a source identity must be",
        ),
        (
            "sourceIdentity: \"${saname}\"",
            "in the source identity ${saname} stands without ${namespace}",
        ),
        (
            "sessionTags: [{key: sa, value: \"${saname}\"}]",
            "in the session tags ${saname} stands without ${namespace}",
        ),
        (
            "roles: true",
            "roles (line 7) is missing: a claim names the role",
        ),
        ("tags: []", "is unknown here"),
    ] {
        has(&problems(&with(&format!("  aws: {{{aws}}}\n"))), problem);
    }
    let identity = with("  aws: {sourceIdentity: \"${namespace}.${saname}\"}\n");
    has(&warnings(&identity), "more than AWS's 64 characters");
}

#[test]
fn cfg_009_an_aws_endpoint_with_another_audience_is_warned_of() {
    has(
        &warnings(OPENUNISON),
        "audience (line 7) is not sts.amazonaws.com",
    );
    let conventional = OPENUNISON.replace("sts.aws.com", "sts.amazonaws.com");
    assert_eq!(warnings(&conventional), Vec::<String>::new());
}

#[test]
fn lifetimes_that_are_long_are_warned_of() {
    has(
        &warnings(&with("  lifetime: 2h\n")),
        "lifetime (line 7) is more than an hour",
    );
}

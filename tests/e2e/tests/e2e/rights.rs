//! What the chart lets the programs do in the cluster: as it is written for each of its example values, and as the API server judges it.

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::chart::rendered;
use crate::stage::stage;

/// What every set of example values gives. To renew it after a change that is meant: copy what the failing test prints.
const RIGHTS: &str = include_str!("../../manifests/rights.txt");

/// The rules of Roles and ClusterRoles, each with whose it is.
fn rules() -> Vec<(&'static str, &'static Value, &'static Value)> {
    let mut rules = Vec::new();
    for (set, objects) in rendered() {
        for object in objects {
            let kind = &object["kind"];
            if kind == "Role" || kind == "ClusterRole" {
                let all = object["rules"].as_array().unwrap();
                rules.extend(all.iter().map(|rule| (set.as_str(), object, rule)));
            }
        }
    }
    rules
}

fn words(list: &Value) -> Vec<&str> {
    let words = list.as_array().into_iter().flatten();
    words.map(|word| word.as_str().unwrap()).collect()
}

/// The pod specs that the chart makes, those of its tests included.
fn pod_specs() -> Vec<(&'static Value, &'static Value)> {
    let objects = rendered().iter().flat_map(|(_, objects)| objects);
    let specs = objects.filter_map(|object| {
        let path = match object["kind"].as_str()? {
            "Deployment" | "Job" => "/spec/template/spec",
            "Pod" => "/spec",
            _ => return None,
        };
        Some((object, object.pointer(path)?))
    });
    specs.collect()
}

#[test]
fn rbac_001_rights_are_the_listed_ones() {
    let line = |(set, object, rule): (&str, &Value, &Value)| {
        let names = words(&rule["resourceNames"]);
        let names = if names.is_empty() {
            "any".to_owned()
        } else {
            names.join(" ")
        };
        format!(
            "{set}: {} {}: {} of {names}: {}",
            object["kind"].as_str().unwrap(),
            object["metadata"]["name"].as_str().unwrap(),
            words(&rule["resources"]).join(" "),
            words(&rule["verbs"]).join(" ")
        )
    };
    let mut found: Vec<String> = rules().into_iter().map(line).collect();
    found.sort();
    let mut listed: Vec<&str> = RIGHTS.lines().collect();
    listed.sort_unstable();
    assert_eq!(found, listed, "what is found:\n{}", found.join("\n"));
}

#[test]
fn rbac_002_no_wildcards_and_nothing_that_leads_to_more_rights() {
    const NEVER: [&str; 9] = [
        "serviceaccounts/token",
        "pods/exec",
        "pods/ephemeralcontainers",
        "nodes/proxy",
        "certificatesigningrequests",
        "certificatesigningrequests/approval",
        "roles",
        "rolebindings",
        "clusterrolebindings",
    ];
    for (set, object, rule) in rules() {
        let what = format!("{set}: {}: {rule}", object["metadata"]["name"]);
        let all =
            ["apiGroups", "resources", "verbs", "resourceNames"].map(|part| words(&rule[part]));
        assert!(!all.iter().any(|words| words.contains(&"*")), "{what}");
        let [_, resources, verbs, _] = &all;
        assert!(
            !NEVER.iter().any(|never| resources.contains(never)),
            "{what}"
        );
        for verb in ["escalate", "bind", "impersonate", "deletecollection"] {
            assert!(!verbs.contains(&verb), "{what}");
        }
        let writes = |verb: &&str| !["get", "list", "watch"].contains(verb);
        if resources.contains(&"pods") || resources.contains(&"serviceaccounts") {
            assert!(!verbs.iter().any(writes), "{what}");
        }
        if object["kind"] == "ClusterRole" {
            assert!(!resources.contains(&"secrets"), "{what}");
        }
        assert!(rule["nonResourceURLs"].is_null(), "{what}");
    }
}

#[test]
fn rbac_003_004_secrets_and_webhook_configurations_only_by_name() {
    let mut seen = 0;
    for (set, object, rule) in rules() {
        let resources = words(&rule["resources"]);
        for resource in ["secrets", "mutatingwebhookconfigurations", "configmaps"] {
            if resources.contains(&resource) {
                seen += 1;
                assert!(
                    !words(&rule["resourceNames"]).is_empty(),
                    "{set}: {}: {rule}",
                    object["metadata"]["name"]
                );
            }
        }
    }
    assert!(seen > 0);
}

#[test]
fn rbac_005_each_program_has_a_service_account_of_its_own() {
    for (set, objects) in rendered() {
        let mut accounts = Vec::new();
        for object in objects.iter().filter(|one| one["kind"] == "Deployment") {
            let account = &object["spec"]["template"]["spec"]["serviceAccountName"];
            assert!(account.is_string() && account != "default", "{set}");
            assert!(!accounts.contains(&account), "{set}: {account} twice");
            accounts.push(account);
        }
        assert!(!accounts.is_empty(), "{set}");
        for binding in objects
            .iter()
            .filter(|one| one["kind"] == "RoleBinding" || one["kind"] == "ClusterRoleBinding")
        {
            let subjects = binding["subjects"].as_array().unwrap();
            assert_eq!(subjects.len(), 1, "{set}: {binding}");
            assert!(accounts.contains(&&subjects[0]["name"]), "{set}: {binding}");
        }
    }
}

#[test]
fn rbac_006_roles_are_the_charts_own() {
    for (set, objects) in rendered() {
        let names = |kind: &str| -> Vec<&Value> {
            let of_kind = objects.iter().filter(|one| one["kind"] == kind);
            of_kind.map(|one| &one["metadata"]["name"]).collect()
        };
        for binding in ["RoleBinding", "ClusterRoleBinding"] {
            for object in objects.iter().filter(|one| one["kind"] == binding) {
                let role = &object["roleRef"];
                let kind = role["kind"].as_str().unwrap();
                // Not `system:auth-delegator`, which also lets one ask what others may do.
                assert!(names(kind).contains(&&role["name"]), "{set}: {role}");
            }
        }
    }
}

#[test]
fn rbac_008_what_a_program_may_not_do_the_api_server_refuses() -> Result<()> {
    let stage = stage();
    let namespace = stage.namespace.as_str();
    let injector = format!("system:serviceaccount:{namespace}:kube-sts-injector");
    let server = format!("system:serviceaccount:{namespace}:kube-sts-server");
    let may = |who: &str, what: &[&str]| {
        let question: &[&str] = &["auth", "can-i", "--as", who];
        // `no` is an exit code too.
        let answer = stage.kubectl(&[question, what].concat());
        answer.is_ok_and(|text| text.trim() == "yes")
    };
    let configurations = "mutatingwebhookconfigurations.admissionregistration.k8s.io";
    let (own, other) = (
        format!("{configurations}/kube-sts"),
        format!("{configurations}/zz-other"),
    );
    let key = "secrets/unison-saml2-rp-sig";
    // So it is seen that questions are understood.
    for (who, what) in [
        (&injector, ["patch", &own].as_slice()),
        (&server, &["create", "tokenreviews.authentication.k8s.io"]),
        (&server, &["get", key, "-n", namespace]),
    ] {
        ensure!(may(who, what), "{who} may not {what:?}");
    }
    for (who, what) in [
        (&injector, ["get", key, "-n", namespace].as_slice()),
        (&injector, &["list", "secrets", "-n", namespace]),
        (&injector, &["patch", &other]),
        (&injector, &["delete", &own]),
        (&injector, &["create", configurations]),
        (&injector, &["create", "tokenreviews.authentication.k8s.io"]),
        (&injector, &["create", "pods", "-n", namespace]),
        (&server, &["get", "secrets/other", "-n", namespace]),
        (&server, &["list", "secrets", "-n", "kube-system"]),
        (
            &server,
            &["get", "secrets/kube-sts-injector-tls", "-n", namespace],
        ),
        (&server, &["patch", &own]),
        (
            &server,
            &[
                "create",
                "serviceaccounts",
                "--subresource=token",
                "-n",
                namespace,
            ],
        ),
        (
            &server,
            &["create", "subjectaccessreviews.authorization.k8s.io"],
        ),
        (&server, &["get", "pods", "-n", "default"]),
    ] {
        ensure!(!may(who, what), "{who} may {what:?}");
    }
    Ok(())
}

#[test]
fn rbac_009_no_token_is_mounted_that_is_not_needed() {
    for (object, spec) in pod_specs() {
        let what = format!("{} {}", object["kind"], object["metadata"]["name"]);
        assert_eq!(spec["automountServiceAccountToken"], false, "{what}");
        let volumes = spec["volumes"].as_array().into_iter().flatten();
        let tokens: Vec<&Value> = volumes
            .filter(|volume| {
                let sources = volume["projected"]["sources"].as_array();
                let mut sources = sources.into_iter().flatten();
                sources.any(|source| source["serviceAccountToken"].is_object())
            })
            .map(|volume| &volume["name"])
            .collect();
        let containers = [&spec["containers"], &spec["initContainers"]];
        let containers = containers
            .into_iter()
            .flat_map(|list| list.as_array().into_iter().flatten());
        let mounting = containers.filter(|container| {
            let mut mounts = container["volumeMounts"].as_array().into_iter().flatten();
            mounts.any(|mount| tokens.contains(&&mount["name"]))
        });
        assert!(mounting.count() <= 1, "{what}");
        // Only the programs ask the API server; the chart's own test does not.
        let asks = object["kind"] == "Deployment";
        assert_eq!(tokens.len(), usize::from(asks), "{what}");
    }
}

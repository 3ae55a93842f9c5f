//! For any pod: only additions, nothing changes outside our paths, and twice is once.

use injector::decide::Entry;
use injector::settings::{SessionName, Settings};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::{Map, Value, json};

use crate::identity::{ROLE, account, identity_settings};
use crate::support::{Answered, CA, SIDECAR, TOKENS, ask, ask_as, review, set, settings};

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[ -~\u{e9}]{0,12}".prop_map(Value::from),
    ]
}

fn anything() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("x-[a-z~/]{0,6}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// An object of optional known fields and unknown ones.
fn object(known: Vec<(&'static str, BoxedStrategy<Value>)>) -> BoxedStrategy<Value> {
    let fields: Vec<_> = known
        .into_iter()
        .map(|(key, value)| prop::option::of(value).prop_map(move |value| (key, value)))
        .collect();
    (
        fields,
        prop::collection::btree_map("x-[a-z~/]{0,6}", anything(), 0..3),
    )
        .prop_map(|(fields, unknown)| {
            let mut object: Map<String, Value> = unknown.into_iter().collect();
            let present = fields
                .into_iter()
                .filter_map(|(key, value)| Some((key, value?)));
            object.extend(present.map(|(key, value)| (key.to_owned(), value)));
            Value::Object(object)
        })
        .boxed()
}

fn list(element: BoxedStrategy<Value>) -> BoxedStrategy<Value> {
    let elements = prop::collection::vec(element, 0..4).prop_map(Value::from);
    prop_oneof![9 => elements, 1 => Just(Value::Null)].boxed()
}

fn one_of(texts: &'static [&'static str]) -> BoxedStrategy<Value> {
    prop::sample::select(texts).prop_map(Value::from).boxed()
}

fn container() -> BoxedStrategy<Value> {
    let names = &["AWS_ROLE_ARN", "AWS_ACCESS_KEY_ID", "VAULT_ROLE", "A", ""];
    let env = object(vec![
        ("name", one_of(names)),
        ("value", one_of(&["", "x", "$(A)"])),
    ]);
    let paths = &["/data", "/tmp/", "/var/lib", "", TOKENS];
    let mount = object(vec![
        ("name", one_of(&["data", "sts-tokens"])),
        ("mountPath", one_of(paths)),
    ]);
    object(vec![
        ("name", one_of(&["app", "b", "c"])),
        ("image", one_of(&["i:1"])),
        ("env", list(env)),
        ("envFrom", list(object(Vec::new()))),
        ("volumeMounts", list(mount)),
    ])
}

fn pod() -> BoxedStrategy<Value> {
    let user = prop::option::of(0_i64..2).prop_map(Value::from).boxed();
    let spec = object(vec![
        ("containers", list(container())),
        ("initContainers", list(container())),
        ("ephemeralContainers", list(container())),
        (
            "volumes",
            list(object(vec![(
                "name",
                one_of(&["data", "cache", "sts-tokens"]),
            )])),
        ),
        ("securityContext", object(vec![("runAsUser", user)])),
    ]);
    let values = prop::sample::select(&["true", "false"][..]);
    let annotations = object(vec![("example.com/a~b", one_of(&["~", "/"]))]);
    (spec, annotations, values.clone(), values)
        .prop_map(|(spec, _, aws, vault)| {
            json!({
                "metadata": {
                    "name": "random",
                    "labels": {"tremolo.io/aws-role": aws, "tremolo.io/vault-role": vault},
                    "annotations": {
                        "tremolo.io/aws-role": "arn:aws:iam::123456789012:role/x",
                        "tremolo.io/vault-role": "r",
                        "example.com/a~b": "~1",
                    },
                },
                "spec": spec,
            })
        })
        .boxed()
}

/// By the entry for ServiceAccounts, all of whose variables are switched on.
fn by_account(pod: &Value) -> Answered {
    let mut identity = identity_settings();
    identity.region = Some("eu-central-1".to_owned());
    identity.regional_sts = true;
    identity.session_name = SessionName::Pod;
    let settings = Settings {
        identity: Some(identity),
        ..settings()
    };
    let facts = account(&[("role-arn", ROLE), ("role-arn.b", ROLE)]);
    let review = review(pod);
    ask_as(&settings, Some(&CA), Entry::ServiceAccount(&facts), &review).unwrap()
}

/// Takes our additions out again, and empty arrays, which stand for absent ones.
fn stripped(pod: &Value, before: &Value) -> Value {
    let mut pod = pod.clone();
    let spec = pod["spec"].as_object_mut().unwrap();
    if let Some(Value::Array(containers)) = spec.get_mut("initContainers") {
        containers.retain(|container| container["name"] != SIDECAR);
    }
    restore(spec, "volumes", &before["spec"]);
    for list in ["containers", "initContainers"] {
        let originals = before["spec"][list].as_array().cloned().unwrap_or_default();
        let Some(Value::Array(containers)) = spec.get_mut(list) else {
            continue;
        };
        for (container, original) in containers.iter_mut().zip(&originals) {
            let fields = container.as_object_mut().unwrap();
            restore(fields, "env", original);
            restore(fields, "volumeMounts", original);
        }
    }
    let emptied = spec.get("initContainers") == Some(&json!([]));
    if emptied {
        restore(spec, "initContainers", &before["spec"]);
    }
    pod
}

/// Cuts an array back to its original length; what is before the cut has to be the original.
fn restore(fields: &mut Map<String, Value>, key: &str, original: &Value) {
    match original.get(key) {
        None => drop(fields.remove(key)),
        Some(Value::Array(elements)) => {
            fields[key].as_array_mut().unwrap().truncate(elements.len());
        }
        Some(other) => fields[key] = other.clone(),
    }
}

/// Or what follows would hold of nothing.
#[test]
fn a_good_part_of_these_pods_is_given_something_by_either_entry() {
    const PODS: usize = 200;
    let mut runner = TestRunner::deterministic();
    let pods: Vec<Value> = (0..PODS)
        .map(|_| pod().new_tree(&mut runner).unwrap().current())
        .collect();
    let is_given = |answer: &Answered| answer.outcome.decision == "inject";
    let by_label = pods.iter().map(ask).filter(is_given).count();
    assert!(by_label > PODS / 4, "{by_label}");
    let unlabelled = pods.into_iter().map(|mut pod| {
        set(&mut pod, "/metadata/labels", json!({"app": "x"}));
        pod
    });
    let by_account = unlabelled.map(|pod| by_account(&pod)).filter(is_given);
    let by_account = by_account.count();
    assert!(by_account > PODS / 4, "{by_account}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn adm_008_nothing_changes_outside_our_paths_and_twice_is_once(pod in pod()) {
        let first = ask(&pod);
        if first.outcome.decision == "inject" {
            prop_assert_eq!(stripped(&first.pod, &pod), pod);
            let mut second = ask(&first.pod);
            prop_assert!(second.patch.0.is_empty(), "{:?}", second.patch);
            // And a container that another webhook adds is the only one that changes afterwards.
            if second.pod["spec"]["containers"].is_array() {
                set(&mut second.pod, "/spec/containers/-", json!({"name": "late"}));
                let third = ask(&second.pod);
                prop_assert!(!third.patch.0.is_empty());
                prop_assert!(ask(&third.pod).patch.0.is_empty());
            }
        } else {
            prop_assert_eq!(first.pod, pod);
        }
    }

    #[test]
    fn adm_008_by_service_account_too_nothing_changes_outside_our_paths_and_twice_is_once(mut pod in pod()) {
        set(&mut pod, "/metadata/labels", json!({"app": "x"}));
        let first = by_account(&pod);
        if first.outcome.decision == "inject" {
            prop_assert_eq!(stripped(&first.pod, &pod), pod);
            let second = by_account(&first.pod);
            prop_assert!(second.patch.0.is_empty(), "{:?}", second.patch);
        } else {
            prop_assert_eq!(first.pod, pod);
        }
    }

    #[test]
    fn adm_032_any_body_is_answered_without_a_panic(pod in anything(), bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        drop(crate::support::ask_review(None, &review(&pod)));
        drop(injector::review::parse_review(&bytes));
    }
}

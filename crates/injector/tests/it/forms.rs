//! Forms of injection: the sidecar as an ordinary container, and endpoints whose token the kubelet keeps.

use injector::decide::Entry;
use injector::settings::{InjectionMode, Settings, SidecarForm};
use serde_json::{Value, json};

use crate::support::{
    Answered, CA, SIDECAR, TOKENS, ask_as, container, fixture, fixtures, review, set, settings,
    token_mounts, variable, volume,
};

const FIRST: &str = "kube-sts-first-token";

fn classic() -> Settings {
    let mut settings = settings();
    settings.sidecar.form = SidecarForm::Classic;
    settings
}

fn projected() -> Settings {
    let mut settings = settings();
    settings.endpoints[0].mode = InjectionMode::Projected;
    "sts.amazonaws.com".clone_into(&mut settings.endpoints[0].audience);
    settings
}

#[track_caller]
fn ask(settings: &Settings, pod: &Value) -> Answered {
    ask_as(settings, Some(&CA), Entry::Endpoint("aws"), &review(pod)).unwrap()
}

#[track_caller]
fn inject(settings: &Settings, pod: &Value) -> Value {
    let answered = ask(settings, pod);
    assert_eq!(
        answered.outcome.decision, "inject",
        "{:?}",
        answered.response
    );
    let second = ask(settings, &answered.pod);
    assert!(
        second.patch.0.is_empty(),
        "{:?} {:?}",
        second.patch,
        second.response
    );
    answered.pod
}

#[test]
fn adm_021_classic_form_fetches_the_first_token_before_anything_else_runs() {
    let pod = inject(&classic(), &fixture("init-and-native-sidecar"));
    let first = &pod["spec"]["initContainers"][0];
    assert_eq!(
        (&first["name"], &first["args"]),
        (&json!(FIRST), &json!(["once"]))
    );
    let containers = pod["spec"]["containers"].as_array().unwrap();
    let sidecar = containers.last().unwrap();
    assert_eq!(
        (&sidecar["name"], &sidecar["args"]),
        (&json!(SIDECAR), &json!(["run"]))
    );
    for ours in [first, sidecar] {
        assert_eq!(
            (ours.get("restartPolicy"), ours.get("lifecycle")),
            (None, None)
        );
        assert_eq!(ours["volumeMounts"].as_array().unwrap().len(), 2);
        assert_eq!(ours["securityContext"]["runAsNonRoot"], true);
    }
    assert_eq!(variable(container(&pod, "app"), "AWS_ROLE_ARN").len(), 1);
}

#[test]
fn adm_008_classic_form_twice_is_once() {
    for (_, pod) in fixtures() {
        drop(inject(&classic(), &pod));
    }
}

#[test]
fn classic_containers_that_are_not_as_we_add_them_are_denied() {
    for (pointer, value) in [
        ("/spec/initContainers/0/command", json!(["sh"])),
        ("/spec/containers/1/args", json!(["once"])),
        ("/spec/containers/1/securityContext/privileged", json!(true)),
    ] {
        let mut pod = inject(&classic(), &fixture("bare"));
        set(&mut pod, pointer, value);
        let answered = ask(&classic(), &pod);
        assert_eq!(answered.outcome.reason, "sidecar_changed", "{pointer}");
    }
    let native = ask(&settings(), &fixture("bare")).pod;
    let answered = ask(&classic(), &native);
    assert_eq!(
        answered.outcome.reason, "other_settings",
        "of the other form"
    );
}

#[test]
fn an_endpoint_of_mode_projected_needs_no_sidecar() {
    let pod = inject(&projected(), &fixture("bare"));
    assert_eq!(pod["spec"].get("initContainers"), None);
    let token =
        json!({"audience": "sts.amazonaws.com", "expirationSeconds": 900, "path": "aws/token"});
    let sources = json!([{"serviceAccountToken": token}]);
    assert_eq!(
        volume(&pod, "sts-projected-tokens")["projected"]["sources"],
        sources
    );
    let path = "/var/run/secrets/sts.tremolo.io/projected";
    let app = container(&pod, "app");
    let file = json!(format!("{path}/aws/token"));
    assert_eq!(variable(app, "AWS_WEB_IDENTITY_TOKEN_FILE"), [file]);
    let mount = json!([{"name": "sts-projected-tokens", "mountPath": path, "readOnly": true}]);
    assert_eq!(app["volumeMounts"], mount);
}

#[test]
fn endpoints_of_both_modes_stand_side_by_side() {
    let pod = inject(&projected(), &fixture("two-endpoints"));
    let served = &container(&pod, SIDECAR)["env"][0]["value"];
    assert_eq!(*served, "vault=https://sts.example/vault/token");
    let app = &pod["spec"]["containers"][0];
    assert_eq!(token_mounts(app).len(), 1);
    assert_eq!(app["volumeMounts"].as_array().unwrap().len(), 2);
    let file = json!(format!("{TOKENS}/vault/token"));
    assert_eq!(variable(app, "VAULT_TOKEN_FILE"), [file]);
}

/// No sidecar has to run there, and the kubelet's token says of which pod it is.
#[test]
fn adm_014_015_projected_tokens_work_on_the_hosts_network_and_on_windows() {
    let mut pod = fixture("bare");
    set(&mut pod, "/spec/hostNetwork", json!(true));
    drop(inject(&projected(), &pod));
    set(&mut pod, "/spec/os", json!({"name": "windows"}));
    let pod = inject(&projected(), &pod);
    let file = json!(r"C:\var\run\secrets\sts.tremolo.io\projected\aws\token");
    assert_eq!(
        variable(container(&pod, "app"), "AWS_WEB_IDENTITY_TOKEN_FILE"),
        [file]
    );
}

#[test]
fn adm_018_a_foreign_volume_of_the_projected_tokens_is_denied() {
    let mut pod = fixture("bare");
    set(
        &mut pod,
        "/spec/volumes",
        json!([{"name": "sts-projected-tokens", "emptyDir": {}}]),
    );
    assert_eq!(ask(&projected(), &pod).outcome.reason, "volume_name_taken");
}

//! Settings, pods and reviews for the tests, and a look at the answers.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use injector::admit::{Outcome, admit};
use injector::decide::Entry;
use injector::review::{ReviewError, parse_review};
use injector::settings::{
    AnnotationShape, EndpointSettings, Gate, InjectionMode, Settings, SidecarForm, SidecarSettings,
};
use json_patch::{Patch, PatchOperation};
use serde_json::{Value, json};
use svc_runtime::tls::{Authority, CaBundle};

pub(crate) const TOKENS: &str = "/var/run/secrets/sts.tremolo.io/tokens";
pub(crate) const SIDECAR: &str = "kube-sts-refresher";

pub(crate) static CA: LazyLock<CaBundle> = LazyLock::new(|| {
    let authority = Authority::create(
        "test",
        std::time::Duration::from_secs(3600),
        svc_runtime::clock::now(),
    )
    .unwrap();
    authority.bundle().clone()
});

pub(crate) fn settings() -> Settings {
    let endpoint = |name: &str, token_env: &str, annotation_env: &str, shape| EndpointSettings {
        name: name.to_owned(),
        key: format!("tremolo.io/{name}-role"),
        token_env: token_env.to_owned(),
        annotation_env: annotation_env.to_owned(),
        shape,
        mode: InjectionMode::Sidecar,
        audience: format!("https://sts.example/{name}"),
        projected_seconds: 900,
        exchange_url: format!("https://sts.example/{name}/token"),
        files: Vec::new(),
    };
    let aws = ("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN");
    Settings {
        endpoints: vec![
            endpoint("aws", aws.0, aws.1, AnnotationShape::AwsRoleArn),
            endpoint(
                "vault",
                "VAULT_TOKEN_FILE",
                "VAULT_ROLE",
                AnnotationShape::PlainText,
            ),
            endpoint("aws2", aws.0, aws.1, AnnotationShape::AwsRoleArn),
        ],
        sidecar: SidecarSettings {
            image: "registry.example/refresher@sha256:00".to_owned(),
            image_pull_policy: "IfNotPresent".to_owned(),
            token_seconds: 3600,
            gate: Gate::Hook,
            liveness: false,
            wait_timeout: "10s".to_owned(),
            metrics_port: None,
            resources: json!({"requests": {"cpu": "5m"}, "limits": {"memory": "32Mi"}}),
            form: SidecarForm::Native,
        },
        identity: None,
        rules: Vec::new(),
        excluded_namespaces: vec!["kube-system".to_owned(), "kube-sts".to_owned()],
    }
}

pub(crate) fn fixture(name: &str) -> Value {
    let path = format!(
        "{}/tests/fixtures/{name}.pod.json",
        env!("CARGO_MANIFEST_DIR")
    );
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

pub(crate) fn fixtures() -> Vec<(&'static str, Value)> {
    let names = [
        "bare",
        "future",
        "generate-name",
        "init-and-native-sidecar",
        "two-endpoints",
        "user-environment",
    ];
    names.map(|name| (name, fixture(name))).into()
}

/// The smallest pod that is injected, with one thing set.
pub(crate) fn pod_with(pointer: &str, value: Value) -> Value {
    let mut pod = fixture("bare");
    set(&mut pod, pointer, value);
    pod
}

/// Sets one thing, making the objects on the way; array elements have to be there.
pub(crate) fn set(pod: &mut Value, pointer: &str, value: Value) {
    let path = json_patch::jsonptr::PointerBuf::parse(pointer.to_owned()).unwrap();
    path.assign(pod, value).unwrap();
}

pub(crate) fn review(pod: &Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "5f1b2c3d-uid",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": "apps",
            "operation": "CREATE",
            "userInfo": {"username": "canary-user"},
            "object": pod,
            "oldObject": null,
            "dryRun": false,
            "options": null,
        },
    })
}

/// An answer, taken apart.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) response: Value,
    pub(crate) outcome: Outcome,
    pub(crate) patch: Patch,
    /// The pod as it leaves.
    pub(crate) pod: Value,
}

impl Answered {
    pub(crate) fn warnings(&self) -> Vec<&str> {
        let warnings = self.response["warnings"].as_array();
        warnings
            .into_iter()
            .flatten()
            .map(|warning| warning.as_str().unwrap())
            .collect()
    }
}

#[track_caller]
pub(crate) fn ask_review(ca: Option<&CaBundle>, review: &Value) -> Result<Answered, ReviewError> {
    ask_as(&settings(), ca, Entry::Endpoint("aws"), review)
}

#[track_caller]
pub(crate) fn ask_as(
    settings: &Settings,
    ca: Option<&CaBundle>,
    entry: Entry<'_>,
    review: &Value,
) -> Result<Answered, ReviewError> {
    let body = serde_json::to_vec(review).unwrap();
    let admission = admit(settings, ca, entry, parse_review(&body)?).unwrap();
    let answer: Value = serde_json::from_slice(&admission.body).unwrap();
    assert_eq!(answer["apiVersion"], "admission.k8s.io/v1");
    assert_eq!(answer["kind"], "AdmissionReview");
    assert_eq!(answer["response"]["uid"], review["request"]["uid"]);
    let mut pod = review["request"]["object"].clone();
    let patch = match answer["response"].get("patch") {
        None => Patch(Vec::new()),
        Some(encoded) => {
            assert_eq!(answer["response"]["patchType"], "JSONPatch");
            let bytes = STANDARD.decode(encoded.as_str().unwrap()).unwrap();
            serde_json::from_slice(&bytes).unwrap()
        }
    };
    assert!(
        patch
            .0
            .iter()
            .all(|operation| matches!(operation, PatchOperation::Add(_)))
    );
    json_patch::patch(&mut pod, &patch).unwrap();
    let outcome = admission.outcome;
    Ok(Answered {
        response: answer["response"].clone(),
        outcome,
        patch,
        pod,
    })
}

#[track_caller]
pub(crate) fn ask(pod: &Value) -> Answered {
    ask_review(Some(&CA), &review(pod)).unwrap()
}

/// The pod as it leaves; it has to be changed.
#[track_caller]
pub(crate) fn inject(pod: &Value) -> Value {
    let answered = ask(pod);
    assert_eq!(
        answered.outcome.decision, "inject",
        "{:?}",
        answered.response
    );
    assert_eq!(answered.response["allowed"], true);
    answered.pod
}

/// The container of that name, wherever it is.
#[track_caller]
pub(crate) fn container<'p>(pod: &'p Value, name: &str) -> &'p Value {
    let lists = [&pod["spec"]["containers"], &pod["spec"]["initContainers"]];
    let mut all = lists.into_iter().filter_map(Value::as_array).flatten();
    all.find(|container| container["name"] == name).unwrap()
}

/// The values of a variable, each occurrence.
pub(crate) fn variable(container: &Value, name: &str) -> Vec<Value> {
    let env = container["env"].as_array().into_iter().flatten();
    env.filter(|entry| entry["name"] == name)
        .map(|entry| entry["value"].clone())
        .collect()
}

pub(crate) fn token_mounts(container: &Value) -> Vec<&Value> {
    let mounts = container["volumeMounts"].as_array().into_iter().flatten();
    mounts
        .filter(|mount| mount["mountPath"] == TOKENS)
        .collect()
}

#[track_caller]
pub(crate) fn volume<'p>(pod: &'p Value, name: &str) -> &'p Value {
    let mut volumes = pod["spec"]["volumes"].as_array().unwrap().iter();
    volumes.find(|volume| volume["name"] == name).unwrap()
}

//! What the sidecar writes beside the token, and what holds the application back.

use injector::decide::Entry;
use injector::settings::{CompanionFile, Gate, Settings, SidecarForm};
use serde_json::{Value, json};

use crate::support::{CA, SIDECAR, TOKENS, ask_as, container, fixture, review, settings};

fn with_files() -> Settings {
    let mut settings = settings();
    settings.sidecar.gate = Gate::Probe;
    settings.sidecar.liveness = true;
    settings.sidecar.metrics_port = std::num::NonZeroU16::new(9464);
    settings.endpoints[0].files = vec![
        CompanionFile {
            name: "credentials.json".to_owned(),
            env: Some("CREDENTIALS".to_owned()),
            template: r#"{"file":"{tokenFile}","role":"{annotation}","price":"$(5)"}"#.to_owned(),
        },
        CompanionFile {
            name: "header".to_owned(),
            env: None,
            template: "Bearer {token}".to_owned(),
        },
    ];
    settings
}

fn named<'v>(list: &'v Value, name: &str) -> Option<&'v Value> {
    list.as_array()?.iter().find(|entry| entry["name"] == name)
}

#[test]
fn the_sidecar_is_told_what_to_write_and_the_application_where_it_is() {
    let settings = with_files();
    let pod = fixture("bare");
    let answered = ask_as(&settings, Some(&CA), Entry::Endpoint("aws"), &review(&pod)).unwrap();
    let sidecar = container(&answered.pod, SIDECAR);
    let value = named(&sidecar["env"], "STS_FILES").unwrap()["value"]
        .as_str()
        .unwrap();
    // As the kubelet hands it on.
    let files: Value = serde_json::from_str(&value.replace("$$", "$")).unwrap();
    let role = &pod["metadata"]["annotations"]["tremolo.io/aws-role"];
    let expected = json!([
        {
            "endpoint": "aws",
            "name": "credentials.json",
            "template": r#"{"file":"{tokenFile}","role":"{annotation}","price":"$(5)"}"#,
            "annotation": role,
        },
        {"endpoint": "aws", "name": "header", "template": "Bearer {token}", "annotation": role},
    ]);
    assert_eq!(files, expected);
    let app = container(&answered.pod, "app");
    let path = format!("{TOKENS}/aws/credentials.json");
    assert_eq!(named(&app["env"], "CREDENTIALS").unwrap()["value"], path);
}

#[test]
fn a_second_pass_finds_files_and_probes_as_they_should_be() {
    let settings = with_files();
    let ask =
        |pod: &Value| ask_as(&settings, Some(&CA), Entry::Endpoint("aws"), &review(pod)).unwrap();
    let first = ask(&fixture("bare"));
    let probe = &container(&first.pod, SIDECAR)["startupProbe"]["exec"]["command"];
    assert_eq!(*probe, json!(["/refresher", "probe"]));
    let probe = &container(&first.pod, SIDECAR)["livenessProbe"]["exec"]["command"];
    assert_eq!(*probe, json!(["/refresher", "probe", "--liveness"]));
    let ports = &container(&first.pod, SIDECAR)["ports"];
    assert_eq!(ports[0]["containerPort"], 9464);
    let listen =
        &named(&container(&first.pod, SIDECAR)["env"], "STS_METRICS_LISTEN").unwrap()["value"];
    assert_eq!(listen, "[::]:9464");
    let second = ask(&first.pod);
    assert_eq!(second.response["allowed"], true, "{}", second.response);
    assert!(second.patch.0.is_empty(), "{}", second.patch);
}

#[test]
fn in_either_form_the_container_that_goes_on_running_is_watched_where_that_is_wished() {
    for form in [SidecarForm::Native, SidecarForm::Classic] {
        for wished in [false, true] {
            let mut settings = settings();
            settings.sidecar.form = form;
            settings.sidecar.liveness = wished;
            let review = review(&fixture("bare"));
            let answered = ask_as(&settings, Some(&CA), Entry::Endpoint("aws"), &review).unwrap();
            let spec = &answered.pod["spec"];
            let watched = ["initContainers", "containers"]
                .into_iter()
                .filter_map(|list| spec[list].as_array())
                .flatten()
                .filter(|container| container.get("livenessProbe").is_some())
                .map(|container| container["args"].clone())
                .collect::<Vec<_>>();
            let expected = if wished { vec![json!(["run"])] } else { vec![] };
            assert_eq!(watched, expected, "{form:?}");
        }
    }
}

//! The real program, as far as it goes without an API server.

use std::process::{Command, Output};

fn injector(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_injector"))
        .env("RUST_BACKTRACE", "1")
        .args(arguments)
        .output()
        .unwrap()
}

const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/samples");

#[test]
fn check_config_takes_the_sample() {
    let output = injector(&[
        "--check-config",
        "--config",
        &format!("{SAMPLES}/in-cluster.yaml"),
    ]);
    assert!(output.status.success(), "{output:?}");
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(stdout, "configuration can be run: 2 endpoint(s)\n");
    assert!(output.stderr.is_empty(), "{:?}", output.stderr);
}

#[test]
fn check_config_names_every_problem_and_fails() {
    let directory = env!("CARGO_TARGET_TMPDIR");
    let file = format!("{directory}/bad.yaml");
    let sample = std::fs::read_to_string(format!("{SAMPLES}/in-cluster.yaml")).unwrap();
    let bad = sample
        .replace("waitTimeout: 10s", "waitTimeout: 10h")
        .replace("IfNotPresent", "Sometimes");
    std::fs::write(&file, bad).unwrap();
    let output = injector(&["--check-config", "--config", &file]);
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    for part in ["waitTimeout", "imagePullPolicy"] {
        assert!(stderr.contains(part), "{stderr}");
    }
    assert!(stderr.starts_with("error: "), "{stderr}");
    assert!(!stderr.to_lowercase().contains("backtrace"), "{stderr}");
}

#[test]
fn help_names_every_flag() {
    let help = String::from_utf8(injector(&["--help"]).stdout).unwrap();
    for flag in [
        "--config",
        "--check-config",
        "--namespace",
        "POD_NAMESPACE",
        "--log-format",
        "--log ",
    ] {
        assert!(help.contains(flag), "{flag} is not in {help}");
    }
}

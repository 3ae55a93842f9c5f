//! The command line: what the program says before it serves.

use std::process::{Command, Output};

use super::support::{PROGRAM, Setup};

const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/samples");

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).env("RUST_BACKTRACE", "1");
    command.output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn text() -> (Setup, String) {
    let setup = Setup::new();
    let port = "127.0.0.1:0".parse().unwrap();
    let text = setup.text(port, port);
    (setup, text)
}

#[test]
fn check_config_takes_the_samples() {
    for sample in ["in-cluster.yaml", "standalone.yaml"] {
        let path = format!("{SAMPLES}/{sample}");
        let output = run(&["--check-config", "--config", &path]);
        assert!(output.status.success(), "{output:?}");
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.contains("configuration can be run"), "{said}");
    }
}

#[test]
fn check_config_says_what_is_hardly_meant() {
    let (setup, text) = text();
    let text = text.replace("  rules:\n  - filter: \"(namespace=team-a)\"\n", "");
    let config = setup.write_config(&text);
    let output = run(&["--check-config", "--config", config.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        said.contains("warning: ") && said.contains("nobody gets a token"),
        "{said}"
    );
}

#[test]
fn check_config_names_every_problem_and_fails() {
    let (setup, text) = text();
    let text = text
        .replace("algorithm: RS256", "algorithm: HS256")
        .replace("path: /aws2", "path: /aws2/")
        .replace(
            "verification: jwks\n  subject",
            "verification: maybe\n  subject",
        )
        .replace("lifetime: 5m", "lifetime: 5w")
        .replace("(namespace=team-a)", "(namespace=team-a")
        .replace("adminListen: \"127.0.0.1:0\"", "adminListen: \"here\"");
    let config = setup.write_config(&text);
    let output = run(&["--check-config", "--config", config.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = stderr(&output);
    for part in [
        "6 problems",
        "algorithm",
        "path",
        "verification",
        "lifetime",
        "filter",
        "adminListen",
    ] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
}

#[test]
fn an_unknown_key_stops_the_start() {
    let (setup, text) = text();
    let config = setup.write_config(&format!("{text}  tlsMinimum: \"1.3\"\n"));
    for arguments in [&["--config"][..], &["--check-config", "--config"]] {
        let output = run(&[arguments, &[config.to_str().unwrap()]].concat());
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let said = stderr(&output);
        assert!(said.starts_with("error: "), "{said}");
        assert!(said.contains("server.tlsMinimum"), "{said}");
        assert!(!said.contains("backtrace"), "{said}");
    }
}

#[test]
fn a_file_that_is_not_there() {
    let output = run(&["--config", "/nonexistent/config.yaml"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = stderr(&output);
    assert!(said.contains("/nonexistent/config.yaml"), "{said}");
}

#[test]
fn a_port_that_is_taken() {
    let (setup, text) = text();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap();
    let text = text.replace(
        "\n  listen: \"127.0.0.1:0\"",
        &format!("\n  listen: \"{taken}\""),
    );
    let config = setup.write_config(&text);
    let output = run(&["--config", config.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = stderr(&output);
    assert!(said.contains(&format!("{taken} cannot be bound")), "{said}");
}

#[test]
fn help_names_every_flag() {
    let output = run(&["--help"]);
    let help = String::from_utf8(output.stdout).unwrap();
    for flag in [
        "--config",
        "--check-config",
        "--namespace",
        "POD_NAMESPACE",
        "--log-format",
        "--log ",
        "--version",
    ] {
        assert!(help.contains(flag), "{flag} is not in {help}");
    }
}

#[test]
fn a_wrong_flag_is_a_usage_error() {
    for arguments in [
        &["--nonsense"][..],
        &[],
        &["--config", "x", "--log-format", "xml"],
    ] {
        assert_eq!(run(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

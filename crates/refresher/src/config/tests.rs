use clap::{CommandFactory as _, Parser as _};

use super::raw::{RawCli, parse_duration};
use super::*;

fn parse(arguments: &[&str]) -> Result<Command, String> {
    let raw = RawCli::try_parse_from(std::iter::once(&"refresher").chain(arguments))
        .map_err(|error| error.to_string())?;
    Command::try_from(raw.command).map_err(|error| error.to_string())
}

fn pem() -> String {
    rcgen::generate_simple_self_signed(vec!["a".to_owned()])
        .unwrap()
        .cert
        .pem()
}

#[track_caller]
fn check_refused(arguments: &[&str], expected: &str) {
    let error = parse(arguments).unwrap_err();
    assert!(error.contains(expected), "{error}");
}

#[test]
fn the_command_line_is_consistent() {
    RawCli::command().debug_assert();
}

#[test]
fn reads_several_endpoints() {
    let both = "aws=https://sts/aws/token,vault=https://sts/vault/token";
    let Ok(Command::Probe(ProbeSettings { tokens, .. })) = parse(&[
        "probe",
        "--endpoint",
        both,
        "--endpoint",
        "gcp=https://sts/gcp/token",
    ]) else {
        panic!("refused");
    };
    let names: Vec<_> = tokens.endpoints.iter().map(|e| e.name.as_str()).collect();
    assert_eq!(names, ["aws", "vault", "gcp"]);
}

#[test]
fn refuses_endpoints_that_are_not_name_and_https_url() {
    check_refused(&["probe", "--endpoint", "aws=sts/aws/token"], "not a URL");
    check_refused(&["probe", "--endpoint", "aws"], "NAME=URL");
    check_refused(&["probe", "--endpoint", "../x=https://sts/"], "DNS label");
    check_refused(&["probe", "--endpoint", "=https://sts/"], "DNS label");
    check_refused(&["probe", "--endpoint", "aws=https://u:p@sts/"], "no user");
    check_refused(&["probe", "--endpoint", "aws=http://sts/"], "https://");
    check_refused(
        &["probe", "--endpoint", "a=https://x/,a=https://y/"],
        "twice",
    );
    check_refused(&["probe"], "--endpoint");
}

#[test]
fn plain_http_needs_the_dangerous_flag_and_loopback() {
    let danger = "--danger-plain-http";
    check_refused(
        &["probe", danger, "--endpoint", "aws=http://sts/"],
        "https://",
    );
    check_refused(
        &["probe", danger, "--endpoint", "aws=ftp://localhost/"],
        "https://",
    );
    assert!(parse(&["probe", danger, "--endpoint", "aws=http://127.0.0.1:1/"]).is_ok());
}

#[test]
fn exactly_one_source_of_ca_certificates_is_needed() {
    let (pem, endpoint) = (pem(), "aws=https://sts/");
    let base = ["run", "--endpoint", endpoint];
    let with = |more: &[&str]| parse(&[&base, more].concat());
    assert!(with(&["--ca-certificates", &pem]).is_ok());
    assert!(with(&["--ca-file", "/not/there/yet"]).is_ok());
    assert!(with(&["--ca-file", "/x", "--ca-certificates", ""]).is_ok());
    assert!(with(&[]).unwrap_err().contains("required"));
    let both = with(&["--ca-certificates", &pem, "--ca-file", "/x"]);
    assert!(both.unwrap_err().contains("exclude"));
    assert!(
        with(&["--ca-certificates", "x"])
            .unwrap_err()
            .contains("no CA certificate")
    );
}

#[test]
fn reads_lengths_of_time() {
    let check = |text, expected| assert_eq!(parse_duration(text).ok(), expected, "{text}");
    check("10s", Some(Duration::from_secs(10)));
    check("500ms", Some(Duration::from_millis(500)));
    check("1m30s", Some(Duration::from_secs(90)));
    check("1h", Some(Duration::from_secs(3600)));
    for text in [
        "",
        "10",
        "s",
        "-1s",
        "1.5s",
        "1d",
        "0s",
        "10 s",
        "1s ",
        "99999999999h",
    ] {
        check(
            text,
            if text == "1s " {
                Some(Duration::from_secs(1))
            } else {
                None
            },
        );
    }
}

#[test]
fn every_setting_is_a_flag_with_help_and_an_environment_variable() {
    for subcommand in RawCli::command().get_subcommands() {
        for argument in subcommand
            .get_arguments()
            .filter(|argument| !argument.is_hide_set())
        {
            let name = argument.get_id();
            assert!(
                argument.get_long().is_some() && argument.get_help().is_some(),
                "{name}"
            );
            // A question is no setting: the container's environment serves every command.
            assert!(argument.get_env().is_some() || name == "liveness", "{name}");
        }
    }
}

#[test]
fn files_are_read_with_their_endpoints() {
    let files = r#"[{"endpoint":"gcp","name":"credentials.json","template":"{tokenFile}"}]"#;
    let base = ["probe", "--endpoint", "gcp=https://sts/", "--files"];
    let with = |files: &str| parse(&[&base[..], &[files]].concat());
    let Ok(Command::Probe(ProbeSettings { tokens, question })) = with(files) else {
        panic!("refused");
    };
    assert_eq!(question, Question::Tokens);
    assert_eq!(tokens.endpoints[0].files[0].name(), "credentials.json");
    assert!(with("").is_ok());
    assert!(with("[{}]").unwrap_err().contains("--files (STS_FILES)"));
}

#[test]
fn roles_are_of_endpoints_and_one_each() {
    let pem = pem();
    let parse = |roles: &[&str]| {
        let mut arguments = vec!["once", "--ca-certificates", &pem, "--endpoint"];
        arguments.push("aws=https://a/,gcp=https://b/");
        for role in roles {
            arguments.extend(["--role", *role]);
        }
        match parse(&arguments)? {
            Command::Once(OnceSettings { exchange, .. }) => Ok(exchange.tokens.endpoints),
            Command::Probe(_) | Command::Run(_) | Command::Wait(_) => {
                Err("another command".to_owned())
            }
        }
    };
    let roles = |given: &[&str]| -> Vec<Option<String>> {
        let endpoints = parse(given).unwrap();
        endpoints
            .into_iter()
            .map(|endpoint| endpoint.role)
            .collect()
    };
    let some = |role: &str| Some(role.to_owned());
    assert_eq!(roles(&[]), [None, None]);
    assert_eq!(roles(&["gcp=a,b=c", ""]), [None, some("a,b=c")]);
    assert_eq!(roles(&["gcp=x\naws=y"]), [some("y"), some("x")]);
    for (given, problem) in [
        (&["aws"][..], "NAME=ROLE"),
        (&["vault=x"], "no endpoint has that name"),
        (&["aws=x", "aws=y"], "endpoint aws is given two"),
    ] {
        let error = parse(given).unwrap_err();
        assert!(error.contains(problem), "{error}");
    }
}

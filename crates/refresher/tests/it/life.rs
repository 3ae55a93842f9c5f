//! `run` over the life of several tokens.

use std::fs;
use std::time::Duration;

use tokio::time::Instant;

use rustix::process::Signal;

use crate::pod::{Pod, Running};
use crate::sts::{Answer, Sts, mint};

#[test]
fn ref_002_009_a_token_that_dies_is_left_and_its_death_is_logged() {
    let sts = Sts::start(Answer::Token(3));
    let pod = Pod::new(&sts);
    let running = pod.start(&["run"]);
    running.wait_for_log("wrote a new token");
    let before = pod.token();
    sts.answer_from_now_on(Answer::json(
        "403 Forbidden",
        r#"{"error":"access_denied"}"#,
    ));
    running.wait_for_log("WARN no new token, the old one is still good endpoint=aws code=refused");
    let log = running.log();
    let failure = log.lines().find(|line| line.contains(" WARN ")).unwrap();
    let (next_try, token_left) = spans(failure);
    // What the schedule gives a first failure, but no more than half of what is left, or a second.
    assert!((1.0..=3.0).contains(&next_try), "{failure}");
    assert!((0.1..3.0).contains(&token_left), "{failure}");
    let expected = format!(
        " WARN no new token, the old one is still good endpoint=aws code=refused \
         detail=\"the STS refused (403 Forbidden): access_denied: \" next_try={next_try:.1}s token_left={token_left:.1}s"
    );
    assert!(failure.ends_with(&expected), "{failure}");
    assert_eq!(pod.call(&["probe"]).code, Some(0));
    running.wait_for_log(
        "ERROR the token has expired and there is no new one endpoint=aws code=refused \
         detail=\"the STS refused (403 Forbidden): access_denied: \" next_try=",
    );
    assert_eq!(pod.call(&["probe"]).code, Some(1));
    assert_eq!(pod.token(), before);
    sts.answer_from_now_on(Answer::Token(900));
    running.wait_for_log_times("wrote a new token", 2);
    assert_ne!(pod.token(), before);
    assert_eq!(pod.files(), ["token"], "no reason of a failure is left");
}

/// The `next_try` and `token_left` of a line, in seconds.
fn spans(line: &str) -> (f64, f64) {
    let span = |key: &str| {
        let value = line.split(' ').find_map(|word| word.strip_prefix(key));
        value.unwrap().trim_end_matches('s').parse().unwrap()
    };
    (span("next_try="), span("token_left="))
}

#[test]
fn once_tries_again_until_it_works() {
    let sts = Sts::start(Answer::json(
        "403 Forbidden",
        r#"{"error":"access_denied"}"#,
    ));
    let pod = Pod::new(&sts);
    let mut running = pod.start(&["once"]);
    running.wait_for_log("ERROR no token endpoint=aws code=refused");
    sts.answer_from_now_on(Answer::Token(900));
    assert_eq!(running.ended().code(), Some(0), "{}", running.log());
    assert_eq!(pod.files(), ["token"]);
}

#[test]
fn once_ends_in_time_though_an_exchange_may_take_longer() {
    let sts = Sts::start(Answer::Hang);
    let pod = Pod::new(&sts);
    let before = Instant::now();
    let ended = pod.call(&["once", "--timeout", "1s"]);
    assert!(before.elapsed() < Duration::from_secs(5));
    assert_eq!(ended.code, Some(1));
    assert!(ended.log.contains("code=timeout"), "{}", ended.log);
    assert!(ended.log.contains("next_try=never"), "{}", ended.log);
}

#[test]
fn ref_003_comes_back_no_sooner_than_the_server_asks() {
    let retry = "Content-Type: application/json\r\nRetry-After: 2\r\n";
    let sts = Sts::start(Answer::new(
        "503 Service Unavailable",
        retry,
        r#"{"error":"busy"}"#,
    ));
    let pod = Pod::new(&sts);
    let running = pod.start(&["run"]);
    let seen = sts.wait_for_requests(2);
    let pause = seen[1].at - seen[0].at;
    assert!(
        (2.0..5.0).contains(&pause.as_secs_f64()),
        "{pause:?}\n{}",
        running.log()
    );
}

#[test]
fn ref_003_a_replaced_ca_is_taken_up() {
    let sts = Sts::start(Answer::Token(1));
    let mut pod = Pod::new(&sts);
    let file = pod.path("ca.crt");
    fs::write(&file, sts.ca()).unwrap();
    pod.set("STS_CA_CERTIFICATES", "");
    pod.set("STS_CA_FILE", file.to_str().unwrap());
    let running = pod.start(&["run"]);
    running.wait_for_log("wrote a new token");
    sts.replace_certificate();
    running.wait_for_log("code=tls_failed");
    let written = running.log().matches("wrote a new token").count();
    fs::write(&file, sts.ca()).unwrap();
    running.wait_for_log_times("wrote a new token", written + 1);
}

#[test]
fn ref_006_refreshes_at_a_third_of_the_life_over_a_resumed_session() {
    let sts = Sts::start(Answer::Token(4));
    let pod = Pod::new(&sts);
    let _running = pod.start(&["run"]);
    let seen = sts.wait_for_requests(2);
    let pause = seen[1].at - seen[0].at;
    // `exp` is in whole seconds, so the life is between 3 and 4 seconds; then the exchange itself takes a while.
    assert!((0.7..2.3).contains(&pause.as_secs_f64()), "{pause:?}");
    assert!(!seen[0].resumed && seen[1].resumed);
}

#[test]
fn ref_007_the_subject_token_is_read_anew_each_time() {
    let sts = Sts::start(Answer::Token(2));
    let pod = Pod::new(&sts);
    let _running = pod.start(&["run"]);
    sts.wait_for_requests(1);
    let rotated = mint(3600);
    pod.project_subject_token("aws", &rotated);
    sts.wait_for_request("the rotated token", |seen| {
        seen.iter().any(|seen| seen.body.contains(&rotated))
    });
}

#[track_caller]
fn check_stops_at_once(mut running: Running, signal: Signal) {
    let before = Instant::now();
    running.signal(signal);
    assert_eq!(running.ended().code(), Some(0), "{}", running.log());
    assert!(
        before.elapsed() < Duration::from_secs(1),
        "{:?}",
        before.elapsed()
    );
}

#[test]
fn ref_014_sigterm_ends_a_rest() {
    for signal in [Signal::TERM, Signal::INT] {
        let pod = Pod::new(&Sts::start(Answer::Token(900)));
        let running = pod.start(&["run"]);
        running.wait_for_log("wrote a new token");
        check_stops_at_once(running, signal);
        assert_eq!(pod.files(), ["token"]);
    }
}

#[test]
fn ref_014_sigterm_ends_an_exchange_that_hangs() {
    let sts = Sts::start(Answer::Hang);
    let pod = Pod::new(&sts);
    let running = pod.start(&["run"]);
    sts.wait_for_requests(1);
    check_stops_at_once(running, Signal::TERM);
}

#[test]
fn ref_014_sigterm_ends_a_back_off() {
    let retry = "Retry-After: 300\r\n";
    let sts = Sts::start(Answer::new("503 Service Unavailable", retry, ""));
    let pod = Pod::new(&sts);
    let running = pod.start(&["run"]);
    running.wait_for_log("code=unavailable");
    check_stops_at_once(running, Signal::TERM);
}

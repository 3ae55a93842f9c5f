//! `wait` and `probe`: what holds the application back.

use std::fs;
use std::time::Duration;

use tokio::time::Instant;

use crate::pod::Pod;
use crate::sts::{Answer, Sts, mint};

fn refusing() -> Sts {
    let body = r#"{"error":"access_denied","error_description":"no rule lets it"}"#;
    Sts::start(Answer::json("403 Forbidden", body))
}

#[test]
fn ref_005_waits_until_the_token_is_there() {
    let sts = refusing();
    let pod = Pod::new(&sts);
    let running = pod.start(&["run"]);
    running.wait_for_log("code=refused");
    let mut waiting = pod.start(&["wait", "--timeout", "30s"]);
    sts.answer_from_now_on(Answer::Token(900));
    assert_eq!(waiting.ended().code(), Some(0));
    assert!(pod.token().is_some());
    assert_eq!(fs::read_to_string(pod.path("termination-log")).unwrap(), "");
}

#[test]
fn ref_005_gives_up_in_time_and_says_why_where_it_can_be_seen() {
    let pod = Pod::new(&refusing());
    let running = pod.start(&["run"]);
    running.wait_for_log("code=refused");
    let before = Instant::now();
    let ended = pod.call(&["wait", "--timeout", "300ms"]);
    assert!(
        (300..3000).contains(&before.elapsed().as_millis()),
        "{:?}",
        before.elapsed()
    );
    assert_eq!(ended.code, Some(1));
    let expected = "no token for endpoint aws: there is no token file yet; the last exchange failed: \
                    the STS refused (403 Forbidden): access_denied: no rule lets it (refused) (waited 0.3s)\n";
    assert_eq!(
        fs::read_to_string(pod.path("termination-log")).unwrap(),
        expected
    );
    assert_eq!(
        fs::read_to_string(pod.path("container-log")).unwrap(),
        expected
    );
    assert!(ended.log.contains(expected.trim_end()), "{}", ended.log);
}

#[test]
fn ref_005_a_dead_token_does_not_open_the_gate() {
    let mut pod = Pod::new(&refusing());
    fs::create_dir(pod.path("tokens/aws")).unwrap();
    fs::write(pod.path("tokens/aws/token"), mint(-1)).unwrap();
    pod.set("STS_WAIT_TIMEOUT", "40ms");
    let ended = pod.call(&["wait"]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.log.contains("the token ended at"), "{}", ended.log);
    assert!(
        ended.log.contains("the sidecar has recorded no failure"),
        "{}",
        ended.log
    );
}

#[test]
fn ref_005_every_endpoint_must_have_its_token() {
    let sts = Sts::start(Answer::Token(900));
    let mut pod = Pod::new(&sts);
    pod.get_token();
    assert_eq!(pod.call(&["probe"]).code, Some(0));
    let both = format!(
        "aws=https://{0}/aws/token,vault=https://{0}/vault/token",
        sts.address
    );
    pod.set("STS_ENDPOINTS", &both);
    let ended = pod.call(&["probe"]);
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.log.contains("no token for endpoint vault"),
        "{}",
        ended.log
    );
    // Its subject token is missing too: the other endpoint does not suffer.
    let running = pod.start(&["run"]);
    running.wait_for_log("wrote a new token endpoint=aws");
    running.wait_for_log("endpoint=vault code=subject_token_unreadable");
    drop(running);
    pod.project_subject_token("vault", &mint(3600));
    pod.get_token();
    assert_eq!(pod.call(&["wait", "--timeout", "20ms"]).code, Some(0));
}

#[test]
fn the_gate_opens_at_once_when_the_token_is_there() {
    let pod = Pod::new(&Sts::start(Answer::Token(900)));
    pod.get_token();
    let before = Instant::now();
    assert_eq!(pod.call(&["wait"]).code, Some(0));
    assert!(
        before.elapsed() < Duration::from_secs(1),
        "{:?}",
        before.elapsed()
    );
}

#[test]
fn unusable_settings_end_with_status_2() {
    let mut pod = Pod::new(&refusing());
    pod.set("STS_ENDPOINTS", "aws=http://sts/aws/token");
    for subcommand in ["run", "wait", "once", "probe"] {
        let ended = pod.call(&[subcommand]);
        assert_eq!(ended.code, Some(2), "{}", ended.log);
        assert!(
            ended.log.contains("must begin with https://"),
            "{}",
            ended.log
        );
    }
}

#[test]
fn liveness_does_not_ask_for_success() {
    let pod = Pod::new(&refusing());
    let running = pod.start(&["run"]);
    running.wait_for_log("code=refused");
    assert_eq!(pod.call(&["probe"]).code, Some(1));
    assert_eq!(pod.call(&["probe", "--liveness"]).code, Some(0));
}

#[test]
fn liveness_sees_a_run_that_leaves_no_trace() {
    let pod = Pod::new(&refusing());
    fs::create_dir(pod.path("tokens/aws")).unwrap();
    let token = fs::File::create(pod.path("tokens/aws/token")).unwrap();
    fs::write(pod.path("tokens/aws/token"), mint(600)).unwrap();
    let written = |ago| fs::FileTimes::new().set_modified(now() - Duration::from_secs(ago));
    // A life of 1500 seconds: the next trace was due after 675 and one minute.
    token.set_times(written(900)).unwrap();
    let ended = pod.call(&["probe", "--liveness"]);
    assert_eq!(ended.code, Some(1));
    assert!(
        ended
            .log
            .contains("no sign of life for endpoint aws: a try was due 16"),
        "{}",
        ended.log
    );
    // A failure that was noted since is a trace.
    fs::write(pod.path("tokens/aws/.status"), "no").unwrap();
    assert_eq!(pod.call(&["probe", "--liveness"]).code, Some(0));
}

#[test]
fn liveness_sees_a_run_that_never_began() {
    let pod = Pod::new(&refusing());
    let volume = fs::File::open(pod.path("tokens")).unwrap();
    assert_eq!(pod.call(&["probe", "--liveness"]).code, Some(0));
    let made = now() - Duration::from_secs(70);
    volume
        .set_times(fs::FileTimes::new().set_modified(made))
        .unwrap();
    let ended = pod.call(&["probe", "--liveness"]);
    assert_eq!(ended.code, Some(1), "{}", ended.log);
    // In the midst of its first exchange it is silent too, but not for so long; what it then says counts.
    let running = pod.start(&["run"]);
    running.wait_for_log("code=refused");
    assert_eq!(pod.call(&["probe", "--liveness"]).code, Some(0));
}

#[test]
fn liveness_takes_the_words_of_run_for_a_trace_and_not_those_of_wait() {
    let pod = Pod::new(&refusing());
    let made = now() - Duration::from_secs(70);
    let volume = fs::File::open(pod.path("tokens")).unwrap();
    volume
        .set_times(fs::FileTimes::new().set_modified(made))
        .unwrap();
    let words = || fs::read_to_string(pod.path("termination-log")).unwrap();
    // Where it cannot be left in the volume, as while that is full.
    let of_run = "the last exchange failed: cannot write (volume_full)\n";
    fs::write(pod.path("termination-log"), of_run).unwrap();
    assert_eq!(pod.call(&["probe", "--liveness"]).code, Some(0));
    assert_eq!(pod.call(&["wait", "--timeout", "20ms"]).code, Some(1));
    assert!(words().contains(of_run.trim_end()), "{}", words());
    let ended = pod.call(&["probe", "--liveness"]);
    assert_eq!(ended.code, Some(1), "{}", words());
    assert!(ended.log.contains("no sign of life"), "{}", ended.log);
}

fn now() -> std::time::SystemTime {
    let now = refresher::clock::now().unix_seconds();
    std::time::UNIX_EPOCH + Duration::from_secs(now)
}

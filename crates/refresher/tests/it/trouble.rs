//! `run` when something around it goes wrong, and comes right again.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread;

use rustix::process::Signal;

use crate::pod::{PROGRAM, Pod, Running};
use crate::sts::{Answer, NAME, Sts, ca_by, new_ca, server_by};

/// Somebody who is no TLS server: reads what comes, answers these bytes, hangs up.
fn no_tls(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/aws/token", listener.local_addr().unwrap());
    thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            drop(connection.read(&mut [0; 4096]));
            drop(connection.write_all(answer));
        }
    });
    url
}

#[test]
fn ref_003_a_handshake_that_fails_is_a_failure_of_tls_and_is_tried_again() {
    let sts = Sts::start(Answer::Token(900));
    for (answer, code) in [
        (
            b"HTTP/1.1 400 Bad Request\r\n\r\n".as_slice(),
            "code=tls_failed",
        ),
        // An alert: handshake_failure.
        (b"\x15\x03\x03\x00\x02\x02\x28", "code=tls_failed"),
        (b"", "code=connect_failed"),
    ] {
        let pod = Pod::at(&no_tls(answer), &sts.ca());
        let running = pod.start(&["run"]);
        running.wait_for_log_times(code, 2);
        assert_eq!(pod.files(), [".status"]);
    }
}

#[test]
fn ref_003_an_expired_server_certificate_keeps_the_old_token_and_is_named() {
    let sts = Sts::start(Answer::Token(900));
    let mut pod = Pod::new(&sts);
    pod.get_token();
    let before = pod.token();
    let expired = Sts::with_expired_certificate(Answer::Token(900));
    pod.set(
        "STS_ENDPOINTS",
        &format!("aws=https://{}/aws/token", expired.address),
    );
    pod.set("STS_CA_CERTIFICATES", &expired.ca());
    let line = pod.first_try(&[]);
    assert!(
        line.contains("code=tls_failed") && line.contains("expired"),
        "{line}"
    );
    assert_eq!(pod.token(), before);
}

/// A trust anchor is a name and a key; that its certificate has ended is not looked at (RFC 5280, section 6.1.1 d). So a pod
/// whose CA has run out goes on as long as the server's certificate is good, and the end of that one is named, as above.
#[test]
fn ref_003_an_expired_ca_is_trusted_as_long_as_the_certificates_it_signed_are_good() {
    let sts = Sts::with_expired_ca(Answer::Token(900));
    let pod = Pod::new(&sts);
    pod.get_token();
    assert!(pod.token().is_some());
}

/// As in a pod that was made before the CA's successor was, and outlives the overlap: its environment is never changed.
#[test]
fn ref_003_a_ca_is_followed_by_one_that_it_gave_its_word_for() {
    let old = new_ca("old");
    let sts = Sts::with_chain(Answer::Token(1), &[&server_by(&old)], &old);
    let pod = Pod::new(&sts);
    let running = pod.start(&["run"]);
    running.wait_for_log("wrote a new token");
    let newer = ca_by(&old, "newer");
    sts.present(&[&server_by(&newer), &newer]);
    let seen = sts.seen().len();
    sts.wait_for_requests(seen + 2);
    let newest = ca_by(&newer, "newest");
    sts.present(&[&server_by(&newest), &newest, &newer]);
    let seen = sts.seen().len();
    sts.wait_for_requests(seen + 2);
    assert!(!running.log().contains("tls_failed"), "{}", running.log());
}

/// Else who steals a server's key, which is in memory everywhere, could make of it a CA that pods trust for as long as they live.
#[test]
fn ref_003_tls_008_the_key_of_a_server_gives_nobody_its_word() {
    let ca = new_ca("old");
    let stolen = server_by(&ca);
    let rogue = ca_by(&stolen, "rogue");
    let chain = [&server_by(&rogue), &rogue, &stolen];
    let pod = Pod::new(&Sts::with_chain(Answer::Token(900), &chain, &ca));
    let line = pod.first_try(&[]);
    assert!(line.contains("code=tls_failed"), "{line}");
    assert_eq!(pod.token(), None);
}

/// `run` with names of its own.
fn run_with_hosts(pod: &Pod, hosts: &str) -> Running {
    let file = pod.path("hosts");
    fs::write(&file, hosts).unwrap();
    let script = format!(
        "mount --bind {} /etc/hosts && exec {PROGRAM} run",
        file.display()
    );
    Running::start(&mut pod.unshare(&script))
}

#[test]
fn ref_003_a_name_server_that_fails_for_a_while_is_outlived() {
    let sts = Sts::start(Answer::Token(900));
    let url = format!("https://{NAME}:{}/aws/token", sts.address.port());
    let pod = Pod::at(&url, &sts.ca());
    let running = run_with_hosts(&pod, "");
    running.wait_for_log("code=connect_failed detail=\"cannot reach the STS");
    // In place: the mount is of this very file.
    fs::write(pod.path("hosts"), format!("127.0.0.1 {NAME}\n")).unwrap();
    running.wait_for_log("wrote a new token");
}

#[test]
fn ref_003_a_name_is_looked_up_anew_when_its_address_serves_no_more() {
    let ca = new_ca("ca");
    let sts = Sts::with_chain(Answer::Token(1), &[&server_by(&ca)], &ca);
    let port = sts.address.port();
    let pod = Pod::at(&format!("https://{NAME}:{port}/aws/token"), &sts.ca());
    let running = run_with_hosts(&pod, &format!("127.0.0.1 {NAME}\n"));
    sts.wait_for_requests(1);
    // Nobody knows the name, and nobody asks.
    fs::write(pod.path("hosts"), "").unwrap();
    let seen = sts.seen().len();
    sts.wait_for_requests(seen + 2);
    assert!(!running.log().contains("code="), "{}", running.log());
    let chain = [&server_by(&ca)];
    let other = Sts::with_chain_at(("127.0.0.2", port), Answer::Token(900), &chain, &ca);
    fs::write(pod.path("hosts"), format!("127.0.0.2 {NAME}\n")).unwrap();
    sts.answer_from_now_on(Answer::json("503 Service Unavailable", "{}"));
    other.wait_for_requests(1);
}

/// By the default settings one exchange may take 10 seconds, which is all that such a token has left.
#[test]
fn ref_003_an_sts_that_hangs_does_not_use_up_the_token_with_one_try() {
    let sts = Sts::start(Answer::Token(12));
    let pod = Pod::new(&sts);
    let running = pod.start(&["run"]);
    running.wait_for_log("wrote a new token");
    sts.answer_from_now_on(Answer::Hang);
    running.wait_for_log("WARN no new token, the old one is still good endpoint=aws code=timeout");
    sts.answer_from_now_on(Answer::Token(900));
    running.wait_for_log_times("wrote a new token", 2);
    assert!(!running.log().contains("ERROR"), "{}", running.log());
}

#[test]
fn ref_008_stopped_for_longer_than_a_token_lives_a_run_gets_a_new_one_at_once() {
    let sts = Sts::start(Answer::Token(2));
    let pod = Pod::new(&sts);
    let running = pod.start(&["run"]);
    running.wait_for_log("wrote a new token");
    running.signal(Signal::STOP);
    let before = pod.token();
    let mut waits = 0;
    while pod.call(&["probe"]).code == Some(0) {
        waits += 1;
        assert!(waits < 10_000, "the token does not end");
    }
    assert_eq!(pod.token(), before, "a dead token stays");
    let written = running.log().matches("wrote a new token").count();
    sts.answer_from_now_on(Answer::Token(900));
    running.signal(Signal::CONT);
    running.wait_for_log_times("wrote a new token", written + 1);
    assert_eq!(pod.call(&["probe"]).code, Some(0));
}

/// Shows programs a wall clock that is as many seconds off as the file says.
const CLOCK_SHIM: &str = r#"
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *time) {
    int status = syscall(SYS_clock_gettime, clock, time);
    FILE *file = clock == CLOCK_REALTIME ? fopen(getenv("CLOCK_OFFSET"), "r") : NULL;
    long offset = 0;
    if (file) {
        if (fscanf(file, "%ld", &offset) == 1) time->tv_sec += offset;
        fclose(file);
    }
    return status;
}
"#;

/// `run` with a wall clock that the test can step through the file `clock`.
fn run_with_clock(pod: &mut Pod, offset: &str) -> Running {
    pod.preload(CLOCK_SHIM);
    fs::write(pod.path("clock"), offset).unwrap();
    let clock = pod.path("clock");
    pod.set("CLOCK_OFFSET", clock.to_str().unwrap());
    pod.start(&["run"])
}

#[test]
fn ref_008_a_clock_that_is_behind_does_not_delay_a_refresh() {
    let sts = Sts::start(Answer::Token(4));
    let mut pod = Pod::new(&sts);
    let running = run_with_clock(&mut pod, "-3600");
    let seen = sts.wait_for_requests(3);
    let pause = seen[2].at - seen[1].at;
    assert!(pause.as_secs_f64() < 3.0, "{pause:?}\n{}", running.log());
}

#[test]
fn ref_008_a_clock_step_ahead_is_named_and_outlived() {
    let sts = Sts::start(Answer::Token(900));
    let mut pod = Pod::new(&sts);
    let running = run_with_clock(&mut pod, "7200");
    running.wait_for_log("code=token_expired");
    assert!(
        running.log().contains("and this node's clock says"),
        "{}",
        running.log()
    );
    assert_eq!(pod.token(), None);
    fs::write(pod.path("clock"), "0").unwrap();
    running.wait_for_log("wrote a new token");
}

#[test]
fn ref_008_a_clock_that_is_set_in_a_back_off_does_not_prolong_it_and_tells_what_is_left() {
    let sts = Sts::start(Answer::Token(900));
    let mut pod = Pod::new(&sts);
    let running = run_with_clock(&mut pod, "0");
    running.wait_for_log("wrote a new token");
    let seen = sts.seen().len();
    sts.answer_from_now_on(Answer::json("403 Forbidden", r#"{"error":"no"}"#));
    drop(running);
    let running = pod.start(&["run"]);
    running.wait_for_log("WARN no new token, the old one is still good");
    // The next try is due within three seconds, and finds the token dead by the clock; the one after it within nine.
    fs::write(pod.path("clock"), "7200").unwrap();
    running.wait_for_log("ERROR no token endpoint=aws code=refused");
    fs::write(pod.path("clock"), "-86400").unwrap();
    running.wait_for_log_times("WARN no new token, the old one is still good", 2);
    let tries = sts.seen();
    let pauses = tries[seen..].windows(2).map(|two| two[1].at - two[0].at);
    let longest = pauses.max().unwrap();
    assert!(
        longest.as_secs_f64() < 12.0,
        "{longest:?}\n{}",
        running.log()
    );
}

#[test]
fn ref_008_a_clock_step_back_does_not_prolong_a_rest() {
    let sts = Sts::start(Answer::Token(3));
    let mut pod = Pod::new(&sts);
    let running = run_with_clock(&mut pod, "0");
    running.wait_for_log("wrote a new token");
    fs::write(pod.path("clock"), "-86400").unwrap();
    running.wait_for_log_times("wrote a new token", 4);
}

//! What a sidecar costs while nothing happens, and what it shows of itself to those who ask.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use crate::pod::Pod;
use crate::sts::{Answer, Sts};

#[test]
fn ref_012_one_thread_rests_without_waking_up() {
    let sts = Sts::start(Answer::Token(900));
    // By a name, as in a cluster: its look-up takes a thread, which must end too.
    let url = format!("https://localhost:{}/aws/token", sts.address.port());
    let pod = Pod::at(&url, &sts.ca());
    let running = pod.start(&["run"]);
    running.wait_for_log("wrote a new token");
    running.wait_for_rest();
    let before = running.status("voluntary_ctxt_switches");
    // The span itself is what is tested.
    thread::sleep(Duration::from_secs(2));
    assert_eq!(running.status("voluntary_ctxt_switches"), before);
    assert_eq!(running.status("Threads"), "1");
}

#[test]
fn metrics_are_served_where_they_are_turned_on() {
    let sts = Sts::start(Answer::Token(900));
    let mut pod = Pod::new(&sts);
    let address = free_address();
    pod.set("STS_METRICS_LISTEN", &address);
    let running = pod.start(&["run"]);
    running.wait_for_log("wrote a new token");
    let answer = ask(&address, "/metrics");
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain"),
        "{answer}"
    );
    let line = "\nsts_refresher_tries_total{endpoint=\"aws\",result=\"written\"} 1\n";
    assert!(answer.contains(line), "{answer}");
    assert!(ask(&address, "/").starts_with("HTTP/1.1 404 "));
    let token = pod.token().unwrap();
    assert!(
        token.split('.').all(|part| !answer.contains(part)),
        "{answer}"
    );
}

#[test]
fn metrics_know_the_token_that_a_restarted_container_finds() {
    let sts = Sts::start(Answer::Token(900));
    let mut pod = Pod::new(&sts);
    pod.get_token();
    sts.answer_from_now_on(Answer::Hang);
    let address = free_address();
    pod.set("STS_METRICS_LISTEN", &address);
    let _running = pod.start(&["run"]);
    // The port is there before the request is.
    sts.wait_for_requests(2);
    let answer = ask(&address, "/metrics");
    let now = refresher::clock::now().unix_seconds();
    let key = "\nsts_refresher_token_expiry_timestamp_seconds{endpoint=\"aws\"} ";
    let (_, rest) = answer.split_once(key).unwrap_or_else(|| panic!("{answer}"));
    let expires: u64 = rest.lines().next().unwrap().parse().unwrap();
    assert!((now + 800..=now + 900).contains(&expires), "{answer}");
}

#[test]
fn a_scraper_that_hangs_keeps_nobody_from_a_token_nor_the_next_one_from_metrics() {
    let sts = Sts::start(Answer::Token(2));
    let mut pod = Pod::new(&sts);
    let address = free_address();
    pod.set("STS_METRICS_LISTEN", &address);
    let running = pod.start(&["run"]);
    running.wait_for_log("wrote a new token");
    let _hanging = TcpStream::connect(&address).unwrap();
    running.wait_for_log_times("wrote a new token", 2);
    assert!(ask(&address, "/metrics").contains("sts_refresher_tries_total"));
}

#[test]
fn a_port_that_is_taken_costs_the_metrics_and_not_the_token() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut pod = Pod::new(&Sts::start(Answer::Token(900)));
    pod.set(
        "STS_METRICS_LISTEN",
        &taken.local_addr().unwrap().to_string(),
    );
    let running = pod.start(&["run"]);
    running.wait_for_log("ERROR no metrics on 127.0.0.1:");
    running.wait_for_log("wrote a new token");
}

#[test]
fn help_names_every_setting_with_its_variable() {
    let pod = Pod::new(&Sts::start(Answer::Hang));
    for (subcommand, settings) in [
        (
            "run",
            [
                "STS_ENDPOINTS",
                "STS_FILES",
                "STS_CA_FILE",
                "STS_METRICS_LISTEN",
            ],
        ),
        (
            "once",
            [
                "STS_ENDPOINTS",
                "STS_FILES",
                "STS_CA_CERTIFICATES",
                "STS_ONCE_TIMEOUT",
            ],
        ),
        (
            "wait",
            [
                "STS_ENDPOINTS",
                "STS_TOKEN_DIR",
                "STS_WAIT_TIMEOUT",
                "STS_TERMINATION_LOG",
            ],
        ),
        (
            "probe",
            [
                "STS_ENDPOINTS",
                "STS_TOKEN_DIR",
                "STS_LOG_FORMAT",
                "--liveness",
            ],
        ),
    ] {
        let output = pod
            .command(crate::pod::PROGRAM, &[subcommand, "--help"])
            .output()
            .unwrap();
        let help = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success());
        for setting in settings {
            assert!(help.contains(setting), "{subcommand}: {setting}\n{help}");
        }
    }
}

fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

fn ask(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

use super::*;

fn ids(name: &str) -> Vec<String> {
    ids_of(name).iter().map(Id::to_string).collect()
}

fn tests(names: &[&str]) -> Tests {
    let mut tests = Tests::new();
    for name in names {
        for id in ids_of(name) {
            tests.entry(id).or_default().insert((*name).to_owned());
        }
    }
    tests
}

fn findings(text: &str, names: &[&str]) -> Vec<String> {
    check_table("DOC", 2, text, &tests(names)).findings
}

#[test]
fn a_name_says_which_rows_it_proves() {
    assert_eq!(ids("jwt_026_duplicate_member"), ["JWT-026"]);
    assert_eq!(ids("jwks_006_009_x"), ["JWKS-006", "JWKS-009"]);
    assert_eq!(
        ids("http_007_to_009_x"),
        ["HTTP-007", "HTTP-008", "HTTP-009"]
    );
    assert_eq!(ids("az_001_002_to_003_x"), ["AZ-001", "AZ-002", "AZ-003"]);
    assert_eq!(ids("rot_001_iss_010_x"), ["ROT-001", "ISS-010"]);
    assert_eq!(ids("key_001_key_is_x"), ["KEY-001"]);
    for other in [
        "rsa_2048_x",
        "http_2_is_offered",
        "jwt",
        "es256_001_x",
        "tls_to_001",
        "rot_iss_010_x",
    ] {
        assert_eq!(ids(other), [""; 0], "{other}");
    }
}

#[test]
fn tests_are_the_functions_that_are_run() {
    let source = "
        #[test]
        fn a() {}
            #[tokio::test(start_paused = true)]
            /// Of it.
            async fn b<T>() {}
        proptest! {
            #[test]
            fn c(pod in pod()) {}
        }
        #[expect(
            clippy::panic,
            reason = \"a [test] that is wrong\"
        )]
        #[test]
        // Said.

        fn d() -> Result<(), String> {}
        #[test]
        // fn e()
        const F: u8 = 1;
        fn e() {}
        pub fn f() {}
        fn g() {}
        #[ignore = \"slow\"]
        #[test]
        fn h() {}
        #[test]
        #[ignore]
        fn i() {}
        #[cfg_attr(feature = \"x\", ignore)]
        #[test]
        fn j() {}
        #[cfg(test)]
        mod tests {
            fn k() {}
        }";
    assert_eq!(test_names(source), ["a", "b", "c", "d"]);
}

#[test]
fn a_table_that_says_what_is_has_no_finding() {
    let text = "# x\n| DOC-001 | a | `doc_001_x`, `doc_001_y` | |\n| DOC-002 | b | not applicable | because |\n";
    let checked = check_table("DOC", 2, text, &tests(&["doc_001_y", "doc_001_x"]));
    assert_eq!(checked.findings, [""; 0]);
    assert_eq!(checked.text, text);
    let counts = Counts {
        not_applicable: 1,
        open: 0,
        tested: 1,
    };
    assert_eq!(checked.counts, counts);
}

#[test]
fn a_table_cannot_say_what_is_not() {
    let open = "| DOC-001 | a | open | |\n| DOC-002 | b | open | |\n";
    assert_eq!(findings(open, &[]), [""; 0]);
    let unlisted = findings(open, &["doc_002_x"]);
    assert!(unlisted[0].contains("DOC-002 says open, but it is `doc_002_x`"));
    let gone = findings(&open.replacen("open", "`doc_001_x`", 1), &[]);
    assert!(gone[0].contains("DOC-001 says `doc_001_x`, but it is open"));
    let unfounded = findings(&open.replacen("open", "not applicable", 1), &[]);
    assert!(unfounded[0].contains("DOC-001 needs the reason"));
    assert!(findings("| DOC-001 | a | open | |\n", &[])[0].contains("DOC-002 has no row"));
    assert!(findings(open, &["doc_003_x"])[0].contains("DOC-003 has no row"));
    assert!(findings("| DOC-002 | a | open | |\n", &[])[0].contains("DOC-001 should stand"));
    assert!(findings("| DOC-001 | a | open |\n", &[])[0].contains("four cells"));
}

#[test]
fn writing_names_the_tests_there_are() {
    let text = "| DOC-001 | a | open | |\n| DOC-002 | b | `doc_002_gone` | partly |\n";
    let checked = check_table("DOC", 2, text, &tests(&["doc_001_x"]));
    let expected = "| DOC-001 | a | `doc_001_x` | |\n| DOC-002 | b | open | partly |\n";
    assert_eq!(checked.text, expected);
}

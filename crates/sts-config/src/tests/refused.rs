//! What no file may say, row by row of the catalogue.

use std::fmt::Write as _;

use super::*;

#[test]
fn cfg_001_endpoints_have_names_of_their_own() {
    let second = "- name: aws\n  audience: b\n  path: /b\n  allowAll: true\n  issuer: https://b.example\n  key: {secret: b}\n";
    let problems = problems(&format!("{}{second}", OPENUNISON.trim_start()));
    has(
        &problems,
        "endpoints[1].name (line 19) is aws, which endpoint aws has already",
    );
}

#[test]
fn cfg_005_paths_are_plain_segments() {
    for path in [
        "aws",
        "/aws/",
        "//aws",
        "/a%2fb",
        "/a/../b",
        "/.well-known",
        "/a b",
        "/a;b",
        "/a?b",
        "/a#b",
        "/\u{e4}",
    ] {
        let text = OPENUNISON.replace("path: /aws", &format!("path: \"{path}\""));
        has(
            &problems(&text),
            "endpoints[0].path (line 9) is no path such as /aws",
        );
    }
}

/// An alias is not a way to fill the memory, a key stands once, and a rule that is there says something.
#[test]
fn cfg_008_yaml_that_swells_and_keys_that_stand_twice_are_refused() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let alias = format!("*a{}", level - 1);
        let list = [alias.as_str(); 10].join(", ");
        writeln!(bomb, "a{level}: &a{level} [{list}]").unwrap();
    }
    assert_eq!(problems(&bomb).len(), 1, "refused by the parser's budget");
    let twice = OPENUNISON.replace("  path: /aws", "  path: /aws\n  path: /b");
    has(&problems(&twice), "duplicate");
    for rule in [
        "{filter: \"\"}",
        "{filter: null}",
        "{cel: \"\"}",
        "{}",
        "null",
        "text",
    ] {
        let text = with_rules(&format!("  rules:\n  - {rule}\n"));
        has(&problems(&text), "endpoints[0].rules[0]");
    }
}

#[test]
fn hosts_are_ascii() {
    let text = OPENUNISON.replace("kube-sts-server.kube-sts.svc", "bücher.example");
    let found = problems(&text);
    assert_eq!(
        found,
        ["url (line 2) has characters that are not ASCII: write the xn-- form of a host"]
    );
}

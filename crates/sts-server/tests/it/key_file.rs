//! A signing key in a file: who else could have it, from the file or from our memory.

use std::fs::{self, Permissions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::ExitStatusExt as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nix::sys::signal::Signal;

use super::support::{Server, Setup, token};

/// A server with keys that were made before, of which `lay` makes what it likes.
async fn start_again(lay: impl FnOnce(&Setup)) -> Server {
    let setup = Server::start().await.stop().await;
    lay(&setup);
    setup.start().await
}

fn set_mode(setup: &Setup, mode: u32) {
    fs::set_permissions(setup.path("keys/aws.pem"), Permissions::from_mode(mode)).unwrap();
}

fn warnings(server: &Server) -> Vec<String> {
    let lines = server.lines().into_iter();
    lines
        .filter(|line| line.contains("WARN") && line.contains("signing key"))
        .collect()
}

#[tokio::test]
async fn key_002_a_key_file_that_others_can_have_or_replace_is_warned_about() {
    for (mode, warning) in [
        (0o604, "everybody on this machine can read"),
        (0o620, "others than its owner can replace"),
        (0o602, "others than its owner can replace"),
    ] {
        let server = start_again(|setup| set_mode(setup, mode)).await;
        let said = warnings(&server);
        assert!(
            said.iter().any(|line| line.contains(warning)),
            "{mode:o}: {said:?}"
        );
    }
}

#[tokio::test]
async fn key_002_a_link_out_of_the_folder_is_warned_about_and_a_volumes_own_links_are_not() {
    let server = start_again(|setup| {
        fs::rename(setup.path("keys/aws.pem"), setup.path("elsewhere.pem")).unwrap();
        symlink(setup.path("elsewhere.pem"), setup.path("keys/aws.pem")).unwrap();
    })
    .await;
    let said = warnings(&server);
    assert!(
        said.iter()
            .any(|line| line.contains("leads out of its folder")),
        "{said:?}"
    );

    // As the kubelet lays a Secret, for a program of the volume's group.
    let server = start_again(|setup| {
        set_mode(setup, 0o440);
        let keys = setup.path("keys");
        fs::create_dir(keys.join("..2026")).unwrap();
        fs::rename(keys.join("aws.pem"), keys.join("..2026/aws.pem")).unwrap();
        symlink("..2026", keys.join("..data")).unwrap();
        symlink("..data/aws.pem", keys.join("aws.pem")).unwrap();
    })
    .await;
    let said = warnings(&server);
    assert!(said.is_empty(), "{said:?}");
}

/// What of a running process's memory can be read, in one piece each.
fn memory(pid: u32) -> Vec<Vec<u8>> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let mut memory = fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut pieces = Vec::new();
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let number = |text| u64::from_str_radix(text, 16).unwrap();
        let (start, end) = (number(start), number(end));
        let mut piece = Vec::new();
        memory.seek(SeekFrom::Start(start)).unwrap();
        // Guard pages end a piece before its end.
        drop((&mut memory).take(end - start).read_to_end(&mut piece));
        pieces.push(piece);
    }
    pieces
}

/// Which of the needles are there: looked for at once, since there is much to look through.
fn found(memory: &[Vec<u8>], needles: &[Vec<u8>]) -> Vec<usize> {
    let start_of = |bytes: &[u8]| usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
    let mut starts = vec![Vec::new(); 1 << 16];
    for (number, needle) in needles.iter().enumerate() {
        starts[start_of(needle)].push(number);
    }
    let mut found = Vec::new();
    for piece in memory {
        for (at, pair) in piece.windows(2).enumerate() {
            let candidates = starts[start_of(pair)].iter();
            found.extend(candidates.filter(|number| piece[at..].starts_with(&needles[**number])));
        }
    }
    found
}

/// The crypto library's own form of a key, which it wipes itself, is neither PEM nor DER: its numbers begin with the lowest byte.
#[tokio::test]
async fn key_007_of_a_key_files_text_nothing_stays_in_memory() {
    // Once where the key is made, once where it is read.
    let made = Server::start().await;
    made.bearer("/aws/token", &token()).await;
    leaves_no_text(&made);
    let read = made.stop().await.start().await;
    read.bearer("/aws/token", &token()).await;
    leaves_no_text(&read);
}

fn leaves_no_text(server: &Server) {
    // The beginning holds the algorithm and the modulus, which are public: 26 bytes of header, 9 more, and 256.
    const PUBLIC: usize = 320;
    let pem = fs::read_to_string(server.setup.path("keys/aws.pem")).unwrap();
    let lines: Vec<&str> = pem.lines().filter(|line| !line.contains('-')).collect();
    let der = STANDARD.decode(lines.concat()).unwrap();
    let private = der[PUBLIC..].chunks_exact(48).map(<[u8]>::to_vec);
    let text = lines[PUBLIC * 4 / 3 / 64 + 1..].iter();
    let text = text.map(|line| line.as_bytes().to_vec());
    let mut needles = vec![b"https://issuer.example.com".to_vec()];
    needles.extend(private.chain(text));
    assert!(needles.len() > 30, "{}", needles.len());
    let mut found = found(&memory(server.pid()), &needles);
    found.dedup();
    assert_eq!(
        found,
        [0],
        "the issuer's name alone, and nothing of the key"
    );
}

/// Neither by limit nor where a program of the system's takes what others leave.
#[tokio::test]
async fn key_011_a_server_that_crashes_leaves_no_core_dump() {
    let mut server = Server::start().await;
    let limits = fs::read_to_string(format!("/proc/{}/limits", server.pid())).unwrap();
    let limit = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let numbers: Vec<&str> = limit.unwrap().split_whitespace().skip(4).take(2).collect();
    assert_eq!(numbers, ["0", "0"]);
    server.signal(Signal::SIGABRT);
    let ended = server.ended().await;
    assert_eq!(ended.signal(), Some(6));
    assert!(!ended.core_dumped());
}

//! The token's file as the application sees it.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use refresher::store::replace_atomically;

use crate::pod::{Ended, PROGRAM, Pod, Running, is_root};
use crate::sts::{Answer, Sts, mint};

#[test]
fn ref_001_reader_never_sees_a_partial_file() {
    let pod = Pod::new(&Sts::start(Answer::Hang));
    let directory = pod.path("tokens");
    // Of different lengths, so that a mixture would show.
    let versions = [b"a".repeat(700), b"b".repeat(5000), b"c".repeat(1300)];
    replace_atomically(&directory, "token", &versions[0]).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let bytes = fs::read(directory.join("token")).unwrap();
                assert!(versions.contains(&bytes), "{} bytes", bytes.len());
            }
        });
        for version in versions.iter().cycle().take(100_000) {
            replace_atomically(&directory, "token", version).unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
}

/// Kills the program at a step of its work on files, the number of which it is told; when half of a file is written, too. Where it
/// is told a file, it notes there what it is about to do.
const KILL_SHIM: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static void note(const char *name) {
    const char *calls = getenv("CALLS");
    if (!calls) return;
    long file = syscall(SYS_openat, AT_FDCWD, calls, O_WRONLY | O_APPEND);
    syscall(SYS_write, file, name, strlen(name));
    syscall(SYS_write, file, "\n", 1);
    syscall(SYS_close, file);
}

static void step(void) {
    static int steps;
    const char *last = getenv("LAST_STEP");
    if (last && ++steps == atoi(last)) kill(getpid(), SIGKILL);
}

#define AROUND(name, parameters, ...)                            \
    int name parameters {                                        \
        int (*real) parameters = dlsym(RTLD_NEXT, #name);        \
        note(#name);                                             \
        step();                                                  \
        int result = real(__VA_ARGS__);                          \
        step();                                                  \
        return result;                                           \
    }

AROUND(fchmod, (int file, mode_t mode), file, mode)
AROUND(fsync, (int file), file)
AROUND(mkdir, (const char *path, mode_t mode), path, mode)
AROUND(rename, (const char *from, const char *to), from, to)
AROUND(unlink, (const char *path), path)

int open64(const char *path, int flags, ...) {
    int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, "open64");
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    if (flags & O_CREAT) note("create");
    int file = real(path, flags, mode);
    if (flags & O_CREAT) step();
    return file;
}

ssize_t write(int file, const void *bytes, size_t count) {
    ssize_t (*real)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");
    struct stat about;
    if (fstat(file, &about) || !S_ISREG(about.st_mode)) return real(file, bytes, count);
    note("write");
    ssize_t half = real(file, bytes, count / 2);
    step();
    return half < 0 ? half : half + real(file, (const char *)bytes + half, count - half);
}
"#;

/// A kernel may write a name to disk before what it names: after a crash of the node, the name would be of an empty file.
#[test]
fn ref_001_a_token_is_on_the_disk_before_it_has_its_name_and_the_name_before_it_counts() {
    let mut pod = Pod::new(&Sts::start(Answer::Token(900)));
    pod.preload(KILL_SHIM);
    let calls = pod.path("calls");
    pod.set("CALLS", calls.to_str().unwrap());
    fs::write(&calls, "").unwrap();
    pod.get_token();
    let calls = fs::read_to_string(calls).unwrap();
    let steps = ["create", "write", "fsync", "rename"];
    let calls: Vec<_> = calls.lines().filter(|call| steps.contains(call)).collect();
    assert_eq!(calls, ["create", "write", "fsync", "rename", "fsync"]);
}

#[test]
fn ref_001_killed_at_any_step_it_leaves_a_whole_token_and_the_next_one_tidies_up() {
    let mut pod = Pod::new(&Sts::start(Answer::Token(900)));
    pod.get_token();
    pod.preload(KILL_SHIM);
    let mut last_step = 0;
    loop {
        last_step += 1;
        pod.set("LAST_STEP", &last_step.to_string());
        let before = pod.token();
        let ended = pod.call(&["once"]);
        let after = pod.token();
        let is_new = |token: &String| token.len() == mint(900).len();
        assert!(after.as_ref().is_some_and(is_new), "step {last_step}");
        if ended.code == Some(0) {
            assert_ne!(after, before);
            break;
        }
        assert_eq!(ended.code, None, "step {last_step}: {}", ended.log);
    }
    // Around each of the calls that the test above names, and within the writing.
    assert!(last_step > 8, "{last_step} steps");
    assert!(pod.files().len() > 1, "nothing was ever left half done");
    pod.set("LAST_STEP", "0");
    let running = pod.start(&["run"]);
    running.wait_for_log("wrote a new token");
    assert_eq!(pod.files(), ["token"]);
}

#[test]
fn ref_001_files_beside_the_token_are_there_before_it_and_change_with_it() {
    let sts = Sts::start(Answer::Token(900));
    let mut pod = Pod::new(&sts);
    pod.set(
        "STS_FILES",
        r#"[{"endpoint":"aws","name":"credentials.json","template":"{\"file\":\"{tokenFile}\"}"},
            {"endpoint":"aws","name":"header","template":"Authorization: Bearer {token}"}]"#,
    );
    pod.get_token();
    let read = |file: &str| fs::read_to_string(pod.path("tokens/aws").join(file)).unwrap();
    let described = |file: &str| fs::metadata(pod.path("tokens/aws").join(file)).unwrap();
    let expected = format!(
        "{{\"file\":\"{}\"}}",
        pod.path("tokens/aws/token").display()
    );
    assert_eq!(read("credentials.json"), expected);
    assert_eq!(
        read("header"),
        format!("Authorization: Bearer {}", read("token"))
    );
    assert_eq!(described("header").mode() & 0o7777, 0o644);
    let times =
        ["credentials.json", "header", "token"].map(|file| described(file).modified().unwrap());
    assert!(times.is_sorted(), "{times:?}");
    let before = [
        described("credentials.json").ino(),
        described("header").ino(),
    ];
    pod.get_token();
    assert_eq!(
        read("header"),
        format!("Authorization: Bearer {}", read("token"))
    );
    assert_eq!(
        described("credentials.json").ino(),
        before[0],
        "nothing has changed in it"
    );
    assert_eq!(pod.files(), ["credentials.json", "header", "token"]);
}

#[test]
fn ref_001_a_file_that_cannot_be_written_is_named_and_keeps_the_gate_shut() {
    let mut pod = Pod::new(&Sts::start(Answer::Token(900)));
    pod.set(
        "STS_FILES",
        r#"[{"endpoint":"aws","name":"header","template":"{token}"}]"#,
    );
    fs::create_dir_all(pod.path("tokens/aws/header/in-the-way")).unwrap();
    let line = pod.first_try(&[]);
    assert!(
        line.contains("code=write_failed") && line.contains("aws/header"),
        "{line}"
    );
    assert_eq!(pod.token(), None);
}

#[test]
fn ref_010_a_full_volume_is_named_and_the_old_token_stays() {
    let Ended { code, log } = once_on_tmpfs(
        "mkdir aws && printf old > aws/token && { head -c 1M /dev/zero > fill; true; } 2>/dev/null",
        "cat aws/token >&2; ls -A aws >&2",
    );
    assert_eq!(code, Some(1), "{log}");
    assert!(
        log.contains("code=volume_full") && log.contains("tokens/aws/token"),
        "{log}"
    );
    assert!(
        log.ends_with("oldtoken\n"),
        "the old token, and nothing else, is left: {log}"
    );
}

/// `.status` cannot be written then. The reason is told all the same, and `run` is not taken for dead.
#[test]
fn ref_010_why_a_pod_waits_is_told_though_its_volume_is_full() {
    let mut pod = Pod::new(&Sts::start(Answer::Token(900)));
    pod.set("OLD", &mint(-1));
    // The token has ended, and a trace of `run` was due long ago.
    let script = format!(
        "mount -t tmpfs -o size=16k none \"$STS_TOKEN_DIR\" && cd \"$STS_TOKEN_DIR\" && mkdir aws \
         && printf %s \"$OLD\" > aws/token && touch -d '20 minutes ago' aws/token \
         && {{ head -c 1M /dev/zero > fill; true; }} 2>/dev/null
         {PROGRAM} probe --liveness 2>/dev/null && echo alive before >&2
         {PROGRAM} run 2>/dev/null & run=$!
         tries=0
         until {PROGRAM} probe --liveness 2>/dev/null || test $((tries += 1)) = 100; do sleep 0.1; done
         {PROGRAM} probe --liveness && {PROGRAM} wait --timeout 20ms; status=$?
         kill $run; exit $status"
    );
    let Ended { code, log } = Ended::from(pod.unshare(&script).output().unwrap());
    assert_eq!(code, Some(1), "{log}");
    assert!(!log.contains("alive before"), "{log}");
    let told = fs::read_to_string(pod.path("termination-log")).unwrap();
    assert!(
        told.contains("no token for endpoint aws: the token ended at")
            && told.contains("the last exchange failed: cannot write")
            && told.contains("(volume_full)"),
        "{told}"
    );
}

#[test]
fn ref_010_run_outlives_a_full_volume() {
    let pod = Pod::new(&Sts::start(Answer::Token(900)));
    let script = format!(
        "mount -t tmpfs -o size=16k none \"$STS_TOKEN_DIR\" && cd \"$STS_TOKEN_DIR\" \
         && {{ head -c 1M /dev/zero > fill; true; }} 2>/dev/null && exec {PROGRAM} run"
    );
    let running = Running::start(&mut pod.unshare(&script));
    running.wait_for_log("code=volume_full");
    fs::remove_file(running.path_inside(&pod.path("tokens/fill"))).unwrap();
    running.wait_for_log("wrote a new token");
    let token = running.path_inside(&pod.path("tokens/aws/token"));
    assert_eq!(fs::read(token).unwrap().len(), mint(900).len());
}

#[test]
fn ref_010_a_read_only_volume_is_named() {
    let Ended { code, log } = once_on_tmpfs("mount -o remount,bind,ro .", "true");
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("code=volume_read_only"), "{log}");
}

/// `once` with a token directory of 16 KiB.
fn once_on_tmpfs(before: &str, after: &str) -> Ended {
    let pod = Pod::new(&Sts::start(Answer::Token(900)));
    let script = format!(
        "mount -t tmpfs -o size=16k none \"$STS_TOKEN_DIR\" && cd \"$STS_TOKEN_DIR\" && {{ {before}; }} || exit 9
         {PROGRAM} once --timeout 4s; status=$?; {after}; exit $status"
    );
    let ended = Ended::from(pod.unshare(&script).output().unwrap());
    assert!(
        ended.code != Some(9) && !ended.log.starts_with("unshare:"),
        "this test mounts a file system, and cannot here: run it as root, or allow user namespaces: {}",
        ended.log
    );
    ended
}

#[test]
fn ref_010_a_read_only_root_is_enough() {
    let pod = Pod::new(&Sts::start(Answer::Token(900)));
    let script = format!(
        "mount -o remount,bind,ro / && ! touch /etc/kube-sts-probe 2>/dev/null && exec {PROGRAM} once"
    );
    let ended = Ended::from(pod.unshare(&script).output().unwrap());
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert!(pod.token().is_some());
}

#[test]
fn ref_010_somebody_elses_volume_is_named() {
    let pod = Pod::new(&Sts::start(Answer::Token(900)));
    open_to_all(&pod);
    let mut command = pod.command(PROGRAM, &["once", "--timeout", "4s"]);
    if is_root() {
        command.uid(65532);
    } else {
        // To the one who may not write, it is the same whose volume it is.
        fs::set_permissions(pod.path("tokens"), fs::Permissions::from_mode(0o555)).unwrap();
    }
    let Ended { code, log } = Ended::from(command.output().unwrap());
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("code=volume_denied"), "{log}");
}

#[test]
fn ref_010_run_goes_on_until_the_volume_is_usable() {
    let pod = Pod::new(&Sts::start(Answer::Token(900)));
    fs::write(pod.path("tokens/aws"), "in the way").unwrap();
    let running = pod.start(&["run"]);
    running.wait_for_log("code=write_failed");
    fs::remove_file(pod.path("tokens/aws")).unwrap();
    running.wait_for_log("wrote a new token");
}

#[test]
fn ref_011_the_file_is_readable_by_all_and_writable_by_us_alone() {
    let pod = Pod::new(&Sts::start(Answer::Token(900)));
    open_to_all(&pod);
    let mut command = pod.command("sh", &["-c", &format!("umask 077; exec {PROGRAM} once")]);
    if is_root() {
        chown(pod.path("tokens"), Some(1_000_680_000), Some(0)).unwrap();
        command.uid(1_000_680_000);
    }
    assert_eq!(Ended::from(command.output().unwrap()).code, Some(0));
    let file = fs::metadata(pod.path("tokens/aws/token")).unwrap();
    let directory = fs::metadata(pod.path("tokens/aws")).unwrap();
    assert_eq!(
        (file.mode() & 0o7777, directory.mode() & 0o7777),
        (0o644, 0o755)
    );
    let token = pod.token().unwrap();
    assert_eq!(token.len(), mint(900).len(), "no line break at the end");
}

fn open_to_all(pod: &Pod) {
    fs::set_permissions(pod.path("."), fs::Permissions::from_mode(0o755)).unwrap();
}

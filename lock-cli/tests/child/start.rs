//! Tests how the command is started, which environment it finds, and how its end is reported.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::harness::{Supervised, cases, outcome, state, supervise};

cases![
    exit_codes_are_the_commands_own,
    a_signal_shows_as_128_and_its_number,
    an_unknown_command_is_not_found,
    a_file_that_is_no_program_is_not_executable,
    variables_are_set_over_the_inherited_ones,
    arguments_arrive_as_they_are,
    stdio_is_the_commands,
    no_descriptor_leaks,
    signals_are_neither_blocked_nor_ignored,
    inherited_settings_of_signals_stay,
    the_output_ends_with_the_command,
    the_watchdog_ends_with_the_command,
];

fn exit_codes_are_the_commands_own() {
    for code in [0, 1, 3, 126, 255] {
        let script = format!("exit {code}");
        assert_eq!(outcome(supervise(&[], &["sh", "-c", &script]), "").0, code);
    }
}

fn a_signal_shows_as_128_and_its_number() {
    assert_eq!(
        outcome(supervise(&[], &["sh", "-c", "kill -KILL $$"]), "").0,
        137
    );
    assert_eq!(
        outcome(supervise(&[], &["sh", "-c", "kill -TERM $$"]), "").0,
        143
    );
}

fn an_unknown_command_is_not_found() {
    for command in ["no-such-program-anywhere", "/no/such/program"] {
        let (code, output, errors) = outcome(supervise(&[], &[command, "argument"]), "");
        assert_eq!((code, output.as_str()), (127, ""), "{errors}");
        assert_eq!(errors, format!("{command:?}: command not found\n"));
    }
}

fn a_file_that_is_no_program_is_not_executable() {
    let dir = tempfile::tempdir().unwrap();
    let plain = dir.path().join("plain");
    fs::write(&plain, "text").unwrap();
    let orphan = dir.path().join("script");
    fs::write(&orphan, "#!/no/such/interpreter\n").unwrap();
    fs::set_permissions(&orphan, fs::Permissions::from_mode(0o755)).unwrap();
    for (command, why) in [
        (plain.as_path(), "ermission denied"),
        (dir.path(), "ermission denied"),
        (&orphan, "interpreter"),
    ] {
        let command = command.to_str().unwrap();
        let (code, _, errors) = outcome(supervise(&[], &[command]), "");
        assert_eq!(code, 126, "{errors}");
        assert!(errors.contains(command) && errors.contains(why), "{errors}");
    }
}

fn variables_are_set_over_the_inherited_ones() {
    let options = [
        "--env",
        "TURNLOCK_TOKEN",
        "2",
        "--env",
        "TURNLOCK_NAME",
        "a b",
    ];
    let mut line = supervise(
        &options,
        &[
            "sh",
            "-c",
            r#"echo "$TURNLOCK_TOKEN/$TURNLOCK_NAME/$OTHER""#,
        ],
    );
    line.env("TURNLOCK_TOKEN", "1").env("OTHER", "inherited");
    assert_eq!(outcome(line, "").1, "2/a b/inherited\n");
}

fn arguments_arrive_as_they_are() {
    let line = supervise(
        &[],
        &[
            "sh",
            "-c",
            r#"for a in "$@"; do echo "[$a]"; done"#,
            "sh",
            "",
            "a  b",
            "--",
            "-n",
            "$x",
        ],
    );
    assert_eq!(outcome(line, "").1, "[]\n[a  b]\n[--]\n[-n]\n[$x]\n");
}

fn stdio_is_the_commands() {
    let (code, output, errors) = outcome(
        supervise(&[], &["sh", "-c", "cat; echo error >&2"]),
        "one\ntwo\n",
    );
    assert_eq!(
        (code, output.as_str(), errors.as_str()),
        (0, "one\ntwo\n", "error\n")
    );
}

fn no_descriptor_leaks() {
    // Descriptors that this test has inherited are no leaks.
    let mut plain = Command::new("ls");
    plain.arg("/proc/self/fd");
    let (_, supervised, _) = outcome(supervise(&[], &["ls", "/proc/self/fd"]), "");
    assert_eq!(supervised, outcome(plain, "").1);
}

const SHOW_SIGNALS: [&str; 3] = ["grep", "-E", "Sig(Blk|Ign)"];
const STATUS: &str = "/proc/self/status";

fn signals_are_neither_blocked_nor_ignored() {
    let [grep, e, pattern] = SHOW_SIGNALS;
    let (_, supervised, _) = outcome(supervise(&[], &[grep, e, pattern, STATUS]), "");
    let mut plain = Command::new(grep);
    plain.args([e, pattern, STATUS]);
    assert_eq!(supervised, outcome(plain, "").1);
}

fn inherited_settings_of_signals_stay() {
    // HUP is 1 and INT is 2. If CHLD stayed ignored, the kernel would throw the exit status away.
    let [grep, e, pattern] = SHOW_SIGNALS;
    let inner = supervise(
        &[],
        &[
            "sh",
            "-c",
            &format!("{grep} {e} '{pattern}' {STATUS}; exit 5"),
        ],
    );
    // Not every shell can ignore CHLD.
    let mut line = Command::new("bash");
    line.args(["-c", r#"trap '' HUP INT CHLD; exec "$@""#, "sh"])
        .arg(inner.get_program())
        .args(inner.get_args());
    let (code, output, _) = outcome(line, "");
    assert_eq!(code, 5);
    let ignored = output
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .unwrap();
    assert_eq!(
        u64::from_str_radix(ignored.trim(), 16).unwrap() & 0b11,
        0b11,
        "{output}"
    );
}

fn the_output_ends_with_the_command() {
    // The test reads the output to its end, like x=$(turnlock run ...). That waits only for the
    // command, although the command left a process behind.
    let mut supervised = Supervised::script(&[], "sleep 1000 >/dev/null 2>&1 & echo $!");
    let left = supervised.line();
    assert_eq!(supervised.rest(), Vec::<String>::new());
    assert_eq!(supervised.code(), 0);
    assert!(
        state(&left).is_some(),
        "what the command leaves behind is left alone"
    );
    let left = rustix::process::Pid::from_raw(left.parse().unwrap()).unwrap();
    rustix::process::kill_process(left, rustix::process::Signal::KILL).unwrap();
}

fn the_watchdog_ends_with_the_command() {
    let mut supervised = Supervised::script(&[], "trap 'exit 0' USR1; echo ready; read x");
    supervised.line();
    let watchdog = supervised.watchdog().as_raw_nonzero().to_string();
    assert!(state(&watchdog).is_some());
    for stdio in ["1", "2"] {
        let open = fs::read_link(format!("/proc/{watchdog}/fd/{stdio}")).unwrap();
        assert_eq!(
            open.to_str(),
            Some("/dev/null"),
            "it keeps nobody's output open"
        );
    }
    supervised.signal(rustix::process::Signal::USR1);
    assert_eq!(supervised.code(), 0);
    assert_eq!(state(&watchdog), None);
}

//! What the command reads besides its arguments. One table each: `--help` and the manual pages are
//! made from them.

/// The variables of the environment: name, meaning.
pub const ENVIRONMENT: &[(&str, &str)] = &[
    (
        "TURNLOCK_BACKEND",
        "the coordinator, if there is no --backend",
    ),
    (
        "TURNLOCK_HOME",
        "the folder of your own coordinator; if not set, turnlock in $XDG_STATE_HOME or else in ~/.local/state",
    ),
    (
        "TURNLOCK_ETCD_PASSWORD, TURNLOCK_ZK_PASSWORD",
        "the password of the user that the URL names; the command under the lock finds it, too",
    ),
    ("SHELL", "runs the text of -c; /bin/sh if not set"),
    (
        "USER, LOGNAME",
        "the owner that others see in the queue, if /etc/passwd does not name it",
    ),
    (
        "TURNLOCK_NAME, TURNLOCK_TOKEN, TURNLOCK_MODE, TURNLOCK_DEADLINE_UNIX_MS",
        "set for the command under the lock: the lock, the hold's token, exclusive or shared, and the deadline as of the start",
    ),
    (
        "TURNLOCK_FENCING_TOKEN",
        "set for the command under the lock: all that a resource needs to check a write. `write`, `append`, `edit` and `fence check` read it",
    ),
];

/// The files: name, meaning.
pub const FILES: &[(&str, &str)] = &[
    (
        "~/.local/state/turnlock/",
        "the data of your own coordinator, in a folder that only you can enter",
    ),
    (
        "~/.local/state/turnlock/turnlock.sock",
        "the socket on which it listens",
    ),
    (
        "~/.local/state/turnlock/coordinator.log",
        "what it says when it runs in the background",
    ),
    (
        "/etc/turnlock/backend",
        "the URL of the coordinator of all users of this machine, if there is one: `turnlock system enable` writes it",
    ),
    (
        "/run/turnlock/turnlock.sock, /var/lib/turnlock/",
        "the socket and the data of the machine's coordinator, `turnlock serve --system`",
    ),
    (
        ".FILE.fence",
        "beside a file that refuses late writers: the highest token that it has seen. Without it all are forgotten",
    ),
];

/// The tables as they stand under `--help`.
pub fn help() -> String {
    let mut text = String::new();
    for (heading, table) in [("Environment", ENVIRONMENT), ("Files", FILES)] {
        text.push_str(&format!("\n{heading}:\n"));
        for (name, meaning) in table {
            text.push_str(&format!("  {name}\n          {meaning}\n"));
        }
    }
    text
}

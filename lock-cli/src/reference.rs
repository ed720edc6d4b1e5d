//! Lists the variables and files that the command uses. `--help` and the manual pages are made from
//! these tables.

/// The environment variables: name and meaning.
pub const ENVIRONMENT: &[(&str, &str)] = &[
    (
        "TURNLOCK_BACKEND",
        "the coordinator, if there is no --backend",
    ),
    (
        "TURNLOCK_HOME",
        "the folder of your own coordinator. If it is not set: turnlock in $XDG_STATE_HOME, or \
         else in ~/.local/state",
    ),
    (
        "TURNLOCK_ETCD_PASSWORD, TURNLOCK_ZK_PASSWORD",
        "the password of the user that the URL names. The command under the lock inherits it",
    ),
    (
        "TURNLOCK_LOG, TURNLOCK_LOG_FORMAT, TURNLOCK_CORRELATION_ID, TURNLOCK_TENANT",
        "the values of --log-level, --log-format, --correlation-id and --tenant, if these are not \
         given",
    ),
    (
        "SHELL",
        "the program that runs the text of -c. If it is not set: /bin/sh",
    ),
    (
        "USER, LOGNAME",
        "the owner that others see in the queue, if /etc/passwd does not name the user",
    ),
    (
        "TRACEPARENT, TRACESTATE",
        "the place of this run in a trace. The command under the lock gets that of the run",
    ),
    (
        "OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        "the collector that the spans of a run are sent to, by OTLP over gRPC; none without it",
    ),
    (
        "TURNLOCK_NAME, TURNLOCK_TOKEN, TURNLOCK_MODE, TURNLOCK_DEADLINE_UNIX_MS",
        "set for the command under the lock: the lock, the hold's token, exclusive or shared, and \
         the deadline at the start",
    ),
    (
        "TURNLOCK_FENCING_TOKEN",
        "set for the command under the lock: all that a resource needs to check a write. `write`, \
         `append`, `edit` and `fence check` read it",
    ),
    (
        "TURNLOCK_OUTER_HOLD",
        "set for the command under the lock: a key by which a nested `turnlock` shows, for \
         `turnlock why`, that it works under the hold. It is good for nothing else",
    ),
];

/// The files: name and meaning.
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
        "~/.local/state/turnlock/metrics.sock",
        "the socket at which `turnlock metrics` asks it for its metrics",
    ),
    (
        "~/.local/state/turnlock/coordinator.log",
        "its messages when it runs in the background",
    ),
    (
        "/etc/turnlock/backend",
        "the URL of the coordinator of all users of this machine, if there is one: `turnlock \
         system enable` writes it",
    ),
    (
        "/run/turnlock/turnlock.sock, /var/lib/turnlock/",
        "the socket and the data of the machine's coordinator, `turnlock serve --system`",
    ),
    (
        ".FILE.fence",
        "beside a file that refuses late writers: the highest token that the file has seen. If it \
         is removed, every token is forgotten",
    ),
];

/// Returns the tables as `--help` shows them, in lines of 80 columns.
pub fn help() -> String {
    let mut text = String::new();
    for (heading, table) in [("Environment", ENVIRONMENT), ("Files", FILES)] {
        text.push_str(&format!("\n{heading}:\n"));
        for (name, meaning) in table {
            text.push_str(&format!("  {name}\n{}", indent_text(meaning, 10)));
        }
    }
    text
}

/// Wraps a text at 80 columns, and indents each of its lines by this much.
pub fn indent_text(text: &str, indent: usize) -> String {
    const COLUMNS: usize = 80;
    let mut lines = String::new();
    let mut column = COLUMNS;
    for word in text.split(' ') {
        let width = word.chars().count();
        if column + 1 + width > COLUMNS {
            if !lines.is_empty() {
                lines.push('\n');
            }
            lines.push_str(&" ".repeat(indent));
            column = indent;
        } else {
            lines.push(' ');
            column += 1;
        }
        lines.push_str(word);
        column += width;
    }
    lines.push('\n');
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meaning_is_wrapped_below_its_name() {
        let words = "word ".repeat(30);
        let lines = indent_text(words.trim_end(), 9);
        assert_eq!(lines.split_whitespace().count(), 30);
        for line in lines.lines() {
            assert!(line.starts_with("         word"), "{line:?}");
            assert!(line.len() <= 80, "{line:?}");
        }
        assert_eq!(indent_text("short", 2), "  short\n");
    }
}

//! The texts that `--help` has beside the options, in lines of 80 columns.

use crate::exit;
use crate::reference;

pub const ABOUT: &str = "Run commands under a lock, first come first served, with a fencing token.";

const EXAMPLES: &str = "\
Examples:
  turnlock run ledger -- ./post-entries          wait for the lock, then run
  turnlock run -n nightly -- ./report            run only if the lock is free
  turnlock run -w 30 -s index -- ./search        share it, wait at most 30 s
  turnlock run deploy -c 'echo $TURNLOCK_TOKEN'  run a shell line
  turnlock run --once pay-7 ledger -- ./pay 7    not again once it has succeeded
  turnlock edit ledger book.json -- jq '.n += 1' change a fenced file
  turnlock run -n /var/lock/nightly -- ./report  the lock of a file, by its path
  turnlock queue ledger                          show its holders and waiters
  turnlock --backend etcd://etcd-1:2379 run ledger -- ./post-entries
";

/// How a NAME is read, wherever one is given.
const NAMES: &str = "\
Names:
  A NAME that begins with `/`, `./` or `../` is the path of a file or a folder.
  Its parent folder must exist; it need not. Symbolic links are followed:
  /var/lock/x is the lock file/var/lock/x. Any other NAME is the same lock in
  every folder. With --raw, NAME is used verbatim.
";

pub fn after_help() -> String {
    format!("{EXAMPLES}\n{NAMES}\n{}", exit::help())
}

pub fn after_long_help() -> String {
    format!("{}{}", after_help(), reference::help())
}

/// Expands to the help that is common to all commands that change a fenced file.
macro_rules! fenced_help {
    () => {
        "\
Inside `turnlock run NAME` of the same NAME, the token of that hold is used, and
no lock is taken. A token lower than one that the file has seen changes nothing:
the status is 79. The file's mark lies beside FILE, as .FILE.fence.
"
    };
}

pub const RUN_USAGE: &str = "turnlock run [OPTIONS] NAME -- COMMAND [ARGS]...
       turnlock run [OPTIONS] NAME -c TEXT";

pub const RUN_HELP: &str = "\
Examples:
  turnlock run ledger -- ./post-entries          wait for the lock, then run
  turnlock run -n nightly -- ./report            if it is not free, exit with 75
  turnlock run -w 30 -s index -- ./search        share it, wait at most 30 s
  turnlock run deploy -c 'echo $TURNLOCK_TOKEN'  run a shell line

The command finds TURNLOCK_NAME, TURNLOCK_TOKEN, TURNLOCK_MODE and
TURNLOCK_DEADLINE_UNIX_MS in its environment. TURNLOCK_FENCING_TOKEN has all
that a resource needs to check a write. turnlock ends with the command's exit
status. `turnlock --help` lists the other statuses, and explains names that are
paths.

The command inherits the rest of the environment, TURNLOCK_ETCD_PASSWORD and
TURNLOCK_ZK_PASSWORD included. To keep a password from it, use password_file= in
the URL.

Your own coordinator knows only your locks. To exclude other users of this
machine, see `turnlock system --help`.

The flags of flock have the same meaning here, before NAME or after it. Two of
them are refused, -u and -F: a hold ends with its command, and turnlock stays
beside the command to keep the lock. Others in the queue see the command's name
without its arguments.
";

pub const HOLD_HELP: &str = "\
It prints the token once it holds the lock. With --while-open it reads stdin and
throws away what it reads.

Examples:
  turnlock hold ledger                                until Ctrl-C, TERM or HUP
  coproc LOCK { turnlock hold --while-open ledger; }  in bash: until the script
  read -r token <&\"${LOCK[0]}\" || exit 75             ends, or is killed
";

pub const LS_HELP: &str = "\
Examples:
  turnlock ls                all locks in use
  turnlock ls nightly/       the locks whose names begin with nightly/
  turnlock ls --json         for a script: one object per lock
";

pub const QUEUE_HELP: &str = "\
Examples:
  turnlock queue ledger
  turnlock queue --json ledger     for a script: one object per entry
  turnlock --backend etcd://etcd-1:2379 queue --raw jobs/nightly
                                   the queue of `etcdctl lock jobs/nightly`
";

pub const WHY_HELP: &str = "\
Examples:
  turnlock why ledger            its holder, and what the holder itself waits for
  turnlock why --longest         the lock that is held longest while others wait
  turnlock why --json ledger     for a script: one object

The status is 1 if there is a deadlock. A program under `turnlock run` proves to
others which hold it works under. A claim without a proof is shown as claimed,
and is no reason to speak of a deadlock. Times are by the clocks of the others.
";

pub const WATCH_HELP: &str = "\
Examples:
  turnlock watch                 grants, waits and ends of all locks
  turnlock watch nightly/        of the locks whose names begin with nightly/
  turnlock watch --json          for a program: one object per event

It ends with Ctrl-C, or when the reader of its output has left. It reads the
queues again and again: an event is printed at most one interval and one reading
after it happened, and a hold or a wait that is shorter may not be seen. Nobody
can see from outside whether a hold ended by a release or by a loss.
";

#[cfg(feature = "top")]
pub const TOP_HELP: &str = "\
Keys:
  q                  quit
  w, h, t, n         sort by waiters, by the age of the hold, by the longest
                     wait, by name
  arrows, PgUp/PgDn  scroll
";

#[cfg(feature = "embedded")]
pub const SERVE_HELP: &str = "\
Examples:
  turnlock serve --data /srv/locks --listen 127.0.0.1:2379
                                   for --backend etcd://127.0.0.1:2379
                                   and for all users of this machine
  turnlock serve --listen unix:/srv/locks/socket
                                   for --backend etcd+unix:///srv/locks/socket
  turnlock serve --listen 0.0.0.0:2379 --tls-cert server.pem --tls-key server.key
      --client-ca ca.pem           for other machines: etcds://HOST:2379?ca=/F&cert=/F&key=/F
  turnlock serve --metrics-listen 127.0.0.1:9464
                                   for Prometheus, at http://127.0.0.1:9464/metrics
  turnlock serve --listen 127.0.0.1:2379 --rules rules.toml --users users
                                   for those whom the rules allow something
  turnlock serve --limit leases=20000 --limit store_bytes=256MiB --max-waiters 100
                                   with less than usual for all clients together
  systemctl enable --now turnlock  as a service, with a socket of systemd's if you
                                   enable turnlock.socket

On SIGTERM it refuses new sessions, sends the answers under way for --drain at
most, and ends. Holders keep their locks if it is back within their time to live.
A second signal ends it at once, which loses nothing either.

The same answers are given at DIR/metrics.sock, which `turnlock metrics` asks.
Whoever reads them sees the names of all locks, whatever the rules say.
";

#[cfg(feature = "embedded")]
pub const SNAPSHOT_HELP: &str = "\
Examples:
  turnlock snapshot locks.snapshot           of your own coordinator
  turnlock --backend etcds://locks.example:2379 snapshot /backup/locks.snapshot

All users go on meanwhile. The file is what `etcdctl snapshot save` writes. With
--rules, the server gives it to those who have the right admin over every key.
A snapshot of etcd itself is restored with `etcdutl snapshot restore`.
";

#[cfg(feature = "embedded")]
pub const RESTORE_HELP: &str = "\
Examples:
  turnlock restore locks.snapshot --data /srv/locks
                                   then `turnlock serve --data /srv/locks`
  ssh backup cat locks.snapshot | turnlock restore - --data /srv/locks

Run it as the user who serves. Every token is then higher than all that were
given, also after the snapshot; only an offset that was raised after it has to
be raised again, with `turnlock token-offset --raise-to`. No session goes on:
what was locked in the snapshot is free after the time to live of its session.
Changes after the snapshot are lost.
";

#[cfg(feature = "embedded")]
pub const RULES_CHECK_HELP: &str = "\
Examples:
  turnlock rules check rules.toml --as user:alice --do lock nightly
                                   the lock `nightly` in the namespace turnlock
  turnlock rules check rules.toml --as cn:ci --do read --namespace ci deploy
  turnlock rules check rules.toml --as dns:web.example.org --do lock --key jobs/1

A file of rules is TOML. What no rule allows is denied:

  [[rule]]
  subject = \"user:alice\"          or cn:NAME, dns:NAME, uri:URI, or *
  namespace = \"team-a\"            or prefix = \"KEYS\"; \"\" is every key
  right = \"lock\"                  read < lock < admin

It ends with 0 if this is allowed, and with 1 if it is denied.
";

#[cfg(feature = "embedded")]
pub const ADD_USER_HELP: &str = "\
Examples:
  turnlock rules add-user users alice            asks for the password
  turnlock rules add-user users alice < file     reads it, one line
  turnlock --backend 'etcd://HOST?user=alice&password_file=/FILE' run nightly ./job
                                                 how the user shows it

The password has 12 characters or more. Only what it is checked against is kept.
";

#[cfg(feature = "embedded")]
pub const SYSTEM_HELP: &str = "\
Examples:
  systemctl enable --now turnlock  start the service, `turnlock serve --system`
  usermod -aG turnlock alice       add a user to the group that may use it
  turnlock system enable           from now on, all users use it

It writes the URL into /etc/turnlock/backend. Every command reads that file, if
it is given neither --backend nor TURNLOCK_BACKEND nor TURNLOCK_HOME. It is
refused with status 75 while somebody holds a lock on a coordinator of their
own, or waits for one.
";

pub const EVICT_HELP: &str = "\
Examples:
  turnlock evict nightly                  the holder is notified at once
  turnlock evict nightly --token 4711     only this hold, or only this waiter

It does not ask for confirmation. If several share the lock, --token chooses one
of them. If there is nobody to evict, it says so, with status 0. Only a fence
prevents the harm that an evicted holder can still do.
";

pub const WRITE_HELP: &str = concat!(
    "\
Examples:
  ./render | turnlock write site index.html
  turnlock run site -c './render | turnlock write site index.html'
                                          with the token of `run`

",
    fenced_help!()
);

pub const APPEND_HELP: &str = concat!(
    "\
Examples:
  echo \"$(date) done\" | turnlock append journal journal.txt

",
    fenced_help!()
);

pub const EDIT_USAGE: &str = "turnlock edit [OPTIONS] NAME FILE -- COMMAND [ARGS]...";

pub const EDIT_HELP: &str = concat!(
    "\
Examples:
  turnlock edit ledger ledger.json -- jq '.total += 5'
  turnlock edit hosts hosts -- sort -u

If COMMAND fails, the file stays as it is, and turnlock ends with the status of
COMMAND. If the lock is lost meanwhile, COMMAND is stopped as under
`turnlock run`, and the status is 76.

",
    fenced_help!()
);

pub const CHECK_HELP: &str = "\
Examples:
  turnlock run site -c './render >new && turnlock fence check out &&
    rsync new/ out/'

The check does not cover what comes after it. Where a file can be changed with
`write`, `append` or `edit`, the check and the change are one step.
";

pub const TOKEN_OFFSET_HELP: &str = "\
Examples, for a fleet that moves to etcd; first stop all users of its locks:
  turnlock token-offset            prints, for instance, 4711
  turnlock --backend etcd://etcd-1:2379 token-offset --raise-to 4711
                                   then start all users with this backend

Without the second step, the new coordinator would begin with lower tokens, and
every fence that has seen the old ones would refuse the fleet. --raise-to ends
with status 75 while the new coordinator is in use. Raw locks keep the tokens of
the coordinator, without the offset.
";

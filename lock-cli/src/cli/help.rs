//! What `--help` says beyond the options.

use crate::exit;
use crate::reference;

pub const ABOUT: &str = "Run commands under a lock, first come first served, with a fencing token.";

const EXAMPLES: &str = "\
Examples:
  turnlock run ledger -- ./post-entries          wait for our turn, then run
  turnlock run -n nightly -- ./report            run only if nobody else does
  turnlock run -w 30 -s index -- ./search        wait at most 30 s, share with other readers
  turnlock run deploy -c 'echo $TURNLOCK_TOKEN'  a shell line, with its fencing token
  turnlock edit ledger book.json -- jq '.n += 1' change a file that refuses late writers
  turnlock run -n /var/lock/nightly -- ./report  the lock of a file, named by its path
  turnlock queue ledger                          who holds it, who waits
  turnlock --backend etcd://etcd-1:2379 run ledger -- ./post-entries
";

/// How NAME is read, wherever there is one.
const NAMES: &str = "\
Names:
  A NAME that begins with `/`, `./` or `../` is the path of a file or a folder, which need not exist in
  its folder: /var/lock/x is the lock file/var/lock/x, symbolic links followed. Any other NAME is a name,
  the same in every folder. With --raw it is used verbatim.
";

pub fn after_help() -> String {
    format!("{EXAMPLES}\n{NAMES}\n{}", exit::help())
}

pub fn after_long_help() -> String {
    format!("{}{}", after_help(), reference::help())
}

/// What all who change fenced files need to know.
macro_rules! fenced_help {
    () => {
        "\
Inside `turnlock run NAME` of the same NAME it uses that hold's token and takes no lock. A token lower
than one that the file has seen changes nothing: status 79. The mark lies beside FILE, as .FILE.fence.
"
    };
}

pub const RUN_USAGE: &str = "turnlock run [OPTIONS] NAME -- COMMAND [ARGS]...
       turnlock run [OPTIONS] NAME -c TEXT";

pub const RUN_HELP: &str = "\
Examples:
  turnlock run ledger -- ./post-entries          wait for our turn, then run
  turnlock run -n nightly -- ./report            only if nobody else does; else the status is 75
  turnlock run -w 30 -s index -- ./search        wait at most 30 s, share with other readers
  turnlock run deploy -c 'echo $TURNLOCK_TOKEN'  a shell line

The command finds TURNLOCK_NAME, TURNLOCK_TOKEN, TURNLOCK_MODE and TURNLOCK_DEADLINE_UNIX_MS in its
environment, and in TURNLOCK_FENCING_TOKEN all that a resource needs to check a write. turnlock ends with
its exit status: see `turnlock --help` for the others, and for names that are paths. The command gets the rest
of the environment as it is, TURNLOCK_ETCD_PASSWORD and TURNLOCK_ZK_PASSWORD too; password_file= in the URL
keeps a password from it.

The user's own coordinator knows the locks of one user alone: to exclude others on this machine, see
`turnlock system --help`.

flock's flags mean what they mean there, before NAME or after it. Of them -u and -F are refused: a hold ends
with its command, and turnlock stays beside the command to keep the lock. Others in the queue are shown the
command's name, without its arguments.
";

pub const HOLD_HELP: &str = "\
It prints the token once it holds the lock. With --while-open what comes on stdin is thrown away.

Examples:
  turnlock hold ledger                                           until Ctrl-C, TERM or HUP
  coproc LOCK { turnlock hold --while-open ledger; }             in bash: for the rest of the script,
  read -r token <&\"${LOCK[0]}\" || exit 75                       also if that is killed
";

pub const LS_HELP: &str = "\
Examples:
  turnlock ls                all locks in use
  turnlock ls nightly/       those whose names begin so
  turnlock ls --json         for a script: one object a lock
";

pub const QUEUE_HELP: &str = "\
Examples:
  turnlock queue ledger
  turnlock queue --json ledger                                     one object an entry
  turnlock --backend etcd://etcd-1:2379 queue --raw jobs/nightly   a queue of `etcdctl lock jobs/nightly`
";

#[cfg(feature = "embedded")]
pub const SERVE_HELP: &str = "\
Examples:
  turnlock serve --data /srv/locks --listen 127.0.0.1:2379     for --backend etcd://127.0.0.1:2379
  turnlock serve --listen unix:/srv/locks/socket               for --backend etcd+unix:///srv/locks/socket
";

#[cfg(feature = "embedded")]
pub const SYSTEM_HELP: &str = "\
Examples:
  systemctl enable --now turnlock         the service, which is `turnlock serve --system`
  usermod -aG turnlock alice              who is in the group may use it
  turnlock system enable                  from now on all do

It writes the URL into /etc/turnlock/backend, which every command reads that is given neither --backend nor
TURNLOCK_BACKEND nor TURNLOCK_HOME. While somebody holds a lock on a coordinator of his own, or waits for
one, it is refused: 75.
";

pub const EVICT_HELP: &str = "\
Examples:
  turnlock evict nightly                  from its holder, who learns at once that it has lost the lock
  turnlock evict nightly --token 4711     only this hold, or this waiter

It does not ask. Where several share the lock, --token says whom. If nobody is there to be evicted it says
so, with status 0. What a holder that was evicted still does is kept from doing harm by a fence only.
";

pub const WRITE_HELP: &str = concat!(
    "\
Examples:
  ./render | turnlock write site index.html
  turnlock run site -c './render | turnlock write site index.html'   with the token of `run`

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

If COMMAND fails, the file stays as it is and turnlock ends with its status. If the lock is lost
meanwhile, COMMAND is stopped as under `turnlock run`, and the status is 76.

",
    fenced_help!()
);

pub const CHECK_HELP: &str = "\
Examples:
  turnlock run site -c './render >new && turnlock fence check out && rsync new/ out/'

What comes after the check is not covered by it: where a file can be changed with `write`, `append`
or `edit`, check and change are one.
";

pub const FLOOR_HELP: &str = "\
Examples, for a fleet that moves from its own coordinators to etcd; first stop all who use locks:
  turnlock token-offset                                                  prints, say, 4711
  turnlock --backend etcd://etcd-1:2379 token-offset --raise-to 4711     then start them with this backend

Without this, the new coordinator would begin with lower tokens, and every fence that has seen the
old ones would refuse the fleet. It is not done while the new one is in use: 75. Raw locks keep the
coordinator's own tokens.
";

//! `turnlock edit`: replace a file with the output of a command.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::unix::fs::FileExt;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::stdio::{dup2_stdin, dup2_stdout, stdout};
use turnlock::fence::FencedFile;

use crate::child::{Child, Ended, Plan, Signals, Watchdog};
use crate::cli::{Edit, Global, OnLost};
use crate::commands::acquiring::display_name;
use crate::commands::blocking::run_interruptibly;
use crate::commands::last_will;
use crate::commands::names::parse_name;
use crate::commands::supervise::{default_grace, kill_at, supervise};
use crate::commands::write_right::{WriteRight, print_change};
use crate::exit::{Exit, Failure};
use crate::output::say;

pub async fn edit(global: Global, args: Edit) -> Result<Exit, Failure> {
    let name = parse_name(&args.change.name, args.change.acquire.raw)?;
    let mut signals = Signals::install()?;
    // The watchdog comes up while we queue.
    let watchdog = Watchdog::start(signals.initial_mask())?;
    let command = display_name(&args.command[0]);
    let obtained = WriteRight::obtain(&global, &args.change, &name, command, &mut signals).await?;
    let right = match obtained {
        Ok(right) => right,
        Err(exit) => return Ok(exit),
    };
    let edited = run_edit(&global, &args, &right, watchdog, signals).await;
    let token = right.give_back().await;
    let exit = edited?;
    if exit == Exit::Success {
        print_change(&global, &args.change, &token)?;
    }
    Ok(exit)
}

async fn run_edit(
    global: &Global,
    args: &Edit,
    right: &WriteRight,
    watchdog: Watchdog,
    mut signals: Signals,
) -> Result<Exit, Failure> {
    let file = FencedFile::new(&args.change.file, right.token.clone());
    let begin = move || file.begin_edit();
    let edit = match run_interruptibly(&mut signals, begin).await? {
        Ok(edit) => edit.map_err(|error| right.explain(error))?,
        Err(exit) => return Ok(exit),
    };
    // The command inherits our standard streams. Files take their place: a pipe would have to be
    // emptied while it is filled.
    let output = create_memory_file("new content", &[])?;
    let input = create_memory_file("old content", edit.content())?;
    let stdout = fcntl_dupfd_cloexec(stdout(), 3);
    let exchanged = dup2_stdin(&input).and_then(|()| dup2_stdout(&output));
    exchanged.map_err(|error| internal(error.into()))?;

    let guard = right.lock.as_ref().map(|(_, guard)| guard);
    let grace = guard.map_or(args.change.acquire.ttl / 5, default_grace);
    let plan = Plan {
        command: args.command.clone(),
        env: right.environment(),
        grace,
        whole: false,
        deadline: guard.map(kill_at),
        last_will: guard
            .map(|guard| last_will::to_bytes(global, guard))
            .unwrap_or_default(),
    };
    let mut child = Child::spawn(watchdog, plan, signals).await?;
    let (ended, lost) = match guard {
        Some(guard) => supervise(&mut child, guard, OnLost::Term, grace).await?,
        // The process that holds the lock supervises this process.
        None => (child.wait().await?, false),
    };
    let end = child.shared_end();
    child.leave(std::future::ready(())).await;
    // Our own messages need it again. It may have been closed from the start.
    if let Ok(stdout) = stdout {
        dup2_stdout(stdout).map_err(|error| internal(error.into()))?;
    }
    if lost {
        return Ok(Exit::Lost);
    }
    if ended != Ended::Exited(0) {
        say(format!(
            "{}: the command failed, and nothing was changed",
            args.change.file.display()
        ));
        return Ok(end.map_or(Exit::Of(ended.status()), Exit::Signal));
    }
    let content = read_all(&output).map_err(internal)?;
    edit.commit(&content)
        .map_err(|error| right.explain(error))?;
    Ok(Exit::Success)
}

/// Creates a file in memory with this content, to be read from its start.
fn create_memory_file(name: &str, content: &[u8]) -> Result<File, Failure> {
    let file = memfd_create(name, MemfdFlags::CLOEXEC).map(File::from);
    let filled = file.map_err(io::Error::from).and_then(|mut file| {
        file.write_all(content)?;
        file.rewind()?;
        Ok(file)
    });
    filled.map_err(internal)
}

fn read_all(file: &File) -> io::Result<Vec<u8>> {
    let length = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
    let mut content = vec![0; length];
    file.read_exact_at(&mut content, 0)?;
    Ok(content)
}

fn internal(error: io::Error) -> Failure {
    Failure::from_system("cannot pass the content on", &error)
}

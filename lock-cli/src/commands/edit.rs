//! `turnlock edit`: replace a file with what a command makes of it.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::unix::fs::FileExt;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::stdio::{dup2_stdin, dup2_stdout, stdout};
use turnlock::fence::FencedFile;

use crate::child::{Child, Ended, Signals};
use crate::cli::{Edit, Global, OnLost};
use crate::commands::change::{Right, interruptible, report, right};
use crate::commands::supervise::{default_grace, environment, supervise};
use crate::commands::{name, shown};
use crate::exit::{Exit, Failure};
use crate::output::say;
use crate::surroundings::require_proc;

pub async fn edit(global: Global, args: Edit) -> Result<Exit, Failure> {
    let name = name(&args.change.name, args.change.acquire.raw)?;
    require_proc()?;
    let mut signals = Signals::install()?;
    let command = shown(&args.command[0]);
    let right = match right(&global, &args.change, &name, command, &mut signals).await? {
        Ok(right) => right,
        Err(exit) => return Ok(exit),
    };
    let edited = make(&args, &right, signals).await;
    let token = right.give_back().await;
    let exit = edited?;
    if exit == Exit::Success {
        report(&global, &args.change, &token)?;
    }
    Ok(exit)
}

async fn make(args: &Edit, right: &Right, mut signals: Signals) -> Result<Exit, Failure> {
    let file = FencedFile::new(&args.change.file, right.token.clone());
    let begin = move || file.begin_edit();
    let edit = match interruptible(&mut signals, begin).await? {
        Ok(edit) => edit?,
        Err(exit) => return Ok(exit),
    };
    // The command inherits our standard streams. Files take their place: a pipe would have to be
    // emptied while it is filled.
    let output = memory("new content", &[])?;
    let input = memory("old content", edit.content())?;
    let stdout = fcntl_dupfd_cloexec(stdout(), 3);
    let exchanged = dup2_stdin(&input).and_then(|()| dup2_stdout(&output));
    exchanged.map_err(|error| internal(error.into()))?;

    let environment = match &right.taken {
        Some((_, guard)) => environment(guard),
        None => Vec::new(),
    };
    let mut child = Child::spawn(&args.command, &environment, signals).await?;
    let (ended, lost) = match &right.taken {
        Some((_, guard)) => supervise(child, guard, OnLost::Term, default_grace(guard)).await?,
        // Whoever holds the lock looks after us.
        None => (child.wait(|| true).await?, false),
    };
    // For what we say ourselves; it may have been closed from the start.
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
        return Ok(Exit::Of(ended.status()));
    }
    edit.commit(&content(&output).map_err(internal)?)?;
    Ok(Exit::Success)
}

/// A file in memory, to be read from its start.
fn memory(name: &str, content: &[u8]) -> Result<File, Failure> {
    let file = memfd_create(name, MemfdFlags::CLOEXEC).map(File::from);
    let filled = file.map_err(io::Error::from).and_then(|mut file| {
        file.write_all(content)?;
        file.rewind()?;
        Ok(file)
    });
    filled.map_err(internal)
}

fn content(file: &File) -> io::Result<Vec<u8>> {
    let length = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
    let mut content = vec![0; length];
    file.read_exact_at(&mut content, 0)?;
    Ok(content)
}

fn internal(error: io::Error) -> Failure {
    Failure::of_system("cannot pass the content on", &error)
}

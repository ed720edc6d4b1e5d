//! `turnlock man`: print or write the manual pages, which are made from the definition of the
//! command line.

use std::fs;
use std::path::Path;

use clap::CommandFactory;

use crate::cli::Cli;
use crate::cli::packaging::Man;
use crate::exit::{Exit, Failure};
use crate::manual::{self, SECTION};
use crate::output;

pub fn man(args: &Man) -> Result<Exit, Failure> {
    let root = manual::prepare(Cli::command());
    match &args.dir {
        Some(dir) => write_pages(&root, dir)?,
        None => print_page(&root, &args.command)?,
    }
    Ok(Exit::Success)
}

/// Writes the page of a command and those of all its subcommands.
fn write_pages(command: &clap::Command, dir: &Path) -> Result<(), Failure> {
    let file = dir.join(format!("{}.{SECTION}", manual::page_name(command)));
    fs::create_dir_all(dir)
        .and_then(|()| fs::write(&file, manual::render_page(command)))
        .map_err(|error| {
            let message = format!("the page cannot be written: {}: {error}", file.display());
            Failure::new(Exit::File, message).hint("give --dir a folder that you may write to")
        })?;
    manual::subcommands(command).try_for_each(|command| write_pages(command, dir))
}

fn print_page(root: &clap::Command, path: &[String]) -> Result<(), Failure> {
    let mut command = root;
    for name in path {
        command = manual::subcommands(command)
            .find(|command| command.get_name() == name)
            .ok_or_else(|| {
                let name = path.join(" ");
                Failure::new(Exit::Usage, format!("there is no command {name:?}"))
                    .hint("`turnlock --help` lists them")
            })?;
    }
    output::print(manual::render_page(command).trim_end())
}

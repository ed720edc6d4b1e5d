//! Makes the manual pages from the same sources as `--help`: the definition of the command line,
//! the texts after its options, and the tables of statuses, variables and files.

use std::io;

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, roman};

use crate::exit;
use crate::reference;

/// The section of the manual for commands.
pub const SECTION: &str = "1";

/// A part of a text after the options.
#[derive(Debug, PartialEq)]
enum Part<'a> {
    Paragraph(&'a str),
    /// Lines that are shown as they are, with their heading and a remark on it.
    Listing {
        heading: &'a str,
        remark: Option<&'a str>,
        lines: Vec<&'a str>,
    },
}

/// Prepares the definition for the pages: with names in full, and with every option on each command
/// that accepts it.
pub fn prepare(command: Command) -> Command {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    command
}

/// Returns the name of a command's page, such as `turnlock-fence-check`.
pub fn page_name(command: &Command) -> &str {
    command
        .get_display_name()
        .unwrap_or_else(|| command.get_name())
}

/// Returns the subcommands that are shown.
pub fn subcommands(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|sub| !sub.is_hide_set())
}

/// Renders the page of a command of a [prepared](prepare) definition.
pub fn render_page(command: &Command) -> String {
    let after_help = command
        .get_after_help()
        .map(ToString::to_string)
        .unwrap_or_default();
    let parts = parse_parts(&after_help);
    let page = render(command, &parts).expect("a page in memory can be written");
    finish(&page)
}

fn render(command: &Command, parts: &[Part]) -> io::Result<String> {
    let usage = command.clone().render_usage().to_string();
    let usage = usage.strip_prefix("Usage: ").unwrap_or(&usage).to_owned();
    let man = Man::new(command.clone().override_usage(usage))
        .title(page_name(command).to_uppercase())
        .section(SECTION)
        // No date, so that the same source makes the same pages. An empty text would not count as a
        // date.
        .date(" ")
        .source(concat!("turnlock ", env!("CARGO_PKG_VERSION")))
        .manual("Turnlock");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    render_paragraphs(parts).to_writer(&mut page)?;
    man.render_options_section(&mut page)?;
    if subcommands(command).next().is_some() {
        man.render_subcommands_section(&mut page)?;
    }
    render_tables().to_writer(&mut page)?;
    render_listings(parts).to_writer(&mut page)?;
    render_see_also(command).to_writer(&mut page)?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

/// Splits the text at empty lines. Indented lines below one that ends with a colon are a listing.
fn parse_parts(text: &str) -> Vec<Part<'_>> {
    text.split("\n\n")
        .map(|block| block.trim_matches('\n'))
        .filter(|block| !block.is_empty())
        .map(|block| {
            let mut lines = block.lines();
            let title = lines.next().and_then(|line| line.strip_suffix(':'));
            let lines: Vec<_> = lines.collect();
            let indented = !lines.is_empty() && lines.iter().all(|line| line.starts_with("  "));
            let Some(title) = title.filter(|_| indented) else {
                return Part::Paragraph(block);
            };
            let (heading, remark) = match title.split_once(", ") {
                Some((heading, remark)) => (heading, Some(remark)),
                None => (title, None),
            };
            Part::Listing {
                heading,
                remark,
                lines,
            }
        })
        .collect()
}

fn render_paragraphs(parts: &[Part]) -> Roff {
    let mut roff = Roff::new();
    for part in parts {
        if let Part::Paragraph(text) = part {
            roff.control("PP", []);
            roff.text([roman(*text)]);
        }
    }
    roff
}

fn render_listings(parts: &[Part]) -> Roff {
    // The listing of the statuses is left out, because a table has them.
    let statuses = exit::help();
    let mut roff = Roff::new();
    for part in parts {
        if let Part::Listing {
            heading,
            remark,
            lines,
        } = part
            && !statuses.starts_with(heading)
        {
            roff.control("SH", [heading.to_uppercase().as_str()]);
            if let Some(remark) = remark {
                roff.text([roman(format!("{remark}:"))]);
                roff.control("PP", []);
            }
            roff.control("nf", []);
            for line in lines {
                roff.text([roman(line.strip_prefix("  ").unwrap_or(line))]);
            }
            roff.control("fi", []);
        }
    }
    roff
}

fn render_tables() -> Roff {
    let mut roff = Roff::new();
    for (heading, table) in [
        ("EXIT STATUS", exit::TABLE),
        ("ENVIRONMENT", reference::ENVIRONMENT),
        ("FILES", reference::FILES),
    ] {
        roff.control("SH", [heading]);
        for (term, meaning) in table {
            roff.control("TP", []);
            roff.text([bold(*term)]);
            roff.text([roman(*meaning)]);
        }
    }
    roff
}

/// Renders the references to the page above and to the pages below.
fn render_see_also(command: &Command) -> Roff {
    let path = command.get_bin_name().unwrap_or_default();
    let above = path
        .rsplit_once(' ')
        .map(|(above, _)| above.replace(' ', "-"));
    let below = subcommands(command).map(|sub| page_name(sub).to_owned());
    let mut names: Vec<Inline> = Vec::new();
    for page in above.into_iter().chain(below) {
        if !names.is_empty() {
            names.push(roman(", "));
        }
        names.extend([bold(page), roman(format!("({SECTION})"))]);
    }
    let mut roff = Roff::new();
    roff.control("SH", ["SEE ALSO"]);
    roff.text(names);
    roff
}

/// Finishes a page: keeps one preamble, makes the text between backticks bold, and keeps the
/// characters that are to be copied into a shell.
fn finish(page: &str) -> String {
    let preamble = Roff::new().render();
    let mut text = preamble.clone();
    for line in page.replace(&preamble, "").lines() {
        match line.starts_with('.') {
            true => text.push_str(line),
            false => text.push_str(&plain_characters(line)),
        }
        text.push('\n');
    }
    text
}

fn plain_characters(line: &str) -> String {
    let line = line.replace('~', r"\(ti").replace('^', r"\(ha");
    let pieces: Vec<_> = line.split('`').collect();
    if pieces.len() % 2 == 0 {
        return line.replace('`', r"\(ga");
    }
    let mut text = String::new();
    for (n, piece) in pieces.into_iter().enumerate() {
        match n % 2 {
            0 => text.push_str(piece),
            _ => text.push_str(&format!(r"\fB{piece}\fR")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::CommandFactory;

    fn all(command: &Command) -> Vec<&Command> {
        let below = subcommands(command).flat_map(all);
        std::iter::once(command).chain(below).collect()
    }

    #[test]
    fn a_text_is_taken_apart_into_listings_and_paragraphs() {
        let text = "Examples, for a fleet:\n  one\n    two\n\nIt is not so:\nno list.\n";
        let listing = Part::Listing {
            heading: "Examples",
            remark: Some("for a fleet"),
            lines: vec!["  one", "    two"],
        };
        assert_eq!(
            parse_parts(text),
            [listing, Part::Paragraph("It is not so:\nno list.")]
        );
    }

    #[test]
    fn every_page_repeats_the_help_text() {
        let root = prepare(Cli::command());
        for command in all(&root) {
            let page = render_page(command);
            let name = page_name(command);
            for section in [
                "NAME",
                "SYNOPSIS",
                "DESCRIPTION",
                "OPTIONS",
                "\"EXIT STATUS\"",
                "ENVIRONMENT",
                "FILES",
                "\"SEE ALSO\"",
            ] {
                assert_eq!(
                    page.matches(&format!("\n.SH {section}\n")).count(),
                    1,
                    "{name}: {section}"
                );
            }
            let has_examples = command
                .get_after_help()
                .is_some_and(|text| text.to_string().contains("Examples"));
            assert_eq!(page.contains("\n.SH EXAMPLES\n"), has_examples, "{name}");
            for arg in command.get_arguments() {
                if let Some(long) = arg.get_long() {
                    let option = format!(r"\fB\-\-{}\fR", long.replace('-', r"\-"));
                    let shown = !arg.is_hide_set();
                    assert_eq!(page.contains(&option), shown, "{name}: {option}");
                }
            }
        }
    }

    #[test]
    fn a_name_copied_into_a_shell_stays_the_same() {
        assert_eq!(
            plain_characters("`turnlock run` in ~/x"),
            r"\fBturnlock run\fR in \(ti/x"
        );
        assert_eq!(plain_characters("a ` alone"), r"a \(ga alone");
    }
}

//! `completions` and `man`: what other programs show of the command line.

use std::fs;
use std::io::Write;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

use crate::args::Args;
use crate::commands::session::Session;
use crate::output::failure::{Context, Result};
use crate::output::text;

/// The name of the program.
const NAME: &str = "eidetica";

/// Prints a script that completes commands and options in a shell.
pub(crate) fn completions(session: &Session, shell: Shell) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), NAME, &mut script);
    let mut out = session.console.out();
    out.raw(&script)?;
    out.flush()
}

/// Writes a page for the program and one for each command.
pub(crate) fn man(session: &Session, folder: &Path) -> Result<()> {
    let folder = session.path(folder);
    let mut program = Args::command().name(NAME);
    program.build();
    let mut out = session.console.out();
    let mut pages = vec![(NAME.to_owned(), program.clone())];
    for command in program.get_subcommands().filter(|it| !it.is_hide_set()) {
        let name = format!("{NAME}-{}", command.get_name());
        pages.push((name.clone(), command.clone().display_name(name)));
    }
    for (name, command) in pages {
        let path = folder.join(format!("{name}.1"));
        let failed = || format!("could not write {}", text::path(&path));
        let mut page = Vec::new();
        Man::new(command).render(&mut page).context(failed())?;
        let written = fs::File::create(&path).and_then(|mut file| file.write_all(&page));
        written.context(failed())?;
        out.line(text::path(&path))?;
    }
    out.flush()
}

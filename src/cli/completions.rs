//! `pagemill completions`: what a shell must know to complete our command line.

use std::io::{self, Write};

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Cli;

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  pagemill completions bash >~/.local/share/bash-completion/completions/pagemill
  pagemill completions zsh  >~/.zfunc/_pagemill      (with fpath+=~/.zfunc before compinit)
  pagemill completions fish >~/.config/fish/completions/pagemill.fish")]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub shell: Shell,
}

/// Runs the command; gives the exit code.
pub fn run(args: &CompletionsArgs, out: &mut impl Write) -> io::Result<u8> {
    // Made whole first: whoever closes the pipe early is no reason to panic.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "pagemill", &mut script);
    out.write_all(&script)?;
    Ok(super::exit::DONE)
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_shell_hears_of_every_command() {
        for shell in Shell::value_variants() {
            let mut script = Vec::new();
            run(&CompletionsArgs { shell: *shell }, &mut script).unwrap();
            let script = String::from_utf8(script).unwrap();
            for command in Cli::command().get_subcommands() {
                let name = command.get_name();
                assert!(script.contains(name), "{shell}: {name}");
            }
        }
    }
}

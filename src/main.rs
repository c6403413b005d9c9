//! The program: arguments in, exit code out.

use std::process::ExitCode;

use clap::Parser;
use pagemill::adapters::system_clock;
use pagemill::cli::{self, Cli, Command, exit};
use pagemill::decide::cost::Date;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(words) => {
            let code = if words.use_stderr() {
                exit::USAGE
            } else {
                exit::DONE
            };
            // There is nobody to tell when the terminal is gone.
            let _closed = words.print();
            return ExitCode::from(code);
        }
    };
    rustls::crypto::ring::default_provider()
        .install_default()
        .expect("no other TLS provider was installed before main");
    let ended = actix_rt::System::new().block_on(run(&cli));
    match ended {
        Ok(code) => ExitCode::from(code),
        // Whoever read the output has seen enough.
        Err(error) if is_closed_pipe(&error) => ExitCode::from(exit::DONE),
        Err(error) => {
            eprintln!("pagemill: {error:#}");
            ExitCode::from(exit::FAILED)
        }
    }
}

async fn run(cli: &Cli) -> anyhow::Result<u8> {
    let out = &mut std::io::stdout();
    match &cli.command {
        Command::Run(args) => cli::run::run(&cli.common, args, out).await,
        Command::Demo(args) => cli::demo::run(&cli.common, args, out).await,
        Command::Emulator(args) => cli::emulator::run(args).await,
        Command::Status(args) => cli::status::run(&cli.common, args, out).await,
        Command::Failures(args) => cli::failures::run(&cli.common, args, out).await,
        Command::Report(args) => cli::report::run(&cli.common, args, out).await,
        Command::Doctor(args) => cli::doctor::run(&cli.common, args, out).await,
        Command::Reconcile(args) => cli::reconcile::run(&cli.common, args, out).await,
        Command::Verify(args) => cli::verify::run(&cli.common, args, out).await,
        Command::Maintain(args) => cli::maintain::run(&cli.common, args, out).await,
        Command::Resume(args) => cli::resume::run(&cli.common, args, out).await,
        Command::Config(args) => {
            let today = Date::of(system_clock::now());
            Ok(cli::config::run(
                args,
                cli.common.sources(Vec::new()),
                today,
                out,
            )?)
        }
        Command::Init(args) => Ok(cli::init::run(args, &cli::cwd(), out)?),
    }
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let cause = error.downcast_ref::<std::io::Error>();
    cause.is_some_and(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe)
}

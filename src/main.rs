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
            let typed: Vec<String> = std::env::args().skip(1).collect();
            for line in cli::usage::hints(words.kind(), &typed) {
                eprintln!("{line}");
            }
            return ExitCode::from(code);
        }
    };
    if matches!(cli.command, Command::Run(_)) {
        cli::arenas::hold_few();
    }
    rustls::crypto::ring::default_provider()
        .install_default()
        .expect("no other TLS provider was installed before main");
    let ended = actix_rt::System::new().block_on(run(&cli));
    let is_at_fault =
        !matches!(ended, Ok(code) if ![exit::FAILED, exit::CONFIGURATION].contains(&code));
    let advice = is_at_fault.then(|| cli::usage::without_configuration(&cli));
    let code = code_of(ended);
    if let Some(advice) = advice.flatten() {
        eprintln!("{advice}");
    }
    code
}

fn code_of(ended: anyhow::Result<u8>) -> ExitCode {
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
        Command::Bench(args) => cli::bench::run(&cli.common, args, out).await,
        Command::Status(args) => cli::status::run(&cli.common, args, out).await,
        Command::Runs(args) => cli::runs::run(&cli.common, args, out).await,
        Command::Health(args) => cli::health::run(&cli.common, args, out).await,
        Command::Alerts(args) => cli::alerts::run(&cli.common, args, out).await,
        Command::Explain(args) => cli::explain::run(&cli.common, args, out).await,
        Command::Show(args) => cli::show::run(&cli.common, args, out).await,
        Command::Replay(args) => cli::replay::run(&cli.common, args, out).await,
        Command::Failures(args) => cli::failures::run(&cli.common, args, out).await,
        Command::Export(args) => cli::export::run(&cli.common, args, out).await,
        Command::Doctor(args) => cli::doctor::run(&cli.common, args, out).await,
        Command::Rekey(args) => cli::rekey::run(&cli.common, args, out).await,
        Command::Reconcile(args) => cli::reconcile::run(&cli.common, args, out).await,
        Command::Verify(args) => cli::verify::run(&cli.common, args, out).await,
        Command::Pause(args) => cli::pause::run(&cli.common, args, out).await,
        Command::ClearFailures(args) => cli::pages::clear_failures(&cli.common, args, out).await,
        Command::Redo(args) => cli::pages::redo(&cli.common, args, out).await,
        Command::Skip(args) => cli::pages::skip(&cli.common, args, out).await,
        Command::Unskip(args) => cli::pages::unskip(&cli.common, args, out).await,
        Command::Priority(args) => cli::pages::priority(&cli.common, args, out).await,
        Command::Note(args) => cli::pages::note(&cli.common, args, out).await,
        Command::Batches(args) => cli::batches::run(&cli.common, args, out).await,
        Command::Orders(args) => cli::orders::run(&cli.common, args, out).await,
        Command::Report(args) => cli::report::run(&cli.common, args, out).await,
        Command::Maintain(args) => cli::maintain::run(&cli.common, args, out).await,
        Command::Resume(args) => cli::resume::run(&cli.common, args, out).await,
        Command::Backup(args) => cli::backup::run(&cli.common, args, out).await,
        Command::Restore(args) => cli::restore::run(&cli.common, args, out).await,
        Command::Nuke(args) => cli::nuke::run(&cli.common, args, out).await,
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
        Command::Completions(args) => Ok(cli::completions::run(args, out)?),
        Command::Man(args) => Ok(cli::man::run(args, out)?),
    }
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let cause = error.downcast_ref::<std::io::Error>();
    cause.is_some_and(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe)
}

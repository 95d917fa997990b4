//! `grid`: the whole street in one process.

mod arguments;
mod terminal;

use std::process::ExitCode;

use clap::Parser;
use grid::demo::{Demo, Report};
use grid_service::{chain, log, shutdown};

use arguments::Arguments;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    log::begin("grid", "warn");
    match run(&arguments) {
        Ok(report) if report.holds() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("grid: {}", chain(error.as_ref()));
            ExitCode::from(2)
        }
    }
}

#[tokio::main]
async fn run(arguments: &Arguments) -> Result<Report, Box<dyn std::error::Error>> {
    let options = arguments.options()?;
    let folder = options.data_dir.clone();
    let demo = Demo::start(options).await?;
    readable(terminal::introduce(&demo, &folder))?;
    let ledger = demo.ledger().grpc.join(",");
    let ended = async {
        match arguments.ends_after() {
            Some(duration) => tokio::time::sleep(duration).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = demo.day_is_over() => {}
        () = ended => {}
        signal = shutdown::requested() => signal?,
        () = terminal::show_progress(&demo, !arguments.headless) => {}
    }
    let report = demo.finish().await?;
    if let Some(file) = &arguments.report {
        let json = serde_json::to_vec(&report)?;
        std::fs::write(file, json).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    readable(terminal::summarise(&report, &folder, &ledger))?;
    Ok(report)
}

/// A reader that has seen enough, such as `head`, is no failure.
fn readable(printed: std::io::Result<()>) -> std::io::Result<()> {
    printed.or_else(|error| if error.kind() == std::io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) })
}

//! The program: reads the command line, runs the command on a runtime, turns its end into an exit code.

use std::process::ExitCode;

use tidings::{commands, config};

fn main() -> ExitCode {
    let command = match config::command() {
        Ok(command) => command,
        Err(stop) => {
            stop.print();
            return ExitCode::from(stop.exit_code());
        }
    };
    let ended =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Into::into).and_then(|runtime| {
            let ended = runtime.block_on(commands::run(command));
            // A read of stdin cannot be broken off, and must not keep the program from ending.
            runtime.shutdown_background();
            ended
        });
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("tidings: {error:#}");
            ExitCode::FAILURE
        }
    }
}

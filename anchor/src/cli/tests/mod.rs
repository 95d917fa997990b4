//! What the program answers, with its exit codes.

mod adversaries;
mod proofs;
mod show;

use clap::Parser;

use super::{Arguments, Command, UNKNOWN, prove, verify};

/// Exit code and output of the program. What `main` would print of an error is at the end.
fn answer(arguments: &[&str]) -> (u8, String) {
    let arguments = Arguments::try_parse_from([&["grid-anchor"], arguments].concat());
    let mut out = Vec::new();
    let done = match arguments.unwrap_or_else(|error| panic!("{error}")).command {
        Command::Prove(arguments) => prove::prove_message(&arguments, &mut out),
        Command::Verify(arguments) => verify::verify(&arguments, &mut out),
        Command::Setup(_)
        | Command::Check(_)
        | Command::Run { .. }
        | Command::Init(_)
        | Command::Keys(_)
        | Command::MockLedger(_)
        | Command::Show(_)
        | Command::Fsck(_)
        | Command::Status(_)
        | Command::Man { .. } => unreachable!(),
    };
    let said = String::from_utf8(out).unwrap();
    match done {
        Ok(code) => (code, said),
        Err(error) => (UNKNOWN, format!("{said}{error}")),
    }
}

#[test]
fn wrong_arguments_are_refused() {
    for wrong in [
        "verify",
        "verify x.tlog-proof --log folder",
        "verify x.tlog-proof --since checkpoint",
        "verify --log folder --ca ca.pem",
        "verify --log folder --from yesterday",
        "prove --log folder",
        "prove --log folder --device cp-1 --session 9f1c2e7a00b4d611",
        "prove --log folder --device cp-1 --session 1 --seq 2",
        "prove --log folder --index 3 --device cp-1 --session 9f1c2e7a00b4d611 --seq 2",
    ] {
        let words = std::iter::once("grid-anchor").chain(wrong.split(' '));
        assert!(Arguments::try_parse_from(words).is_err(), "{wrong}");
    }
}

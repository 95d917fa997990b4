//! `grid-anchor keys`.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use zeroize::Zeroizing;

use super::Failure;
use crate::keys::{export, import};

#[derive(Subcommand)]
pub enum KeysCommand {
    /// Write all keys into one file, encrypted with a passphrase.
    Export(KeysArguments),
    /// Put keys that were exported into a data_dir that has none.
    Import(KeysArguments),
}

#[derive(Args)]
pub struct KeysArguments {
    /// The file with the encrypted keys.
    file: PathBuf,
    /// The anchor's folder.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/grid-anchor")]
    data_dir: PathBuf,
    /// The file whose first line is the passphrase. Without it you are asked.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

pub(super) fn keys(command: &KeysCommand) -> Result<u8, Failure> {
    match command {
        KeysCommand::Export(arguments) => {
            let passphrase = arguments.passphrase(true)?;
            let exported = export(&arguments.data_dir, &passphrase)?;
            write_new(&arguments.file, exported.as_bytes()).map_err(|error| {
                format!("cannot write {}, which must not be there yet: {error}", arguments.file.display())
            })?;
            println!("the keys of {} are in {}", arguments.data_dir.display(), arguments.file.display());
        }
        KeysCommand::Import(arguments) => {
            let exported = fs::read(&arguments.file)
                .map_err(|error| format!("cannot read {}: {error}", arguments.file.display()))?;
            let written = import(&exported, &arguments.passphrase(false)?, &arguments.data_dir)?;
            match written.as_slice() {
                [] => println!("all these keys are in {} already", arguments.data_dir.display()),
                written => println!("in {} now: {}", arguments.data_dir.display(), written.join(", ")),
            }
        }
    }
    Ok(0)
}

/// Nothing is overwritten: what is there may be the only copy of other keys.
fn write_new(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

impl KeysArguments {
    fn passphrase(&self, is_new: bool) -> Result<Zeroizing<String>, Failure> {
        if let Some(path) = &self.passphrase_file {
            let text = fs::read_to_string(path).map(Zeroizing::new);
            let text = text.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
            return Ok(Zeroizing::new(text.lines().next().unwrap_or_default().to_owned()));
        }
        let ask = |prompt| rpassword::prompt_password(prompt).map(Zeroizing::new);
        let asked = |error| format!("cannot ask for the passphrase ({error}): give --passphrase-file");
        let passphrase = ask("passphrase: ").map_err(asked)?;
        if is_new && ask("once more: ").map_err(asked)? != passphrase {
            return Err("the two are not the same: nothing was written".into());
        }
        Ok(passphrase)
    }
}

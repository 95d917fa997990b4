//! `grid-broker check`: what is configured, valid and reachable. It changes nothing and disturbs nothing that runs.

mod listeners;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use grid_broker::settings::{AccessSettings, TlsSettings, User};
use grid_broker::{Access, Settings, Source};
use grid_protocol::identity::{Authority, hosts_of, validity_of};
use grid_protocol::revocation;
use grid_service::chain;
use grid_service::clock::unix_now;
use grid_service::identity::read_authority;
use grid_service::settings::SettingsError;
use grid_service::setup::Report;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::setup::CONFIG;

const RENEW: &str = "grid-broker ca issue-server, and then grid-broker setup";

/// Tell what is configured, valid and reachable: one line a thing, `ok`, `--` (not configured) or `WRONG` with what to do.
///
/// It changes nothing and disturbs nothing that runs. If the broker runs, its listeners must answer, and otherwise they must
/// be free.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sudo grid-broker check\n\nExit codes: 0 nothing is wrong, 1 something is, 2 the \
                        settings cannot be used.")]
pub struct Arguments {
    /// The broker's settings (TOML).
    #[arg(long, value_name = "FILE", default_value = CONFIG)]
    config: PathBuf,
}

/// Does it, and returns the program's exit code.
pub fn run(arguments: &Arguments) -> ExitCode {
    match check(&arguments.config) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("grid-broker: {}", chain(&error));
            ExitCode::from(2)
        }
    }
}

fn check(config: &Path) -> Result<u8, SettingsError> {
    let settings = Source { config: Some(config.to_owned()), ..Source::default() }.read()?;
    settings.check()?;
    let mut out = io::stdout();
    let mut report = Report::to(&mut out);
    tell(&mut report, &settings, config);
    Ok(report.exit_code())
}

/// Looks at everything.
pub fn tell(report: &mut Report, settings: &Settings, config: &Path) {
    report.ok("settings", format!("{}: site {}", config.display(), settings.site));
    if !settings.user.is_empty() {
        report.is_secret("settings", config, true);
    }
    let authority = check_authority(report, &settings.access);
    check_revocations(report, settings, authority.as_ref());
    let certificate = settings.tls.as_ref().and_then(|tls| check_certificate(report, tls, authority.as_ref()));
    if settings.tls.is_none() {
        report.none("tls", "no certificate: there is no listener with TLS");
    }
    // What one file says about another is for the broker's own reading of them all.
    if let Err(error) = Access::load(settings) {
        report.wrong("files", error);
    }
    check_who_comes_in(report, settings);
    listeners::check(report, settings, certificate.as_ref());
}

fn check_authority(report: &mut Report, access: &AccessSettings) -> Option<Authority> {
    let Some(file) = &access.authority else {
        report.none("authority", "nobody comes in with a certificate");
        return None;
    };
    match read_authority(file) {
        Ok(authority) => {
            report.ok("authority", file.display());
            match validity_of(authority.der()) {
                Ok(validity) => report.holds("authority", validity, unix_now(), "make another: grid-broker ca init"),
                Err(error) => report.wrong("authority", error),
            }
            Some(authority)
        }
        Err(error) => {
            report.wrong("authority", format!("access.{error}"));
            None
        }
    }
}

fn check_revocations(report: &mut Report, settings: &Settings, authority: Option<&Authority>) {
    let (Some(file), Some(authority)) = (&settings.access.revocations, authority) else {
        report.none("revocations", "no list");
        return;
    };
    let shown = file.display();
    report.is_readable_by_others("revocations", file);
    match std::fs::read(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            report.none("revocations", format!("{shown} is not there"))
        }
        Err(error) => report.wrong("revocations", format!("{shown} cannot be read: {error}")),
        Ok(payload) => {
            let list = revocation::read(&payload, &settings.site, authority);
            let said = list.map(|list| format!("{shown}: {} certificates are revoked", list.body.revoked.len()));
            report.judge("revocations", said.map_err(|error| format!("{shown}: {error}; put it back from a copy")));
        }
    }
}

/// The broker's certificate, if it can be read.
fn check_certificate(
    report: &mut Report,
    tls: &TlsSettings,
    authority: Option<&Authority>,
) -> Option<CertificateDer<'static>> {
    report.is_secret("tls key", &tls.key, false);
    let file = tls.certificate.display();
    let certificate = match CertificateDer::from_pem_file(&tls.certificate) {
        Ok(certificate) => certificate,
        Err(error) => {
            report.wrong("certificate", format!("{file} cannot be read ({error}): {RENEW}"));
            return None;
        }
    };
    match hosts_of(&certificate) {
        Ok(hosts) if hosts.is_empty() => report.wrong("certificate", format!("{file} names no host: {RENEW}")),
        Ok(hosts) => report.ok("certificate", format!("{file}: for {}", hosts.join(", "))),
        Err(error) => report.wrong("certificate", format!("{file}: {error}")),
    }
    match validity_of(&certificate) {
        Ok(validity) => report.holds("certificate", validity, unix_now(), RENEW),
        Err(error) => report.wrong("certificate", format!("{file}: {error}")),
    }
    if let Some(authority) = authority
        && let Ok(validity) = validity_of(&certificate)
        && authority.check_server(&certificate, validity.until).is_err()
    {
        report.wrong(
            "certificate",
            format!("{file}: the site's authority did not issue it, and agents trust no other: {RENEW}"),
        );
    }
    Some(certificate)
}

fn check_who_comes_in(report: &mut Report, settings: &Settings) {
    let names = |names: Vec<String>| names.join(", ");
    if settings.access.open {
        report.ok("users", "open: everybody may do everything");
        return;
    }
    match settings.transformer.as_slice() {
        [] => report.none("transformers", "none: nobody may lead devices"),
        all => report.ok("transformers", names(all.iter().map(|transformer| transformer.name.to_string()).collect())),
    }
    let user = |User { name, role, .. }: &User| format!("{name} ({role})");
    match settings.user.as_slice() {
        [] => report.none("users", "nobody logs in with a password"),
        all => report.ok("users", names(all.iter().map(user).collect())),
    }
}

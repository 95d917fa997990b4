//! What can go wrong with the authority's files, and what to do about it.

use std::io;
use std::path::PathBuf;

use grid_protocol::identity::{BundleError, IdentityError, IssueError, Serial};
use grid_protocol::revocation::RevocationError;
use grid_protocol::topic::Name;

/// Why the authority did not do what it was told. What is in a private key is never told.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// There is no authority.
    #[error(
        "there is no authority in {0}: make one with grid-broker ca init --site NAME --dir {0}, or name its folder with --dir"
    )]
    NoAuthority(PathBuf),
    /// An authority that is not complete.
    #[error(
        "{key} is there, but {certificate} is not: either init was interrupted, then nobody trusts that key yet and it can \
         be deleted; or the certificate was lost, then put it back"
    )]
    Half {
        /// What is there.
        key: PathBuf,
        /// What is not.
        certificate: PathBuf,
    },
    /// The folder is another site's.
    #[error("{folder} holds the authority of the site {theirs}, not of {wanted}: name another folder with --dir")]
    OtherSite {
        /// The folder.
        folder: PathBuf,
        /// Whose it is.
        theirs: Name,
        /// Whose it should be.
        wanted: Name,
    },
    /// Something cannot be read or written.
    #[error("cannot {verb} {path}: {source}; run this as the user whom the authority's folder belongs to")]
    File {
        /// `read`, `write`, …
        verb: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Certificate and key of the authority cannot be used.
    #[error("{certificate} and {key} cannot be used: {why}; put both back from a copy")]
    Unusable {
        /// The certificate.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
        /// Why.
        why: IssueError,
    },
    /// A certificate could not be made.
    #[error(transparent)]
    Issue(IssueError),
    /// A bundle could not be written.
    #[error("the bundle could not be made: {0}")]
    Bundle(BundleError),
    /// A copy of a certificate cannot be read.
    #[error("{file} is no certificate of this site: {why}; put it back from a copy, or move it out of the folder")]
    Certificate {
        /// The copy.
        file: PathBuf,
        /// Why.
        why: IdentityError,
    },
    /// A copy of a certificate is no PEM.
    #[error("{0} is no certificate in PEM: put it back from a copy, or move it out of the folder")]
    NoPem(PathBuf),
    /// The list of revoked certificates cannot be used.
    #[error("{file} is not this authority's list of revoked certificates: {why}; put it back from a copy")]
    Revocations {
        /// The list.
        file: PathBuf,
        /// Why.
        why: RevocationError,
    },
    /// The list of revoked certificates would be too long.
    #[error(
        "{file} would become too long to be published: {why}. About 120 certificates can be revoked; after that make a new \
         authority in another folder and issue all certificates anew"
    )]
    TooMany {
        /// The list.
        file: PathBuf,
        /// How long.
        why: IssueError,
    },
    /// A name that is the authority's own.
    #[error("{0:?} is the name under which the authority itself speaks: choose another")]
    Reserved(Name),
    /// The name has a certificate.
    #[error(
        "{name} has a valid certificate already, {serial}: revoke it if it is lost (grid-broker ca revoke {name}), or add \
         --renew to issue another beside it"
    )]
    Taken {
        /// Whose.
        name: Name,
        /// Which.
        serial: Serial,
    },
    /// The bundle's file is there.
    #[error("{0} is there already and is not overwritten: move it away, or write elsewhere with --out")]
    Exists(PathBuf),
    /// There is no such certificate.
    #[error("no certificate in {folder} has the name or serial number {which:?}: grid-broker ca list shows all")]
    Unknown {
        /// What was asked for.
        which: String,
        /// Where it is not.
        folder: PathBuf,
    },
    /// The list cannot be shown.
    #[error("the list cannot be written as JSON: {0}")]
    Json(serde_json::Error),
}

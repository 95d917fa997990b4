//! Certificates, authorities, bundles of keys, lists of revoked certificates; names and numbers.

use std::fmt::Display;
use std::str::FromStr;
use std::sync::OnceLock;

use grid_protocol::identity::{Authority, Bundle, Identity, Serial, named_in, serial_of, validity_of};
use grid_protocol::message::{Reason, Role, Session};
use grid_protocol::revocation;
use grid_protocol::topic::Name;
use grid_protocol::units::UnixMillis;

use super::mutation::{mutated, mutated_text};
use super::source::Source;
use super::world::{sealed_anew, world};
use super::{Verdict, require};
use crate::street::{START, name};

pub fn hold(bytes: &[u8]) -> Verdict {
    let mut source = Source::new(bytes);
    match source.below(5) {
        0 => certificate(&mut source),
        1 => bundle(&mut source),
        2 => revocations(&mut source),
        3 => uri(&mut source),
        _ => names(&mut source),
    }
}

fn certificate(source: &mut Source) -> Verdict {
    let world = world();
    let mut valid: Vec<Vec<u8>> = world.people.iter().map(|person| person.certificate.clone()).collect();
    let authority = world.street.issuer.authority();
    valid.push(authority.der().to_vec());
    let der = mutated(source, &valid);
    let (named, serial, validity) = (named_in(&der), serial_of(&der), validity_of(&der));
    let Ok(identity) = authority.check(&der, START) else {
        require!(!world.people.iter().any(|person| person.certificate == der), "a certificate is not vouched for");
        // Whoever is taken for an authority is trusted, so all that counts is that nothing breaks.
        drop(Authority::from_der(&der).map(|other| other.check(&world.people[0].certificate, START)));
        return Ok(());
    };
    require!(named.is_ok_and(|named| named == identity), "it names somebody else");
    require!(serial.is_ok() && validity.is_ok(), "a certificate that holds has no serial number or validity");
    let ours = |person: &super::world::Person| named_in(&person.certificate).is_ok_and(|named| named == identity);
    require!(world.people.iter().any(ours), "a changed certificate holds: {}", identity.to_uri());
    require!(authority.check(&der, UnixMillis(0)).is_err(), "it held in 1970");
    Ok(())
}

fn bundle(source: &mut Source) -> Verdict {
    static VALID: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    let valid = VALID.get_or_init(|| {
        let made = world().street.issuer.issue_bundle(name("cp-9"), Role::Device, START).unwrap();
        vec![made.to_pem().unwrap().into_bytes()]
    });
    let Ok(read) = Bundle::read(&mutated(source, valid)) else { return Ok(()) };
    let pem = read.to_pem().map_err(|why| format!("a bundle cannot be written: {why}"))?;
    let again = Bundle::read(pem.as_bytes()).map_err(|why| format!("a bundle cannot be read again: {why}"))?;
    let same = again.certificate == read.certificate
        && again.tls_key == read.tls_key
        && again.message_key == read.message_key
        && again.authority == read.authority;
    require!(same, "a bundle reads back as another");
    Ok(())
}

fn revocations(source: &mut Source) -> Verdict {
    let world = world();
    let (site, authority) = (name("demo"), world.street.issuer.authority());
    let valid: Vec<Vec<u8>> = world.lists.iter().map(|(_, payload)| payload.clone()).collect();
    let mut payload = mutated(source, &valid);
    if source.rarely(4) {
        // By somebody who is no authority.
        let topic = revocation::topic(&site).to_string();
        payload = sealed_anew(&payload, &topic, &source.one_of(&world.people).key);
    }
    match revocation::read(&payload, &site, &authority) {
        Ok(read) => require!(world.lists.iter().any(|(list, _)| *list == read), "a changed list holds: {read:?}"),
        Err(why) => require!(!valid.contains(&payload), "a list does not hold: {why}"),
    }
    Ok(())
}

fn uri(source: &mut Source) -> Verdict {
    let valid: Vec<String> =
        world().people.iter().map(|person| named_in(&person.certificate).unwrap().to_uri()).collect();
    let text = mutated_text(source, &valid.iter().map(String::as_str).collect::<Vec<_>>());
    if let Some(identity) = Identity::from_uri(&text) {
        require!(identity.to_uri() == text, "{text:?} is written as {}", identity.to_uri());
    }
    Ok(())
}

fn names(source: &mut Source) -> Verdict {
    let text = mutated_text(source, &["cp-1", "00000000000000ff", "4a1f00c35d9e42b7810c6e5f2d3a9b04", "fuse garage"]);
    one_spelling::<Name>(&text)?;
    one_spelling::<Session>(&text)?;
    one_spelling::<Serial>(&text)?;
    if let Ok(reason) = Reason::try_from(text.clone()) {
        require!(reason.to_string() == text, "the reason {text:?} is written as {reason}");
    }
    Ok(())
}

pub fn one_spelling<T: FromStr + Display>(text: &str) -> Verdict {
    if let Ok(read) = text.parse::<T>() {
        require!(read.to_string() == text, "{text:?} is written as {read}");
    }
    Ok(())
}

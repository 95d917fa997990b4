//! The file of settings: read, and made of the example, whose comments stay in it.

use grid_broker::{Settings, Source};
use grid_protocol::identity::{Authority, validity_of};
use grid_service::setup::{BadSettings, Root};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, value};

use super::CONFIG;
use super::answers::{Answers, HOME_ASSISTANT, User};
use super::error::Failure;

/// What the package ships, commented.
const EXAMPLE: &str = include_str!("broker.example.toml");
/// The operator in the example.
const OPERATOR: &str = "anna";
/// Topics of Home Assistant.
const DISCOVERY: &str = "homeassistant/";

/// The settings that are there already, if there are any.
pub fn that_are_there(root: &Root) -> Result<Option<Settings>, Failure> {
    if root.read(CONFIG)?.is_none() {
        return Ok(None);
    }
    let settings = Source { config: Some(root.at(CONFIG)), ..Source::default() }.read();
    let settings = settings.and_then(|settings| settings.check().map(|()| settings));
    Ok(Some(settings.map_err(BadSettings::There)?))
}

/// New settings with these answers, which are checked as the broker does.
pub fn text(answers: &Answers) -> Result<(String, Settings), Failure> {
    let mut document: DocumentMut = EXAMPLE.parse().map_err(BadSettings::Example)?;
    let listen = answers.listen();
    document["site"] = value(answers.site.as_str());
    document["anchor"] = value(answers.anchor.as_str());
    for (key, address) in [("mqtt", listen.mqtt), ("mqtts", listen.mqtts), ("wss", listen.wss), ("http", listen.http)] {
        if let Some(address) = address {
            set(&mut document["listen"][key], &address.to_string());
        }
    }
    for transformer in tables(&mut document, "transformer").iter_mut() {
        set(&mut transformer["name"], answers.transformer.as_str());
    }
    let (operator, home_assistant) = (answers.operator.as_ref(), answers.home_assistant.as_ref());
    fill_users(tables(&mut document, "user"), operator, home_assistant)?;
    // What is granted to users that are not there, and what devices may say to a Home Assistant that is not, goes.
    tables(&mut document, "grant").retain(|grant| {
        let for_home_assistant = topics(grant).any(|topic| topic.starts_with(DISCOVERY));
        let to = grant.get("to").and_then(Item::as_str);
        for_home_assistant && home_assistant.is_some() && to.is_none_or(|to| to == HOME_ASSISTANT)
    });
    let text = document.to_string();
    let settings: Settings = toml::from_str(&text).map_err(BadSettings::Made)?;
    settings.check().map_err(BadSettings::Answers)?;
    Ok((text, settings))
}

fn fill_users(
    users: &mut ArrayOfTables,
    operator: Option<&User>,
    home_assistant: Option<&User>,
) -> Result<(), Failure> {
    // In the example's order.
    let stay = [(OPERATOR, operator), (HOME_ASSISTANT, home_assistant)];
    let stay: Vec<(&str, &User)> = stay.into_iter().filter_map(|(name, user)| Some((name, user?))).collect();
    let is = |table: &Table, name: &str| table.get("name").and_then(Item::as_str) == Some(name);
    users.retain(|table| stay.iter().any(|(name, _)| is(table, name)));
    for (table, (_, user)) in users.iter_mut().zip(stay) {
        set(&mut table["name"], &user.name);
        if let Some(hash) = user.hash()? {
            set(&mut table["password_hash"], hash.as_str());
        }
    }
    Ok(())
}

fn tables<'a>(document: &'a mut DocumentMut, key: &str) -> &'a mut ArrayOfTables {
    let item = document.entry(key).or_insert(Item::ArrayOfTables(ArrayOfTables::new()));
    item.as_array_of_tables_mut().unwrap_or_else(|| unreachable!("the example has these as arrays of tables"))
}

fn topics(grant: &Table) -> impl Iterator<Item = &str> {
    let arrays = ["publish", "subscribe"].into_iter().filter_map(|key| grant.get(key)?.as_array());
    arrays.flat_map(|array| array.iter().filter_map(toml_edit::Value::as_str))
}

fn set(item: &mut Item, text: &str) {
    *item = value(text);
}

/// Whether the first certificate of this PEM is one that the authority issued to a server, valid or not any more.
pub fn is_issued_by(pem: &[u8], authority: &str) -> bool {
    let read = |pem: &[u8]| CertificateDer::from_pem_slice(pem).ok();
    let (Some(certificate), Some(authority)) = (read(pem), read(authority.as_bytes())) else { return false };
    let (Ok(authority), Ok(validity)) = (Authority::from_der(&authority), validity_of(&certificate)) else {
        return false;
    };
    authority.check_server(&certificate, validity.until).is_ok()
}

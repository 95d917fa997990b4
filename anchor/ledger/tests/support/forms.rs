//! The forms in which a key could get out.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

/// So many characters of a key in base64, from any fourth one on, are too many.
const PART: usize = 20;

/// The 32 bytes of a key in PKCS #8 PEM. Before them stands what says so (RFC 8410, section 7), after them perhaps the
/// public half.
pub fn key_in_pem(pem: &str) -> [u8; 32] {
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    STANDARD.decode(&body).unwrap()[16..48].try_into().unwrap()
}

/// Parts of a key of 32 bytes: in hex, as a list, and in base64, also from within something longer.
pub fn forms(key: &[u8; 32]) -> Vec<String> {
    let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    let list = format!("{key:?}");
    let mut forms = vec![
        // Halves, as they would stand in a list that is cut or broken over lines.
        hex[..32].to_owned(),
        hex[32..].to_owned(),
        list[1..list.len() / 2].to_owned(),
        format!("{key:#?}").lines().skip(1).take(8).collect::<Vec<_>>().join("\n"),
    ];
    for before in 0..3 {
        let longer = [&[0; 2][..before], key].concat();
        for text in [STANDARD.encode(&longer), URL_SAFE_NO_PAD.encode(&longer)] {
            // The characters at both ends depend on what stands beside it.
            let own = &text[4..40];
            forms.extend((0..=own.len() - PART).step_by(4).map(|from| own[from..from + PART].to_owned()));
        }
    }
    forms
}

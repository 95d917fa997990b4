//! The page for a person who opens the log in a browser. It has no script and loads nothing.

use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::IntoResponse;
use grid_protocol::units::UnixMillis;

use super::files::CheckpointFile;
use crate::checkpoint::{Unsigned, read_unsigned};
use crate::show::date;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:46em;margin:2em auto;padding:0 1em;\
    color:#222;background:#fff}dt{color:#666}dd{margin:0 0 .6em;overflow-wrap:anywhere}\
    pre{background:#f3f3f3;padding:.8em;overflow-x:auto}\
    @media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}dt{color:#999}pre{background:#262626}a{color:#8bf}}";

/// The page about the newest checkpoint, for who asked under the name `host`.
pub fn page(
    checkpoint: &CheckpointFile,
    minimum_index: u64,
    host: &str,
    with_token: bool,
) -> impl IntoResponse + use<> {
    let about = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CACHE_CONTROL, "no-store"),
        (CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'"),
    ];
    match read_unsigned(&checkpoint.note) {
        Ok(head) => (StatusCode::OK, about, body(&head, checkpoint, minimum_index, host, with_token)),
        Err(why) => (StatusCode::INTERNAL_SERVER_ERROR, about, escape(&format!("The checkpoint is damaged: {why}"))),
    }
}

fn body(
    Unsigned { head, keys }: &Unsigned,
    checkpoint: &CheckpointFile,
    minimum_index: u64,
    host: &str,
    with_token: bool,
) -> String {
    let written = checkpoint.written.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let (origin, size, root) = (escape(&head.origin), head.size, escape(&head.root.to_string()));
    let (when, keys, host) = (date(UnixMillis(written.as_millis() as u64)), escape(&keys.join(", ")), escape(host));
    let dropped = match minimum_index {
        0 => String::new(),
        first => format!("<dt>First entry that is kept</dt><dd>{first}; older ones were dropped</dd>\n"),
    };
    let entries = if with_token { "open to who has the token" } else { "open on this machine only" };
    format!(
        "<!DOCTYPE html>
<html lang=\"en\">
<head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">
<title>{origin}</title><style>{STYLE}</style></head>
<body>
<h1>{origin}</h1>
<p>A transparency log of what the devices in a street told each other. Nobody can change or remove an entry unnoticed.</p>
<dl>
<dt>Entries</dt><dd>{size}</dd>
{dropped}<dt>Root hash</dt><dd><code>{root}</code></dd>
<dt>Signed by</dt><dd><code>{keys}</code></dd>
<dt>As of</dt><dd>{when}</dd>
</dl>
<p><a href=\"checkpoint\">checkpoint</a> · <a href=\"site.policy\">site.policy</a> · <a href=\"metrics\">metrics</a></p>
<h2>Verify it</h2>
<p>Take <code>site.policy</code> from somebody whom you trust rather than from here, and on your own machine run</p>
<pre>grid-anchor verify --log http://{host}/ --policy site.policy</pre>
<p>The log has the format of <a href=\"https://c2sp.org/tlog-tiles\">c2sp.org/tlog-tiles</a>; other programs read it too.
Checkpoint and hashes are open to all. The entries say what households draw: they are {entries}.</p>
</body>
</html>
"
    )
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c => escaped.push(c),
        }
    }
    escaped
}

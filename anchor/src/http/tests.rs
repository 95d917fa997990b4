//! What is served to whom, over a real socket.

use super::*;
use crate::checkpoint::LogKey;
use crate::entry;
use crate::journal::Standing;
use crate::store::Store;
use crate::testing::folder;
use ed25519_dalek::SigningKey;
use grid_durable::{Durable, Stop};
use grid_protocol::units::UnixMillis;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use tlog_tiles::record_hash;

const TOKEN: &str = "0123456789abcdef0123";

/// A log of which checkpoints were written at these sizes.
fn log(sizes: &[u64]) -> tempfile::TempDir {
    let folder = folder();
    grow(folder.path(), sizes);
    fs::write(folder.path().join("site.policy"), "the policy\n").unwrap();
    fs::write(folder.path().join("secret"), "secret").unwrap();
    folder
}

fn key() -> LogKey {
    LogKey::new("example.com/street", &SigningKey::from_bytes(&[9; 32])).unwrap()
}

fn grow(folder: &Path, sizes: &[u64]) {
    let (mut store, _) = Store::open(Durable::open(folder, Stop::never()).unwrap(), key()).unwrap();
    for size in sizes {
        while store.size() < *size {
            let entry = entry_at(store.size());
            store.append(Standing::Unverified, entry).unwrap();
        }
        store.checkpoint(b"{}").unwrap();
    }
}

fn entry_at(index: u64) -> Vec<u8> {
    entry::write(UnixMillis(index), "grid/demo/cp-1/set/x", format!("value {index}").as_bytes())
}

struct Server {
    serving: Serving,
    _progress: watch::Sender<Progress>,
}

async fn serve(folder: &Path, listen: &str, with_token: bool) -> Server {
    let token_file = with_token.then(|| folder.join("token"));
    if let Some(file) = &token_file {
        fs::write(file, TOKEN).unwrap();
    }
    let settings = HttpSettings { listen: listen.parse().unwrap(), token_file };
    let http = Http::bind(&settings, folder.to_owned()).await.unwrap();
    let (progress, seen) = watch::channel(Progress::default());
    Server { serving: http.serve(seen), _progress: progress }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    headers: String,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.headers.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(found, _)| *found == name).map(|(_, value)| value)
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Server {
    async fn send(&self, request: String) -> Answer {
        let port = self.serving.address().port();
        tokio::task::spawn_blocking(move || {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).unwrap();
            let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
            let headers = String::from_utf8(bytes[..end].to_vec()).unwrap();
            let status = headers[9..12].parse().unwrap();
            Answer { status, headers, body: bytes[end + 4..].to_vec() }
        })
        .await
        .unwrap()
    }

    async fn ask(&self, method: &str, path: &str, more: &str) -> Answer {
        self.send(format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{more}\r\n")).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "").await
    }
}

#[tokio::test]
async fn checkpoint_tiles_and_bundles_are_served_as_the_specification_says() {
    let folder = log(&[300]);
    let server = serve(folder.path(), "127.0.0.1:0", false).await;
    let checkpoint = server.get("/checkpoint").await;
    assert_eq!((checkpoint.status, checkpoint.header("content-type")), (200, Some(TEXT)));
    assert_eq!(checkpoint.header("cache-control"), Some("public, max-age=2"));
    assert_eq!(checkpoint.header("access-control-allow-origin"), Some("*"));
    assert_eq!(key().public().open(&checkpoint.body).unwrap().size, 300);
    let date = checkpoint.header("last-modified").unwrap();
    assert!(date.len() == 29 && date.ends_with(" GMT"), "{date}");

    for path in ["tile/0/000", "tile/0/001.p/44", "tile/1/000.p/1", "tile/entries/000", "tile/entries/001.p/44"] {
        let served = server.get(&format!("/{path}")).await;
        assert_eq!(served.status, 200, "{path}: {served:?}");
        assert_eq!(served.header("content-type"), Some("application/octet-stream"));
        assert!(served.header("cache-control").unwrap().ends_with("max-age=31536000, immutable"));
        let is_bundle = path.contains("entries");
        assert_eq!(served.header("content-encoding"), is_bundle.then_some("gzip"));
        assert_eq!(served.header("access-control-allow-origin"), (!is_bundle).then_some("*"));
        assert_eq!(served.body, fs::read(folder.path().join("log").join(path)).unwrap(), "{path}");
    }
}

#[tokio::test]
async fn a_known_checkpoint_is_not_sent_again() {
    let folder = log(&[5]);
    let server = serve(folder.path(), "127.0.0.1:0", false).await;
    let tag = server.get("/checkpoint").await.header("etag").unwrap().to_owned();
    let again = server.ask("GET", "/checkpoint", &format!("If-None-Match: \"x\", {tag}\r\n")).await;
    assert_eq!((again.status, again.body.len()), (304, 0));
    grow(folder.path(), &[6]);
    let newer = server.ask("GET", "/checkpoint", &format!("If-None-Match: {tag}\r\n")).await;
    assert_eq!(newer.status, 200);
    assert_ne!(newer.header("etag"), Some(tag.as_str()));
}

#[tokio::test]
async fn partial_tiles_of_every_earlier_checkpoint_are_served() {
    let sizes = [1, 7, 255, 256, 257, 300, 511, 513, 700];
    let folder = log(&sizes);
    let server = serve(folder.path(), "127.0.0.1:0", false).await;
    for size in sizes {
        for tile in Level::of(size).filter_map(|level| level.partial_tile(size)) {
            let served = server.get(&format!("/{}", tile.path())).await;
            assert_eq!(served.status, 200, "{} of {size}", tile.path());
            let first = tile.index * 256;
            let entries: Vec<Vec<u8>> = (first..first + u64::from(tile.width)).map(entry_at).collect();
            match tile.level {
                Level::Entries => {
                    let plain = crate::bundle::unpack(&served.body).unwrap();
                    assert_eq!(crate::bundle::entries(&plain, tile.width).unwrap(), entries);
                }
                Level::Hashes(0) => {
                    let hashes: Vec<u8> = entries.iter().flat_map(|entry| record_hash(entry).0).collect();
                    assert_eq!(served.body, hashes);
                }
                Level::Hashes(_) => {
                    let newest = fs::read(folder.path().join("log/tile/1/000.p/2")).unwrap();
                    assert_eq!(served.body, newest[..usize::from(tile.width) * 32]);
                }
            }
        }
    }
}

#[tokio::test]
async fn what_is_not_covered_dropped_or_no_tile_is_not_found() {
    let folder = log(&[600]);
    let server = serve(folder.path(), "127.0.0.1:0", false).await;
    for bundle in [0, 1] {
        for tile in crate::pruning::dropped_with(bundle) {
            fs::remove_file(folder.path().join("log").join(tile.path())).unwrap();
        }
    }
    // What a checkpoint under way has written already.
    fs::write(folder.path().join("log/tile/0/002"), [0; 8192]).unwrap();
    let cases = [
        ("/tile/0/000", "retention"),
        ("/tile/entries/001", "retention"),
        ("/tile/0/001.p/9", "retention"),
        ("/tile/entries/001.p/9", "retention"),
        ("/tile/0/002", "beyond"),
        ("/tile/entries/002.p/200", "beyond"),
        ("/tile/7/000", "beyond"),
        ("/tile/0/0", "tile/<L>/<N>"),
        ("/tile/0/%30%30%30", "tile/<L>/<N>"),
        ("/tile/0/../../../secret", "tile/<L>/<N>"),
        ("/tile/0//000", "tile/<L>/<N>"),
        ("/secret", "tile/<L>/<N>"),
        ("/../secret", "tile/<L>/<N>"),
        ("/journal", "tile/<L>/<N>"),
        ("/log.key", "tile/<L>/<N>"),
        ("/checkpoint/", "tile/<L>/<N>"),
    ];
    for (path, why) in cases {
        let answer = server.get(path).await;
        assert_eq!(answer.status, 404, "{path}: {answer:?}");
        assert!(answer.text().contains(why), "{path}: {}", answer.text());
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
    }
    assert_eq!(server.get("/tile/1/000.p/2").await.status, 200);
    assert_eq!(server.get("/tile/1/000.p/1").await.status, 200);
    assert_eq!(server.get("/tile/entries/002.p/88").await.status, 200);
}

#[tokio::test]
async fn only_get_and_head_are_answered() {
    let folder = log(&[300]);
    let server = serve(folder.path(), "127.0.0.1:0", false).await;
    for path in ["/", "/checkpoint", "/tile/0/000", "/metrics", "/elsewhere"] {
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "BREW"] {
            let answer = server.ask(method, path, "").await;
            assert_eq!((answer.status, answer.header("allow")), (405, Some("GET,HEAD")), "{method} {path}");
        }
    }
    let head = server.ask("HEAD", "/tile/0/000", "").await;
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, Some("8192"), 0));
}

#[tokio::test]
async fn entries_need_the_token_if_there_is_one() {
    let folder = log(&[300]);
    let server = serve(folder.path(), "127.0.0.1:0", true).await;
    for wrong in ["", "Authorization: Bearer 0123456789abcdef0124\r\n", "Authorization: Basic eA==\r\n"] {
        let refused = server.ask("GET", "/tile/entries/000", wrong).await;
        assert_eq!(refused.status, 401);
        assert!(refused.header("www-authenticate").unwrap().starts_with("Bearer "));
        assert!(refused.text().contains("Authorization: Bearer <token>"), "{}", refused.text());
    }
    let served = server.ask("GET", "/tile/entries/000", &format!("Authorization: Bearer {TOKEN}\r\n")).await;
    assert_eq!(served.status, 200);
    assert_eq!(served.header("cache-control"), Some(FOR_EVER_BY_READER));
    assert_eq!(server.get("/tile/0/000").await.status, 200);
    assert_eq!(server.get("/checkpoint").await.status, 200);
    // Whether an entry is there is no secret, but is not told either.
    assert_eq!(server.get("/tile/entries/999").await.status, 401);
}

#[tokio::test]
async fn without_a_token_entries_are_for_this_machine_alone() {
    let folder = log(&[300]);
    let server = serve(folder.path(), "0.0.0.0:0", false).await;
    let refused = server.get("/tile/entries/000").await;
    assert_eq!(refused.status, 403);
    assert!(refused.text().contains("http.token_file"), "{}", refused.text());
    assert_eq!(server.get("/tile/0/000").await.status, 200);

    let server = serve(folder.path(), "127.0.0.1:0", false).await;
    let under = |host: &str| format!("GET /tile/entries/000 HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    for (host, status) in [
        ("127.0.0.1", 200),
        ("127.0.0.1:8080", 200),
        ("localhost:8080", 200),
        ("[::1]:8080", 200),
        ("[::1]", 200),
        ("attacker.example:8080", 403),
        ("192.0.2.1", 403),
        ("127.0.0.1.attacker.example", 403),
    ] {
        assert_eq!(server.send(under(host)).await.status, status, "{host}");
    }
}

#[tokio::test]
async fn a_person_and_a_monitor_see_how_the_log_is() {
    let folder = log(&[600]);
    let server = serve(folder.path(), "127.0.0.1:0", false).await;
    let page = server.get("/").await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(page.header("content-security-policy").unwrap().starts_with("default-src 'none'"));
    let text = page.text();
    for said in ["<dd>600</dd>", "example.com/street", "verify --log http://localhost/", "this machine only"] {
        assert!(text.contains(said), "{said} in {text}");
    }
    assert!(!text.contains("were dropped") && !text.contains("<script"), "{text}");
    for tile in crate::pruning::dropped_with(0) {
        fs::remove_file(folder.path().join("log").join(tile.path())).unwrap();
    }
    assert!(server.get("/").await.text().contains("256; older ones were dropped"));
    let forged = server.send("GET / HTTP/1.1\r\nHost: <b>\"&\r\nConnection: close\r\n\r\n".to_owned()).await;
    assert!(!forged.text().contains("<b>"), "{}", forged.text());

    assert_eq!(server.get("/site.policy").await.text(), "the policy\n");
    let figures = server.get("/metrics").await;
    assert_eq!(figures.header("content-type"), Some(OPEN_METRICS));
    assert!(figures.text().contains("grid_anchor_minimum_index 256\n"), "{}", figures.text());
}

#[tokio::test]
async fn an_anchor_is_healthy_while_its_recorder_moves() {
    let folder = log(&[1]);
    let server = serve(folder.path(), "127.0.0.1:0", false).await;
    let ticks = async {
        loop {
            server._progress.send_replace(Progress::default());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let answer = tokio::select! { answer = server.get("/healthz") => answer, () = ticks => unreachable!() };
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok\n"));
    let Server { serving, _progress: progress } = server;
    drop(progress);
    let server = Server { serving, _progress: watch::Sender::default() };
    let answer = server.get("/healthz").await;
    assert_eq!((answer.status, answer.text().as_str()), (503, "the recorder has ended\n"));
}

#[tokio::test]
async fn a_damaged_file_is_an_error_and_not_an_absence() {
    let folder = log(&[600]);
    let server = serve(folder.path(), "127.0.0.1:0", false).await;
    fs::write(folder.path().join("log/tile/entries/001"), "rubbish").unwrap();
    fs::write(folder.path().join("log/tile/0/001"), "rubbish").unwrap();
    for path in ["/tile/entries/001.p/3", "/tile/0/001.p/3"] {
        let answer = server.get(path).await;
        assert_eq!(answer.status, 500, "{path}");
        assert!(answer.text().contains("is damaged"), "{}", answer.text());
    }
}

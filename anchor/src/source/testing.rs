//! A server for a log's folder, as small as can be. It ends with the test.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use crate::bundle;

/// How a server answers.
#[derive(Clone, Default)]
pub struct Manner {
    /// Who asks for entries must show this token.
    pub token: Option<&'static str>,
    /// Bundles are sent as what is in them.
    pub unpacks: bool,
    /// So many requests fail before the first is answered.
    pub fails_first: u64,
    /// What is sent instead of any file.
    pub instead: Option<Vec<u8>>,
}

/// A server of one folder.
pub struct Server {
    address: SocketAddr,
    ended: Arc<AtomicBool>,
    /// Every request's first line, and the authorization that came with it.
    pub requests: Arc<Mutex<Vec<(String, Option<String>)>>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts serving.
    pub fn start(folder: &Path, manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let ended = Arc::new(AtomicBool::new(false));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let thread = {
            let (folder, ended, requests) = (folder.to_owned(), ended.clone(), requests.clone());
            thread::spawn(move || serve(&listener, &folder, &manner, &ended, &requests))
        };
        Self { address, ended, requests, thread: Some(thread) }
    }

    /// Where.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

type Requests = Mutex<Vec<(String, Option<String>)>>;

fn serve(listener: &TcpListener, folder: &Path, manner: &Manner, ended: &AtomicBool, requests: &Requests) {
    let failed = AtomicU64::new(0);
    thread::scope(|scope| {
        for stream in listener.incoming() {
            if ended.load(Ordering::SeqCst) {
                return;
            }
            let Ok(stream) = stream else { continue };
            let failed = &failed;
            scope.spawn(move || answer(&stream, folder, manner, failed, requests));
        }
    });
}

fn answer(mut stream: &TcpStream, folder: &Path, manner: &Manner, failed: &AtomicU64, requests: &Requests) {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
    let Some(request) = lines.next() else { return };
    let headers: Vec<String> = lines.collect();
    let authorization = headers.iter().find_map(|header| {
        let (name, value) = header.split_once(": ")?;
        name.eq_ignore_ascii_case("authorization").then(|| value.to_owned())
    });
    requests.lock().unwrap().push((request.clone(), authorization.clone()));
    let path = request.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
    let is_private = path.starts_with("tile/entries/");
    let wanted = manner.token.filter(|_| is_private).map(|token| format!("Bearer {token}"));
    let (status, body) = if failed.fetch_add(1, Ordering::SeqCst) < manner.fails_first {
        ("503 Service Unavailable", Vec::new())
    } else if wanted.is_some() && wanted != authorization {
        ("401 Unauthorized", Vec::new())
    } else {
        match fs::read(folder.join(PathBuf::from(path))) {
            Ok(file) if is_private && manner.unpacks => ("200 OK", bundle::unpack(&file).unwrap()),
            Ok(file) => ("200 OK", file),
            Err(_) => ("404 Not Found", Vec::new()),
        }
    };
    let body = manner.instead.clone().unwrap_or(body);
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
}

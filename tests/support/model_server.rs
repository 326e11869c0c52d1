//! A server of one file that goes wrong as it is told to, request by request.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use parking_lot::Mutex;

/// What happens to a request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The connection ends after so many bytes of the body.
    Cut(usize),
    /// So many bytes of the body, then nothing for as long as the client waits.
    Stall(usize),
    /// So many bytes of the body, and the end of the connection once it is released.
    Hold(usize),
    /// The byte at this place of the file is another.
    Corrupt(usize),
    /// No more than a status line, with a header line.
    Status(&'static str, &'static str),
    /// Another body, whole.
    Page(&'static [u8]),
    /// All of it, however little is asked for.
    WithoutRanges,
    /// A part that nobody asked for.
    OtherPart,
    /// Without a word on its length, and cut after so many bytes.
    Unsized(usize),
    /// It is elsewhere.
    Redirect(String),
}

/// The head of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// As in its first line: a path or, of a proxy, a URL.
    pub target: String,
    pub range: Option<String>,
    pub if_range: Option<String>,
}

pub struct State {
    pub file: Vec<u8>,
    pub etag: Option<&'static str>,
    pub faults: VecDeque<Fault>,
    pub asked: Vec<Asked>,
    /// Ends what is held.
    pub released: bool,
}

pub struct ModelServer {
    pub address: SocketAddr,
    pub state: Arc<Mutex<State>>,
    stopping: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

impl ModelServer {
    /// Of `file`, whatever the name asked for.
    pub fn start(file: Vec<u8>, faults: impl IntoIterator<Item = Fault>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let faults = faults.into_iter().collect();
        let state = State { file, etag: Some("\"one\""), faults, asked: Vec::new(), released: false };
        let state = Arc::new(Mutex::new(state));
        let stopping = Arc::new(AtomicBool::new(false));
        let (shared, stop) = (state.clone(), stopping.clone());
        let acceptor = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::Acquire) {
                    return;
                }
                let state = shared.clone();
                std::thread::spawn(move || {
                    // A client that goes away in the middle is what is tested.
                    let _ = stream.and_then(|stream| answer(&stream, &state));
                });
            }
        });
        Self { address, state, stopping, acceptor: Some(acceptor) }
    }

    pub fn url(&self) -> String {
        format!("http://{}/models", self.address)
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.state.lock().asked.clone()
    }

    /// The ranges asked for, request by request.
    pub fn ranges(&self) -> Vec<Option<String>> {
        self.asked().into_iter().map(|asked| asked.range).collect()
    }
}

impl Drop for ModelServer {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        let _ = TcpStream::connect(self.address);
        self.acceptor.take().map(JoinHandle::join);
    }
}

fn answer(stream: &TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    let mut asked =
        Asked { target: first.split(' ').nth(1).unwrap_or_default().to_owned(), range: None, if_range: None };
    for line in lines.by_ref() {
        let line = line?;
        let Some((name, value)) = line.split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "range" => asked.range = Some(value.to_owned()),
            "if-range" => asked.if_range = Some(value.to_owned()),
            _ => {}
        }
    }
    let (fault, mut file, etag) = {
        let mut state = state.lock();
        state.asked.push(asked.clone());
        (state.faults.pop_front(), state.file.clone(), state.etag)
    };
    let mut out = stream;
    let from = asked
        .range
        .as_deref()
        .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok())
        .filter(|_| asked.if_range.is_none() || asked.if_range.as_deref() == etag);
    let etag = etag.map_or_else(String::new, |etag| format!("ETag: {etag}\r\n"));
    let total = file.len();
    let whole = |length: usize| {
        format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n{etag}Connection: close\r\n\r\n")
    };
    match &fault {
        Some(Fault::Status(status, header)) => {
            return write!(
                out,
                "HTTP/1.1 {status}\r\n{header}Content-Length: 0\r\nConnection: close\r\n\r\n"
            );
        }
        Some(Fault::Redirect(url)) => {
            return write!(
                out,
                "HTTP/1.1 302 Found\r\nLocation: {url}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
        }
        Some(Fault::Page(page)) => {
            out.write_all(whole(page.len()).as_bytes())?;
            return out.write_all(page);
        }
        Some(Fault::Unsized(length)) => {
            write!(out, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
            return out.write_all(&file[..*length]);
        }
        Some(Fault::Corrupt(place)) => file[*place] ^= 0x80,
        _ => {}
    }
    let from = match (from, &fault) {
        (None, _) | (_, Some(Fault::WithoutRanges)) => {
            out.write_all(whole(total).as_bytes())?;
            0
        }
        (Some(from), _) if from >= total => {
            return write!(
                out,
                "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Range: bytes */{total}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
        }
        (Some(from), fault) => {
            let from = if matches!(fault, Some(Fault::OtherPart)) { from - 1 } else { from };
            let head = format!(
                "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {from}-{}/{total}\r\nContent-Length: {}\r\n{etag}Connection: close\r\n\r\n",
                total - 1,
                total - from
            );
            out.write_all(head.as_bytes())?;
            from
        }
    };
    let body = &file[from..];
    match fault {
        Some(Fault::Cut(length)) => out.write_all(&body[..length.min(body.len())]),
        Some(Fault::Hold(length)) => {
            out.write_all(&body[..length.min(body.len())])?;
            while !state.lock().released {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            Ok(())
        }
        Some(Fault::Stall(length)) => {
            out.write_all(&body[..length.min(body.len())])?;
            // Until the client has had enough.
            std::io::Read::read(&mut out, &mut [0]).map(drop)
        }
        _ => out.write_all(body),
    }
}

//! HTTP/1.1 from the other side: a few blocking threads, one per connection.
//!
//! Enough for registries on loopback and in a quiet network: persistent connections, bodies of known length or
//! in chunks, and limits on everything that a client controls.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Read, Take, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

const MAX_CONNECTIONS: usize = 64;
const MAX_HEAD: u64 = 64 << 10;
/// What we read and throw away to keep a connection; beyond that, closing is cheaper.
const MAX_DRAIN: u64 = 1 << 20;
const IDLE: Duration = Duration::from_secs(60);

/// A request. Its body is read from the connection.
pub(crate) struct Incoming<'c> {
    pub(crate) method: String,
    /// Without the query, still percent-encoded.
    pub(crate) path: String,
    pub(crate) query: String,
    headers: Vec<(String, String)>,
    pub(crate) body: Body<'c>,
}

/// A request's body, whatever way it is delimited.
pub(crate) enum Body<'c> {
    Sized(Take<&'c mut BufReader<TcpStream>>),
    Chunked { reader: &'c mut BufReader<TcpStream>, left: u64, is_over: bool },
}

/// An answer.
pub(crate) struct Outgoing {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) content: Content,
}

/// What an answer consists of, and its length.
pub(crate) enum Content {
    Bytes(Vec<u8>),
    /// From the file's position on; goes from disk to network inside the kernel.
    File(File, u64),
    Stream(Box<dyn Read + Send>, u64),
}

/// Answers a request, or speaks to the connection itself, which is then closed.
pub(crate) type Handler =
    dyn Fn(&mut Incoming<'_>, &mut TcpStream) -> Option<Outgoing> + Send + Sync;

/// A server that runs until it is dropped.
pub(crate) struct Running {
    address: SocketAddr,
    stopped: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Incoming<'_> {
    /// The first header of this name, which is lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// A parameter of the query, decoded.
    pub(crate) fn parameter(&self, name: &str) -> Option<String> {
        let mut pairs = url::form_urlencoded::parse(self.query.as_bytes());
        pairs.find(|(known, _)| known == name).map(|(_, value)| value.into_owned())
    }
}

impl Outgoing {
    pub(crate) fn new(status: u16, bytes: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), content: Content::Bytes(bytes.into()) }
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn length(&self) -> u64 {
        match &self.content {
            Content::Bytes(bytes) => u64::try_from(bytes.len()).unwrap_or(u64::MAX),
            Content::File(_, length) | Content::Stream(_, length) => *length,
        }
    }

    /// The status line and headers.
    pub(crate) fn head(&self, keep_alive: bool) -> String {
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        for (name, value) in &self.headers {
            // Values may quote what a client sent.
            let value: String = value.chars().filter(|c| !c.is_control()).collect();
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let has_length =
            self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        if !has_length && self.status != 204 {
            head.push_str(&format!("Content-Length: {}\r\n", self.length()));
        }
        head.push_str(if keep_alive { "\r\n" } else { "Connection: close\r\n\r\n" });
        head
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        401 => "Unauthorized",
        404 => "Not Found",
        405 => "Method Not Allowed",
        416 => "Range Not Satisfiable",
        _ => "Status",
    }
}

impl Running {
    /// Starts answering on a thread per connection.
    pub(crate) fn start(listener: TcpListener, handler: Arc<Handler>) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let stopped = Arc::new(AtomicBool::new(false));
        let flag = stopped.clone();
        let thread = thread::Builder::new()
            .name("server".to_owned())
            .spawn(move || accept(&listener, &handler, &flag))?;
        Ok(Self { address, stopped, thread: Some(thread) })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until the server ends, which it does when it cannot accept connections any more.
    pub(crate) fn wait(mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Wakes the thread from accept(2).
            let woken = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
            if woken.is_ok() {
                let _ = thread.join();
            }
        }
    }
}

fn accept(listener: &TcpListener, handler: &Arc<Handler>, stopped: &AtomicBool) {
    let connections = Arc::new(AtomicUsize::new(0));
    for connection in listener.incoming() {
        if stopped.load(Ordering::Relaxed) {
            return;
        }
        let connection = match connection {
            Ok(connection) => connection,
            Err(error) => {
                // Out of descriptors, most likely: connections end, and then there are some again.
                log::warn!("cannot accept a connection: {error}");
                thread::sleep(Duration::from_millis(100));
                continue;
            }
        };
        if connections.fetch_add(1, Ordering::Relaxed) >= MAX_CONNECTIONS {
            connections.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let (handler, counter) = (handler.clone(), connections.clone());
        let spawned = thread::Builder::new().name("connection".to_owned()).spawn(move || {
            if let Err(error) = converse(connection, &*handler) {
                log::debug!("connection: {error}");
            }
            counter.fetch_sub(1, Ordering::Relaxed);
        });
        if spawned.is_err() {
            connections.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn converse(connection: TcpStream, handler: &Handler) -> io::Result<()> {
    connection.set_read_timeout(Some(IDLE))?;
    connection.set_write_timeout(Some(IDLE))?;
    connection.set_nodelay(true)?;
    let mut writer = connection.try_clone()?;
    let mut reader = BufReader::with_capacity(64 << 10, connection);
    while let Some(head) = read_head(&mut reader)? {
        let wants_close = head.header("connection").is_some_and(|it| it.contains("close"));
        if head.header("expect").is_some_and(|it| it.starts_with("100")) {
            writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let Head { method, path, query, headers } = head;
        let body = body(&headers, &mut reader);
        let is_head = method == "HEAD";
        let mut incoming = Incoming { method, path, query, headers, body };
        let Some(answer) = handler(&mut incoming, &mut writer) else { return Ok(()) };
        let drained = drain(&mut incoming.body)?;
        let keep_alive = drained && !wants_close;
        send(&mut writer, answer, is_head, keep_alive)?;
        if !keep_alive {
            return Ok(());
        }
    }
    Ok(())
}

struct Head {
    method: String,
    path: String,
    query: String,
    headers: Vec<(String, String)>,
}

impl Head {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Reads up to the empty line; `None` when the client has gone.
fn read_head(reader: &mut BufReader<TcpStream>) -> io::Result<Option<Head>> {
    let mut limited = reader.take(MAX_HEAD);
    let Some(first) = line(&mut limited, None)? else { return Ok(None) };
    // From here on somebody must keep talking: a byte a minute is no conversation.
    let deadline = Instant::now() + IDLE;
    let mut headers = Vec::new();
    loop {
        let text = line(&mut limited, Some(deadline))?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if text.is_empty() {
            break;
        }
        let (name, value) = text.split_once(':').ok_or_else(malformed)?;
        headers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut words = first.split(' ');
    let (Some(method), Some(target), Some("HTTP/1.1" | "HTTP/1.0")) =
        (words.next(), words.next(), words.next())
    else {
        return Err(malformed());
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    Ok(Some(Head { method: method.into(), path: path.into(), query: query.into(), headers }))
}

fn line(reader: &mut impl BufRead, deadline: Option<Instant>) -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    loop {
        if deadline.is_some_and(|deadline| Instant::now() > deadline) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let available = reader.fill_buf()?;
        if available.is_empty() {
            return if bytes.is_empty() { Ok(None) } else { Err(malformed()) };
        }
        let end = available.iter().position(|byte| *byte == b'\n');
        let length = end.map_or(available.len(), |end| end + 1);
        bytes.extend(available.iter().take(length));
        reader.consume(length);
        if end.is_some() {
            break;
        }
    }
    let text = String::from_utf8(bytes).map_err(|_| malformed())?;
    Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "that is no HTTP request")
}

fn body<'c>(headers: &[(String, String)], reader: &'c mut BufReader<TcpStream>) -> Body<'c> {
    let header = |name: &str| headers.iter().find(|(known, _)| known == name).map(|(_, it)| it);
    if header("transfer-encoding").is_some_and(|it| it.eq_ignore_ascii_case("chunked")) {
        return Body::Chunked { reader, left: 0, is_over: false };
    }
    let length = header("content-length").and_then(|it| it.parse().ok()).unwrap_or(0);
    Body::Sized(reader.take(length))
}

impl Read for Body<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Sized(reader) => reader.read(buffer),
            Self::Chunked { is_over: true, .. } => Ok(0),
            Self::Chunked { reader, left, is_over } => {
                if *left == 0 {
                    *left = chunk_size(&mut **reader)?;
                    if *left == 0 {
                        *is_over = true;
                        // Trailers, up to the empty line.
                        while line(&mut (&mut **reader).take(MAX_HEAD), None)?
                            .is_some_and(|text| !text.is_empty())
                        {}
                        return Ok(0);
                    }
                }
                let count = reader.take(*left).read(buffer)?;
                *left -= u64::try_from(count).unwrap_or_default();
                if count == 0 && !buffer.is_empty() {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                if *left == 0 {
                    line(&mut (&mut **reader).take(2), None)?;
                }
                Ok(count)
            }
        }
    }
}

fn chunk_size(reader: &mut impl BufRead) -> io::Result<u64> {
    let text = line(&mut reader.take(1024), None)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let digits = text.split(';').next().unwrap_or_default().trim();
    u64::from_str_radix(digits, 16).map_err(|_| malformed())
}

/// Reads what the handler left; `false` if that is too much.
fn drain(body: &mut Body<'_>) -> io::Result<bool> {
    let drained = io::copy(&mut body.take(MAX_DRAIN), &mut io::sink())?;
    Ok(drained < MAX_DRAIN)
}

fn send(
    connection: &mut TcpStream,
    answer: Outgoing,
    is_head: bool,
    keep_alive: bool,
) -> io::Result<()> {
    let head = answer.head(keep_alive);
    if is_head || answer.status == 204 {
        return connection.write_all(head.as_bytes());
    }
    match answer.content {
        Content::Bytes(bytes) => {
            let mut buffered = BufWriter::new(connection);
            buffered.write_all(head.as_bytes())?;
            buffered.write_all(&bytes)?;
            buffered.flush()
        }
        Content::File(file, length) => {
            connection.write_all(head.as_bytes())?;
            exactly(io::copy(&mut file.take(length), connection)?, length)
        }
        Content::Stream(reader, length) => {
            connection.write_all(head.as_bytes())?;
            let mut buffered = BufReader::with_capacity(256 << 10, reader.take(length));
            exactly(io::copy(&mut buffered, connection)?, length)
        }
    }
}

/// A body that is too short must end the connection, or the next answer would be taken for its rest.
fn exactly(sent: u64, length: u64) -> io::Result<()> {
    if sent == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

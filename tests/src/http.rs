//! A small blocking HTTP client over TCP and Unix sockets: it sends what a scenario wants, also what
//! no proper client would send, and reads what comes.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use crate::wait::PATIENCE;

/// Where a server listens.
#[derive(Clone, Debug)]
pub enum Place {
    /// TCP.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The body; empty for a stream that has not been read yet.
    pub body: Vec<u8>,
}

/// One connection.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    buffer: Vec<u8>,
    is_chunked: bool,
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Place {
    /// A new connection, with [`PATIENCE`] for each read and write.
    ///
    /// # Errors
    ///
    /// Those of connect(2).
    pub fn try_connect(&self) -> io::Result<Connection> {
        let stream = match self {
            Self::Tcp(address) => {
                let stream = TcpStream::connect(address)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Stream::Tcp(stream)
            }
            Self::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Stream::Unix(stream)
            }
        };
        Ok(Connection { stream, buffer: Vec::new(), is_chunked: false })
    }

    /// As [`Place::try_connect`].
    ///
    /// # Panics
    ///
    /// When nobody listens.
    #[track_caller]
    pub fn connect(&self) -> Connection {
        self.try_connect().expect("somebody listens")
    }

    /// One GET on a connection of its own.
    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.request("GET", path, &[], None)
    }

    /// One POST with a JSON body on a connection of its own.
    #[track_caller]
    pub fn post(&self, path: &str, body: &str) -> Answer {
        self.request("POST", path, &[], Some(body.as_bytes()))
    }

    /// As [`Place::post`], of a server that may go at any moment: `None` if nobody is there, or the
    /// answer breaks off.
    pub fn try_post(&self, path: &str, body: &str) -> Option<Answer> {
        let mut connection = self.try_connect().ok()?;
        let (length, body) = (body.len(), body.as_bytes());
        let head = format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}");
        connection.send(&[head.as_bytes(), b"\r\n\r\n", body].concat()).ok()?;
        connection.answer()
    }

    /// One request on a connection of its own.
    #[track_caller]
    pub fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Answer {
        let mut connection = self.connect();
        connection.ask(method, path, headers, body);
        connection.answer().expect("the server answers")
    }

    /// Opens a stream: the answer's head is read, its lines are not.
    #[track_caller]
    pub fn follow(&self, path: &str, accept: &str) -> Connection {
        let mut connection = self.connect();
        connection.ask("GET", path, &[("accept", accept)], None);
        let head = connection.head().expect("the server answers");
        assert_eq!(head.status, 200, "{head:?}");
        connection
    }
}

impl Answer {
    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(it, _)| it == name).map(|(_, value)| &**value)
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The code of an error's body; empty if it is none.
    pub fn code(&self) -> String {
        let json: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        json["error"]["code"].as_str().unwrap_or_default().to_owned()
    }
}

impl Connection {
    /// Sends a proper request. `Host` is that of this host unless `headers` has one.
    #[track_caller]
    pub fn ask(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&[u8]>) {
        let mut head = format!("{method} {path} HTTP/1.1\r\n");
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head.push_str("host: 127.0.0.1\r\n");
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(body) = body {
            head.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(body.unwrap_or_default());
        self.send(&bytes).expect("the server takes a request");
    }

    /// Sends these bytes.
    ///
    /// # Errors
    ///
    /// When the server has closed.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.stream {
            Stream::Tcp(stream) => stream.write_all(bytes),
            Stream::Unix(stream) => stream.write_all(bytes),
        }
    }

    /// Says that nothing more comes.
    pub fn finish(&self) {
        let _closed_already = match &self.stream {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
        };
    }

    /// How long each read may take from now on.
    pub fn set_patience(&self, patience: Duration) {
        match &self.stream {
            Stream::Tcp(stream) => stream.set_read_timeout(Some(patience)),
            Stream::Unix(stream) => stream.set_read_timeout(Some(patience)),
        }
        .expect("invariant: a positive time");
    }

    /// The next answer with its body; `None` when the server closed before one was whole.
    pub fn answer(&mut self) -> Option<Answer> {
        let mut answer = self.head()?;
        if self.is_chunked {
            while let Some(chunk) = self.chunk() {
                answer.body.extend(chunk);
            }
        } else if let Some(length) = answer.header("content-length") {
            let length = length.parse().expect("a length is a number");
            answer.body = self.take(length)?;
        }
        Some(answer)
    }

    /// The head of the next answer.
    pub fn head(&mut self) -> Option<Answer> {
        let head = self.until(b"\r\n\r\n")?;
        let head = String::from_utf8(head).expect("a head is text");
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
        let headers: Vec<_> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
            .collect();
        self.is_chunked = headers.iter().any(|(name, value)| {
            name == "transfer-encoding" && value.eq_ignore_ascii_case("chunked")
        });
        Some(Answer { status: status.expect("a head has a status"), headers, body: Vec::new() })
    }

    /// The next chunk of a stream; `None` at its end.
    pub fn chunk(&mut self) -> Option<Vec<u8>> {
        let size = self.until(b"\r\n")?;
        let size = std::str::from_utf8(&size).ok()?.trim_end();
        let size = usize::from_str_radix(size, 16).ok()?;
        let mut chunk = self.take(size + 2)?;
        chunk.truncate(size);
        (size > 0).then_some(chunk)
    }

    /// Everything until the server closes, or the patience is over.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.fill().is_some() {}
        std::mem::take(&mut self.buffer)
    }

    /// Whether the server closes within `patience`; what comes before is dropped.
    pub fn is_closed_within(&mut self, patience: Duration) -> bool {
        self.set_patience(patience);
        loop {
            match self.read() {
                Ok(0) => return true,
                Ok(_) => self.buffer.clear(),
                Err(error) => {
                    return !matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                    );
                }
            }
        }
    }

    fn take(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < length {
            self.fill()?;
        }
        Some(self.buffer.drain(..length).collect())
    }

    fn until(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self.buffer.windows(end.len()).position(|it| it == end) {
                return Some(self.buffer.drain(..at + end.len()).collect());
            }
            self.fill()?;
        }
    }

    /// More bytes; `None` at the end.
    fn fill(&mut self) -> Option<()> {
        self.read().ok().filter(|count| *count > 0).map(|_count| ())
    }

    fn read(&mut self) -> io::Result<usize> {
        let mut bytes = [0; 16 << 10];
        let count = match &mut self.stream {
            Stream::Tcp(stream) => stream.read(&mut bytes),
            Stream::Unix(stream) => stream.read(&mut bytes),
        }?;
        self.buffer.extend_from_slice(&bytes[..count]);
        Ok(count)
    }
}

//! EDGE: the other side: how the commands ask the daemon.

mod fault;

use std::{net::SocketAddr, path::PathBuf};

use axum::{
    body::Body,
    http::{Method, Request, StatusCode, header},
};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    task::JoinSet,
};

pub use self::fault::{Blame, ClientError};
use super::error::ErrorBody;

/// Longest answer that is read, bytes: a page of 10,000 sockets has some megabytes.
const LONGEST: usize = 256 << 20;

/// Where the daemon listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// The Unix socket: reading and writing.
    Unix(PathBuf),
    /// Loopback TCP: reading.
    Tcp(SocketAddr),
}

/// Asks one daemon; each question has a connection of its own.
#[derive(Clone, Debug)]
pub struct Client {
    address: Address,
}

/// An answer that has no end yet.
#[derive(Debug)]
pub struct Lines {
    body: Incoming,
    rest: Vec<u8>,
    /// Drives the connection while this lives.
    _connection: JoinSet<()>,
}

impl Client {
    /// A client of the daemon at `address`. Nothing is connected yet.
    pub fn new(address: Address) -> Self {
        Self { address }
    }

    /// Asks, and reads the answer.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    ///
    /// # Cancel safety
    ///
    /// The daemon ends a change that it has begun.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.read(self.ask(Method::GET, path, Body::empty()).await?).await
    }

    /// Asks for a change, and reads the answer.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    ///
    /// # Cancel safety
    ///
    /// As [`Client::get`].
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, ClientError> {
        let body = match body {
            None => Body::empty(),
            Some(value) => {
                let text = serde_json::to_vec(value).map_err(|_| ClientError::NotUnderstood)?;
                Body::from(text)
            }
        };
        self.read(self.ask(Method::POST, path, body).await?).await
    }

    /// Removes what is at `path`.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    ///
    /// # Cancel safety
    ///
    /// As [`Client::get`].
    pub async fn delete(&self, path: &str) -> Result<(), ClientError> {
        self.ask(Method::DELETE, path, Body::empty()).await.map(|_answer| ())
    }

    /// Follows a stream, line by line.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing is changed by listening.
    pub async fn follow(&self, path: &str) -> Result<Lines, ClientError> {
        let (body, connection) = self.ask(Method::GET, path, Body::empty()).await?;
        Ok(Lines { body, rest: Vec::new(), _connection: connection })
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Body,
    ) -> Result<(Incoming, JoinSet<()>), ClientError> {
        let unreachable = |source| ClientError::unreachable(&self.address, source);
        match &self.address {
            Address::Unix(socket) => {
                let stream = UnixStream::connect(socket).await.map_err(unreachable)?;
                self.send(stream, "localhost", method, path, body).await
            }
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address).await.map_err(unreachable)?;
                self.send(stream, &address.to_string(), method, path, body).await
            }
        }
    }

    async fn send(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        host: &str,
        method: Method,
        path: &str,
        body: Body,
    ) -> Result<(Incoming, JoinSet<()>), ClientError> {
        let broken = |source| ClientError::Broken { address: self.address.clone(), source };
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // Its errors reach whoever waits for the answer.
            let _over = connection.await;
        });
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, host)
            .header(header::CONTENT_TYPE, "application/json")
            .body(body)
            .map_err(|_| ClientError::NotUnderstood)?;
        let answer = sender.send_request(request).await.map_err(broken)?;
        let status = answer.status();
        if status.is_success() {
            return Ok((answer.into_body(), driver));
        }
        let body = self.collect(answer.into_body()).await?;
        Err(self.refusal(status, &body))
    }

    fn refusal(&self, status: StatusCode, body: &[u8]) -> ClientError {
        let address = self.address.clone();
        match serde_json::from_slice::<ErrorBody>(body) {
            Ok(ErrorBody { error }) => {
                let (code, message) = (error.code, error.message);
                ClientError::Refused { address, status: status.as_u16(), code, message }
            }
            Err(_) => ClientError::NotOurs { address, status: status.as_u16() },
        }
    }

    async fn read<T: DeserializeOwned>(
        &self,
        (body, _connection): (Incoming, JoinSet<()>),
    ) -> Result<T, ClientError> {
        let body = self.collect(body).await?;
        serde_json::from_slice(&body).map_err(|_| ClientError::NotUnderstood)
    }

    async fn collect(&self, mut body: Incoming) -> Result<Vec<u8>, ClientError> {
        let mut whole = Vec::new();
        while let Some(part) = data(&mut body).await {
            let broken = |source| ClientError::Broken { address: self.address.clone(), source };
            whole.extend_from_slice(&part.map_err(broken)?);
            if whole.len() > LONGEST {
                return Err(ClientError::NotUnderstood);
            }
        }
        Ok(whole)
    }
}

impl Lines {
    /// The next line without its end; `None` when the daemon has ended the stream.
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing is lost.
    pub async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let mut line: Vec<u8> = self.rest.drain(..=end).collect();
                line.pop();
                return Some(line);
            }
            match data(&mut self.body).await {
                Some(Ok(part)) if self.rest.len() + part.len() <= LONGEST => {
                    self.rest.extend_from_slice(&part);
                }
                _ => return None,
            }
        }
    }
}

/// The next piece of `body`; `None` at its end.
async fn data(body: &mut Incoming) -> Option<hyper::Result<Bytes>> {
    loop {
        match body.frame().await? {
            // Trailers are of no use here.
            Ok(frame) => match frame.into_data() {
                Ok(data) => return Some(Ok(data)),
                Err(_trailers) => {}
            },
            Err(error) => return Some(Err(error)),
        }
    }
}

/// `text` as one segment of a path (RFC 3986 section 2.3: what is unreserved stays).
pub fn segment(text: &str) -> String {
    let mut segment = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            segment.push(char::from(byte));
        } else {
            segment.push_str(&format!("%{byte:02X}"));
        }
    }
    // A client must not take a name for a way (RFC 3986 section 5.2.4).
    if matches!(&*segment, "." | "..") { segment.replace('.', "%2E") } else { segment }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_one_segment() {
        let cases = [
            ("press-17", "press-17"),
            ("a/b", "a%2Fb"),
            ("ö ?#%", "%C3%B6%20%3F%23%25"),
            ("..", "%2E%2E"),
            ("...", "..."),
        ];
        for (name, expected) in cases {
            assert_eq!(segment(name), expected);
        }
    }
}

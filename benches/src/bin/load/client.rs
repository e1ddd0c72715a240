//! A connection that speaks just enough HTTP/1.1 (RFC 9112) to cost next to nothing: keep-alive,
//! answers with a Content-Length. Anything else ends the run.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// More than any answer of a page of 20 contacts.
const MOST_BYTES: usize = 4 << 20;

/// A request's bytes, ready to be sent.
#[derive(Default)]
pub(crate) struct Request(Vec<u8>);

impl Request {
    /// Makes this the request `method path`, with a JSON body unless it is empty.
    pub(crate) fn set(&mut self, method: &str, path: &str, token: &str, body: &str) {
        self.0.clear();
        let mut push = |part: &str| self.0.extend_from_slice(part.as_bytes());
        for part in [method, " ", path, " HTTP/1.1\r\nhost: localhost\r\n"] {
            push(part);
        }
        if !token.is_empty() {
            for part in ["authorization: Bearer ", token, "\r\n"] {
                push(part);
            }
        }
        if !body.is_empty() {
            let length = body.len().to_string();
            for part in [
                "content-type: application/json\r\ncontent-length: ",
                &length,
                "\r\n",
            ] {
                push(part);
            }
        }
        push("\r\n");
        push(body);
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply<'c> {
    pub(crate) status: u16,
    pub(crate) body: &'c [u8],
}

impl Reply<'_> {
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body of a 2xx as JSON.
    pub(crate) fn json(&self) -> Result<serde_json::Value> {
        if !self.is_success() {
            bail!("{self}");
        }
        Ok(serde_json::from_slice(self.body)?)
    }
}

impl std::fmt::Display for Reply<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.status, String::from_utf8_lossy(self.body))
    }
}

/// A kept-alive connection with one request at a time.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address)
            .await
            .context("the server is not reachable")?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: Vec::with_capacity(16 << 10),
        })
    }

    /// Sends a request and reads its answer.
    pub(crate) async fn exchange(&mut self, request: &Request) -> Result<Reply<'_>> {
        self.stream.write_all(&request.0).await?;
        self.buffer.clear();
        let (head, end) = loop {
            self.read().await?;
            if let Some(head) = Head::find(&self.buffer)? {
                break (head, head.length + head.body);
            }
        };
        while self.buffer.len() < end {
            self.read().await?;
        }
        if self.buffer.len() > end {
            bail!("the server sent more than its answer");
        }
        Ok(Reply {
            status: head.status,
            body: &self.buffer[head.length..],
        })
    }

    async fn read(&mut self) -> Result<()> {
        if self.buffer.len() > MOST_BYTES {
            bail!("the server's answer is too long");
        }
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => bail!("the server closed a connection in the middle of an answer"),
            _ => Ok(()),
        }
    }
}

/// The head of an answer: its status, its own length, and the length of the body behind it.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Head {
    status: u16,
    length: usize,
    body: usize,
}

impl Head {
    /// The head at the start of `bytes`, once all of it is there.
    fn find(bytes: &[u8]) -> Result<Option<Self>> {
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
            return Ok(None);
        };
        let text = std::str::from_utf8(&bytes[..end])?;
        let mut lines = text.split("\r\n");
        let status = lines
            .next()
            .and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok())
            .context("the server does not answer in HTTP/1.1")?;
        let mut body = None;
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            if name.eq_ignore_ascii_case("content-length") {
                body = Some(value.trim().parse()?);
            }
            if name.eq_ignore_ascii_case("connection") && value.trim().eq_ignore_ascii_case("close")
            {
                bail!("the server closes the connection after an answer of status {status}");
            }
        }
        let body = match body {
            Some(body) => body,
            None if status == 204 => 0,
            None => bail!("an answer of status {status} has no Content-Length"),
        };
        Ok(Some(Self {
            status,
            length: end + 4,
            body,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_found_once_it_is_whole() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\netag: \"1\"\r\n\r\n{}";
        let head = Head {
            status: 200,
            length: answer.len() - 2,
            body: 2,
        };
        assert_eq!(Head::find(answer).unwrap(), Some(head));
        assert_eq!(Head::find(&answer[..answer.len() - 4]).unwrap(), None);
        let empty = Head::find(b"HTTP/1.1 204 No Content\r\nx: y\r\n\r\n").unwrap();
        assert_eq!(empty.map(|head| head.body), Some(0));
    }

    #[test]
    fn an_answer_whose_end_is_unknown_is_refused() {
        for odd in [
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            "HTTP/1.1 503 Busy\r\ncontent-length: 0\r\nConnection: close\r\n\r\n",
            "HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n",
            "SSH-2.0\r\n\r\n",
        ] {
            assert!(Head::find(odd.as_bytes()).is_err(), "{odd}");
        }
    }

    #[test]
    fn a_request_has_a_body_or_none() {
        let mut request = Request::default();
        request.set("POST", "/a", "t", "{}");
        request.set("GET", "/b", "", "");
        assert_eq!(request.0, b"GET /b HTTP/1.1\r\nhost: localhost\r\n\r\n");
    }
}

//! HTTP over the control socket: one connection for each request, so that a pager that stops reading holds no
//! place at the daemon.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use selvedge::control::api;

/// For a whole exchange. The daemon itself answers, or says that it is busy, within 5 s.
const DEADLINE: Duration = Duration::from_secs(8);
/// The daemon's own bound is 8 MiB.
const ANSWER_BYTES: usize = 16 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// Nobody could be asked.
    #[error("cannot reach the daemon at {}: {}{}", socket.display(), plain(source), hint(source))]
    Unreachable { socket: PathBuf, source: io::Error },
    /// Asked, but what came back is not an answer.
    #[error("no answer from the daemon at {}: {reason}", socket.display())]
    NoAnswer { socket: PathBuf, reason: String },
    /// The daemon's word.
    #[error("{}: {}", .0.code, .0.message)]
    Refused(api::Error),
}

/// The kernel's words without the number that `io::Error` adds.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error").map_or(text.clone(), |(words, _)| words.to_owned())
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => "; is selvedge running?",
        io::ErrorKind::PermissionDenied => "; the socket is for root and the daemon's group: try sudo",
        _ => "",
    }
}

/// Knows where the daemon is.
#[derive(Debug)]
pub(crate) struct Client {
    socket: PathBuf,
}

impl Client {
    pub(crate) fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.ask(Method::GET, path).await
    }

    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.ask(Method::POST, path).await
    }

    pub(crate) fn no_answer(&self, reason: impl ToString) -> ClientError {
        ClientError::NoAnswer { socket: self.socket.clone(), reason: reason.to_string() }
    }

    async fn ask<T: DeserializeOwned>(&self, method: Method, path: &str) -> Result<T, ClientError> {
        let (status, body) = tokio::time::timeout(DEADLINE, self.exchange(method, path))
            .await
            .map_err(|_| self.no_answer(format!("nothing within {} s", DEADLINE.as_secs())))??;
        if status.is_success() {
            serde_json::from_slice(&body)
                .map_err(|error| self.no_answer(format!("not what this version of bgpctl expects: {error}")))
        } else {
            let refusal = serde_json::from_slice(&body)
                .map_err(|_| self.no_answer(format!("status {status} without an explanation")))?;
            Err(ClientError::Refused(refusal))
        }
    }

    async fn exchange(&self, method: Method, path: &str) -> Result<(StatusCode, Bytes), ClientError> {
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|source| ClientError::Unreachable { socket: self.socket.clone(), source })?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.no_answer(error))?;
        // Ends when `sender` and the answer are dropped; what goes wrong in it shows in the answer.
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "selvedge")
            .body(Empty::<Bytes>::new())
            .map_err(|error| self.no_answer(error))?;
        let answer = sender.send_request(request).await.map_err(|error| self.no_answer(error))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES)
            .collect()
            .await
            .map_err(|error| self.no_answer(error))?;
        Ok((status, body.to_bytes()))
    }
}

/// A word as one segment of a path, or as a value in a query (RFC 3986 section 2.3).
pub(crate) fn encode(word: &str) -> String {
    word.bytes().fold(String::with_capacity(word.len()), |mut encoded, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_encoded_byte_by_byte() {
        assert_eq!(encode("eth0.100"), "eth0.100");
        assert_eq!(encode("fe80::1%eth0"), "fe80%3A%3A1%25eth0");
        assert_eq!(encode("a/../b?c#d é"), "a%2F..%2Fb%3Fc%23d%20%C3%A9");
    }

    #[test]
    fn an_unreachable_daemon_is_one_line_with_a_hint() {
        let line = |number| {
            let source = io::Error::from_raw_os_error(number);
            ClientError::Unreachable { socket: "/run/x.sock".into(), source }.to_string()
        };
        assert_eq!(
            line(libc::ENOENT),
            "cannot reach the daemon at /run/x.sock: No such file or directory; is selvedge running?"
        );
        assert_eq!(
            line(libc::ECONNREFUSED),
            "cannot reach the daemon at /run/x.sock: Connection refused; is selvedge running?"
        );
        assert_eq!(
            line(libc::EACCES),
            "cannot reach the daemon at /run/x.sock: Permission denied; the socket is for root and the daemon's group: try sudo"
        );
    }
}

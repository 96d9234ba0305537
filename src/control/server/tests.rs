//! The server over a real socket, spoken to in plain HTTP.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener as StdListener;
use std::path::PathBuf;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::control::{PageQuery, ReloadOrder, Selector, ServiceSelector, ServicesQuery, TableQuery, api};

/// Ends a test that hangs; nothing here takes a tenth of it.
const PATIENCE: Duration = Duration::from_secs(20);

/// A directory that goes away with the test.
struct TestDir(PathBuf);

impl TestDir {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("selvedge-control-{test}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("control.sock")
    }
}

impl Drop for TestDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A server with the receiving end of its requests.
struct Running {
    directory: TestDir,
    requests: mpsc::Receiver<Request>,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<io::Result<()>>,
}

impl Running {
    fn start(test: &str, limits: Limits) -> Self {
        let directory = TestDir::new(test);
        let server = Server { limits, ..Server::bind(&directory.socket()).unwrap() };
        let (sender, requests) = mpsc::channel(REQUEST_QUEUE);
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(server.serve(sender, async {
            let _ = stopped.await;
        }));
        Self { directory, requests, stop, serving }
    }

    async fn connect(&self) -> UnixStream {
        UnixStream::connect(self.directory.socket()).await.unwrap()
    }

    /// Sends the request, and answers it as the agent with `answer`.
    async fn ask(&mut self, request: &str, answer: impl FnOnce(Request)) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        answer(self.requests.recv().await.unwrap());
        read(&mut stream).await
    }

    /// Sends a request that does not reach the agent.
    async fn refused(&self, request: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        read(&mut stream).await
    }
}

async fn read(stream: &mut UnixStream) -> String {
    let mut answer = Vec::new();
    // A server that closes with our bytes unread resets the connection, after its answer.
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("server hangs");
    String::from_utf8(answer).unwrap()
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
}

fn post(path: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
}

/// Status line and error of an answer.
fn error(answer: &str) -> (&str, api::Error) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    let status = head.lines().next().unwrap();
    (status.trim_start_matches("HTTP/1.1 "), serde_json::from_str(body).unwrap())
}

fn config(toml: &str) -> api::Config {
    api::Config { path: "/x.toml".to_owned(), toml: toml.to_owned() }
}

fn answer_config(request: Request, toml: &str) {
    match request {
        Request::Config(reply) => reply.send(Ok(config(toml))).unwrap(),
        other => panic!("asked for {other:?}"),
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[tokio::test]
async fn probes_are_told_by_the_status_whether_the_node_is_ready() {
    let mut running = Running::start("readyz", Limits::default());
    for (ready, stage, status) in [
        (true, api::ReadinessStage::Doubtful, "200 OK"),
        (false, api::ReadinessStage::Isolated, "503 Service Unavailable"),
    ] {
        let (reason, message) = ("NoUplink".to_owned(), "tor1 is down".to_owned());
        let readiness = api::Readiness { ready, stage, reason, message };
        let text = format!("{}\n", readiness.line());
        let answer = |request| match request {
            Request::Readiness(reply) => reply.send(Ok(readiness)).unwrap(),
            other => panic!("asked for {other:?}"),
        };
        let answer = running.ask(&get("/readyz"), answer).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{answer}");
        assert!(answer.contains("text/plain") && answer.ends_with(&text), "{answer}");
    }
}

#[test]
fn the_socket_is_for_its_owner_and_its_directory_is_made() {
    let directory = TestDir::new("modes");
    let path = directory.0.join("a/b/control.sock");
    let server = Server::bind(&path).unwrap();
    assert_eq!(mode(&path), 0o660);
    assert_eq!(mode(path.parent().unwrap()), 0o750);
    drop(server);
    assert!(!path.exists());
}

#[test]
fn a_directory_that_is_there_keeps_its_mode() {
    let directory = TestDir::new("keep");
    fs::set_permissions(&directory.0, fs::Permissions::from_mode(0o711)).unwrap();
    let _server = Server::bind(&directory.socket()).unwrap();
    assert_eq!(mode(&directory.0), 0o711);
}

#[test]
fn a_second_daemon_does_not_steal_the_socket() {
    let directory = TestDir::new("second");
    let first = Server::bind(&directory.socket()).unwrap();
    let error = Server::bind(&directory.socket()).unwrap_err();
    assert!(matches!(error, BindError::InUse { .. }), "{error:?}");
    let text =
        format!("{}: another daemon is listening on this control socket", directory.socket().display());
    assert_eq!(error.to_string(), text);
    assert!(directory.socket().exists());
    drop(first);
    Server::bind(&directory.socket()).unwrap();
}

#[test]
fn a_daemon_that_hangs_keeps_its_socket() {
    let directory = TestDir::new("hangs");
    let address = socket2::SockAddr::unix(directory.socket()).unwrap();
    let socket = || socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    let daemon = socket();
    daemon.bind(&address).unwrap();
    daemon.listen(0).unwrap();
    // Nobody accepts: with a backlog of 0, one connection fills it.
    let waiting = socket();
    waiting.connect(&address).unwrap();
    assert!(matches!(Server::bind(&directory.socket()), Err(BindError::InUse { .. })));
    assert!(directory.socket().exists());
}

#[test]
fn a_stale_socket_is_replaced() {
    let directory = TestDir::new("stale");
    // Closing a listener leaves its file, as a crash does.
    drop(StdListener::bind(directory.socket()).unwrap());
    assert!(directory.socket().exists());
    let _server = Server::bind(&directory.socket()).unwrap();
    assert_eq!(mode(&directory.socket()), 0o660);
}

#[test]
fn what_is_not_a_socket_is_left_alone() {
    let directory = TestDir::new("file");
    fs::write(directory.socket(), "precious").unwrap();
    let error = Server::bind(&directory.socket()).unwrap_err();
    assert!(matches!(error, BindError::NotASocket { .. }), "{error:?}");
    assert_eq!(fs::read_to_string(directory.socket()).unwrap(), "precious");
}

#[test]
fn a_stop_leaves_the_file_of_a_successor() {
    let directory = TestDir::new("successor");
    let first = Server::bind(&directory.socket()).unwrap();
    fs::remove_file(directory.socket()).unwrap();
    let second = Server::bind(&directory.socket()).unwrap();
    drop(first);
    assert!(directory.socket().exists());
    drop(second);
    assert!(!directory.socket().exists());
}

#[test]
fn a_directory_being_set_up_by_another_process_is_not_touched() {
    let directory = TestDir::new("locked");
    let lock = fs::File::open(&directory.0).unwrap();
    lock.lock().unwrap();
    assert!(matches!(Server::bind(&directory.socket()), Err(BindError::Locked { .. })));
    lock.unlock().unwrap();
    Server::bind(&directory.socket()).unwrap();
}

#[tokio::test]
async fn an_answer_is_json_and_a_stop_removes_the_file() {
    let mut running = Running::start("answer", Limits::default());
    let answer = running.ask(&get("/v1/config"), |request| answer_config(request, "a = 1")).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"), "{answer}");
    assert!(answer.ends_with("{\"path\":\"/x.toml\",\"toml\":\"a = 1\"}\n"), "{answer}");

    running.stop.send(()).unwrap();
    tokio::time::timeout(PATIENCE, running.serving).await.unwrap().unwrap().unwrap();
    assert!(!running.directory.socket().exists());
}

#[tokio::test]
async fn a_stop_ends_requests_that_nobody_answers() {
    let forever = Limits { agent: 10 * PATIENCE, exchange: 10 * PATIENCE, ..Limits::default() };
    let mut running = Running::start("unanswered", forever);
    let mut stream = running.connect().await;
    stream.write_all(get("/v1/config").as_bytes()).await.unwrap();
    let Request::Config(reply) = running.requests.recv().await.unwrap() else { panic!() };
    running.stop.send(()).unwrap();
    tokio::time::timeout(PATIENCE, running.serving).await.unwrap().unwrap().unwrap();
    assert!(reply.is_closed(), "the request outlived the server");
    assert!(!running.directory.socket().exists());
}

#[tokio::test]
async fn parameters_become_queries() {
    let mut running = Running::start("queries", Limits::default());
    let first = PageQuery { after: None, limit: api::PAGE_LIMIT };
    let rows = [
        ("/v1/rib", Selector::All, first.clone()),
        ("/v1/rib?prefix=10.0.0.0/8", Selector::Prefix("10.0.0.0/8".parse().unwrap()), first.clone()),
        ("/v1/rib?address=fe80%3A%3A1", Selector::Address("fe80::1".parse().unwrap()), first),
        (
            "/v1/rib?limit=7&after=10.0.0.0%2F8",
            Selector::All,
            PageQuery { after: "10.0.0.0/8".parse().ok(), limit: 7 },
        ),
    ];
    for (path, selector, page) in rows {
        let expected = TableQuery { selector, page };
        let answer = running
            .ask(&get(path), |request| match request {
                Request::Rib { query, reply } => {
                    assert_eq!(query, expected, "{path}");
                    reply.send(Ok(api::Page { items: Vec::new(), next: None })).unwrap();
                }
                other => panic!("asked for {other:?}"),
            })
            .await;
        assert!(answer.ends_with("{\"items\":[],\"next\":null}\n"), "{answer}");
    }
    for (query, selector) in [
        ("", ServiceSelector::All),
        ("?service=default%2Fweb", ServiceSelector::Service("default/web".to_owned())),
        ("?address=192.0.2.1", ServiceSelector::Address("192.0.2.1".parse().unwrap())),
        ("?prefix=192.0.2.0/24", ServiceSelector::Within("192.0.2.0/24".parse().unwrap())),
    ] {
        let expected = ServicesQuery { selector, page: PageQuery { after: None, limit: api::PAGE_LIMIT } };
        let answer = running
            .ask(&get(&format!("/v1/services{query}")), |request| match request {
                Request::Services { query, reply } => {
                    assert_eq!(query, expected);
                    reply.send(Err(api::Error::new(api::ErrorCode::Refused, "seen"))).unwrap();
                }
                other => panic!("asked for {other:?}"),
            })
            .await;
        assert_eq!(error(&answer).0, "409 Conflict", "{query}");
    }
    let answer = running
        .ask(&post("/v1/neighbors/fe80%3A%3A1%25eth0/clear"), |request| match request {
            Request::Clear { neighbor, reply } => {
                assert_eq!(neighbor, "fe80::1%eth0");
                let refusal = api::Error::new(api::ErrorCode::Refused, "not up");
                reply.send(Err(refusal)).unwrap();
            }
            other => panic!("asked for {other:?}"),
        })
        .await;
    assert_eq!(error(&answer), ("409 Conflict", api::Error::new(api::ErrorCode::Refused, "not up")));
}

#[tokio::test]
async fn bad_requests_say_what_was_wrong() {
    let running = Running::start("bad", Limits::default());
    let long = format!("/v1/neighbors/{}", "x".repeat(256));
    let rows = [
        (get("/v1/nothing"), "404 Not Found", "no such path: /v1/nothing"),
        (post("/v1/summary"), "405 Method Not Allowed", "POST is not allowed on /v1/summary"),
        (get("/v1/reload"), "405 Method Not Allowed", "GET is not allowed on /v1/reload"),
        (get("/v1/rib?limit=0"), "400 Bad Request", "limit: 0 is not in 1 to 1000"),
        (get("/v1/rib?limit=1001"), "400 Bad Request", "limit: 1001 is not in 1 to 1000"),
        (get("/v1/rib?limit=ten"), "400 Bad Request", "limit: \"ten\": invalid digit found in string"),
        (
            get("/v1/fib?prefix=10.0.0.1/8"),
            "400 Bad Request",
            "prefix: \"10.0.0.1/8\": 10.0.0.1/8 has host bits set: the network is 10.0.0.0/8",
        ),
        (get("/v1/rib?address=x"), "400 Bad Request", "address: \"x\": invalid IP address syntax"),
        (get("/v1/rib?address=::1&prefix=::/0"), "400 Bad Request", "prefix and address exclude each other"),
        (get(&long), "400 Bad Request", "a neighbor's name has 1 to 255 octets"),
        (
            get(&format!("/v1/{}", "x".repeat(3000))),
            "413 Payload Too Large",
            "a path of 3004 octets is over the limit of 2048",
        ),
    ];
    for (request, status, message) in rows {
        let answer = running.refused(&request).await;
        let (found, error) = error(&answer);
        assert_eq!((found, error.message.as_str()), (status, message), "{request}");
    }
    let answer = running.refused(&get("/v1/rib?pfx=1")).await;
    let (status, error) = error(&answer);
    assert_eq!(status, "400 Bad Request");
    assert!(error.message.contains("unknown field `pfx`"), "{}", error.message);
}

#[tokio::test]
async fn a_request_with_a_large_body_is_refused() {
    let running = Running::start("large", Limits::default());
    let body = "x".repeat(5000);
    let request = format!(
        "POST /v1/reload HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = running.refused(&request).await;
    assert_eq!(error(&answer).0, "413 Payload Too Large");
}

#[tokio::test]
async fn clients_over_the_limit_are_told_so_and_places_come_back() {
    let mut running = Running::start("clients", Limits { clients: 2, ..Limits::default() });
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = running.connect().await;
        stream.write_all(b"GET /v1/config HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        answer_config(running.requests.recv().await.unwrap(), "");
        let mut byte = [0];
        stream.read_exact(&mut byte).await.unwrap();
        held.push(stream);
    }
    let answer = running.refused(&get("/v1/config")).await;
    assert_eq!(error(&answer).0, "503 Service Unavailable");
    assert_eq!(error(&answer).1.code, api::ErrorCode::TooManyClients);

    // One of them asks a last time; when it sees its connection closed, its place is free.
    let mut leaving = held.pop().unwrap();
    leaving.write_all(get("/v1/config").as_bytes()).await.unwrap();
    answer_config(running.requests.recv().await.unwrap(), "");
    read(&mut leaving).await;
    let answer = running.ask(&get("/v1/config"), |request| answer_config(request, "")).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
}

const SHORT: Limits =
    Limits { clients: CLIENTS_MAX, exchange: Duration::from_millis(200), agent: Duration::from_millis(100) };

#[tokio::test]
async fn a_client_that_says_nothing_is_dropped() {
    let running = Running::start("silent", SHORT);
    let mut stream = running.connect().await;
    assert_eq!(read(&mut stream).await, "");
}

#[tokio::test]
async fn a_client_that_dribbles_is_dropped() {
    let running = Running::start("dribble", SHORT);
    let mut stream = running.connect().await;
    let mut pace = tokio::time::interval(Duration::from_millis(10));
    let dribble = async {
        stream.write_all(b"GET /v1/config HTTP/1.1\r\nX: ").await?;
        loop {
            pace.tick().await;
            stream.write_all(b"x").await?;
        }
    };
    let end: io::Result<()> = tokio::time::timeout(PATIENCE, dribble).await.expect("never dropped");
    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn a_client_that_does_not_read_is_dropped() {
    let mut running = Running::start("reader", SHORT);
    let long = "x".repeat(6 << 20);
    let mut stream = running.connect().await;
    stream.write_all(get("/v1/config").as_bytes()).await.unwrap();
    answer_config(running.requests.recv().await.unwrap(), &long);
    // Only the server's end can break what we write to it.
    let mut pace = tokio::time::interval(Duration::from_millis(10));
    let broken = async {
        while stream.write_all(b"\r\n").await.is_ok() {
            pace.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, broken).await.expect("never dropped");
    let taken = read(&mut stream).await.len();
    assert!(taken < long.len(), "all {taken} octets were sent");
}

#[tokio::test]
async fn an_agent_that_does_not_answer_is_busy() {
    let mut running = Running::start("slow", SHORT);
    let mut stream = running.connect().await;
    stream.write_all(get("/v1/config").as_bytes()).await.unwrap();
    let Request::Config(reply) = running.requests.recv().await.unwrap() else { panic!() };
    let answer = read(&mut stream).await;
    assert_eq!(error(&answer).0, "503 Service Unavailable");
    assert_eq!(error(&answer).1.message, "the daemon is busy: no answer within 100ms");
    // The agent sees that nobody waits any more.
    assert!(reply.is_closed());
}

#[tokio::test]
async fn a_full_queue_is_busy_at_once() {
    let directory = TestDir::new("full");
    let server = Server::bind(&directory.socket()).unwrap();
    let (sender, _receiver) = mpsc::channel(1);
    let (reply, _answer) = oneshot::channel();
    sender.try_send(Request::Reload { order: ReloadOrder::AtOnce, reply }).unwrap();
    tokio::spawn(server.serve(sender, std::future::pending()));
    let mut stream = UnixStream::connect(directory.socket()).await.unwrap();
    stream.write_all(get("/v1/config").as_bytes()).await.unwrap();
    let answer = read(&mut stream).await;
    assert_eq!(
        error(&answer),
        ("503 Service Unavailable", api::Error::new(api::ErrorCode::Busy, "the daemon is busy"))
    );
}

#[tokio::test]
async fn an_agent_that_is_gone_is_stopping() {
    let mut running = Running::start("gone", Limits::default());
    let answer = running.ask(&get("/v1/config"), drop).await;
    assert_eq!(error(&answer).1.code, api::ErrorCode::Stopping);
    running.requests.close();
    let answer = running.refused(&get("/v1/config")).await;
    assert_eq!(error(&answer).1.code, api::ErrorCode::Stopping);
}

#[tokio::test]
async fn an_answer_over_its_limit_is_an_error() {
    let mut running = Running::start("toolarge", Limits::default());
    let long = "x".repeat(9 << 20);
    let answer = running.ask(&get("/v1/config"), |request| answer_config(request, &long)).await;
    assert_eq!(error(&answer).0, "413 Payload Too Large");
}

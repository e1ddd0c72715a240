//! Starting and stopping: what is running finishes, what is new is refused, what idles is cut.

use std::sync::Arc;
use std::time::Duration;

use crm_http::{ServerLimits, serve_endpoint};
use poem::endpoint::make;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn a_running_request_finishes_and_no_new_one_begins() {
    let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (begins, may_go_on) = (begun.clone(), go_on.clone());
    let slow = make(move |_| {
        let (begins, may_go_on) = (begins.clone(), may_go_on.clone());
        async move {
            begins.notify_one();
            may_go_on.notified().await;
            "finished"
        }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let server = tokio::spawn(serve_endpoint(
        listener,
        slow,
        ServerLimits::default(),
        stop.clone(),
    ));
    let idle = TcpStream::connect(address).await.unwrap();

    let request = tokio::spawn(reqwest::get(format!("http://{address}/")));
    begun.notified().await;
    stop.cancel();
    assert_closed(idle).await;
    go_on.notify_one();
    assert_eq!(
        request.await.unwrap().unwrap().text().await.unwrap(),
        "finished"
    );
    server.await.unwrap().unwrap();
    assert!(
        TcpStream::connect(address).await.is_err(),
        "the listener is gone"
    );
}

#[tokio::test]
async fn the_drain_has_an_end() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let begun = Arc::new(Notify::new());
    let begins = begun.clone();
    let stuck = make(move |_| {
        begins.notify_one();
        std::future::pending::<()>()
    });
    let stop = CancellationToken::new();
    let limits = ServerLimits {
        drain: Duration::from_millis(10),
        ..ServerLimits::default()
    };
    let server = tokio::spawn(serve_endpoint(listener, stuck, limits, stop.clone()));
    let request = tokio::spawn(reqwest::get(format!("http://{address}/")));
    begun.notified().await;
    stop.cancel();
    server.await.unwrap().unwrap();
    request.abort();
}

#[tokio::test]
async fn a_client_that_sends_no_request_is_cut_off() {
    let limits = ServerLimits {
        header_timeout: Duration::from_millis(50),
        ..ServerLimits::default()
    };
    let (address, stop) = serve(limits).await;
    let mut slow = TcpStream::connect(address).await.unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        .await
        .unwrap();
    assert_closed(slow).await;
    stop.cancel();
}

#[tokio::test]
async fn a_request_head_has_a_limit() {
    let (address, stop) = serve(ServerLimits::default()).await;
    let mut client = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "GET / HTTP/1.1\r\nHost: x\r\nX-Large: {}\r\n\r\n",
        "x".repeat(64 * 1024)
    );
    client.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 431");
    stop.cancel();
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_a_slot() {
    let (address, stop) = serve(ServerLimits {
        connections: 1,
        ..ServerLimits::default()
    })
    .await;
    let first = TcpStream::connect(address).await.unwrap();
    let mut second = TcpStream::connect(address).await.unwrap();
    second
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let mut answer = [0; 12];
    let early = tokio::time::timeout(Duration::from_millis(50), second.read_exact(&mut answer));
    assert!(early.await.is_err(), "the only slot is taken");
    drop(first);
    second.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    stop.cancel();
}

async fn serve(limits: ServerLimits) -> (std::net::SocketAddr, CancellationToken) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    tokio::spawn(serve_endpoint(
        listener,
        make(|_| async {}),
        limits,
        stop.clone(),
    ));
    (address, stop)
}

async fn assert_closed(mut connection: TcpStream) {
    let mut rest = Vec::new();
    // Closed with an end or a reset: either way nothing more is served.
    let _ = connection.read_to_end(&mut rest).await;
    assert!(!rest.starts_with(b"HTTP/1.1 200"));
}

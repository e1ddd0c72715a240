//! The client against hosts that lead inside, and against a receiver that behaves badly.

use std::collections::VecDeque;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::BoxFuture;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::resolve::{LOOKUPS, LOOKUPS_OF_TENANT};
use super::*;

/// Answers each look-up with the next list, and the last one for ever.
struct Script {
    answers: Mutex<VecDeque<Vec<IpAddr>>>,
    asked: AtomicUsize,
}

impl Script {
    fn new<const N: usize>(answers: [&[&str]; N]) -> Arc<Self> {
        let list = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        Arc::new(Self {
            answers: Mutex::new(answers.into_iter().map(list).collect()),
            asked: AtomicUsize::new(0),
        })
    }
}

impl Resolve for Script {
    fn resolve<'a>(&'a self, _host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mut answers = self.answers.lock().unwrap();
        let next = match answers.len() {
            1 => answers.front().cloned(),
            _ => answers.pop_front(),
        };
        Box::pin(async move { Ok(next.unwrap_or_default()) })
    }
}

/// A client that reaches this machine.
fn local() -> EgressBuilder {
    Egress::builder()
        .allow("127.0.0.0/8")
        .unwrap()
        .timeout(Duration::from_secs(5))
}

async fn code_of(egress: &Egress, url: &str) -> &'static str {
    match egress.send(EgressRequest::get(url)).await {
        Ok(_) => "sent",
        Err(error) => error.code(),
    }
}

/// A server that reads a request's head, counts it, and writes `answer`.
pub(crate) async fn receiver(
    address: &str,
    answer: impl Into<Vec<u8>>,
) -> (String, Arc<AtomicUsize>) {
    let (answer, count) = (answer.into(), Arc::new(AtomicUsize::new(0)));
    let listener = TcpListener::bind((address, 0)).await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let counted = count.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut head = [0; 4096];
                let _ = stream.read(&mut head).await;
                let _ = stream.write_all(&answer).await;
                // Kept open: whoever waits for the end waits for the time limit.
                let _ = stream.read(&mut head).await;
            });
        }
    });
    (url, count)
}

#[tokio::test]
async fn asvs_1_3_6_hosts_that_lead_inside_are_refused_whatever_they_are_called() {
    let resolver = Script::new([&["127.0.0.1"]]);
    let egress = Egress::builder().resolver(resolver.clone());
    let egress = egress.build().unwrap();
    for url in [
        "https://127.0.0.1/",
        "https://127.1/",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0x7f.0.0.1/",
        "https://0177.0.0.1/",
        "https://017700000001/",
        "https://127.0.0.1:8443/",
        "https://①②⑦.⓪.⓪.①/",
        "https://127。0。0。1/",
        "https://%31%32%37.0.0.1/",
        "https://0/",
        "https://0.0.0.0/",
        "https://10.0.0.1/",
        "https://100.64.0.1/",
        "https://169.254.169.254/latest/meta-data/",
        "https://172.16.0.1/",
        "https://192.168.1.1/",
        "https://198.18.0.1/",
        "https://224.0.0.1/",
        "https://255.255.255.255/",
        "https://[::]/",
        "https://[::1]/",
        "https://[::127.0.0.1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[::ffff:7f00:1]/",
        "https://[0:0:0:0:0:ffff:a9fe:a9fe]/",
        "https://[64:ff9b::7f00:1]/",
        "https://[64:ff9b:1::a9fe:a9fe]/",
        "https://[2001::1]/",
        "https://[2002:7f00:1::]/",
        "https://[fd00:ec2::254]/",
        "https://[fe80::1]/",
        "https://[ff02::1]/",
        // By name.
        "https://localhost/",
        "https://LOCALHOST/",
        "https://localtest.me/",
        "https://metadata.google.internal/",
        "https://bücher.example/",
    ] {
        assert_eq!(code_of(&egress, url).await, "address_refused", "{url}");
    }
}

#[tokio::test]
async fn urls_that_can_be_read_in_two_ways_are_refused() {
    let egress = local().resolver(Script::new([&["127.0.0.1"]]));
    let egress = egress.build().unwrap();
    let long = format!("https://example.com/{}", "a".repeat(2_048));
    for url in [
        "",
        "example.com",
        "//example.com/",
        "/etc/passwd",
        "file:///etc/passwd",
        "ftp://example.com/",
        "gopher://example.com/_",
        "data:text/plain,x",
        "unix:///run/docker.sock",
        "https://",
        "https:///",
        "https://user@example.com/",
        "https://user:password@example.com/",
        "https://example.com@127.0.0.1/",
        "https://127.0.0.1\\@example.com/",
        "https://example.com\\.evil.example/",
        "https://example.com /",
        " https://example.com/",
        "https://exam\tple.com/",
        "https://example.com/\r\nHost: evil.example",
        "https://example.com./",
        "https://localhost./",
        "https://127.0.0.1./x y",
        "https://[::1%25eth0]/",
        "https://256.256.256.256/",
        &long,
    ] {
        assert_eq!(code_of(&egress, url).await, "url_refused", "{url:?}");
    }
    for port in [
        0, 1, 21, 22, 23, 25, 53, 80, 110, 389, 445, 993, 3306, 5432, 6379, 11211, 27017,
    ] {
        let url = format!("https://example.com:{port}/");
        assert_eq!(code_of(&egress, &url).await, "port_refused", "{url}");
    }
}

#[tokio::test]
async fn one_bad_address_among_good_ones_refuses_the_host() {
    for addresses in [
        ["93.184.216.34", "127.0.0.1"].as_slice(),
        &["10.0.0.1", "93.184.216.34"],
        &["2606:4700:4700::1111", "::1"],
        &["93.184.216.34", "::ffff:93.184.216.34"],
    ] {
        let egress = Egress::builder().resolver(Script::new([addresses]));
        let code = code_of(&egress.build().unwrap(), "https://rebind.example/").await;
        assert_eq!(code, "address_refused", "{addresses:?}");
    }
    let many = vec!["93.184.216.34"; MOST_ADDRESSES + 1];
    for addresses in [[].as_slice(), &many] {
        let egress = Egress::builder().resolver(Script::new([addresses]));
        let code = code_of(&egress.build().unwrap(), "https://many.example/").await;
        assert_eq!(code, "unresolvable");
    }
}

#[tokio::test]
async fn plain_http_is_for_networks_that_the_operator_allows() {
    let public = local().resolver(Script::new([&["93.184.216.34"]]));
    let public = public.build().unwrap();
    assert_eq!(
        code_of(&public, "http://example.com/").await,
        "plain_http_refused"
    );
    let (url, count) = receiver(
        "127.0.0.1",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    )
    .await;
    let closed = Egress::builder().build().unwrap();
    assert_eq!(code_of(&closed, &url).await, "address_refused");
    let other = Egress::builder()
        .allow("127.0.0.2")
        .unwrap()
        .build()
        .unwrap();
    assert_eq!(code_of(&other, &url).await, "address_refused");
    assert_eq!(count.load(Ordering::SeqCst), 0);
    let response = local()
        .build()
        .unwrap()
        .send(EgressRequest::get(&url))
        .await
        .unwrap();
    assert_eq!((response.status, &response.body[..]), (200, &b"ok"[..]));
    assert_eq!(response.header("content-length"), Some("2"));
    assert!(Egress::builder().allow("10.1.0.0/33").is_err());
}

#[tokio::test]
async fn plugins_reach_what_is_allowed_to_them_alone() {
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    let (url, count) = receiver("127.0.0.1", answer).await;
    let https = url.replace("http:", "https:");
    let builder = || Egress::builder().timeout(Duration::from_secs(5));
    let by_plugin = async |egress: &Egress, url: &str| {
        let request = EgressRequest::get(url).by_plugin_of(TenantId(uuid::Uuid::nil()));
        let answer = egress.send(request).await;
        answer.map_or_else(|error| error.code(), |_| "sent")
    };
    let others = builder().allow("127.0.0.0/8").unwrap().build().unwrap();
    for inside in [&url, &https] {
        assert_eq!(by_plugin(&others, inside).await, "address_refused");
    }
    assert_eq!(count.load(Ordering::SeqCst), 0);
    let theirs = builder().allow_plugins("127.0.0.0/8").unwrap();
    let theirs = theirs.resolver(Script::new([&["93.184.216.34"]]));
    let theirs = theirs.build().unwrap();
    assert_eq!(by_plugin(&theirs, &url).await, "sent");
    let public = by_plugin(&theirs, "http://example.com/").await;
    assert_eq!(public, "plain_http_refused");
    assert_eq!(code_of(&theirs, &url).await, "address_refused");
    assert_eq!(count.load(Ordering::SeqCst), 1);
    assert!(builder().allow_plugins("10.1.0.0/33").is_err());
}

#[tokio::test]
async fn a_name_that_changes_its_answer_gains_nothing() {
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfirst";
    let (first, asked) = receiver("127.0.0.1", answer).await;
    let port = first.rsplit(':').next().unwrap().to_owned();
    let decoy = TcpListener::bind(format!("127.0.0.2:{}", port.trim_end_matches('/'))).await;
    let decoy = decoy.unwrap();
    // The name leads to the address that is allowed when it is checked, and inside afterwards.
    let resolver = Script::new([&["127.0.0.1"], &["127.0.0.2"]]);
    let egress = Egress::builder().allow("127.0.0.1").unwrap();
    let egress = egress.resolver(resolver.clone()).build().unwrap();
    let url = format!("http://rebind.example:{port}");
    let response = egress.send(EgressRequest::get(&url)).await.unwrap();
    assert_eq!(&response.body[..], b"first");
    assert_eq!(
        resolver.asked.load(Ordering::SeqCst),
        1,
        "one look-up for one request"
    );
    assert_eq!(code_of(&egress, &url).await, "address_refused");
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    let nobody = tokio::time::timeout(Duration::from_millis(50), decoy.accept()).await;
    assert!(nobody.is_err(), "the other address was called");
}

#[tokio::test]
async fn redirects_are_answers_and_are_not_followed() {
    let (inside, count) =
        receiver("127.0.0.1", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    for status in [301, 302, 303, 307, 308] {
        let answer =
            format!("HTTP/1.1 {status} Moved\r\nlocation: {inside}\r\ncontent-length: 0\r\n\r\n");
        let (url, _) = receiver("127.0.0.1", answer).await;
        let response = local()
            .build()
            .unwrap()
            .send(EgressRequest::get(&url))
            .await
            .unwrap();
        assert_eq!(response.status, status);
    }
    assert_eq!(count.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn bytes_are_bounded_in_both_directions() {
    let egress = local()
        .response_bytes(1_000)
        .request_bytes(100)
        .build()
        .unwrap();
    let exact = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{}",
        "a".repeat(1_000)
    );
    let (url, _) = receiver("127.0.0.1", exact).await;
    assert_eq!(code_of(&egress, &url).await, "sent");
    let few = EgressRequest::get(&url).at_most(999);
    assert_eq!(
        egress.send(few).await.unwrap_err().code(),
        "response_too_large"
    );
    // The length alone is enough, and a lie about it does not help.
    let (url, _) = receiver(
        "127.0.0.1",
        "HTTP/1.1 200 OK\r\ncontent-length: 1001\r\n\r\n",
    )
    .await;
    assert_eq!(code_of(&egress, &url).await, "response_too_large");
    let chunk = format!("400\r\n{}\r\n", "a".repeat(1024));
    let endless = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{chunk}");
    let (url, _) = receiver("127.0.0.1", endless).await;
    assert_eq!(code_of(&egress, &url).await, "response_too_large");
    let until_closed = format!("HTTP/1.1 200 OK\r\n\r\n{}", "a".repeat(100_000));
    let (url, count) = receiver("127.0.0.1", until_closed).await;
    assert_eq!(code_of(&egress, &url).await, "response_too_large");
    let large = EgressRequest::post(&url, vec![0; 101]);
    assert_eq!(
        egress.send(large).await.unwrap_err().code(),
        "request_too_large"
    );
    assert_eq!(count.load(Ordering::SeqCst), 1, "nothing of it was sent");
}

#[tokio::test]
async fn heads_that_are_too_long_or_no_http_are_refused() {
    let egress = local().build().unwrap();
    let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "a".repeat(HEAD_BYTES));
    let many: String = (0..=HEAD_LINES).map(|n| format!("x-{n}: a\r\n")).collect();
    let many = format!("HTTP/1.1 200 OK\r\n{many}\r\n");
    for answer in [
        long.as_str(),
        &many,
        "HTTP/1.1 200 OK\r\n broken\r\n\r\n",
        "220 mail.example ESMTP ready for whatever comes next\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
    ] {
        let (url, _) = receiver("127.0.0.1", answer).await;
        assert_eq!(
            code_of(&egress, &url).await,
            "protocol_error",
            "{answer:.60}"
        );
    }
}

#[tokio::test]
async fn time_is_bounded_wherever_it_is_lost() {
    let egress = local().timeout(Duration::from_millis(100)).build().unwrap();
    for answer in [
        "",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nslow",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nslow\r\n",
    ] {
        let (url, _) = receiver("127.0.0.1", answer).await;
        assert_eq!(code_of(&egress, &url).await, "timeout", "{answer:?}");
        let tls = url.replace("http:", "https:");
        assert!(["timeout", "tls_failed"].contains(&code_of(&egress, &tls).await));
    }
}

#[tokio::test]
async fn who_speaks_no_tls_gets_no_request() {
    let (url, _) = receiver("127.0.0.1", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let egress = local().build().unwrap();
    let code = code_of(&egress, &url.replace("http:", "https:")).await;
    assert_eq!(code, "tls_failed");
}

#[tokio::test]
async fn requests_under_way_are_bounded() {
    let (url, count) = receiver("127.0.0.1", "").await;
    let egress = local().build().unwrap();
    let waiting: Vec<_> = (0..SLOTS)
        .map(|_| {
            let (egress, url) = (egress.clone(), url.clone());
            AbortOnDropHandle::new(tokio::spawn(async move {
                egress.send(EgressRequest::get(url)).await
            }))
        })
        .collect();
    while count.load(Ordering::SeqCst) < SLOTS {
        tokio::task::yield_now().await;
    }
    assert_eq!(code_of(&egress, &url).await, "busy");
    drop(waiting);
    let unreachable = "http://127.0.0.1:1025/";
    while code_of(&egress, unreachable).await == "busy" {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn headers_of_the_connection_are_not_the_callers() {
    let egress = local().build().unwrap();
    for (name, value) in [
        ("host", "evil.example"),
        ("Transfer-Encoding", "chunked"),
        ("content-length", "1"),
        ("connection", "keep-alive"),
        ("x", "a\r\nhost: evil.example"),
        ("x y", "a"),
    ] {
        let request = EgressRequest::get("http://127.0.0.1:1025/").header(name, value);
        let error = egress.send(request).await.unwrap_err();
        assert_eq!(error.code(), "header_refused", "{name}: {value:?}");
    }
}

#[tokio::test]
async fn headers_of_one_name_stay_beside_each_other_and_usual_ones_are_replaced() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let head = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            assert_ne!(stream.read_buf(&mut head).await.unwrap(), 0);
        }
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(answer).await.unwrap();
        String::from_utf8(head).unwrap().to_ascii_lowercase()
    });
    let request = EgressRequest::get(url)
        .header("x-tag", "one")
        .header("X-Tag", "two")
        .header("user-agent", "mine");
    local().build().unwrap().send(request).await.unwrap();
    let head = head.await.unwrap();
    let mut sent: Vec<&str> = head.lines().filter(|line| !line.is_empty()).collect();
    sent.retain(|line| !line.starts_with("get ") && !line.starts_with("host: "));
    sent.sort_unstable();
    let whole = [
        "accept-encoding: identity",
        "connection: close",
        "user-agent: mine",
        "x-tag: one",
        "x-tag: two",
    ];
    assert_eq!(sent, whole);
}

/// Leads to this machine, but for hosts whose name servers answer once they are told to.
#[derive(Default)]
struct Slow {
    asked: AtomicUsize,
    told: tokio::sync::Notify,
}

impl Resolve for Slow {
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            if host.ends_with(".slow.example") {
                self.asked.fetch_add(1, Ordering::SeqCst);
                self.told.notified().await;
            }
            Ok(vec!["127.0.0.1".parse().unwrap()])
        })
    }
}

#[tokio::test]
async fn a_tenants_slow_names_hold_up_its_own_requests_alone() {
    let [evil, other] = [1, 2].map(|id| TenantId(uuid::Uuid::from_u128(id)));
    let (url, _) = receiver("127.0.0.1", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let url = url.replace("127.0.0.1", "honest.example");
    let resolver = Arc::new(Slow::default());
    let egress = local().timeout(Duration::from_millis(300));
    let egress = egress.resolver(resolver.clone()).build().unwrap();
    let send = async |url: String, tenant| {
        let request = EgressRequest::get(url).on_behalf_of(tenant);
        egress.send(request).await.map_err(|error| error.code())
    };
    let slow = (0..=LOOKUPS).map(|n| send(format!("https://{n}.slow.example/"), evil));
    for outcome in futures::future::join_all(slow).await {
        assert_eq!(outcome.unwrap_err(), "timeout");
    }
    // The requests are over, the look-ups are not.
    assert_eq!(resolver.asked.load(Ordering::SeqCst), LOOKUPS_OF_TENANT);
    assert_eq!(send(url.clone(), other).await.unwrap().status, 200);
    assert_eq!(send(url.clone(), evil).await.unwrap_err(), "timeout");
    assert_eq!(code_of(&egress, &url).await, "sent", "the program's own");
    resolver.told.notify_waiters();
    assert_eq!(send(url, evil).await.unwrap().status, 200);
}

//! Certificates of an authority of the operator's own. The one here was made for these tests, with
//! a key that is gone; that of its server opens nothing.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::*;

const AUTHORITY: &[u8] = include_bytes!("test_ca/ca.pem");
const SERVER: &[u8] = include_bytes!("test_ca/server.pem");
const KEY: &[u8] = include_bytes!("test_ca/server.key");

/// A server inside that speaks TLS.
async fn server() -> String {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider);
    let config = config.with_safe_default_protocol_versions().unwrap();
    let chain = vec![CertificateDer::from_pem_slice(SERVER).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(KEY).unwrap();
    let config = config.with_no_client_auth().with_single_cert(chain, key);
    let tls = TlsAcceptor::from(Arc::new(config.unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = tls.accept(stream).await else {
                continue;
            };
            let mut head = [0; 4096];
            let _ = stream.read(&mut head).await;
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
            let _ = stream.write_all(answer).await;
            let _ = stream.shutdown().await;
        }
    });
    url
}

#[tokio::test]
async fn certificates_of_ones_own_authority_are_believed_where_it_is_named() {
    let url = server().await;
    let builder = || Egress::builder().allow("127.0.0.1").unwrap();
    let egress = builder().trust(AUTHORITY).unwrap().build().unwrap();
    let response = egress.send(EgressRequest::get(&url)).await.unwrap();
    assert_eq!((response.status, &response.body[..]), (200, &b"ok"[..]));
    let egress = builder().build().unwrap();
    let refused = egress.send(EgressRequest::get(&url)).await.unwrap_err();
    assert_eq!(refused.code(), "tls_failed");
}

#[test]
fn what_is_no_certificate_is_refused() {
    let odd: [&[u8]; 4] = [
        b"",
        b"not in PEM",
        KEY,
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ];
    for text in odd {
        let refused = Egress::builder().trust(text);
        assert_eq!(
            refused.err().map(|error| error.code()),
            Some("configuration")
        );
    }
}

//! Mails on their way: through a real conversation with a mail server, and into files.

use std::sync::Arc;

use crm_core::mail::{FileMailer, MailOptions, Mailer, SmtpMailer};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::app::{App, Database};

const FROM: &str = "Acme CRM <crm@acme.example>";

crate::on_both_databases! {
    a_mail_reaches_its_server_after_a_refusal_for_now
    a_mail_that_is_refused_for_good_is_given_up
    a_mail_is_written_as_a_file
    mails_wait_sealed_without_a_mailer
}

async fn start(database: Database, mailer: Option<Arc<dyn Mailer>>) -> App {
    let options = MailOptions {
        mailer,
        public_url: "https://crm.example".into(),
    };
    App::with(database, |builder| builder.mail(options)).await
}

async fn forgot(app: &App) {
    let body = json!({"email": "ada@acme.example"});
    let path = "/api/v1/auth/password/forgot";
    app.anonymous().post(path, body).await.expect(204);
}

/// A mail server that answers each delivery with the next of these lines; the mails it takes come
/// out of the channel.
async fn server(answers: &'static [&'static str]) -> (String, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("smtp://{}", listener.local_addr().unwrap());
    let (sender, receiver) = mpsc::channel(10);
    tokio::spawn(async move {
        for answer in answers {
            let (stream, _) = listener.accept().await.unwrap();
            converse(stream, answer, &sender).await;
        }
    });
    (url, receiver)
}

/// One session of SMTP (RFC 5321 §3).
async fn converse(stream: TcpStream, answer: &str, mails: &mpsc::Sender<String>) {
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader).lines();
    writer.write_all(b"220 test ESMTP\r\n").await.unwrap();
    let mut envelope = String::new();
    while let Ok(Some(line)) = lines.next_line().await {
        let reply = match line.split([' ', ':']).next().unwrap() {
            "EHLO" => "250 test\r\n".to_owned(),
            "DATA" => "354 go on\r\n".to_owned(),
            "QUIT" => break,
            _ => "250 ok\r\n".to_owned(),
        };
        writer.write_all(reply.as_bytes()).await.unwrap();
        envelope.push_str(&line);
        envelope.push('\n');
        if line == "DATA" {
            let mut mail = envelope.clone();
            while let Ok(Some(line)) = lines.next_line().await
                && line != "."
            {
                mail.push_str(&line);
                mail.push('\n');
            }
            writer
                .write_all(format!("{answer}\r\n").as_bytes())
                .await
                .unwrap();
            if answer.starts_with('2') {
                mails.send(mail).await.unwrap();
            }
        }
    }
}

async fn a_mail_reaches_its_server_after_a_refusal_for_now(database: Database) {
    let (url, mut mails) = server(&["451 later", "250 taken"]).await;
    let mailer = SmtpMailer::new(&url, FROM).unwrap();
    let app = start(database, Some(Arc::new(mailer))).await;
    forgot(&app).await;
    assert_eq!(app.crm.send_mails_once().await.unwrap(), 1);
    assert!(mails.try_recv().is_err(), "the server was not ready");
    assert_eq!(
        app.crm.send_mails_once().await.unwrap(),
        0,
        "it waits before the next try"
    );
    app.clock.advance(chrono::TimeDelta::seconds(10));
    assert_eq!(app.crm.send_mails_once().await.unwrap(), 1);
    let mail = mails.recv().await.unwrap();
    for part in [
        "MAIL FROM:<crm@acme.example>",
        "RCPT TO:<ada@acme.example>",
        "Subject: Set a new password",
        "https://crm.example/reset-password#token",
    ] {
        assert!(mail.contains(part), "{part} is not in {mail}");
    }
    app.clock.advance(chrono::TimeDelta::hours(2));
    assert_eq!(app.crm.send_mails_once().await.unwrap(), 0, "it is sent");
    app.close().await;
}

async fn a_mail_that_is_refused_for_good_is_given_up(database: Database) {
    let (url, mut mails) = server(&["550 never"]).await;
    let mailer = SmtpMailer::new(&url, FROM).unwrap();
    let app = start(database, Some(Arc::new(mailer))).await;
    forgot(&app).await;
    assert_eq!(app.crm.send_mails_once().await.unwrap(), 1);
    app.clock.advance(chrono::TimeDelta::minutes(30));
    assert_eq!(app.crm.send_mails_once().await.unwrap(), 0);
    assert!(mails.try_recv().is_err());
    app.close().await;
}

async fn a_mail_is_written_as_a_file(database: Database) {
    let folder = tempfile::tempdir().unwrap();
    let mailer = FileMailer::new(folder.path().join("mails"), FROM).unwrap();
    let app = start(database, Some(Arc::new(mailer))).await;
    let body = json!({"email": "cy@new.example", "name": "C\u{fc}\r\nBcc: eve@evil.example",
        "roles": ["viewer"]});
    let refused = app.admin.post("/api/v1/invitations", body).await;
    assert_eq!(refused.status, 422, "no line breaks in names");
    let body =
        json!({"email": "cy@new.example", "name": "C\u{fc}, the <first>", "roles": ["viewer"]});
    app.admin
        .post("/api/v1/invitations", body)
        .await
        .expect(201);
    assert_eq!(app.crm.send_mails_once().await.unwrap(), 1);
    let files: Vec<_> = std::fs::read_dir(folder.path().join("mails"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(files.len(), 1);
    assert!(files[0].extension().is_some_and(|name| name == "eml"));
    let text = std::fs::read_to_string(&files[0]).unwrap();
    assert!(
        text.contains("From: \"Acme CRM\" <crm@acme.example>"),
        "{text}"
    );
    assert!(text.contains("<cy@new.example>"), "{text}");
    app.close().await;
}

async fn mails_wait_sealed_without_a_mailer(database: Database) {
    let app = start(database, None).await;
    forgot(&app).await;
    assert_eq!(app.crm.send_mails_once().await.unwrap(), 0);
    app.close().await;
}

//! Import, export and background jobs over HTTP.

use crm_http::HttpOptions;
use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{App, Caller, Database, Reply};

crate::on_both_databases! {
    a_file_is_imported_by_a_job_that_tells_its_progress_and_its_refused_lines
    an_export_is_a_file_of_what_the_conditions_match
    an_import_says_what_is_wrong_with_its_parameters_before_it_reads
    a_file_over_the_limit_is_refused_and_leaves_no_job
    a_job_is_cancelled_by_its_starter
    a_repeated_import_is_answered_with_the_job_that_was_made
}

async fn import(caller: &Caller, query: &str, file: impl Into<reqwest::Body>) -> Reply {
    let path = format!("/api/v1/contacts/import?{query}");
    let request = caller
        .request(Method::POST, &path)
        .header("Content-Type", "text/csv")
        .body(file);
    caller.finish(request).await
}

async fn a_file_is_imported_by_a_job_that_tells_its_progress_and_its_refused_lines(
    database: Database,
) {
    let app = App::start(database).await;
    let file = "Name,email\nAda,ada@example.com\nBob,\"odd\"\nCy,cy@example.com\n\"x\n";
    let reply = import(&app.admin, "format=csv", file).await;
    let location = reply.header("location").to_owned();
    let job = reply.expect(202);
    assert_eq!(job["state"], "queued");
    assert_eq!(
        location,
        format!("/api/v1/jobs/{}", job["id"].as_str().unwrap())
    );
    app.crm.run_jobs_once().await.unwrap();

    let job = app.admin.get(&location).await.expect(200);
    assert_eq!(job["state"], "done", "{job}");
    let bytes = file.len();
    let progress = json!({"done": 2, "failed": 2, "bytes": bytes, "total_bytes": bytes});
    assert_eq!(job["progress"], progress);
    assert_eq!(job["result"]["created"], 2);
    let list = app.admin.get("/api/v1/jobs").await.expect(200);
    assert_eq!(list["data"][0]["id"], job["id"]);
    let contacts = app
        .admin
        .get("/api/v1/contacts?sort=name")
        .await
        .expect(200);
    assert_eq!(contacts["data"][1]["email"], "cy@example.com");

    let errors = app.admin.get(&format!("{location}/errors")).await;
    assert_eq!(errors.header("content-type"), "application/x-ndjson");
    let lines: Vec<Value> = errors
        .body
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        (&lines[0]["line"], &lines[0]["pointer"]),
        (&json!(3), &json!("/email"))
    );
    assert_eq!(
        (&lines[1]["line"], &lines[1]["code"]),
        (&json!(5), &json!("broken_quote"))
    );
    let csv = app
        .admin
        .get(&format!("{location}/errors?format=csv"))
        .await;
    assert_eq!(csv.header("content-type"), "text/csv");
    assert!(
        csv.body.contains("\r\n3,invalid_email,\"/email\","),
        "{csv}"
    );

    let again = "email,name,phone\nADA@example.com,Ada L.,+49 30 1\n";
    let upsert = "format=csv&mode=upsert&key=email&dry_run=false&on_error=abort&mapping={}";
    import(&app.admin, upsert, again).await.expect(202);
    app.crm.run_jobs_once().await.unwrap();
    let contacts = app
        .admin
        .get("/api/v1/contacts?sort=name")
        .await
        .expect(200);
    assert_eq!(contacts["data"][0]["name"], "Ada L.");
    assert_eq!(contacts["data"][0]["version"], 2);
    app.close().await;
}

async fn an_export_is_a_file_of_what_the_conditions_match(database: Database) {
    let app = App::start(database).await;
    for (name, score) in [("=cmd", 90), ("Bob", 10), ("Cy, Jr.", 80)] {
        let body = json!({"name": name, "score": score});
        app.admin.post("/api/v1/contacts", body).await.expect(201);
    }
    let path = "/api/v1/contacts/export";
    let csv = app
        .admin
        .get(&format!("{path}?score[gte]=50&sort=name"))
        .await;
    assert_eq!(csv.status, 200, "{csv}");
    assert_eq!(csv.header("content-type"), "text/csv; charset=utf-8");
    assert_eq!(
        csv.header("content-disposition"),
        "attachment; filename=\"contacts.csv\""
    );
    let lines: Vec<&str> = csv.body.lines().collect();
    assert_eq!(lines.len(), 3, "{csv}");
    assert!(lines[0].starts_with("id,version,owner_id,created_at,updated_at,name,email"));
    assert!(lines[1].contains(",'=cmd,"), "{csv}");
    assert!(lines[2].contains(",\"Cy, Jr.\","), "{csv}");
    let json = app
        .admin
        .get(&format!("{path}?format=json"))
        .await
        .expect(200);
    assert_eq!(json.as_array().map(Vec::len), Some(3));
    let ndjson = app
        .admin
        .get(&format!("{path}?format=ndjson&name=Bob"))
        .await;
    assert_eq!(ndjson.body.lines().count(), 1, "{ndjson}");
    for odd in [
        "format=xml",
        "format=vcard",
        "limit=1",
        "page=2",
        "page=1&per_page=2",
        "colour=red",
        "sort=notes",
    ] {
        let refused = app.admin.get(&format!("{path}?{odd}")).await;
        assert_eq!(
            refused.problem(),
            (422, "validation_failed".into()),
            "{odd}"
        );
    }
    for odd in ["xml", "vcard"] {
        let refused = app.admin.get(&format!("{path}?format={odd}")).await;
        let told = &refused.json()["errors"][0]["detail"];
        assert_eq!(*told, "must be one of: csv ndjson json", "{odd}");
    }
    let refused = app.admin.post(path, json!({})).await;
    assert_eq!(
        (refused.status, refused.header("allow")),
        (405, "GET, HEAD")
    );
    app.close().await;
}

async fn an_import_says_what_is_wrong_with_its_parameters_before_it_reads(database: Database) {
    let app = App::start(database).await;
    for (query, pointer) in [
        ("", "/format"),
        ("format=xml", "/format"),
        ("format=csv&mode=upsert", "/key"),
        ("format=csv&mode=upsert&key=name", "/key"),
        ("format=csv&key=email", "/key"),
        ("format=csv&mapping=yahoo", "/mapping"),
        ("format=csv&mapping={\"a\":\"colour\"}", "/mapping"),
        ("format=csv&dry_run=maybe", "/dry_run"),
        ("format=csv&colour=red", "/colour"),
        ("format=csv&format=csv", "/format"),
    ] {
        let refused = import(&app.admin, query, "name\nx\n").await.expect(422);
        assert_eq!(
            refused["errors"][0]["pointer"], pointer,
            "{query}: {refused}"
        );
    }
    let request = app
        .admin
        .request(Method::POST, "/api/v1/contacts/import?format=csv")
        .header("Content-Type", "image/png")
        .body("x");
    let refused = app.admin.finish(request).await;
    assert_eq!(refused.problem(), (415, "unsupported_media_type".into()));
    let viewer = app.member("vi", "viewer").await;
    let refused = import(&viewer, "format=csv", "name\nx\n").await;
    assert_eq!(refused.problem(), (403, "forbidden".into()));
    let jobs = app.admin.get("/api/v1/jobs").await.expect(200);
    assert_eq!(jobs["data"], json!([]));
    app.close().await;
}

async fn a_file_over_the_limit_is_refused_and_leaves_no_job(database: Database) {
    let app = App::start(database).await;
    let caller = app
        .also(HttpOptions {
            import_limit: 1_000_000,
            ..HttpOptions::default()
        })
        .await;
    let announced = import(&caller, "format=csv", "x".repeat(1_000_001)).await;
    assert_eq!(announced.problem(), (413, "body_too_large".into()));
    let refused = streamed(&caller, 1_000_001).await;
    assert!(refused.starts_with("HTTP/1.1 413 "), "{refused}");
    assert!(refused.contains("body_too_large"), "{refused}");
    let jobs = app.admin.get("/api/v1/jobs").await.expect(200);
    assert_eq!(jobs["data"], json!([]));
    app.close().await;
}

async fn a_job_is_cancelled_by_its_starter(database: Database) {
    let app = App::start(database).await;
    let manager = app.member("ma", "manager").await;
    let other = app.member("mo", "manager").await;
    let job = import(&manager, "format=csv", "name\nx\n")
        .await
        .expect(202);
    let path = format!("/api/v1/jobs/{}", job["id"].as_str().unwrap());
    let cancel = format!("{path}/cancel");
    assert_eq!(other.get(&path).await.problem(), (404, "not_found".into()));
    let hidden = other.send(Method::POST, &cancel, None).await;
    assert_eq!(hidden.problem(), (404, "not_found".into()));
    let job = manager.send(Method::POST, &cancel, None).await.expect(200);
    assert_eq!(job["state"], "cancelled");
    let again = app
        .admin
        .send(Method::POST, &cancel, None)
        .await
        .expect(200);
    assert_eq!(again["finished_at"], job["finished_at"]);
    assert_eq!(app.crm.run_jobs_once().await.unwrap(), 0);
    app.close().await;
}

async fn a_repeated_import_is_answered_with_the_job_that_was_made(database: Database) {
    let app = App::start(database).await;
    let keyed = async |query: &str, key: &str, file: &str| {
        let path = format!("/api/v1/contacts/import?{query}");
        let request = app.admin.request(Method::POST, &path);
        let request = request.header("Content-Type", "text/csv");
        let request = request.header("Idempotency-Key", key);
        app.admin.finish(request.body(file.to_owned())).await
    };
    // More than one stored piece.
    let file = format!("name\nAda\n{}\n", "x".repeat(600_000));
    let first = keyed("format=csv", "k", &file).await;
    assert_eq!(first.header("idempotency-replayed"), "");
    let location = first.header("location").to_owned();
    let first = first.expect(202);
    app.crm.run_jobs_once().await.unwrap();
    let again = keyed("format=csv", "k", &file).await;
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(again.header("location"), location);
    let again = again.expect(202);
    assert_eq!(
        (&again["id"], &again["state"]),
        (&first["id"], &json!("done"))
    );
    for (query, file) in [
        ("format=csv", "name\nBob\n"),
        ("format=csv&dry_run=true", &file),
    ] {
        let other = keyed(query, "k", file).await;
        assert_eq!(other.problem(), (422, "idempotency_key_reused".into()));
    }
    let odd = keyed("format=csv", "a b", &file).await;
    assert_eq!(odd.problem(), (422, "validation_failed".into()));
    keyed("format=csv", "other", "name\nBob\n")
        .await
        .expect(202);
    let jobs = app.admin.get("/api/v1/jobs").await.expect(200);
    assert_eq!(jobs["data"].as_array().map(Vec::len), Some(2), "{jobs}");
    app.crm.run_jobs_once().await.unwrap();
    let contacts = app.admin.get("/api/v1/contacts?count=exact").await;
    assert_eq!(contacts.expect(200)["total"]["count"], 2);
    app.close().await;
}

/// The answer to a file without a length, of which so many bytes are sent and never an end.
async fn streamed(caller: &Caller, bytes: usize) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let request = caller.request(Method::POST, "/api/v1/contacts/import?format=csv");
    let request = request.build().unwrap();
    let address = (
        request.url().host_str().unwrap(),
        request.url().port().unwrap(),
    );
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let token = caller.token.as_deref().unwrap();
    let head = format!(
        "POST /api/v1/contacts/import?format=csv HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
         Authorization: Bearer {token}\r\nContent-Type: text/csv\r\n\
         Transfer-Encoding: chunked\r\n\r\n{bytes:x}\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&vec![b'x'; bytes]).await.unwrap();
    stream.write_all(b"\r\n").await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

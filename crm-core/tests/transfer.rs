//! What import and export promise, and in `job` what background jobs do, on both databases, through
//! the public interface.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in what its scenarios share"
)]

use std::sync::{Arc, Mutex};

use anyhow::{Context, ensure};
use chrono::{DateTime, TimeDelta};
use crm_core::clock::{Clock, Fixed};
use crm_core::id::{JobId, TenantId, UserId};
use crm_core::identity::{NewUser, PasswordCost};
use crm_core::job::{Job, JobContext, JobKind, JobState, Progress};
use crm_core::module::default_modules;
use crm_core::record::{Filter, Query, Record};
use crm_core::testing::Backend;
use crm_core::transfer::{Format, ImportMode, ImportOptions, MappingOption, OnError};
use crm_core::{
    AuditQuery, Create, Crm, Error, Read, RequestContext, Scope, Update, on_both_databases,
};
use futures::future::BoxFuture;
use secrecy::SecretString;
use serde_json::{Value as Json, json};

#[path = "transfer/job.rs"]
mod job;

on_both_databases!(
    a_csv_becomes_records_each_with_audit_and_event_and_bad_lines_are_named,
    a_broken_quote_on_line_70001_is_named_and_nothing_else_is_harmed,
    an_import_cut_off_between_batches_goes_on_and_nothing_is_doubled_or_lost,
    an_upsert_changes_what_it_finds_by_key_and_makes_the_rest,
    a_dry_run_tells_the_same_and_writes_nothing,
    an_import_that_aborts_keeps_what_came_before_the_first_refused_line,
    json_and_ndjson_are_imported_with_their_bad_entries_named,
    google_outlook_and_vcard_files_are_read_without_a_mapping_by_hand,
    an_export_read_again_gives_the_same_records_and_no_formula,
    rights_are_those_that_the_starter_has_when_the_job_runs,
    an_upsert_changes_only_rows_that_the_starter_may_change,
);

struct Fixture {
    crm: Crm,
    tenant: TenantId,
    clock: Arc<Fixed>,
    _backend: Backend,
}

fn request() -> RequestContext {
    RequestContext {
        id: "test".into(),
        address: None,
    }
}

impl Fixture {
    async fn open(backend: Backend, kinds: Vec<Arc<dyn JobKind>>) -> anyhow::Result<Self> {
        let start = DateTime::parse_from_rfc3339("2025-01-15T09:30:00Z")?.to_utc();
        let (clock, hands) = Clock::fixed(start, 1);
        let mut builder = Crm::builder()
            .database(backend.url())
            .database_options(crm_core::testing::database_options())
            .secret(SecretString::from("0123456789abcdef0123456789abcdef"))
            .clock(clock)
            .password_cost(PasswordCost::LOWEST)
            .modules(default_modules());
        for kind in kinds {
            builder = builder.job(kind);
        }
        let crm = builder.build().await?;
        let tenant = crm.tenants().create("Acme", request()).await?.id;
        Ok(Self {
            crm,
            tenant,
            clock: hands,
            _backend: backend,
        })
    }

    fn operator(&self) -> Scope {
        self.crm.operator(self.tenant, request())
    }

    async fn member(&self, role: &str) -> anyhow::Result<(Scope, UserId)> {
        let email = format!("{role}{}@acme.example", self.crm.clock().new_id().simple());
        let permit = self.operator().permit::<Create>("members")?;
        let input = NewUser {
            email,
            name: role.to_owned(),
            password: SecretString::from("correct horse battery"),
            roles: vec![role.to_owned()],
        };
        let user = self
            .crm
            .accounts()
            .create_user(&permit, input)
            .await?
            .user_id;
        Ok((self.scope(user).await?, user))
    }

    async fn scope(&self, user: UserId) -> anyhow::Result<Scope> {
        let scope = crm_core::testing::scope(&self.crm, self.tenant, user, request()).await?;
        scope.context("a member")
    }

    /// Queues an import of contacts.
    async fn queue(
        &self,
        scope: &Scope,
        options: ImportOptions,
        file: &str,
    ) -> anyhow::Result<JobId> {
        let transfer = self.crm.transfer();
        let mut upload = transfer.import(scope, "contacts", options).await?;
        upload.push(file.as_bytes()).await?;
        Ok(upload.finish().await?)
    }

    /// Imports contacts as the operator, to the end.
    async fn import(&self, options: ImportOptions, file: &str) -> anyhow::Result<Job> {
        let id = self.queue(&self.operator(), options, file).await?;
        self.crm.run_jobs_once().await?;
        Ok(self.crm.jobs().get(&self.operator(), id).await?)
    }

    /// Line and code of each refused field.
    async fn errors(&self, job: &Job) -> anyhow::Result<Vec<String>> {
        let jobs = self.crm.jobs();
        let errors = jobs.errors(&self.operator(), job.id, 0, 1_000).await?;
        let told = |error: &crm_core::job::LineError| {
            format!("{} {} {}", error.line, error.pointer, error.code)
        };
        Ok(errors.iter().map(told).collect())
    }

    async fn contacts(&self, filter: Option<Json>) -> anyhow::Result<Vec<Record>> {
        let permit = self.operator().permit::<Read>("contacts")?;
        let module = self.crm.registry().get("contacts").context("contacts")?;
        let filter = match filter {
            Some(Json::Object(filter)) => {
                Some(Filter::from_json(module, &filter).map_err(Error::Invalid)?)
            }
            _ => None,
        };
        let mut query = Query {
            filter,
            limit: 100,
            ..Query::default()
        };
        let mut all = Vec::new();
        loop {
            let page = self.crm.records().list(&permit, &query).await?;
            all.extend(page.data);
            query.cursor = page.next_cursor;
            if query.cursor.is_none() {
                return Ok(all);
            }
        }
    }

    async fn count(&self) -> anyhow::Result<u64> {
        let permit = self.operator().permit::<Read>("contacts")?;
        let total = self.crm.records().count(&permit, &Query::default()).await?;
        Ok(total.count)
    }
}

fn csv() -> ImportOptions {
    ImportOptions::new(Format::Csv)
}

fn text(record: &Record, field: &str) -> String {
    let value = record.get(field).and_then(|value| value.as_text());
    value.unwrap_or_default().to_owned()
}

async fn a_csv_becomes_records_each_with_audit_and_event_and_bad_lines_are_named(
    backend: Backend,
) -> anyhow::Result<()> {
    let fixture = Fixture::open(backend, vec![]).await?;
    fixture.crm.dispatch_once().await?;
    let file = "\u{feff}Name;E-Mail;score;tags;Fax\r\n\
                Ada;ada@example.com;90;one; 1\r\n\
                Bob;bob at example.com;101;;\r\n\
                \r\n\
                \"Cy\r\nrus\";ADA@example.com;;;\r\n\
                Dee;dee@example.com;;\"a; b;a\";\r\n\
                ;e@example.com;;;\r\n";
    let mapping = r#"{"E-Mail": "email", "Fax": null}"#;
    let options = ImportOptions {
        mapping: Some(
            mapping
                .parse()
                .map_err(|error| Error::Invalid(vec![error]))?,
        ),
        ..csv()
    };
    let job = fixture.import(options, file).await?;
    assert_eq!(job.state, JobState::Done, "{job:?}");
    assert_eq!(
        job.progress,
        Progress {
            done: 2,
            failed: 3,
            bytes: file.len() as u64,
            total_bytes: file.len() as u64,
        }
    );
    let result = json!({"created": 2, "updated": 0, "unchanged": 0, "failed": 3, "dry_run": false});
    assert_eq!(job.result, Some(result));
    assert_eq!(
        fixture.errors(&job).await?,
        [
            "3 /email invalid_email",
            "3 /score out_of_range",
            "5 /email already_exists",
            "8 /name required",
        ]
    );
    let contacts = fixture.contacts(None).await?;
    let names: Vec<String> = contacts.iter().map(|record| text(record, "name")).collect();
    assert_eq!(names, ["Dee", "Ada"]);
    assert_eq!(text(&contacts[0], "status"), "lead");
    assert_eq!(
        serde_json::to_value(contacts[0].get("tags"))?,
        json!(["a", "b"])
    );
    assert_eq!(fixture.crm.dispatch_once().await?, 2);
    let audit = fixture.operator().permit::<Read>("audit")?;
    let query = AuditQuery {
        action: Some("contacts.create".into()),
        ..AuditQuery::default()
    };
    let entries = fixture.crm.audit().list(&audit, &query).await?.data;
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[1].after, serde_json::to_value(&contacts[1]).ok());

    let strange = fixture.import(csv(), "name,colour,Fax\nx,y,z\n").await?;
    assert_eq!(strange.state, JobState::Failed);
    let error = strange.error.context("an error")?;
    assert_eq!(error.code, "unknown_column");
    assert!(
        error.message.contains("\"colour\", \"Fax\""),
        "{}",
        error.message
    );
    Ok(())
}

async fn a_broken_quote_on_line_70001_is_named_and_nothing_else_is_harmed(
    backend: Backend,
) -> anyhow::Result<()> {
    let fixture = Fixture::open(backend, vec![]).await?;
    let mut file = String::from("name,notes\n");
    for line in 2..=70_100 {
        match line {
            70_001 => file.push_str("\"Broken,x\n"),
            // Refused as well, so that the test writes little.
            _ if line % 1_000 != 0 && line < 69_900 => file.push_str(",\n"),
            _ => file.push_str(&format!("Row {line},\"said \"\"hi\"\"\"\n")),
        }
    }
    let job = fixture.import(csv(), &file).await?;
    assert_eq!(job.state, JobState::Done, "{job:?}");
    let good = (2..=70_100).filter(|line| line % 1_000 == 0 || *line >= 69_900);
    let good = good.filter(|line| *line != 70_001).count() as u64;
    assert_eq!(job.progress.done, good);
    assert_eq!(job.progress.done + job.progress.failed, 70_099);
    assert_eq!(fixture.count().await?, good);
    // Ten thousand errors are kept; this one is behind them, and a smaller file shows it.
    let tail: Vec<&str> = file.lines().skip(69_990).collect();
    let again = format!("name,notes\n{}{}\n", "\n".repeat(69_989), tail.join("\n"));
    let options = ImportOptions {
        dry_run: true,
        ..csv()
    };
    let job = fixture.import(options, &again).await?;
    assert_eq!(fixture.errors(&job).await?, ["70001  broken_quote"]);
    Ok(())
}

/// A file of that many contacts.
fn many(count: usize) -> String {
    let mut file = String::from("name,email\n");
    for number in 0..count {
        file.push_str(&format!("Row {number},row{number}@example.com\n"));
    }
    file
}

async fn an_import_cut_off_between_batches_goes_on_and_nothing_is_doubled_or_lost(
    backend: Backend,
) -> anyhow::Result<()> {
    const ROWS: usize = 5_000;
    let fixture = Fixture::open(backend, vec![]).await?;
    fixture.crm.dispatch_once().await?;
    let operator = fixture.operator();
    let id = fixture.queue(&operator, csv(), &many(ROWS)).await?;
    let jobs = fixture.crm.jobs();
    let mut cuts = 0;
    let mut before = 0;
    loop {
        // The runner is dropped in the middle, as kill -9 would: nobody gives the lease back.
        let watch = async {
            loop {
                let done = jobs.get(&operator, id).await.map(|job| job.progress.done);
                if done.is_ok_and(|done| done > before) {
                    break;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            biased;
            ran = fixture.crm.run_jobs_once() => { ran?; }
            () = watch => {}
        }
        let job = jobs.get(&operator, id).await?;
        if job.state.is_final() {
            break;
        }
        cuts += 1;
        before = job.progress.done;
        ensure!(
            fixture.crm.run_jobs_once().await? == 0,
            "the lease still holds"
        );
        fixture.clock.advance(TimeDelta::seconds(11));
    }
    assert!(cuts >= 1, "it was never cut off");
    let job = jobs.get(&operator, id).await?;
    assert_eq!(job.state, JobState::Done, "{job:?}");
    assert_eq!(job.progress.done, ROWS as u64);
    assert_eq!(job.progress.failed, 0);
    assert_eq!(fixture.count().await?, ROWS as u64);
    assert_eq!(fixture.crm.dispatch_once().await?, ROWS);
    Ok(())
}

async fn an_upsert_changes_what_it_finds_by_key_and_makes_the_rest(
    backend: Backend,
) -> anyhow::Result<()> {
    let fixture = Fixture::open(backend, vec![]).await?;
    let first = "name,email,phone,score\nAda,Ada@example.com,12345,5\nBob,bob@example.com,,7\n";
    fixture.import(csv(), first).await?;
    let options = ImportOptions {
        mode: ImportMode::Upsert,
        key: Some("email".into()),
        ..csv()
    };
    let second = "name,email,phone,score\n\
                  Ada L.,ada@EXAMPLE.com,,6\n\
                  Bob,bob@example.com,,7\n\
                  Cy,cy@example.com,,1\n\
                  Cyrus,CY@example.com,,\n\
                  Nobody,,,\n";
    let job = fixture.import(options, second).await?;
    let result = json!({"created": 1, "updated": 2, "unchanged": 1, "failed": 1, "dry_run": false});
    assert_eq!(job.result, Some(result), "{job:?}");
    assert_eq!(fixture.errors(&job).await?, ["6 /email required"]);
    let all = fixture.contacts(None).await?;
    let told: Vec<Json> = all
        .iter()
        .map(|r| {
            json!([
                text(r, "name"),
                text(r, "email"),
                text(r, "phone"),
                r.get("score"),
                r.version
            ])
        })
        .collect();
    assert_eq!(
        told,
        [
            json!(["Cyrus", "cy@example.com", "", 1, 2]),
            json!(["Bob", "bob@example.com", "", 7, 1]),
            json!(["Ada L.", "Ada@example.com", "12345", 6, 2]),
        ]
    );
    Ok(())
}

async fn a_dry_run_tells_the_same_and_writes_nothing(backend: Backend) -> anyhow::Result<()> {
    let fixture = Fixture::open(backend, vec![]).await?;
    let file = "name,email\nAda,ada@example.com\nBob,odd\n";
    let options = ImportOptions {
        dry_run: true,
        ..csv()
    };
    let job = fixture.import(options, file).await?;
    let result = json!({"created": 1, "updated": 0, "unchanged": 0, "failed": 1, "dry_run": true});
    assert_eq!(job.result, Some(result));
    assert_eq!(fixture.errors(&job).await?, ["3 /email invalid_email"]);
    assert_eq!(fixture.count().await?, 0);
    assert_eq!(fixture.crm.dispatch_once().await?, 0);
    Ok(())
}

async fn an_import_that_aborts_keeps_what_came_before_the_first_refused_line(
    backend: Backend,
) -> anyhow::Result<()> {
    let fixture = Fixture::open(backend, vec![]).await?;
    let options = ImportOptions {
        on_error: OnError::Abort,
        ..csv()
    };
    let file = "name,email\nAda,a@example.com\nBob,A@example.com\nCy,c@example.com\n\"x\n";
    let job = fixture.import(options, file).await?;
    assert_eq!(job.state, JobState::Failed);
    assert_eq!(
        job.error.clone().context("an error")?.code,
        "import_aborted"
    );
    assert_eq!(fixture.errors(&job).await?, ["3 /email already_exists"]);
    assert_eq!(fixture.count().await?, 1);
    Ok(())
}

async fn json_and_ndjson_are_imported_with_their_bad_entries_named(
    backend: Backend,
) -> anyhow::Result<()> {
    let fixture = Fixture::open(backend, vec![]).await?;
    let deep = format!(
        "{{\"name\": {}1{}}}",
        "[".repeat(10_000),
        "]".repeat(10_000)
    );
    let lines = format!(
        "{{\"name\": \"Ada\", \"tags\": [\"x\"]}}\n\n{{\"name\": \"Bob\", \"name\": \"Rob\"}}\n\
         {{\"title\": \"Cy\"}}\n[1]\n{deep}\n{{\"name\": \"{}\"}}\n{{\"name\": \"Dee\"}}",
        "x".repeat(2_000_000)
    );
    let job = fixture
        .import(ImportOptions::new(Format::Ndjson), &lines)
        .await?;
    assert_eq!(job.state, JobState::Done, "{job:?}");
    assert_eq!(job.progress.done, 2);
    assert_eq!(
        fixture.errors(&job).await?,
        [
            "3  malformed_json",
            "4 /title unknown_field",
            "4 /name required",
            "5  malformed_json",
            "6  malformed_json",
            "7  entry_too_long",
        ]
    );
    let options = ImportOptions {
        mapping: Some(MappingOption::Columns(
            [("title".to_owned(), Some("name".to_owned()))].into(),
        )),
        ..ImportOptions::new(Format::Json)
    };
    let array = "[\n{\"title\": \"Eve\"},\n{\"name\": 7}\n]";
    let job = fixture.import(options.clone(), array).await?;
    assert_eq!(
        (job.state, job.progress.done),
        (JobState::Done, 1),
        "{job:?}"
    );
    assert_eq!(fixture.errors(&job).await?, ["3 /name wrong_type"]);
    let job = fixture
        .import(options, "[{\"title\": \"Fay\"} oops")
        .await?;
    assert_eq!(job.state, JobState::Failed);
    assert_eq!(job.error.context("an error")?.code, "malformed_json");
    Ok(())
}

async fn google_outlook_and_vcard_files_are_read_without_a_mapping_by_hand(
    backend: Backend,
) -> anyhow::Result<()> {
    let fixture = Fixture::open(backend, vec![]).await?;
    let google = "First Name,Middle Name,Last Name,Nickname,Organization Name,Organization Title,\
                  Birthday,Notes,Labels,E-mail 1 - Label,E-mail 1 - Value,Phone 1 - Value\n\
                  Ada,,Lovelace,,Engines,Analyst,,,* myContacts ::: Friends,* Work,\
                  ada@example.com ::: a@example.com,+44 20 7946\n\
                  ,,,,Acme,,,,,,,\n";
    let outlook = "\"First Name\",\"Last Name\",\"Company\",\"Job Title\",\"Mobile Phone\",\
                   \"Business Phone\",\"E-mail Address\",\"Categories\",\"Notes\"\r\n\
                   \"Bob\",\"Stone\",\"Rocks\",\"Boss\",\"\",\"555 123\",\"bob@example.com\",\
                   \"A;B\",\"x\"\r\n";
    let vcard = "BEGIN:VCARD\r\nVERSION:4.0\r\nFN:Cy Young\r\nEMAIL:cy@example.com\r\n\
                 TEL;VALUE=uri:tel:+1-555-9999\r\nORG:Cards\r\nTITLE:Dealer\r\nEND:VCARD\r\n\
                 BEGIN:VCARD\r\nVERSION:2.1\r\nFN:Old\r\nEND:VCARD\r\n";
    for (format, mapping, file) in [
        (Format::Csv, Some("google_contacts"), google),
        (Format::Csv, Some("outlook"), outlook),
        (Format::Vcard, None, vcard),
    ] {
        let options = ImportOptions {
            mapping: mapping.map(|name| MappingOption::Ready(name.to_owned())),
            ..ImportOptions::new(format)
        };
        let job = fixture.import(options, file).await?;
        assert_eq!(job.state, JobState::Done, "{job:?}");
        let refused = fixture.errors(&job).await?;
        match format {
            Format::Vcard => assert_eq!(refused, ["9  unsupported_version"]),
            _ => assert_eq!(refused, [""; 0]),
        }
    }
    let fields = ["name", "email", "phone", "company", "job_title", "tags"];
    let told: Vec<Vec<Json>> = fixture
        .contacts(None)
        .await?
        .iter()
        .map(|record| fields.map(|field| json!(record.get(field))).to_vec())
        .collect();
    assert_eq!(
        json!(told),
        json!([
            [
                "Cy Young",
                "cy@example.com",
                "+1-555-9999",
                "Cards",
                "Dealer",
                null
            ],
            [
                "Bob Stone",
                "bob@example.com",
                "555 123",
                "Rocks",
                "Boss",
                ["A", "B"]
            ],
            ["Acme", null, null, "Acme", null, null],
            [
                "Ada Lovelace",
                "ada@example.com",
                "+44 20 7946",
                "Engines",
                "Analyst",
                ["* myContacts", "Friends"]
            ],
        ])
    );
    Ok(())
}

async fn export(crm: &Crm, scope: &Scope, format: Format) -> anyhow::Result<String> {
    let permit = scope.permit::<Read>("contacts")?;
    // A file has all pages, whichever one the query asks for.
    let query = Query {
        limit: 7,
        page: Some(2),
        ..Query::default()
    };
    let mut export = crm.transfer().export(permit, query, format)?;
    let mut file = String::new();
    while let Some(piece) = export.next().await? {
        file.push_str(&piece);
    }
    Ok(file)
}

async fn an_export_read_again_gives_the_same_records_and_no_formula(
    backend: Backend,
) -> anyhow::Result<()> {
    let fixture = Fixture::open(backend, vec![]).await?;
    let permit = fixture.operator().permit::<Create>("contacts")?;
    for odd in [
        json!({"name": "=1+1", "phone": "+49 30 1", "email": "a@example.com", "tags": ["a;b", "c"]}),
        json!({"name": "@x, \"y\"\nz", "email": "b@example.com", "tags": ["-1"], "score": 3}),
        json!({"name": "'plain", "email": "c@example.com", "tags": []}),
    ] {
        let body = odd.as_object().cloned().unwrap_or_default();
        fixture.crm.records().create(&permit, body).await?;
    }
    fixture.import(csv(), &many(250)).await?;
    let before = fixture.contacts(None).await?;
    let plain =
        |records: &[Record]| -> Vec<Json> { records.iter().map(|r| json!(r.values())).collect() };
    let other = fixture.crm.tenants().create("Other", request()).await?.id;
    for format in [Format::Csv, Format::Ndjson, Format::Json] {
        let operator = fixture.operator();
        let file = export(&fixture.crm, &operator, format).await?;
        if format == Format::Csv {
            assert!(file.contains(",'=1+1,"), "{file}");
            assert!(file.contains("'+49 30 1"), "{file}");
            assert!(file.contains(",\"'@x, \"\"y\"\"\nz\","), "{file}");
        }
        if format == Format::Json {
            let all: Vec<Json> = serde_json::from_str(&file)?;
            assert_eq!(all.len(), 253);
        }
        let target = fixture.crm.operator(other, request());
        let options = ImportOptions {
            mode: ImportMode::Upsert,
            key: Some("email".into()),
            ..ImportOptions::new(format)
        };
        let id = fixture.queue(&target, options, &file).await?;
        fixture.crm.run_jobs_once().await?;
        let job = fixture.crm.jobs().get(&target, id).await?;
        assert_eq!(
            (job.progress.done, job.progress.failed),
            (253, 0),
            "{job:?}"
        );
        let permit = target.permit::<Read>("contacts")?;
        let mut after = Vec::new();
        let mut query = Query {
            limit: 100,
            ..Query::default()
        };
        loop {
            let page = fixture.crm.records().list(&permit, &query).await?;
            after.extend(page.data);
            query.cursor = page.next_cursor;
            if query.cursor.is_none() {
                break;
            }
        }
        // An empty list of tags is an empty cell, which says nothing.
        let same = |values: Vec<Json>| -> Vec<String> {
            let mut texts: Vec<String> = values
                .iter()
                .map(|value| value.to_string().replace("[]", "null"))
                .collect();
            texts.sort();
            texts
        };
        assert_eq!(same(plain(&after)), same(plain(&before)), "{format:?}");
    }
    Ok(())
}

async fn rights_are_those_that_the_starter_has_when_the_job_runs(
    backend: Backend,
) -> anyhow::Result<()> {
    let fixture = Fixture::open(backend, vec![]).await?;
    let (viewer, _) = fixture.member("viewer").await?;
    let transfer = fixture.crm.transfer();
    let refused = transfer.import(&viewer, "contacts", csv()).await;
    assert!(
        matches!(refused, Err(Error::Forbidden { .. })),
        "{refused:?}"
    );

    let (manager, user) = fixture.member("manager").await?;
    let id = fixture.queue(&manager, csv(), &many(3)).await?;
    let members = fixture.operator().permit::<Update>("members")?;
    let viewer = vec!["viewer".to_owned()];
    fixture
        .crm
        .members()
        .set_roles(&members, user, viewer)
        .await?;
    fixture.crm.run_jobs_once().await?;
    let job = fixture.crm.jobs().get(&manager, id).await?;
    assert_eq!(job.state, JobState::Failed);
    assert_eq!(job.error.context("an error")?.code, "forbidden");
    assert_eq!(fixture.count().await?, 0);

    let options = ImportOptions {
        key: Some("name".into()),
        mode: ImportMode::Upsert,
        ..csv()
    };
    let refused = transfer
        .import(&fixture.operator(), "contacts", options)
        .await;
    assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
    Ok(())
}

async fn an_upsert_changes_only_rows_that_the_starter_may_change(
    backend: Backend,
) -> anyhow::Result<()> {
    let fixture = Fixture::open(backend, vec![]).await?;
    let roles = fixture.operator().permit::<Create>("roles")?;
    let permissions = ["contacts.read", "contacts.create", "contacts.update:own"];
    let draft = crm_core::role::NewRole {
        name: "own".into(),
        description: String::new(),
        permissions: permissions.map(Into::into).to_vec(),
        parent_id: None,
    };
    fixture.crm.roles().create(&roles, draft).await?;
    let (member, user) = fixture.member("own").await?;
    fixture
        .import(csv(), "name,email\nTheirs,theirs@example.com\n")
        .await?;
    let options = ImportOptions {
        mode: ImportMode::Upsert,
        key: Some("email".into()),
        ..csv()
    };
    for name in ["Mine", "Still mine"] {
        let file = format!("name,email\nX,theirs@example.com\n{name},mine@example.com\n");
        let id = fixture.queue(&member, options.clone(), &file).await?;
        fixture.crm.run_jobs_once().await?;
        let job = fixture.crm.jobs().get(&member, id).await?;
        assert_eq!((job.progress.done, job.progress.failed), (1, 1), "{job:?}");
        assert_eq!(fixture.errors(&job).await?, ["2 /email already_exists"]);
    }
    let all = fixture.contacts(None).await?;
    assert_eq!(text(&all[0], "name"), "Still mine");
    assert_eq!(all[0].owner_id, Some(user));
    assert_eq!(text(&all[1], "name"), "Theirs");
    Ok(())
}

//! What imports promise: what becomes of good and bad lines, of records that are there already, and
//! of an import that is cut off; with the rights of who started it.

use super::*;

on_both_databases!(
    a_csv_becomes_records_each_with_audit_and_event_and_bad_lines_are_named,
    a_broken_quote_on_line_70001_is_named_and_nothing_else_is_harmed,
    an_import_cut_off_between_batches_goes_on_and_nothing_is_doubled_or_lost,
    an_upsert_changes_what_it_finds_by_key_and_makes_the_rest,
    a_dry_run_tells_the_same_and_writes_nothing,
    an_import_that_aborts_keeps_what_came_before_the_first_refused_line,
    rights_are_those_that_the_starter_has_when_the_job_runs,
    an_upsert_changes_only_rows_that_the_starter_may_change,
);

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

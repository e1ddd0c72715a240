//! The formats of files: which are read, and that what is exported reads again as the same records.

use super::*;

on_both_databases!(
    json_and_ndjson_are_imported_with_their_bad_entries_named,
    google_outlook_and_vcard_files_are_read_without_a_mapping_by_hand,
    an_export_read_again_gives_the_same_records_and_no_formula,
);

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

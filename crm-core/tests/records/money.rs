//! What money promises: exact amounts, in currencies that exist, never summed across them.

use super::*;
use crm_core::job::JobState;
use crm_core::record::{Aggregate, GroupKey, Key, Metric, Work, Write};
use crm_core::transfer::{Format, ImportOptions};
use crm_core::value::Value;

on_both_databases!(
    amounts_end_at_the_minor_unit_of_the_currency_that_the_record_has,
    an_import_is_held_to_the_currencies_too,
    figures_of_several_currencies_are_refused,
    sums_by_currency_are_exact,
);

/// Pointer and code of each refusal.
fn refusals<T: std::fmt::Debug>(outcome: crm_core::Result<T>) -> Vec<(String, &'static str)> {
    match outcome {
        Err(Error::Invalid(refused)) => {
            let refused = refused.into_iter();
            refused
                .map(|one| (one.pointer.trim_start_matches('/').to_owned(), one.code))
                .collect()
        }
        other => panic!("{other:?}"),
    }
}

fn refused(name: &str, code: &'static str) -> Vec<(String, &'static str)> {
    vec![(name.to_owned(), code)]
}

async fn amounts_end_at_the_minor_unit_of_the_currency_that_the_record_has(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = types::open(backend).await?;
    let scope = it.operator();
    for (amount, currency, expected) in [
        (json!("12.345"), "EUR", "too_precise"),
        (json!("12.5"), "jpy", "too_precise"),
        (json!(0.001), "USD", "too_precise"),
        (json!("0.0001"), "BHD", "too_precise"),
        (json!("NaN"), "EUR", "wrong_type"),
        (json!("Infinity"), "EUR", "wrong_type"),
        (json!("1e27"), "EUR", "out_of_range"),
        (json!(1e27), "EUR", "out_of_range"),
        (json!("1,50"), "EUR", "wrong_type"),
        (json!({"value": 1}), "EUR", "wrong_type"),
    ] {
        let body = json!({"amount": amount, "currency": currency});
        let outcome = it.create(&scope, "kinds", body).await;
        assert_eq!(
            refusals(outcome),
            refused("amount", expected),
            "{amount} {currency}"
        );
    }
    for currency in ["DEM", "EURO", "E", "XXX", "\u{20ac}"] {
        let outcome = it
            .create(&scope, "kinds", json!({"currency": currency}))
            .await;
        assert_eq!(
            refusals(outcome),
            refused("currency", "unknown_currency"),
            "{currency}"
        );
    }
    for (fee, expected) in [("0.5", "too_precise"), ("-1", "out_of_range")] {
        let outcome = it.create(&scope, "kinds", json!({"fee": fee})).await;
        assert_eq!(refusals(outcome), refused("fee", expected));
    }

    let body = json!({"amount": "0.125", "currency": "bhd", "code": "dinars", "fee": "7"});
    let made = it.create(&scope, "kinds", body).await?;
    let wire = |record: &Record| ["amount", "currency", "fee"].map(|name| json!(record.get(name)));
    assert_eq!(wire(&made), [json!("0.125"), json!("BHD"), json!("7.00")]);
    let other = it
        .update(&scope, &made, None, json!({"currency": "EUR"}))
        .await;
    assert_eq!(refusals(other), refused("amount", "too_precise"));
    let both = json!({"currency": "EUR", "amount": "0.12"});
    let changed = it.update(&scope, &made, None, both).await?;
    assert_eq!(
        wire(&changed),
        [json!("0.120"), json!("EUR"), json!("7.00")]
    );
    let finer = it
        .update(&scope, &changed, None, json!({"amount": "0.125"}))
        .await;
    assert_eq!(refusals(finer), refused("amount", "too_precise"));

    let module = it.crm.registry().get("kinds").context("declared")?.clone();
    let upsert = |amount: &str| -> crm_core::Result<Write> {
        let (create, update) = (
            scope.permit::<Create>("kinds")?,
            scope.permit::<Update>("kinds")?,
        );
        let sent = body_of(json!({"code": "dinars", "amount": amount}));
        Write::upsert(&create, &update, Key::named(&module, "code")?, sent)
    };
    let reply = |_| Err(Error::NotFound);
    let work = Work::One(upsert("0.121")?);
    let outcome = it.crm.records().perform(&scope, work, None, reply).await;
    let outcome = outcome.map(drop).map_err(|refused| refused.error);
    assert_eq!(refusals(outcome), refused("amount", "too_precise"));
    Ok(())
}

fn body_of(json: Json) -> Body {
    body(json)
}

async fn an_import_is_held_to_the_currencies_too(backend: Backend) -> anyhow::Result<()> {
    let it = types::open(backend).await?;
    let file = "code,amount,currency,opens,key,site,story,meets,shape\n\
                c1,12.50,eur,09:30,C232AB00-9414-11EC-B3C8-9F6BDECED846,https://a.example,\"a\nb\",2026-03-01T09:30[UTC],\"[0.5, 1, -2]\"\n\
                c2,12.5,JPY,,,,,,\n\
                c3,1,DEM,,,,,,\n\
                c4,,,25:00,,,,,\n\
                c5,,,,,example.com,,,\n";
    let transfer = it.crm.transfer();
    let options = ImportOptions::new(Format::Csv);
    let mut upload = transfer.import(&it.operator(), "kinds", options).await?;
    upload.push(file.as_bytes()).await?;
    let id = upload.finish().await?;
    it.crm.run_jobs_once().await?;
    let job = it.crm.jobs().get(&it.operator(), id).await?;
    assert_eq!(job.state, JobState::Done);
    let errors = it.crm.jobs().errors(&it.operator(), id, 0, 100).await?;
    let errors: Vec<_> = errors
        .iter()
        .map(|one| {
            (
                one.pointer.trim_start_matches('/').to_owned(),
                one.code.to_string(),
            )
        })
        .collect();
    let expected = [
        ("amount", "too_precise"),
        ("currency", "unknown_currency"),
        ("opens", "invalid_time"),
        ("site", "invalid_url"),
    ];
    let expected = expected.map(|(at, code)| (at.to_owned(), code.to_owned()));
    assert_eq!(errors, expected);
    let permit = it.operator().permit::<Read>("kinds")?;
    let page = it.crm.records().list(&permit, &Query::default()).await?;
    assert_eq!(page.data.len(), 1);
    let stored = ["amount", "currency", "opens", "story", "meets", "shape"]
        .map(|name| json!(page.data[0].get(name)));
    assert_eq!(
        stored,
        [
            json!("12.500"),
            json!("EUR"),
            json!("09:30:00"),
            json!("a\nb"),
            json!("2026-03-01T09:30:00[UTC]"),
            json!([0.5, 1.0, -2.0]),
        ]
    );
    Ok(())
}

async fn figures_of_several_currencies_are_refused(backend: Backend) -> anyhow::Result<()> {
    let it = types::open(backend).await?;
    let scope = it.operator();
    let permit = scope.permit::<Read>("kinds")?;
    let module = it.crm.registry().get("kinds").context("declared")?.clone();
    let ask = |metric: &str, keys: &[&str], filter: Json| -> anyhow::Result<Aggregate> {
        let parsed = |refused: Vec<crm_core::FieldError>| Error::Invalid(refused);
        let filter = Filter::from_json(&module, &body(filter)).map_err(parsed)?;
        let keys = keys.iter().map(|key| GroupKey::parse(&module, key));
        Ok(Aggregate {
            filter: Some(filter),
            group_by: keys
                .collect::<Result<_, _>>()
                .map_err(|one| Error::Invalid(vec![one]))?,
            metrics: vec![Metric::parse(&module, metric).map_err(|one| Error::Invalid(vec![one]))?],
            ..Aggregate::default()
        })
    };
    let none = || json!({});
    for filter in [
        none(),
        json!({"currency": {"in": ["EUR", "USD"]}}),
        json!({"not": {"currency": "EUR"}}),
        json!({"or": [{"currency": "EUR"}, {"currency": "USD"}]}),
        json!({"or": [{"currency": "EUR"}, {"amount": {"gt": 1}}]}),
        json!({"or": []}),
    ] {
        for metric in ["sum:amount", "avg:amount", "min:amount", "max:amount"] {
            let ask = ask(metric, &["stage"], filter.clone())?;
            let outcome = it.crm.records().aggregate(&permit, &ask).await;
            assert_eq!(
                refusals(outcome),
                refused("metrics", "mixed_currencies"),
                "{filter}"
            );
        }
    }
    for (metric, keys, filter) in [
        ("count:amount", &[][..], none()),
        ("distinct:amount", &[], none()),
        ("sum:fee", &[], none()),
        ("sum:amount", &["currency"], none()),
        ("sum:amount", &["stage", "currency"], none()),
        ("max:amount", &[], json!({"currency": "eur"})),
        (
            "avg:amount",
            &[],
            json!({"and": [{"number": {"gt": 0}}, {"currency": {"in": ["EUR"]}}]}),
        ),
        (
            "min:amount",
            &[],
            json!({"or": [{"currency": "EUR", "number": 1}, {"currency": "EUR"}]}),
        ),
    ] {
        it.crm
            .records()
            .aggregate(&permit, &ask(metric, keys, filter)?)
            .await?;
    }
    Ok(())
}

async fn sums_by_currency_are_exact(backend: Backend) -> anyhow::Result<()> {
    let it = types::open(backend).await?;
    let scope = it.operator();
    for (amount, currency) in [
        ("0.10", "EUR"),
        ("0.20", "EUR"),
        ("999999999999999.99", "EUR"),
        ("0.001", "BHD"),
        ("100", "JPY"),
    ] {
        it.create(
            &scope,
            "kinds",
            json!({"amount": amount, "currency": currency}),
        )
        .await?;
    }
    let permit = scope.permit::<Read>("kinds")?;
    let module = it.crm.registry().get("kinds").context("declared")?.clone();
    let ask = Aggregate {
        group_by: vec![
            GroupKey::parse(&module, "currency").map_err(|one| Error::Invalid(vec![one]))?,
        ],
        metrics: vec![
            Metric::parse(&module, "sum:amount").map_err(|one| Error::Invalid(vec![one]))?,
        ],
        ..Aggregate::default()
    };
    let groups = it.crm.records().aggregate(&permit, &ask).await?;
    let sums: Vec<_> = groups
        .data
        .iter()
        .map(|group| (json!(group.keys[0]), json!(group.metrics[0])))
        .collect();
    let expected = [
        ("BHD", "0.001"),
        ("EUR", "1000000000000000.290"),
        ("JPY", "100.000"),
    ];
    assert_eq!(sums, expected.map(|(code, sum)| (json!(code), json!(sum))));
    assert!(matches!(groups.data[1].metrics[0], Value::Decimal(_)));
    Ok(())
}

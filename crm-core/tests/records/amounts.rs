//! What is promised of amounts without a currency: there are none, through whichever door they
//! come.

use super::*;
use crm_core::event::ChangeKind;
use crm_core::job::JobState;
use crm_core::record::{Key, Many, When, Work, Write};
use crm_core::testing::module_suite;
use crm_core::transfer::{Format, ImportMode, ImportOptions};

on_both_databases!(
    an_amount_without_a_currency_is_refused_at_the_currency,
    a_default_a_hook_or_a_copied_field_may_give_the_currency,
    bulk_writes_and_imports_are_held_to_currencies_too,
    modules_with_amounts_keep_the_promises_of_every_module,
);

const SHOPS: &str = r#"
name = "shops"
singular = "shop"
fields = [
    { name = "title", type = "text", required = true },
    { name = "unit", type = "currency" },
]
"#;
const BILLS: &str = r#"
name = "bills"
singular = "bill"
fields = [
    { name = "code", type = "text", unique = true, required = true },
    { name = "unit", type = "currency" },
    { name = "net", type = "money", currency_field = "unit" },
    { name = "tax", type = "money", currency_field = "unit" },
]
"#;
/// Of the currency of its shop.
const SALES: &str = r#"
name = "sales"
singular = "sale"
fields = [
    { name = "code", type = "text", unique = true, required = true },
    { name = "shop_id", type = "reference", module = "shops" },
    { name = "unit", type = "currency", copied = "shop_id.unit" },
    { name = "price", type = "money", currency_field = "unit" },
]
"#;
/// With an amount that is always there.
const FEES: &str = r#"
name = "fees"
singular = "fee"
fields = [
    { name = "unit", type = "currency" },
    { name = "cost", type = "money", currency_field = "unit", required = true },
    { name = "home", type = "currency", default = "JPY" },
    { name = "home_cost", type = "money", currency_field = "home" },
]
"#;

async fn open(backend: Backend) -> anyhow::Result<Fixture> {
    let specs = [SHOPS, BILLS, SALES, FEES].map(ModuleSpec::from_toml);
    let specs: Vec<_> = specs.into_iter().collect::<crm_core::Result<_>>()?;
    Fixture::built(backend, |builder| builder.modules(specs)).await
}

/// Pointer and code of each refusal.
fn refusals<T: std::fmt::Debug>(outcome: crm_core::Result<T>) -> Vec<(String, &'static str)> {
    match outcome {
        Err(Error::Invalid(refused)) => {
            let refused = refused.into_iter();
            refused.map(|one| (one.pointer, one.code)).collect()
        }
        other => panic!("{other:?}"),
    }
}

fn required() -> Vec<(String, &'static str)> {
    vec![("/unit".to_owned(), "currency_required")]
}

async fn an_amount_without_a_currency_is_refused_at_the_currency(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let scope = it.operator();
    for amounts in [
        json!({"code": "a", "net": "1"}),
        json!({"code": "a", "net": "1", "tax": "0.05"}),
        json!({"code": "a", "tax": "0", "unit": null}),
        json!({"code": "a", "tax": "1", "unit": ""}),
    ] {
        assert_eq!(
            refusals(it.create(&scope, "bills", amounts).await),
            required()
        );
    }
    let bill = it.create(&scope, "bills", json!({"code": "a"})).await?;
    let update = async |json| it.update(&scope, &bill, None, json).await;
    assert_eq!(refusals(update(json!({"net": "1"})).await), required());
    update(json!({"unit": "EUR"})).await?;
    update(json!({"net": "1"})).await?;
    assert_eq!(refusals(update(json!({"unit": null})).await), required());
    let now = it.get(&scope, "bills", bill.id).await?;
    assert_eq!((now.version, json!(now.get("unit"))), (3, json!("EUR")));
    update(json!({"unit": null, "net": null})).await?;

    let bills = scope.module("bills").context("declared")?;
    let (create, update) = (
        scope.permit::<Create>("bills")?,
        scope.permit::<Update>("bills")?,
    );
    let upsert = async |sent: Json| {
        let key = Key::named(bills, "code")?;
        let write = Write::upsert(&create, &update, key, body(sent))?;
        let reply = |_| {
            Ok(crm_core::record::Reply {
                status: 200,
                record: None,
                body: None,
            })
        };
        let done = it
            .crm
            .records()
            .perform(&scope, Work::One(write), None, reply)
            .await;
        done.map(drop).map_err(|refused| refused.error)
    };
    assert_eq!(
        refusals(upsert(json!({"code": "a", "tax": "1"})).await),
        required()
    );
    assert_eq!(
        refusals(upsert(json!({"code": "b", "tax": "1"})).await),
        required()
    );
    upsert(json!({"code": "a", "tax": "1", "unit": "EUR"})).await?;
    upsert(json!({"code": "a", "net": "2"})).await?;
    Ok(())
}

async fn a_default_a_hook_or_a_copied_field_may_give_the_currency(
    backend: Backend,
) -> anyhow::Result<()> {
    let specs = [SHOPS, BILLS, SALES, FEES].map(ModuleSpec::from_toml);
    let specs: Vec<_> = specs.into_iter().collect::<crm_core::Result<_>>()?;
    let it = Fixture::built(backend, |builder| {
        let builder = builder.modules(specs);
        builder.hook("bills", When::Before, ChangeKind::Created, |cx| {
            Box::pin(async move { cx.set("unit", json!("EUR")) })
        })
    })
    .await?;
    let scope = it.operator();
    let bill = json!({"code": "a", "net": "1.50"});
    let bill = it.create(&scope, "bills", bill).await?;
    assert_eq!(json!(bill.get("unit")), "EUR");
    let finer = it
        .create(&scope, "bills", json!({"code": "b", "net": "1.005"}))
        .await;
    assert_eq!(refusals(finer), [("/net".to_owned(), "too_precise")]);

    let fee = json!({"unit": "EUR", "cost": "1", "home_cost": "100"});
    it.create(&scope, "fees", fee).await?;
    let finer = json!({"unit": "EUR", "cost": "1", "home_cost": "0.5"});
    let finer = it.create(&scope, "fees", finer).await;
    assert_eq!(refusals(finer), [("/home_cost".to_owned(), "too_precise")]);

    let shop = json!({"title": "Kiel", "unit": "EUR"});
    let shop = it.create(&scope, "shops", shop).await?;
    let none = it
        .create(&scope, "shops", json!({"title": "Nowhere"}))
        .await?;
    let sale = json!({"code": "a", "shop_id": shop.id, "price": "9.99"});
    let sale = it.create(&scope, "sales", sale).await?;
    assert_eq!(json!(sale.get("unit")), "EUR");
    let moved = it
        .update(&scope, &sale, None, json!({"shop_id": none.id}))
        .await;
    assert_eq!(refusals(moved), required());
    let bare = it
        .create(&scope, "sales", json!({"code": "b", "price": "9.99"}))
        .await;
    assert_eq!(refusals(bare), required());
    Ok(())
}

async fn bulk_writes_and_imports_are_held_to_currencies_too(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let scope = it.operator();
    let bill = |code: &str, unit: Json| json!({"code": code, "unit": unit});
    it.create(&scope, "bills", bill("a", json!("EUR"))).await?;
    let none = it.create(&scope, "bills", bill("b", Json::Null)).await?;
    let bills = scope.module("bills").context("declared")?;
    let (read, update) = (
        scope.permit::<Read>("bills")?,
        scope.permit::<Update>("bills")?,
    );
    let set = async |filter: Json, set: Json| {
        let filter = Filter::from_json(bills, &body(filter)).map_err(Error::Invalid)?;
        let many = Many::update(&read, &update, filter, body(set), None)?;
        it.crm.records().write_many(many).await
    };
    let refused = set(json!({}), json!({"net": "1"})).await;
    let error = refused.err().context("one has no currency")?;
    assert_eq!(error.code(), "validation_failed");
    assert!(
        format!("{error:?}").contains("currency_required"),
        "{error:?}"
    );
    assert!(
        format!("{error:?}").contains(&none.id.to_string()),
        "{error:?}"
    );
    let finer = set(json!({"code": "a"}), json!({"net": "1.005"})).await;
    let finer = finer.err().context("finer than a cent")?;
    assert!(format!("{finer:?}").contains("too_precise"), "{finer:?}");
    assert_eq!(
        set(json!({"code": "a"}), json!({"net": "1"}))
            .await?
            .changed,
        1
    );

    let shop = json!({"title": "Kiel", "unit": "EUR"});
    let shop = it.create(&scope, "shops", shop).await?;
    let import = async |module: &str, file: String, options: ImportOptions| {
        let transfer = it.crm.transfer();
        let mut upload = transfer.import(&scope, module, options).await?;
        upload.push(file.as_bytes()).await?;
        let id = upload.finish().await?;
        it.crm.run_jobs_once().await?;
        let job = it.crm.jobs().get(&scope, id).await?;
        assert_eq!(job.state, JobState::Done);
        let errors = it.crm.jobs().errors(&scope, id, 0, 100).await?;
        let errors = errors.into_iter();
        let errors = errors.map(|one| format!("{} {} {}", one.line, one.pointer, one.code));
        anyhow::Ok(errors.collect::<Vec<_>>())
    };
    let options = ImportOptions {
        mode: ImportMode::Upsert,
        key: Some("code".to_owned()),
        ..ImportOptions::new(Format::Csv)
    };
    let file = "code,net,unit\na,2,\nb,3,\nc,4,\nd,5,EUR\n".to_owned();
    let errors = import("bills", file, options).await?;
    // The first one has a currency already, which an empty cell leaves as it is.
    let at = |line: u32| format!("{line} /unit currency_required");
    assert_eq!(errors, [at(3), at(4)]);
    let file = format!("code,price,shop_id\na,2,{}\nb,3,\n", shop.id);
    let errors = import("sales", file, ImportOptions::new(Format::Csv)).await?;
    assert_eq!(errors, [at(3)]);
    Ok(())
}

async fn modules_with_amounts_keep_the_promises_of_every_module(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    for name in ["bills", "sales", "fees"] {
        module_suite(&it.crm, name).await?;
    }
    Ok(())
}

//! What the deals and tasks of a sales team need (SA-86 to SA-97): what a declaration says of it,
//! and what a hook does.

use super::field_lists::invalid;
use super::*;
use crm_core::Refusal;
use crm_core::event::ChangeKind;
use crm_core::record::{HookContext, When};
use crm_core::value::Value;

on_both_databases!(
    sa_87_a_deal_is_won_with_an_amount_above_zero_whatever_door_it_takes,
    sa_89_a_stage_goes_back_by_a_permission_and_others_are_forbidden_to,
    sa_93_a_hook_completes_the_currency_and_a_new_default_touches_no_deal_there,
    sa_95_a_hook_refuses_a_due_date_in_the_past_only_where_it_changes,
);

const DEALS: &str = r#"
    name = "sales"
    singular = "sale"
    fields = [
        { name = "title", type = "text", required = true },
        { name = "amount", type = "decimal", precision = 12, scale = 2 },
        { name = "currency", type = "currency" },
        { name = "status", type = "enum", values = ["open", "won", "lost"], required = true, default = "open" },
        { name = "stage", type = "enum", values = ["qualification", "proposal", "negotiation"], required = true, default = "qualification" },
    ]

    [[machines]]
    field = "status"
    edges = { open = ["won", "lost"] }
    needs = { won = [{ field = "amount", gt = 0 }] }

    [[machines]]
    field = "stage"
    ordered = true
    back = { permission = "purge" }
"#;

const TASKS: &str = r#"
    name = "chores"
    singular = "chore"
    fields = [
        { name = "title", type = "text", required = true },
        { name = "due_date", type = "date" },
        { name = "done", type = "bool", required = true, default = false },
    ]
"#;

async fn open(backend: Backend) -> anyhow::Result<Fixture> {
    let spec = ModuleSpec::from_toml(DEALS)?;
    Fixture::built(backend, |builder| builder.modules([spec])).await
}

async fn sa_87_a_deal_is_won_with_an_amount_above_zero_whatever_door_it_takes(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let scope = it.operator();
    let deal = it.create(&scope, "sales", json!({"title": "a"})).await?;
    let none = it.update(&scope, &deal, None, json!({"status": "won"}));
    assert_eq!(invalid(none.await), [("/amount".into(), "required")]);
    for amount in ["0", "-0.01"] {
        let both = json!({"status": "won", "amount": amount});
        let refused = invalid(it.update(&scope, &deal, None, both).await);
        assert_eq!(refused, [("/amount".into(), "needed_by_state")], "{amount}");
    }
    let made = json!({"title": "b", "status": "won", "amount": 0});
    let refused = invalid(it.create(&scope, "sales", made).await);
    assert_eq!(refused, [("/amount".into(), "needed_by_state")]);
    // Amount and status come together, and what is won stays above zero.
    let both = json!({"status": "won", "amount": "0.01"});
    let won = it.update(&scope, &deal, None, both).await?;
    let refused = invalid(it.update(&scope, &won, None, json!({"amount": "0"})).await);
    assert_eq!(refused, [("/amount".into(), "needed_by_state")]);
    let lost = it.create(&scope, "sales", json!({"title": "c"})).await?;
    it.update(&scope, &lost, None, json!({"status": "lost"}))
        .await?;
    Ok(())
}

async fn sa_89_a_stage_goes_back_by_a_permission_and_others_are_forbidden_to(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let rights = [
        "sales.read",
        "sales.create",
        "sales.update",
        "sales.purge:own",
    ];
    it.role("head", rights.map(Into::into).to_vec()).await?;
    it.role("boss", vec!["sales.*".into()]).await?;
    let ((head, _), (boss, _)) = (it.member("head").await?, it.member("boss").await?);
    let deal = it.create(&head, "sales", json!({"title": "a"})).await?;
    // Forward may skip.
    let deal = it
        .update(&head, &deal, None, json!({"stage": "negotiation"}))
        .await?;
    let entries = it.audit().await?.len();
    let back = it.update(&head, &deal, None, json!({"stage": "proposal"}));
    assert!(
        matches!(back.await, Err(Error::Forbidden { permission }) if permission == "sales.purge")
    );
    assert_eq!(it.audit().await?.len(), entries, "nothing is written");
    let back = it
        .update(&boss, &deal, None, json!({"stage": "proposal"}))
        .await?;
    assert_eq!(json!(back.get("stage")), "proposal");
    Ok(())
}

/// The currency that new deals get, as an application may keep it anywhere.
type Currency = Arc<Mutex<String>>;

async fn sa_93_a_hook_completes_the_currency_and_a_new_default_touches_no_deal_there(
    backend: Backend,
) -> anyhow::Result<()> {
    let currency: Currency = Arc::new(Mutex::new("USD".to_owned()));
    let kept = currency.clone();
    let spec = ModuleSpec::from_toml(DEALS)?;
    let it = Fixture::built(backend, |builder| {
        let builder = builder.modules([spec]);
        builder.hook("sales", When::Before, ChangeKind::Created, move |cx| {
            let default = kept.lock().map(|currency| currency.clone());
            let default = default.unwrap_or_default();
            Box::pin(async move {
                let given = cx.record().and_then(|record| record.get("currency"));
                match given.is_none_or(Value::is_null) {
                    true => cx.set("currency", default),
                    false => Ok(()),
                }
            })
        })
    })
    .await?;
    let scope = it.operator();
    let first = it.create(&scope, "sales", json!({"title": "a"})).await?;
    if let Ok(mut currency) = currency.lock() {
        "EUR".clone_into(&mut currency);
    }
    let second = it.create(&scope, "sales", json!({"title": "b"})).await?;
    let third = json!({"title": "c", "currency": "CHF"});
    let third = it.create(&scope, "sales", third).await?;
    for (deal, currency) in [(first, "USD"), (second, "EUR"), (third, "CHF")] {
        let deal = it.get(&scope, "sales", deal.id).await?;
        assert_eq!(json!(deal.get("currency")), currency);
    }
    let odd = it.create(&scope, "sales", json!({"title": "d", "currency": "XYZ"}));
    assert_eq!(code(odd.await), "validation_failed");
    Ok(())
}

/// Refuses a due date before today (UTC) where the date itself changes.
async fn not_in_the_past(cx: &mut HookContext<'_>) -> crm_core::Result<()> {
    let due = cx.record().and_then(|record| record.get("due_date"));
    let Some(Value::Date(due)) = due else {
        return Ok(());
    };
    if cx.changes("due_date") && *due < cx.clock().now().date_naive() {
        let refusal = Refusal::invalid("due_in_the_past", "is before today");
        return Err(refusal.on("due_date").into());
    }
    Ok(())
}

async fn sa_95_a_hook_refuses_a_due_date_in_the_past_only_where_it_changes(
    backend: Backend,
) -> anyhow::Result<()> {
    let start = DateTime::parse_from_rfc3339("2025-01-15T09:30:00Z")?.to_utc();
    let (clock, hand) = Clock::fixed(start, 1);
    let spec = ModuleSpec::from_toml(TASKS)?;
    let it = Fixture::built(backend, |builder| {
        let builder = builder.modules([spec]).clock(clock);
        [ChangeKind::Created, ChangeKind::Updated]
            .into_iter()
            .fold(builder, |builder, kind| {
                builder.hook("chores", When::Before, kind, |cx| {
                    Box::pin(not_in_the_past(cx))
                })
            })
    })
    .await?;
    let scope = it.operator();
    let past = json!({"title": "a", "due_date": "2025-01-14"});
    let refused = it.create(&scope, "chores", past).await;
    assert_eq!(code(refused), "due_in_the_past");
    let today = json!({"title": "a", "due_date": "2025-01-15"});
    let task = it.create(&scope, "chores", today).await?;
    hand.advance(TimeDelta::days(2));
    let earlier = it.update(&scope, &task, None, json!({"due_date": "2025-01-16"}));
    assert_eq!(code(earlier.await), "due_in_the_past");
    // An overdue task is completed, also by a client that sends back what it read.
    let done = json!({"done": true, "due_date": "2025-01-15"});
    it.update(&scope, &task, None, done).await?;
    Ok(())
}

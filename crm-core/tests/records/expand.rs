//! What an expanding list costs: statements do not grow with the page.

use super::*;
use crm_core::record::View;
use crm_core::testing::reads;

on_both_databases!(statements_of_an_expanding_list_do_not_grow_with_the_page);

const CREWS: &str = r#"
name = "crews"
singular = "crew"
fields = [
    { name = "title", type = "text", required = true },
    { name = "lead_id", type = "reference", module = "contacts" },
    { name = "member_ids", type = "references", module = "contacts" },
    { name = "subject", type = "any_reference", modules = ["companies", "contacts"] },
]
"#;

async fn statements_of_an_expanding_list_do_not_grow_with_the_page(
    backend: Backend,
) -> anyhow::Result<()> {
    const CREW: usize = 100;
    let spec = ModuleSpec::from_toml(CREWS)?;
    let it = Fixture::built(backend, |builder| builder.modules([spec])).await?;
    let scope = it.operator();
    for n in 0..CREW {
        let company = json!({"name": format!("company {n}")});
        let company = it.create(&scope, "companies", company).await?;
        let mut people = Vec::new();
        for role in ["lead", "member"] {
            let person = json!({"name": format!("{role} {n}"), "company_id": company.id});
            people.push(it.create(&scope, "contacts", person).await?.id);
        }
        let subject = match n % 2 {
            0 => format!("companies/{}", company.id),
            _ => format!("contacts/{}", people[0]),
        };
        let crew = json!({
            "title": format!("crew {n}"), "lead_id": people[0], "member_ids": people,
            "subject": subject,
        });
        it.create(&scope, "crews", crew).await?;
    }
    let permit = scope.permit::<Read>("crews")?;
    let module = scope.module("crews").context("declared")?;
    let records = it.crm.records();
    // The list, each reference by itself (of any module: one for each), and what is behind two.
    for (paths, statements) in [
        (vec![], 1),
        (vec!["lead_id"], 2),
        (vec!["lead_id", "member_ids", "subject"], 5),
        (vec!["lead_id.company_id", "member_ids.company_id"], 5),
    ] {
        let mut view = View::default();
        view.expand(&scope, module, paths.iter().copied())
            .map_err(|error| Error::Invalid(vec![error]))?;
        for limit in [2, CREW as u32] {
            let query = Query {
                limit,
                ..Query::default()
            };
            let page = async {
                let page = records.list(&permit, &query).await?;
                records.view(&permit, page.data, &view).await
            };
            let (viewed, count) = reads(page).await;
            assert_eq!(count, statements, "{paths:?} of {limit}");
            let viewed = serde_json::to_value(viewed?)?;
            assert_eq!(viewed.as_array().map(Vec::len), Some(limit as usize));
            if paths.contains(&"lead_id") {
                let last = &viewed[limit as usize - 1];
                assert_eq!(last["lead"]["id"], last["lead_id"]);
            }
        }
    }
    Ok(())
}

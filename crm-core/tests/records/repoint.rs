//! A record that refers to what is merged by several fields changes once.

use super::*;
use crm_core::record::{Merge, Write};

on_both_databases!(a_record_with_several_references_to_what_is_merged_changes_once,);

const ISLES: &str = r#"
    name = "isles"
    singular = "isle"
    fields = [{ name = "title", type = "text" }]
"#;
const BOATS: &str = r#"
    name = "boats"
    singular = "boat"
    fields = [
        { name = "from_id", type = "reference", module = "isles" },
        { name = "to_id", type = "reference", module = "isles" },
        { name = "calls_at", type = "references", module = "isles" },
        { name = "subject", type = "any_reference", modules = ["isles", "contacts"] },
    ]
"#;

async fn a_record_with_several_references_to_what_is_merged_changes_once(
    backend: Backend,
) -> anyhow::Result<()> {
    let specs = [ISLES, BOATS].into_iter().map(ModuleSpec::from_toml);
    let specs = specs.collect::<crm_core::Result<Vec<_>>>()?;
    let it = Fixture::built(backend, |builder| builder.modules(specs)).await?;
    let scope = it.operator();
    let mut isles = Vec::new();
    for title in ["a", "b", "c"] {
        isles.push(it.create(&scope, "isles", json!({"title": title})).await?);
    }
    let [a, b, c] = [&isles[0].id, &isles[1].id, &isles[2].id];
    let plain = json!({"from_id": b, "to_id": c});
    let plain = it.create(&scope, "boats", plain).await?;
    let full = json!({
        "from_id": b, "to_id": a, "calls_at": [c, b], "subject": format!("isles/{c}"),
    });
    let full = it.create(&scope, "boats", full).await?;
    let (read, update, delete) = (
        scope.permit::<Read>("isles")?,
        scope.permit::<Update>("isles")?,
        scope.permit::<Delete>("isles")?,
    );
    let merge = Merge {
        from: vec![(*b, None), (*c, None)],
        take: Vec::new(),
    };
    let merge = Write::merge(&read, &update, &delete, *a, None, merge)?;
    it.crm.records().merge(merge).await?;
    let plain = it.get(&scope, "boats", plain.id).await?;
    let fields = |boat: &Record, names: [&str; 2]| json!(names.map(|name| boat.get(name)));
    assert_eq!(fields(&plain, ["from_id", "to_id"]), json!([a, a]));
    let full = it.get(&scope, "boats", full.id).await?;
    assert_eq!(fields(&full, ["from_id", "to_id"]), json!([a, a]));
    let others = json!([[a], format!("isles/{a}")]);
    assert_eq!(fields(&full, ["calls_at", "subject"]), others);
    assert_eq!((plain.version, full.version), (2, 2));
    Ok(())
}

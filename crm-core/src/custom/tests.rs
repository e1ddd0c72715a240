//! What no door of a user shows: the end of a module that stops half-way, and a name that was
//! reserved after a field had got it. All else of custom fields is proven in `tests/records`.

use super::*;
use crate::db::{ColumnType, Sql};
use crate::module::{ModuleSpec, QUERY_WORDS};
use crate::policy::fixture::{World, on_both_databases, refusal};
use crate::schema::DataLoss;
use crate::scope::{Create, Delete};

on_both_databases! {
    what_is_made_of_a_reference_goes_with_it_where_the_end_of_a_module_stops_half_way
    a_field_whose_name_was_reserved_since_is_changed_and_none_is_declared_so
}

/// Visits that refer to each other, with what is made of that.
fn visits() -> ModuleSpec {
    let visits = json!({
        "name": "visits", "singular": "visit",
        "fields": [
            {"name": "place", "type": "text"},
            {"name": "after_id", "type": "reference", "module": "visits", "on_delete": "set_null"},
            {"name": "came_from", "type": "text", "copied": "after_id.place"},
            {"name": "way", "type": "text", "computed": "{came_from} {place}"},
            {"name": "label", "type": "text", "computed": "to {place}"},
        ],
    });
    serde_json::from_value(visits).unwrap()
}

impl World {
    async fn in_use(&self) -> Vec<String> {
        let permit = self.permit(self.admin, OBJECT).await;
        let fields = self.crm.custom_fields().list(&permit, "visits").await;
        let fields = fields.unwrap().into_iter();
        let fields = fields.filter(|field| field.removed_at.is_none());
        fields.map(|field| field.spec.name.to_string()).collect()
    }

    async fn visit(&self, body: Json) -> Json {
        let permit = self.permit::<Create>(self.admin, "visits").await;
        let body = body.as_object().unwrap().clone();
        let made = self.crm.records().create(&permit, body).await.unwrap();
        serde_json::from_str(&made.to_json()).unwrap()
    }
}

async fn what_is_made_of_a_reference_goes_with_it_where_the_end_of_a_module_stops_half_way(
    world: World,
) {
    let permit = world.permit(world.admin, OBJECT).await;
    let modules = world.crm.custom_modules();
    modules.create(&permit, visits()).await.unwrap();
    let first = world.visit(json!({"place": "Ulm"})).await;
    let second = world
        .visit(json!({"place": "Bonn", "after_id": first["id"]}))
        .await;
    assert_eq!(second["way"], "Ulm Bonn");

    let permit = world.permit::<Delete>(world.admin, OBJECT).await;
    let write = CustomModules::ending(&permit, "visits").unwrap();
    let policy = &world.crm.core.policy;
    let stopped = policy.write(write.tenant(), |tx| Box::pin(write.cut(tx)));
    stopped.await.unwrap();
    assert_eq!(world.in_use().await, ["place", "label"]);
    let third = world.visit(json!({"place": "Trier"})).await;
    assert_eq!(third["label"], "to Trier");
    for gone in ["after_id", "came_from", "way"] {
        assert!(third.get(gone).is_none(), "{gone}");
    }

    let permit = world.permit(world.admin, OBJECT).await;
    let ended = modules.delete(&permit, "visits", DataLoss::Accepted);
    assert_eq!(ended.await.unwrap(), 3);
}

async fn a_field_whose_name_was_reserved_since_is_changed_and_none_is_declared_so(world: World) {
    let permit = world.permit(world.admin, OBJECT).await;
    let mut visits = visits();
    visits.fields.truncate(1);
    let modules = world.crm.custom_modules();
    modules.create(&permit, visits).await.unwrap();
    let word = QUERY_WORDS[0];
    let reserve = Sql::new(
        "UPDATE custom_fields SET name = $1, declaration = replace(declaration, $2, $3) \
         WHERE name = 'place'",
    )
    .bind(word, ColumnType::Text)
    .bind("\"name\":\"place\"", ColumnType::Text)
    .bind(format!("\"name\":\"{word}\""), ColumnType::Text);
    world.execute(reserve).await;

    let fields = world.crm.custom_fields();
    let permit = world.permit::<Update>(world.admin, OBJECT).await;
    let change = FieldChange {
        description: Some("Where it leads.".into()),
        ..FieldChange::default()
    };
    let changed = fields.change(&permit, "visits", word, change.clone()).await;
    assert_eq!(changed.unwrap().spec.description, "Where it leads.");
    let wrong = FieldChange {
        default: Some(Some(json!(7))),
        ..change
    };
    match fields.change(&permit, "visits", word, wrong).await {
        Err(Error::Invalid(problems)) => {
            let pointers: Vec<_> = problems.iter().map(|one| one.pointer.as_str()).collect();
            assert_eq!(pointers, ["/default"]);
        }
        other => panic!("{other:?}"),
    }
    let new = json!({"name": QUERY_WORDS[1], "type": "text"});
    let new = serde_json::from_value(new).unwrap();
    let refused = fields.declare(&permit, "visits", new).await;
    assert_eq!(refusal(refused), "validation_failed");
}

//! The permissions that the OpenAPI document states for each operation are what it needs: whoever has
//! them and nothing else is let in, and whoever has everything else is not.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::access::{operations, something_of_each, start};
use crate::app::{App, Caller, Database};

crate::on_both_databases! {
    whoever_has_the_stated_permissions_alone_is_let_in
    whoever_lacks_the_stated_permission_alone_is_refused
}

/// A program whose role has these permissions, one for each set of them.
async fn program<'p>(
    app: &App,
    programs: &'p mut BTreeMap<Vec<String>, Caller>,
    permissions: Vec<String>,
) -> &'p Caller {
    if !programs.contains_key(&permissions) {
        let name = format!("role {}", programs.len());
        let role = json!({"name": name, "permissions": permissions});
        app.admin.post("/api/v1/roles", role).await.expect(201);
        let caller = app.program(&name).await;
        programs.insert(permissions.clone(), caller);
    }
    &programs[&permissions]
}

async fn whoever_has_the_stated_permissions_alone_is_let_in(database: Database) {
    let app = start(database).await;
    let ids = something_of_each(&app).await;
    let mut programs = BTreeMap::new();
    for operation in operations(app.document()) {
        let Some(permission) = &operation.permission else {
            continue;
        };
        let further = operation.further.iter().cloned();
        let permissions = further.chain([permission.clone()]).collect();
        let caller = program(&app, &mut programs, permissions).await;
        let reply = operation.call(caller, &ids).await;
        let code = match serde_json::from_str::<Value>(&reply.body) {
            Ok(body) => body["code"].as_str().unwrap_or_default().to_owned(),
            Err(_) => String::new(),
        };
        assert_ne!(code, "forbidden", "{}: {reply}", operation.id);
    }
    app.close().await;
}

async fn whoever_lacks_the_stated_permission_alone_is_refused(database: Database) {
    let app = start(database).await;
    let ids = something_of_each(&app).await;
    let mut programs = BTreeMap::new();
    for operation in operations(app.document()) {
        let Some(permission) = &operation.permission else {
            continue;
        };
        let permissions = vec!["*.*".to_owned(), format!("!{permission}")];
        let caller = program(&app, &mut programs, permissions).await;
        let reply = operation.call(caller, &ids).await;
        assert_eq!(
            reply.problem(),
            (403, "forbidden".into()),
            "{}: {reply}",
            operation.id
        );
    }
    app.close().await;
}

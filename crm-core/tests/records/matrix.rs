//! What the built-in roles may do with the default modules and the administration.

use super::*;
use crm_core::policy::Rows;

on_both_databases!(pl_36_the_built_in_roles_may_do_what_the_matrix_says);

async fn pl_36_the_built_in_roles_may_do_what_the_matrix_says(
    backend: Backend,
) -> anyhow::Result<()> {
    const ROLES: [&str; 4] = ["admin", "manager", "member", "viewer"];
    let it = Fixture::open(backend).await?;
    let mut scopes = Vec::new();
    for role in ROLES {
        scopes.push(it.member(role).await?.0);
    }
    let mut lines = vec![format!(
        "{:<20} {}",
        "",
        ROLES.map(|role| format!("{role:<8}")).join("")
    )];
    let others = ["things", "boxes", "notes", "bare"];
    for (operation, object, action) in it.crm.catalogue().operations() {
        if others.contains(&object) {
            continue;
        }
        let cells = scopes
            .iter()
            .map(|scope| match scope.grants().rows(operation) {
                None => "-".to_owned(),
                Some(Rows::All) => "all".to_owned(),
                Some(Rows::Of(rules)) => {
                    let rules = rules.iter().map(|rule| rule.to_string());
                    rules.collect::<Vec<_>>().join(" ").replace(':', "")
                }
            });
        let cells: String = cells.map(|cell| format!("{cell:<8}")).collect();
        lines.push(format!("{:<20} {}", format!("{object}.{action}"), cells));
    }
    let lines: Vec<_> = lines.iter().map(|line| line.trim_end()).collect();
    insta::assert_snapshot!("role_matrix", lines.join("\n"));
    Ok(())
}

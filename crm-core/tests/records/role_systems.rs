//! The roles of five systems in the one policy model: declared as data, and each cell of the
//! system's matrix tried on rows of one's own, in one's scope and of others.

use std::collections::HashMap;

use crm_core::group::{GroupMember, NewGroup};
use crm_core::policy::RowScope;
use crm_core::role::NewRole;
use secrecy::ExposeSecret;

use super::*;

on_both_databases!(
    ag_13_seven_fixed_roles_reach_down_a_chain_of_parents,
    sa_15_roles_of_a_membership_are_ranked,
    pl_18_roles_made_at_run_time_groups_and_wildcards_unite,
    at_19_lists_of_permissions_in_json_are_what_is_enforced,
    in_13_the_role_in_the_active_site_counts,
);

/// A role: its name, the one whose permissions it includes, and its own.
type Role = (&'static str, Option<&'static str>, &'static str);
/// A line of a matrix: the requirement, what is done, and which rows each role reaches by it.
type Line = (&'static str, &'static str, &'static str);

async fn open(backend: Backend, modules: &[&str]) -> anyhow::Result<Fixture> {
    let specs = modules.iter().map(|text| ModuleSpec::from_toml(text));
    let specs = specs.collect::<Result<Vec<_>, _>>()?;
    Fixture::built(backend, |builder| builder.modules(specs)).await
}

impl Fixture {
    async fn declare_roles(&self, tenant: TenantId, roles: &[Role]) -> anyhow::Result<()> {
        let mut made = HashMap::new();
        for (name, parent, permissions) in roles {
            let role = NewRole {
                name: (*name).to_owned(),
                parent_id: parent.map(|parent| made[parent]),
                permissions: permissions.split_whitespace().map(Into::into).collect(),
                ..NewRole::default()
            };
            let permit = self.crm.operator(tenant, request()).permit("roles")?;
            let role = self.crm.roles().create(&permit, role).await?;
            made.insert(*name, role.id);
        }
        Ok(())
    }

    /// A member of each role.
    async fn members(&self, roles: &[&str]) -> anyhow::Result<Vec<(Scope, UserId)>> {
        let mut members = Vec::new();
        for role in roles {
            members.push(self.member(role).await?);
        }
        Ok(members)
    }

    /// Holds each cell of a matrix against what the members reach. `rows` makes rows of a module
    /// for a member, the nearest first.
    async fn check(
        &self,
        members: &[(Scope, UserId)],
        lines: &[Line],
        rows: impl AsyncFn(&str, UserId) -> anyhow::Result<Vec<Record>>,
    ) -> anyhow::Result<()> {
        for (requirement, action, cells) in lines {
            let (object, verb) = action.split_once('.').context("an action")?;
            let on_rows = verb != "create" && self.crm.registry().get(object).is_some();
            let cells: Vec<_> = cells.split_whitespace().collect();
            assert_eq!(members.len(), cells.len(), "{requirement}");
            for (column, (scope, user)) in members.iter().enumerate() {
                let reached = match on_rows {
                    true => {
                        self.on_rows(scope, verb, &rows(object, *user).await?)
                            .await?
                    }
                    false => self.by_rule(scope, object, verb)?,
                };
                assert_eq!(reached, cells[column], "{requirement} {action}, {column}");
            }
        }
        Ok(())
    }

    /// What the policy says of an action that is about no row yet, or about the administration.
    fn by_rule(&self, scope: &Scope, object: &str, verb: &str) -> anyhow::Result<&'static str> {
        let operation = self.crm.catalogue().operation(object, verb);
        Ok(
            match scope.grants().decide(operation.context("an operation")?) {
                None => "-",
                Some(RowScope::All) => "all",
                Some(RowScope::Own) => "own",
                Some(RowScope::Parent | RowScope::Team) => "scope",
            },
        )
    }

    /// Which of these rows the action is done to.
    async fn on_rows(
        &self,
        scope: &Scope,
        verb: &str,
        rows: &[Record],
    ) -> anyhow::Result<&'static str> {
        let mut done = Vec::new();
        for row in rows {
            let module = row.module().name().as_str();
            let text = if module == "contacts" {
                "name"
            } else {
                "title"
            };
            done.push(match verb {
                "read" => self.get(scope, module, row.id).await.is_ok(),
                "update" => {
                    let change = json!({text: "changed"});
                    self.update(scope, row, None, change).await.is_ok()
                }
                "delete" => self.delete(scope, row).await.is_ok(),
                other => anyhow::bail!("no such verb: {other}"),
            });
        }
        Ok(match done.as_slice() {
            [true, true] | [true, true, true] => "all",
            [true, true, false] => "scope",
            [true, false] | [true, false, false] => "own",
            [false, false] | [false, false, false] => "-",
            _ => "others, and not one's own",
        })
    }

    /// A row of each owner.
    async fn owned(&self, module: &str, owners: [UserId; 2]) -> anyhow::Result<Vec<Record>> {
        let text = if module == "contacts" {
            "name"
        } else {
            "title"
        };
        let mut rows = Vec::new();
        for owner in owners {
            let row = json!({text: "made", "owner_id": owner});
            rows.push(self.create(&self.operator(), module, row).await?);
        }
        Ok(rows)
    }

    async fn give(
        &self,
        (scope, _): &(Scope, UserId),
        (_, user): &(Scope, UserId),
        role: &str,
    ) -> &'static str {
        let members = self.crm.members();
        match scope.permit::<Update>("members") {
            Ok(permit) => code(members.set_roles(&permit, *user, [role.to_owned()]).await),
            Err(error) => error.code(),
        }
    }
}

/// AG: seven fixed roles, each attached to an agency or a client by a group that is in charge of
/// it. The row of a client's own agency (AG-14) is not below the client, and so no part of this.
async fn ag_13_seven_fixed_roles_reach_down_a_chain_of_parents(
    backend: Backend,
) -> anyhow::Result<()> {
    const MODULES: [&str; 3] = [
        "name = 'agencies'\nsingular = 'agency'\nfields = [{ name = 'title', type = 'text' }]",
        "name = 'clients'\nsingular = 'client'\nparent = 'agency_id'\nfields = [\
         { name = 'title', type = 'text' },\
         { name = 'agency_id', type = 'reference', module = 'agencies' }]",
        "name = 'leads'\nsingular = 'lead'\nparent = 'client_id'\nfields = [\
         { name = 'title', type = 'text' },\
         { name = 'client_id', type = 'reference', module = 'clients' }]",
    ];
    const ROLES: [Role; 7] = [
        ("ro", None, "clients.read:parent leads.read:parent"),
        ("cu", Some("ro"), "leads.create:parent leads.update:own"),
        ("cs", Some("cu"), "leads.update:parent"),
        ("ca", Some("cs"), "clients.update:parent"),
        ("as", Some("cs"), "clients.update:parent"),
        (
            "aa",
            Some("as"),
            "clients.create:parent clients.delete:parent leads.delete:parent",
        ),
        ("sa", None, "*.*"),
    ];
    let it = open(backend, &MODULES).await?;
    it.declare_roles(it.tenant, &ROLES).await?;
    let scope = it.operator();
    let mut clients = Vec::new();
    for title in ["a", "b"] {
        let agency = it
            .create(&scope, "agencies", json!({"title": title}))
            .await?;
        let client = json!({"title": title, "agency_id": agency.id});
        let client = it.create(&scope, "clients", client).await?;
        clients.push((agency, client));
    }
    let [(agency, client), (other_agency, other_client)] = &clients[..] else {
        anyhow::bail!("two clients")
    };
    let mut members = it
        .members(&["sa", "aa", "as", "ca", "cs", "cu", "ro"])
        .await?;
    let (of_agency, of_client): (Vec<_>, Vec<_>) = {
        let users: Vec<UserId> = members.iter().map(|(_, user)| *user).collect();
        (users[1..3].to_vec(), users[3..].to_vec())
    };
    it.group("of the agency", &of_agency, &[agency]).await?;
    it.group("of the client", &of_client, &[client]).await?;
    for (scope, user) in &mut members {
        *scope = it.again(*user).await?;
    }
    let rows = async |module: &str, user: UserId| -> anyhow::Result<Vec<Record>> {
        let mut rows = Vec::new();
        let places = [(Some(user), agency, client), (None, agency, client)];
        for (owner, agency, client) in
            places
                .into_iter()
                .chain([(None, other_agency, other_client)])
        {
            let at_client = owner.is_none() && agency.id != other_agency.id;
            if module == "clients" && at_client && of_client.contains(&user) {
                rows.push(it.get(&it.operator(), module, client.id).await?);
                continue;
            }
            let row = match module {
                "clients" => json!({"title": "x", "owner_id": owner, "agency_id": agency.id}),
                _ => json!({"title": "x", "owner_id": owner, "client_id": client.id}),
            };
            rows.push(it.create(&it.operator(), module, row).await?);
        }
        Ok(rows)
    };
    let lines: [Line; 12] = [
        ("AG-17", "members.read", "all - - - - - -"),
        ("AG-19", "members.create", "all - - - - - -"),
        ("AG-21", "members.delete", "all - - - - - -"),
        ("AG-26", "agencies.create", "all - - - - - -"),
        (
            "AG-29",
            "clients.read",
            "all scope scope scope scope scope scope",
        ),
        ("AG-30", "clients.create", "all scope - - - - -"),
        ("AG-31", "clients.update", "all scope scope scope - - -"),
        ("AG-32", "clients.delete", "all scope - - - - -"),
        (
            "AG-33",
            "leads.read",
            "all scope scope scope scope scope scope",
        ),
        (
            "AG-34",
            "leads.create",
            "all scope scope scope scope scope -",
        ),
        ("AG-35", "leads.update", "all scope scope scope scope own -"),
        ("AG-36", "leads.delete", "all scope - - - - -"),
    ];
    it.check(&members, &lines, rows).await
}

/// SA: four ranked roles, each with all that the one below it has.
async fn sa_15_roles_of_a_membership_are_ranked(backend: Backend) -> anyhow::Result<()> {
    const TASKS: &str = "name = 'tasks'\nsingular = 'task'\nparent = 'deal_id'\nfields = [\
         { name = 'title', type = 'text' },\
         { name = 'deal_id', type = 'reference', module = 'deals' }]";
    const ROLES: [Role; 4] = [
        (
            "sa_member",
            None,
            "contacts.*:own deals.*:own tasks.*:parent members.read",
        ),
        (
            "sa_manager",
            Some("sa_member"),
            "contacts.read contacts.create contacts.update deals.read deals.create deals.update tasks.*",
        ),
        (
            "sa_admin",
            Some("sa_manager"),
            "contacts.delete deals.delete members.* audit.read",
        ),
        ("sa_owner", None, "*.*"),
    ];
    let it = open(backend, &[TASKS]).await?;
    it.declare_roles(it.tenant, &ROLES).await?;
    let members = it
        .members(&["sa_owner", "sa_admin", "sa_manager", "sa_member"])
        .await?;
    let (_, other) = it.member("viewer").await?;
    let rows = async |module: &str, user: UserId| -> anyhow::Result<Vec<Record>> {
        if module != "tasks" {
            return it.owned(module, [user, other]).await;
        }
        let mut rows = Vec::new();
        for deal in it.owned("deals", [user, other]).await? {
            let task = json!({"title": "made", "owner_id": null, "deal_id": deal.id});
            rows.push(it.create(&it.operator(), module, task).await?);
        }
        Ok(rows)
    };
    let lines: [Line; 14] = [
        ("SA-18", "contacts.read", "all all all own"),
        ("SA-19", "contacts.create", "all all all own"),
        ("SA-21", "contacts.update", "all all all own"),
        ("SA-22", "contacts.delete", "all all own own"),
        ("SA-23", "deals.read", "all all all own"),
        ("SA-24", "deals.create", "all all all own"),
        ("SA-25", "deals.update", "all all all own"),
        ("SA-28", "deals.delete", "all all own own"),
        ("SA-29", "tasks.read", "all all all own"),
        ("SA-29", "tasks.update", "all all all own"),
        ("SA-29", "tasks.delete", "all all all own"),
        ("SA-32", "members.read", "all all all all"),
        ("SA-33", "members.update", "all all - -"),
        ("SA-35", "audit.read", "all all - -"),
    ];
    it.check(&members, &lines, rows).await?;
    // SA-33: an admin changes whoever stands below, and neither makes nor unmakes an owner.
    let [owner, admin, manager, member] = &members[..] else {
        anyhow::bail!("four members")
    };
    assert_eq!(
        it.give(admin, owner, "sa_member").await,
        "beyond_your_rights"
    );
    assert_eq!(it.give(admin, member, "sa_owner").await, "forbidden");
    assert_eq!(it.give(manager, member, "sa_manager").await, "forbidden");
    assert_eq!(it.give(admin, manager, "sa_member").await, "ok");
    assert_eq!(it.give(owner, admin, "sa_member").await, "ok");
    Ok(())
}

/// PL: roles made at run time, held directly or through a group, with wildcards.
async fn pl_18_roles_made_at_run_time_groups_and_wildcards_unite(
    backend: Backend,
) -> anyhow::Result<()> {
    const ROLES: [Role; 3] = [
        ("sales", None, "contacts.*"),
        ("reader", None, "*.read"),
        ("nothing", None, ""),
    ];
    let it = open(backend, &[]).await?;
    it.declare_roles(it.tenant, &ROLES).await?;
    let roles = ["admin", "sales", "reader", "nothing", "nothing"];
    let mut members = it.members(&roles).await?;
    let (_, grouped) = members[3];
    let group = NewGroup {
        name: "sellers".into(),
        roles: vec!["sales".into()],
        members: vec![GroupMember {
            user_id: grouped,
            until: None,
        }],
        ..NewGroup::default()
    };
    let permit = it.operator().permit::<Create>("groups")?;
    it.crm.groups().create(&permit, group).await?;
    members[3].0 = it.again(grouped).await?;
    let (_, other) = it.member("viewer").await?;
    let rows = async |module: &str, user: UserId| it.owned(module, [user, other]).await;
    // Admin, sales, reader, sales through a group, nothing.
    let lines: [Line; 9] = [
        ("PL-19", "deals.read", "all - all - -"),
        ("PL-25", "contacts.read", "all all all all -"),
        ("PL-26", "contacts.create", "all all - all -"),
        ("PL-27", "contacts.update", "all all - all -"),
        ("PL-28", "contacts.delete", "all all - all -"),
        ("PL-29", "audit.read", "all - all - -"),
        ("PL-36", "roles.read", "all - all - -"),
        ("PL-36", "groups.update", "all - - - -"),
        ("PL-37", "api_keys.create", "all - - - -"),
    ];
    it.check(&members, &lines, rows).await
}

/// AT: permissions as JSON lists of `entity:action` and `entity:action:own`.
async fn at_19_lists_of_permissions_in_json_are_what_is_enforced(
    backend: Backend,
) -> anyhow::Result<()> {
    const MODULES: [&str; 4] = [
        "name = 'departments'\nsingular = 'department'\nfields = [{ name = 'title', type = 'text' }]",
        "name = 'employees'\nsingular = 'employee'\nfields = [{ name = 'title', type = 'text' }]",
        "name = 'shifts'\nsingular = 'shift'\nfields = [{ name = 'title', type = 'text' }]",
        "name = 'attendance'\nsingular = 'attendance_day'\n\
         fields = [{ name = 'title', type = 'text' }]",
    ];
    let roles = [
        ("super_admin", json!(["*:*"])),
        (
            "org_admin",
            json!([
                "departments:*",
                "employees:*",
                "shifts:*",
                "attendance:*",
                "members:*",
                "roles:read"
            ]),
        ),
        (
            "employee",
            json!([
                "departments:read",
                "shifts:read",
                "employees:read:own",
                "attendance:read:own",
                "attendance:create:own"
            ]),
        ),
    ];
    let it = open(backend, &MODULES).await?;
    for (name, list) in &roles {
        let texts: Vec<String> = serde_json::from_value(list.clone())?;
        let permissions = texts.iter().map(|text| text.replacen(':', ".", 1).into());
        it.role(name, permissions.collect()).await?;
    }
    let members = it.members(&roles.map(|(name, _)| name)).await?;
    let (_, other) = it.member("viewer").await?;
    let rows = async |module: &str, user: UserId| it.owned(module, [user, other]).await;
    let lines: [Line; 11] = [
        ("AT-26", "roles.read", "all all -"),
        ("AT-27", "roles.update", "all - -"),
        ("AT-28", "members.create", "all all -"),
        ("AT-30", "departments.read", "all all all"),
        ("AT-31", "departments.update", "all all -"),
        ("AT-33", "employees.read", "all all own"),
        ("AT-34", "employees.delete", "all all -"),
        ("AT-35", "shifts.read", "all all all"),
        ("AT-39", "attendance.create", "all all own"),
        ("AT-40", "attendance.update", "all all -"),
        ("AT-41", "attendance.read", "all all own"),
    ];
    it.check(&members, &lines, rows).await?;
    // AT-20: nobody gives a role, or changes a user, of a higher level than their own.
    let [super_admin, org_admin, employee] = &members[..] else {
        anyhow::bail!("three members")
    };
    assert_eq!(
        it.give(org_admin, super_admin, "employee").await,
        "beyond_your_rights"
    );
    assert_eq!(
        it.give(org_admin, employee, "super_admin").await,
        "forbidden"
    );
    assert_eq!(it.give(org_admin, employee, "org_admin").await, "ok");
    assert_eq!(it.give(super_admin, employee, "super_admin").await, "ok");
    Ok(())
}

/// IN: a site is a tenant; one user has another role in each, and that of the active one counts.
async fn in_13_the_role_in_the_active_site_counts(backend: Backend) -> anyhow::Result<()> {
    const MODULE: &str = "name = 'interactions'\nsingular = 'interaction'\n\
                          fields = [{ name = 'title', type = 'text' }]";
    const ROLES: [Role; 3] = [
        ("site_viewer", None, "interactions.read"),
        (
            "site_editor",
            Some("site_viewer"),
            "interactions.* members.read",
        ),
        ("site_admin", Some("site_editor"), "members.*"),
    ];
    let it = open(backend, &[MODULE]).await?;
    let north = it.crm.tenants().create("North", request()).await?.id;
    for site in [it.tenant, north] {
        it.declare_roles(site, &ROLES).await?;
    }
    let members = it
        .members(&["site_admin", "site_editor", "site_viewer"])
        .await?;
    let (_, other) = it.member("viewer").await?;
    let rows = async |module: &str, user: UserId| it.owned(module, [user, other]).await;
    let lines: [Line; 6] = [
        ("IN-15", "interactions.read", "all all all"),
        ("IN-16", "interactions.create", "all all -"),
        ("IN-17", "interactions.update", "all all -"),
        ("IN-18", "interactions.delete", "all all -"),
        ("IN-23", "members.read", "all all -"),
        ("IN-24", "members.update", "all - -"),
    ];
    it.check(&members, &lines, rows).await?;

    // The editor here is a viewer in North.
    let (_, editor) = members[1];
    let read = it.operator().permit::<Read>("members")?;
    let email = it.crm.members().get(&read, editor).await?.email;
    let joins = NewUser {
        email: email.clone(),
        name: "Editor".into(),
        password: SecretString::from("correct horse battery"),
        roles: vec!["site_viewer".into()],
    };
    let permit = it.crm.operator(north, request()).permit("members")?;
    let accounts = it.crm.accounts();
    accounts.create_user(&permit, joins).await?;
    let token = accounts.operator_token("Acme", &email, request()).await?;
    let mut active = it
        .crm
        .authenticate(token.expose_secret(), request())
        .await?;
    let row = json!({"title": "here"});
    let here = it.create(&active, "interactions", row.clone()).await?;
    for (site, may, seen) in [("North", "forbidden", "not_found"), ("Acme", "ok", "ok")] {
        let (token, _) = it.crm.sessions().switch(&active, site, None).await?;
        active = it
            .crm
            .authenticate(token.expose_secret(), request())
            .await?;
        assert_eq!(
            code(it.create(&active, "interactions", row.clone()).await),
            may
        );
        assert_eq!(code(it.get(&active, "interactions", here.id).await), seen);
    }
    Ok(())
}

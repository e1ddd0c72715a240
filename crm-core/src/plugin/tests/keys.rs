//! Runs that an API key caused, and what is lent by whoever may not lend it any more.

use secrecy::SecretString;

use super::*;
use crate::id::ApiKeyId;
use crate::identity::{NewApiKey, NewServiceAccount};
use crate::job::JobState;
use crate::scope::{Create, RequestContext};
use crate::transfer::{Format, ImportOptions};

on_both_databases! {
    a_run_does_no_more_than_the_api_key_that_caused_it
    a_run_does_no_more_than_the_key_of_the_service_account_that_caused_it
    a_key_that_is_revoked_or_has_expired_causes_nothing_more
    a_job_has_the_rights_of_the_key_that_began_it_as_they_are_now
    the_key_of_a_service_account_lends_no_rights_to_plugins
    whoever_may_not_manage_plugins_any_more_lends_them_nothing
}

fn request() -> RequestContext {
    RequestContext {
        id: "test".into(),
        address: None,
    }
}

impl Theatre {
    /// A key of the role of administrators that may do no more than this, and the scope it opens.
    async fn key(&self, permissions: &[&str], account: Option<UserId>) -> (ApiKeyId, Scope) {
        let (crm, admin) = (&self.world.crm, self.world.admin);
        let input = NewApiKey {
            name: "key".to_owned(),
            role: "admin".to_owned(),
            permissions: Some(permissions.iter().map(ToString::to_string).collect()),
            service_account: account,
            expires_at: None,
        };
        let permit = self.world.permit(admin, "api_keys").await;
        let (key, secret): (_, SecretString) = crm.api_keys().create(&permit, input).await.unwrap();
        let secret = secrecy::ExposeSecret::expose_secret(&secret).to_owned();
        (key.id, crm.authenticate(&secret, request()).await.unwrap())
    }

    async fn account(&self) -> UserId {
        let permit = self.world.permit(self.world.admin, "members").await;
        let input = NewServiceAccount {
            name: "robot".to_owned(),
            roles: vec!["admin".to_owned()],
        };
        let accounts = self.world.crm.accounts();
        accounts
            .create_service_account(&permit, input)
            .await
            .unwrap()
    }

    async fn contact_of(&self, scope: &Scope, title: &str) -> RecordId {
        let permit = scope.permit::<Create>("contacts").unwrap();
        let body = Map::from_iter([("title".to_owned(), json!(title))]);
        let records = self.world.crm.records();
        records.create(&permit, body).await.unwrap().id
    }

    async fn revoke(&self, key: ApiKeyId) {
        let permit = self.world.permit(self.world.admin, "api_keys").await;
        self.world
            .crm
            .api_keys()
            .revoke(&permit, key)
            .await
            .unwrap();
    }

    /// The newest run after a contact was made with this scope.
    async fn run_of(&self, plugin: &Plugin, scope: &Scope, title: &str) -> Run {
        let contact = self.contact_of(scope, title).await;
        self.dispatch().await;
        assert_eq!(self.title(contact).await, json!(title), "it is as it was");
        self.runs(plugin).await.remove(0)
    }
}

async fn a_run_does_no_more_than_the_api_key_that_caused_it(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install("write", "contacts.update").await;
    let (_, narrow) = theatre.key(&["contacts.create"], None).await;
    let run = theatre.run_of(&plugin, &narrow, "one").await;
    let lacks = Some("you lack the permission contacts.update");
    assert_eq!(run.error.as_deref(), lacks);

    let (_, wide) = theatre
        .key(&["contacts.create", "contacts.update"], None)
        .await;
    let contact = theatre.contact_of(&wide, "two").await;
    theatre.dispatch().await;
    assert_eq!(theatre.title(contact).await, json!("changed"));
}

async fn a_run_does_no_more_than_the_key_of_the_service_account_that_caused_it(world: World) {
    let theatre = Theatre::new(world);
    theatre.install("write", "contacts.update").await;
    let text = component("create", "deals.create", "contact.updated").replace("actor", "second");
    let admin = theatre.world.admin;
    let second = theatre.try_upload(admin, &text).await.unwrap();
    theatre.enable(admin, &second).await;
    let account = theatre.account().await;
    let permissions = ["contacts.create", "contacts.update"];
    let (_, scope) = theatre.key(&permissions, Some(account)).await;
    assert_eq!(scope.actor(), Actor::User(account));
    // The account may make deals, and the key may not: also what the first plugin causes may not.
    let contact = theatre.contact_of(&scope, "one").await;
    theatre.dispatch().await;
    assert_eq!(theatre.title(contact).await, json!("changed"));
    let run = theatre.runs(&second).await.remove(0);
    let lacks = Some("you lack the permission deals.create");
    assert_eq!(run.error.as_deref(), lacks);
}

async fn a_key_that_is_revoked_or_has_expired_causes_nothing_more(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install("write", "contacts.update").await;
    let account = theatre.account().await;
    for account in [None, Some(account)] {
        let (key, scope) = theatre.key(&["contacts.*"], account).await;
        let contact = theatre.contact_of(&scope, "one").await;
        theatre.revoke(key).await;
        theatre.dispatch().await;
        let run = theatre.runs(&plugin).await.remove(0);
        assert_eq!(run.outcome, Outcome::Refused, "{run:?}");
        assert!(run.error.unwrap().contains(&key.to_string()));
        assert_eq!(theatre.title(contact).await, json!("one"));

        let (key, scope) = theatre.key(&["contacts.*"], account).await;
        theatre.contact_of(&scope, "two").await;
        let past = Sql::new("UPDATE api_keys SET expires_at = $1 WHERE id = $2")
            .bind(DateTime::UNIX_EPOCH, ColumnType::Instant)
            .bind(key, ColumnType::Uuid);
        theatre.world.execute(past).await;
        theatre.dispatch().await;
        let run = theatre.runs(&plugin).await.remove(0);
        assert_eq!(run.outcome, Outcome::Refused, "{run:?}");
    }
}

async fn a_job_has_the_rights_of_the_key_that_began_it_as_they_are_now(world: World) {
    let theatre = Theatre::new(world);
    let crm = &theatre.world.crm;
    let account = theatre.account().await;
    for revoked in [false, true] {
        let (key, scope) = theatre.key(&["contacts.*", "jobs.*"], Some(account)).await;
        let options = ImportOptions::new(Format::Ndjson);
        let transfer = crm.transfer();
        let import = transfer.import(&scope, "contacts", options);
        let mut import = import.await.unwrap();
        import.push(b"{\"title\": \"one\"}\n").await.unwrap();
        let job = import.finish().await.unwrap();
        if revoked {
            theatre.revoke(key).await;
        }
        let operator = theatre.world.operator(theatre.world.tenant);
        assert!(crm.run_job(&operator, job).await.unwrap());
        let job = crm.jobs().get(&operator, job).await.unwrap();
        let ended = match revoked {
            true => JobState::Failed,
            false => JobState::Done,
        };
        assert_eq!(job.state, ended, "{job:?}");
    }
}

async fn the_key_of_a_service_account_lends_no_rights_to_plugins(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.upload("write", "contacts.update").await;
    let account = theatre.account().await;
    let (_, scope) = theatre.key(&["plugins.*"], Some(account)).await;
    let (permit, sha256) = (scope.permit(OBJECT).unwrap(), sha256(&plugin));
    let enabled = theatre.plugins.enable(&permit, plugin.id, &sha256);
    assert_eq!(refusal(enabled.await), "user_required");
    let permit = scope.permit(OBJECT).unwrap();
    let text = component("write", "contacts.update", "contact.created");
    let rehearsed = theatre.plugins.rehearse(&permit, text.into(), 1).await;
    assert_eq!(rehearsed.unwrap_err().code(), "user_required");
}

async fn whoever_may_not_manage_plugins_any_more_lends_them_nothing(world: World) {
    let theatre = Theatre::new(world);
    let user = theatre.member_with(&["plugins.*"]).await;
    let rest = "kv = true\njobs = ['later']\ntriggers = ['contact.created']\n";
    let text = format!("name = 'actor'\nversion = '1.0.0'\ndescription = 'keep'\n{rest}");
    let plugin = theatre.try_upload(user, &text).await.unwrap();
    theatre.enable(user, &plugin).await;
    let run = theatre.run_of_contact(&plugin).await;
    assert_eq!(run.outcome, Outcome::Succeeded, "{run:?}");

    let members = theatre.world.permit(theatre.world.admin, "members").await;
    let weaker = theatre.world.crm.members();
    let roles = vec!["manager".to_owned()];
    weaker.set_roles(&members, user, roles).await.unwrap();
    theatre
        .world
        .execute(Sql::new("DELETE FROM plugin_kv"))
        .await;
    theatre.contact("two").await;
    theatre.dispatch().await;
    let run = theatre.runs(&plugin).await.remove(0);
    assert_eq!(run.outcome, Outcome::Refused, "{run:?}");
    let error = run.error.unwrap();
    assert!(
        error.contains("plugins.update") && error.contains(&user.to_string()),
        "{error}"
    );
    let kept = Sql::new("SELECT 1 FROM plugin_kv");
    let db = &theatre.world.crm.core.db;
    assert!(db.fetch_all(kept).await.unwrap().is_empty());
}

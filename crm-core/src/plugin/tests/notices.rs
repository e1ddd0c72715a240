//! Who is told that a plugin was parked.

use super::*;
use crate::mail::{Mail, MailKind};

on_both_databases! {
    those_who_can_mend_a_parked_plugin_are_told_once
    a_plugin_is_parked_also_where_nobody_can_be_told
}

impl Theatre {
    async fn fail(&self, times: usize) {
        for _ in 0..times {
            self.contact("one").await;
        }
        self.dispatch().await;
    }

    pub(super) async fn verify(&self, users: &[UserId]) {
        for user in users {
            let sql = Sql::new("UPDATE users SET email_verified_at = created_at WHERE id = $1");
            self.world.execute(sql.bind(*user, ColumnType::Uuid)).await;
        }
    }

    /// The mails that wait, as they are.
    pub(super) async fn mails(&self) -> Vec<Mail> {
        let core = &self.world.crm.core;
        let sql = Sql::new("SELECT id, sealed FROM mails ORDER BY id")
            .returns(&[ColumnType::Uuid, ColumnType::Bytes]);
        let rows = core.db.fetch_all(sql).await.unwrap().into_iter();
        let mails = rows.map(|mut row| {
            let (id, sealed): (uuid::Uuid, Vec<u8>) = (row.uuid().unwrap(), row.bytes().unwrap());
            let opened = core.identity.seal.open(&format!("mail:{id}"), &sealed);
            serde_json::from_slice(&opened.unwrap()).unwrap()
        });
        mails.collect()
    }
}

async fn those_who_can_mend_a_parked_plugin_are_told_once(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.upload("fail", "contacts.read").await;
    let installer = theatre.member_with(&["plugins.*", "contacts.*"]).await;
    let keeper = theatre.member_with(&["plugins.update"]).await;
    let unknown = theatre.member_with(&["plugins.*"]).await;
    theatre.enable(installer, &plugin).await;
    let (viewer, admin) = (theatre.world.viewer, theatre.world.admin);
    let other = theatre.world.new_tenant("other").await;
    let stranger = theatre.world.new_member_of(other, &["admin"]).await;
    let known = [installer, keeper, viewer, admin, stranger];
    theatre.verify(&known).await;
    theatre.fail(19).await;
    assert!(theatre.mails().await.is_empty());
    theatre.fail(1).await;
    let mails = theatre.mails().await;
    let mut to: Vec<_> = mails.iter().map(|mail| mail.to.clone()).collect();
    let mut wanted = [installer, keeper, admin].map(|user| format!("{user}@example.com"));
    assert_eq!(to[0], wanted[0], "whoever enabled it is the first");
    to.sort();
    wanted.sort();
    assert_eq!(
        to, wanted,
        "not {viewer}, nor {unknown} whose address nobody knows, nor {stranger} of another tenant"
    );
    assert_eq!(mails[0].kind, MailKind::PluginParked);
    assert_eq!(mails[0].subject, "A plugin of acme was switched off");
    assert!(
        mails[0].text.contains("The plugin actor of acme"),
        "{}",
        mails[0].text
    );
    theatre.fail(3).await;
    assert_eq!(theatre.mails().await.len(), 3, "once");
}

async fn a_plugin_is_parked_also_where_nobody_can_be_told(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install("fail", "contacts.read").await;
    theatre.verify(&[theatre.world.admin]).await;
    for _ in 0..1_000 {
        let clock = theatre.world.crm.clock();
        let sql = Sql::new(
            "INSERT INTO mails (id, sealed, attempts, next_at, created_at, expires_at, tenant_id) \
             VALUES ($1, $2, 0, $3, $3, $3, $4)",
        )
        .bind(clock.new_id(), ColumnType::Uuid)
        .bind(vec![0_u8], ColumnType::Bytes)
        .bind(clock.now(), ColumnType::Instant)
        .bind(theatre.world.tenant, ColumnType::Uuid);
        theatre.world.execute(sql).await;
    }
    theatre.fail(20).await;
    let permit = theatre.world.permit(theatre.world.admin, OBJECT).await;
    let parked = theatre.plugins.get(&permit, plugin.id).await.unwrap();
    assert_eq!(parked.status, PluginStatus::Parked);
}

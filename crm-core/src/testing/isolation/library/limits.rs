//! One more of everything that a tenant may have some of only: what others have does not count.

use serde_json::json;

use crate::error::{Error, Result};
use crate::group::NewGroup;
use crate::identity::NewInvitation;
use crate::module::FieldSpec;
use crate::scope::{Create, Update};
use crate::testing::isolation::stage::Stage;
use crate::testing::isolation::stock::{component, first_module, plugins};
use crate::transfer::{Format, ImportOptions};

pub(super) async fn limits(it: &Stage) -> Result<()> {
    let scope = it.operator().await?;
    let module = first_module(&it.crm)?.name().to_string();
    let group = NewGroup {
        name: "one more".into(),
        ..NewGroup::default()
    };
    let permit = scope.permit::<Create>("groups")?;
    it.say("a group", it.crm.groups().create(&permit, group).await);
    let invitation = NewInvitation {
        email: "isolation.more@example.com".into(),
        name: "more".into(),
        roles: vec!["viewer".into()],
    };
    let permit = scope.permit::<Create>("members")?;
    let invited = it.crm.invitations().create(&permit, invitation).await;
    it.say("an invitation", invited);
    let spec = json!({"name": "isolation_more", "type": "text"});
    let spec: FieldSpec = serde_json::from_value(spec).map_err(Error::internal)?;
    let permit = scope.permit::<Update>("modules")?;
    let declared = it.crm.custom_fields().declare(&permit, &module, spec).await;
    it.say("a custom field", declared.map(|field| field.spec));
    let component = component(&it.crm, "isolation_more", "1.0.0")?;
    let permit = scope.permit::<Create>("plugins")?;
    let uploaded = plugins(&it.crm)
        .upload(&permit, component.into(), None)
        .await;
    it.say("a plugin", uploaded);
    let options = ImportOptions::new(Format::Ndjson);
    let upload = it.crm.transfer().import(&scope, &module, options).await;
    it.say("a job", upload.map(drop));
    Ok(())
}

//! Versions next to each other: consent, activation, trial, signature.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;

on_both_databases! {
    a_version_is_uploaded_next_to_the_running_one
    a_wider_version_needs_consent_and_is_rolled_back_without
    a_version_that_asks_no_more_is_activated_at_once
    another_version_does_not_rest_for_what_the_one_before_did
    a_canary_gets_its_share_of_the_events_always_the_same
    a_canary_that_keeps_failing_is_ended_and_the_active_version_goes_on
    an_active_version_that_crashes_rests_and_its_canary_goes_on
    a_version_that_is_not_active_any_more_parks_nothing
    a_version_that_does_not_run_is_deleted_with_its_component
    the_end_of_a_tenant_takes_no_component_that_another_has
    a_tenant_that_insists_runs_signed_versions_only
    settings_and_keys_are_the_tenants_own
}

impl Theatre {
    pub(super) async fn update(&self) -> Permit<Update> {
        self.world.permit(self.world.admin, OBJECT).await
    }
}

async fn a_version_is_uploaded_next_to_the_running_one(world: World) {
    let theatre = Theatre::new(world);
    let first = theatre.install("write", "contacts.update").await;
    let second = theatre.upload("read", "contacts.read").await;
    assert_eq!(
        (second.id, second.status),
        (first.id, PluginStatus::Enabled)
    );
    let contact = theatre.contact("one").await;
    theatre.dispatch().await;
    assert_eq!(
        theatre.title(contact).await,
        json!("changed"),
        "the first runs"
    );
    assert_eq!(theatre.runs(&first).await[0].sha256, Some(first.sha256));

    let permit = theatre.world.permit(theatre.world.admin, OBJECT).await;
    let versions = theatre.plugins.versions(&permit, first.id).await.unwrap();
    let consented = versions.iter().filter(|one| one.consented_at.is_some());
    let consented: Vec<_> = consented.map(|one| one.sha256).collect();
    assert_eq!((versions.len(), consented), (2, vec![first.sha256]));
    for (hash, code) in [
        ("ab", "validation_failed"),
        (&"ab".repeat(32), "unknown_version"),
    ] {
        let permit = theatre.update().await;
        let enabled = theatre.plugins.enable(&permit, first.id, hash);
        assert_eq!(refusal(enabled.await), code);
    }

    theatre.enable(theatre.world.admin, &second).await;
    let contact = theatre.contact("two").await;
    theatre.dispatch().await;
    assert_eq!(
        theatre.title(contact).await,
        json!("two"),
        "the second runs"
    );
    assert_eq!(theatre.runs(&first).await[0].sha256, Some(second.sha256));
}

async fn a_wider_version_needs_consent_and_is_rolled_back_without(world: World) {
    let theatre = Theatre::new(world);
    let first = theatre.install("read", "contacts.read").await;
    let second = theatre.upload("write", "contacts.read deals.delete").await;
    let second_sha = sha256(&second);
    let update = theatre.update().await;
    let wider = theatre.plugins.activate(&update, first.id, &second_sha);
    match wider.await {
        Err(Error::Conflict { code, message }) => {
            assert_eq!(code, "consent_required");
            assert!(message.contains("delete deals"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    let refused = theatre.plugins.canary(&update, first.id, &second_sha, 10);
    assert_eq!(refusal(refused.await), "consent_required");
    let none = theatre.plugins.roll_back(&update, first.id).await;
    assert_eq!(refusal(none), "unknown_version");

    let active = theatre.enable(theatre.world.admin, &second).await;
    assert_eq!(
        (active.sha256, active.previous),
        (second.sha256, Some(first.sha256))
    );
    let back = theatre.plugins.roll_back(&update, first.id).await.unwrap();
    assert_eq!(
        (back.sha256, back.previous),
        (first.sha256, Some(second.sha256))
    );
    assert_eq!(back.manifest.description, "read");
}

async fn a_version_that_asks_no_more_is_activated_at_once(world: World) {
    let theatre = Theatre::new(world);
    let first = theatre.install("read", "contacts.read").await;
    let second = theatre.upload("list", "contacts.read").await;
    let second_sha = sha256(&second);
    let update = theatre.update().await;
    let active = theatre.plugins.activate(&update, first.id, &second_sha);
    let active = active.await.unwrap();
    assert_eq!(
        (active.sha256, active.status),
        (second.sha256, PluginStatus::Enabled)
    );
    theatre.contact("one").await;
    theatre.dispatch().await;
    assert_eq!(theatre.runs(&first).await[0].sha256, Some(second.sha256));
}

async fn another_version_does_not_rest_for_what_the_one_before_did(world: World) {
    let theatre = Theatre::new(world);
    let first = theatre.install("crash", "contacts.read").await;
    for number in 0..6 {
        theatre.contact(&format!("{number}")).await;
    }
    theatre.dispatch().await;
    let permit = theatre.world.permit(theatre.world.admin, OBJECT).await;
    let rests = theatre.plugins.get(&permit, first.id).await.unwrap();
    assert!(rests.rests_until.is_some(), "{rests:?}");
    let second = theatre.upload("read", "contacts.read").await;
    let (update, second) = (theatre.update().await, sha256(&second));
    let active = theatre.plugins.activate(&update, first.id, &second);
    active.await.unwrap();
    theatre.contact("one").await;
    theatre.dispatch().await;
    let run = theatre.runs(&first).await.remove(0);
    assert_eq!(run.outcome, Outcome::Succeeded, "{run:?}");
}

async fn a_canary_gets_its_share_of_the_events_always_the_same(world: World) {
    let theatre = Theatre::new(world);
    let first = theatre.install("read", "contacts.read").await;
    let second = theatre.upload("list", "contacts.read").await;
    let update = theatre.update().await;
    let tried = sha256(&second);
    let canary = |percent| theatre.plugins.canary(&update, first.id, &tried, percent);
    let plugin = canary(50).await.unwrap();
    assert_eq!(plugin.canary.map(|canary| canary.percent), Some(50));
    for _ in 0..40 {
        theatre.contact("one").await;
    }
    theatre.dispatch().await;
    let runs = theatre.runs(&first).await;
    let tried = runs
        .iter()
        .filter(|run| run.sha256 == Some(second.sha256))
        .count();
    assert_eq!(runs.len(), 40);
    assert!((5..=35).contains(&tried), "{tried}");

    assert_eq!(refusal(canary(101).await), "validation_failed");
    assert_eq!(canary(0).await.unwrap().canary, None);
    theatre.contact("one").await;
    theatre.dispatch().await;
    assert_eq!(theatre.runs(&first).await[0].sha256, Some(first.sha256));
}

async fn a_canary_that_keeps_failing_is_ended_and_the_active_version_goes_on(world: World) {
    let theatre = Theatre::new(world);
    let first = theatre.install("read", "contacts.read").await;
    let update = theatre.update().await;
    theatre.verify(&[theatre.world.admin]).await;
    for script in ["fail", "crash"] {
        let second = theatre.upload(script, "contacts.read").await;
        let tried = sha256(&second);
        let canary = theatre.plugins.canary(&update, first.id, &tried, 50);
        canary.await.unwrap();
        let runs_of = async |version: &Plugin| {
            let runs = theatre.runs(&first).await.into_iter();
            let runs = runs.filter(|run| run.sha256 == Some(version.sha256));
            runs.map(|run| run.outcome).collect::<Vec<_>>()
        };
        for _ in 0..40 {
            theatre.contact("one").await;
            theatre.dispatch().await;
        }
        assert_eq!(runs_of(&second).await.len(), 5, "{script}");
        let went_well = runs_of(&first).await;
        assert!(went_well.iter().all(|one| *one == Outcome::Succeeded));
        let permit = theatre.world.permit(theatre.world.admin, OBJECT).await;
        let after = theatre.plugins.get(&permit, first.id).await.unwrap();
        assert_eq!(
            (after.status, after.canary, after.crashes, after.rests_until),
            (PluginStatus::Enabled, None, 0, None)
        );
    }
    let audit = theatre.world.audit().await;
    let ended = audit.iter().filter(|one| *one == "plugins.end_canary");
    assert_eq!(ended.count(), 2);
    let mails = theatre.mails().await;
    assert_eq!(mails.len(), 2);
    assert_eq!(mails[0].kind, crate::mail::MailKind::PluginCanaryEnded);
}

async fn an_active_version_that_crashes_rests_and_its_canary_goes_on(world: World) {
    let theatre = Theatre::new(world);
    let first = theatre.install("crash", "contacts.read").await;
    let second = theatre.upload("read", "contacts.read").await;
    let update = theatre.update().await;
    let tried = sha256(&second);
    let canary = theatre.plugins.canary(&update, first.id, &tried, 50);
    canary.await.unwrap();
    for _ in 0..40 {
        theatre.contact("one").await;
        theatre.dispatch().await;
    }
    let permit = theatre.world.permit(theatre.world.admin, OBJECT).await;
    let after = theatre.plugins.get(&permit, first.id).await.unwrap();
    assert_eq!(after.crashes, 5, "no success of the canary counts for it");
    assert!(after.rests_until.is_some() && after.canary.is_some());
    let runs = theatre.runs(&first).await.into_iter();
    let mut tried = runs.filter(|run| run.sha256 == Some(second.sha256));
    assert!(tried.all(|run| run.outcome == Outcome::Succeeded));
}

async fn a_version_that_is_not_active_any_more_parks_nothing(world: World) {
    let theatre = Theatre::new(world);
    let first = theatre.install("fail", "contacts.read").await;
    for _ in 0..19 {
        theatre.contact("one").await;
        theatre.dispatch().await;
    }
    let second = theatre
        .upload("fail", "contacts.read contacts.update")
        .await;
    theatre.enable(theatre.world.admin, &second).await;
    theatre.contact("one").await;
    theatre.dispatch().await;
    theatre.plugins.park(&first).await.unwrap();
    let permit = theatre.world.permit(theatre.world.admin, OBJECT).await;
    let after = theatre.plugins.get(&permit, first.id).await.unwrap();
    assert_eq!(after.status, PluginStatus::Enabled, "{after:?}");
}

async fn a_version_that_does_not_run_is_deleted_with_its_component(world: World) {
    let theatre = Theatre::new(world);
    let first = theatre.install("read", "contacts.read").await;
    let second = theatre.upload("list", "contacts.read").await;
    let (first_sha, second_sha) = (sha256(&first), sha256(&second));
    assert_eq!(theatre.components().await, 2);
    let delete = theatre.world.permit(theatre.world.admin, OBJECT).await;
    let active = theatre
        .plugins
        .delete_version(&delete, first.id, &first_sha);
    assert_eq!(refusal(active.await), "version_in_use");
    let other = theatre
        .plugins
        .delete_version(&delete, first.id, &second_sha);
    other.await.unwrap();
    assert_eq!(theatre.components().await, 1);
    let again = theatre
        .plugins
        .delete_version(&delete, first.id, &second_sha);
    assert_eq!(refusal(again.await), "unknown_version");
}

async fn the_end_of_a_tenant_takes_no_component_that_another_has(world: World) {
    let theatre = Theatre::new(world);
    let first = theatre.install("read", "contacts.read").await;
    theatre.install("list", "contacts.read").await;
    theatre.upload("count", "contacts.read").await;
    let other = theatre.world.new_tenant("other").await;
    let operator = theatre.world.operator(other);
    for script in ["read", "show"] {
        let permit = operator.permit(OBJECT).unwrap();
        let text = component(script, "contacts.read", "contact.created");
        let uploaded = theatre.plugins.upload(&permit, text.into(), None).await;
        uploaded.unwrap();
    }
    assert_eq!(theatre.components().await, 4, "one is of both");

    let request = operator.request().clone();
    let tenants = theatre.world.crm.tenants();
    tenants.erase(other, "other", request).await.unwrap();
    assert_eq!(theatre.components().await, 3, "that of nobody else is gone");
    let update = theatre.update().await;
    let back = theatre.plugins.roll_back(&update, first.id).await.unwrap();
    assert_eq!(back.sha256, first.sha256);
    let run = theatre.run_of_contact(&first).await;
    assert_eq!(run.outcome, Outcome::Succeeded, "{run:?}");
}

async fn a_tenant_that_insists_runs_signed_versions_only(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.upload("read", "contacts.read").await;
    let update = theatre.update().await;
    let insist = PluginSettings {
        require_signature: true,
        daily_fuel: None,
    };
    theatre.plugins.settle(&update, insist).await.unwrap();
    let enable = async || {
        let sha256 = sha256(&plugin);
        theatre.plugins.enable(&update, plugin.id, &sha256).await
    };
    assert_eq!(refusal(enable().await), "signature_required");

    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let public = STANDARD.encode(pair.public_key().as_ref());
    let bytes = component("read", "contacts.read", "contact.created");
    let signature = STANDARD.encode(pair.sign(bytes.as_bytes()).as_ref());
    let upload = async |signature: &str| {
        let permit = theatre.world.permit(theatre.world.admin, OBJECT).await;
        let component = bytes.clone().into();
        theatre
            .plugins
            .upload(&permit, component, Some(signature))
            .await
    };
    assert_eq!(
        refusal(upload(&signature).await),
        "validation_failed",
        "not trusted"
    );
    let trust = theatre
        .plugins
        .trust(&update, "vendor", &public)
        .await
        .unwrap();
    let again = theatre.plugins.trust(&update, "other", &public).await;
    assert_eq!(refusal(again), "already_exists");
    let short = theatre.plugins.trust(&update, "short", "AAAA").await;
    assert_eq!(refusal(short), "validation_failed");
    let forged = STANDARD.encode([0; 64]);
    assert_eq!(refusal(upload(&forged).await), "validation_failed");
    let creator = theatre.member_with(&["plugins.create"]).await;
    let permit = theatre.world.permit(creator, OBJECT).await;
    let create_alone = theatre
        .plugins
        .upload(&permit, bytes.clone().into(), Some(&signature));
    assert_eq!(refusal(create_alone.await), "forbidden");
    let signed = async || {
        let audit = theatre.world.audit().await.into_iter();
        audit.filter(|action| action == "plugins.sign").count()
    };
    assert_eq!(signed().await, 0);
    for _ in 0..2 {
        let uploaded = upload(&signature).await.unwrap();
        assert_eq!(uploaded.version.signed_by.as_deref(), Some("vendor"));
        assert_eq!(signed().await, 1, "the same signature changes nothing");
    }
    assert_eq!(enable().await.unwrap().status, PluginStatus::Enabled);

    theatre.contact("one").await;
    theatre.dispatch().await;
    let runs = theatre.runs(&plugin).await;
    assert_eq!((runs.len(), runs[0].outcome), (1, Outcome::Succeeded));

    theatre.plugins.distrust(&update, trust.id).await.unwrap();
    // Another key of the same name signed nothing.
    let other = Ed25519KeyPair::from_seed_unchecked(&[8; 32]).unwrap();
    let other = STANDARD.encode(other.public_key().as_ref());
    theatre
        .plugins
        .trust(&update, "vendor", &other)
        .await
        .unwrap();
    theatre.contact("two").await;
    theatre.dispatch().await;
    let run = theatre.runs(&plugin).await.remove(0);
    assert_eq!(run.outcome, Outcome::Refused, "{run:?}");
    assert!(run.error.unwrap().contains("signed plugins only"));
    assert_eq!(refusal(enable().await), "signature_required");
    let read = theatre.world.permit(theatre.world.admin, OBJECT).await;
    let versions = theatre.plugins.versions(&read, plugin.id);
    assert_eq!(versions.await.unwrap()[0].signed_by, None);
    assert_eq!(
        refusal(theatre.plugins.distrust(&update, trust.id).await),
        "not_found"
    );
    assert_eq!(refusal(upload(&signature).await), "validation_failed");
}

async fn settings_and_keys_are_the_tenants_own(world: World) {
    let theatre = Theatre::new(world);
    let update = theatre.update().await;
    let budget = PluginSettings {
        require_signature: true,
        daily_fuel: Some(7),
    };
    theatre.plugins.settle(&update, budget).await.unwrap();
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let public = STANDARD.encode(pair.public_key().as_ref());
    let key = theatre
        .plugins
        .trust(&update, "vendor", &public)
        .await
        .unwrap();
    let other = theatre.world.new_tenant("other").await;
    let scope = theatre.world.operator(other);
    let (read, write) = (scope.permit(OBJECT).unwrap(), scope.permit(OBJECT).unwrap());
    let settings = theatre.plugins.settings(&read).await.unwrap();
    assert_eq!(settings, PluginSettings::default());
    assert_eq!(theatre.plugins.trusted_keys(&read).await.unwrap(), []);
    assert_eq!(
        refusal(theatre.plugins.distrust(&write, key.id).await),
        "not_found"
    );
    let less = PluginSettings {
        daily_fuel: Some(-1),
        ..budget
    };
    assert_eq!(
        refusal(theatre.plugins.settle(&update, less).await),
        "validation_failed"
    );
}

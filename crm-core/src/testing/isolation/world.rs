//! The tenants of the suite: one alone, and the same beside its twin.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::cast::{Cast, tenant_name};
use super::stage::{Chapter, Stage, request};
use super::transcript::{Said, Transcript, ids};
use super::{IsolationBroken, Leak, identity, library, need, plugin, records, scenery, stock};
use crate::crm::Crm;
use crate::db::twin::{Detail, Image, Layout};
use crate::db::{ColumnType, Sql};
use crate::error::Result;
use crate::id::TenantId;
use crate::module::SearchMode;
use crate::upkeep::Task;

/// The doors that a search index stands behind: the twin has one.
const INDEXED: [&str; 2] = ["searches", "the erasure of a tenant"];
/// Differences that are told of a chapter.
const TOLD: usize = 3;

/// What there is to be played with.
pub(super) struct World {
    crm: Crm,
    layout: Layout,
    cast: Cast,
    /// The rows of the tenant, and those of its twin.
    ours: Image,
    theirs: Image,
    known: Vec<Uuid>,
    begun: DateTime<Utc>,
}

/// A tenant beside its twin, whose rows are remembered.
pub(super) struct Scene {
    pub(super) tenant: TenantId,
    pub(super) twin: TenantId,
    before: Image,
}

impl World {
    pub(super) async fn prepare(crm: &Crm) -> Result<Self, IsolationBroken> {
        let begun = crm.clock().now();
        let db = &crm.core.db;
        let name = tenant_name(TenantId(crm.clock().new_id()));
        let tenant = need("a tenant", crm.tenants().create(&name, request()).await)?.id;
        need("its name", rename(crm, tenant).await)?;
        let mut cast = stock::fill(crm, tenant).await?;
        let layout = need("the tables", db.layout().await)?;
        let ours = need("its rows", db.image(&layout, tenant, Detail::Rows).await)?;
        need("its end", db.discard(&layout, tenant).await)?;
        let twin = TenantId(crm.clock().new_id());
        let made = db
            .restore(&ours, twin, &tenant_name(twin), crm.clock())
            .await;
        need("its twin", made)?;
        stock::diverge(crm, twin, &mut cast).await?;
        let theirs = need(
            "the twin's rows",
            db.image(&layout, twin, Detail::Twin).await,
        )?;
        need("the twin's end", db.discard(&layout, twin).await)?;
        Ok(Self {
            crm: crm.clone(),
            layout,
            known: ours.texts().flat_map(ids).collect(),
            cast,
            ours,
            theirs,
            begun,
        })
    }

    /// The chapters of all doors: those of records for each module.
    pub(super) fn chapters(&self) -> Vec<Chapter> {
        let modules = self.cast.kin.keys();
        let records = modules.flat_map(|module| {
            let chapters = records::CHAPTERS.iter();
            chapters.map(move |(door, play)| Chapter {
                door,
                module: Some(module.clone()),
                play: *play,
                common: &[],
            })
        });
        let library = library::CHAPTERS.iter().chain(identity::CHAPTERS);
        let library = library.chain(plugin::CHAPTERS);
        let library = library.map(|(door, play, common)| Chapter {
            door,
            module: None,
            play: *play,
            common,
        });
        records.chain(library).collect()
    }

    /// Plays a chapter alone and beside the twin; answers how they differ.
    pub(super) async fn play(&self, chapter: &Chapter) -> Result<Vec<Leak>, IsolationBroken> {
        let door = chapter.door;
        let alone = need(door, self.alone(chapter).await)?;
        let scene = need(door, self.set(chapter).await)?;
        let (said, damaged) = need(door, self.beside(&scene, chapter).await)?;
        need(door, self.strike(&scene).await)?;
        Ok(leaks(chapter, &alone, &said, &damaged))
    }

    /// What is answered where there is no other tenant.
    pub(super) async fn alone(&self, chapter: &Chapter) -> Result<Vec<Said>> {
        let db = &self.crm.core.db;
        let tenant = TenantId(self.crm.clock().new_id());
        let (name, clock) = (tenant_name(tenant), self.crm.clock());
        db.restore(&self.ours, tenant, &name, clock).await?;
        self.crm.seal_audit_once().await?;
        let cast = self.cast.alone(clock);
        let said = self.stage(cast, tenant, chapter).play(chapter).await;
        db.discard(&self.layout, tenant).await?;
        Ok(said)
    }

    /// Makes the tenant and its twin.
    pub(super) async fn set(&self, chapter: &Chapter) -> Result<Scene> {
        let (db, clock) = (&self.crm.core.db, self.crm.clock());
        // The twin's rows come first, and so do those that a statement without its tenant finds.
        let (twin, tenant) = (TenantId(clock.new_id()), TenantId(clock.new_id()));
        db.restore(&self.theirs, twin, &tenant_name(twin), clock)
            .await?;
        // For itself, so that what is sealed together does not depend on the other tenant.
        self.crm.seal_audit_once().await?;
        db.restore(&self.ours, tenant, &tenant_name(tenant), clock)
            .await?;
        self.crm.seal_audit_once().await?;
        if INDEXED.contains(&chapter.door) {
            let core = &self.crm.core;
            let modules = self.crm.registry().iter();
            for module in modules.filter(|module| module.spec().search == SearchMode::Indexed) {
                // Where an index has no parts of tenants, there is nothing to make.
                let probe = core.statements(module).search_probe(twin, "isolation", 0);
                if probe.is_some() {
                    core.upkeep.ask(Task::Search(twin, module.index()));
                }
            }
            self.crm.upkeep_once().await?;
        }
        scenery::dress(&self.crm, &self.layout, chapter.door, twin).await?;
        let before = db.image(&self.layout, twin, Detail::All).await?;
        Ok(Scene {
            tenant,
            twin,
            before,
        })
    }

    /// What is answered beside the twin, and which of its tables changed.
    pub(super) async fn beside(
        &self,
        scene: &Scene,
        chapter: &Chapter,
    ) -> Result<(Vec<Said>, Vec<String>)> {
        let said = self.said(scene, chapter).await;
        Ok((said, self.damaged(scene, chapter).await?))
    }

    /// What is answered beside the twin.
    pub(super) async fn said(&self, scene: &Scene, chapter: &Chapter) -> Vec<Said> {
        let stage = self.stage(self.cast.clone(), scene.tenant, chapter);
        stage.play(chapter).await
    }

    /// The tables in which the twin's rows are not as they were.
    pub(super) async fn damaged(&self, scene: &Scene, chapter: &Chapter) -> Result<Vec<String>> {
        let db = &self.crm.core.db;
        let after = db.image(&self.layout, scene.twin, Detail::All).await?;
        Ok(scene.before.differences(&after, chapter.common))
    }

    pub(super) async fn strike(&self, scene: &Scene) -> Result<()> {
        let db = &self.crm.core.db;
        db.discard(&self.layout, scene.tenant).await?;
        db.discard(&self.layout, scene.twin).await
    }

    fn stage(&self, cast: Cast, tenant: TenantId, chapter: &Chapter) -> Stage {
        let mut names: HashMap<Uuid, String> = HashMap::new();
        names.extend(self.known.iter().map(|id| (*id, id.to_string())));
        let others = cast.others().into_iter().enumerate();
        names.extend(others.map(|(at, id)| (id, format!("<foreign {at}>"))));
        names.insert(tenant.0, "<tenant>".to_owned());
        let transcript = Transcript::new(names, self.begun);
        Stage::new(&self.crm, cast, tenant, chapter.module.clone(), transcript)
    }
}

/// How two plays of a chapter differ.
pub(super) fn leaks(
    chapter: &Chapter,
    alone: &[Said],
    beside: &[Said],
    damaged: &[String],
) -> Vec<Leak> {
    let leak = |what| Leak {
        door: chapter.door,
        module: chapter.module.clone(),
        what,
    };
    let differ = alone
        .iter()
        .zip(beside)
        .filter(|(alone, beside)| alone != beside);
    let mut leaks: Vec<Leak> = differ
        .take(TOLD)
        .map(|(alone, beside)| {
            leak(format!(
                "{}: beside another tenant the answer is {}, alone it is {}",
                beside.what, beside.answer, alone.answer
            ))
        })
        .collect();
    if leaks.is_empty() && alone.len() != beside.len() {
        leaks.push(leak(format!(
            "{} answers became {}",
            alone.len(),
            beside.len()
        )));
    }
    if !damaged.is_empty() {
        let tables = damaged.join(", ");
        leaks.push(leak(format!("rows of another tenant changed in {tables}")));
    }
    leaks
}

/// Gives the tenant the name that follows from its id.
async fn rename(crm: &Crm, tenant: TenantId) -> Result<()> {
    let sql = Sql::new("UPDATE tenants SET name = $1 WHERE id = $2")
        .bind(tenant_name(tenant), ColumnType::Text)
        .bind(tenant, ColumnType::Uuid);
    crm.core.db.execute(sql).await?;
    Ok(())
}

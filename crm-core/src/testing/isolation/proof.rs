//! That the suite is strong enough: without any one of the tenant conditions of the statements that
//! it runs, it fails. What both databases run alike is tried on SQLite, which is quick; on
//! PostgreSQL what it alone runs.

mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use secrecy::SecretString;

use super::stage::Chapter;
use super::transcript::Said;
use super::world::{World, leaks};
use crate::crm::Crm;
use crate::db::DatabaseOptions;
use crate::db::seen::{Mutant, conditions};
use crate::identity::PasswordCost;
use crate::module::ModuleSpec;
use crate::testing::Backend;

/// Statements of one site that are tried before it counts as unnoticed, and of one that has a
/// reason why nobody notices.
const MOST_TRIED: usize = 60;
const EXPLAINED_TRIED: usize = 6;
/// How often in a row a condition with a reason has to be missed before the reason counts as stale:
/// a busy machine, too, may make a chapter end otherwise.
const STALE_AFTER: usize = 3;
/// What the reason of a condition begins with that is missed by some runs and not by others.
const AT_TIMES: &str = "at times: ";
/// The reasons of both databases' conditions, and those of PostgreSQL's own.
const SHARED: &str = "redundant.txt";
const POSTGRES: &str = "redundant_postgres.txt";
/// Parts of statements that no chapter plays, and why.
const UNPLAYED: &str = "unplayed.txt";
/// Databases that share the work.
const WORKERS: usize = 2;

/// Modules with all that a declaration may say, as few as that takes.
const MODULES: [&str; 3] = [
    r#"
name = "guests"
singular = "guest"
search = "indexed"
fields = [
    { name = "name", type = "text", required = true, search = true, sort = true },
    { name = "badge", type = "text", unique = true },
    { name = "likeness", type = "vector", dimensions = 3 },
]
"#,
    r#"
name = "houses"
singular = "house"
soft_delete = true
search = "indexed"
parent = "host_id"
duplicates = [["email"], ["title", "room"]]
fields = [
    { name = "title", type = "text", required = true, search = true, sort = true },
    { name = "code", type = "text", unique = true, sort = true },
    { name = "email", type = "email" },
    { name = "room", type = "integer", sort = true },
    { name = "state", type = "enum", values = ["open", "done"], required = true, default = "open" },
    { name = "number", type = "serial" },
    { name = "host_id", type = "reference", module = "guests", on_delete = "set_null" },
    { name = "above_id", type = "reference", module = "houses" },
    { name = "guest_ids", type = "references", module = "guests" },
    { name = "subject", type = "any_reference", modules = ["guests", "houses"], on_delete = "set_null" },
]

[[machines]]
field = "state"
initial = ["open"]
edges = { open = ["done"] }
open = []
"#,
    r#"
name = "calls"
singular = "call"
parent = "house_id"
fields = [
    { name = "house_id", type = "reference", module = "houses", required = true, on_delete = "cascade" },
    { name = "others", type = "references", module = "houses", on_delete = "cascade" },
    { name = "about", type = "any_reference", modules = ["guests", "houses"], on_delete = "cascade" },
    { name = "who", type = "text", copied = "house_id.title" },
]
"#,
];

/// The conditions that no attack can show to be missing. Each line is a part of a statement with
/// the condition between « and », a tab, and why; those of `redundant_postgres.txt` are
/// PostgreSQL's alone.
fn redundant(file: &str) -> Result<String> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/testing/isolation");
    Ok(std::fs::read_to_string(format!("{folder}/{file}"))?)
}

/// The parts of statements that have a reason, and the reasons.
fn reasons(redundant: &str) -> Vec<(&str, &str)> {
    let lines = redundant.lines();
    lines.filter_map(|line| line.split_once('\t')).collect()
}

async fn open(backend: &Backend) -> Result<Crm> {
    let modules = MODULES.map(ModuleSpec::from_toml).into_iter();
    let builder = Crm::builder()
        .database(backend.url())
        .database_options(DatabaseOptions {
            // Few records are many, so that the index is used.
            large_tenant: 2,
            ..crate::testing::database_options()
        })
        .secret(SecretString::from("0123456789abcdef0123456789abcdef"))
        .password_cost(PasswordCost::LOWEST)
        // Chapters with a login are played many times.
        .login_limit(0)
        .modules(modules.collect::<crate::Result<Vec<_>>>()?);
    Ok(builder.build().await?)
}

/// The chapters with what they answer alone, and which of them run each statement.
struct Plan {
    crm: Crm,
    world: World,
    chapters: Vec<(Chapter, Vec<Said>)>,
    statements: BTreeMap<Arc<str>, Vec<usize>>,
}

impl Plan {
    async fn new(backend: &Backend) -> Result<Self> {
        let crm = open(backend).await?;
        let world = World::prepare(&crm).await?;
        let watch = crm.core.db.watch.clone();
        let (mut chapters, mut statements) = (Vec::new(), BTreeMap::<Arc<str>, Vec<usize>>::new());
        let mut costs = Vec::new();
        for (at, chapter) in world.chapters().into_iter().enumerate() {
            let alone = world.alone(&chapter).await?;
            let begun = Instant::now();
            let scene = world.set(&chapter).await?;
            watch.take();
            let said = world.said(&scene, &chapter).await;
            let mut seen = watch.take();
            // Statements of the suite itself.
            seen.retain(|shape| {
                !shape.starts_with("SELECT quote(") && !shape.starts_with("SELECT quote_nullable(")
            });
            let damaged = world.damaged(&scene, &chapter).await?;
            let found = leaks(&chapter, &alone, &said, &damaged);
            ensure!(found.is_empty(), "{}", super::listed(&found));
            world.strike(&scene).await?;
            costs.push(begun.elapsed());
            for shape in seen {
                statements.entry(shape.into()).or_default().push(at);
            }
            chapters.push((chapter, alone));
        }
        // The chapter that shows a fault soonest: of rights where everybody asks, else a quick one.
        for players in statements.values_mut() {
            let everywhere = players.len() * 2 > chapters.len();
            players.sort_by_key(|at| {
                let rights = chapters[*at].0.door.starts_with("rights");
                (!(everywhere && rights), costs[*at])
            });
        }
        Ok(Self {
            crm,
            world,
            chapters,
            statements,
        })
    }

    /// The conditions by where they come from.
    fn sites(&self) -> BTreeMap<String, Vec<Mutant>> {
        let mut sites = BTreeMap::<String, Vec<Mutant>>::new();
        // What asks for nothing finds nothing.
        let statements = self.statements.keys();
        for shape in statements.filter(|shape| !shape.contains("IN (NULL)")) {
            for (place, range) in conditions(shape).into_iter().enumerate() {
                let mutant = Mutant {
                    shape: shape.clone(),
                    place,
                };
                sites.entry(site(shape, range)).or_default().push(mutant);
            }
        }
        sites
    }

    /// Whether the suite fails without the condition in one of the statements that have it from
    /// here.
    async fn misses(&self, mutants: &[Mutant], tried: usize) -> Result<bool> {
        for mutant in mutants.iter().take(tried) {
            if self.notices(mutant).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether some chapter notices that the condition is gone.
    async fn notices(&self, mutant: &Mutant) -> Result<bool> {
        let watch = &self.crm.core.db.watch;
        let players = self.statements.get(&mutant.shape).context("a statement")?;
        for at in players {
            let (chapter, alone) = self.chapters.get(*at).context("a chapter")?;
            let scene = self.world.set(chapter).await?;
            watch.arm(mutant.clone());
            let said = self.world.said(&scene, chapter).await;
            let struck = watch.disarm();
            let mut noticed = !leaks(chapter, alone, &said, &[]).is_empty();
            if !noticed {
                let damaged = self.world.damaged(&scene, chapter).await?;
                noticed = !damaged.is_empty();
            }
            self.world.strike(&scene).await?;
            ensure!(struck || !noticed, "{} differs by itself", chapter.door);
            if noticed {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Where a condition comes from, itself between « and ». Statements on modules are built: what
/// stands around a condition tells the place in the source, and their names do not. Others are
/// literals.
fn site(shape: &str, range: Range<usize>) -> String {
    let (before, rest) = shape.split_at(range.start);
    let (condition, after) = rest.split_at(range.len());
    if !shape.contains('"') {
        return format!("{before}«{condition}»{after}");
    }
    let [before, condition, after] = [before, condition, after].map(unnamed);
    let behind = before.chars().count().saturating_sub(30);
    let before: String = before.chars().skip(behind).collect();
    let after: String = after.chars().take(10).collect();
    let verb = shape.split(' ').next().unwrap_or_default();
    format!("{verb} … {before}«{condition}»{after}")
}

/// The text with one name for all tables and columns of modules.
fn unnamed(text: &str) -> String {
    let mut unnamed = String::with_capacity(text.len());
    for (at, part) in text.split('"').enumerate() {
        match at % 2 {
            0 => unnamed.push_str(part),
            _ => {
                let search = part.find(".search").and_then(|at| part.get(at..));
                let links = if part.contains('.') { ".links" } else { "" };
                unnamed.push_str("\"x");
                unnamed.push_str(search.unwrap_or(links));
                unnamed.push('"');
            }
        }
    }
    unnamed
}

/// Takes out the conditions of each of these sites; answers the sites that nobody missed.
async fn unnoticed(
    plan: &Plan,
    sites: impl IntoIterator<Item = (String, Vec<Mutant>)>,
    redundant: &str,
) -> Result<Vec<String>> {
    let mut unnoticed = Vec::new();
    let reasons = reasons(redundant);
    for (site, mutants) in sites {
        let (tried, times) = match reasons.iter().any(|(part, _)| site.contains(part)) {
            true => (EXPLAINED_TRIED, STALE_AFTER),
            false => (MOST_TRIED, 1),
        };
        for _ in 0..times {
            if !plan.misses(&mutants, tried).await? {
                unnoticed.push(site);
                break;
            }
        }
    }
    Ok(unnoticed)
}

/// What has no reason, here or `elsewhere`, and the reasons here of what is not among it.
fn compared<'a>(
    found: &'a [String],
    redundant: &'a str,
    elsewhere: &str,
) -> (Vec<&'a str>, Vec<&'a str>) {
    let (reasons, others) = (reasons(redundant), reasons(elsewhere));
    let known = |one: &str| {
        let mut all = reasons.iter().chain(&others);
        all.any(|(part, _)| one.contains(part))
    };
    let unexplained = found.iter().map(String::as_str);
    let unexplained = unexplained.filter(|one| !known(one)).collect();
    let stale = reasons
        .iter()
        .filter(|(_, reason)| !reason.starts_with(AT_TIMES))
        .filter(|(part, _)| !found.iter().any(|one| one.contains(part)));
    (unexplained, stale.map(|(part, _)| *part).collect())
}

/// Conditions that nobody missed have a reason, here or `elsewhere`, and no reason is left here of
/// one that somebody misses.
fn explained(survivors: &[String], redundant: &str, elsewhere: &str) -> Result<()> {
    let (unexplained, stale) = compared(survivors, redundant, elsewhere);
    ensure!(
        unexplained.is_empty(),
        "without these conditions nobody notices anything:\n{}",
        unexplained.join("\n")
    );
    ensure!(
        stale.is_empty(),
        "these conditions are missed, so take them off the list:\n{}",
        stale.join("\n")
    );
    Ok(())
}

/// The conditions that nobody misses, but for sites that are tried elsewhere; each database tries
/// its share of them.
async fn survivors(
    databases: [Backend; WORKERS],
    elsewhere: BTreeSet<String>,
    redundant: &str,
) -> Result<Vec<String>> {
    let (elsewhere, redundant) = (Arc::new(elsewhere), Arc::<str>::from(redundant));
    let workers = databases.into_iter().enumerate().map(|(worker, backend)| {
        let (elsewhere, redundant) = (elsewhere.clone(), redundant.clone());
        tokio::spawn(async move {
            let plan = Plan::new(&backend).await?;
            let mut own = plan.sites();
            let count = own.len();
            ensure!(count > 100, "only {count} conditions were seen");
            own.retain(|site, _| !elsewhere.contains(site));
            ensure!(!own.is_empty(), "all conditions are tried elsewhere");
            let share = own.into_iter().skip(worker).step_by(WORKERS);
            unnoticed(&plan, share, &redundant).await
        })
    });
    let workers: Vec<_> = workers.collect();
    let mut survivors = Vec::new();
    for worker in workers {
        survivors.extend(worker.await??);
    }
    Ok(survivors)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suite_fails_without_any_one_tenant_condition() -> Result<()> {
    let databases = [Backend::sqlite().await, Backend::sqlite().await];
    let reasons = redundant(SHARED)?;
    let survivors = survivors(databases, BTreeSet::new(), &reasons).await?;
    explained(&survivors, &reasons, "")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suite_fails_without_any_one_tenant_condition_of_postgres_alone() -> Result<()> {
    let sqlite = Backend::sqlite().await;
    let shared = Plan::new(&sqlite).await?.sites().into_keys().collect();
    let databases = [Backend::postgres().await, Backend::postgres().await];
    let (common, own) = (redundant(SHARED)?, redundant(POSTGRES)?);
    let survivors = survivors(databases, shared, &format!("{common}{own}")).await?;
    explained(&survivors, &own, &common)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suite_plays_every_statement_of_the_source_that_asks_for_a_tenant() -> Result<()> {
    let (sqlite, postgres) = (Backend::sqlite().await, Backend::postgres().await);
    let plans = [Plan::new(&sqlite).await?, Plan::new(&postgres).await?];
    let played = |text: &str| {
        let shapes = plans.iter().flat_map(|plan| plan.statements.keys());
        source::is_among(text, shapes.map(|shape| &**shape))
    };
    let mut written = source::statements()?;
    let count = written.len();
    ensure!(count > 200, "only {count} statements were found");
    written.retain(|text| !played(text));
    let known = redundant(UNPLAYED)?;
    let (unexplained, stale) = compared(&written, &known, "");
    ensure!(
        unexplained.is_empty(),
        "no chapter plays these statements:\n{}",
        unexplained.join("\n")
    );
    ensure!(
        stale.is_empty(),
        "these statements are played or gone, so take them off the list:\n{}",
        stale.join("\n")
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_tenant_reaches_another_by_any_door() -> Result<()> {
    let backend = Backend::sqlite().await;
    let crm = open(&backend).await?;
    super::isolation_suite(&crm).await?;
    // Nothing is left of it.
    ensure!(crm.tenants().list().await?.is_empty());
    Ok(())
}

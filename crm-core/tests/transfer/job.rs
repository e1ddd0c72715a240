//! What background jobs promise: who sees them, and how they stop, take turns, fail and go.

use super::*;

on_both_databases!(
    a_job_is_seen_by_its_starter_and_by_whoever_may_read_jobs,
    a_cancelled_job_stops_at_its_next_checkpoint,
    jobs_of_tenants_take_turns_and_a_tenant_has_twenty_at_most,
    a_job_that_panics_fails_without_telling_why,
    finished_jobs_are_removed_after_a_month,
);

async fn a_job_is_seen_by_its_starter_and_by_whoever_may_read_jobs(
    backend: Backend,
) -> anyhow::Result<()> {
    let fixture = Fixture::open(backend, vec![]).await?;
    let (ada, _) = fixture.member("manager").await?;
    let (bob, _) = fixture.member("manager").await?;
    let (admin, _) = fixture.member("admin").await?;
    let other = fixture.crm.tenants().create("Other", request()).await?.id;
    let foreign = fixture.crm.operator(other, request());
    let id = fixture.queue(&ada, csv(), &many(1)).await?;
    let jobs = fixture.crm.jobs();
    for scope in [&ada, &admin, &fixture.operator()] {
        assert_eq!(jobs.get(scope, id).await?.id, id);
        assert_eq!(jobs.list(scope, None, 10).await?.data.len(), 1);
    }
    for scope in [&bob, &foreign] {
        assert!(matches!(jobs.get(scope, id).await, Err(Error::NotFound)));
        assert!(matches!(jobs.cancel(scope, id).await, Err(Error::NotFound)));
        let errors = jobs.errors(scope, id, 0, 10).await;
        assert!(matches!(errors, Err(Error::NotFound)));
        assert!(jobs.list(scope, None, 10).await?.data.is_empty());
    }
    assert_eq!(jobs.cancel(&admin, id).await?.state, JobState::Cancelled);
    assert_eq!(fixture.crm.run_jobs_once().await?, 0);
    assert_eq!(fixture.count().await?, 0);
    Ok(())
}

/// Counts to its input in steps with a checkpoint each, and does at each what it is told.
struct Steps {
    seen: Mutex<Vec<(TenantId, u64)>>,
    each: fn(u64),
    cancel_at: Option<u64>,
    crm: Mutex<Option<Crm>>,
}

impl Steps {
    fn new(each: fn(u64), cancel_at: Option<u64>) -> Arc<Self> {
        Arc::new(Self {
            seen: Mutex::default(),
            each,
            cancel_at,
            crm: Mutex::default(),
        })
    }

    fn seen(&self) -> Vec<(TenantId, u64)> {
        self.seen.lock().unwrap().clone()
    }
}

impl JobKind for Steps {
    fn name(&self) -> &'static str {
        "steps"
    }

    fn run<'a>(&'a self, job: &'a mut JobContext) -> BoxFuture<'a, crm_core::Result<Json>> {
        Box::pin(async move {
            let end: u64 = job.input()?;
            let begin: u64 = job.checkpoint()?.unwrap_or(0);
            for step in begin..end {
                job.check_cancelled()?;
                self.seen.lock().unwrap().push((job.tenant(), step));
                (self.each)(step);
                let crm = self.crm.lock().unwrap().clone();
                if let Some(crm) = crm.filter(|_| self.cancel_at == Some(step)) {
                    crm.jobs().cancel(&job.scope().await?, job.id()).await?;
                }
                let progress = Progress {
                    done: step + 1,
                    ..Progress::default()
                };
                job.save(json!(step + 1), progress).await?;
            }
            Ok(json!({"steps": end}))
        })
    }
}

async fn a_cancelled_job_stops_at_its_next_checkpoint(backend: Backend) -> anyhow::Result<()> {
    let kind = Steps::new(|_| {}, Some(2));
    let fixture = Fixture::open(backend, vec![kind.clone()]).await?;
    *kind.crm.lock().unwrap() = Some(fixture.crm.clone());
    let operator = fixture.operator();
    let jobs = fixture.crm.jobs();
    let id = jobs.start(&operator, "steps", json!(10)).await?;
    fixture.crm.run_jobs_once().await?;
    let job = jobs.get(&operator, id).await?;
    assert_eq!((job.state, job.progress.done), (JobState::Cancelled, 3));
    assert_eq!(kind.seen().len(), 3);
    assert!(jobs.start(&operator, "unknown", json!(1)).await.is_err());
    Ok(())
}

async fn jobs_of_tenants_take_turns_and_a_tenant_has_twenty_at_most(
    backend: Backend,
) -> anyhow::Result<()> {
    let kind = Steps::new(|_| {}, None);
    let fixture = Fixture::open(backend, vec![kind.clone()]).await?;
    let (acme, jobs) = (fixture.operator(), fixture.crm.jobs());
    let mut scopes = vec![];
    for name in ["B", "C"] {
        let tenant = fixture.crm.tenants().create(name, request()).await?.id;
        scopes.push(fixture.crm.operator(tenant, request()));
    }
    for _ in 0..20 {
        jobs.start(&acme, "steps", json!(1)).await?;
    }
    let refused = jobs.start(&acme, "steps", json!(1)).await;
    assert_eq!(refused.map_err(|error| error.code()), Err("too_many_jobs"));
    for scope in &scopes {
        for _ in 0..2 {
            jobs.start(scope, "steps", json!(1)).await?;
        }
    }
    assert_eq!(fixture.crm.run_jobs_once().await?, 24);
    let order = kind.seen();
    let place = |tenant: TenantId| order.iter().position(|(of, _)| *of == tenant);
    for scope in &scopes {
        assert!(place(scope.tenant()).is_some_and(|at| at <= 2), "{order:?}");
    }
    Ok(())
}

async fn a_job_that_panics_fails_without_telling_why(backend: Backend) -> anyhow::Result<()> {
    let kind = Steps::new(|step| assert!(step != 1, "on purpose"), None);
    let fixture = Fixture::open(backend, vec![kind.clone()]).await?;
    let (operator, jobs) = (fixture.operator(), fixture.crm.jobs());
    let id = jobs.start(&operator, "steps", json!(3)).await?;
    fixture.crm.run_jobs_once().await?;
    let job = jobs.get(&operator, id).await?;
    assert_eq!((job.state, job.progress.done), (JobState::Failed, 1));
    let error = job.error.context("an error")?;
    assert_eq!(error.code, "internal");
    assert!(!error.message.contains("purpose"));
    Ok(())
}

async fn finished_jobs_are_removed_after_a_month(backend: Backend) -> anyhow::Result<()> {
    let fixture = Fixture::open(backend, vec![]).await?;
    let job = fixture.import(csv(), "name\n,\n").await?;
    assert_eq!(fixture.errors(&job).await?.len(), 1, "{job:?}");
    fixture.clock.advance(TimeDelta::days(31));
    fixture.crm.remove_old_jobs().await?;
    let gone = fixture.crm.jobs().get(&fixture.operator(), job.id).await;
    assert!(matches!(gone, Err(Error::NotFound)));
    Ok(())
}

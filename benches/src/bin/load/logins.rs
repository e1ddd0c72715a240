//! The health of the server while everybody logs in: whether hashing passwords leaves room for
//! others.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use futures::future::{try_join, try_join_all};

use crate::client::{Connection, Request};
use crate::contact::Random;
use crate::measure::Tally;
use crate::server::Server;
use crate::tenant::Tenants;
use crate::work::Work;

/// How often the health is asked for.
const PERIOD: Duration = Duration::from_millis(10);

/// How logins were answered.
#[derive(Debug, Default)]
pub(crate) struct Logins {
    done: u64,
    /// Those that were told to come back after a wait.
    put_off: u64,
}

impl fmt::Display for Logins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} logins, {} put off", self.done, self.put_off)
    }
}

/// Asks for the health in even steps, while so many connections log in without a pause.
pub(crate) async fn health(
    server: &Server,
    tenants: &Tenants,
    connections: u32,
    end: Instant,
) -> Result<Tally> {
    let logins = (0..connections).map(|_| log_in(server, tenants, end));
    let (tally, logins) = try_join(ask(server, tenants, end), try_join_all(logins)).await?;
    let logins = logins
        .into_iter()
        .fold(Logins::default(), |sum, one| Logins {
            done: sum.done + one.done,
            put_off: sum.put_off + one.put_off,
        });
    Ok(tally.beside(logins))
}

/// Times count from when a request was due: one that is answered late makes the next ones late, as
/// it does for those who do not wait for each other.
async fn ask(server: &Server, tenants: &Tenants, end: Instant) -> Result<Tally> {
    let mut connection = Connection::open(server.address).await?;
    let mut request = Request::default();
    let mut random = Random::new(0);
    let tenant = random.pick(&tenants.all);
    Work::Health.next(&mut request, tenant, &mut random, 0);
    let mut tally = Tally::default();
    let mut due = Instant::now();
    while due < end {
        tokio::time::sleep_until(due.into()).await;
        let reply = connection.exchange(&request).await?;
        tally.count(due.elapsed(), &reply);
        due += PERIOD;
    }
    Ok(tally)
}

/// Logs in again and again. Who waits too long for a hash is told to come back, and does.
async fn log_in(server: &Server, tenants: &Tenants, end: Instant) -> Result<Logins> {
    let mut connection = Connection::open(server.address).await?;
    let mut request = Request::default();
    let body = tenants.login();
    let mut logins = Logins::default();
    while Instant::now() < end {
        request.set("POST", "/api/v1/auth/login", "", &body);
        let reply = connection.exchange(&request).await?;
        match reply.status {
            200..300 => logins.done += 1,
            503 => logins.put_off += 1,
            _ => bail!("a login failed: {reply}"),
        }
    }
    Ok(logins)
}

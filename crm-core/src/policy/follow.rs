//! Hears of policy changes by other processes as they commit. The poll of epochs is its backstop: a
//! listener that is away only makes changes hold later.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::cache::PolicyCache;
use crate::crm::Core;
use crate::error::Result;

/// How long to wait before listening again after a failure.
const PAUSE: Duration = Duration::from_secs(1);

/// Listens until `stop`.
pub(crate) async fn follow(core: Arc<Core>, stop: CancellationToken) {
    while let Some(Err(error)) = stop.run_until_cancelled(listen(&core.policy)).await {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "not listening to policy changes; polling goes on"
        );
        if stop
            .run_until_cancelled(tokio::time::sleep(PAUSE))
            .await
            .is_none()
        {
            return;
        }
    }
}

/// Listens until it fails; answers where there is nothing to listen to.
async fn listen(policy: &PolicyCache) -> Result<()> {
    let Some(mut listener) = policy.listen().await? else {
        return Ok(());
    };
    loop {
        policy.hear(&mut listener).await?;
    }
}

//! Hears of changes of the policy, of sessions and of signing keys by other processes as they
//! commit. The polls of epochs are its backstop: a listener that is away only makes changes hold
//! later.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::crm::Core;
use crate::error::Result;
use crate::identity;

/// How long to wait before listening again after a failure.
const PAUSE: Duration = Duration::from_secs(1);

/// Listens until `stop`.
pub(crate) async fn follow(core: Arc<Core>, stop: CancellationToken) {
    while let Some(Err(error)) = stop.run_until_cancelled(listen(&core)).await {
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
async fn listen(core: &Core) -> Result<()> {
    let Some(mut listener) = core.policy.listen().await? else {
        return Ok(());
    };
    // Of what ended before it listened, nobody tells.
    identity::look(core);
    loop {
        if core.policy.hear(&mut listener).await? {
            identity::look(core);
        }
    }
}

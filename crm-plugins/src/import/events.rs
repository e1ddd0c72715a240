//! Events of the plugin's own, and work for later.

use std::time::Duration;

use super::{Answer, answer};
use crate::bindings::{events, jobs};
use crate::run::Run;

impl events::Host for Run {
    async fn emit(&mut self, name: String, data: String) -> Answer<()> {
        self.count_call()?;
        self.count_write()?;
        Ok(self.door.emit(&name, &data).await.map_err(answer))
    }
}

impl jobs::Host for Run {
    async fn schedule(
        &mut self,
        name: String,
        delay_seconds: u64,
        payload: Option<String>,
    ) -> Answer<()> {
        self.count_call()?;
        self.count_write()?;
        let delay = Duration::from_secs(delay_seconds);
        let scheduled = self.door.schedule(&name, delay, payload).await;
        Ok(scheduled.map_err(answer))
    }
}

//! The plugin's own store.

use super::{Answer, answer};
use crate::bindings::kv;
use crate::run::Run;

impl kv::Host for Run {
    async fn get(&mut self, key: String) -> Answer<Option<Vec<u8>>> {
        self.count_call()?;
        self.count_read(1)?;
        Ok(self.door.kv_get(&key).await.map_err(answer))
    }

    async fn set(&mut self, key: String, value: Vec<u8>) -> Answer<()> {
        self.count_call()?;
        self.count_write()?;
        Ok(self.door.kv_set(&key, value).await.map_err(answer))
    }

    async fn delete(&mut self, key: String) -> Answer<bool> {
        self.count_call()?;
        self.count_write()?;
        Ok(self.door.kv_delete(&key).await.map_err(answer))
    }

    async fn keys(&mut self, prefix: String, after: Option<String>) -> Answer<Vec<String>> {
        self.count_call()?;
        let keys = match self.door.kv_keys(&prefix, after.as_deref()).await {
            Ok(keys) => keys,
            Err(error) => return Ok(Err(answer(error))),
        };
        self.count_read(keys.len())?;
        Ok(Ok(keys))
    }
}

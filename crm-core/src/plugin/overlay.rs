//! The store of a plugin as a rehearsal sees it: what its runs set and deleted lies over what is
//! stored.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::kv;
use crate::error::Result;

/// The values that a rehearsal's runs leave behind, one after the other; none under keys that were
/// deleted.
#[derive(Clone, Default)]
pub(super) struct StoreOverlay(Arc<Mutex<BTreeMap<String, Option<Vec<u8>>>>>);

impl StoreOverlay {
    /// The value under this key, none of one that was deleted; `None` for what is as it was stored.
    pub(super) fn get(&self, key: &str) -> Option<Option<Vec<u8>>> {
        self.0.lock().get(key).cloned()
    }

    /// Makes a page of stored keys, which lies behind `after` and ends with `end`, one with what
    /// was set and without what was deleted.
    pub(super) fn page(
        &self,
        prefix: &str,
        after: Option<&str>,
        end: Option<&str>,
        keys: &mut Vec<String>,
    ) {
        let kept = self.0.lock();
        keys.retain(|key| kept.get(key).is_none_or(Option::is_some));
        let set = kept.iter().filter(|(_, value)| value.is_some());
        let set = set.map(|(key, _)| key.as_str());
        let here = set.filter(|key| {
            key.starts_with(prefix)
                && after.is_none_or(|after| *key > after)
                && end.is_none_or(|end| *key <= end)
        });
        keys.extend(here.map(str::to_owned));
        keys.sort_unstable();
        keys.dedup();
    }

    pub(super) fn set(&self, key: &str, value: Vec<u8>) -> Result<()> {
        let mut kept = self.0.lock();
        let others = || kept.iter().filter(|(other, _)| *other != key);
        let others = || others().filter_map(|(_, value)| value.as_ref());
        let bytes = others().map(Vec::len);
        let bytes: usize = bytes.chain([value.len()]).sum();
        kv::check_keys(i64::try_from(others().count() + 1).unwrap_or(i64::MAX))?;
        kv::check_bytes(i64::try_from(bytes).unwrap_or(i64::MAX))?;
        kept.insert(key.to_owned(), Some(value));
        Ok(())
    }

    pub(super) fn delete(&self, key: &str) {
        self.0.lock().insert(key.to_owned(), None);
    }
}

//! What the operator lets each tenant's plugins use and keep.

/// What the plugins of one tenant use and keep at most, whatever the tenant settles itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PluginLimits {
    /// The fuel that they use together on one day, in UTC. As much as they like unless set.
    pub daily_fuel: Option<i64>,
}

impl PluginLimits {
    /// The fuel of a day where the tenant allows so much.
    pub(super) fn fuel(&self, settled: Option<i64>) -> Option<i64> {
        match (self.daily_fuel, settled) {
            (Some(most), Some(settled)) => Some(most.min(settled)),
            (most, settled) => most.or(settled),
        }
    }
}

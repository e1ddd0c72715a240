//! `crm purge`

use chrono::TimeDelta;
use clap::Args;

use crate::Outcome;
use crate::settings::{Settings, request, tenant};
use crate::stdout::say;

/// Remove for good what has been in the trash for long
///
/// Records that others still refer to stay, and are counted. All modules of the database are looked
/// at, as they were declared last: --modules makes no difference here.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  crm purge --older-than 30d
  crm purge --older-than 12h --tenant acme")]
pub(crate) struct Purge {
    /// How long ago they were deleted: a number and d, h, m or s, such as 30d
    #[arg(long, value_parser = age)]
    older_than: TimeDelta,
    /// In this tenant only, by its name; in all of them when left out
    #[arg(long)]
    tenant: Option<String>,
}

impl Purge {
    pub(crate) async fn run(self, settings: Settings) -> Outcome {
        let crm = settings.open_as_it_is().await?;
        let one = match &self.tenant {
            Some(name) => Some(tenant(&crm, name).await?),
            None => None,
        };
        let before = crm.clock().now() - self.older_than;
        let purged = crm.purge_trash(one, before, request(&crm)).await?;
        say!(
            "{} removed, {} still referred to",
            purged.removed,
            purged.kept
        );
        crm.close().await;
        Ok(())
    }
}

fn age(text: &str) -> Result<TimeDelta, String> {
    let refuse = || format!("{text:?} is no age: write a number and d, h, m or s, such as 30d");
    let seconds: i64 = match text.chars().last() {
        Some('d') => 86_400,
        Some('h') => 3_600,
        Some('m') => 60,
        Some('s') => 1,
        _ => return Err(refuse()),
    };
    let number: u32 = text[..text.len() - 1].parse().map_err(|_| refuse())?;
    // More than a century is no age of a record, and fits.
    match i64::from(number).checked_mul(seconds) {
        Some(age) if age <= 36_525 * 86_400 => Ok(TimeDelta::seconds(age)),
        _ => Err(refuse()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_a_number_and_its_unit() {
        assert_eq!(age("30d"), Ok(TimeDelta::days(30)));
        assert_eq!(age("0s"), Ok(TimeDelta::zero()));
        assert_eq!(age("90m"), age("5400s"));
        for odd in ["", "d", "30", "-1d", "1.5h", "4000000000d", "30 d", "3é"] {
            assert!(age(odd).is_err(), "{odd}");
        }
    }
}

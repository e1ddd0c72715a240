//! How far records come on the way through the values of an enum field, such as the stages of a
//! sale.

use rust_decimal::Decimal;

use super::{Aggregate, Field, Filter, Function, GroupKey, Groups, Metric};
use crate::error::FieldError;
use crate::module::{CompiledModule, FieldType};
use crate::value::Value;

/// Digits of a share.
const SHARE_DIGITS: u32 = 4;

/// What is asked: the steps are the values of an enum field in their declared order.
#[derive(Debug, Clone, PartialEq)]
pub struct Funnel {
    steps: Vec<String>,
    ask: Aggregate,
}

/// One step of a funnel.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// The field's value.
    pub state: String,
    /// Records that are in this state now.
    pub count: i64,
    /// Records in this state or a later one.
    pub reached: i64,
    /// The share of those in the first state or a later one, 0 to 1; none when there is none.
    pub conversion: Option<Decimal>,
    /// Of the records that reached this state, the share that reached the next one; none for the
    /// last one, and when there is none.
    pub conversion_to_next: Option<Decimal>,
    /// The sum of a field over the records that are in this state now, where one was asked for.
    pub sum: Option<Value>,
}

impl Funnel {
    /// A funnel over the enum field called `field`, but for the states that are no step of it, such
    /// as `lost`; with the sum of a numeric field by state.
    ///
    /// # Errors
    /// A [`FieldError`] on `field`, `without` or `sum` for what the module does not declare.
    pub fn new(
        module: &CompiledModule,
        field: &str,
        without: &[&str],
        sum: Option<&str>,
    ) -> Result<Self, FieldError> {
        let position = module.position(field);
        let position = position.filter(|position| module.is_readable(*position));
        let kind = position.map(|position| &module.fields()[position].kind);
        let (Some(position), Some(FieldType::Enum { values })) = (position, kind) else {
            let message = format!("{} has no enum field of this name", module.name());
            return Err(FieldError::new("field", "unknown_field", message));
        };
        if let Some(odd) = without
            .iter()
            .find(|odd| !values.iter().any(|v| v == **odd))
        {
            let message = format!("{odd:?} is not a value of {field}");
            return Err(FieldError::new("without", "unknown_state", message));
        }
        let mut metrics = vec![Metric {
            function: Function::Count,
            field: None,
        }];
        if let Some(name) = sum {
            let metric = Metric::parse(module, &format!("sum:{name}"));
            metrics
                .push(metric.map_err(|error| FieldError::new("sum", error.code, error.message))?);
        }
        let steps = values
            .iter()
            .filter(|value| !without.contains(&value.as_str()));
        Ok(Self {
            steps: steps.cloned().collect(),
            ask: Aggregate {
                group_by: vec![GroupKey {
                    field: Field::Declared(position),
                    bucket: None,
                }],
                metrics,
                ..Aggregate::default()
            },
        })
    }

    /// Of the records that a list with this condition and this search shows.
    #[must_use]
    pub fn of(mut self, filter: Option<Filter>, search: Option<String>) -> Self {
        self.ask.filter = filter;
        self.ask.search = search;
        self
    }

    /// The figures that it is made from.
    pub fn aggregate(&self) -> &Aggregate {
        &self.ask
    }

    /// The steps, from the figures.
    pub fn stages(&self, groups: &Groups) -> Vec<Stage> {
        let group = |state: &str| {
            let mut groups = groups.data.iter();
            groups.find(|group| group.keys.first().and_then(Value::as_text) == Some(state))
        };
        let count = |state: &String| match group(state).and_then(|group| group.metrics.first()) {
            Some(Value::Int(count)) => *count,
            _ => 0,
        };
        let counts: Vec<i64> = self.steps.iter().map(count).collect();
        let reached: Vec<i64> = (0..counts.len())
            .map(|at| counts[at..].iter().sum())
            .collect();
        let summed = self.ask.metrics.len() > 1;
        let stages = self.steps.iter().enumerate().map(|(at, state)| Stage {
            state: state.clone(),
            count: counts[at],
            reached: reached[at],
            conversion: share(reached[at], reached[0]),
            conversion_to_next: reached
                .get(at + 1)
                .and_then(|next| share(*next, reached[at])),
            sum: summed.then(|| {
                let sum = group(state).and_then(|group| group.metrics.get(1));
                sum.cloned().unwrap_or_default()
            }),
        });
        stages.collect()
    }
}

fn share(part: i64, whole: i64) -> Option<Decimal> {
    let share = Decimal::from(part).checked_div(Decimal::from(whole))?;
    Some(share.round_dp(SHARE_DIGITS).normalize())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::module::default_modules;
    use crate::record::Group;

    fn deals() -> CompiledModule {
        let deals = default_modules()
            .into_iter()
            .find(|spec| spec.name.as_str() == "deals");
        CompiledModule::new(deals.unwrap(), 0).unwrap()
    }

    #[test]
    fn shares_are_of_those_who_came_so_far_and_lost_ones_are_no_step() {
        let funnel = Funnel::new(&deals(), "stage", &["lost"], Some("amount")).unwrap();
        let group = |state: &str, count, sum: &str| Group {
            keys: vec![Value::Text(state.to_owned())],
            metrics: vec![Value::Int(count), Value::Decimal(sum.parse().unwrap())],
        };
        let groups = Groups {
            data: vec![
                group("lost", 90, "1"),
                group("proposal", 1, "2.50"),
                group("qualification", 4, "8"),
                group("won", 2, "7"),
            ],
            truncated: false,
        };
        let told: Vec<String> = funnel
            .stages(&groups)
            .iter()
            .map(|stage| {
                let share = |share: Option<Decimal>| share.map_or("-".into(), |s| s.to_string());
                format!(
                    "{} {} {} {} {}",
                    stage.state,
                    stage.count,
                    stage.reached,
                    share(stage.conversion),
                    share(stage.conversion_to_next),
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                "qualification 4 7 1 0.4286",
                "proposal 1 3 0.4286 0.6667",
                "negotiation 0 2 0.2857 1",
                "won 2 2 0.2857 -",
            ]
        );
        let sums = funnel.stages(&groups);
        assert_eq!(sums[1].sum, Some(Value::Decimal("2.50".parse().unwrap())));
        assert_eq!(sums[2].sum, Some(Value::Null));
    }

    #[test]
    fn an_empty_funnel_has_no_shares() {
        let funnel = Funnel::new(&deals(), "stage", &[], None).unwrap();
        let nothing = Groups {
            data: vec![],
            truncated: false,
        };
        for stage in funnel.stages(&nothing) {
            assert_eq!((stage.count, stage.conversion, stage.sum), (0, None, None));
        }
    }

    #[test]
    fn what_the_module_does_not_declare_is_refused_by_name() {
        let pointer = |field: &str, without: &[&str], sum| {
            let refused = Funnel::new(&deals(), field, without, sum);
            refused.unwrap_err().pointer
        };
        assert_eq!(pointer("title", &[], None), "/field");
        assert_eq!(pointer("colour", &[], None), "/field");
        assert_eq!(pointer("stage", &["gone"], None), "/without");
        assert_eq!(pointer("stage", &[], Some("title")), "/sum");
    }
}

//! Money: exact amounts, each in a currency that is declared or stands beside it.
//!
//! An amount is judged by the currency that its record has when it is written, whoever wrote which
//! of the two. One without a currency is no amount of money and is refused.

use super::{CompiledModule, FieldSpec, FieldType, Ident, ModuleSpec, currency};
use crate::error::{Error, FieldError, Result};
use crate::value::Value;

/// Where the currency of an amount stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MoneyCurrency {
    /// In the declaration: the code of ISO 4217.
    Fixed(String),
    /// In another field of the record, of the type `currency`.
    Field(Ident),
}

/// An amount whose currency is a field of its own, both by position.
#[derive(Debug, Clone, Copy)]
pub(super) struct Amount {
    position: usize,
    currency: usize,
}

/// The amounts of the module that stand beside their currency.
pub(super) fn compile(spec: &ModuleSpec) -> Vec<Amount> {
    let amounts = spec.fields.iter().enumerate();
    let amounts = amounts.filter_map(|(position, field)| {
        let named = currency_field(field)?;
        let currency = spec.fields.iter().position(|field| field.name == *named)?;
        Some(Amount { position, currency })
    });
    amounts.collect()
}

fn currency_field(field: &FieldSpec) -> Option<&Ident> {
    match &field.kind {
        FieldType::Money {
            currency: MoneyCurrency::Field(name),
            ..
        } => Some(name),
        _ => None,
    }
}

/// What is wrong with the currencies of the declared amounts.
pub(super) fn check(spec: &ModuleSpec) -> Vec<FieldError> {
    let mut problems = Vec::new();
    for (position, field) in spec.fields.iter().enumerate() {
        let mut refuse = |key: &str, code, message: String| {
            problems.push(FieldError {
                pointer: format!("/fields/{position}/{key}"),
                code,
                message,
            });
        };
        let FieldType::Money { currency, .. } = &field.kind else {
            continue;
        };
        match currency {
            MoneyCurrency::Fixed(code) if currency::minor_unit(code).is_none() => {
                let message = format!("`{code}` is no code of ISO 4217, such as EUR");
                refuse("currency", "unknown_currency", message);
            }
            MoneyCurrency::Fixed(_) => {}
            MoneyCurrency::Field(name) => {
                let sibling = spec.fields.iter().find(|field| field.name == *name);
                match sibling {
                    Some(sibling) if sibling.kind == FieldType::Currency => {
                        let (amount, currency) = (field.default_value(), sibling.default_value());
                        if let Err(refusal) = judge(&amount, &currency) {
                            let message = format!("the default {}", refusal.message);
                            refuse("default", refusal.code, message);
                        }
                    }
                    _ => {
                        let message = format!(
                            "`{name}` is no field of this module of type currency; declare one"
                        );
                        refuse("currency_field", "unknown_field", message);
                    }
                }
            }
        }
    }
    problems
}

fn judge(amount: &Value, code: &Value) -> Result<(), super::Refusal> {
    match (amount, code) {
        (Value::Decimal(amount), Value::Text(code)) => currency::admit(*amount, code),
        _ => Ok(()),
    }
}

impl CompiledModule {
    /// Refuses amounts that are finer than their currency or have none; `before` are the values of
    /// a record that changes, and what stays as it was is left alone. To be asked of the values
    /// that are stored: defaults, hooks and copied fields may give the currency.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every refused amount, or its currency as `currency_required`.
    pub(crate) fn check_amounts(&self, before: Option<&[Value]>, after: &[Value]) -> Result<()> {
        let changed = |at: usize| before.is_none_or(|before| before.get(at) != after.get(at));
        let mut refused = Vec::new();
        for Amount { position, currency } in &self.amounts {
            let (Some(amount), Some(code)) = (after.get(*position), after.get(*currency)) else {
                continue;
            };
            if !changed(*position) && !changed(*currency) {
                continue;
            }
            let (Some(field), Some(unit)) =
                (self.fields().get(*position), self.fields().get(*currency))
            else {
                continue;
            };
            if !amount.is_null() && code.is_null() {
                let (name, unit) = (field.name.as_str(), unit.name.as_str());
                let message = format!("is required: {name} is an amount of some currency");
                let error = FieldError::new(unit, "currency_required", message);
                // One currency may stand beside several amounts.
                let known =
                    |one: &FieldError| (one.code, &one.pointer) == (error.code, &error.pointer);
                if !refused.iter().any(known) {
                    refused.push(error);
                }
            } else if let Err(refusal) = judge(amount, code) {
                refused.push(refusal.of(field.name.as_str()));
            }
        }
        match refused.is_empty() {
            true => Ok(()),
            false => Err(Error::Invalid(refused)),
        }
    }

    /// The field that holds the currency of the amounts at `position`, when one does.
    pub(crate) fn currency_of(&self, position: usize) -> Option<usize> {
        let mut amounts = self.amounts.iter();
        let amount = amounts.find(|amount| amount.position == position)?;
        Some(amount.currency)
    }
}

#[cfg(test)]
mod tests {
    use rust_decimal::Decimal;

    use super::*;
    use crate::module::check;

    fn problems(fields: &str) -> Vec<String> {
        let text = format!("name = 'deals'\nsingular = 'deal'\nfields = [{fields}]");
        let spec = match ModuleSpec::from_toml(&text) {
            Ok(spec) => spec,
            Err(error) => return vec![error.to_string()],
        };
        match check(&spec) {
            Err(Error::Invalid(problems)) => {
                let problems = problems.into_iter();
                problems
                    .map(|one| format!("{} {}", one.pointer, one.code))
                    .collect()
            }
            other => {
                other.unwrap();
                vec![]
            }
        }
    }

    #[test]
    fn a_currency_is_declared_once_and_exists() {
        let currency = "{ name = 'currency', type = 'currency', default = 'jpy' }";
        assert_eq!(
            problems("{ name = 'a', type = 'money', currency = 'EUR' }"),
            [""; 0]
        );
        let beside =
            format!("{{ name = 'a', type = 'money', currency_field = 'currency' }}, {currency}");
        assert_eq!(problems(&beside), [""; 0]);
        assert_eq!(
            problems("{ name = 'a', type = 'money', currency = 'DEM' }"),
            ["/fields/0/currency unknown_currency"]
        );
        assert_eq!(
            problems(
                "{ name = 'a', type = 'money', currency_field = 'b' }, { name = 'b', type = 'text' }"
            ),
            ["/fields/0/currency_field unknown_field"]
        );
        assert_eq!(
            problems("{ name = 'a', type = 'money', currency_field = 'b' }"),
            ["/fields/0/currency_field unknown_field"]
        );
        let fine = format!(
            "{{ name = 'a', type = 'money', currency_field = 'currency', default = '0.5' }}, {currency}"
        );
        assert_eq!(problems(&fine), ["/fields/0/default too_precise"]);
        assert_eq!(
            problems("{ name = 'a', type = 'money', currency = 'JPY', default = '0.5' }"),
            ["/fields/0/default too_precise"]
        );
        assert_eq!(
            problems("{ name = 'b', type = 'currency', default = 'DEM' }"),
            ["/fields/0/default unknown_currency"]
        );
        let neither = problems("{ name = 'a', type = 'money' }").remove(0);
        assert!(
            neither.contains("`currency` or `currency_field`"),
            "{neither}"
        );
        let both = "{ name = 'a', type = 'money', currency = 'EUR', currency_field = 'b' }";
        let both = problems(both).remove(0);
        assert!(both.contains("`currency` or `currency_field`"), "{both}");
    }

    #[test]
    fn an_amount_is_judged_by_the_currency_of_its_record_when_either_changes() {
        let text = "name = 'deals'\nsingular = 'deal'\nfields = [
            { name = 'amount', type = 'money', currency_field = 'code', scale = 3 },
            { name = 'code', type = 'currency' }, { name = 'note', type = 'text' }]";
        let module = CompiledModule::new(ModuleSpec::from_toml(text).unwrap(), 0).unwrap();
        let row = |amount: i64, code: Option<&str>, note: &str| {
            let code = code.map_or(Value::Null, |code| Value::Text(code.into()));
            [
                Value::Decimal(Decimal::new(amount, 3)),
                code,
                Value::Text(note.into()),
            ]
        };
        let fine = row(12_345, Some("EUR"), "a");
        let refused = module.check_amounts(None, &fine).unwrap_err();
        assert_eq!(refused.code(), "validation_failed");
        assert!(
            module
                .check_amounts(None, &row(12_345, Some("BHD"), "a"))
                .is_ok()
        );
        let bare = row(12_345, None, "a");
        let Err(Error::Invalid(refused)) = module.check_amounts(None, &bare) else {
            panic!("an amount of nothing")
        };
        let refused: Vec<_> = refused
            .iter()
            .map(|one| (one.pointer.as_str(), one.code))
            .collect();
        assert_eq!(refused, [("/code", "currency_required")]);
        let noted = row(12_345, None, "b");
        assert!(
            module.check_amounts(Some(&bare), &noted).is_ok(),
            "it was so before"
        );
        assert!(
            module.check_amounts(Some(&fine), &bare).is_err(),
            "its currency goes"
        );
        let (bahrain, yen) = (row(12_345, Some("BHD"), "a"), row(12_345, Some("JPY"), "a"));
        assert!(module.check_amounts(Some(&bahrain), &yen).is_err());
        let noted = row(12_345, Some("EUR"), "b");
        assert!(
            module.check_amounts(Some(&fine), &noted).is_ok(),
            "it was so before"
        );
    }
}

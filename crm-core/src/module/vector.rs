//! Vectors: lists of so many 32-bit floating-point numbers, compared by their direction.
//!
//! A number is stored as the nearest one of 32 bits (IEEE 754 binary32), and read back as the
//! shortest decimal that stands for it.

use serde_json::Value as Json;

use super::rule::Refusal;

/// Most dimensions of a vector.
pub const MAX_DIMENSIONS: u32 = 4_096;

/// The vector that a list of numbers is.
///
/// # Errors
/// A [`Refusal`] for another number of dimensions, for what is no finite number, and for a vector
/// without a direction.
pub(crate) fn read(items: &[Json], dimensions: u32) -> Result<Vec<f32>, Refusal> {
    if u32::try_from(items.len()) != Ok(dimensions) {
        let message = format!(
            "must have {dimensions} numbers; this list has {}",
            items.len()
        );
        return Err(Refusal::new("wrong_dimensions", message));
    }
    let number = |item: &Json| {
        let number = item
            .as_f64()
            .ok_or_else(|| Refusal::new("wrong_type", "must be a list of numbers"))?;
        // The nearest number of 32 bits; infinite where there is none.
        let number = number as f32;
        match number.is_finite() {
            true => Ok(number),
            false => Err(Refusal::new(
                "out_of_range",
                "must hold finite numbers of 32 bits",
            )),
        }
    };
    let vector = items
        .iter()
        .map(number)
        .collect::<Result<Vec<f32>, Refusal>>()?;
    if vector.iter().all(|number| *number == 0.0) {
        let message = "must not be zero in every dimension: such a vector has no direction";
        return Err(Refusal::new("zero_vector", message));
    }
    Ok(vector)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::module::{FieldType, rule};
    use crate::value::Value;

    fn ruled(json: Json) -> Result<Value, &'static str> {
        let kind = FieldType::Vector { dimensions: 3 };
        rule::from_json(&kind, json).map_err(|refusal| refusal.code)
    }

    #[test]
    fn a_vector_has_its_dimensions_finite_numbers_and_a_direction() {
        assert_eq!(
            ruled(json!([1, -0.5, 0.1])),
            Ok(Value::Vector(vec![1.0, -0.5, 0.1]))
        );
        assert_eq!(ruled(json!(null)), Ok(Value::Null));
        for (json, code) in [
            (json!([1, 2]), "wrong_dimensions"),
            (json!([1, 2, 3, 4]), "wrong_dimensions"),
            (json!([]), "wrong_dimensions"),
            (json!([0, 0.0, -0.0]), "zero_vector"),
            (json!([1e-60, 0, 0]), "zero_vector"),
            (json!([1, 2, "3"]), "wrong_type"),
            (json!([1, 2, null]), "wrong_type"),
            (json!([[true]]), "wrong_dimensions"),
            (json!([1, 2, 1e39]), "out_of_range"),
            (json!("1,2,3"), "wrong_type"),
            (json!(1), "wrong_type"),
        ] {
            assert_eq!(ruled(json.clone()), Err(code), "{json}");
        }
    }

    #[test]
    fn numbers_are_read_as_the_shortest_decimals_that_stand_for_them() {
        let value = ruled(json!([0.1, 16_777_217, 3.4e38])).unwrap();
        assert_eq!(
            serde_json::to_string(&value).unwrap(),
            "[0.1,16777216.0,3.4e+38]"
        );
        assert_eq!(json!(value), json!([0.1, 16_777_216.0, 3.4e38]));
        assert_eq!(ruled(json!(value)), Ok(value));
    }
}

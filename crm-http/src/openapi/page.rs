//! How numbered pages are described: their parameters, the members of a query, those of an answer.

use crm_core::record::Query;
use serde_json::{Value, json};

const PAGE: &str = "The page's number, from 1, instead of a `cursor`; the answer then tells \
    `page`, `per_page`, `pages` and `total`. Pages reach 10,000 records deep, cursors any number.";
const PER_PAGE: &str = "Most records of a page, with `page`; 20 when left out.";

fn page_schema() -> Value {
    json!({"type": "integer", "format": "int32", "minimum": 1, "maximum": Query::MAX_DEPTH})
}

fn per_page_schema() -> Value {
    json!({
        "type": "integer", "format": "int32",
        "minimum": 1, "maximum": Query::MAX_LIMIT,
    })
}

/// The parameters of a list.
pub(super) fn parameters() -> [Value; 2] {
    let named = [
        ("page", PAGE, page_schema()),
        ("per_page", PER_PAGE, per_page_schema()),
    ];
    named.map(|(name, words, schema)| {
        json!({
            "name": name, "in": "query", "required": false,
            "description": words, "schema": schema,
        })
    })
}

/// The members of a query's body.
pub(super) fn members() -> [(String, Value); 2] {
    let described = |mut schema: Value, words: &str| {
        schema["description"] = json!(words);
        schema
    };
    [
        ("page".to_owned(), described(page_schema(), PAGE)),
        (
            "per_page".to_owned(),
            described(per_page_schema(), PER_PAGE),
        ),
    ]
}

/// What an answer tells of a numbered page.
pub(super) fn answered() -> [(String, Value); 3] {
    let number = |format: &str, words: &str| json!({"type": "integer", "format": format, "description": words});
    [
        (
            "page".to_owned(),
            number("int32", "The page's number, where one was asked for."),
        ),
        (
            "per_page".to_owned(),
            number(
                "int32",
                "Most records of a page, where one was asked for by its number.",
            ),
        ),
        (
            "pages".to_owned(),
            number("int64", "How many pages the counted matches fill."),
        ),
    ]
}

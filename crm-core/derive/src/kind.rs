//! From a Rust type and the words beside it to the type of a field.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Error, Expr, GenericArgument, PathArguments, Result, Type, TypePath};

use crate::attribute::{FieldWords, RuleValue};
use crate::expand::ident;

/// The type inside an `Option`, if it is one.
pub(crate) fn optional(kind: &Type) -> Option<&Type> {
    argument(kind, "Option")
}

/// The tokens of the `FieldType`; takes the words it understands out of `words`.
pub(crate) fn field_type(kind: &Type, words: &mut FieldWords) -> Result<TokenStream> {
    let field_type = quote!(::crm_core::module::FieldType);
    if let Some(values) = texts(words, "values") {
        return Ok(quote!(#field_type::Enum {
            values: ::std::vec![#(::std::string::String::from(#values)),*]
        }));
    }
    if argument(kind, "Vec").is_some_and(|item| last(item).is_some_and(|name| name == "String")) {
        let max_items = number(words, "max_items")?.unwrap_or_else(|| syn::parse_quote!(50));
        let max_length = number(words, "max_length")?.unwrap_or_else(|| syn::parse_quote!(50));
        return Ok(quote!(#field_type::Tags { max_items: #max_items, max_length: #max_length }));
    }
    if is_links(kind) {
        return links(kind, words);
    }
    if argument(kind, "Vec").is_some_and(|item| last(item).is_some_and(|name| name == "f32")) {
        let Some(dimensions) = number(words, "dimensions")? else {
            let message = "a vector states its length: #[field(dimensions = 384)]";
            return Err(Error::new_spanned(kind, message));
        };
        return Ok(quote!(#field_type::Vector { dimensions: #dimensions }));
    }
    let name = last(kind).map(ToString::to_string).unwrap_or_default();
    if name == "String"
        && let Some(modules) = texts(words, "references_any")
    {
        let modules: Vec<_> = modules.iter().map(ident).collect::<Result<_>>()?;
        let on_delete = on_delete(words, quote!(Restrict))?;
        return Ok(quote!(#field_type::AnyReference {
            modules: ::std::vec![#(#modules),*],
            on_delete: #on_delete,
        }));
    }
    let none = quote!(::crm_core::module::Bounds::NONE);
    Ok(match name.as_str() {
        "String" if words.take("email").is_some() => quote!(#field_type::Email),
        "String" if words.take("phone").is_some() => quote!(#field_type::Phone),
        "String" if words.take("url").is_some() => quote!(#field_type::Url),
        "String" if words.take("zoned").is_some() => quote!(#field_type::Zoned),
        "String" if words.has("currency") => {
            words.take("currency");
            quote!(#field_type::Currency)
        }
        "String" => {
            let long = words.take("long_text").is_some();
            let most: Expr = match long {
                true => syn::parse_quote!(20_000),
                false => syn::parse_quote!(255),
            };
            let min = number(words, "min")?.unwrap_or_else(|| syn::parse_quote!(1));
            let max = number(words, "max")?.unwrap_or(most);
            match long {
                true => quote!(#field_type::LongText { min: #min, max: #max }),
                false => quote!(#field_type::Text { min: #min, max: #max }),
            }
        }
        "i8" => integer(words, i8::MIN, i8::MAX)?,
        "i16" => integer(words, i16::MIN, i16::MAX)?,
        "i32" => integer(words, i32::MIN, i32::MAX)?,
        "i64" => integer(words, i64::MIN, i64::MAX)?,
        "u8" => integer(words, u8::MIN, u8::MAX)?,
        "u16" => integer(words, u16::MIN, u16::MAX)?,
        "u32" => integer(words, u32::MIN, u32::MAX)?,
        "Decimal" if words.has("currency") || words.has("currency_field") => {
            let precision = number(words, "precision")?.unwrap_or_else(|| syn::parse_quote!(18));
            let scale = number(words, "scale")?.unwrap_or_else(|| syn::parse_quote!(2));
            let money = quote!(::crm_core::module::MoneyCurrency);
            let mut text = |word| match words.take(word).map(|rule| rule.value) {
                Some(RuleValue::Text(text)) => Some(text),
                _ => None,
            };
            let currency = match (text("currency"), text("currency_field")) {
                (Some(code), None) => quote!(#money::Fixed(::std::string::String::from(#code))),
                (None, Some(field)) => {
                    let field = ident(&field)?;
                    quote!(#money::Field(#field))
                }
                _ => {
                    let message = "money names its currency, or the field that does: \
                                   #[field(currency = \"EUR\")]";
                    return Err(Error::new_spanned(kind, message));
                }
            };
            let kind = quote!(#field_type::Money {
                precision: #precision, scale: #scale, bounds: #none, currency: #currency
            });
            bounded(words, kind)
        }
        "Decimal" => {
            let (precision, scale) = (number(words, "precision")?, number(words, "scale")?);
            let (Some(precision), Some(scale)) = (precision, scale) else {
                let message = "a decimal states its digits: #[field(precision = 12, scale = 2)]";
                return Err(Error::new_spanned(kind, message));
            };
            let kind = quote!(#field_type::Decimal {
                precision: #precision, scale: #scale, bounds: #none
            });
            bounded(words, kind)
        }
        "bool" => quote!(#field_type::Bool),
        "DateTime"
            if argument(kind, "DateTime")
                .and_then(last)
                .is_some_and(|zone| zone == "Utc") =>
        {
            bounded(words, quote!(#field_type::Instant(#none)))
        }
        "NaiveDate" => bounded(words, quote!(#field_type::Date(#none))),
        "NaiveTime" => bounded(words, quote!(#field_type::Time(#none))),
        "Uuid" if !words.has("references") => quote!(#field_type::Uuid),
        "Value" => {
            let max = number(words, "max_bytes")?.unwrap_or_else(|| syn::parse_quote!(32_768));
            quote!(#field_type::Json { max_bytes: #max })
        }
        "RecordId" | "Uuid" => {
            let Some(RuleValue::Text(target)) = words.take("references").map(|rule| rule.value)
            else {
                let message = "a reference names its module: #[field(references = \"companies\")]";
                return Err(Error::new_spanned(kind, message));
            };
            let target = ident(&target)?;
            let on_delete = on_delete(words, quote!(Restrict))?;
            quote!(#field_type::Reference { module: #target, on_delete: #on_delete })
        }
        _ => {
            let message = "no field type holds this; use String, bool, i64 or a narrower integer, \
                           Decimal, DateTime<Utc>, NaiveDate, NaiveTime, Uuid, Vec<String>, Vec<f32>, \
                           serde_json::Value, RecordId, an Option of one of them, or list the values: \
                           #[field(values = [\"a\", \"b\"])]";
            return Err(Error::new_spanned(kind, message));
        }
    })
}

/// Whether this holds a list of references.
pub(crate) fn is_links(kind: &Type) -> bool {
    let item = argument(kind, "Vec").and_then(last);
    item.is_some_and(|name| name == "RecordId" || name == "Uuid")
}

/// A list of references, which may be empty unless it is `required`.
fn links(kind: &Type, words: &mut FieldWords) -> Result<TokenStream> {
    let Some(RuleValue::Text(target)) = words.take("references").map(|rule| rule.value) else {
        let message = "references name their module: #[field(references = \"contacts\")]";
        return Err(Error::new_spanned(kind, message));
    };
    let target = ident(&target)?;
    let max_items = number(words, "max_items")?.unwrap_or_else(|| syn::parse_quote!(100));
    let default = match words.required {
        Some(_) => quote!(Restrict),
        None => quote!(SetNull),
    };
    let on_delete = on_delete(words, default)?;
    Ok(quote!(::crm_core::module::FieldType::References {
        module: #target,
        max_items: #max_items,
        on_delete: #on_delete,
    }))
}

/// What becomes of the record when one that it refers to is deleted.
fn on_delete(words: &mut FieldWords, default: TokenStream) -> Result<TokenStream> {
    let rule = quote!(::crm_core::module::OnDelete);
    let Some(RuleValue::Text(word)) = words.take("on_delete").map(|rule| rule.value) else {
        return Ok(quote!(#rule::#default));
    };
    match word.value().as_str() {
        "restrict" => Ok(quote!(#rule::Restrict)),
        "cascade" => Ok(quote!(#rule::Cascade)),
        "set_null" => Ok(quote!(#rule::SetNull)),
        _ => Err(Error::new(
            word.span(),
            "on_delete is \"restrict\", \"cascade\" or \"set_null\"",
        )),
    }
}

/// An integer as wide as its Rust type, or as its words say.
fn integer(
    words: &mut FieldWords,
    min: impl Into<i64>,
    max: impl Into<i64>,
) -> Result<TokenStream> {
    let (min, max): (i64, i64) = (min.into(), max.into());
    let min = number(words, "min")?.map_or_else(|| quote!(#min), |min| quote!(#min));
    let max = number(words, "max")?.map_or_else(|| quote!(#max), |max| quote!(#max));
    Ok(quote!(::crm_core::module::FieldType::Integer { min: #min, max: #max }))
}

/// The type within the bounds that the words say, each a number or a text.
fn bounded(words: &mut FieldWords, kind: TokenStream) -> TokenStream {
    let mut bound = |word| match words.take(word).map(|rule| rule.value) {
        Some(RuleValue::Number(number)) => Some(quote!(#number)),
        Some(RuleValue::Text(text)) => Some(quote!(#text)),
        _ => None,
    };
    let (min, max) = (bound("min"), bound("max"));
    if min.is_none() && max.is_none() {
        return kind;
    }
    let json = |bound: Option<TokenStream>| match bound {
        None => quote!(::std::option::Option::None),
        Some(bound) => quote!(::std::option::Option::Some(
            ::crm_core::__private::json!(#bound)
        )),
    };
    let (min, max) = (json(min), json(max));
    quote!(::crm_core::__private::with_bounds(#kind, #min, #max))
}

fn number(words: &mut FieldWords, word: &str) -> Result<Option<Expr>> {
    match words.take(word).map(|rule| rule.value) {
        None => Ok(None),
        Some(RuleValue::Number(number)) => Ok(Some(number)),
        Some(RuleValue::Text(text)) => Err(Error::new_spanned(text, "expected integer literal")),
        Some(_) => Ok(None),
    }
}

fn texts(words: &mut FieldWords, word: &str) -> Option<Vec<syn::LitStr>> {
    match words.take(word)?.value {
        RuleValue::Texts(texts) => Some(texts),
        _ => None,
    }
}

/// The last name of the type's path.
fn last(kind: &Type) -> Option<&syn::Ident> {
    match kind {
        Type::Path(TypePath { qself: None, path }) => Some(&path.segments.last()?.ident),
        _ => None,
    }
}

/// `T` of `outer<T>`.
fn argument<'a>(kind: &'a Type, outer: &str) -> Option<&'a Type> {
    let Type::Path(TypePath { qself: None, path }) = kind else {
        return None;
    };
    let segment = path
        .segments
        .last()
        .filter(|segment| segment.ident == outer)?;
    let PathArguments::AngleBracketed(arguments) = &segment.arguments else {
        return None;
    };
    match arguments.args.first() {
        Some(GenericArgument::Type(inner)) if arguments.args.len() == 1 => Some(inner),
        _ => None,
    }
}

//! The implementation that the macro writes.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::ext::IdentExt;
use syn::{Data, DeriveInput, Error, Expr, ExprLit, Fields, Lit, LitStr, Result, UnOp};

use crate::attribute::{documentation, field_words, module_words};
use crate::kind::{field_type, optional};

/// The implementation of `crm_core::Module`, or every mistake found in the struct.
pub(crate) fn module(input: &DeriveInput) -> Result<TokenStream> {
    let Data::Struct(data) = &input.data else {
        return Err(Error::new_spanned(
            &input.ident,
            "a module is declared by a struct",
        ));
    };
    let Fields::Named(named) = &data.fields else {
        return Err(Error::new_spanned(
            &input.ident,
            "a module's fields have names",
        ));
    };
    if !input.generics.params.is_empty() {
        return Err(Error::new_spanned(
            &input.generics,
            "a module has no type parameters",
        ));
    }
    let words = module_words(&input.attrs)?;
    let (Some(name), Some(singular)) = (&words.name, &words.singular) else {
        let message = "name the module: #[module(name = \"contacts\", singular = \"contact\")]";
        return Err(Error::new_spanned(&input.ident, message));
    };
    let (name, singular) = (ident(name)?, ident(singular)?);
    let description = described(words.description.as_ref(), &input.attrs);
    let fields = all(named.named.iter().map(field))?;
    let indexes = words
        .indexes
        .iter()
        .map(|index| all(index.iter().map(ident)));
    let indexes = all(indexes)?
        .into_iter()
        .map(|index| quote!(::std::vec![#(#index),*]));
    let duplicates = words.duplicates.iter();
    let duplicates = all(duplicates.map(|key| all(key.iter().map(ident))))?
        .into_iter()
        .map(|key| quote!(::std::vec![#(#key),*]));
    let search = match words.search.as_ref().map(|word| (word, word.value())) {
        None => quote!(Scan),
        Some((_, word)) if word == "scan" => quote!(Scan),
        Some((_, word)) if word == "indexed" => quote!(Indexed),
        Some((word, _)) => {
            return Err(Error::new_spanned(word, "expected \"indexed\" or \"scan\""));
        }
    };
    let (soft_delete, require_version) = (words.soft_delete, words.require_version);
    let optional = |word: &Option<LitStr>| match word {
        None => Ok(quote!(::std::option::Option::None)),
        Some(name) => {
            let name = ident(name)?;
            Ok::<_, Error>(quote!(::std::option::Option::Some(#name)))
        }
    };
    let aggregate_ttl = match &words.aggregate_ttl {
        None => quote!(::std::option::Option::None),
        Some(seconds) => quote!(::std::option::Option::Some(#seconds)),
    };
    let (key, parent) = (optional(&words.key)?, optional(&words.parent)?);
    let target = &input.ident;
    let finish = match &words.with {
        Some(with) => quote!(#with(spec)),
        None => quote!(spec),
    };
    Ok(quote! {
        #[automatically_derived]
        impl ::crm_core::Module for #target {
            fn spec() -> ::crm_core::module::ModuleSpec {
                let spec = ::crm_core::module::ModuleSpec {
                    name: #name,
                    singular: #singular,
                    description: ::std::string::String::from(#description),
                    fields: ::std::vec![#(#fields),*],
                    search: ::crm_core::module::SearchMode::#search,
                    indexes: ::std::vec![#(#indexes),*],
                    machines: ::std::vec::Vec::new(),
                    soft_delete: #soft_delete,
                    require_version: #require_version,
                    key: #key,
                    parent: #parent,
                    duplicates: ::std::vec![#(#duplicates),*],
                    aggregate_ttl: #aggregate_ttl,
                };
                #finish
            }
        }
    })
}

fn field(field: &syn::Field) -> Result<TokenStream> {
    let Some(rust_name) = &field.ident else {
        return Err(Error::new_spanned(field, "a module's fields have names"));
    };
    let name = ident(&LitStr::new(
        &rust_name.unraw().to_string(),
        rust_name.span(),
    ))?;
    let mut words = field_words(&field.attrs)?;
    let inner = optional(&field.ty);
    if let (Some(span), Some(_)) = (words.required, inner) {
        let message = "an Option may be empty: drop `required`, or the Option";
        return Err(Error::new(span, message));
    }
    let kind = field_type(inner.unwrap_or(&field.ty), &mut words)?;
    if let Some(rule) = words.rules.first() {
        let message = format!("`{}` does not belong to a field of this type", rule.word);
        return Err(Error::new_spanned(&rule.word, message));
    }
    let required = match crate::kind::is_links(&field.ty) {
        true => words.required.is_some(),
        false => inner.is_none(),
    };
    let (unique, search, sort) = (words.unique, words.search, words.sort);
    let (read_only, immutable) = (words.read_only, words.immutable);
    let (write_only, ignore_case) = (words.write_only, words.ignore_case);
    let default = match &words.default {
        None => quote!(::std::option::Option::None),
        Some(value) => {
            let value = literal(value)?;
            quote!(::std::option::Option::Some(
                ::crm_core::__private::json!(#value)
            ))
        }
    };
    let description = described(words.description.as_ref(), &field.attrs);
    let text = |word: &Option<LitStr>| match word {
        None => quote!(::std::option::Option::None),
        Some(text) => quote!(::std::option::Option::Some(::std::string::String::from(#text))),
    };
    let copied = text(&words.copied);
    let computed = match &words.computed {
        None => quote!(::std::option::Option::None),
        Some(text) => {
            quote!(::std::option::Option::Some(::crm_core::module::Formula::from(#text)))
        }
    };
    let base = quote!(::crm_core::module::FieldSpec::new(#name, #kind));
    if let Some(span) = words.serial {
        let is_i64 = inner.is_some_and(|kind| kind.to_token_stream().to_string() == "i64");
        if !is_i64 {
            let message = "a serial is an Option<i64>: before it is made, a record has no number";
            return Err(Error::new(span, message));
        }
        return Ok(quote! {
            ::crm_core::module::FieldSpec {
                description: ::std::string::String::from(#description),
                ..::crm_core::module::FieldSpec::serial(#name)
            }
        });
    }
    Ok(quote! {
        ::crm_core::module::FieldSpec {
            required: #required,
            unique: #unique,
            search: #search,
            sort: #sort,
            default: #default,
            description: ::std::string::String::from(#description),
            read_only: #read_only,
            immutable: #immutable,
            write_only: #write_only,
            ignore_case: #ignore_case,
            computed: #computed,
            copied: #copied,
            ..#base
        }
    })
}

/// The tokens of a name, which is checked here, where its place is known.
pub(crate) fn ident(name: &LitStr) -> Result<TokenStream> {
    let text = name.value();
    let plain = text
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if !plain || !text.starts_with(|c: char| c.is_ascii_lowercase()) || text.len() > 48 {
        let message = format!(
            "{text:?} is not a name: use a-z, 0-9 and _, start with a letter, at most 48 characters"
        );
        return Err(Error::new(name.span(), message));
    }
    Ok(quote!(::crm_core::module::Ident::from_static(#name)))
}

/// A default: a literal, a negative number, or a list of literals.
fn literal(value: &Expr) -> Result<TokenStream> {
    match value {
        Expr::Lit(ExprLit {
            lit: Lit::Str(_) | Lit::Int(_) | Lit::Float(_) | Lit::Bool(_),
            ..
        }) => Ok(value.to_token_stream()),
        Expr::Unary(unary) if matches!(unary.op, UnOp::Neg(_)) => Ok(value.to_token_stream()),
        Expr::Array(list) => {
            let items = all(list.elems.iter().map(literal))?;
            Ok(quote!([#(#items),*]))
        }
        other => {
            let message = "a default is a text, a number, true, false, or a list of these";
            Err(Error::new_spanned(other, message))
        }
    }
}

fn described(word: Option<&LitStr>, attributes: &[syn::Attribute]) -> String {
    word.map_or_else(|| documentation(attributes), LitStr::value)
}

/// All values, or all errors in one.
fn all<T>(results: impl Iterator<Item = Result<T>>) -> Result<Vec<T>> {
    let (mut values, mut errors) = (vec![], None::<Error>);
    for result in results {
        match (result, &mut errors) {
            (Ok(value), _) => values.push(value),
            (Err(error), Some(errors)) => errors.combine(error),
            (Err(error), none) => *none = Some(error),
        }
    }
    errors.map_or(Ok(values), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The messages of the compile errors for a struct.
    fn refused(input: &str) -> Vec<String> {
        match module(&syn::parse_str(input).unwrap()) {
            Ok(_) => vec![],
            Err(error) => error.into_iter().map(|error| error.to_string()).collect(),
        }
    }

    /// The message for a struct with one field.
    fn field(field: &str) -> String {
        let input = format!("#[module(name = \"as\", singular = \"a\")] struct A {{ {field} }}");
        refused(&input).join("; ")
    }

    #[test]
    fn a_module_is_a_named_struct_with_plain_names() {
        assert_eq!(refused("enum A {}"), ["a module is declared by a struct"]);
        assert_eq!(refused("struct A(i64);"), ["a module's fields have names"]);
        assert!(refused("struct A { a: bool }")[0].starts_with("name the module: #[module("));
        let named = |name: &str| {
            refused(&format!(
                "#[module(name = \"{name}\", singular = \"a\")] struct A {{ a: bool }}"
            ))
        };
        assert!(named("Contacts")[0].starts_with("\"Contacts\" is not a name"));
        assert!(named("contacts").is_empty());
        assert!(
            refused("#[module(nmae = \"a\")] struct A { a: bool }")[0]
                .starts_with("expected `name`, `singular`")
        );
    }

    #[test]
    fn all_mistakes_of_the_fields_are_shown_at_once() {
        let errors = refused(
            "#[module(name = \"as\", singular = \"a\")]
             struct A { a: f64, b: Decimal, c: RecordId, #[field(max = 3)] d: bool, ok: String }",
        );
        assert_eq!(errors.len(), 4);
        assert!(errors[0].starts_with("no field type holds this; use String, bool, i64"));
        assert!(errors[1].starts_with("a decimal states its digits"));
        assert!(errors[2].starts_with("a reference names its module"));
        assert_eq!(errors[3], "`max` does not belong to a field of this type");
    }

    #[test]
    fn words_are_known_single_and_take_what_they_say() {
        assert!(field("#[field(uniqe)] a: String").starts_with("expected one of: unique, search"));
        assert_eq!(
            field("#[field(max = 1, max = 2)] a: String"),
            "`max` is given twice"
        );
        assert!(field("#[field(unique = true)] a: String").contains("takes no value"));
        assert_eq!(
            field("#[field(max = \"x\")] a: String"),
            "expected integer literal"
        );
        assert!(field("#[field(values = \"x\")] a: String").contains("expected a list"));
        assert!(field("#[field(values = [1])] a: String").contains("a text between quotes"));
        assert!(field("#[field(required)] a: Option<String>").contains("drop `required`"));
        assert_eq!(field("#[field(required)] a: String"), "");
        assert!(field("#[field(default = None)] a: String").starts_with("a default is a text"));
        assert_eq!(
            field("#[field(email, phone)] a: String"),
            "`phone` does not belong to a field of this type"
        );
        assert!(field("a: DateTime<Local>").starts_with("no field type"));
    }
}

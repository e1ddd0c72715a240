//! The words of `#[module(…)]` and `#[field(…)]`, read and kept with their places.

use syn::meta::ParseNestedMeta;
use syn::parse::Parse;
use syn::{Attribute, Error, Expr, ExprLit, Lit, LitInt, LitStr, Meta, Result, Token};

/// What `#[module(…)]` says.
#[derive(Default)]
pub(crate) struct ModuleWords {
    pub(crate) name: Option<LitStr>,
    pub(crate) singular: Option<LitStr>,
    pub(crate) description: Option<LitStr>,
    pub(crate) search: Option<LitStr>,
    pub(crate) indexes: Vec<Vec<LitStr>>,
    pub(crate) soft_delete: bool,
    pub(crate) require_version: bool,
    pub(crate) key: Option<LitStr>,
    pub(crate) duplicates: Vec<Vec<LitStr>>,
    pub(crate) aggregate_ttl: Option<LitInt>,
    pub(crate) parent: Option<LitStr>,
    pub(crate) with: Option<syn::Path>,
}

/// What `#[field(…)]` says.
#[derive(Default)]
pub(crate) struct FieldWords {
    pub(crate) unique: bool,
    pub(crate) search: bool,
    pub(crate) sort: bool,
    pub(crate) read_only: bool,
    pub(crate) immutable: bool,
    pub(crate) write_only: bool,
    pub(crate) ignore_case: bool,
    pub(crate) serial: Option<proc_macro2::Span>,
    pub(crate) computed: Option<LitStr>,
    pub(crate) copied: Option<LitStr>,
    pub(crate) required: Option<proc_macro2::Span>,
    pub(crate) default: Option<Expr>,
    pub(crate) description: Option<LitStr>,
    /// The words that rule a type; each type takes its own, and none may be left over.
    pub(crate) rules: Vec<Rule>,
}

/// One word that rules a type, with its value.
pub(crate) struct Rule {
    pub(crate) word: syn::Ident,
    pub(crate) value: RuleValue,
}

pub(crate) enum RuleValue {
    Flag,
    Number(Expr),
    Text(LitStr),
    Texts(Vec<LitStr>),
}

impl FieldWords {
    /// Whether there is a rule called `word`.
    pub(crate) fn has(&self, word: &str) -> bool {
        self.rules.iter().any(|rule| rule.word == word)
    }

    /// Removes and answers the rule called `word`.
    pub(crate) fn take(&mut self, word: &str) -> Option<Rule> {
        let position = self.rules.iter().position(|rule| rule.word == word)?;
        Some(self.rules.remove(position))
    }
}

pub(crate) fn module_words(attributes: &[Attribute]) -> Result<ModuleWords> {
    let mut words = ModuleWords::default();
    each(attributes, "module", |meta| {
        match word(&meta)?.as_str() {
        "name" => once(&mut words.name, &meta),
        "singular" => once(&mut words.singular, &meta),
        "description" => once(&mut words.description, &meta),
        "search" => once(&mut words.search, &meta),
        "indexes" => {
            let rows: syn::ExprArray = meta.value()?.parse()?;
            words.indexes = rows.elems.iter().map(texts).collect::<Result<_>>()?;
            Ok(())
        }
        "soft_delete" => flag(&mut words.soft_delete, &meta),
        "require_version" => flag(&mut words.require_version, &meta),
        "duplicates" => {
            let rows: syn::ExprArray = meta.value()?.parse()?;
            words.duplicates = rows.elems.iter().map(texts).collect::<Result<_>>()?;
            Ok(())
        }
        "key" => once(&mut words.key, &meta),
        "aggregate_ttl" => once(&mut words.aggregate_ttl, &meta),
        "parent" => once(&mut words.parent, &meta),
        "with" => once(&mut words.with, &meta),
        _ => Err(meta.error(
            "expected `name`, `singular`, `description`, `search`, `indexes`, `soft_delete`, \
                        `require_version`, `duplicates`, `key`, `aggregate_ttl`, `parent` or `with`",
        )),
    }
    })?;
    Ok(words)
}

pub(crate) fn field_words(attributes: &[Attribute]) -> Result<FieldWords> {
    let mut words = FieldWords::default();
    each(attributes, "field", |meta| {
        let name = word(&meta)?;
        let value = match name.as_str() {
            "unique" => return flag(&mut words.unique, &meta),
            "search" => return flag(&mut words.search, &meta),
            "sort" => return flag(&mut words.sort, &meta),
            "read_only" => return flag(&mut words.read_only, &meta),
            "immutable" => return flag(&mut words.immutable, &meta),
            "write_only" => return flag(&mut words.write_only, &meta),
            "ignore_case" => return flag(&mut words.ignore_case, &meta),
            "serial" => {
                words.serial = Some(syn::spanned::Spanned::span(&meta.path));
                return Ok(());
            }
            "computed" => return once(&mut words.computed, &meta),
            "copied" => return once(&mut words.copied, &meta),
            "default" => return once(&mut words.default, &meta),
            "description" => return once(&mut words.description, &meta),
            "required" => {
                words.required = Some(syn::spanned::Spanned::span(&meta.path));
                return Ok(());
            }
            "email" | "phone" | "url" | "long_text" | "zoned" => RuleValue::Flag,
            "min" | "max" => bound(&meta)?,
            "precision" | "scale" | "max_items" | "max_length" | "max_bytes" | "dimensions" => {
                RuleValue::Number(number(&meta)?)
            }
            "currency" if !meta.input.peek(Token![=]) => RuleValue::Flag,
            "currency" | "currency_field" | "references" | "on_delete" => {
                RuleValue::Text(meta.value()?.parse()?)
            }
            "values" | "references_any" => RuleValue::Texts(texts(&meta.value()?.parse()?)?),
            _ => {
                return Err(meta.error(
                    "expected one of: unique, search, sort, required, read_only, immutable, write_only, \
                     ignore_case, serial, computed, copied, default, description, email, phone, url, \
                     long_text, zoned, dimensions, max, min, precision, scale, currency, \
                     currency_field, values, max_items, max_length, max_bytes, references, \
                     references_any, on_delete",
                ));
            }
        };
        let Some(ident) = meta.path.get_ident().cloned() else {
            return Ok(());
        };
        if words.rules.iter().any(|rule| rule.word == name) {
            return Err(meta.error(format!("`{name}` is given twice")));
        }
        words.rules.push(Rule { word: ident, value });
        Ok(())
    })?;
    Ok(words)
}

/// The first paragraph of the documentation comment, on one line.
pub(crate) fn documentation(attributes: &[Attribute]) -> String {
    let lines = attributes
        .iter()
        .filter_map(|attribute| match &attribute.meta {
            Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
                Expr::Lit(ExprLit {
                    lit: Lit::Str(text),
                    ..
                }) => Some(text.value()),
                _ => None,
            },
            _ => None,
        });
    let lines: Vec<_> = lines.map(|line| line.trim().to_owned()).collect();
    let paragraph = lines.iter().skip_while(|line| line.is_empty());
    let paragraph: Vec<_> = paragraph
        .take_while(|line| !line.is_empty())
        .cloned()
        .collect();
    paragraph.join(" ")
}

fn each(
    attributes: &[Attribute],
    name: &str,
    mut read: impl FnMut(ParseNestedMeta<'_>) -> Result<()>,
) -> Result<()> {
    for attribute in attributes
        .iter()
        .filter(|attribute| attribute.path().is_ident(name))
    {
        attribute.parse_nested_meta(&mut read)?;
    }
    Ok(())
}

fn word(meta: &ParseNestedMeta<'_>) -> Result<String> {
    let ident = meta
        .path
        .get_ident()
        .ok_or_else(|| meta.error("expected a single word"))?;
    Ok(ident.to_string())
}

fn flag(to: &mut bool, meta: &ParseNestedMeta<'_>) -> Result<()> {
    *to = true;
    if meta.input.peek(Token![=]) {
        return Err(meta.error("this word takes no value: leave it out to say no"));
    }
    Ok(())
}

fn once<T: Parse>(to: &mut Option<T>, meta: &ParseNestedMeta<'_>) -> Result<()> {
    match to.replace(meta.value()?.parse()?) {
        None => Ok(()),
        Some(_) => Err(meta.error("this word is given twice")),
    }
}

/// A number, or a text between quotes.
fn bound(meta: &ParseNestedMeta<'_>) -> Result<RuleValue> {
    let value = meta.value()?;
    if value.peek(LitStr) {
        return value.parse().map(RuleValue::Text);
    }
    let minus: Option<Token![-]> = value.parse()?;
    let literal: LitInt = value.parse()?;
    Ok(RuleValue::Number(negated(minus, literal)))
}

/// An integer literal, perhaps negative.
fn number(meta: &ParseNestedMeta<'_>) -> Result<Expr> {
    let value = meta.value()?;
    let minus: Option<Token![-]> = value.parse()?;
    let literal: LitInt = value.parse()?;
    Ok(negated(minus, literal))
}

fn negated(minus: Option<Token![-]>, literal: LitInt) -> Expr {
    match minus {
        None => syn::parse_quote!(#literal),
        Some(minus) => syn::parse_quote!(#minus #literal),
    }
}

fn texts(list: &Expr) -> Result<Vec<LitStr>> {
    let Expr::Array(list) = list else {
        return Err(Error::new_spanned(
            list,
            "expected a list such as [\"a\", \"b\"]",
        ));
    };
    let text = |item: &Expr| match item {
        Expr::Lit(ExprLit {
            lit: Lit::Str(text),
            ..
        }) => Ok(text.clone()),
        other => Err(Error::new_spanned(other, "expected a text between quotes")),
    };
    list.elems.iter().map(text).collect()
}

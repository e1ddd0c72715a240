//! The records that refer to one record, under its path: `/companies/{id}/deals` is the list of deals
//! whose `company_id` is the company, for whoever may see that. A module that refers to another by
//! several fields is named with the one that is meant: `/companies/{id}/deals.buyer_id`.

use std::sync::Arc;

use crm_core::module::{CompiledModule, FieldSpec, FieldType, Ident};
use crm_core::record::{Field, Filter};
use crm_core::{Crm, Error, Read, Scope};
use poem::{Request, Response};

use super::{Act, Handler, Named, query};
use crate::problem::Problem;

/// The records of one module that refer to a record of another by one field.
pub(crate) struct Children {
    pub(crate) module: Ident,
    pub(crate) field: Ident,
    /// Whether the module refers by other fields, too, so that the path says which.
    pub(crate) one_of_several: bool,
}

impl Children {
    /// What of `module` refers to records of `parent`.
    pub(crate) fn of<'m>(
        parent: &'m CompiledModule,
        module: &'m CompiledModule,
    ) -> impl Iterator<Item = Self> + 'm {
        let refers = |field: &&FieldSpec| field.kind.targets().contains(parent.name());
        let several = module.readable().filter(refers).count() > 1;
        // What is done with a record comes first: `{id}/merge`.
        let is_act = !several && Act::named(parent, module.name().as_str()).is_some();
        let fields = module.readable().filter(move |_| !is_act);
        let refers = move |field: &&FieldSpec| field.kind.targets().contains(parent.name());
        fields.filter(refers).map(move |field| Self {
            module: module.name().clone(),
            field: field.name.clone(),
            one_of_several: several,
        })
    }

    /// Those that a path segment behind a record of `parent` names.
    pub(super) fn named(
        crm: &Crm,
        scope: Option<&Scope>,
        parent: &CompiledModule,
        segment: &str,
    ) -> Option<Self> {
        let (name, _) = segment.split_once('.').unwrap_or((segment, ""));
        let module = match scope {
            Some(scope) => scope.module(name),
            None => crm.registry().get(name),
        };
        let mut children = Self::of(parent, module?);
        children.find(|children| children.segment() == segment)
    }

    /// How a path names them.
    pub(crate) fn segment(&self) -> String {
        match self.one_of_several {
            true => format!("{}.{}", self.module, self.field),
            false => self.module.to_string(),
        }
    }

    /// The condition that they refer to this record.
    fn filter(
        &self,
        scope: &Scope,
        module: &CompiledModule,
        parent: &CompiledModule,
        id: &str,
    ) -> Result<Filter, Error> {
        // Whoever does not read the field does not learn by it what refers to the record.
        let Some(Field::Declared(at)) = Field::named(module, self.field.as_str()) else {
            return Err(Error::NotFound);
        };
        let (name, text) = match &module.fields()[at].kind {
            FieldType::References { .. } => (format!("{}[has]", self.field), id.to_owned()),
            FieldType::AnyReference { .. } => {
                (self.field.to_string(), format!("{}/{id}", parent.name()))
            }
            _ => (self.field.to_string(), id.to_owned()),
        };
        let filter = Filter::of_parameter(scope, module, &name, &text);
        filter.map_err(|error| Error::Invalid(vec![error]))
    }
}

impl Handler<'_> {
    pub(super) async fn children(
        &self,
        request: &Request,
        named: Named,
        children: &Children,
    ) -> Result<Response, Problem> {
        let name = children.module.as_str();
        let permit = self.scope.permit::<Read>(name)?;
        let read = self.scope.permit::<Read>(self.name())?;
        let module: Arc<CompiledModule> = self.scope.readable(name).ok_or(Error::NotFound)?;
        let id = self.id::<Read>(named).await?;
        let parent = self.exchange.app.crm.records().get(&read, id).await?;
        let filter = children.filter(&self.scope, &module, &self.module, &parent.id.to_string())?;
        let (query, view) = query::parse_among(&self.scope, &module, request, vec![filter])?;
        self.page(permit, &query, &view).await
    }
}

//! The proof that a scope may act on an object, and the actions as types. Only [`Scope`] gives one
//! out.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use super::Scope;
use crate::error::{Error, Result};
use crate::field_list::FieldLists;
use crate::id::{TenantId, UserId};
use crate::module::CompiledModule;
use crate::policy::{Operation, Rows};
use crate::reach::Reach;

/// An action that permissions are about; a type, so that the wrong permit does not compile.
pub trait Action: Send + Sync + 'static {
    /// The action's segment of the permission: `read` in `contacts.read`.
    const NAME: &'static str;
}

macro_rules! actions {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub enum $name {}

        impl Action for $name {
            const NAME: &'static str = $text;
        }
    )*};
}

actions! {
    /// Seeing rows, alone or in lists.
    Read = "read";
    /// Making rows.
    Create = "create";
    /// Changing rows.
    Update = "update";
    /// Removing rows.
    Delete = "delete";
    /// Removing rows from the trash, for good.
    Purge = "purge";
}

/// Proof of a policy decision: the scope may do `A` on one object, on these rows.
pub struct Permit<A> {
    scope: Scope,
    operation: Operation,
    module: Option<Arc<CompiledModule>>,
    rows: Rows,
    reach: Reach,
    lists: Option<Arc<FieldLists>>,
    action: PhantomData<fn() -> A>,
}

impl<A> Clone for Permit<A> {
    fn clone(&self) -> Self {
        Self {
            scope: self.scope.clone(),
            operation: self.operation,
            module: self.module.clone(),
            rows: self.rows.clone(),
            reach: self.reach.clone(),
            lists: self.lists.clone(),
            action: PhantomData,
        }
    }
}

impl<A: Action> Permit<A> {
    pub(super) fn new(
        scope: Scope,
        operation: Operation,
        module: Option<Arc<CompiledModule>>,
        rows: Rows,
    ) -> Self {
        let lists = FieldLists::new(&scope, module.as_ref(), &rows);
        Self {
            reach: Reach::new(&scope, module.as_ref(), &rows),
            // What is written is written whole; what is read is shown as far as that goes.
            module: match (&lists, module) {
                (Some(lists), Some(module)) if A::NAME == Read::NAME => {
                    Some(scope.core().views.of(&module, lists.everywhere()))
                }
                (_, module) => module,
            },
            scope,
            operation,
            rows,
            lists,
            action: PhantomData,
        }
    }

    /// The permit for some of its rows.
    pub(crate) fn over(&self, rows: Rows) -> Self {
        let module = self.module.as_ref().map(|module| module.base().clone());
        Self::new(self.scope.clone(), self.operation, module, rows)
    }
}

impl Permit<Read> {
    /// The module with the fields that may be read in any row that the permit covers.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a permit of something else than a module.
    pub(crate) fn asked(&self) -> Result<Arc<CompiledModule>> {
        let module = self.module()?;
        Ok(match &self.lists {
            Some(lists) => self.scope.core().views.of(module, lists.anywhere()),
            None => module.clone(),
        })
    }
}

impl<A> Permit<A> {
    /// The scope that holds the right.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The tenant acted in.
    pub fn tenant(&self) -> TenantId {
        self.scope.tenant()
    }

    /// The rows it covers.
    pub fn rows(&self) -> &Rows {
        &self.rows
    }

    /// The rows it covers, in the forms that statements and records are held against.
    pub(crate) fn reach(&self) -> &Reach {
        &self.reach
    }

    /// The scope, when the permit covers all of this object: an administration's repository asks
    /// this first, and rights on own rows mean nothing there.
    ///
    /// # Errors
    /// [`Error::Forbidden`] for a permit of another object, or of own rows only.
    pub(crate) fn on(&self, object: &str) -> Result<&Scope>
    where
        A: Action,
    {
        let asked = self.scope.catalogue().operation(object, A::NAME);
        if asked == Some(self.operation) && self.rows.is_all() {
            return Ok(&self.scope);
        }
        Err(Error::Forbidden {
            permission: format!("{object}.{}", A::NAME),
        })
    }

    /// What its rules say of fields, where they do not all reach all of them.
    pub(crate) fn lists(&self) -> Option<&FieldLists> {
        self.lists.as_deref()
    }

    /// The module it is about; for reading as far as it may be read in every row.
    pub(crate) fn module(&self) -> Result<&Arc<CompiledModule>> {
        self.module.as_ref().ok_or(Error::NotFound)
    }

    /// Whether a row may get this owner, as far as that decides: whoever may write own rows only
    /// cannot give them away.
    pub(crate) fn may_give_to(&self, owner: Option<UserId>) -> bool {
        match &self.reach {
            Reach::Own(user) => owner == Some(*user),
            _ => true,
        }
    }
}

impl<A> fmt::Debug for Permit<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("scope", &self.scope)
            .field("rows", &self.rows)
            .finish()
    }
}

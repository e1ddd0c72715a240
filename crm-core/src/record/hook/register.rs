//! How an application registers its hooks.

use std::sync::Arc;

use futures::future::BoxFuture;

use super::{HookContext, Link, Next, When};
use crate::crm::Builder;
use crate::error::Result;
use crate::event::ChangeKind;
use crate::module::Module;

/// Hooks run in the order in which they are registered, all `before` ones and then, behind the
/// write, all `after` ones. Each is a closure that answers a boxed async block:
///
/// ```
/// use crm_core::error::Refusal;
/// use crm_core::{Create, Crm, Module};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize, Module)]
/// #[module(name = "contacts", singular = "contact")]
/// struct Contact {
///     name: String,
///     tags: Vec<String>,
/// }
///
/// let builder = Crm::builder()
///     .module::<Contact>()
///     .before_create::<Contact, _>(|_, contact| {
///         Box::pin(async move {
///             if contact.name == "Nobody" {
///                 return Err(Refusal::invalid("no_name", "give a real name").on("name").into());
///             }
///             contact.tags.push("new".to_owned());
///             Ok(())
///         })
///     })
///     .after_create::<Contact, _>(|cx, contact| {
///         Box::pin(async move {
///             // In the transaction of the contact: both are there, or neither.
///             let permit = cx.system().permit::<Create>("deals")?;
///             let deal = serde_json::json!({"title": format!("Call {}", contact.name)});
///             let body = deal.as_object().cloned().unwrap_or_default();
///             cx.create(&permit, body).await?;
///             Ok(())
///         })
///     });
/// ```
///
/// Those on changes that have another name than the typed ones, on modules without a type, and
/// hooks on both sides of the write are registered by the module's name:
///
/// ```
/// use crm_core::Crm;
/// use crm_core::event::ChangeKind;
/// use crm_core::record::When;
///
/// let builder = Crm::builder()
///     .hook("tickets", When::Before, ChangeKind::Created, |cx| {
///         Box::pin(async move { cx.set("priority", "high") })
///     })
///     .around("tickets", ChangeKind::Updated, |cx, next| {
///         Box::pin(async move {
///             let closes = cx.changes("status");
///             next.run(cx).await?;
///             if closes { /* after the write */ }
///             Ok(())
///         })
///     });
/// ```
impl Builder {
    /// Runs `hook` before a record is made; what it changes in the record is stored.
    pub fn before_create<T, F>(self, hook: F) -> Self
    where
        T: Module,
        F: for<'a, 't> Fn(&'a mut HookContext<'t>, &'a mut T) -> BoxFuture<'a, Result<()>>,
        F: Send + Sync + 'static,
    {
        self.before(ChangeKind::Created, hook)
    }

    /// Runs `hook` before a record changes; what it changes in the record is stored.
    /// [`HookContext::old_as`] is the record as it was.
    pub fn before_update<T, F>(self, hook: F) -> Self
    where
        T: Module,
        F: for<'a, 't> Fn(&'a mut HookContext<'t>, &'a mut T) -> BoxFuture<'a, Result<()>>,
        F: Send + Sync + 'static,
    {
        self.before(ChangeKind::Updated, hook)
    }

    /// Runs `hook` before a record is removed.
    pub fn before_delete<T, F>(self, hook: F) -> Self
    where
        T: Module,
        F: for<'a, 't> Fn(&'a mut HookContext<'t>, &'a T) -> BoxFuture<'a, Result<()>>,
        F: Send + Sync + 'static,
    {
        let hook = Arc::new(hook);
        let hook = link(move |cx, next| {
            let hook = hook.clone();
            Box::pin(async move {
                if let Some(old) = cx.old_as::<T>()? {
                    hook(cx, &old).await?;
                }
                next.run(cx).await
            })
        });
        self.add(
            T::spec().name.as_str(),
            ChangeKind::Deleted,
            When::Before,
            hook,
        )
    }

    /// Runs `hook` after a record was made.
    pub fn after_create<T, F>(self, hook: F) -> Self
    where
        T: Module,
        F: for<'a, 't> Fn(&'a mut HookContext<'t>, &'a T) -> BoxFuture<'a, Result<()>>,
        F: Send + Sync + 'static,
    {
        self.after(ChangeKind::Created, hook)
    }

    /// Runs `hook` after a record changed. [`HookContext::old_as`] is the record as it was.
    pub fn after_update<T, F>(self, hook: F) -> Self
    where
        T: Module,
        F: for<'a, 't> Fn(&'a mut HookContext<'t>, &'a T) -> BoxFuture<'a, Result<()>>,
        F: Send + Sync + 'static,
    {
        self.after(ChangeKind::Updated, hook)
    }

    /// Runs `hook` after a record was removed, with the record as it was.
    pub fn after_delete<T, F>(self, hook: F) -> Self
    where
        T: Module,
        F: for<'a, 't> Fn(&'a mut HookContext<'t>, &'a T) -> BoxFuture<'a, Result<()>>,
        F: Send + Sync + 'static,
    {
        self.after(ChangeKind::Deleted, hook)
    }

    /// Runs `hook` on a change of the module called `module` (plural).
    pub fn hook<F>(self, module: &str, when: When, kind: ChangeKind, hook: F) -> Self
    where
        F: for<'a, 't> Fn(&'a mut HookContext<'t>) -> BoxFuture<'a, Result<()>>,
        F: Send + Sync + 'static,
    {
        let hook = Arc::new(hook);
        let hook = link(move |cx, next| {
            let hook = hook.clone();
            Box::pin(async move {
                match when {
                    When::Before => {
                        hook(cx).await?;
                        next.run(cx).await
                    }
                    When::After => {
                        next.run(cx).await?;
                        match cx.is_written() {
                            true => hook(cx).await,
                            false => Ok(()),
                        }
                    }
                }
            })
        });
        self.add(module, kind, when, hook)
    }

    /// Puts `hook` around a change of the module called `module` (plural): it must call the next
    /// one, or refuse.
    pub fn around<F>(self, module: &str, kind: ChangeKind, hook: F) -> Self
    where
        F: for<'a, 't> Fn(&'a mut HookContext<'t>, Next<'a>) -> BoxFuture<'a, Result<()>>,
        F: Send + Sync + 'static,
    {
        self.add(module, kind, When::Before, link(hook))
    }

    fn before<T, F>(self, kind: ChangeKind, hook: F) -> Self
    where
        T: Module,
        F: for<'a, 't> Fn(&'a mut HookContext<'t>, &'a mut T) -> BoxFuture<'a, Result<()>>,
        F: Send + Sync + 'static,
    {
        let hook = Arc::new(hook);
        let hook = link(move |cx, next| {
            let hook = hook.clone();
            Box::pin(async move {
                if let Some(mut new) = cx.record_as::<T>()? {
                    hook(cx, &mut new).await?;
                    cx.put(&new)?;
                }
                next.run(cx).await
            })
        });
        self.add(T::spec().name.as_str(), kind, When::Before, hook)
    }

    fn after<T, F>(self, kind: ChangeKind, hook: F) -> Self
    where
        T: Module,
        F: for<'a, 't> Fn(&'a mut HookContext<'t>, &'a T) -> BoxFuture<'a, Result<()>>,
        F: Send + Sync + 'static,
    {
        let hook = Arc::new(hook);
        let hook = link(move |cx, next| {
            let hook = hook.clone();
            Box::pin(async move {
                next.run(cx).await?;
                if !cx.is_written() {
                    return Ok(());
                }
                let now = cx.record_as::<T>()?;
                match now.map_or_else(|| cx.old_as::<T>(), |now| Ok(Some(now)))? {
                    Some(data) => hook(cx, &data).await,
                    None => Ok(()),
                }
            })
        });
        self.add(T::spec().name.as_str(), kind, When::After, hook)
    }

    /// An `after` hook stands around all that is registered before it, so that what it does behind
    /// the write comes last.
    fn add(mut self, module: &str, kind: ChangeKind, when: When, hook: Link) -> Self {
        let chain = self.hooks.chain(module, kind);
        match when {
            When::Before => chain.push(hook),
            When::After => chain.insert(0, hook),
        }
        self
    }
}

fn link<F>(hook: F) -> Link
where
    F: for<'a, 't> Fn(&'a mut HookContext<'t>, Next<'a>) -> BoxFuture<'a, Result<()>>,
    F: Send + Sync + 'static,
{
    Arc::new(hook)
}

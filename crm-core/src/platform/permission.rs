//! What operators may do: a closed list, so that a word nobody knows is refused.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::error::{Error, FieldError, Result};

macro_rules! permissions {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// Something that an operator may do.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum PlatformPermission {
            $($(#[$doc])* $name,)*
        }

        impl PlatformPermission {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// As written: `tenants.create`.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

permissions! {
    /// Seeing the tenants.
    TenantsRead = "tenants.read";
    /// Making tenants, and inviting their first admins.
    TenantsCreate = "tenants.create";
    /// Suspending tenants.
    TenantsSuspend = "tenants.suspend";
    /// Letting suspended tenants go on.
    TenantsResume = "tenants.resume";
    /// Reading everything that a tenant has.
    TenantsExport = "tenants.export";
    /// Erasing tenants.
    TenantsErase = "tenants.erase";
    /// Acting in the name of members.
    TenantsImpersonate = "tenants.impersonate";
    /// Seeing the operators.
    OperatorsRead = "operators.read";
    /// Making operators, with what one may do oneself.
    OperatorsCreate = "operators.create";
    /// Taking operators away.
    OperatorsDelete = "operators.delete";
    /// Reading the audit log of the platform.
    AuditRead = "audit.read";
}

impl fmt::Display for PlatformPermission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for PlatformPermission {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl FromStr for PlatformPermission {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut all = Self::ALL.iter().copied();
        all.find(|one| one.as_str() == text).ok_or_else(|| {
            Error::invalid(
                "permissions",
                "unknown_permission",
                format!("Choose among {}.", names()),
            )
        })
    }
}

fn names() -> String {
    let names = PlatformPermission::ALL.iter().map(|one| one.as_str());
    names.collect::<Vec<_>>().join(", ")
}

/// The permissions that these texts name.
///
/// # Errors
/// [`Error::Invalid`] with every one that there is not.
pub(super) fn parse(texts: &[String]) -> Result<BTreeSet<PlatformPermission>> {
    let (mut known, mut refused) = (BTreeSet::new(), Vec::new());
    for (index, text) in texts.iter().enumerate() {
        match text.parse() {
            Ok(permission) => {
                known.insert(permission);
            }
            Err(_) => refused.push(FieldError {
                pointer: format!("/permissions/{index}"),
                code: "unknown_permission",
                message: format!("Choose among {}.", names()),
            }),
        }
    }
    match refused.is_empty() {
        true => Ok(known),
        false => Err(Error::Invalid(refused)),
    }
}

/// The permissions as stored; one that this program does not know gives nothing.
pub(super) fn stored(json: serde_json::Value) -> Result<BTreeSet<PlatformPermission>> {
    let texts: Vec<String> = serde_json::from_value(json).map_err(|_| Error::Inconsistent {
        table: "operators".into(),
        column: "permissions".into(),
    })?;
    Ok(texts.iter().filter_map(|text| text.parse().ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permission_is_written_as_it_is_read_and_no_other_word_is_one() {
        for permission in PlatformPermission::ALL {
            assert_eq!(
                permission.as_str().parse::<PlatformPermission>().unwrap(),
                *permission
            );
        }
        for text in ["", "*", "*.*", "tenants.*", "Tenants.read", "contacts.read"] {
            assert!(text.parse::<PlatformPermission>().is_err(), "{text}");
        }
        let texts = ["tenants.read".to_owned(), "tenants.*".to_owned()];
        let Err(Error::Invalid(fields)) = parse(&texts) else {
            panic!("a wildcard was accepted");
        };
        assert_eq!(fields[0].pointer, "/permissions/1");
    }
}

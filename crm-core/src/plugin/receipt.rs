//! What an administrator consents to: every single thing that a manifest asks for, one line each,
//! and what one manifest asks beyond another.

use serde_json::{Map, Value as Json};

use super::{EventTrigger, Grant, GrantAction, Manifest, Trigger};
use crate::module::Ident;

impl Manifest {
    /// Everything that it asks for, a line each.
    pub fn receipt(&self) -> Vec<String> {
        self.lines(None)
    }

    /// What it asks for that the other one does not, a line each.
    pub fn beyond(&self, other: &Self) -> Vec<String> {
        self.lines(Some(other))
    }

    fn lines(&self, other: Option<&Self>) -> Vec<String> {
        let mut lines = Vec::new();
        for trigger in &self.triggers {
            let known = other.map(|other| &other.triggers);
            if !known.is_some_and(|known| known.iter().any(|known| trigger.within(known))) {
                lines.push(format!("run on {trigger}"));
            }
        }
        for grant in &self.grants {
            let known = other.map(|other| &other.grants);
            let mut known = known.into_iter().flatten();
            let known = known.find(|known| known.module == grant.module);
            lines.extend(grant.lines(known));
        }
        let hosts = self.hosts.iter();
        let hosts = hosts.filter(|host| !other.is_some_and(|other| other.hosts.contains(host)));
        lines.extend(hosts.map(|host| format!("send requests to {host}")));
        type Names = fn(&Manifest) -> &[Ident];
        let names: [(_, Names); 3] = [
            ("read the secret", |manifest| &manifest.secrets),
            ("tell events called", |manifest| &manifest.emits),
            ("schedule jobs called", |manifest| &manifest.jobs),
        ];
        for (what, of) in names {
            let new = of(self).iter();
            let new = new.filter(|name| !other.is_some_and(|other| of(other).contains(name)));
            lines.extend(new.map(|name| format!("{what} {name}")));
        }
        if self.kv && !other.is_some_and(|other| other.kv) {
            lines.push("keep values of its own".to_owned());
        }
        lines
    }
}

impl Grant {
    /// A line for each action that the other grant does not give as far.
    fn lines(&self, known: Option<&Self>) -> impl Iterator<Item = String> {
        let new = self.actions.iter().filter(move |action| {
            let given = known.filter(|known| known.actions.contains(action));
            !given.is_some_and(|given| **action == GrantAction::Delete || self.fields_within(given))
        });
        new.map(|action| match (&self.fields, action) {
            (Some(fields), GrantAction::Read | GrantAction::Create | GrantAction::Update) => {
                let fields: Vec<_> = fields.iter().map(Ident::as_str).collect();
                format!("{action} {} ({})", self.module, fields.join(", "))
            }
            _ => format!("{action} {}", self.module),
        })
    }

    fn fields_within(&self, other: &Self) -> bool {
        match (&self.fields, &other.fields) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(own), Some(known)) => own.iter().all(|field| known.contains(field)),
        }
    }
}

impl Trigger {
    /// Whether it wakes the plugin only where the other one would.
    fn within(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Event(own), Self::Event(known)) => own.within(known),
            (Self::Before(own), Self::Before(known)) => {
                let mut changes = own.changes.iter();
                changes.all(|change| known.changes.contains(change))
                    && fewer(&own.fields, &known.fields)
                    && narrower(own.filter.as_ref(), known.filter.as_ref())
            }
            (Self::Action(own), Self::Action(known)) => {
                own.name == known.name && own.module == known.module
            }
            (own, known) => own == known,
        }
    }
}

impl EventTrigger {
    fn within(&self, other: &Self) -> bool {
        self.subject == other.subject
            && self.change == other.change
            && fewer(&self.fields, &other.fields)
            && narrower(self.filter.as_ref(), other.filter.as_ref())
    }
}

/// Whether a trigger looks at no more fields than another; without any it looks at all.
fn fewer(own: &[Ident], known: &[Ident]) -> bool {
    match (own.is_empty(), known.is_empty()) {
        (_, true) => true,
        (true, false) => false,
        (false, false) => own.iter().all(|field| known.contains(field)),
    }
}

/// Whether a filter lets no more through than another, as far as that is plain.
fn narrower(own: Option<&Map<String, Json>>, known: Option<&Map<String, Json>>) -> bool {
    known.is_none() || own == known
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(rest: &str) -> Manifest {
        Manifest::parse(&format!("name = 'p'\nversion = '1.0.0'\n{rest}")).unwrap()
    }

    const WIDE: &str = "hosts = ['a.example']\nsecrets = ['token']\nkv = true\nemits = ['told']\n\
        jobs = ['later']\ntriggers = ['contact.updated']\n\
        [[grants]]\nmodule = 'contacts'\nactions = ['read', 'delete']\nfields = ['email', 'name']\n";

    #[test]
    fn a_receipt_names_every_single_thing() {
        assert_eq!(
            manifest(WIDE).receipt(),
            [
                "run on contact.updated",
                "read contacts (email, name)",
                "delete contacts",
                "send requests to a.example",
                "read the secret token",
                "tell events called told",
                "schedule jobs called later",
                "keep values of its own",
            ]
        );
    }

    #[test]
    fn what_asks_no_more_is_not_beyond() {
        let wide = manifest(WIDE);
        assert_eq!(wide.beyond(&wide), [""; 0]);
        let narrow = manifest(
            "[[triggers]]\non = 'contact.updated'\nfields = ['email']\nfilter = { name = 'x' }\n\
             [[grants]]\nmodule = 'contacts'\nactions = ['read']\nfields = ['email']\n",
        );
        assert_eq!(narrow.beyond(&wide), [""; 0]);
        assert_eq!(wide.beyond(&narrow).len(), 8, "{:?}", wide.beyond(&narrow));
        let other = manifest("[[triggers]]\non = 'contact.updated'\nfilter = { name = 'y' }\n");
        assert_eq!(
            other.beyond(&narrow).len(),
            1,
            "another filter is another trigger"
        );
        let all = manifest(
            "triggers = ['contact.updated']\n[[grants]]\nmodule = 'contacts'\nactions = ['read']\n",
        );
        assert_eq!(
            all.beyond(&wide),
            ["read contacts"],
            "all fields are more than two"
        );
    }
    #[test]
    fn a_change_judged_more_widely_is_beyond() {
        let before = |rest: &str| {
            let changes = "before = ['contact.create', 'contact.update']";
            manifest(&format!("[[triggers]]\n{changes}\n{rest}"))
        };
        let (all, some) = (before(""), before("fields = ['name', 'email']\n"));
        let few = before("fields = ['name']\nfilter = { name = 'x' }\n");
        let other = before("fields = ['name']\nfilter = { name = 'y' }\n");
        for (narrow, wide) in [(&some, &all), (&few, &all), (&few, &some)] {
            assert_eq!(narrow.beyond(wide), [""; 0]);
            assert_eq!(wide.beyond(narrow), wide.receipt());
        }
        let line = "run on before contact.create, contact.update of name where {\"name\":\"y\"}";
        assert_eq!(other.beyond(&few), [line]);
    }
}

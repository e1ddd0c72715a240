//! `crm operator`

use clap::Subcommand;
use crm_core::platform::{NewOperator, PlatformPermission};

use crate::Outcome;
use crate::settings::{Settings, request};
use crate::stdin;
use crate::stdout::say;

/// Make, list and take away operators: users who look after tenants, and belong to none by that
#[derive(Subcommand)]
pub(crate) enum Operator {
    /// Make somebody an operator
    ///
    /// The password is the first line of standard input; a user who exists already keeps theirs. A
    /// second factor is set up at the first login.
    #[command(after_long_help = "\
Examples:
  printf '%s\\n' \"$PASSWORD\" | crm operator create --email ops@crm.example
  crm operator create --email support@crm.example --permission tenants.read --permission tenants.impersonate")]
    Create {
        /// The e-mail address to log in with
        #[arg(long)]
        email: String,
        /// The operator's name; when left out, the part of the address before the @
        #[arg(long)]
        name: Option<String>,
        /// What they may do, such as tenants.create; all of it when none is named; repeatable
        #[arg(long = "permission")]
        permissions: Vec<String>,
    },
    /// List the operators, with what they may do
    List,
    /// Take an operator's rights and sessions on the platform away; the account stays
    Revoke {
        /// The e-mail address
        email: String,
    },
    /// Say whether operators log in with a second factor; they do unless this says otherwise
    SecondFactor {
        /// required or optional
        #[arg(value_parser = ["required", "optional"])]
        state: String,
    },
}

impl Operator {
    pub(crate) async fn run(self, settings: Settings) -> Outcome {
        let password = match self {
            Self::Create { .. } => Some(stdin::password()?),
            _ => None,
        };
        let crm = settings.open().await?;
        let operators = crm.operators();
        match self {
            Self::Create {
                email,
                name,
                permissions,
            } => {
                let all = || PlatformPermission::ALL.iter().map(ToString::to_string);
                let input = NewOperator {
                    name: name
                        .unwrap_or_else(|| email.split('@').next().unwrap_or(&email).to_owned()),
                    email,
                    permissions: match permissions.is_empty() {
                        true => all().collect(),
                        false => permissions,
                    },
                    password,
                };
                let made = operators.create(input, request(&crm)).await?;
                say!("{} {}", made.user_id, made.email);
            }
            Self::List => {
                for operator in operators.list().await? {
                    let permissions = operator.permissions.iter().map(|one| one.as_str());
                    let permissions: Vec<_> = permissions.collect();
                    let line = permissions.join(" ");
                    say!("{} {} {line}", operator.user_id, operator.email);
                }
            }
            Self::Revoke { email } => {
                let all = operators.list().await?;
                let mut all = all.into_iter();
                let found = all.find(|one| one.email.eq_ignore_ascii_case(email.trim()));
                let found = found.ok_or_else(|| {
                    format!("there is no operator {email}; see: crm operator list")
                })?;
                operators.revoke(found.user_id, request(&crm)).await?;
                say!("{email} is no operator any more");
            }
            Self::SecondFactor { state } => {
                let required = state == "required";
                operators
                    .require_second_factor(required, request(&crm))
                    .await?;
                say!("a second factor is {state} for operators");
            }
        }
        crm.close().await;
        Ok(())
    }
}

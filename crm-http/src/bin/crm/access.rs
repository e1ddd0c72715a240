//! `crm access`

use clap::Subcommand;
use crm_core::access::{ExplainedRule, Question};
use crm_core::id::RecordId;
use crm_core::policy::RowScope;
use crm_core::{Error, Read};

use crate::Outcome;
use crate::member::by_email;
use crate::settings::{Settings, request, tenant};
use crate::stdout::say;

/// Say what roles can be given, and why somebody may do something, or may not
#[derive(Subcommand)]
pub(crate) enum Access {
    /// Explain what a subject may do, by which rules, and how it comes by those
    #[command(after_long_help = "\
Example:
  crm access explain --tenant acme --subject ada@acme.example --action contacts.update")]
    Explain {
        /// The tenant's name
        #[arg(long)]
        tenant: String,
        /// A member's e-mail, user:ID, api_key:ID or role:ID
        #[arg(long)]
        subject: String,
        /// The action as a permission names it, such as contacts.update
        #[arg(long)]
        action: String,
        /// The record it would be done to
        #[arg(long)]
        record: Option<RecordId>,
    },

    /// List everything that a role of a tenant can be given
    Permissions {
        /// The tenant's name
        #[arg(long)]
        tenant: String,
    },
}

impl Access {
    pub(crate) async fn run(self, settings: Settings) -> Outcome {
        let (name, mut question) = match self {
            Self::Explain {
                tenant,
                subject,
                action,
                record,
            } => {
                let question = Question {
                    subject,
                    action,
                    record,
                };
                (tenant, question)
            }
            Self::Permissions { tenant } => return permissions(settings, tenant).await,
        };
        let crm = settings.open().await?;
        let scope = crm
            .operator_in(tenant(&crm, &name).await?, request(&crm))
            .await?;
        let permit = scope.permit::<Read>("access")?;
        if question.subject.contains('@') {
            let user = by_email(&crm, &scope, &question.subject).await?;
            question.subject = format!("user:{user}");
        }
        let answer = crm.access().explain(&permit, &question).await;
        let answer = answer.map_err(|error| unknown(error, &question))?;
        let all = |rule: &ExplainedRule| {
            rule.permission.rows() == RowScope::All && rule.permission.condition().is_none()
        };
        match answer.allowed {
            true if question.record.is_none() && !answer.rules.iter().any(all) => {
                say!("allowed, on the rows that these rules reach");
            }
            true => say!("allowed"),
            false => say!("denied ({})", answer.reason.as_str()),
        }
        for rule in answer.rules {
            let mut line = format!("  {}", rule.permission);
            if let Some(condition) = rule.permission.condition() {
                line.push_str(&format!(" where {condition}"));
            }
            line.push_str(&rule.permission.fields().to_string());
            line.push_str(&format!(", role {}", rule.role));
            for step in rule.through {
                line.push_str(&format!(" < {} {}", step.kind.as_str(), step.name));
                if let Some(until) = step.until {
                    line.push_str(&format!(" until {}", crm_core::value::instant(&until)));
                }
            }
            match rule.covers {
                Some(true) => line.push_str(", covers the record"),
                Some(false) => line.push_str(", does not cover the record"),
                None => {}
            }
            if let Some(void) = rule.void {
                line.push_str(&format!(", void: {void}"));
            }
            say!("{line}");
        }
        crm.close().await;
        Ok(())
    }
}

/// What there is not, of a subject and a record that were asked about.
fn unknown(error: Error, question: &Question) -> Box<dyn std::error::Error + Send + Sync> {
    match (error, question.record) {
        (Error::NotFound, None) => format!("the tenant has no {}", question.subject).into(),
        (Error::NotFound, Some(record)) => {
            let subject = &question.subject;
            format!("the tenant has no {subject}, or no record {record}").into()
        }
        (error, _) => error.into(),
    }
}

async fn permissions(settings: Settings, name: String) -> Outcome {
    let crm = settings.open().await?;
    let tenant = tenant(&crm, &name).await?;
    let scope = crm.operator_in(tenant, request(&crm)).await?;
    for one in crm.access().permissions(&scope.permit::<Read>("roles")?)? {
        let scopes: Vec<_> = one.scopes.iter().map(|scope| scope.as_str()).collect();
        say!(
            "{} {} ({})",
            one.object,
            one.actions.join(","),
            scopes.join(",")
        );
    }
    crm.close().await;
    Ok(())
}

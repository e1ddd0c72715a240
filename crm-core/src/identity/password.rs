//! Passwords: argon2id (RFC 9106) hashes, never more than two at work at once.
//!
//! Owns the rule for new passwords, hashing and verification. Refuses to cut a password, to hash on
//! an async thread, and to answer faster for a user who does not exist.

use std::sync::Arc;
use std::time::Duration;

use argon2::password_hash::phc::PasswordHash;
use argon2::{ARGON2ID_IDENT, Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::clock::Clock;
use crate::error::{Error, Result};

/// Shortest new password, in characters (NIST SP 800-63B §5.1.1.2).
pub const MIN_PASSWORD_CHARS: usize = 8;
/// Longest password, in characters; a longer one is refused, never cut.
pub const MAX_PASSWORD_CHARS: usize = 128;

/// Hashes at work at once: each holds 19 MiB and one core.
const HASHES_AT_ONCE: usize = 2;
/// How long a caller queues for its turn before it is told to come back.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// The cost of one hash.
///
/// The default is the first choice of the OWASP password storage guide: 19 MiB, two passes, one
/// lane. Hashes made at another cost keep verifying and are replaced at the next login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PasswordCost {
    /// Memory in KiB, at least 8.
    pub memory_kib: u32,
    /// Passes over the memory, at least 1.
    pub passes: u32,
    /// Lanes, at least 1.
    pub lanes: u32,
}

impl Default for PasswordCost {
    fn default() -> Self {
        Self {
            memory_kib: 19 * 1024,
            passes: 2,
            lanes: 1,
        }
    }
}

impl PasswordCost {
    /// The lowest cost argon2 knows, for tests only: it protects nothing.
    #[cfg(any(test, feature = "testing"))]
    pub const LOWEST: Self = Self {
        memory_kib: 8,
        passes: 1,
        lanes: 1,
    };
}

/// The outcome of comparing a password with what is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Not the password, or there is none to compare with.
    Wrong,
    /// The password.
    Right,
    /// The password, and its hash was made at another cost: store a new one.
    RightAtOldCost,
}

/// Hashes and verifies passwords. Cloning shares the limit on concurrent hashes.
#[derive(Clone)]
pub(crate) struct Passwords {
    params: Params,
    clock: Clock,
    turns: Arc<Semaphore>,
    longest_wait: Duration,
}

impl Passwords {
    /// A hasher of this cost.
    ///
    /// # Errors
    /// [`Error::Configuration`] when argon2 has no such cost.
    pub(crate) fn new(cost: PasswordCost, clock: Clock) -> Result<Self> {
        let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, None).map_err(|_| {
            Error::Configuration(
                "the password cost is out of range: argon2 needs at least 8 KiB per lane, \
                 one pass and one lane"
                    .into(),
            )
        })?;
        let turns = Arc::new(Semaphore::new(HASHES_AT_ONCE));
        Ok(Self {
            params,
            clock,
            turns,
            longest_wait: LONGEST_WAIT,
        })
    }

    /// Hashes a new password, as a PHC string.
    ///
    /// # Errors
    /// [`Error::Invalid`] on `password` when it breaks the length rule, [`Error::Unavailable`] when
    /// too many others wait.
    pub(crate) async fn hash(&self, password: SecretString) -> Result<String> {
        check_new_password(&password)?;
        let salt = self.clock.random::<16>();
        let argon2 = Argon2::from(&self.params);
        let hash = self
            .in_turn(move || {
                argon2.hash_password_with_salt(password.expose_secret().as_bytes(), &salt)
            })
            .await?;
        hash.map(|hash| hash.to_string())
            .map_err(|error| Error::internal(error.to_string()))
    }

    /// Compares a password with the stored hash.
    ///
    /// Without a hash (no such user, or one without a password) the same work is done, and the
    /// verdict is [`Verdict::Wrong`].
    ///
    /// # Errors
    /// [`Error::Unavailable`] when too many others wait, [`Error::Inconsistent`] when the stored
    /// text is no argon2id hash.
    pub(crate) async fn verify(
        &self,
        password: SecretString,
        stored: Option<String>,
    ) -> Result<Verdict> {
        let argon2 = Argon2::from(&self.params);
        let params = self.params.clone();
        self.in_turn(move || {
            let password = password.expose_secret().as_bytes();
            let Some(stored) = stored else {
                let made = argon2.hash_password_with_salt(password, &[0; 16]);
                return made
                    .map(|_| Verdict::Wrong)
                    .map_err(|error| Error::internal(error.to_string()));
            };
            let hash = PasswordHash::new(&stored).map_err(|_| not_a_hash())?;
            match argon2.verify_password(password, &hash) {
                Ok(()) if is_current(&hash, &params) => Ok(Verdict::Right),
                Ok(()) => Ok(Verdict::RightAtOldCost),
                Err(argon2::password_hash::Error::PasswordInvalid) => Ok(Verdict::Wrong),
                Err(_) => Err(not_a_hash()),
            }
        })
        .await?
    }

    /// Runs `work` on a blocking thread when its turn has come.
    ///
    /// The turn belongs to the work, not to the caller: a caller that goes away does not let a
    /// third hash start.
    async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let turn = timeout(self.longest_wait, self.turns.clone().acquire_owned())
            .await
            .map_err(|_| Error::unavailable("too many sign-ins at this moment; try again"))?
            .map_err(Error::internal)?;
        tokio::task::spawn_blocking(move || {
            let done = work();
            drop(turn);
            done
        })
        .await
        .map_err(Error::internal)
    }
}

/// Checks a password someone wants to use from now on.
///
/// # Errors
/// [`Error::Invalid`] on `password`, `too_short` or `too_long`.
pub fn check_new_password(password: &SecretString) -> Result<()> {
    match password.expose_secret().chars().count() {
        0..MIN_PASSWORD_CHARS => Err(Error::invalid(
            "password",
            "too_short",
            format!("Use at least {MIN_PASSWORD_CHARS} characters."),
        )),
        MIN_PASSWORD_CHARS..=MAX_PASSWORD_CHARS => Ok(()),
        _ => Err(Error::invalid(
            "password",
            "too_long",
            format!("Use at most {MAX_PASSWORD_CHARS} characters."),
        )),
    }
}

/// Whether a hash was made as new ones are made.
fn is_current(hash: &PasswordHash, params: &Params) -> bool {
    let made_with = Params::try_from(hash);
    hash.algorithm == ARGON2ID_IDENT
        && hash.version == Some(Version::V0x13.into())
        && made_with.is_ok_and(|made| {
            (made.m_cost(), made.t_cost(), made.p_cost())
                == (params.m_cost(), params.t_cost(), params.p_cost())
        })
}

fn not_a_hash() -> Error {
    Error::Inconsistent {
        table: "users".into(),
        column: "password_hash".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passwords(cost: PasswordCost) -> Passwords {
        Passwords::new(cost, Clock::system()).unwrap()
    }

    #[tokio::test]
    async fn a_password_verifies_against_its_hash_and_no_other_does() {
        let passwords = passwords(PasswordCost::LOWEST);
        let hash = passwords.hash("correct horse".into()).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=8,t=1,p=1$"), "{hash}");
        let verdict = passwords
            .verify("correct horse".into(), Some(hash.clone()))
            .await
            .unwrap();
        assert_eq!(verdict, Verdict::Right);
        let verdict = passwords
            .verify("correct house".into(), Some(hash))
            .await
            .unwrap();
        assert_eq!(verdict, Verdict::Wrong);
    }

    #[tokio::test]
    async fn xc_09_the_default_cost_is_19_mib_two_passes_one_lane() {
        let hash = passwords(PasswordCost::default())
            .hash("12345678".into())
            .await
            .unwrap();
        assert!(
            hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{hash}"
        );
    }

    #[tokio::test]
    async fn a_hash_of_another_cost_verifies_and_asks_for_replacement() {
        let old = passwords(PasswordCost::LOWEST)
            .hash("correct horse".into())
            .await
            .unwrap();
        let newer = passwords(PasswordCost {
            passes: 2,
            ..PasswordCost::LOWEST
        });
        let verdict = newer
            .verify("correct horse".into(), Some(old))
            .await
            .unwrap();
        assert_eq!(verdict, Verdict::RightAtOldCost);
    }

    #[tokio::test]
    async fn without_a_stored_hash_every_password_is_wrong() {
        let passwords = passwords(PasswordCost::LOWEST);
        let verdict = passwords
            .verify("correct horse".into(), None)
            .await
            .unwrap();
        assert_eq!(verdict, Verdict::Wrong);
    }

    #[tokio::test]
    async fn a_stored_text_that_is_no_hash_is_reported_as_inconsistent() {
        let passwords = passwords(PasswordCost::LOWEST);
        for stored in ["", "secret", "$argon2id$v=19$m=8,t=1,p=1$AAAA"] {
            let error = passwords
                .verify("correct horse".into(), Some(stored.into()))
                .await;
            assert_eq!(error.unwrap_err().code(), "inconsistent", "{stored}");
        }
    }

    #[tokio::test]
    async fn xc_09_128_characters_are_accepted_whole_and_129_refused() {
        let passwords = passwords(PasswordCost::LOWEST);
        let longest = "ü".repeat(MAX_PASSWORD_CHARS);
        let hash = passwords.hash(longest.clone().into()).await.unwrap();
        let almost: String = longest.chars().skip(1).collect();
        let verdict = passwords
            .verify((almost + "u").into(), Some(hash))
            .await
            .unwrap();
        assert_eq!(verdict, Verdict::Wrong, "the last character counts");

        for (password, code) in [
            ("1234567".to_owned(), "too_short"),
            (longest + "ü", "too_long"),
        ] {
            let Err(Error::Invalid(fields)) = passwords.hash(password.into()).await else {
                panic!("a password of a refused length was hashed");
            };
            assert_eq!(
                (fields[0].pointer.as_str(), fields[0].code),
                ("/password", code)
            );
        }
    }

    #[tokio::test]
    async fn a_caller_that_waits_too_long_for_its_turn_is_told_to_come_back() {
        let mut passwords = passwords(PasswordCost::LOWEST);
        passwords.longest_wait = Duration::from_millis(1);
        let turns = passwords.turns.clone();
        let taken = turns.acquire_many(HASHES_AT_ONCE as u32).await.unwrap();
        let refused = passwords.hash("correct horse".into()).await.unwrap_err();
        assert_eq!(refused.code(), "unavailable");
        drop(taken);
        assert!(passwords.hash("correct horse".into()).await.is_ok());
    }

    #[test]
    fn an_impossible_cost_is_refused_at_start() {
        let cost = PasswordCost {
            memory_kib: 1,
            ..PasswordCost::default()
        };
        let refused = Passwords::new(cost, Clock::system());
        assert!(matches!(refused, Err(Error::Configuration(_))));
    }
}

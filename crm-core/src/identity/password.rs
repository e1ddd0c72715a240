//! Passwords: argon2id (RFC 9106) hashes, never more than two at work at once.
//!
//! Owns hashing and verification. Refuses to cut a password, to hash on an async thread, and to
//! answer faster for a user who does not exist. Passwords are compared in Unicode's form NFC (RFC
//! 8265 §4.2), so that one typed on another system is the same one.
//!
//! A bcrypt hash that an operator imported verifies too, against the bytes as given, and is
//! replaced at that login, unless the password is longer than bcrypt looks. Until then its owner's
//! logins take as long as its cost says; of those that fail, nobody sees how long (see `session`).

use std::sync::Arc;
use std::time::Duration;

use argon2::password_hash::phc::PasswordHash;
use argon2::{ARGON2ID_IDENT, Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use unicode_normalization::UnicodeNormalization as _;

use super::password_policy::PasswordPolicy;

use crate::clock::Clock;
use crate::error::{Error, Result};

/// Longest password, in characters; a longer one is refused, never cut.
pub const MAX_PASSWORD_CHARS: usize = 128;

/// Most bytes that are looked at: more is no password, and is refused before any work.
const MOST_BYTES: usize = 4096;
/// Imported bcrypt hashes that may be verified: the highest takes some seconds.
const BCRYPT_COSTS: std::ops::RangeInclusive<u32> = 4..=15;

/// How much of a password bcrypt looks at.
const BCRYPT_BYTES: usize = 72;

/// Most memory of an argon2id hash that is imported.
const MOST_MEMORY_KIB: u32 = 128 * 1024;
/// Most passes of one.
const MOST_PASSES: u32 = 16;

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
    policy: Arc<PasswordPolicy>,
    /// How many hashes were begun.
    #[cfg(test)]
    hashes: Arc<std::sync::atomic::AtomicU64>,
}

impl Passwords {
    /// A hasher of this cost, for passwords of this policy.
    ///
    /// # Errors
    /// [`Error::Configuration`] when argon2 has no such cost, or the policy is none.
    pub(crate) fn new(cost: PasswordCost, policy: PasswordPolicy, clock: Clock) -> Result<Self> {
        policy.check_itself()?;
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
            policy: Arc::new(policy),
            #[cfg(test)]
            hashes: Arc::default(),
        })
    }

    /// How many hashes were begun so far.
    #[cfg(test)]
    pub(crate) fn hashes(&self) -> u64 {
        self.hashes.load(std::sync::atomic::Ordering::SeqCst)
    }

    /// Every turn: nobody hashes until it is dropped.
    #[cfg(test)]
    pub(crate) async fn busy(&self) -> Result<tokio::sync::OwnedSemaphorePermit> {
        let all = self.turns.clone().acquire_many_owned(HASHES_AT_ONCE as u32);
        all.await.map_err(Error::internal)
    }

    /// Judges a new password; see [`PasswordPolicy::check`].
    ///
    /// # Errors
    /// [`Error::Invalid`] on `field`.
    pub(crate) async fn check(
        &self,
        field: &'static str,
        password: &SecretString,
        context: Vec<String>,
    ) -> Result<u8> {
        self.check_beyond(field, password, context, &[]).await
    }

    /// As [`check`](Self::check), by the strictest of the installation's rules and these.
    ///
    /// # Errors
    /// [`Error::Invalid`] on `field`.
    pub(crate) async fn check_beyond(
        &self,
        field: &'static str,
        password: &SecretString,
        context: Vec<String>,
        others: &[PasswordPolicy],
    ) -> Result<u8> {
        let Some(password) = normal(password) else {
            return Err(too_long(field));
        };
        let policy = others
            .iter()
            .fold((*self.policy).clone(), PasswordPolicy::and);
        // Estimating the strength of a long one takes milliseconds.
        tokio::task::spawn_blocking(move || policy.check(field, password.expose_secret(), &context))
            .await
            .map_err(Error::internal)?
    }

    /// Hashes a password, as a PHC string.
    ///
    /// # Errors
    /// [`Error::Invalid`] on `password` when it is too long, [`Error::Unavailable`] when too many
    /// others wait.
    pub(crate) async fn hash(&self, password: SecretString) -> Result<String> {
        let password = normal(&password).ok_or_else(|| too_long("password"))?;
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
        // What cannot be a password costs as much as a wrong one.
        let (normalized, stored) = match normal(&password) {
            Some(normalized) => (normalized, stored),
            None => (SecretString::from(""), None),
        };
        self.in_turn(move || {
            if let Some(stored) = stored.as_deref().filter(|stored| is_bcrypt(stored)) {
                return verify_bcrypt(&password, stored);
            }
            let password = normalized.expose_secret().as_bytes();
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
        #[cfg(test)]
        self.hashes
            .fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        tokio::task::spawn_blocking(move || {
            let done = work();
            drop(turn);
            done
        })
        .await
        .map_err(Error::internal)
    }
}

/// The password in NFC; `None` when it is longer than any may be.
fn normal(password: &SecretString) -> Option<SecretString> {
    let text = password.expose_secret();
    if text.len() > MOST_BYTES {
        return None;
    }
    let normal: String = text.nfc().collect();
    (normal.chars().count() <= MAX_PASSWORD_CHARS).then(|| normal.into())
}

fn too_long(field: &str) -> Error {
    let message = format!("Use at most {MAX_PASSWORD_CHARS} characters.");
    Error::invalid(field, "too_long", message)
}

/// Whether a stored text is a bcrypt hash (`$2b$12$…`) that may be verified here.
pub(super) fn is_bcrypt(stored: &str) -> bool {
    let version = ["$2a$", "$2b$", "$2y$"]
        .iter()
        .any(|prefix| stored.starts_with(prefix));
    let parts: Option<bcrypt::HashParts> = stored.parse().ok();
    version && parts.is_some_and(|parts| BCRYPT_COSTS.contains(&parts.get_cost()))
}

/// Whether a stored text is a hash that may be verified here.
pub(super) fn is_stored_hash(stored: &str) -> bool {
    let argon2 = PasswordHash::new(stored).is_ok_and(|hash| {
        let params = Params::try_from(&hash);
        hash.algorithm == ARGON2ID_IDENT
            && params.is_ok_and(|params| {
                params.m_cost() <= MOST_MEMORY_KIB && params.t_cost() <= MOST_PASSES
            })
    });
    argon2 || is_bcrypt(stored)
}

fn verify_bcrypt(password: &SecretString, stored: &str) -> Result<Verdict> {
    match bcrypt::verify(password.expose_secret(), stored) {
        // What follows may be mistyped, or be missing: it must not become the password.
        Ok(true) if password.expose_secret().len() >= BCRYPT_BYTES => Ok(Verdict::Right),
        Ok(true) => Ok(Verdict::RightAtOldCost),
        Ok(false) => Ok(Verdict::Wrong),
        Err(_) => Err(not_a_hash()),
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
        Passwords::new(cost, PasswordPolicy::default(), Clock::system()).unwrap()
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

        let too_long = longest + "ü";
        for password in [too_long, "x".repeat(10_000_000)] {
            let verdict = passwords.verify(password.clone().into(), None).await;
            assert_eq!(verdict.unwrap(), Verdict::Wrong);
            let Err(Error::Invalid(fields)) = passwords.hash(password.into()).await else {
                panic!("a password of a refused length was hashed");
            };
            assert_eq!(
                (fields[0].pointer.as_str(), fields[0].code),
                ("/password", "too_long")
            );
        }
    }

    #[tokio::test]
    async fn asvs_6_2_9_composed_and_decomposed_letters_are_one_password() {
        let passwords = passwords(PasswordCost::LOWEST);
        let hash = passwords.hash("cafe\u{301} au lait".into()).await.unwrap();
        let verdict = passwords.verify("caf\u{e9} au lait".into(), Some(hash));
        assert_eq!(verdict.await.unwrap(), Verdict::Right);
    }

    #[tokio::test]
    async fn xc_09_an_imported_bcrypt_hash_verifies_and_asks_for_replacement() {
        let passwords = passwords(PasswordCost::LOWEST);
        // Of another implementation: a test vector of jBCrypt.
        let theirs = "$2a$06$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i";
        let verdict = passwords.verify("abc".into(), Some(theirs.into())).await;
        assert_eq!(verdict.unwrap(), Verdict::RightAtOldCost);
        let made = bcrypt::hash_with_salt("correct horse", 4, [7; 16]).unwrap();
        let made = made.format_for_version(bcrypt::Version::TwoY);
        let verdict = passwords.verify("correct horse".into(), Some(made.clone()));
        assert_eq!(verdict.await.unwrap(), Verdict::RightAtOldCost);
        let verdict = passwords.verify("correct house".into(), Some(made));
        assert_eq!(verdict.await.unwrap(), Verdict::Wrong);
        assert!(!is_bcrypt(
            "$2b$31$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i"
        ));
    }

    #[tokio::test]
    async fn xc_09_two_hashes_are_at_work_at_once() {
        let passwords = passwords(PasswordCost::LOWEST);
        let turns = passwords.turns.clone();
        assert_eq!(turns.available_permits(), 2);
        let left = passwords.in_turn(move || turns.available_permits()).await;
        assert_eq!(left.unwrap(), 1, "the work has one of them");
        let all = passwords.turns.try_acquire_many(2);
        assert!(all.is_ok(), "and gave it back");
    }

    #[tokio::test]
    async fn a_caller_that_waits_too_long_for_its_turn_is_told_to_come_back() {
        let mut passwords = passwords(PasswordCost::LOWEST);
        passwords.longest_wait = Duration::from_millis(1);
        let turns = passwords.turns.clone();
        let taken = turns.try_acquire_many(2).unwrap();
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
        let refused = Passwords::new(cost, PasswordPolicy::default(), Clock::system());
        assert!(matches!(refused, Err(Error::Configuration(_))));
    }
}

//! Who is calling: passwords, tokens, API keys and the accounts behind them.

mod email;
mod key;
mod opaque;
mod password;
mod refresh;
mod setup;
mod throttle;
mod token;

pub use email::normalize_email;
pub use key::{MIN_SECRET_BYTES, SigningKeys};
pub use password::{
    MAX_PASSWORD_CHARS, MIN_PASSWORD_CHARS, PasswordCost, Passwords, Verdict, check_new_password,
};
pub use refresh::REFRESH_LIFETIME;
pub use token::{ACCESS_TOKEN_LIFETIME, AccessClaims, AccessTokens, bearer};

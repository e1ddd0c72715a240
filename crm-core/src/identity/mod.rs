//! Who is calling: passwords, tokens, API keys and the accounts behind them.

mod key;
mod password;
mod token;

pub use key::{MIN_SECRET_BYTES, SigningKeys};
pub use password::{
    MAX_PASSWORD_CHARS, MIN_PASSWORD_CHARS, PasswordCost, Passwords, Verdict, check_new_password,
};
pub use token::{ACCESS_TOKEN_LIFETIME, AccessClaims, AccessTokens, bearer};

//! What changes nothing outside the run: its log, clock, random numbers and secrets.

use crm_core::hook::{LogLevel, LogLine};
use crm_core::value::instant;
use rand_chacha::rand_core::RngCore;
use secrecy::ExposeSecret;

use super::{Answer, answer};
use crate::bindings::{clock, log, random, secrets};
use crate::limits::Stop;
use crate::run::Run;

impl log::Host for Run {
    fn log(&mut self, level: log::Level, message: String) -> wasmtime::Result<()> {
        self.count_call()?;
        if self.logs.len() >= self.limits.log_lines {
            return Err(Stop::LogLines(self.limits.log_lines).into());
        }
        // What the guest wrote counts, for being looked through, and so does what names in place of
        // secrets make longer, for being kept.
        let written = message.len();
        self.count_log(written)?;
        let message = self.redacted(message);
        self.count_log(message.len().saturating_sub(written))?;
        let level = match level {
            log::Level::Debug => LogLevel::Debug,
            log::Level::Info => LogLevel::Info,
            log::Level::Warn => LogLevel::Warn,
            log::Level::Error => LogLevel::Error,
        };
        self.logs.push(LogLine { level, message });
        Ok(())
    }
}

impl clock::Host for Run {
    fn now(&mut self) -> wasmtime::Result<String> {
        self.count_call()?;
        Ok(instant(&self.now))
    }

    fn now_millis(&mut self) -> wasmtime::Result<i64> {
        self.count_call()?;
        Ok(self.now.timestamp_millis())
    }
}

/// Each call takes whole words of 32 bits of the key stream; a number is two of them,
/// little-endian.
impl random::Host for Run {
    fn bytes(&mut self, count: u32) -> wasmtime::Result<Vec<u8>> {
        self.count_call()?;
        let count = count as usize;
        if count > self.limits.call_bytes {
            return Err(Stop::CallBytes(self.limits.call_bytes).into());
        }
        let mut bytes = vec![0; count];
        self.random.fill_bytes(&mut bytes);
        Ok(bytes)
    }

    fn number(&mut self) -> wasmtime::Result<u64> {
        self.count_call()?;
        let mut bytes = [0; 8];
        self.random.fill_bytes(&mut bytes);
        Ok(u64::from_le_bytes(bytes))
    }
}

impl secrets::Host for Run {
    async fn get(&mut self, name: String) -> Answer<String> {
        self.count_call()?;
        Ok(match self.door.secret(&name).await {
            Ok(secret) => {
                let text = secret.expose_secret().to_owned();
                self.mask.learn(&name, &secret);
                Ok(text)
            }
            Err(error) => Err(answer(error)),
        })
    }
}

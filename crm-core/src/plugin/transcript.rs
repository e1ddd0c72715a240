//! What a guest asked of the host and was answered: written down during a run, and read back in its
//! replay. Secrets stand in neither, in none of the forms that a [`Mask`] knows: whatever holds one
//! holds its name instead, also where the plugin had it from its own store.

use std::collections::VecDeque;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use tokio_util::sync::CancellationToken;

use super::exchange::{Asked, Exchange, KeptAnswer, Storable, answered, given};
use super::kept::{Base64, KeptEnd, keep};
use super::ledger::storable;
use crate::error::{Error, Result};
use crate::hook::{Door, DoorPage, DoorQuery, DoorRequest, DoorResponse, Fields, Mask, Report};
use crate::id::RecordId;

/// Most bytes of a run's transcript, as JSON.
const MOST: usize = 256 * 1024;

/// What a run asked and was answered.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Transcript {
    pub(super) exchanges: Vec<Exchange>,
    /// Whether more was exchanged than is kept; such a run cannot be replayed.
    pub(super) truncated: bool,
    /// How it ended; absent for runs of an earlier release.
    #[serde(default)]
    pub(super) end: Option<KeptEnd>,
    /// The fuel that it had; absent for runs of an earlier release.
    #[serde(default)]
    pub(super) fuel: Option<u64>,
}

impl Transcript {
    /// Whether the run was stopped while it waited for an answer.
    pub(super) fn ends_unanswered(&self) -> bool {
        let last = self.exchanges.last();
        last.is_some_and(|last| last.answer == KeptAnswer::Unanswered)
    }
}

/// The exchange without secrets.
fn masked(mask: &Mask, exchange: &mut Exchange) -> Result<()> {
    if mask.is_empty() {
        return Ok(());
    }
    match &mut exchange.call {
        Asked::Fetch { body, .. } => mask.hide_bytes(&mut body.0),
        Asked::KvSet { value, .. } => mask.hide_bytes(&mut value.0),
        _ => {}
    }
    match &mut exchange.answer {
        KeptAnswer::Response { body, .. } => mask.hide_bytes(&mut body.0),
        KeptAnswer::Value(Some(value)) => mask.hide_bytes(&mut value.0),
        _ => {}
    }
    let mut json = serde_json::to_value(&*exchange).map_err(Error::internal)?;
    mask.hide_texts(&mut json);
    *exchange = serde_json::from_value(json).map_err(Error::internal)?;
    Ok(())
}

/// The report without secrets, also what the plugin answers, and with its log as it is stored.
pub(super) fn mask_report(mask: &Mask, report: &mut Report) {
    for line in &mut report.logs {
        mask.hide(&mut line.message);
        line.message = storable(&line.message);
    }
    if let Some(error) = &mut report.error {
        mask.hide(error);
    }
    if let Some(output) = &mut report.output {
        mask.hide_output(output);
    }
}

/// A door that writes down what goes through another one.
pub(super) struct Recorder {
    door: Arc<dyn Door>,
    tape: Mutex<Tape>,
}

#[derive(Default)]
struct Tape {
    transcript: Transcript,
    bytes: usize,
    mask: Mask,
    refused: bool,
}

impl Tape {
    /// The exchange without secrets, if there is room for it; what is too large is not looked
    /// through.
    fn kept(&mut self, mut exchange: Exchange) -> Option<Exchange> {
        let room = MOST.checked_sub(self.bytes)?;
        if size(&exchange)? > room {
            return None;
        }
        masked(&self.mask, &mut exchange).ok()?;
        let size = size(&exchange)?;
        self.bytes += size;
        (size <= room).then_some(exchange)
    }
}

/// The bytes of an exchange as they are stored.
fn size(exchange: &Exchange) -> Option<usize> {
    serde_json::to_vec(exchange).ok().map(|text| text.len())
}

impl Recorder {
    /// `mask` hides the secrets that the plugin was entrusted with.
    pub(super) fn new(door: Arc<dyn Door>, mask: Mask) -> Self {
        let tape = Tape {
            mask,
            ..Tape::default()
        };
        Self {
            door,
            tape: Mutex::new(tape),
        }
    }

    /// Whether a call was refused for want of a right, or of a record that is to be seen.
    pub(super) fn was_refused(&self) -> bool {
        self.tape.lock().refused
    }

    /// The transcript; what the report says holds no secret either.
    pub(super) fn finish(&self, report: &mut Report) -> Transcript {
        let mut tape = std::mem::take(&mut *self.tape.lock());
        mask_report(&tape.mask, report);
        tape.transcript.end = Some(KeptEnd::of(report, &tape.mask));
        tape.transcript
    }

    /// Writes an exchange down, or that there was one that is not kept: what was done and answered
    /// stays so.
    fn write(&self, exchange: Exchange) {
        let mut tape = self.tape.lock();
        let kept = (!tape.transcript.truncated).then(|| tape.kept(exchange));
        match kept.flatten() {
            Some(exchange) => tape.transcript.exchanges.push(exchange),
            None => tape.transcript.truncated = true,
        }
    }

    fn asked(&self, call: Asked) -> Pending<'_> {
        Pending {
            recorder: self,
            call: Some(call),
        }
    }

    fn taped<'a, T: Storable + Send + 'a>(
        &'a self,
        call: Asked,
        answer: BoxFuture<'a, Result<T>>,
    ) -> BoxFuture<'a, Result<T>> {
        async move {
            let asked = self.asked(call);
            let answer = answer.await;
            if matches!(answer, Err(Error::Forbidden { .. } | Error::NotFound)) {
                self.tape.lock().refused = true;
            }
            asked.answered(answered(&answer));
            answer
        }
        .boxed()
    }
}

/// A call that waits for its answer: written down without one where the run is stopped meanwhile.
struct Pending<'r> {
    recorder: &'r Recorder,
    call: Option<Asked>,
}

impl Pending<'_> {
    fn answered(mut self, answer: KeptAnswer) {
        self.end(answer);
    }

    fn end(&mut self, answer: KeptAnswer) {
        if let Some(call) = self.call.take() {
            self.recorder.write(Exchange { call, answer });
        }
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.end(KeptAnswer::Unanswered);
    }
}

/// Where a replay went another way than its run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Divergence {
    /// The number of the call, from 0.
    pub at: usize,
    /// What the run asked; absent where it asked nothing more, and for whom the run's story is
    /// withheld.
    pub recorded: Option<Json>,
    /// What the replay asked; absent where it asked nothing more, and for whom the run's story is
    /// withheld.
    pub replayed: Option<Json>,
}

impl Divergence {
    /// Whether the replay did all that its run did, and asked more.
    pub(super) fn is_beyond(&self) -> bool {
        self.recorded.is_none()
    }

    /// The place alone.
    pub(super) fn untold(self) -> Self {
        Self {
            at: self.at,
            recorded: None,
            replayed: None,
        }
    }
}

/// A door that answers from a transcript, and opens nothing.
pub(super) struct Replayer {
    /// Secrets are in no transcript: they are asked for again.
    secrets: Arc<dyn Door>,
    state: Mutex<Playback>,
    cancel: CancellationToken,
}

struct Playback {
    left: VecDeque<Exchange>,
    at: usize,
    mask: Mask,
    divergence: Option<Divergence>,
    /// Whether it came to the call in which its run was stopped.
    stopped: bool,
}

impl Playback {
    /// Where it first went another way, without secrets. One that was interrupted did not come to ask
    /// the rest.
    fn divergence(&mut self, interrupted: bool) -> Option<Divergence> {
        let at = self.at;
        let rest = self.left.pop_front().filter(|_| !interrupted);
        let unasked = rest.map(|exchange| Divergence {
            at,
            recorded: serde_json::to_value(exchange.call).ok(),
            replayed: None,
        });
        let mut divergence = self.divergence.take().or(unasked)?;
        let shown = [&mut divergence.recorded, &mut divergence.replayed];
        for json in shown.into_iter().flatten() {
            self.mask.hide_texts(json);
        }
        Some(divergence)
    }
}

impl Replayer {
    /// `cancel` is what stops the replay where it goes another way.
    pub(super) fn new(
        transcript: Transcript,
        (secrets, mask): (Arc<dyn Door>, Mask),
        cancel: CancellationToken,
    ) -> Self {
        Self {
            secrets,
            state: Mutex::new(Playback {
                left: transcript.exchanges.into(),
                at: 0,
                mask,
                divergence: None,
                stopped: false,
            }),
            cancel,
        }
    }

    /// Whether the replay came to the call in which its run was stopped, and asked it.
    pub(super) fn was_stopped(&self) -> bool {
        self.state.lock().stopped
    }

    /// Where the replay first went another way, if it did, and how it ended; what is reported holds
    /// no secret.
    pub(super) fn finish(&self, report: &mut Report) -> (Option<Divergence>, KeptEnd) {
        let mut state = self.state.lock();
        mask_report(&state.mask, report);
        let end = KeptEnd::of(report, &state.mask);
        (state.divergence(report.outcome.is_interrupted()), end)
    }

    /// The recorded answer to this call. Where its run was stopped before it was answered, the
    /// replay is stopped, too.
    async fn play(&self, call: Asked) -> Result<KeptAnswer> {
        match self.recorded(call)? {
            KeptAnswer::Unanswered => {
                self.state.lock().stopped = true;
                self.cancel.cancel();
                pending().await
            }
            answer => Ok(answer),
        }
    }

    fn recorded(&self, call: Asked) -> Result<KeptAnswer> {
        let mut state = self.state.lock();
        let recorded = state.left.pop_front();
        let mut asked = Exchange {
            call,
            answer: KeptAnswer::Nothing,
        };
        // What is larger than any transcript is not in this one.
        if size(&asked).is_some_and(|size| size <= MOST) {
            masked(&state.mask, &mut asked)?;
        } else {
            asked.call = Asked::Emit {
                name: "more than is kept".to_owned(),
                data: String::new(),
            };
        }
        match recorded {
            Some(exchange) if exchange.call == asked.call => {
                state.at += 1;
                Ok(exchange.answer)
            }
            recorded => {
                let json = |call: &Asked| serde_json::to_value(call).ok();
                let divergence = Divergence {
                    at: state.at,
                    recorded: recorded.as_ref().and_then(|exchange| json(&exchange.call)),
                    replayed: json(&asked.call),
                };
                state.left.clear();
                state.divergence.get_or_insert(divergence);
                self.cancel.cancel();
                Err(Error::internal("the replay went another way than its run"))
            }
        }
    }

    fn played<T: Storable + Send>(&self, call: Asked) -> BoxFuture<'_, Result<T>> {
        async move {
            let other = || Error::internal("a transcript answers with something else");
            given(self.play(call).await?).ok_or_else(other)?
        }
        .boxed()
    }
}

/// Both doors, which differ in where the answer comes from.
macro_rules! doors {
    ($($name:ident($($arg:ident: $kind:ty),*) -> $answer:ty = $call:expr;)*) => {
        impl Door for Recorder {
            $(fn $name<'a>(&'a self, $($arg: $kind),*) -> BoxFuture<'a, Result<$answer>> {
                let call = $call;
                self.taped(call, self.door.$name($($arg),*))
            })*

            fn fetch(&self, request: DoorRequest) -> BoxFuture<'_, Result<DoorResponse>> {
                let call = Asked::fetch(&request);
                self.taped(call, self.door.fetch(request))
            }

            fn secret<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<SecretString>> {
                async move {
                    let asked = self.asked(Asked::Secret { name: name.to_owned() });
                    let answer = self.door.secret(name).await;
                    let told = match &answer {
                        Ok(secret) => {
                            self.tape.lock().mask.learn(name, secret);
                            KeptAnswer::Secret
                        }
                        Err(error) => KeptAnswer::Error(error.into()),
                    };
                    asked.answered(told);
                    answer
                }
                .boxed()
            }
        }

        impl Door for Replayer {
            $(fn $name<'a>(&'a self, $($arg: $kind),*) -> BoxFuture<'a, Result<$answer>> {
                self.played($call)
            })*

            fn fetch(&self, request: DoorRequest) -> BoxFuture<'_, Result<DoorResponse>> {
                self.played(Asked::fetch(&request))
            }

            fn secret<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<SecretString>> {
                async move {
                    let call = Asked::Secret { name: name.to_owned() };
                    match self.play(call).await? {
                        KeptAnswer::Error(error) => Err(error.into()),
                        _ => {
                            let secret = self.secrets.secret(name).await?;
                            self.state.lock().mask.learn(name, &secret);
                            Ok(secret)
                        }
                    }
                }
                .boxed()
            }
        }
    };
}

doors! {
    get(module: &'a str, id: RecordId) -> Fields = Asked::Get {
        module: module.to_owned(),
        id,
    };
    list(module: &'a str, query: DoorQuery) -> DoorPage = Asked::List {
        module: module.to_owned(),
        query: query.clone(),
    };
    create(module: &'a str, values: Fields) -> Fields = Asked::Create {
        module: module.to_owned(),
        values: keep(values.clone()),
    };
    update(module: &'a str, id: RecordId, version: Option<i64>, values: Fields) -> Fields =
        Asked::Update {
            module: module.to_owned(),
            id,
            version,
            values: keep(values.clone()),
        };
    delete(module: &'a str, id: RecordId, version: Option<i64>) -> () = Asked::Delete {
        module: module.to_owned(),
        id,
        version,
    };
    aggregate(module: &'a str, query: &'a str) -> String = Asked::Aggregate {
        module: module.to_owned(),
        query: query.to_owned(),
    };
    emit(name: &'a str, data: &'a str) -> () = Asked::Emit {
        name: name.to_owned(),
        data: data.to_owned(),
    };
    kv_get(key: &'a str) -> Option<Vec<u8>> = Asked::KvGet {
        key: key.to_owned(),
    };
    kv_set(key: &'a str, value: Vec<u8>) -> () = Asked::KvSet {
        key: key.to_owned(),
        value: Base64(value.clone()),
    };
    kv_delete(key: &'a str) -> bool = Asked::KvDelete {
        key: key.to_owned(),
    };
    kv_keys(prefix: &'a str, after: Option<&'a str>) -> Vec<String> = Asked::KvKeys {
        prefix: prefix.to_owned(),
        after: after.map(str::to_owned),
    };
    schedule(name: &'a str, delay: Duration, payload: Option<String>) -> () = Asked::Schedule {
        name: name.to_owned(),
        delay_seconds: delay.as_secs(),
        payload: payload.clone(),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hook::Outcome;

    /// Answers nothing, ever.
    struct Silent;

    impl Door for Silent {
        fn kv_get<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>>> {
            pending().boxed()
        }
    }

    #[tokio::test]
    async fn a_run_that_is_stopped_in_a_call_is_stopped_there_in_its_replay() {
        let recorder = Recorder::new(Arc::new(Silent), Mask::default());
        assert!(recorder.kv_get("key").now_or_never().is_none());
        let mut stopped = Report::refused("stopped");
        let transcript = recorder.finish(&mut stopped);
        assert!(transcript.ends_unanswered());
        assert_eq!(
            transcript.exchanges,
            [Exchange {
                call: Asked::KvGet { key: "key".into() },
                answer: KeptAnswer::Unanswered,
            }]
        );

        let cancel = CancellationToken::new();
        let secrets = (Arc::new(Silent) as Arc<dyn Door>, Mask::default());
        let replayer = Replayer::new(transcript, secrets, cancel.clone());
        assert!(!replayer.was_stopped());
        assert!(replayer.kv_get("key").now_or_never().is_none());
        assert!(replayer.was_stopped() && cancel.is_cancelled());
        let (divergence, _) = replayer.finish(&mut stopped);
        assert_eq!(divergence, None);
    }

    #[test]
    fn a_replay_that_is_interrupted_did_not_leave_out_what_it_did_not_come_to() {
        for (outcome, left_out) in [
            (Outcome::Succeeded, true),
            (Outcome::Trapped, true),
            (Outcome::TimedOut, false),
            (Outcome::Cancelled, false),
        ] {
            let asked = Exchange {
                call: Asked::KvGet { key: "key".into() },
                answer: KeptAnswer::Value(None),
            };
            let transcript = Transcript {
                exchanges: vec![asked],
                ..Transcript::default()
            };
            assert!(!transcript.ends_unanswered());
            let secrets = (Arc::new(Silent) as Arc<dyn Door>, Mask::default());
            let replayer = Replayer::new(transcript, secrets, CancellationToken::new());
            let mut report = Report::refused("");
            report.outcome = outcome;
            let (divergence, _) = replayer.finish(&mut report);
            let said = divergence.map(|one| (one.at, one.is_beyond()));
            assert_eq!(said, left_out.then_some((0, false)), "{outcome}");
        }
    }
}

//! Wasmtime alone with the same guests: the least that a fresh instance and a call take on the
//! machine. Its host functions answer at once; nothing is counted, bounded, checked or recorded.

use std::path::Path;

use wasmtime::component::{Component, HasSelf, InstancePre, Linker};
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store,
};

use crate::door::CONTACT;

mod bindings {
    wasmtime::component::bindgen!({
        path: "../crm-plugins/wit",
        world: "plugin",
        imports: { default: async },
        exports: { default: async },
    });
}

use bindings::crm::automation::types::{Error, Event, Field, Value};
use bindings::crm::automation::{
    clock, events, http, jobs, kv, log, random, records, secrets, types,
};

type Answer<T> = Result<T, Error>;

/// What the host functions answer.
struct Lent(Vec<Field>);

impl types::Host for Lent {}

impl records::Host for Lent {
    async fn get(&mut self, _: String, _: String) -> Answer<Vec<Field>> {
        Ok(self.0.clone())
    }

    async fn update(
        &mut self,
        _: String,
        _: String,
        _: Option<i64>,
        _: Vec<Field>,
    ) -> Answer<Vec<Field>> {
        Ok(self.0.clone())
    }

    async fn list(&mut self, _: String, _: records::Query) -> Answer<records::Page> {
        Err(Error::Internal)
    }

    async fn create(&mut self, _: String, _: Vec<Field>) -> Answer<Vec<Field>> {
        Err(Error::Internal)
    }

    async fn delete(&mut self, _: String, _: String, _: Option<i64>) -> Answer<()> {
        Err(Error::Internal)
    }

    async fn aggregate(&mut self, _: String, _: String) -> Answer<String> {
        Err(Error::Internal)
    }

    async fn to_json(&mut self, _: Vec<Field>) -> String {
        String::new()
    }
}

impl events::Host for Lent {
    async fn emit(&mut self, _: String, _: String) -> Answer<()> {
        Err(Error::Internal)
    }
}

impl kv::Host for Lent {
    async fn get(&mut self, _: String) -> Answer<Option<Vec<u8>>> {
        Err(Error::Internal)
    }

    async fn set(&mut self, _: String, _: Vec<u8>) -> Answer<()> {
        Err(Error::Internal)
    }

    async fn delete(&mut self, _: String) -> Answer<bool> {
        Err(Error::Internal)
    }

    async fn keys(&mut self, _: String, _: Option<String>) -> Answer<Vec<String>> {
        Err(Error::Internal)
    }
}

impl http::Host for Lent {
    async fn fetch(&mut self, _: http::Request) -> Answer<http::Response> {
        Err(Error::Internal)
    }
}

impl secrets::Host for Lent {
    async fn get(&mut self, _: String) -> Answer<String> {
        Err(Error::Internal)
    }
}

impl clock::Host for Lent {
    async fn now(&mut self) -> String {
        String::new()
    }

    async fn now_millis(&mut self) -> i64 {
        0
    }
}

impl random::Host for Lent {
    async fn bytes(&mut self, _: u32) -> Vec<u8> {
        Vec::new()
    }

    async fn number(&mut self) -> u64 {
        0
    }
}

impl jobs::Host for Lent {
    async fn schedule(&mut self, _: String, _: u64, _: Option<String>) -> Answer<()> {
        Err(Error::Internal)
    }
}

impl log::Host for Lent {
    async fn log(&mut self, _: log::Level, _: String) {}
}

fn contact() -> Vec<Field> {
    let text = |text: &str| Value::Text(text.into());
    let fields = [
        ("id", Value::Id(CONTACT.into())),
        ("version", Value::Integer(1)),
        ("owner_id", Value::Null),
        ("name", text("Ada")),
        ("email", text("ada@engines.example")),
        ("company", text("Engines")),
        ("job_title", text("Owner")),
        ("tags", Value::Texts(vec!["vip".into()])),
        ("score", Value::Null),
        ("status", text("lead")),
    ];
    let field = |(name, value): (&str, Value)| Field {
        name: name.into(),
        value,
    };
    fields.map(field).into()
}

fn event() -> Event {
    let field = Field {
        name: "name".into(),
        value: Value::Text("Ada".into()),
    };
    Event {
        id: CONTACT.into(),
        sequence: 1,
        tenant_id: CONTACT.into(),
        module: "contacts".into(),
        kind: "contact.created".into(),
        record_id: CONTACT.into(),
        before: None,
        after: Some(vec![field]),
        data: None,
        actor: "operator".into(),
        request_id: "bench".into(),
        root_id: CONTACT.into(),
        depth: 0,
        occurred_at: "2030-01-31T12:00:00Z".into(),
    }
}

/// An engine as quick as Wasmtime has it: instances from a pool, time bounded by epochs.
pub(crate) fn engine() -> Engine {
    let mut pool = PoolingAllocationConfig::new();
    pool.max_core_instances_per_component(60)
        .max_memories_per_component(10)
        .max_tables_per_component(60)
        .total_memories(100)
        .total_tables(600)
        .max_memory_size(64 << 20)
        .linear_memory_keep_resident(2 << 20)
        .table_keep_resident(64 << 10)
        .pagemap_scan(Enabled::Auto);
    let mut config = Config::new();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .epoch_interruption(true)
        .wasm_backtrace_max_frames(None)
        .generate_address_map(false)
        .cranelift_nan_canonicalization(true)
        .concurrency_support(false);
    Engine::new(&config).unwrap()
}

/// A component, ready for instances.
pub(crate) struct Bare {
    ready: InstancePre<Lent>,
    contact: Vec<Field>,
    event: Event,
}

impl Bare {
    pub(crate) fn new(engine: &Engine, component: &[u8]) -> Self {
        Self::of(&linker(engine), &Component::new(engine, component).unwrap())
    }

    fn of(linker: &Linker<Lent>, component: &Component) -> Self {
        Self {
            ready: linker.instantiate_pre(component).unwrap(),
            contact: contact(),
            event: event(),
        }
    }

    /// A fresh store and instance, one call, and both gone.
    pub(crate) async fn run(&self) {
        let mut store = Store::new(self.ready.engine(), Lent(self.contact.clone()));
        store.set_epoch_deadline(u64::MAX / 2);
        let instance = self.ready.instantiate_async(&mut store).await.unwrap();
        let handle =
            instance.get_typed_func::<(&Event,), (Result<(), String>,)>(&mut store, "handle");
        let (answer,) = handle
            .unwrap()
            .call_async(&mut store, (&self.event,))
            .await
            .unwrap();
        assert_eq!(answer, Ok(()));
    }
}

fn linker(engine: &Engine) -> Linker<Lent> {
    let mut linker = Linker::new(engine);
    bindings::Plugin::add_to_linker::<_, HasSelf<_>>(&mut linker, |lent| lent).unwrap();
    linker
}

/// Compiled code in a file, taken up from there again and again.
pub(crate) struct Kept {
    linker: Linker<Lent>,
    engine: Engine,
    _folder: tempfile::TempDir,
    path: std::path::PathBuf,
}

impl Kept {
    pub(crate) fn new(component: &[u8]) -> Self {
        let engine = engine();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("code");
        std::fs::write(&path, engine.precompile_component(component).unwrap()).unwrap();
        Self {
            linker: linker(&engine),
            engine,
            _folder: folder,
            path,
        }
    }

    /// The code mapped and made ready.
    pub(crate) fn load(&self) -> Bare {
        Bare::of(&self.linker, &mapped(&self.engine, &self.path))
    }
}

#[expect(
    unsafe_code,
    reason = "the file was written by this process a moment ago, and is in a folder of its own"
)]
fn mapped(engine: &Engine, path: &Path) -> Component {
    // SAFETY: these are the bytes that `precompile_component` answered.
    unsafe { Component::deserialize_file(engine, path) }.unwrap()
}

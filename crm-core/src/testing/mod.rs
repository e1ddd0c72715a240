//! Test support for this library and for applications built on it; behind the feature `testing`.

pub mod postgres;

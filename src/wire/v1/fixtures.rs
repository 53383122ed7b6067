//! The fixtures of `tests/protocol`, and what a test reads out of them.

use serde_json::{Value, from_str};

pub(super) fn fixtures(name: &str) -> Value {
    let path = format!("{}/tests/protocol/{name}.json", env!("CARGO_MANIFEST_DIR"));
    from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

pub(super) fn from_hub(name: &str) -> Vec<(String, Value)> {
    let fixtures = fixtures(name);
    let all = fixtures["from_hub"].as_array().unwrap().iter();
    all.map(|f| (f["line"].as_str().unwrap().to_owned(), f["means"].clone())).collect()
}

pub(super) fn from_client(name: &str) -> Vec<(String, Value)> {
    let fixtures = fixtures(name);
    let all = fixtures["from_client"].as_array().unwrap().iter();
    all.map(|f| (f["line"].as_str().unwrap().to_owned(), f["means"].clone())).collect()
}

pub(super) fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()).collect()
}

pub(super) fn epoch_of(value: &Value) -> Option<u64> {
    value.as_str().map(|epoch| u64::from_str_radix(epoch, 16).unwrap())
}

pub(super) fn u32_of(value: &Value) -> u32 {
    u32::try_from(value.as_u64().unwrap()).unwrap()
}

//! Hostile lines of a client on `stepcast.v1`. The first byte picks how many feeds a line may name.
//!
//! `stepcast::wire::fuzzing` says what holds for each.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let [most, text @ ..] = data else { return };
    // The codec lets nothing through that is not UTF-8.
    let Ok(text) = std::str::from_utf8(text) else { return };
    for line in text.split('\n') {
        stepcast::fuzz_line(line, usize::from(*most % 66));
    }
});

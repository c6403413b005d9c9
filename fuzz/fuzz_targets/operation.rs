#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pagemill_fuzz::bodies::operation(data));

//! See `bowline::testing::parsers`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bowline::testing::parsers::run(
    "table_of_contents",
    data
));

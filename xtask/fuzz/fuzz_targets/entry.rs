#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| eidetica_dag::testing::fuzz::entry(data));

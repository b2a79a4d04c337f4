//! The program `whygate`.

use std::process::ExitCode;

/// A request costs a tenth less processor time than with the C library's, and a compile of 10,000
/// routes is given back within seconds, where that one kept it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    // Two libraries of one process may not disagree about who does the cryptography. Both calls
    // fail only if it was settled before.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
    controller::cli::main()
}

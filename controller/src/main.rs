//! The program `whygate`.

use std::process::ExitCode;

/// It has a short way for all that a request needs, the buffers of bodies included, and gives back what
/// a compile took within seconds: the C library's kept all of it, twice what was in use.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    // Two libraries of one process may not disagree about who does the cryptography. Both calls
    // fail only if it was settled before.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
    controller::cli::main()
}

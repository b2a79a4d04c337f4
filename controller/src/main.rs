//! The program `whygate`.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Two libraries of one process may not disagree about who does the cryptography. Both calls
    // fail only if it was settled before.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
    controller::cli::main()
}

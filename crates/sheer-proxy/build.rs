//! How the binary is linked.

use std::path::PathBuf;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // A sidecar's memory is mostly its mapped text. Relative relocations in the packed form (DT_RELR, glibc 2.36) take a fiftieth of the
    // room, and functions that compile to the same code are kept once; Rust gives functions no identity that folding could break.
    let is = |name: &str, value: &str| std::env::var(name).as_deref() == Ok(value);
    // lld is the linker that rustc brings for this target alone; others know no folding.
    if is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu") && is("CARGO_CFG_TARGET_ARCH", "x86_64")
    {
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
        println!("cargo:rustc-link-arg-bins=-Wl,--icf=safe");
        // What runs while traffic passes stands side by side in what ships: a page counts as soon as one function on it ran.
        println!("cargo:rerun-if-changed=hot-code.ld");
        let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo says where to write"));
        if out.components().any(|part| part.as_os_str() == "release") {
            // A copy beside what is built: a target folder may outlive the clone that filled it.
            let order = out.join("hot-code.ld");
            std::fs::copy("hot-code.ld", &order).expect("hot-code.ld is copied");
            println!("cargo:rustc-link-arg-bins=-Wl,-T,{}", order.display());
        }
    }
}

//! How the binary is linked.

use std::path::Path;

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
        let folder = std::env::var("CARGO_MANIFEST_DIR").expect("cargo says where the crate is");
        if std::env::var("OUT_DIR")
            .is_ok_and(|out| Path::new(&out).components().any(|part| part.as_os_str() == "release"))
        {
            println!("cargo:rustc-link-arg-bins=-Wl,-T,{folder}/hot-code.ld");
        }
    }
}

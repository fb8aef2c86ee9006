//! How DPDK is linked: shared libraries by default, whole archives with the feature `static`.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// Tells Cargo to link the shared libraries. DPDK loads its drivers at start-up from the directory that was
/// compiled into it (`RTE_EAL_PMD_PATH`).
pub fn shared(library: &pkg_config::Library) {
    for path in &library.link_paths {
        println!("cargo::rustc-link-search=native={}", path.display());
    }
    for lib in &library.libs {
        println!("cargo::rustc-link-lib=dylib={lib}");
    }
}

/// Tells Cargo to link what `pkg-config --static --libs libdpdk` lists. Nothing refers to a driver by name: it
/// registers in a constructor, which only a whole archive keeps.
pub fn whole_archives(flags: &str, libdir: &str) {
    println!("cargo::rustc-link-search=native={libdir}");
    let mut seen = BTreeSet::new();
    let mut missing = Vec::new();
    for flag in flags.split_whitespace() {
        if let Some(path) = flag.strip_prefix("-L") {
            println!("cargo::rustc-link-search=native={path}");
        } else if let Some(lib) = flag.strip_prefix("-l:lib").and_then(|f| f.strip_suffix(".a")) {
            if seen.insert(lib) {
                let whole = if lib.starts_with("rte_") { "+whole-archive,-bundle" } else { "-bundle" };
                println!("cargo::rustc-link-lib=static:{whole}={lib}");
            }
        } else if let Some(lib) = flag.strip_prefix("-l") {
            // The same archives come again as shared libraries, for programs that want those.
            if !lib.starts_with("rte_") && seen.insert(lib) {
                if is_installed(lib, libdir) {
                    println!("cargo::rustc-link-lib=dylib={lib}");
                } else {
                    missing.push(lib);
                }
            }
        }
    }
    if !missing.is_empty() {
        // As a rule needed only by libraries that are linked dynamically here, and find them by themselves.
        println!(
            "cargo::warning=left out, since there is no file to link: {}. If symbols are missing, install the -dev \
             packages of these",
            missing.join(" ")
        );
    }
}

/// Whether the linker will find a library.
fn is_installed(lib: &str, libdir: &str) -> bool {
    let files = [format!("lib{lib}.so"), format!("lib{lib}.a")];
    files.iter().any(|file| {
        // The compiler answers with a path if it finds the file, else with the bare name.
        let asked = Command::new("cc").arg(format!("-print-file-name={file}")).output();
        let found = asked.is_ok_and(|o| o.stdout.contains(&b'/'));
        found || Path::new(libdir).join(file).exists()
    })
}

//! Finds DPDK, generates the bindings of the allow-list, compiles the shim, and has C check Rust's idea of
//! `rte_mbuf`.

mod link;
mod version;

use std::cell::RefCell;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::rc::Rc;

use bindgen::callbacks::{EnumVariantCustomBehavior, EnumVariantValue, ParseCallbacks};

/// The functions that are bound, as regular expressions over whole names.
const FUNCTIONS: &[&str] = &[
    "shim_.*",
    "fflush",
    "fopencookie",
    "rte_dev_probe",
    "rte_dev_remove",
    "rte_eal_(init|cleanup|has_hugepages)",
    "rte_eth_dev_(adjust_nb_rx_tx_desc|close|configure|get_mtu|get_port_by_name|info_get|set_mtu|start|stop)",
    "rte_eth_dev_[gs]et_vlan_offload",
    "rte_eth_dev_socket_id",
    "rte_eth_iterator_(init|next|cleanup)",
    "rte_eth_macaddr_get",
    "rte_eth_promiscuous_(enable|disable)",
    "rte_eth_(rx|tx)_queue_setup",
    "rte_eth_stats_get",
    "rte_get_tsc_hz",
    "rte_log_(cur_msg_loglevel|set_global_level)",
    "rte_mempool_(avail_count|free)",
    "rte_openlog_stream",
    "rte_pktmbuf_(free_bulk|pool_create_by_ops)",
    "rte_strerror",
    "rte_thread_(register|unregister)",
];

/// The constants that are bound.
const CONSTANTS: &[&str] = &["DPDK_SYS_.*", "RTE_LOG_(EMERG|ALERT|CRIT|ERR|WARNING|NOTICE|INFO|DEBUG)"];

/// Types that Rust only ever has a pointer to; `rte_mbuf` is read by the offsets of `layout.h`.
const OPAQUE: &[&str] = &["rte_mbuf", "rte_mempool", "rte_device", "_IO_FILE"];

/// Collects the enumerators of `layout.h` as bindgen evaluates them.
#[derive(Debug, Default)]
struct Layout(Rc<RefCell<Vec<(String, i64)>>>);

impl ParseCallbacks for Layout {
    fn enum_variant_behavior(
        &self,
        enum_name: Option<&str>,
        variant: &str,
        value: EnumVariantValue,
    ) -> Option<EnumVariantCustomBehavior> {
        if enum_name.is_some_and(|n| n.ends_with("dpdk_sys_layout")) {
            let value = match value {
                EnumVariantValue::Signed(v) => v,
                EnumVariantValue::Unsigned(v) => v.cast_signed(),
                EnumVariantValue::Boolean(_) => return None,
            };
            self.0.borrow_mut().push((variant.to_owned(), value));
        }
        None
    }
}

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            for line in message.lines() {
                println!("cargo::error={line}");
            }
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), String> {
    println!("cargo::rerun-if-changed=c");
    println!("cargo::rerun-if-changed=build");
    let linked_statically = std::env::var_os("CARGO_FEATURE_STATIC").is_some();
    let library = pkg_config::Config::new()
        .cargo_metadata(false)
        .env_metadata(true)
        .probe("libdpdk")
        .map_err(|e| not_found(&e))?;
    version::check(&library.version)?;
    println!("cargo::metadata=version={}", library.version);
    println!("cargo::rustc-env=DPDK_SYS_VERSION={}", library.version);

    // The crate drops `-march` and `-include rte_config.h`, without which inline code differs from the library's.
    let c_flags = pkg_config_output(&["--cflags", "libdpdk"])?;
    let c_flags: Vec<&str> = c_flags.split_whitespace().collect();
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set: run by cargo build")?);

    let layout = generate_bindings(&c_flags, &out)?;
    compile_shim(&c_flags, &layout, &out)?;
    if linked_statically {
        let flags = pkg_config_output(&["--static", "--libs", "libdpdk"])?;
        let libdir = pkg_config_output(&["--variable=libdir", "libdpdk"])?;
        link::whole_archives(&flags, libdir.trim());
    } else {
        link::shared(&library);
    }
    Ok(())
}

fn not_found(error: &pkg_config::Error) -> String {
    let way_out = version::WAY_OUT;
    match error {
        pkg_config::Error::Failure { output, .. } | pkg_config::Error::ProbeFailure { output, .. } => {
            let said = String::from_utf8_lossy(&output.stderr);
            format!("DPDK was not found ({}): {way_out}", said.lines().next().unwrap_or("pkg-config failed"))
        }
        other => {
            format!("pkg-config cannot be asked for DPDK (`apt-get install pkg-config`): {other}; {way_out}")
        }
    }
}

fn pkg_config_output(args: &[&str]) -> Result<String, String> {
    let program = std::env::var("PKG_CONFIG").unwrap_or_else(|_| "pkg-config".to_owned());
    let output =
        Command::new(&program).args(args).output().map_err(|e| format!("{program} does not run: {e}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{program} {} failed: {said}", args.join(" ")));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn generate_bindings(c_flags: &[&str], out: &Path) -> Result<Vec<(String, i64)>, String> {
    let layout = Layout::default();
    let collected = Rc::clone(&layout.0);
    let mut builder = bindgen::Builder::default()
        .header("c/wrapper.h")
        .clang_args(c_flags)
        .clang_arg("-D_GNU_SOURCE")
        .parse_callbacks(Box::new(layout))
        .prepend_enum_name(false)
        .derive_default(true)
        .generate_comments(false)
        .allowlist_recursively(true)
        .allowlist_type("dpdk_sys_layout");
    for function in FUNCTIONS {
        builder = builder.allowlist_function(function);
    }
    for constant in CONSTANTS {
        builder = builder.allowlist_var(constant);
    }
    for opaque in OPAQUE {
        builder = builder.opaque_type(opaque);
    }
    let bindings = builder.generate().map_err(|e| {
        format!(
            "bindgen could not read DPDK's headers: {e}\nIt needs libclang: `apt-get install libclang-dev clang`"
        )
    })?;
    let file = out.join("bindings.rs");
    bindings.write_to_file(&file).map_err(|e| format!("cannot write {}: {e}", file.display()))?;
    let layout = collected.take();
    if layout.is_empty() {
        return Err("bindgen did not report the enumerators of c/layout.h".to_owned());
    }
    Ok(layout)
}

fn compile_shim(c_flags: &[&str], layout: &[(String, i64)], out: &Path) -> Result<(), String> {
    let mut header = String::new();
    for (name, value) in layout {
        // Writing to a String cannot fail.
        let _ = writeln!(header, "#define RUST_{name} {value}");
    }
    let file = out.join("rust_layout.h");
    std::fs::write(&file, header).map_err(|e| format!("cannot write {}: {e}", file.display()))?;
    let mut build = cc::Build::new();
    build.file("c/shim.c").include("c").include(out).opt_level(3).warnings(true).std("gnu11");
    for flag in c_flags {
        build.flag(flag);
    }
    build.try_compile("dpdk_shim").map_err(|e| format!("c/shim.c does not compile: {e}"))
}

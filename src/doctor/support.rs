//! Whether the kernel was built with what the module is, and whether modprobe can read the module's file.

use super::commands::{depmod, load, quoted};
use super::{Case, Cause, Finding, Seen, libraries};
use crate::delegate::KNOWN;
use crate::host::kernel_config::Setting;
use crate::modules::Compression;

/// What modules are called in the kernel's configuration, as far as no rule tells.
const OPTIONS: [(&str, &str); 36] = [
    ("sctp", "CONFIG_IP_SCTP"),
    ("dccp", "CONFIG_IP_DCCP"),
    ("tipc", "CONFIG_TIPC"),
    ("br_netfilter", "CONFIG_BRIDGE_NETFILTER"),
    ("bridge", "CONFIG_BRIDGE"),
    ("8021q", "CONFIG_VLAN_8021Q"),
    ("bonding", "CONFIG_BONDING"),
    ("veth", "CONFIG_VETH"),
    ("vxlan", "CONFIG_VXLAN"),
    ("wireguard", "CONFIG_WIREGUARD"),
    ("tun", "CONFIG_TUN"),
    ("ip_vs", "CONFIG_IP_VS"),
    ("ip_set", "CONFIG_IP_SET"),
    ("overlay", "CONFIG_OVERLAY_FS"),
    ("ext4", "CONFIG_EXT4_FS"),
    ("xfs", "CONFIG_XFS_FS"),
    ("btrfs", "CONFIG_BTRFS_FS"),
    ("squashfs", "CONFIG_SQUASHFS"),
    ("cramfs", "CONFIG_CRAMFS"),
    ("usb_storage", "CONFIG_USB_STORAGE"),
    ("nf_conntrack", "CONFIG_NF_CONNTRACK"),
    ("nf_nat", "CONFIG_NF_NAT"),
    ("xt_conntrack", "CONFIG_NETFILTER_XT_MATCH_CONNTRACK"),
    ("xt_state", "CONFIG_NETFILTER_XT_MATCH_STATE"),
    ("xt_MASQUERADE", "CONFIG_NETFILTER_XT_TARGET_MASQUERADE"),
    ("xt_nat", "CONFIG_NETFILTER_XT_NAT"),
    ("nft_ct", "CONFIG_NFT_CT"),
    ("nft_nat", "CONFIG_NFT_NAT"),
    ("nft_masq", "CONFIG_NFT_MASQ"),
    ("nft_chain_nat", "CONFIG_NFT_NAT"),
    ("nf_tables", "CONFIG_NF_TABLES"),
    ("iptable_nat", "CONFIG_IP_NF_NAT"),
    ("ip6table_nat", "CONFIG_IP6_NF_NAT"),
    ("ip_tables", "CONFIG_IP_NF_IPTABLES"),
    ("nf_conntrack_netlink", "CONFIG_NF_CT_NETLINK"),
    ("nf_conntrack_ftp", "CONFIG_NF_CONNTRACK_FTP"),
];
pub fn look(case: &Case) -> Seen {
    let mut findings: Vec<Finding> =
        [no_modules(case), no_netfilter(case), left_out(case)].into_iter().flatten().take(1).collect();
    findings.extend(unreadable_compression(case));
    let source = case.kernel_config().source.clone();
    Seen::of(findings, source.map_or("nothing speaks against it".to_owned(), |source| format!("{source} has it")))
}

fn no_kernel_for_it(case: &Case, summary: String, evidence: String) -> Finding {
    Finding::new(Cause::NoSupport, summary).evidence(evidence).fix(format!(
        "# boot a kernel that was built with it; {} was not, and no module can be added to it",
        case.kernel
    ))
}

/// `CONFIG_MODULES`.
fn no_modules(case: &Case) -> Option<Finding> {
    let summary = "this kernel loads no modules at all".to_owned();
    let config = case.kernel_config();
    if config.get("CONFIG_MODULES") == Setting::No {
        let source = config.source.clone().unwrap_or_default();
        return Some(no_kernel_for_it(case, summary, format!("{source}: CONFIG_MODULES is not set")));
    }
    // /proc/modules is there with CONFIG_MODULES, and never without (kernel/module/procfs.c).
    let is_mounted = case.host.exists("/proc/version") && case.host.exists("/proc/meminfo");
    let missing =
        case.runs && is_mounted && !case.host.exists("/proc/modules") && !case.host.exists("/proc/sys/kernel/modprobe");
    missing
        .then(|| no_kernel_for_it(case, summary, format!("{}: not there, and /proc is", case.shown("/proc/modules"))))
}

/// `CONFIG_NETFILTER`, for whatever is part of it.
fn no_netfilter(case: &Case) -> Option<Finding> {
    let name = case.name();
    let prefixes =
        ["nf_", "xt_", "nft_", "ipt_", "ip6t_", "iptable_", "ip6table_", "nfnetlink", "ip_tables", "ip6_tables"];
    if !prefixes.iter().any(|prefix| name.starts_with(prefix)) {
        return None;
    }
    let summary = "this kernel was built without netfilter".to_owned();
    let config = case.kernel_config();
    if config.get("CONFIG_NETFILTER") == Setting::No {
        let source = config.source.clone().unwrap_or_default();
        return Some(no_kernel_for_it(case, summary, format!("{source}: CONFIG_NETFILTER is not set")));
    }
    let net = case.shown("/proc/net/netfilter");
    let has_network = case.host.exists("/proc/net/dev") && case.host.exists("/proc/sys/net/core");
    let is_missing = case.runs
        && has_network
        && !case.host.exists("/proc/net/netfilter")
        && !case.host.exists("/proc/sys/net/netfilter")
        && case.path_of(&case.module).is_none();
    is_missing.then(|| no_kernel_for_it(case, summary, format!("{net}: not there, and /proc/net is")))
}

/// The module's own option.
fn left_out(case: &Case) -> Option<Finding> {
    let name = case.name();
    let (_, option) = OPTIONS.iter().find(|(module, _)| *module == name)?;
    let config = case.kernel_config();
    if config.get(option) != Setting::No || case.path_of(&case.module).is_some() {
        return None;
    }
    let source = config.source.clone().unwrap_or_default();
    Some(no_kernel_for_it(
        case,
        format!("this kernel was built without {name}"),
        format!("{source}: {option} is not set"),
    ))
}

/// A module's file that is compressed in a way that neither modprobe nor the kernel understands.
fn unreadable_compression(case: &Case) -> Option<Finding> {
    let modules = std::iter::once(case.module.clone()).chain(case.needed_by(&case.module));
    let packed = modules.filter(|module| !case.is_in_kernel(module)).find_map(|module| {
        let path = case.path_of(&module)?;
        let (option, library, unpack) = match Compression::of_name(&path) {
            Compression::None => return None,
            Compression::Gzip => ("ZLIB", "libz.so.1", "gzip -d"),
            Compression::Xz => ("XZ", "liblzma.so.5", "xz -d"),
            Compression::Zstd => ("ZSTD", "libzstd.so.1", "zstd -d --rm"),
        };
        Some((path, option, library, unpack))
    });
    let (path, option, library, unpack) = packed?;
    // The kernel does it itself, if it was built for that (CONFIG_MODULE_DECOMPRESS) and kmod hands it over.
    let of_kernel = case.host.line("/sys/module/compression").unwrap_or_default();
    if case.runs && of_kernel.eq_ignore_ascii_case(if option == "ZLIB" { b"gzip" } else { option.as_bytes() }) {
        return None;
    }
    let shown = case.shown(&path);
    let (modprobe, bytes) = KNOWN.iter().find_map(|path| Some((*path, case.host.read(path, 8 << 20).ok()?)))?;
    let holds = |word: String| bytes.windows(word.len()).any(|window| window == word.as_bytes());
    // kmod has its features in its text, as `kmod --version` prints them; a part of it may be the library.
    let library_path = libraries::find(case, "libkmod.so.2");
    let kmod = library_path.as_ref().and_then(|path| case.host.read(path, 8 << 20).ok()).unwrap_or_default();
    let kmod_holds = |word: &str| kmod.windows(word.len()).any(|window| window == word.as_bytes());
    let finding =
        Finding::new(Cause::NoSupport, format!("modprobe here can't read {} files", option.to_ascii_lowercase()))
            .evidence(format!("{shown}: is compressed, and the kernel does not unpack it (/sys/module/compression)"));
    if holds(format!("-{option} ")) || holds(format!("-{option}\0")) {
        return Some(
            finding
                .evidence(format!("{}: was built with -{option}", case.shown(modprobe)))
                .fix(format!("{unpack} {}", quoted(&path)))
                .fix(depmod(case))
                .fix(load(case)),
        );
    }
    let needs = holds(library.to_owned()) || kmod_holds(library);
    if needs && libraries::are_collected(case) && libraries::find(case, library).is_none() {
        return Some(
            finding
                .evidence(format!("{library}: not there; {} unpacks with it", case.shown(modprobe)))
                .fix(libraries::bring(case, library))
                .fix(load(case)),
        );
    }
    None
}

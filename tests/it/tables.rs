//! What `guard status` says of iptables-legacy in roots of its own, and that `guard enable` for another root loads
//! nothing into this machine's kernel.

use crate::hooks::Armable;
use crate::index::write_indexes;

const RELEASE: &str = "6.1.0";
const WHO: &str = "iptables-legacy in containers and chroots";

/// An armed host whose kernel has `modules`, lines of modules.dep.
fn host(modules: &str) -> Armable {
    let host = Armable::new(RELEASE);
    for (file, text) in [("dep", modules), ("alias", ""), ("symbols", ""), ("builtin", ""), ("builtin.alias", "")] {
        host.put(&format!("lib/modules/{RELEASE}/modules.{file}"), text);
    }
    write_indexes(&host.path(&format!("lib/modules/{RELEASE}")));
    host.put("sys/module/kernel/x", "");
    host
}

fn with_tables() -> Armable {
    host("ip_tables.ko: x_tables.ko\nip6_tables.ko: x_tables.ko\nx_tables.ko:\n")
}

/// The way as `guard status` shows it, its lines joined.
fn way(host: &Armable) -> Option<String> {
    let said = host.said(&["status"]);
    let mut lines = said.lines().map(str::trim_start).skip_while(|line| !line.contains(WHO));
    let first = lines.next()?.replace(WHO, "WAY");
    let begins_another = |line: &str| ["covered", "open", "policy"].iter().any(|word| line.starts_with(word));
    let more: Vec<&str> = lines.take_while(|line| !begins_another(line)).collect();
    let words = std::iter::once(first.as_str()).chain(more).flat_map(str::split_whitespace);
    Some(words.collect::<Vec<_>>().join(" "))
}

#[test]
fn whom_the_policy_permits_it_decides() {
    let host = with_tables();
    let tables = "modules = [\"ip*_tables\"]\n";
    let both = "ip_tables, ip6_tables closed by";
    let permit = format!("open WAY nothing: it fails before it asks {both} guard enable");
    let blocked = "covered WAY the policy, which blocks what it needs".to_owned();
    let asks = format!(
        "open WAY nothing: rule \"r0\" (/etc/modprobe-guard/policy.toml:5) asks who, and a load is for all {both} \
         modprobe -a ip_tables ip6_tables, at each boot by lines in /etc/modules-load.d"
    );
    let asks_unknown = asks.replace("asks who, and a load is for all", "blocks it");
    let block = "action = \"block\"";
    let userns = format!("{tables}requester = {{ userns = \"other\" }}");
    for (defaults, rules, expected) in [
        ("", vec![], permit.clone()),
        ("", vec![("modules = [\"x_tables\"]", "block")], blocked.clone()),
        (block, vec![], blocked.clone()),
        (block, vec![(tables, "allow")], permit.clone()),
        ("", vec![(userns.as_str(), "block")], asks.clone()),
        // Whom the rule means is permitted what everybody is.
        ("", vec![(userns.as_str(), "allow")], permit.clone()),
        (block, vec![(userns.as_str(), "allow")], asks.clone()),
        ("enforce = false", vec![(userns.as_str(), "block")], permit.clone()),
        ("", vec![(tables, "allow"), (userns.as_str(), "block")], permit.clone()),
        // How it asks is known.
        ("", vec![(&format!("{tables}requester = {{ caller = \"xtables\" }}"), "block")], blocked.clone()),
        ("", vec![(&format!("{tables}requester = {{ caller = \"kernel\" }}"), "block")], permit.clone()),
        ("", vec![(&format!("{tables}requester = \"unknown\""), "block")], asks_unknown),
    ] {
        host.policy(defaults, &rules);
        host.said(&["enable"]);
        let found = way(&host).unwrap();
        assert_eq!(found, expected, "{defaults} {rules:?}");
    }
}

#[test]
fn what_is_there_and_what_is_not() {
    let host = with_tables();
    host.policy("", &[]);
    assert_eq!(way(&host).unwrap(), "open WAY nothing closed by guard enable");
    let said = host.said(&["enable"]);
    assert!(!said.contains("ip_tables"), "{said}");
    host.put("sys/module/ip_tables/initstate", "live\n");
    assert!(way(&host).unwrap().contains("ip6_tables closed by guard enable"));
    host.put("sys/module/ip6_tables/initstate", "live\n");
    assert_eq!(way(&host).unwrap(), "covered WAY kernel.modprobe, by ip_tables, ip6_tables being there");
    // Nothing can be loaded, or the kernel has no such thing.
    host.put("proc/sys/kernel/modules_disabled", "1\n");
    assert_eq!(way(&host), None);
    let host = self::host("nf_tables.ko:\n");
    host.policy("", &[]);
    host.said(&["enable"]);
    assert_eq!(way(&host), None);
}

#[test]
fn what_modprobe_d_holds_back() {
    let host = with_tables();
    host.policy("", &[]);
    host.said(&["enable"]);
    let file = host.path("etc/modprobe.d/a.conf");
    for (line, says) in [
        ("install x_tables true", "modprobe.d runs a command in place of x_tables"),
        ("blacklist ip_tables\nblacklist ip6_tables", "modprobe.d blacklists it"),
    ] {
        host.put("etc/modprobe.d/a.conf", line);
        let expected = format!(
            "open WAY nothing: {says} ({}:1) ip_tables, ip6_tables closed by take that line away, then guard \
             enable",
            file.display()
        );
        assert_eq!(way(&host).unwrap(), expected);
    }
}

# Rules on dependencies, on an alias's target, with dashes; an allow-list; watching; an edit that went wrong.
# kernels: 6.1 newest
# checks: dependency alias_target dash nft_expression iptables_nft allow_list_target allow_list_other watched watched_record typo_check typo_apply typo_keeps typo_status stderr_names_rule unknown_requester_key directory_policy writable_policy
. /lib.sh

rule() {
	printf 'version = 1\n[[rule]]\nid = "r"\nmodules = ["%s"]\naction = "block"\n' "$1" | policy
}
guard enable >/dev/null
rule nf_defrag_ipv4
check dependency sh -c '! iptables-legacy -t nat -L 2>/dev/null && ! grep -q ^nf_ /proc/modules'
rule af_alg
check alias_target sh -c 'ask alg hash x >/dev/null; ! grep -q ^af_alg /proc/modules && guard log --json | grep -q "\"name\":\"net-pf-38\".*\"module\":\"af_alg\""'
rule nf-conntrack
check dash sh -c '! iptables-legacy -t nat -L 2>/dev/null && ! grep -q ^nf_conntrack /proc/modules'
nft add table ip t
nft add chain ip t c
check nft_expression sh -c '! nft add rule ip t c ct state new 2>/dev/null && ! grep -q ^nf_conntrack /proc/modules'
check iptables_nft sh -c '! iptables-nft -A FORWARD -m conntrack --ctstate NEW -j ACCEPT 2>/dev/null && ! grep -q ^nf_conntrack /proc/modules'

policy <<'X'
version = 1
[defaults]
action = "block"
[[rule]]
id = "targets"
modules = ["iptable_nat", "ip_tables"]
action = "allow"
X
check allow_list_target iptables-legacy -t nat -L
ask socket 15 >/dev/null
ask alg hash x >/dev/null
check allow_list_other not is_loaded af_alg
modprobe -r iptable_nat nf_nat nf_conntrack

policy <<'X'
version = 1
[[rule]]
id = "watch"
modules = ["af_alg"]
action = "block"
enforce = false
X
ask alg hash x >/dev/null
check watched is_loaded af_alg
check watched_record contains "$(last_record '"name":"net-pf-38"')" '"action":"block","enforced":false,"rule":"watch"'

rule nf_conntrack
printf 'version = 1\n[[rule]\nid = ' >/etc/modprobe-guard/policy.toml
check typo_check contains "$(guard check 2>&1)" '/etc/modprobe-guard/policy.toml:2:'
check typo_apply not guard apply
check typo_keeps sh -c '! iptables-legacy -t nat -L 2>/dev/null && ! grep -q ^nf_conntrack /proc/modules'
check typo_status contains "$(guard status)" '/etc/modprobe-guard/policy.toml:2:'
rule nf_conntrack
check stderr_names_rule contains "$(modprobe-guard iptable_nat 2>&1)" 'blocked by rule "r" (/etc/modprobe-guard/policy.toml:2)'
printf 'version = 1\n[[rule]]\nid = "r"\nmodules = ["a"]\naction = "block"\nrequester = { comm = "iptables" }\n' >/etc/modprobe-guard/policy.toml
check unknown_requester_key contains "$(guard check 2>&1)" 'unknown key `comm`'
rm /etc/modprobe-guard/policy.toml
mkdir /etc/modprobe-guard/policy.toml
check directory_policy not guard apply
rmdir /etc/modprobe-guard/policy.toml
rule nf_conntrack
chmod 666 /etc/modprobe-guard/policy.toml
check writable_policy contains "$(guard check 2>&1)" 'writable'
finish

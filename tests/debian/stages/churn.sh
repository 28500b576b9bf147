# Installs, upgrades and removes for ever, until the power is cut.
# checks:
. ./lib.sh
echo CHURN
dpkg --configure -a >/dev/null 2>&1
while :; do
	for package in ./modprobe-guard_0.1.0-1_amd64.deb ./newer.deb ./modprobe-guard_0.1.0-1_amd64.deb; do
		dpkg -i "$package" >/dev/null 2>&1
		echo "CHURN $package $?"
	done
	dpkg -r modprobe-guard >/dev/null 2>&1
	echo "CHURN removed $?"
done

# While the host is armed, an initramfs is made anew by both builders.
# checks: armed initramfs_tools dracut free_of_us
. ./lib.sh
[ -e /usr/sbin/modprobe-guard ] || dpkg -i ./modprobe-guard_0.1.0-1_amd64.deb >/run/said 2>&1
profile no-conntrack
check armed sh -c '. ./lib.sh; equal "$(cat /proc/sys/kernel/modprobe)" /usr/sbin/modprobe-guard && ! modprobe nf_conntrack 2>/dev/null'
check initramfs_tools update-initramfs -u
check dracut dracut --quiet --force --no-hostonly --add-drivers 'virtio_blk virtio_pci ext4' /boot/dracut.img "$(uname -r)"
# Where the helper is not there must be nothing that leads to it.
check free_of_us sh -c '! lsinitramfs /boot/initrd.img-* | grep modprobe-guard && ! lsinitrd /boot/dracut.img | grep modprobe-guard && ! lsinitrd /boot/dracut.img -f etc/sysctl.conf | grep kernel.modprobe'
sync
finish

# The same with the guard in modprobe's own place, which is what a builder finds as modprobe.
# checks: in_place initramfs_tools dracut
. ./lib.sh
check in_place sh -c 'sh /usr/lib/modprobe-guard/divert.sh on && guard enable && guard status --json | grep -F "\"divert\":\"in place\"" && ! modprobe nf_conntrack 2>/dev/null'
check initramfs_tools update-initramfs -u
check dracut dracut --quiet --force --no-hostonly --add-drivers 'virtio_blk virtio_pci ext4' /boot/dracut.img "$(uname -r)"
sync
finish

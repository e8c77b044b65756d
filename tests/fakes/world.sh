# The emulated phone's root: this machine's programs and libraries, and else what a phone has: no /tmp, no /dev/shm, an
# /etc without users, processes, /data, /system and /sdcard of its own. Runs in namespaces of its own, so that all of it
# is gone with this shell, which waits for the daemon and for whatever is left alone there.
# Arguments: the new root, the size of /data in bytes, a boot id, a /proc/cpuinfo ("" for this machine's), folders that
# the daemon needs beside those ("" at the end), and its command line.
set -e
root=$1 data_bytes=$2 boot_id=$3 cpuinfo=$4
shift 4
mount --make-rprivate /
for path in /bin /sbin /lib* /usr /sys; do
  if [ -L "$path" ]; then
    ln -s "$(readlink "$path")" "$root$path"
  elif [ -d "$path" ]; then
    mkdir "$root$path"
    mount --rbind "$path" "$root$path"
  fi
done
while [ -n "$1" ]; do
  if [ ! -e "$root$1" ]; then
    mkdir -p "$root$1"
    mount --bind "$1" "$root$1"
  fi
  shift
done
shift
mkdir "$root/dev" "$root/proc"
mount -t tmpfs -o mode=755 dev "$root/dev"
for name in null zero full random urandom tty; do
  touch "$root/dev/$name"
  mount --bind "/dev/$name" "$root/dev/$name"
done
mkdir "$root/dev/pts"
mount -t devpts -o newinstance,ptmxmode=666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
mount -t proc proc "$root/proc"
mount -t tmpfs -o "size=$data_bytes,mode=771" data "$root/data"
mkdir -p "$root/data/local/tmp" "$root/data/settings"
chmod 771 "$root/data/local" "$root/data/local/tmp"
chmod 777 "$root/data/settings"
chown 2000:2000 "$root/data/local/tmp" "$root/sdcard" 2>/dev/null || true
# A device is told from this machine by its boot.
[ ! -e "$root/proc/sys/kernel/random/boot_id" ] || mount --bind "$boot_id" "$root/proc/sys/kernel/random/boot_id"
[ -z "$cpuinfo" ] || mount --bind "$cpuinfo" "$root/proc/cpuinfo"
chroot "$root" "$@"
exit

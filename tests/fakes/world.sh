# The emulated phone's root: this machine's folders, with a /data, /system and /sdcard of its own. Runs in a mount
# namespace of its own, so that all of it is gone with the last process; then becomes the daemon.
# Arguments: the new root, the size of /data in bytes, a boot id, a /proc/cpuinfo ("" for this machine's), and the
# daemon's command line.
set -e
root=$1 data_bytes=$2 boot_id=$3 cpuinfo=$4
shift 4
mount --make-rprivate /
for path in /*; do
  name=${path#/}
  case $name in data | system | sdcard | lost+found) continue ;; esac
  if [ -L "$path" ]; then
    [ -L "$root/$name" ] || ln -s "$(readlink "$path")" "$root/$name"
  elif [ -d "$path" ]; then
    mkdir -p "$root/$name"
    case $name in
      tmp) mount --bind "$path" "$root/$name" ;;
      *) mount --rbind "$path" "$root/$name" ;;
    esac
  fi
done
mount -t tmpfs -o "size=$data_bytes,mode=771" data "$root/data"
mkdir -p "$root/data/local/tmp" "$root/data/settings"
chmod 771 "$root/data/local" "$root/data/local/tmp"
chmod 777 "$root/data/settings"
chown 2000:2000 "$root/data/local/tmp" 2>/dev/null || true
# A device is told from this machine by its boot.
[ ! -e "$root/proc/sys/kernel/random/boot_id" ] || mount --bind "$boot_id" "$root/proc/sys/kernel/random/boot_id"
[ -z "$cpuinfo" ] || mount --bind "$cpuinfo" "$root/proc/cpuinfo"
exec chroot "$root" "$@"

# Sourced by examples/run and tests/run: finds what they need and installs what is missing.
#
#   need THING...   makes sure that each of compiler, cmake, builder, asio, boost, catch2 ... is there, or ends with a sentence
#   try_need THING  the same for what one can do without (sqlite, clang, chromium, npm): false, and $reason, where it can't
#                   be had
#
# Debian and Ubuntu: with apt-get, as root or by sudo without a password. Nothing that is installed is ever removed or
# replaced. Without these rights, or beside a Boost that is too old, packages of headers and of static libraries are
# unpacked into .deps/ of the checkout, where CMakeLists.txt looks too. On other systems the sentences name the packages.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
jobs=$(getconf _NPROCESSORS_ONLN)
reason=

say() { printf '\n== %s\n' "$*"; }
die() { printf '\ntandem: %s\n' "$*" >&2; exit 1; }

# --- What is there ---------------------------------------------------------------------------------------------------

# The folders CMake will search for headers, in its order.
prefixes=("$root/.deps/root/usr" /usr/local /usr /opt/homebrew)
[ -z "${CMAKE_PREFIX_PATH:-}" ] || prefixes=("$CMAKE_PREFIX_PATH" "${prefixes[@]}")

find_header() {
  local prefix
  for prefix in "${prefixes[@]}"; do
    if [ -e "$prefix/include/$1" ]; then echo "$prefix/include/$1"; return; fi
  done
  return 1
}

# version_at_least HEADER MACRO NUMBER
version_at_least() {
  local header version
  header=$(find_header "$1") || return 1
  version=$(sed -n "s/^#define $2 \([0-9]*\).*/\1/p" "$header")
  [ "${version:-0}" -ge "$3" ]
}

# A relative path is meant from where the user stands; the scripts go elsewhere.
case ${CXX:-} in
  /*) ;;
  */*) if [ -e "$CXX" ]; then CXX=$(cd "$(dirname "$CXX")" && pwd)/$(basename "$CXX"); fi ;;
esac

# The compiler is $CXX, or the first of g++ and clang++ that is new enough and has its library.
find_compiler() {
  local compiler
  for compiler in ${CXX:-g++ clang++}; do
    if "$compiler" -std=c++20 -fsyntax-only -x c++ - >/dev/null 2>&1 <<'END'
#include <coroutine>
#if __clang_major__ < 16 && (__clang_major__ || __GNUC__ < 12)
#error too old
#endif
END
    then CXX=$(command -v "$compiler"); export CXX; return; fi
  done
  return 1
}

# The browser is $CHROMIUM, or the first of its names that runs; as $browser.
find_browser() {
  local sandbox=()
  [ "$(id -u)" != 0 ] || sandbox=(--no-sandbox)
  for browser in ${CHROMIUM:-chromium chromium-browser google-chrome}; do
    ! "$browser" ${sandbox[@]+"${sandbox[@]}"} --version || return 0
  done
  return 1
}

# links_with LIBRARY HEADER: a library that is not headers only can be used
links_with() {
  local dir unpacked=("-I$root/.deps/root/usr/include")
  for dir in "$root"/.deps/root/usr/lib "$root"/.deps/root/usr/lib/*-linux-*; do unpacked+=("-L$dir"); done
  find_compiler && printf '#include <%s>\nint main() {}\n' "$2" | "$CXX" "${unpacked[@]}" -x c++ - "-l$1" -o /dev/null
}

has() {
  case $1 in
    compiler) find_compiler ;;
    cmake) command -v cmake && printf '3.22\n%s\n' "$(cmake --version | sed -n 's/^cmake version //p')" | sort -V -C ;;
    builder) command -v ninja || command -v make ;;
    asio) version_at_least asio/version.hpp ASIO_VERSION 102201 ;;
    boost) find_header boost/pfr.hpp && version_at_least boost/version.hpp BOOST_VERSION 108100 ;;
    catch2) find_header catch2/catch_all.hpp || find_header catch2/catch.hpp ;;
    sqlite) links_with sqlite3 sqlite3.h ;;
    clang) echo 'int main() {}' | clang++-19 -fsanitize=address -x c++ - -o /dev/null ;;
    chromium) find_browser ;;
    npm) command -v npm && node -e 'process.exit(parseInt(process.versions.node) < 18 ? 1 : 0)' ;;
    pkg-config | python3 | valgrind) command -v "$1" ;;
    benchmark) find_header benchmark/benchmark.h ;;
  esac >/dev/null 2>&1
}

packages_by_system() {
  case $1 in
    compiler) echo "a C++20 compiler, g++ 12 or clang 16 or later (named by CXX, if that is set)|g++|gcc-c++|gcc|gcc" ;;
    cmake) echo "CMake 3.22 or later|cmake|cmake|cmake|cmake" ;;
    builder) echo "Ninja or make|ninja-build|ninja-build|ninja|ninja" ;;
    asio) echo "standalone Asio 1.22.1 or later|libasio-dev|asio-devel|asio|asio" ;;
    boost) echo "the headers of Boost 1.81 or later|libboost-dev (Debian 12: libboost1.81-dev)|boost-devel|boost|boost" ;;
    catch2) echo "Catch2 2.13 or later|catch2|catch-devel|catch2|catch2" ;;
    sqlite) echo "SQLite 3|libsqlite3-dev|sqlite-devel|sqlite|sqlite" ;;
    benchmark) echo "Google Benchmark|libbenchmark-dev|google-benchmark-devel|benchmark|google-benchmark" ;;
    python3) echo "Python 3|python3|python3|python|python3" ;;
    npm) echo "Node 18 or later, with npm|nodejs npm|nodejs-npm|nodejs npm|node" ;;
    chromium) echo "Chromium|(a snap; set CHROMIUM to a browser of that kind)|chromium|chromium|chromium" ;;
    valgrind) echo "Valgrind|valgrind|valgrind|valgrind|(not on macOS)" ;;
  esac
}

tell_packages() {
  local thing what ubuntu fedora arch homebrew
  for thing; do
    IFS='|' read -r what ubuntu fedora arch homebrew <<<"$(packages_by_system "$thing")"
    echo "tandem needs $what. Ubuntu 24.04: $ubuntu; Fedora: $fedora; Arch: $arch; Homebrew: $homebrew."
  done >&2
}

# --- Installing with apt-get -----------------------------------------------------------------------------------------

apt_options=(-qq -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0)
as_root=()

may_install() {
  [ "$(id -u)" != 0 ] || return 0
  as_root=(sudo -n)
  sudo -n true 2>/dev/null
}

# Package lists: the system's, or without the right to update those, lists of our own.
update_lists() {
  say "asking the package mirror what it has"
  if may_install; then
    ${as_root[@]+"${as_root[@]}"} apt-get "${apt_options[@]}" update || true
  else
    mkdir -p "$root/.deps/apt/lists/partial" "$root/.deps/apt/archives/partial"
    apt_options+=(-o "Dir::State::Lists=$root/.deps/apt/lists" -o "Dir::Cache=$root/.deps/apt" -o Debug::NoLocking=1)
    apt-get "${apt_options[@]}" update || true
  fi
}

mirror_knows() { apt-cache "${apt_options[@]}" show "$@" >/dev/null 2>&1; }

debian_packages() {
  local thing version
  for thing; do
    case $thing in
      compiler) echo g++ ;;
      builder) echo ninja-build ;;
      asio) echo libasio-dev ;;
      benchmark) echo libbenchmark-dev ;;
      sqlite) echo libsqlite3-dev ;;
      boost)  # the package with the headers themselves: 1.81 on Debian 12, whose default is older, else the default
        version=$(apt-cache "${apt_options[@]}" show libboost-dev 2>/dev/null | sed -n 's/^Version: \([0-9]*\.[0-9]*\).*/\1/p' | head -n 1)
        printf 'libboost%s-dev\n' "$(printf '%s\n' 1.81 "${version:-1.81}" | sort -V | tail -n 1)" ;;
      npm) printf '%s\n' nodejs npm ;;
      clang) printf '%s\n' clang-19 libclang-rt-19-dev ;;
      *) echo "$thing" ;;
    esac
  done
}

apt_install() {
  say "installing $*"
  ${as_root[@]+"${as_root[@]}"} env DEBIAN_FRONTEND=noninteractive \
    apt-get "${apt_options[@]}" install -y --no-remove --no-install-recommends "$@" >/dev/null
}

apt_unpack() {
  say "unpacking $* into .deps/ of this checkout"
  local debs="$root/.deps/debs" deb
  mkdir -p "$debs" "$root/.deps/root"
  (cd "$debs" && apt-get "${apt_options[@]}" -o APT::Sandbox::User=root download "$@") || return 1
  for deb in "$debs"/*.deb; do dpkg -x "$deb" "$root/.deps/root" || return 1; done
  rm -rf "$debs" "$root/.deps/apt"
}

# Boost goes into the system only where there is none and nothing would have to give way to it.
boost_must_stay_apart() {
  find_header boost/version.hpp >/dev/null ||
    ! ${as_root[@]+"${as_root[@]}"} apt-get "${apt_options[@]}" -s --no-remove install "$@" >/dev/null 2>&1
}

# apt_get_things THING...: false, and $reason, if that did not work
apt_get_things() {
  local thing packages tools=() installed=() unpacked=()
  for thing; do
    case $thing in compiler | cmake | builder | clang | chromium | npm | pkg-config | benchmark | python3 | valgrind) tools+=("$thing") ;; esac
  done
  if ! may_install && [ ${#tools[@]} != 0 ]; then
    packages=($(debian_packages "${tools[@]}"))
    reason="these packages are missing, and to install them takes root or sudo: ${packages[*]}"
    return 1
  fi

  mirror_knows libasio-dev || update_lists
  if ! mirror_knows libasio-dev; then
    packages=($(debian_packages "$@"))
    reason="no package mirror answers, and these packages are missing: ${packages[*]}"
    return 1
  fi
  for thing; do
    packages=($(debian_packages "$thing"))
    if ! may_install || { [ "$thing" = boost ] && boost_must_stay_apart "${packages[@]}"; }; then
      unpacked+=("${packages[@]}")
    else
      installed+=("${packages[@]}")
    fi
  done

  get_all() {
    { [ ${#installed[@]} = 0 ] || apt_install "${installed[@]}"; } &&
      { [ ${#unpacked[@]} = 0 ] || apt_unpack "${unpacked[@]}"; }
  }
  # Old lists name files that the mirror no longer has: once more with new ones.
  get_all || { update_lists; get_all; } || {
    reason="apt-get, whose words are above, could not get all of these packages: ${installed[*]-} ${unpacked[*]-}"
    return 1
  }
}

# --- What the scripts call -------------------------------------------------------------------------------------------

need() {
  local thing missing=()
  [ -z "${CXX:-}" ] || has compiler || die "CXX is $CXX, which is neither g++ 12 or later nor clang 16 or later."
  for thing; do has "$thing" || missing+=("$thing"); done
  if [ ${#missing[@]} != 0 ]; then
    if ! command -v apt-get >/dev/null; then
      tell_packages "${missing[@]}"
      exit 1
    fi
    apt_get_things "${missing[@]}" || die "$reason"
    for thing in "${missing[@]}"; do
      has "$thing" || { tell_packages "$thing"; die "what apt-get installed is not enough"; }
    done
  fi

  ! command -v ninja >/dev/null || export CMAKE_GENERATOR="${CMAKE_GENERATOR:-Ninja}"
  ! command -v ccache >/dev/null || export CMAKE_CXX_COMPILER_LAUNCHER="${CMAKE_CXX_COMPILER_LAUNCHER:-ccache}"
}

try_need() {
  has "$1" && return
  reason="$1 is not installed"
  command -v apt-get >/dev/null && apt_get_things "$1" && has "$1"
}

# A build folder belongs to one compiler: told of another, CMake would forget the flags it was configured with.
drop_other_compilers_build() {
  grep -q "^CMAKE_CXX_COMPILER:.*=$CXX\$" "$1/CMakeCache.txt" 2>/dev/null || rm -rf "$1"
}

#!/usr/bin/env bash
# Installs the llama engine (tests/servers/llama.py) into its own virtual environment:
#   ${PENSTOCK_TEST_CACHE:-$HOME/.cache/penstock}/llama-VERSION
#
# There are no wheels of llama-cpp-python in the package index, so the first run builds one (about 90 s on two
# cores) and keeps it beside the environment. Every further run is over at once. Two runs at once wait for
# each other. It needs Python 3.11 or newer (PYTHON=...) and a C and C++ compiler; cmake and ninja come from the
# package index, whatever the machine has.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
pins=$here/llama-requirements.txt
version=$(sed -n 's/^llama_cpp_python==//p' "$pins")
cache=${PENSTOCK_TEST_CACHE:-$HOME/.cache/penstock}
home=$cache/llama-$version
wheels=$cache/wheels/$(uname -s)-$(uname -m)
python=${PYTHON:-python3}
build_tools=(scikit_build_core==1.1.2 cmake==4.4.4 ninja==1.13.2 packaging==26.3 pathspec==1.1.1)

say() { echo "llama: $*"; }

# The copy of the pins is written last: it says that all of them are there.
installed() { cmp -s "$pins" "$home/installed" && "$home/bin/python" -c '' 2>/dev/null; }

build_wheel() {
    for compiler in "${CC:-cc} gcc clang" "${CXX:-c++} g++ clang++"; do
        # shellcheck disable=SC2086  # a list of names
        if ! command -v $compiler >/dev/null; then
            say "no compiler found (tried: $compiler). Install one; on Debian: gcc and g++." >&2
            exit 1
        fi
    done
    rm -rf "$cache"/llama-build.*
    work=$(mktemp -d "$cache/llama-build.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    log=$cache/llama-build.log
    say "building $version, once, a few minutes (log: $log)"

    # Set after llama.cpp's project() and before its options, because llama-cpp-python forces both on: `common` is
    # half of the build and serves only llama.cpp's own programs.
    cat >"$work/less.cmake" <<'CMAKE'
set(LLAMA_BUILD_COMMON OFF CACHE BOOL "" FORCE)
set(GGML_METAL OFF CACHE BOOL "" FORCE)
CMAKE
    # Portable: no instruction set of the machine that builds. Quick to build: no optional part, little optimising.
    flags=(
        "-DCMAKE_PROJECT_llama.cpp_INCLUDE=$work/less.cmake"
        -DCMAKE_C_FLAGS_RELEASE=-O1 -DCMAKE_CXX_FLAGS_RELEASE=-O1
        -DLLAVA_BUILD=OFF -DLLAMA_OPENSSL=OFF
        -DGGML_NATIVE=OFF -DGGML_SSE42=OFF -DGGML_AVX=OFF -DGGML_AVX2=OFF -DGGML_BMI2=OFF -DGGML_FMA=OFF -DGGML_F16C=OFF
        -DGGML_BLAS=OFF -DGGML_OPENMP=OFF -DGGML_LLAMAFILE=OFF -DGGML_CPU_REPACK=OFF -DGGML_CCACHE=OFF
    )
    # Chained by &&, because bash forgets `set -e` inside a condition. No pip cache: pip would hand out a wheel
    # that it once built with other flags.
    if ! {
        "$python" -m venv "$work/tools" &&
            "$work/tools/bin/python" -m pip install "${build_tools[@]}" &&
            PATH=$work/tools/bin:$PATH CMAKE_ARGS="${flags[*]}" "$work/tools/bin/python" -m pip wheel --verbose \
                --no-deps --no-cache-dir --no-build-isolation --no-binary llama-cpp-python \
                --wheel-dir "$work/wheel" "llama-cpp-python==$version" &&
            mkdir -p "$wheels" && mv "$work"/wheel/*.whl "$wheels/"
    } >"$log" 2>&1; then
        tail -n 40 "$log" >&2
        say "the build failed; the whole log is $log" >&2
        exit 1
    fi
}

installed && exit 0
mkdir -p "$cache"
# The lock belongs to the descriptor, so it outlives the Python that took it, and goes when this script ends.
exec 9>"$cache/llama.lock"
"$python" -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX)'
installed && exit 0

compgen -G "$wheels/llama_cpp_python-$version-*.whl" >/dev/null || build_wheel
say "installing into $home"
"$python" -m venv --clear "$home"
"$home/bin/python" -m pip install --quiet --only-binary :all: --no-deps --find-links "$wheels" -r "$pins"
if ! "$home/bin/python" -c 'import llama_cpp.server.app, gguf'; then
    say "the wheel in $wheels does not run here; remove it and run this again" >&2
    exit 1
fi
cp "$pins" "$home/installed.part"
mv "$home/installed.part" "$home/installed"
say "ready"

# graft::torch: libtorch's CPU part as an imported target. find_package(Torch) would ask for the CUDA toolkit.
set(graft_cache "$ENV{GRAFT_CACHE}")
if(NOT graft_cache)
  set(graft_cache "$ENV{XDG_CACHE_HOME}")
  if(NOT graft_cache)
    set(graft_cache "$ENV{HOME}/.cache")
  endif()
  string(APPEND graft_cache "/graft")
endif()
set(GRAFT_LIBTORCH "$ENV{GRAFT_LIBTORCH}" CACHE PATH "libtorch: a folder with include/ and lib/")
if(NOT GRAFT_LIBTORCH)
  set(GRAFT_LIBTORCH "${graft_cache}/libtorch-2.15.0" CACHE PATH "libtorch: a folder with include/ and lib/" FORCE)
endif()
if(NOT EXISTS "${GRAFT_LIBTORCH}/lib/libtorch_cpu.so")
  message(FATAL_ERROR "no libtorch in ${GRAFT_LIBTORCH}: run tools/setup, or set GRAFT_LIBTORCH")
endif()

add_library(graft_torch INTERFACE)
add_library(graft::torch ALIAS graft_torch)
# libtorch's include folder carries another fmt than the one that we link: the system's goes first.
find_path(GRAFT_FMT_INCLUDE fmt/format.h HINTS /usr/include NO_CACHE REQUIRED)
file(MAKE_DIRECTORY "${CMAKE_BINARY_DIR}/include-first")
file(CREATE_LINK "${GRAFT_FMT_INCLUDE}/fmt" "${CMAKE_BINARY_DIR}/include-first/fmt" SYMBOLIC)
target_include_directories(graft_torch SYSTEM INTERFACE "${CMAKE_BINARY_DIR}/include-first"
  "${GRAFT_LIBTORCH}/include" "${GRAFT_LIBTORCH}/include/torch/csrc/api/include")
# at::parallel_for is serial without OpenMP; the one runtime is the libgomp that libtorch itself uses.
target_compile_options(graft_torch INTERFACE $<$<CXX_COMPILER_ID:GNU>:-fopenmp>)
target_link_libraries(graft_torch INTERFACE "${GRAFT_LIBTORCH}/lib/libtorch_cpu.so" "${GRAFT_LIBTORCH}/lib/libc10.so"
  "${GRAFT_LIBTORCH}/lib/libgomp.so.1")
target_link_options(graft_torch INTERFACE "-Wl,-rpath-link,${GRAFT_LIBTORCH}/lib" -Wl,--allow-shlib-undefined)
set(CMAKE_BUILD_RPATH "${GRAFT_LIBTORCH}/lib")
